package ktree

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// A Test is what a file of the tree must have and must not have. Texts are
// compared with white space folded: every run of it equals one space, and a
// file begins and ends with one. A missing file has no text.
type Test struct {
	File  string   `toml:"file"`
	Has   []string `toml:"has"`
	Lacks []string `toml:"lacks"`
}

// A Generation is a state of a tree's code that the templates know, told
// by texts and never by version number, because vendors backport.
type Generation struct {
	Name  string `toml:"name"`
	About string `toml:"about"` // for people, such as "Linux 5.15 to 6.8"
	Tests []Test `toml:"test"`
}

// Passes reports whether the tree passes all tests; failed says for people
// which texts do not, each with what is there instead. The error is that of
// reading a file, or of a Test without text.
func (t *Tree) Passes(tests []Test) (ok bool, failed []string, err error) {
	findings, err := t.run(tests)
	if err != nil {
		return false, nil, err
	}
	for _, f := range findings {
		if !f.OK {
			failed = append(failed, f.String())
		}
	}
	return len(failed) == 0, failed, nil
}

// Classify returns the one generation whose tests the tree passes. If there is
// none or more than one, the error is an *UnknownError.
func (t *Tree) Classify(gens []Generation) (Generation, error) {
	unknown := &UnknownError{tree: t.String()}
	var err error
	if unknown.results, err = t.Results(gens); err != nil {
		return Generation{}, err
	}
	for _, g := range gens {
		if slices.ContainsFunc(unknown.results, func(r Result) bool { return r.Generation.Name == g.Name && r.passes() }) {
			unknown.Matches = append(unknown.Matches, g.Name)
		}
	}
	if len(unknown.Matches) != 1 {
		return Generation{}, unknown
	}
	return unknown.results[0].Generation, nil
}

// Results returns how the tree does in the tests of each generation, the nearest
// first. The error is that of reading a file, or of a generation without tests.
func (t *Tree) Results(gens []Generation) ([]Result, error) {
	var results []Result
	for _, g := range gens {
		findings, err := t.run(g.Tests)
		if err != nil {
			return nil, fmt.Errorf("test for generation %s: %w", g.Name, err)
		}
		if len(findings) == 0 {
			return nil, fmt.Errorf("generation %s has no test", g.Name)
		}
		results = append(results, Result{g, findings})
	}
	slices.SortStableFunc(results, nearer)
	return results, nil
}

// A Finding is the result of one text of a Test.
type Finding struct {
	OK         bool // it is as it should be
	file, text string
	has        bool   // the file should have the text; else it should not
	saw        string // if it is not as it should be: what is there instead
}

func (f Finding) String() string {
	verb := "should lack"
	switch {
	case f.has && f.OK:
		verb = "has"
	case f.has:
		verb = "should have"
	case f.OK:
		verb = "lacks"
	}
	s := fmt.Sprintf("%s %s %q", f.file, verb, strings.TrimSpace(fold(f.text)))
	if f.saw != "" {
		s += ": " + f.saw
	}
	return s
}

func (t *Tree) run(tests []Test) ([]Finding, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Finding
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
		for i, text := range slices.Concat(test.Has, test.Lacks) {
			has, folded := i < len(test.Has), fold(text)
			if folded == "" || folded == " " {
				return nil, fmt.Errorf("the test of %s has an empty text", test.File)
			}
			at := strings.Index(c.folded, folded)
			f := Finding{file: test.File, text: text, has: has, OK: at >= 0 == has}
			switch {
			case f.OK:
			case missing:
				f.saw = "no such file"
			case has:
				f.saw = nearest(string(c.data), text)
			default:
				f.saw = fmt.Sprintf("it is in line %d", lineAt(string(c.data), at+strings.IndexByte(folded, strings.TrimSpace(folded)[0])))
			}
			all = append(all, f)
		}
	}
	return all, nil
}

// fold makes every run of white space one space.
func fold(s string) string {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		c := s[i]
		if isSpace(c) {
			if len(b) > 0 && b[len(b)-1] == ' ' {
				continue
			}
			c = ' '
		}
		b = append(b, c)
	}
	return string(b)
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// lineAt returns the number of the line of src, from 1, whose character stands
// at an offset of fold(" " + src + " ").
func lineAt(src string, offset int) int {
	line, folded, space := 1, 1, true // behind the leading space
	for i := range len(src) {
		if s := isSpace(src[i]); !s || !space {
			if folded >= offset {
				return line
			}
			folded++
			space = s
		}
		if src[i] == '\n' {
			line++
		}
	}
	return line
}

// nearest says what src has of a text that it should have: the line that has
// the text's longest name and most of its other words.
func nearest(src, text string) string {
	words := names(text)
	if len(words) == 0 {
		return "not there"
	}
	name := slices.MaxFunc(words, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
	best, bestScore, number := "", 0, 0
	for line := range strings.Lines(src) {
		number++
		there := names(line)
		if !slices.Contains(there, name) {
			continue
		}
		score := 1
		for _, w := range words {
			if slices.Contains(there, w) {
				score++
			}
		}
		if score > bestScore {
			best, bestScore = fmt.Sprintf("line %d is %q", number, short(strings.TrimSpace(fold(line)), 100)), score
		}
	}
	if best == "" {
		return "it has no " + name
	}
	return best
}

// names returns the identifiers in a text.
func names(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool {
		return !(r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	})
}

// short cuts a text to n bytes.
func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// An UnknownError says that a tree's code is of no known generation, or of
// more than one: what was looked for and what was found, the nearest generation first.
type UnknownError struct {
	Matches []string // names of the generations it is of: none, or more than one
	tree    string   // for people
	results []Result // nearest first
}

// A Result is how a tree does in the tests of a generation.
type Result struct {
	Generation Generation
	Findings   []Finding
}

// Passed returns how many texts are as they should be.
func (r Result) Passed() int {
	n := 0
	for _, f := range r.Findings {
		if f.OK {
			n++
		}
	}
	return n
}

func (r Result) passes() bool { return r.Passed() == len(r.Findings) }

// nearer orders results by the share of texts that are as they should be.
func nearer(a, b Result) int {
	return cmp.Compare(b.Passed()*len(a.Findings), a.Passed()*len(b.Findings))
}

func (e *UnknownError) Error() string {
	var b strings.Builder
	tree := "the code of " + e.tree
	if len(e.Matches) > 1 {
		fmt.Fprintf(&b, "%s is of more than one generation, %s: its parts are from several releases, or the tests of these generations are too weak", tree, strings.Join(e.Matches, " and "))
		return b.String()
	}
	fmt.Fprintf(&b, "%s is of no known generation", tree)
	for i, r := range e.results {
		name := r.Generation.Name
		if about := strings.TrimSpace(fold(r.Generation.About)); about != "" {
			name += ", " + about
		}
		if i == 0 {
			fmt.Fprintf(&b, "\nnearest is %s\n%d of %d texts are as expected:", name, r.Passed(), len(r.Findings))
			for _, f := range r.Findings {
				sign := "ok"
				if !f.OK {
					sign = "NO"
				}
				fmt.Fprintf(&b, "\n  %s  %s", sign, f)
			}
			continue
		}
		if i == 1 {
			b.WriteString("\nfurther away:")
		}
		first := slices.IndexFunc(r.Findings, func(f Finding) bool { return !f.OK })
		fmt.Fprintf(&b, "\n  %s; %d of %d, %s", short(name, 72), r.Passed(), len(r.Findings), r.Findings[first])
	}
	return b.String()
}
