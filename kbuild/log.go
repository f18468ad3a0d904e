package kbuild

import (
	"cmp"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"patchgen/progress"
	"patchgen/workshop"
)

// A Warning is a diagnostic of gcc, sparse, kernel-doc, objtool, modpost or ld,
// with neither line numbers nor addresses, so that those of two builds can be
// compared.
type Warning struct {
	File string // relative to the root of the tree, as far as it lies in it; "" if none is named
	Text string // such as "unused variable ‘x’ [-Wunused-variable]", or "error: …" for an error of sparse
}

func (w Warning) String() string {
	if w.File == "" {
		return w.Text
	}
	return w.File + ": " + w.Text
}

// New returns the warnings of after that before does not have.
func New(before, after []Warning) []Warning {
	var fresh []Warning
	for _, w := range after {
		if !slices.Contains(before, w) {
			fresh = append(fresh, w)
		}
	}
	return fresh
}

// Limits of what is kept of a build's output, for an error to show.
const (
	maxTelling = 24
	after      = 3 // lines kept after one that tells
)

var (
	located   = regexp.MustCompile(`^([^\s:][^:]*):\d+:(?:\d+:)? ?(?:warning: |(error: ))(.*)$`) // gcc, sparse, Kconfig, and kernel-doc in shell and Perl
	kernelDoc = regexp.MustCompile(`^(?:Warning|WARNING): ([^\s:]+):\d+:? (.*)$`)                // kernel-doc in Python
	unlocated = regexp.MustCompile(`^(?:ld: )?([^\s:]+\.o): warning: (?:objtool: )?(.*)$`)       // objtool, and ld of objects
	plain     = regexp.MustCompile(`^(?:ld: warning: |(?:WARNING|ERROR): modpost: )(.*)$`)       // ld, modpost
	unmet     = regexp.MustCompile(`^WARNING: (unmet direct dependencies detected for .*)$`)     // Kconfig: scripts/kconfig/symbol.c
	address   = regexp.MustCompile(`\+?0x[0-9a-f]+`)                                             //
	telling   = regexp.MustCompile(`(?i)\berror: |undefined reference to|multiple definition of|No rule to make target|cannot find -l|^ERROR: |^BTF: `)
	step      = regexp.MustCompile(`^  [A-Z][A-Z0-9_]+ +(?:\[M\] +)?(\S+)`) // "  CC      kernel/fork.o"
	failure   = regexp.MustCompile(`^make(?:\[\d+\])?: \*\*\* \[(?:.*: )?(\S+)\] Error \d+$`)
	noChecker = regexp.MustCompile(`C=1 specified, but .*`) // Makefile, where scripts/checker-valid.sh refuses sparse
)

// A transcript takes what make prints, line by line.
type transcript struct {
	*workshop.Lines
	source string // the tree's root and a slash
	report progress.Reporter

	unchecked string // what make says when it leaves out sparse
	steps     int64
	unit      string               // that make says to work on
	units     map[string][]Warning // of each unit, nil if it has none
	failed    map[string]bool      // targets that make could not make
	told      []string             // telling lines
	want      int                  // lines to keep after the last of them
	last      []string             // the last lines, whatever they say
}

func newTranscript(source string, log io.Writer, report progress.Reporter) *transcript {
	t := &transcript{source: source, report: report}
	t.Lines = &workshop.Lines{Log: log, Line: t.line}
	return t
}

func (t *transcript) line(line string) {
	if m := step.FindStringSubmatch(line); m != nil {
		t.steps++
		t.report.Step(t.steps)
		t.want = 0
		t.unit = unitOf(strings.TrimPrefix(m[1], t.source))
		t.add()
		return
	}
	line = strings.ReplaceAll(line, t.source, "")
	if m := noChecker.FindString(line); m != "" {
		t.unchecked = m
	}
	if m := failure.FindStringSubmatch(line); m != nil {
		if t.failed == nil {
			t.failed = make(map[string]bool)
		}
		t.failed[m[1]] = true
	}
	if w, ok := parseWarning(line); ok {
		t.add(w)
	}
	if t.last = append(t.last, line); len(t.last) > 10 {
		t.last = t.last[1:]
	}
	if telling.MatchString(line) {
		t.want = 1 + after
	} else if strings.HasPrefix(line, "make") {
		t.want = 0
	}
	if t.want > 0 && len(t.told) < maxTelling {
		t.told = append(t.told, line)
	}
	t.want--
}

func parseWarning(line string) (Warning, bool) {
	var w Warning
	if m := located.FindStringSubmatch(line); m != nil {
		w = Warning{m[1], m[2] + m[3]}
	} else if m := kernelDoc.FindStringSubmatch(line); m != nil {
		w = Warning{m[1], m[2]}
	} else if m := unlocated.FindStringSubmatch(line); m != nil {
		w = Warning{m[1], m[2]}
	} else if m := plain.FindStringSubmatch(line); m != nil {
		w = Warning{"", m[1]}
	} else if m := unmet.FindStringSubmatch(line); m != nil {
		w = Warning{"", m[1]}
	} else {
		return w, false
	}
	w.Text = address.ReplaceAllString(w.Text, "…")
	return w, true
}

// unitOf names what is made of a file: that of an object and of its source is the
// object. make prints all that it has to say of one at a time, since it is told
// --output-sync=target: "CC kernel/fork.o", what gcc warns of, "CHECK kernel/fork.c",
// what sparse warns of.
func unitOf(name string) string {
	for _, ending := range sourceEndings {
		if stem, ok := strings.CutSuffix(name, ending); ok {
			return stem + ".o"
		}
	}
	return name
}

var sourceEndings = []string{".c", ".S"}

// add adds warnings, or none, to those of the present unit.
func (t *transcript) add(warnings ...Warning) {
	if t.units == nil {
		t.units = make(map[string][]Warning)
	}
	t.units[t.unit] = append(t.units[t.unit], warnings...)
}

// set returns the warnings sorted, each once.
func (t *transcript) set() []Warning { return union(t.units) }

// union returns the warnings of all units, sorted, each once.
func union(units map[string][]Warning) []Warning {
	all := slices.Concat(slices.Collect(maps.Values(units))...)
	slices.SortFunc(all, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(all)
}

// why returns the lines that tell why a build failed.
func (t *transcript) why() []string {
	if t.told != nil {
		return t.told
	}
	return t.last
}
