package qemutest

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Status is how a test ended.
type Status int

const (
	Passed Status = iota
	Skipped
	Failed
	Missing // planned or begun, but its result never came: the kernel crashed or hung
)

func (s Status) String() string {
	return [...]string{"passed", "skipped", "failed", "missing"}[s]
}

// A Test is one result line of KTAP output, with the tests nested in it.
type Test struct {
	Name   string
	Status Status   // the worst of its own line and those of Tests; a skipped subtest doesn't count
	Note   string   // what stood behind "#" on its line, or what is missing
	Log    []string // the lines before its own since the last KTAP line, unless it passed; at most maxLog
	Tests  []Test
}

// All yields the tests nested in t and then t itself, each with its path, such
// as "suite/case".
func (t Test) All() iter.Seq2[string, Test] {
	return func(yield func(string, Test) bool) { t.all("", yield) }
}

func (t Test) all(prefix string, yield func(string, Test) bool) bool {
	path := prefix + t.Name
	for _, sub := range t.Tests {
		if !sub.all(path+"/", yield) {
			return false
		}
	}
	return yield(path, t)
}

// KTAP is what the tests of a kernel reported.
type KTAP struct {
	Tests    []Test   // the outermost tests; for KUnit these are the suites
	Problems []string // what is wrong with the output itself, such as results out of order
}

// Find returns the outermost test of that name.
func (k KTAP) Find(name string) (Test, bool) {
	for _, t := range k.Tests {
		if t.Name == name {
			return t, true
		}
	}
	return Test{}, false
}

// AllPassed returns nil if the outermost test of that name is there, it and
// everything in it passed, and the output has no Problems. A test may be
// skipped if maySkip has its path, such as "suite/case". Else the error has a
// line for each test that did not pass, with what it logged.
func (k KTAP) AllPassed(name string, maySkip ...string) error {
	bad := slices.Clone(k.Problems)
	t, ok := k.Find(name)
	if !ok {
		bad = append(bad, fmt.Sprintf("no result of test %q", name))
	} else {
		for path, t := range t.All() {
			if t.Status == Passed || t.Status == Skipped && slices.Contains(maySkip, path) {
				continue
			}
			said := append([]string{strings.TrimSpace(fmt.Sprintf("%s: %s %s", path, t.Status, t.Note))}, t.Log...)
			bad = append(bad, strings.Join(said, "\n\t"))
		}
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "\n"))
	}
	return nil
}

const (
	maxDepth = 16 // of nesting; KUnit has three levels
	maxLog   = 40 // lines kept for a test
)

var (
	printkPrefix = regexp.MustCompile(`^(<\d+>)?(\[ *\d+\.\d{6}\](\[ *[TC]\d+\])? )?`)
	versionLine  = regexp.MustCompile(`^K?TAP version \d+$`)
	subtestLine  = regexp.MustCompile(`^# Subtest: (.*)$`)
	planLine     = regexp.MustCompile(`^1\.\.(\d+)(\s*#.*)?$`)
	resultLine   = regexp.MustCompile(`^(not ok|ok) (\d+)(?: -)?(?: ([^#]*))?(?:# ?(.*))?$`)
	bailLine     = regexp.MustCompile(`^Bail out!\s*(.*)$`)
)

// ParseKTAP reads test results out of a kernel's console, by the rules of
// Documentation/dev-tools/ktap.rst. Printk's time stamps and levels, carriage
// returns and lines of other origin may stand in between. What was planned and
// has no result is Missing. The directives TODO and XFAIL are not honoured: an
// unsupported directive falls back to "ok" or "not ok", says ktap.rst.
func ParseKTAP(console []byte) KTAP {
	var r ktapReader
	for line := range bytes.Lines(console) {
		r.line(strings.TrimRight(string(line), "\r\n"))
	}
	r.unwind(-1)
	if !r.begun {
		r.problem("the console has no KTAP output")
	}
	return r.out
}

// A group is the tests of one level, while they are being read.
type group struct {
	indent int
	name   string // of a "# Subtest:" line
	plan   int    // -1: none given
	next   int    // number of the result expected next
	tests  []Test
	inner  *group // a nested group that is complete, but for its own result line
}

type ktapReader struct {
	out   KTAP
	begun bool
	stack []*group
	log   []string
}

func (r *ktapReader) problem(format string, args ...any) {
	// The bound keeps a hostile console from filling memory with complaints.
	if len(r.out.Problems) < 100 {
		r.out.Problems = append(r.out.Problems, fmt.Sprintf(format, args...))
	}
}

func (r *ktapReader) line(line string) {
	line = line[len(printkPrefix.FindString(line)):]
	text := strings.TrimLeft(line, " ")
	indent := len(line) - len(text)
	text = strings.TrimRight(text, " ")

	if versionLine.MatchString(text) {
		r.begun = true
		r.open(indent, "")
		return
	}
	if !r.begun {
		return
	}
	if m := subtestLine.FindStringSubmatch(text); m != nil {
		if g := r.top(); g != nil && g.indent == indent && g.name == "" && g.plan < 0 && len(g.tests) == 0 {
			g.name = m[1]
		} else {
			r.open(indent, m[1])
		}
	} else if m := planLine.FindStringSubmatch(text); m != nil {
		g := r.at(indent)
		n, err := strconv.Atoi(m[1])
		if g == nil {
			return
		} else if err != nil || g.plan >= 0 {
			r.problem("line %q: a plan that can't be", text)
		} else {
			g.plan = n
		}
		r.log = nil
	} else if m := resultLine.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			r.problem("line %q: a number that can't be", text)
			return
		}
		if g := r.at(indent); g != nil {
			r.result(g, m[1] == "ok", n, strings.TrimSpace(m[3]), m[4])
		}
	} else if m := bailLine.FindStringSubmatch(text); m != nil {
		r.problem("bail out: %s", m[1])
	} else if r.log = append(r.log, line); len(r.log) > maxLog {
		r.log = r.log[1:]
	}
}

// result adds a result line to its group.
func (r *ktapReader) result(g *group, ok bool, number int, name, note string) {
	t := Test{Name: name, Note: note}
	directive, _, _ := strings.Cut(note, " ")
	switch {
	case strings.EqualFold(directive, "SKIP"):
		t.Status = Skipped
	case !ok:
		t.Status = Failed
	}
	if inner := g.inner; inner != nil {
		if inner.name == "" || inner.name == name {
			t.Tests = inner.tests
			g.inner = nil
		} else {
			g.lose()
		}
	}
	if number < g.next {
		r.problem("result %d %q comes out of order, %d was due", number, name, g.next)
	} else if number > g.next {
		g.missing("", g.next, number-1)
	}
	g.next = max(g.next, number) + 1
	for _, sub := range t.Tests {
		if sub.Status >= Failed {
			t.Status = max(t.Status, sub.Status)
		}
	}
	if t.Status != Passed {
		t.Log = r.log
	}
	r.log = nil
	g.tests = append(g.tests, t)
}

// missing adds a test that stands for the results numbered from to to.
func (g *group) missing(name string, from, to int) {
	note := fmt.Sprintf("result %d is missing", from)
	if from < to {
		note = fmt.Sprintf("results %d to %d are missing", from, to)
	}
	g.tests = append(g.tests, Test{Name: name, Status: Missing, Note: note})
}

// lose adds the inner group as a test whose own result never came.
func (g *group) lose() {
	if g.inner == nil {
		return
	}
	g.tests = append(g.tests, Test{Name: g.inner.name, Status: Missing, Note: "begun, but its result is missing", Tests: g.inner.tests})
	g.inner = nil
	g.next++
}

// close tells what the group's plan still wanted.
func (g *group) close(r *ktapReader) {
	g.lose()
	switch {
	case g.next <= g.plan:
		g.missing("", g.next, g.plan)
	case g.plan >= 0 && g.next-1 > g.plan:
		r.problem("%d results where %d were planned", g.next-1, g.plan)
	case len(g.tests) == 0:
		g.tests = []Test{{Status: Missing, Note: "no tests"}}
	}
}

func (r *ktapReader) top() *group {
	if len(r.stack) == 0 {
		return nil
	}
	return r.stack[len(r.stack)-1]
}

// unwind closes the groups deeper than indent; -1 closes all.
func (r *ktapReader) unwind(indent int) {
	for g := r.top(); g != nil && g.indent > indent; g = r.top() {
		g.close(r)
		r.stack = r.stack[:len(r.stack)-1]
		if outer := r.top(); outer != nil {
			outer.lose()
			outer.inner = g
		} else {
			r.out.Tests = append(r.out.Tests, g.tests...)
		}
	}
}

// at returns the group that a plan or result line of that indent belongs to,
// opening one where a header line was not printed (KUnit before Linux 6.2
// prints none for some), or nil if that nests too deep.
func (r *ktapReader) at(indent int) *group {
	r.unwind(indent)
	if g := r.top(); g != nil && g.indent == indent {
		return g
	}
	return r.push(indent, "")
}

// open begins a group, which ends any other of the same indent.
func (r *ktapReader) open(indent int, name string) {
	r.unwind(indent - 1)
	r.push(indent, name)
	r.log = nil
}

func (r *ktapReader) push(indent int, name string) *group {
	if len(r.stack) == maxDepth {
		r.problem("tests nested deeper than %d", maxDepth)
		return nil
	}
	g := &group{indent: indent, name: name, plan: -1, next: 1}
	r.stack = append(r.stack, g)
	return g
}
