package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchgen/initramfs/protocol"
)

// A provocation is a mishap that the kernel command line asks for, to test the
// host by it: patchgen.provoke=WHAT@OP has it happen when the operation OP is
// asked for, before it is carried out; at "hello" already at the first one.
// WHAT is
//
//	panic      the kernel panics
//	oops       the kernel faults in another process, and goes on
//	hang       the agent sleeps for ever
//	garbage    the agent writes bytes that are no frame, and goes on
//	nonsense   the agent answers a request that nobody made, and goes on
//	exit       the agent exits, at which the kernel panics
//	poweroff   the guest powers off
//
// That the agent never says hello is hang@hello.
type provocation struct{ what, op string }

// parseProvoke returns the provocation that a kernel command line asks for.
func parseProvoke(cmdline string) provocation {
	for _, word := range strings.Fields(cmdline) {
		if v, ok := strings.CutPrefix(word, "patchgen.provoke="); ok {
			what, op, _ := strings.Cut(v, "@")
			return provocation{what, op}
		}
	}
	return provocation{}
}

// at does what was asked for if op is its operation, and returns if that is to
// go on.
func (p provocation) at(op string, port io.Writer) {
	if p.what == "" || op != p.op {
		return
	}
	var err error
	switch p.what {
	case "panic":
		err = poke("/proc/sysrq-trigger", "c")
	case "oops":
		// The process that it happens in is killed.
		var child *os.Process
		child, err = os.StartProcess("/proc/self/exe", []string{"agent", oopsCommand}, &os.ProcAttr{Files: []*os.File{nil, nil, os.Stderr}})
		if err == nil {
			_, err = child.Wait()
		}
	case "hang":
		for {
			time.Sleep(time.Hour)
		}
	case "garbage":
		_, err = port.Write([]byte(strings.Repeat("\xffgarbage", 8)))
	case "nonsense":
		err = protocol.WriteReply(port, protocol.Reply{ID: 1 << 63})
	case "exit":
		os.Exit(1)
	case "poweroff":
		unix.Sync()
		err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	default:
		err = errors.New("it is not known")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "patchgen agent: provoke %s: %v\n", p.what, err)
	}
}

// oopsCommand is the argument with which the agent starts itself to oops.
const oopsCommand = "-oops"

// oops has lkdtm read from a bad address: Documentation/fault-injection/provoke-crashes.rst.
func oops() {
	if err := poke("/sys/kernel/debug/provoke-crash/DIRECT", "EXCEPTION"); err != nil {
		fmt.Fprintln(os.Stderr, "patchgen agent: oops:", err)
		os.Exit(1)
	}
}
