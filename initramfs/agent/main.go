// Command agent is the first process of a guest under test: it does what the
// host tells it over a virtio-serial port. See patchgen/initramfs/protocol.
//
// It says one line on the console when it starts, and one when it can't go on.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchgen/initramfs/protocol"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == oopsCommand {
		oops()
		return
	}
	// The memory of the guest is what is looked at: don't stir it by collecting
	// the little garbage that there is.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(16 << 20)

	err := boot()
	fmt.Fprintln(os.Stderr, "patchgen agent:", err)
	// The first process must not end: the host should not see a panic for it.
	for {
		time.Sleep(time.Hour)
	}
}

// boot does all there is to do, and returns only if it can't.
func boot() error {
	if os.Getpid() != 1 {
		return errors.New("not the first process: boot a kernel with rdinit=")
	}
	for _, m := range []struct{ kind, dir string }{
		{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"debugfs", "/sys/kernel/debug"},
	} {
		os.Mkdir(m.dir, 0o755)
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	a := newAgent("/")
	hello, err := a.hello()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "patchgen agent: %s, %d CPUs, %d ms after boot\n", hello.Kernel, hello.CPUs, hello.BootMS)
	p, err := a.openPort()
	if err != nil {
		return err
	}
	a.provoke = parseProvoke(hello.Cmdline)
	return a.serve(p, true)
}

// An agent is what operations work on.
type agent struct {
	root    string // of the file system, "/"; another for tests
	provoke provocation

	buffer, heart []byte // see memory.go
	socket        int    // see socket.go; -1 if there is none
	nic           string
	dma           *os.File            // see dma.go; nil before the module is loaded
	back          chan struct{}       // see reader.go; gets a value when a device is bound again, nil if nobody reads
	unbound       map[string][]string // by driver, the devices that were unbound
}

func newAgent(root string) *agent {
	return &agent{root: root, socket: -1, unbound: make(map[string][]string)}
}

// path returns the path of a file of the guest.
func (a *agent) path(elem ...string) string {
	return filepath.Join(append([]string{a.root}, elem...)...)
}

// readLine returns what is in a file of the guest, without the end of its line.
func (a *agent) readLine(elem ...string) (string, error) {
	data, err := os.ReadFile(a.path(elem...))
	return string(bytes.TrimRight(data, "\n")), err
}

// poke writes to a file that is there, as in sysfs.
func poke(name, s string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s)
	return errors.Join(err, f.Close())
}

func (a *agent) hello() (*protocol.Hello, error) {
	var u unix.Utsname
	var since unix.Timespec
	if err := errors.Join(unix.Uname(&u), unix.ClockGettime(unix.CLOCK_BOOTTIME, &since)); err != nil {
		return nil, err
	}
	cmdline, err := a.readLine("proc/cmdline")
	if err != nil {
		return nil, err
	}
	return &protocol.Hello{
		Kernel:  unix.ByteSliceToString(u.Release[:]),
		CPUs:    runtime.NumCPU(),
		BootMS:  since.Nano() / 1e6,
		Cmdline: cmdline,
	}, nil
}

// findPort returns the device of the port to the host, or "" if it isn't there yet.
func (a *agent) findPort() (string, error) {
	names, err := filepath.Glob(a.path("sys/class/virtio-ports/*/name"))
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if s, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(s)) == protocol.Port {
			return a.path("dev", filepath.Base(filepath.Dir(name))), nil
		}
	}
	return "", nil
}

// openPort waits for the port: the kernel names it after its own start.
func (a *agent) openPort() (*port, error) {
	for start, told := time.Now(), false; ; time.Sleep(time.Millisecond) {
		name, err := a.findPort()
		if err != nil {
			return nil, err
		}
		if name != "" {
			fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err == nil {
				return &port{fd}, nil
			}
			if !errors.Is(err, unix.ENOENT) { // devtmpfs is a little late
				return nil, fmt.Errorf("open %s: %w", name, err)
			}
		}
		if !told && time.Since(start) > 5*time.Second {
			told = true
			fmt.Fprintf(os.Stderr, "patchgen agent: still waiting for a virtio-serial port named %s\n", protocol.Port)
		}
	}
}

// A port is a virtio-serial port: reading and writing block, but reading gives
// io.EOF while there is no host at the other end (drivers/char/virtio_console.c,
// port_fops_read).
type port struct{ fd int }

func (p *port) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(p.fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, fmt.Errorf("read the port: %w", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func (p *port) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n, err := unix.Write(p.fd, b[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, fmt.Errorf("write to the port: %w", err)
		}
		done += n
	}
	return len(b), nil
}
