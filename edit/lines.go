package edit

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// lineMark is a landmark of whole lines, each with white space folded.
type lineMark struct {
	lines  []string
	prefix bool // the last line may go on
}

// newLineMark reads a landmark; !ok: it would match anything.
func newLineMark(text string) (m lineMark, ok bool) {
	text = strings.TrimRight(strings.TrimLeft(text, "\n"), " \t\n")
	text, m.prefix = strings.CutSuffix(text, "...")
	for _, l := range strings.Split(text, "\n") {
		m.lines = append(m.lines, foldText(l))
	}
	return m, m.lines[len(m.lines)-1] != ""
}

func foldText(s string) string { return strings.Join(strings.Fields(s), " ") }

// end returns the end of the lines from pos on that m matches, which must not go beyond limit.
func (m lineMark) end(src []byte, pos, limit int) (int, bool) {
	for i, want := range m.lines {
		if pos >= limit {
			return 0, false
		}
		next := lineEnd(src, pos)
		if !foldedIs(src[pos:next], want, m.prefix && i == len(m.lines)-1) {
			return 0, false
		}
		pos = next
	}
	return pos, true
}

// foldedIs reports whether line is want, or begins with it, when its white
// space is folded. It is what a whole file is searched with, and allocates nothing.
func foldedIs(line []byte, want string, prefix bool) bool {
	i := 0
	skip := func() bool {
		from := i
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		return i > from
	}
	skip()
	for k := range len(want) {
		switch {
		case want[k] == ' ':
			if !skip() {
				return false
			}
		case i < len(line) && line[i] == want[k]:
			i++
		default:
			return false
		}
	}
	skip()
	return prefix || i == len(line)
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// stretch is lines of a text, in bytes.
type stretch struct{ pos, end int }

// search finds the places in a stretch where one of the marks stands.
func search(src []byte, in stretch, marks ...lineMark) []stretch {
	var found []stretch
	for pos := in.pos; pos < in.end; pos = lineEnd(src, pos) {
		for _, m := range marks {
			end, ok := m.end(src, pos, in.end)
			if n := len(found); ok && (n == 0 || found[n-1] != stretch{pos, end}) {
				found = append(found, stretch{pos, end})
			}
		}
	}
	return found
}

// applyLines makes the edit in lines of text.
func (e Edit) applyLines(src []byte) ([]byte, Place, *Error) {
	marks := make([]lineMark, len(e.Landmark))
	for i, text := range e.Landmark {
		var ok bool
		if marks[i], ok = newLineMark(text); !ok {
			return nil, Place{}, &Error{Kind: BadEdit, Problem: fmt.Sprintf("the edit's landmark %s is no line", quote(foldText(text), 60))}
		}
	}
	all := stretch{0, len(src)}
	in, inSection := all, ""
	if e.Section != "" {
		m, ok := newLineMark(e.Section)
		if !ok || m.prefix || len(m.lines) > 1 {
			return nil, Place{}, &Error{Kind: BadEdit, Problem: fmt.Sprintf("the edit's section %s is no line", quote(foldText(e.Section), 60))}
		}
		at, fail := only(src, all, search(src, all, m), "section "+quote(m.lines[0], 100), m)
		if fail != nil {
			return nil, Place{}, fail
		}
		in, inSection = at, " in "+m.lines[0]
		for in.end < len(src) && !blank(src[in.end:lineEnd(src, in.end)]) {
			in.end = lineEnd(src, in.end)
		}
	}
	found := search(src, in, marks...)
	if there, ok := e.linesThere(src, in, found); ok {
		return nil, Place{}, &Error{
			Kind: AlreadyThere, Line: lineOf(src, there), Matches: 1,
			Problem: "the text of this edit is already there" + inSection,
		}
	}
	at, fail := only(src, in, found, "line "+e.wanted()+inSection, marks...)
	if fail != nil {
		return nil, Place{}, fail
	}
	if src[at.end-1] != '\n' {
		return nil, Place{}, &Error{Kind: Unreadable, Line: lineOf(src, at.pos), Problem: "the last line of the file does not end"}
	}
	if fail := e.enclosed(src, at); fail != nil {
		return nil, Place{}, fail
	}
	place := Place{
		Line: lineOf(src, at.pos),
		How:  fmt.Sprintf("%s line %s%s", e.Put, quote(foldLine(src, at.pos), 44), cut(inSection, 36)),
	}
	switch e.Put {
	case Before:
		at.end = at.pos
	case After:
		at.pos = at.end
	}
	return put(src, at, e.Text), place, nil
}

// enclosed refuses a place that a condition of the preprocessor or of make stands
// around, so that not each configuration would have the text, that is in a comment, or
// that cuts a line in two which goes on behind a backslash.
func (e Edit) enclosed(src []byte, at stretch) *Error {
	pos := at.pos
	if e.Put == After {
		pos = at.end
	}
	refuse := func(format string, args ...any) *Error {
		return &Error{
			Kind: WrongSurroundings, Line: lineOf(src, at.pos), Matches: 1,
			Problem: fmt.Sprintf("line %s %s", quote(foldLine(src, at.pos), 100), fmt.Sprintf(format, args...)),
		}
	}
	switch name := path.Base(e.File); {
	case isC(name):
		s, err := tokenize(src)
		if err != nil {
			return (&cEdit{}).unreadable(err)
		}
		var around []part // the branches, innermost first
		for _, c := range s.conditionals {
			if c.pos < pos && pos < c.end && !s.guard(c) {
				n := len(c.parts) - 1
				for c.parts[n].pos >= pos {
					n--
				}
				around = append(around, c.parts[n])
			}
		}
		slices.Reverse(around)
		if !slices.EqualFunc(around, e.Inside, func(p part, in string) bool { return p.text == foldText(in) }) {
			if len(around) == 0 {
				return refuse("does not stand under %s", strings.Join(e.Inside, ", "))
			}
			return refuse("stands under the %s on line %d", around[0].show(), around[0].line)
		}
		for _, c := range s.comments {
			if strings.HasPrefix(foldLine(src, at.pos), "*") {
				break // it is meant
			}
			if c.pos < at.pos && at.pos < c.end || c.pos < pos && pos < c.end {
				return refuse("stands at the comment that begins on line %d", c.line)
			}
		}
		for _, d := range s.directives {
			if d.pos < at.pos && at.pos < d.end || d.pos < pos && pos < d.end {
				return refuse("is in the preprocessor line that begins on line %d", d.line)
			}
		}
	case name == "Makefile", name == "Kbuild":
		around, joined := blocks(src[:pos], []string{"ifdef", "ifndef", "ifeq", "ifneq"}, []string{"endif"})
		if len(around) > 0 {
			return refuse("stands under the %s", quote(around[0], 60))
		}
		if joined {
			return refuse("is a part of the line before it")
		}
	case isKconfig(name):
		around, _ := blocks(src[:pos], []string{"if", "choice"}, []string{"endif", "endchoice"})
		if !slices.Equal(around, e.Inside) {
			return refuse("stands inside %s, not %s", quote(strings.Join(around, ", "), 60), quote(strings.Join(e.Inside, ", "), 60))
		}
	}
	return nil
}

// blocks returns the lines of make or Kconfig that begin a block which is still open at
// the end of src, outermost first, and whether its last line goes on. An indented line
// may be help or a rule's, and begins none.
func blocks(src []byte, begin, end []string) (open []string, joined bool) {
	for line := range strings.Lines(string(src)) {
		line, _, _ := strings.Cut(strings.TrimRight(line, " \t\n"), " #")
		word := strings.FieldsFunc(line+" ", func(r rune) bool { return r == ' ' || r == '\t' || r == '(' })
		if !joined && len(word) > 0 && strings.HasPrefix(line, word[0]) {
			switch {
			case slices.Contains(begin, word[0]):
				open = append(open, foldText(line))
			case slices.Contains(end, word[0]):
				open = open[:max(0, len(open)-1)]
			}
		}
		joined = strings.HasSuffix(line, "\\")
	}
	return open, joined
}

func isKconfig(file string) bool { return strings.HasPrefix(path.Base(file), "Kconfig") }

// guard reports whether a conditional leaves nothing out of a kernel: that around a
// header, and around what is not for user space.
func (s *source) guard(c conditional) bool {
	if len(c.parts) == 1 && c.parts[0].text == "#ifdef __KERNEL__" {
		return true
	}
	name, ok := strings.CutPrefix(c.parts[0].text, "#ifndef ")
	if !ok || len(c.parts) > 1 || c.parts[0].tok > 0 {
		return false
	}
	i := slices.IndexFunc(s.directives, func(d span) bool { return d.pos > c.pos })
	define := foldText(string(s.src[s.directives[i].pos:s.directives[i].end]))
	return strings.HasPrefix(define+" ", "#define "+name+" ")
}

func isC(file string) bool { return strings.HasSuffix(file, ".c") || strings.HasSuffix(file, ".h") }

// only returns the one place found, or says how what was looked for is not there once.
func only(src []byte, in stretch, found []stretch, what string, marks ...lineMark) (stretch, *Error) {
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		e := &Error{Kind: NoLandmark, Problem: "no " + what}
		if in.pos > 0 {
			e.Line = lineOf(src, in.pos)
		}
		if pos, ok := nearestLine(src, in, marks); ok {
			e.Nearest, e.NearestLine = cut(foldLine(src, pos), 120), lineOf(src, pos)
		}
		return stretch{}, e
	}
	lines := make([]int, len(found))
	for i, f := range found {
		lines[i] = lineOf(src, f.pos)
	}
	return stretch{}, &Error{
		Kind: AmbiguousLandmark, Line: lines[0], Matches: len(found),
		Problem: fmt.Sprintf("%s stands %d times, on %s", what, len(found), lineList(lines)),
	}
}

// foldLine is the line that begins at pos, white space folded.
func foldLine(src []byte, pos int) string { return foldText(string(src[pos:lineEnd(src, pos)])) }

// linesThere finds the edit's text where it would go, around one of the places
// found. In a section, the order of whose lines is a matter of taste, and to
// tell what a Replace replaced, anywhere will do.
func (e Edit) linesThere(src []byte, in stretch, found []stretch) (pos int, there bool) {
	text := foldedLines(e.Text)
	if len(text) == 0 {
		return 0, false
	}
	var anywhere []stretch
	if e.Section != "" || e.Put == Replace {
		anywhere = findLines(src, in, text)
	}
	if len(anywhere) > 0 && (e.Section != "" || len(found) == 0) {
		return anywhere[0].pos, true
	}
	for _, f := range found {
		switch e.Put {
		case After:
			_, there = startsWithLines(src[f.end:], text)
		case Before:
			there = endsWithLines(src[:f.pos], text)
		case Replace:
			// The text may hold the landmark that it replaces.
			there = slices.ContainsFunc(anywhere, func(a stretch) bool { return a.pos <= f.pos && f.end <= a.end })
		}
		if there {
			return f.pos, true
		}
	}
	return 0, false
}

// findLines finds the places in a stretch where the lines stand, blank ones passed over.
func findLines(src []byte, in stretch, lines []string) []stretch {
	var found []stretch
	for pos := in.pos; pos < in.end; pos = lineEnd(src, pos) {
		if !foldedIs(src[pos:lineEnd(src, pos)], lines[0], false) {
			continue
		}
		if n, ok := startsWithLines(src[pos:in.end], lines); ok {
			found = append(found, stretch{pos, pos + n})
		}
	}
	return found
}

// foldedLines are the lines of a text that are not blank, white space folded.
func foldedLines(text string) []string {
	var lines []string
	for l := range strings.Lines(text) {
		if f := foldText(l); f != "" {
			lines = append(lines, f)
		}
	}
	return lines
}

// startsWithLines reports whether src begins with the lines, blank ones passed
// over, and where they end.
func startsWithLines(src []byte, lines []string) (end int, ok bool) {
	for pos := 0; len(lines) > 0; pos = end {
		if pos == len(src) {
			return 0, false
		}
		end = lineEnd(src, pos)
		line := src[pos:end]
		switch {
		case blank(line):
		case foldedIs(line, lines[0], false):
			lines = lines[1:]
		default:
			return 0, false
		}
	}
	return end, true
}

// endsWithLines reports whether src ends with the lines, blank ones passed over.
func endsWithLines(src []byte, lines []string) bool {
	for n := len(lines); n > 0; {
		if len(src) == 0 {
			return false
		}
		start := lineStart(src, len(src)-1)
		if line := src[start:]; !blank(line) {
			if n--; !foldedIs(line, lines[n], false) {
				return false
			}
		}
		src = src[:start]
	}
	return true
}

// nearestLine is the line most like what was looked for. Where the first line
// of several is there, it is the first that differs.
func nearestLine(src []byte, in stretch, marks []lineMark) (best int, ok bool) {
	most := near
	for _, m := range marks {
		like := newLikeness(lineWords(m.lines[0]))
		for pos := in.pos; pos < in.end; pos = lineEnd(src, pos) {
			d := like.to(lineWords(string(src[pos:lineEnd(src, pos)])))
			if d <= most {
				continue
			}
			best, most, ok = pos, d, true
			for _, want := range m.lines {
				if best == in.end || !foldedIs(src[best:lineEnd(src, best)], want, false) {
					break
				}
				best = lineEnd(src, best)
			}
			if best == in.end {
				best = pos
			}
		}
	}
	return best, ok
}

// lineWords cuts a line where its words end, paths and addresses too.
func lineWords(line string) []string {
	return strings.FieldsFunc(line, func(r rune) bool {
		return bytes.ContainsRune([]byte(" \t\r\n\v\f/.,:;=<>()[]{}\"'@-"), r)
	})
}
