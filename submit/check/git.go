package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"patchgen/series"
)

// A repository is where git is run.
type repository struct {
	dir  string   // to run in
	args []string // before the verb
	env  []string
}

// A gitError is git's exit with another code than 0.
type gitError struct {
	verb   string
	err    error
	stderr string
}

func (e *gitError) Error() string {
	return fmt.Sprintf("git %s: %v: %s", e.verb, e.err, strings.TrimSpace(e.stderr))
}

func (e *gitError) Unwrap() error { return e.err }

// environment is that of a program that must not depend on who runs it.
func environment(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "LANGUAGE=C", "TZ=UTC", "HOME=" + os.DevNull}, more...)
}

// git runs git and returns what it printed. The error is a *gitError or a
// *series.MissingGitError.
func (r *repository) git(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	stdout, stderr, err := run(ctx, r.dir, append(environment("GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1", "GIT_PAGER=cat"), r.env...), stdin,
		"git", append(r.args[:len(r.args):len(r.args)], args...)...)
	switch {
	case err == nil:
		return stdout, nil
	case errors.Is(err, exec.ErrNotFound):
		return nil, &series.MissingGitError{Err: err}
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return stdout, &gitError{args[0], err, string(stderr)}
}

// run runs a program with all that it starts, which end with ctx.
func run(ctx context.Context, dir string, env []string, stdin []byte, name string, args ...string) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir, cmd.Env = dir, env
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.Bytes(), errs.Bytes(), err
}
