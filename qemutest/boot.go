package qemutest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// An End is how a guest's run ended. A kernel that panics or oopses may hang or
// reset after that: the earliest cause is told.
type End int

const (
	Exited   End = iota // the guest powered off or reset, with nothing to complain of
	Panicked            // the kernel panicked
	Oopsed              // the kernel reported a fault of its own, and did not panic
	TimedOut            // the time limit came first
)

func (e End) String() string {
	return [...]string{"exited", "panicked", "oopsed", "timed out"}[e]
}

// A Machine is a virtual PC with one kernel to boot, run by TCG.
type Machine struct {
	QEMU    string        // file name or that of a command; "" is qemu-system-x86_64
	Kernel  string        // file name of a bzImage
	Args    []string      // of the kernel command line, behind console=ttyS0 and panic=-1
	CPUs    int           // 0 means 1
	Memory  int           // in MiB; 0 means 512
	Limit   time.Duration // for the whole run; 0 means 2 minutes
	Console io.Writer     // gets the console as it comes, if not nil
}

// A Result is what came of a run.
type Result struct {
	Console []byte // the serial console; of more than maxConsole bytes the last
	End     End
	Why     string // the console's line that tells, if Panicked or Oopsed
	Took    time.Duration
}

// A MissingQEMUError says that there is no QEMU for PCs.
type MissingQEMUError struct{ Err error }

func (e *MissingQEMUError) Error() string {
	return fmt.Sprintf("%v: install the package qemu-system-x86", e.Err)
}

func (e *MissingQEMUError) Unwrap() error { return e.Err }

const (
	qemu       = "qemu-system-x86_64"
	maxConsole = 16 << 20
)

// Boot runs the machine until it powers off, resets, or its time is up. The
// error is *MissingQEMUError, the context's, or says what QEMU complained of;
// whatever the guest did is a Result.
func Boot(ctx context.Context, m Machine) (Result, error) {
	path, err := exec.LookPath(cmp.Or(m.QEMU, qemu))
	if err != nil {
		return Result{}, &MissingQEMUError{err}
	}
	limit := m.Limit
	if limit == 0 {
		limit = 2 * time.Minute
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	cmd := exec.CommandContext(limited, path, m.args()...)
	console := &tail{max: maxConsole, also: m.Console}
	complaints := &tail{max: 64 << 10}
	// Pipes that a goroutine of os/exec drains: a guest stops when nobody reads
	// its serial port.
	cmd.Stdout, cmd.Stderr = console, complaints

	start := time.Now()
	err = run(cmd)
	r := Result{Console: console.kept, Took: time.Since(start)}
	switch {
	case ctx.Err() != nil:
		return r, fmt.Errorf("boot %s: %w", m.Kernel, context.Cause(ctx))
	case limited.Err() == nil && err != nil:
		return r, fmt.Errorf("boot %s: %s: %w: %s", m.Kernel, qemu, err, bytes.TrimSpace(complaints.kept))
	}
	if r.Why = firstLine(panicLine, r.Console); r.Why != "" {
		r.End = Panicked
	} else if r.Why = firstLine(oopsLine, r.Console); r.Why != "" {
		r.End = Oopsed
	} else if limited.Err() != nil {
		r.End = TimedOut
	}
	return r, nil
}

func (m Machine) args() []string {
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "q35", "-accel", "tcg", "-cpu", "max",
		"-smp", strconv.Itoa(max(m.CPUs, 1)),
		"-m", strconv.Itoa(cmp.Or(m.Memory, 512)),
		"-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-kernel", m.Kernel,
		"-append", strings.Join(append([]string{"console=ttyS0", "panic=-1"}, m.Args...), " "),
	}
}

// run is cmd.Run for a process that must not outlive this one.
func run(cmd *exec.Cmd) error {
	// Linux sends the signal when the thread dies that started the process, so
	// the thread is kept until the process has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	return cmd.Run()
}

// A tail keeps the last bytes written to it, between half of max and max.
type tail struct {
	max  int
	kept []byte
	also io.Writer
}

func (t *tail) Write(p []byte) (int, error) {
	if t.also != nil {
		// A reader's fault is its own: the guest must go on.
		t.also.Write(p)
	}
	t.kept = append(t.kept, p...)
	if len(t.kept) > t.max {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-t.max/2:]...)
	}
	return len(p), nil
}
