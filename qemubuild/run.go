package qemubuild

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patchgen/progress"
	"patchgen/workshop"
)

// An Error is a command that failed.
type Error struct {
	Command string   // "configure", "ninja", or "qtest"
	What    string   // the first thing that could not be made or that failed; "" if none was named
	Lines   []string // those of its output that tell why
	Log     string   // the file with all of its output
	Err     error
}

func (e *Error) Error() string {
	what := ""
	if e.What != "" {
		what = e.What + ": "
	}
	return fmt.Sprintf("%s: %s%v:\n\t%s\n(all of the output is in %s)", e.Command, what, e.Err, strings.Join(e.Lines, "\n\t"), e.Log)
}

func (e *Error) Unwrap() error { return e.Err }

// run runs a command in dir with its output in a log of that name. The error is an
// *Error or the context's.
func (w *workspace) run(ctx context.Context, name string, t *transcript, dir, command string, args ...string) (torn bool, err error) {
	file := w.log(name)
	log, err := os.Create(file)
	if err != nil {
		return false, err
	}
	defer log.Close()
	t.source = w.mirror().Dir + "/"
	lines := &workshop.Lines{Log: log, Line: t.line}
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Dir, cmd.Env = dir, environment()
	cmd.Stdout, cmd.Stderr = lines, lines
	torn, err = workshop.Run(cmd)
	lines.End()
	t.end()
	if err = workshop.Ended(ctx, err); err != nil && ctx.Err() == nil {
		err = &Error{name, t.failed, t.why(), file, err}
	}
	return torn, err
}

// check runs qtests, by their targets.
func (w *workspace) check(ctx context.Context, targets []string) error {
	if len(targets) == 0 {
		return nil
	}
	w.report.Stage("run the qtests", 0, "lines")
	defer w.report.End()
	args := []string{"test", "--no-rebuild", "--print-errorlogs"}
	for _, t := range targets {
		args = append(args, "qtest-x86_64/"+filepath.Base(t))
	}
	_, err := w.run(ctx, "qtest", newTranscript("", w.report), w.out(), filepath.Join(w.out(), "pyvenv/bin/meson"), args...)
	return err
}

// Limits of what is kept of a command's output, for an error to show.
const (
	maxTelling = 24
	maxLast    = 10
	maxWarned  = 1000
)

var (
	edge    = regexp.MustCompile(`^\[(\d+)/(\d+)\] `)                           // as NINJA_STATUS says
	failed  = regexp.MustCompile(`^FAILED: (?:\[code=\d+\] )?(\S+)`)            // ninja: src/status_printer.cc
	notOK   = regexp.MustCompile(`^ *\d+/\d+ .*?(\S+) +(FAIL|ERROR|TIMEOUT)\b`) // meson: mtest.py
	telling = regexp.MustCompile(`(?i)\berror: |^not ok |undefined reference to|^ERROR:|^stderr:$`)
	warned  = regexp.MustCompile(`^([^\s:][^:]*):\d+:(?:\d+:)? warning: (.*)$`) // gcc
)

// A transcript takes what a command prints, line by line.
type transcript struct {
	stage  string // in which the edges of ninja are reported; "" has lines counted
	source string // the root of the sources and a slash
	report progress.Reporter

	lines, total, done int64    // total is 0 before the first edge
	failed             string   // the first thing that was
	told               []string // lines from the first that tells on
	over               bool     // what was to be told of the first failure is
	last               []string // the last lines, whatever they say
	warnings           []string // of the compiler, without line numbers, sorted
}

func newTranscript(stage string, report progress.Reporter) *transcript {
	return &transcript{stage: stage, report: report}
}

func (t *transcript) line(line string) {
	if m := edge.FindStringSubmatch(line); m != nil && t.stage != "" {
		t.edge(m[1], m[2])
		t.over = t.over || t.told != nil
		return
	}
	if t.lines++; t.stage == "" {
		t.report.Step(t.lines)
	}
	// ninja says "../src/hw/pci/pci.c", as it stands in out/.
	line = strings.ReplaceAll(strings.ReplaceAll(line, t.source, ""), "../src/", "")
	if m := warned.FindStringSubmatch(line); m != nil && len(t.warnings) < maxWarned {
		w := m[1] + ": " + m[2]
		if i, there := slices.BinarySearch(t.warnings, w); !there {
			t.warnings = slices.Insert(t.warnings, i, w)
		}
	}
	for _, what := range []*regexp.Regexp{failed, notOK} {
		if m := what.FindStringSubmatch(line); m != nil && t.failed == "" {
			t.failed = m[1]
		}
	}
	if t.last = append(t.last, line); len(t.last) > maxLast {
		t.last = t.last[1:]
	}
	if !t.over && len(t.told) < maxTelling && (t.told != nil || telling.MatchString(line)) {
		t.told = append(t.told, line)
	}
}

// edge is told how many of how many steps of ninja are done. It finds out that some
// need not be made, so that they become fewer; more only if it has begun anew, after
// meson was run.
func (t *transcript) edge(done, total string) {
	d, _ := strconv.ParseInt(done, 10, 64)
	n, _ := strconv.ParseInt(total, 10, 64)
	if n > t.total || d < t.done {
		if t.total > 0 {
			t.report.End()
		}
		t.total = n
		t.report.Stage(t.stage, n, "steps")
	}
	t.done = d
	t.report.Step(t.total - (n - d))
}

// end ends what edge began.
func (t *transcript) end() {
	if t.total > 0 {
		t.report.End()
		t.total = 0
	}
}

// why returns the lines that tell why a command failed.
func (t *transcript) why() []string {
	if t.told != nil {
		return t.told
	}
	return t.last
}
