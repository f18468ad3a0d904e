// Command patchgen carries a change over source trees of Linux, and its other half over
// those of QEMU: it emits it as a patch series for the tree that it is pointed at, and
// proves it in QEMU.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"patchgen/edit"
	"patchgen/ktree"
	"patchgen/series"
	"patchgen/submit/receipt"
)

// What patchgen prints: the product (paths, tables, JSON) goes to standard
// output; progress, notes and errors go to standard error. An error starts in
// lower case, ends without a period, and is followed by a hint that says what to
// do next where there is something to do.

const (
	version = "0.1.0"
	tool    = "patchgen " + version
)

const usage = `patchgen writes a patch series for the tree of Linux or QEMU that you point it at,
and proves that it works.

Usage:
    patchgen emit [--tree TREE] [-o DIR] [flags]    write the series as mails
    patchgen build [--tree TREE] [-o DIR] [flags]   compile the kernel without and with it,
                                                    or QEMU with it
    patchgen initramfs [-o FILE]                    write a root file system to boot it with
    patchgen test [--tree TREE] [flags]             prove it on live migrations in QEMU
    patchgen bench [--tree TREE] [flags]            measure what it costs
    patchgen check PATH [--tree TREE] [--build]     say what a maintainer would object to
    patchgen send PATH [--dry-run | --reflect | --yes]   mail it
    patchgen trees [--json]                         list the trees that this is tested on
    patchgen version

Examples:
    $ patchgen emit --tree ~/linux -o out           the series for HEAD of a clone
    $ git -C ~/linux am $PWD/out/0*-[!c]*.patch
    $ patchgen emit --tree ~/linux@v6.12 --branch dirty
    $ patchgen emit --tree debian:6.1 -v 2 --rfc --signoff -o v2
    $ patchgen emit --series qemu-page-dirtying --tree ~/qemu -o qemu
    $ patchgen test --tree debian:6.12 --json result.json

TREE is a folder, a git clone (PATH, or PATH@REVISION), a .tar.xz, or
debian:X.Y, the Debian package linux-source-X.Y, or debian:qemu, the upstream part
of the source package qemu; these are downloaded once. Without --tree it is the
tree that you stand in, else debian:6.12, or debian:qemu for the series for QEMU.

"patchgen COMMAND --help" lists the flags.

Exit codes:
    0  done
    1  a fault of patchgen
    2  usage: a wrong flag or path, or a file that is in the way
    3  this tree is not supported, or an edit found no place in it, or it does
       not compile as it is
    4  a check failed, such as that the patched kernel compiles
    5  pages were lost
    6  the guest crashed
    7  time ran out
    8  the surroundings are unfit: a program or the network is missing
  130  interrupted

In GitHub Actions an error is an annotation of the run, too.
`

// Exit codes, as the usage text documents them.
const (
	exitOK          = 0
	exitFault       = 1
	exitUsage       = 2
	exitUnsupported = 3
	exitCheck       = 4
	exitLost        = 5
	exitCrash       = 6
	exitTime        = 7
	exitUnfit       = 8
	exitInterrupted = 128 + int(syscall.SIGINT) // as a shell says it
)

// A usageError is the caller's to mend.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

func main() {
	// A run is short and its memory small: collecting it would take longer
	// than the work.
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	var err error
	switch args[0] {
	case "emit":
		err = emit(ctx, args[1:], stdout, stderr)
	case "build":
		err = build(ctx, args[1:], stdout, stderr)
	case "initramfs":
		err = makeInitramfs(ctx, args[1:], stdout, stderr)
	case "test":
		err = test(ctx, args[1:], stdout, stderr)
	case "bench":
		err = bench(ctx, args[1:], stdout, stderr)
	case "check":
		err = checkMails(ctx, args[1:], stdout, stderr)
	case "send":
		err = sendMails(ctx, args[1:], stdout, stderr)
	case "trees":
		err = trees(ctx, args[1:], stdout, stderr)
	case "version", "--version":
		_, err = fmt.Fprintln(stdout, "patchgen", version)
	case "help", "--help", "-h":
		_, err = fmt.Fprint(stdout, usage)
	default:
		err = usagef("there is no command %q", args[0])
	}
	if err == nil {
		return exitOK
	}
	code, hint := explain(err)
	if ctx.Err() != nil {
		if sending := (*sendError)(nil); errors.As(err, &sending) {
			code = exitInterrupted // and what went out must be told
		} else {
			code, hint, err = exitInterrupted, "", errors.New("interrupted, nothing was written")
		}
	}
	fmt.Fprintf(stderr, "patchgen: error: %v\n", err)
	if hint != "" {
		fmt.Fprintf(stderr, "patchgen: hint: %s\n", hint)
	}
	if os.Getenv("GITHUB_ACTIONS") == "true" {
		fmt.Fprintf(stderr, "::error title=patchgen::%s\n", escape.Replace(fmt.Sprint(err, "\n", hint)))
	}
	return code
}

// escape makes a text one line of a workflow command of GitHub Actions.
var escape = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")

// explain tells the exit code of an error, and what to do about it.
func explain(err error) (code int, hint string) {
	for _, explain := range []func(error) (int, string, bool){explainBuild, explainInitramfs, explainTest, explainBench, explainCheck, explainSend} {
		if code, hint, ok := explain(err); ok {
			return code, hint
		}
	}
	var (
		usage       *usageError
		inTheWay    *series.OccupiedError
		unknown     *ktree.UnknownError
		unsupported *ktree.UnsupportedError
		noPlace     *edit.Error
		noTool      *ktree.MissingToolError
		noPackage   *ktree.FetchError
		noGit       *series.MissingGitError
		stale       *receipt.StaleError
		matrix      *matrixError
	)
	switch {
	case errors.As(err, &matrix) && matrix.wrong > 0:
		return exitCheck, "patchgen check --build on what emit writes tells more"
	case errors.As(err, &matrix):
		return exitUnsupported, ""
	case errors.As(err, &stale):
		return exitCheck, "test again with patchgen test --patches, and check --build; or remove the receipt"
	case errors.As(err, &usage):
		hint := usage.hint
		if hint == "" {
			hint = `see "patchgen help"`
		}
		return exitUsage, hint
	case errors.As(err, &inTheWay):
		return exitUsage, otherFolder
	case errors.As(err, &unknown):
		return exitUnsupported, "the generations are in templates/, generations.toml; a new one is added there"
	case errors.As(err, &unsupported):
		return exitUnsupported, ""
	case errors.As(err, &noPlace):
		switch noPlace.Kind {
		case edit.AlreadyThere:
			return exitUnsupported, "give the tree as it is without the series"
		case edit.ConflictMarks:
			return exitUnsupported, "finish the merge first; nothing was written"
		case edit.Unhooked:
			return exitUnsupported, "nothing was written; what this code needs is to be added to the series' manifest in templates/, and its rule is in places.toml"
		case edit.BadEdit:
			return exitFault, "the manifest in templates/ is wrong, whatever the tree"
		}
		return exitUnsupported, "nothing was written; if this code is right as it is, add its landmark to the series' manifest in templates/"
	case errors.As(err, &noTool), errors.As(err, &noGit), errors.As(err, &noPackage):
		return exitUnfit, ""
	case errors.Is(err, context.DeadlineExceeded):
		return exitTime, ""
	}
	return exitFault, ""
}
