package qemutest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Interactive boots a kernel with its console on this process's terminal, and
// returns when the guest ends or QEMU is told to (Ctrl-A X). init is the first
// process's file name in the initramfs.
func Interactive(ctx context.Context, qemu, accel, kernel, initramfs, init string, cmdline []string, cpus int, memory int64) error {
	cmd := exec.CommandContext(ctx, qemu,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", accel, "-cpu", "max",
		"-smp", strconv.Itoa(cpus), "-m", fmt.Sprintf("%dM", memory>>20),
		"-chardev", "stdio,id=console,mux=on,signal=off", "-serial", "chardev:console", "-mon", "chardev=console,mode=readline",
		"-kernel", kernel, "-initrd", initramfs,
		"-append", strings.Join(append([]string{"console=ttyS0", "panic=-1", "rdinit=" + init}, cmdline...), " "),
	)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Asked to end, QEMU gives the terminal its settings back.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err := run(cmd)
	if errors.Is(err, exec.ErrNotFound) {
		return &MissingQEMUError{err}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return &QEMUError{What: qemu, Err: err}
	}
	return nil
}
