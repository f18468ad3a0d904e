package ktree

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// A Test is what a file of the tree must have and must not have. Texts are
// compared with white space folded: every run of it equals one space. A
// missing file has no text.
type Test struct {
	File  string   `toml:"file"`
	Has   []string `toml:"has"`
	Lacks []string `toml:"lacks"`
}

// A Generation is a state of the kernel's code that the templates know,
// told by texts and never by version number, because vendors backport.
type Generation struct {
	Name  string `toml:"name"`
	About string `toml:"about"`
	Tests []Test `toml:"test"`
}

// finding is the result of one text of a Test.
type finding struct {
	file, text string
	has        bool   // wanted in the file; else wanted to be absent
	ok         bool   //
	saw        string // if not ok: what is there instead
}

func (f finding) String() string {
	verb := "lacks"
	if f.has {
		verb = "has"
	}
	s := fmt.Sprintf("%s %s `%s`", f.file, verb, fold(f.text))
	if f.saw != "" {
		s += ": " + f.saw
	}
	return s
}

// Passes reports whether the tree passes all tests; failed says for people
// which texts did not, each with what is there instead. The error is that of reading
// a file, or of a Test without any text.
func (t *Tree) Passes(tests []Test) (ok bool, failed []string, err error) {
	findings, err := t.run(tests)
	if err != nil {
		return false, nil, err
	}
	for _, f := range findings {
		if !f.ok {
			failed = append(failed, f.String())
		}
	}
	return len(failed) == 0, failed, nil
}

// Classify returns the one generation whose tests the tree passes. If there is none or
// more than one, the error is an *UnknownError.
func (t *Tree) Classify(gens []Generation) (Generation, error) {
	unknown := &UnknownError{Origin: t.origin, Release: t.release}
	var matches []Generation
	for _, g := range gens {
		findings, err := t.run(g.Tests)
		if err != nil {
			return Generation{}, err
		}
		r := result{gen: g, findings: findings}
		if r.passed() == len(findings) {
			matches = append(matches, g)
			unknown.Matches = append(unknown.Matches, g.Name)
		}
		unknown.results = append(unknown.results, r)
	}
	if len(matches) == 1 {
		return matches[0], nil
	}
	return Generation{}, unknown
}

func (t *Tree) run(tests []Test) ([]finding, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []finding
	for _, test := range tests {
		if len(test.Has)+len(test.Lacks) == 0 {
			return nil, fmt.Errorf("the test of %s has no text", test.File)
		}
		c, err := t.content(test.File)
		missing := errors.Is(err, fs.ErrNotExist)
		if err != nil && !missing {
			return nil, err
		}
		if missing {
			c = &content{folded: " "}
		} else if c.folded == "" {
			c.folded = fold(" " + string(c.data) + " ")
		}
		for _, text := range test.Has {
			f := finding{file: test.File, text: text, has: true, ok: strings.Contains(c.folded, fold(text))}
			if !f.ok && missing {
				f.saw = "no such file"
			}
			all = append(all, f)
		}
		for _, text := range test.Lacks {
			all = append(all, finding{file: test.File, text: text, ok: !strings.Contains(c.folded, fold(text))})
		}
	}
	return all, nil
}

// fold makes every run of white space one space.
func fold(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for i := range len(s) {
		c := s[i]
		if c == ' ' || '\t' <= c && c <= '\r' {
			space = true
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteByte(c)
	}
	if space {
		b.WriteByte(' ')
	}
	return b.String()
}

// An UnknownError says that a tree is of no known generation, or of more than one.
type UnknownError struct {
	Origin  string
	Release Release
	Matches []string // names of the generations that match: none, or more than one
	results []result
}

type result struct {
	gen      Generation
	findings []finding
}

func (r result) passed() int {
	n := 0
	for _, f := range r.findings {
		if f.ok {
			n++
		}
	}
	return n
}

func (e *UnknownError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the code of %s (Linux %s) is of no known generation", e.Origin, e.Release)
	results := slices.Clone(e.results)
	slices.SortStableFunc(results, func(a, b result) int { return b.passed()*max(1, len(a.findings)) - a.passed()*max(1, len(b.findings)) })
	for _, r := range results {
		fmt.Fprintf(&b, "\n%s: %d of %d", r.gen.Name, r.passed(), len(r.findings))
	}
	return b.String()
}
