package workshop

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Run runs a command made with exec.CommandContext, in a process group of its own.
// When it is interrupted, or we die, it is told to stop, and make and ninja then stop
// the compilers and remove what is half made. torn says that it ended in another way
// than by itself or when it was asked to: what it left is not to be trusted.
func Run(cmd *exec.Cmd) (torn bool, err error) {
	// The compilers are in the group, too. The signal of a death comes when the
	// thread dies that started the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if cmd.Process == nil {
		return false, err
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || errors.Is(err, exec.ErrWaitDelay) || status.Signaled() && status.Signal() != syscall.SIGTERM {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // whoever did not listen
		torn = true
	}
	return torn, err
}

// Environment returns what of env a build may see, and fixed. All else, such as ARCH or
// MAKEFLAGS, would change what is built.
func Environment(env, fixed []string) []string {
	keep := []string{"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
	var out []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if slices.Contains(keep, name) || strings.HasPrefix(name, "CCACHE_") {
			out = append(out, e)
		}
	}
	return append(out, fixed...)
}

// Ended returns why a command failed: the context's cause if that is over, else err.
func Ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

const maxLine = 64 << 10 // bytes; a longer one is taken in parts

// Lines is a writer that keeps all in a log, and takes it line by line.
type Lines struct {
	Log  io.Writer
	Line func(string) // gets each without its end

	partial []byte
}

func (l *Lines) Write(p []byte) (int, error) {
	if _, err := l.Log.Write(p); err != nil {
		return 0, err
	}
	l.partial = append(l.partial, p...)
	for {
		line, rest, ok := bytes.Cut(l.partial, []byte("\n"))
		if !ok && len(line) < maxLine {
			break
		}
		l.Line(string(bytes.TrimRight(line, "\r")))
		l.partial = rest
	}
	return len(p), nil
}

// End takes a last line that has no end of its own.
func (l *Lines) End() {
	if len(l.partial) > 0 {
		l.Line(string(l.partial))
		l.partial = nil
	}
}
