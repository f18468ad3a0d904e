// Package check says what maintainers, their programs and the CIs of the lists
// would find in a patch series, before they do.
package check

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"patchgen/ktree"
	"patchgen/progress"
	"patchgen/submit/patchmail"
)

// Options say how Check works. The zero value is usable.
type Options struct {
	Now       time.Time         // for ages; zero is the present
	Jobs      int               // patches that checkpatch.pl looks at at a time; 0 is one for each CPU
	NoScripts bool              // run neither checkpatch.pl nor codespell
	Progress  progress.Reporter // nil tells nobody
}

// A Finding is one thing that somebody would say about a series.
type Finding struct {
	Patch   int    `json:"patch"`          // counted from 1; 0 is the cover letter or the whole series
	File    string `json:"file,omitempty"` // of the mail
	Rule    string `json:"rule"`           // ID of one of Rules
	Type    string `json:"type,omitempty"` // of checkpatch.pl's message, such as LONG_LINE
	Where   string `json:"where,omitempty"`
	Problem string `json:"problem"`
	Do      string `json:"do,omitempty"` // what to do about it
	Fault   bool   `json:"fault"`        // false for what may be as it is
}

// A Result is what Check returns.
type Result struct {
	Findings []Finding `json:"findings"` // sorted by patch and rule, never nil
	Stats    Stats     `json:"stats"`
}

// Faults returns the number of findings that are faults.
func (r *Result) Faults() int {
	n := 0
	for _, f := range r.Findings {
		if f.Fault {
			n++
		}
	}
	return n
}

// unusable are the rules without which a series is of use to nobody who gets it, so
// that it would only have to be sent again.
var unusable = []string{"mail", "charset", "control", "numbering", "order", "empty", "apply"}

// Unusable returns the faults for which the mails must not go out as they are.
func (r *Result) Unusable() []Finding {
	var all []Finding
	for _, f := range r.Findings {
		if f.Fault && slices.Contains(unusable, f.Rule) {
			all = append(all, f)
		}
	}
	return all
}

// Stats say what was done.
type Stats struct {
	Patches int           `json:"patches"`
	Applied int           `json:"applied"`    // by git am, one after the other from the first on
	Took    time.Duration `json:"took_ns"`    // all
	Scripts time.Duration `json:"scripts_ns"` // of Took, until checkpatch.pl and codespell were done with all patches
	Tools   []string      `json:"tools"`      // the programs that were run, never nil
}

// Check looks at a series that may come from anybody; patchmail.ReadAny reads
// it. tree is what it is applied to, and only read. Without one (nil) all that needs a tree
// is left out, and a note says so; of diffs it is then known whether git can read them.
//
// An error says that it could not be looked, such as a *series.MissingGitError, or a
// *ktree.MissingToolError for perl and codespell; what is wrong with the series is a Finding.
func Check(ctx context.Context, tree *ktree.Tree, s *patchmail.Series, o Options) (*Result, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Progress == nil {
		o.Progress = progress.Nop{}
	}
	c := &checker{s: s, o: o}
	if tree != nil {
		c.kind = tree.Kind()
	}
	start := time.Now()
	if !o.NoScripts {
		if err := c.needTools(tree); err != nil {
			return nil, err
		}
	}

	c.stage("read the mails")
	for n, m := range c.mails() {
		c.mail(n, m)
		if m.Err != nil {
			continue
		}
		c.subject(n, m)
		c.text(n, m)
		if n > 0 {
			c.trailers(n, m)
			c.diff(n, m)
		}
	}
	c.threads()
	c.numbers()
	c.titles()
	c.versions()
	c.letter()

	// codespell knows nothing of the tree.
	var words []word
	var spelled time.Duration
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		if !o.NoScripts {
			words, spelled, err = spelling(ctx, s)
		}
		done <- err
	}()
	if tree == nil {
		c.note("tree", 0, "", "no tree was given, so nothing was applied, and checkpatch.pl not run", "give the tree that the series is for")
		if err := c.readable(ctx); err != nil {
			cancel()
			<-done
			return nil, err
		}
	} else if err := c.withTree(ctx, tree); err != nil {
		cancel()
		<-done
		return nil, err
	}
	begin := time.Now()
	if err := <-done; err != nil {
		return nil, err
	}
	if !o.NoScripts {
		c.scripts = max(c.scripts+time.Since(begin), spelled)
		c.misspelled(words)
	}
	o.Progress.End()

	c.merge()
	c.findings = slices.DeleteFunc(c.findings, func(f Finding) bool { return !asked(f.Rule, c.kind) })
	slices.SortStableFunc(c.findings, compare)
	r := &Result{
		Findings: append([]Finding{}, c.findings...),
		Stats: Stats{
			Patches: len(s.Patches), Applied: c.applied, Took: time.Since(start), Scripts: c.scripts,
			Tools: append([]string{}, c.tools...),
		},
	}
	return r, nil
}

// A checker gathers the findings of one series.
type checker struct {
	s        *patchmail.Series
	o        Options
	kind     ktree.Kind // of the tree; without one, Linux
	findings []Finding
	tools    []string
	scripts  time.Duration
	applied  int
	staged   bool
}

func (c *checker) stage(name string) {
	if c.staged {
		c.o.Progress.End()
	}
	c.staged = true
	c.o.Progress.Stage(name, 0, "")
}

func (c *checker) withTree(ctx context.Context, tree *ktree.Tree) error {
	src, err := newSource(tree)
	if err != nil {
		return err
	}
	defer src.close()
	c.stage("apply the patches")
	h, err := c.apply(ctx, src)
	if err != nil {
		return err
	}
	c.kconfig(h)
	if err := c.base(ctx, tree); err != nil {
		return err
	}
	if err := c.commits(ctx, tree); err != nil {
		return err
	}
	if c.o.NoScripts {
		return nil
	}
	c.stage("checkpatch.pl")
	begin := time.Now()
	defer func() { c.scripts += time.Since(begin) }()
	return c.checkpatch(ctx, src, h)
}

// mails returns the cover letter as 0, if there is one, and the patches from 1 on.
func (c *checker) mails() iter.Seq2[int, *patchmail.Mail] {
	return func(yield func(int, *patchmail.Mail) bool) {
		if c.s.Cover != nil && !yield(0, c.s.Cover) {
			return
		}
		for i, m := range c.s.Patches {
			if !yield(i+1, m) {
				return
			}
		}
	}
}

// patches returns those patches that could be read.
func (c *checker) patches() iter.Seq2[int, *patchmail.Mail] {
	return func(yield func(int, *patchmail.Mail) bool) {
		for i, m := range c.s.Patches {
			if m.Err == nil && !yield(i+1, m) {
				return
			}
		}
	}
}

func (c *checker) add(f Finding) {
	switch {
	case f.Patch > 0:
		f.File = c.s.Patches[f.Patch-1].Name
	case c.s.Cover != nil:
		f.File = c.s.Cover.Name
	}
	f.Problem = oneLine(f.Problem)
	f.Where = oneLine(f.Where)
	c.findings = append(c.findings, f)
}

func (c *checker) fault(rule string, patch int, where, problem, do string) {
	c.add(Finding{Rule: rule, Patch: patch, Where: where, Problem: problem, Do: do, Fault: true})
}

func (c *checker) note(rule string, patch int, where, problem, do string) {
	c.add(Finding{Rule: rule, Patch: patch, Where: where, Problem: problem, Do: do})
}

// found reports whether a patch has a finding of a rule.
func (c *checker) found(rule string, patch int) bool {
	return slices.ContainsFunc(c.findings, func(f Finding) bool { return f.Rule == rule && f.Patch == patch })
}

// foundAny reports whether there is a finding of a rule at all.
func (c *checker) foundAny(rule string) bool {
	return slices.ContainsFunc(c.findings, func(f Finding) bool { return f.Rule == rule })
}

// oneLine makes a text from a mail or a program fit to be shown in a table.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return clip(strings.TrimSpace(s), 400)
}

// clip shortens s to n characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func compare(a, b Finding) int {
	if a.Patch != b.Patch {
		return a.Patch - b.Patch
	}
	return place[a.Rule] - place[b.Rule]
}

// absorbed are those of checkpatch.pl's messages that a rule of ours tells more
// about. The values are the rules that do.
var absorbed = map[string]string{
	"BAD_FIXES_TAG":        "fixes",
	"BAD_SIGN_OFF":         "trailer-format trailer-duplicate",
	"CONFIG_DESCRIPTION":   "kconfig",
	"CORRUPTED_PATCH":      "apply",
	"COMMIT_LOG_LONG_LINE": "body-width",
	// "Patch version information should be after the --- line"
	"COMMIT_LOG_VERSIONING":  "history-place",
	"COMMIT_MESSAGE":         "body body-cut",
	"DIFF_IN_COMMIT_MSG":     "body-cut",
	"DOS_LINE_ENDINGS":       "crlf",
	"EXECUTE_PERMISSIONS":    "mode",
	"FROM_SIGN_OFF_MISMATCH": "signed-off-by from",
	"GERRIT_CHANGE_ID":       "change-id",
	"INVALID_UTF8":           "charset control",
	"MISSING_EOF_NEWLINE":    "whitespace",
	"MISSING_SIGN_OFF":       "signed-off-by body-cut trailer-format empty",
	"NOT_UNIFIED_DIFF":       "empty apply",
	"NO_AUTHOR_SIGN_OFF":     "signed-off-by from trailer-format",
	"PLACEHOLDER_USE":        "leftover",
	"SPACE_BEFORE_TAB":       "whitespace",
	"TRAILING_WHITESPACE":    "whitespace crlf",
	"UTF8_BEFORE_PATCH":      "charset",
}

// absorbedThere are the same, but only for the same line.
var absorbedThere = map[string]string{
	"CODE_INDENT":   "whitespace",
	"LEADING_SPACE": "whitespace",
	"TYPO_SPELLING": "spelling",
}

// merge leaves one of two findings that say the same.
func (c *checker) merge() {
	type key struct {
		patch int
		rule  string
	}
	ours := make(map[key]bool)
	there := make(map[string]bool)
	explained := make(map[key]string)
	for _, f := range c.findings {
		if f.Type == "" {
			ours[key{f.Patch, f.Rule}] = true
		}
		if f.Rule == "spelling" || f.Rule == "whitespace" {
			there[fmt.Sprint(f.Patch, f.Rule, f.Where)] = true
		}
	}
	c.findings = slices.DeleteFunc(c.findings, func(f Finding) bool {
		if f.Type == "" {
			return false
		}
		if there[fmt.Sprint(f.Patch, absorbedThere[f.Type], f.Where)] {
			return true
		}
		for rule := range strings.FieldsSeq(absorbed[f.Type]) {
			if k := (key{f.Patch, rule}); ours[k] {
				if !f.Fault {
					explained[k] = f.Type
				}
				return true
			}
		}
		return false
	})
	for i, f := range c.findings {
		if t := explained[key{f.Patch, f.Rule}]; t != "" && f.Type == "" && f.Fault {
			c.findings[i].Fault = false
			c.findings[i].Problem += fmt.Sprintf(" (%s, explained in the cover letter)", t)
		}
	}
}

// maxShown is how many findings of one rule a patch gets; one more says how many
// there are beyond.
const maxShown = 5

// An addedLine is a line that a patch adds.
type addedLine struct {
	path string
	line int64 // in the file after the patch
	text string
}

func (l addedLine) where() string { return fmt.Sprintf("%s:%d", l.path, l.line) }

// added returns the lines that a patch adds, without their line ends.
func added(m *patchmail.Mail) iter.Seq[addedLine] {
	return func(yield func(addedLine) bool) {
		for _, f := range m.Files {
			for _, h := range f.TextFragments {
				n := h.NewPosition
				for _, l := range h.Lines {
					if l.Op == gitdiff.OpAdd && !yield(addedLine{f.NewName, n, strings.TrimSuffix(l.Line, "\n")}) {
						return
					}
					if l.New() {
						n++
					}
				}
			}
		}
	}
}

// A spot is where something is wrong.
type spot struct{ where, problem string }

// faults adds a finding for each of the first spots, and one for the rest.
func (c *checker) faults(rule string, patch int, spots []spot, do string) {
	for i, s := range spots {
		if i == maxShown {
			c.fault(rule, patch, "", fmt.Sprintf("%d more of these", len(spots)-i), do)
			return
		}
		c.fault(rule, patch, s.where, s.problem, do)
	}
}
