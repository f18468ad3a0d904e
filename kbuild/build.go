package kbuild

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"patchgen/progress"
	"patchgen/workshop"
)

// A Build is a kernel tree and the folder where it is compiled to.
type Build struct {
	Source   string            // absolute path of the tree, which must be clean; nothing is written to it
	Output   string            // absolute path of a folder for this tree alone; made if it isn't there
	Progress progress.Reporter // nil tells nobody

	steps int64 // that the next make is expected to take, 0 if unknown; then those it took
	torn  bool  // the last make was killed: what it left is not to be trusted
}

// An Error is a failed run of make.
type Error struct {
	Args  []string // of make
	Lines []string // those of its output that tell why
	Log   string   // the file with all of its output
	Err   error
}

func (e *Error) Error() string {
	return fmt.Sprintf("make %s: %v:\n\t%s\n(all of the output is in %s)",
		strings.Join(e.Args, " "), e.Err, strings.Join(e.Lines, "\n\t"), e.Log)
}

func (e *Error) Unwrap() error { return e.Err }

// BzImage returns the name of the file that the target bzImage makes.
func (b *Build) BzImage() string {
	return filepath.Join(b.Output, "arch/x86/boot/bzImage")
}

// Make runs make with these targets and variables, such as "bzImage", and
// returns what the tools that it called warned of, sorted. It prints to
// Output/make.log. The error is *MissingError, *Error or the context's.
func (b *Build) Make(ctx context.Context, args ...string) ([]Warning, error) {
	t, err := b.make(ctx, args)
	if err != nil {
		return nil, err
	}
	return t.set(), nil
}

// check runs make with W=1 and with sparse and kernel-doc on each file compiled,
// which are those that are out of date. What does not compile keeps make from
// nothing else; then the error is *Error, and there is a transcript all the same.
func (b *Build) check(ctx context.Context, targets ...string) (*transcript, error) {
	if err := Need(ctx, "sparse", "python3"); err != nil {
		return nil, err
	}
	t, err := b.make(ctx, append([]string{"-k", "W=1", "C=1"}, targets...))
	if t != nil && t.unchecked != "" {
		return nil, fmt.Errorf("sparse was not run: %s", t.unchecked)
	}
	return t, err
}

func (b *Build) log() string { return filepath.Join(b.Output, "make.log") }

// make runs make. With an *Error it returns what there is to read all the same.
func (b *Build) make(ctx context.Context, args []string) (*transcript, error) {
	if err := Need(ctx); err != nil {
		return nil, err
	}
	log, err := os.Create(b.log())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	report := b.Progress
	if report == nil {
		report = progress.Nop{}
	}
	t := newTranscript(b.Source+"/", log, report)
	cc := "gcc"
	if _, err := exec.LookPath("ccache"); err == nil {
		cc = "ccache gcc"
	}
	cmd := exec.CommandContext(ctx, "make", append([]string{
		"-C", b.Source, "O=" + b.Output, fmt.Sprintf("-j%d", runtime.NumCPU()), "--output-sync=target",
		"CC=" + cc,
		// Without it a tree in git has a "+" in its name.
		"LOCALVERSION=",
		// For sparse: scripts/checker-valid.sh of newer trees (7.3 has it, 6.12
		// has not) wants one that knows this, as none up to 0.6.4 does.
		"CF=-D__typeof_unqual__=__typeof__",
	}, args...)...)
	cmd.Env = environment(os.Environ())
	cmd.Stdout, cmd.Stderr = t, t
	targets := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.Contains(a, "=") || strings.HasPrefix(a, "-") })
	report.Stage("make "+strings.Join(targets, " "), b.steps, "files")
	b.torn, err = workshop.Run(cmd)
	t.End()
	report.End()
	b.steps = t.steps
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return t, &Error{args, t.why(), b.log(), err}
	}
	return t, nil
}

// environment returns what of env a build may see, and what makes it
// repeatable: Documentation/kbuild/reproducible-builds.rst.
func environment(env []string) []string { return workshop.Environment(env, fixed) }

var fixed = []string{"LC_ALL=C",
	"KBUILD_BUILD_TIMESTAMP=2000-01-01 00:00:00 UTC", "KBUILD_BUILD_VERSION=1",
	"KBUILD_BUILD_USER=patchgen", "KBUILD_BUILD_HOST=patchgen"}
