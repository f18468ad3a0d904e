package edit

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// match is a place where the tokens of a landmark stand, by indexes into the body.
type match struct{ first, last int }

// stands reports whether the tokens from i on are the words given.
func (b *body) stands(i int, words []string) bool {
	if i < 0 || i+len(words) > len(b.at) {
		return false
	}
	for k, w := range words {
		if !b.is(i+k, w) {
			return false
		}
	}
	return true
}

// occurrences are the places in the body where the words stand.
func (b *body) occurrences(words []string) []match {
	var found []match
	for i := range b.at {
		if b.stands(i, words) {
			found = append(found, match{i, i + len(words) - 1})
		}
	}
	return found
}

// find finds the one place where a landmark stands as statements of its own.
func (c *cEdit) find() (match, *Error) {
	var own, other []match
	for _, l := range c.landmarks {
		for _, m := range c.body.occurrences(l.words) {
			if _, ok := c.body.run(m.first, m.last); ok {
				own = append(own, m)
			} else {
				other = append(other, m)
			}
		}
	}
	if line := c.applied(own, other); line > 0 {
		return match{}, &Error{
			Kind: AlreadyThere, Line: line, Matches: 1,
			Problem: fmt.Sprintf("the text of this edit is already there in %s()", c.Function),
		}
	}
	switch {
	case len(own) == 1:
		return own[0], nil
	case len(own) > 1:
		lines := make([]int, len(own))
		for i, m := range own {
			lines[i] = c.body.tok(m.first).line
		}
		slices.Sort(lines)
		return match{}, &Error{
			Kind: AmbiguousLandmark, Line: lines[0], Matches: len(own),
			Problem: fmt.Sprintf("%s stands %d times in %s(), on %s", c.wanted(), len(own), c.Function, lineList(lines)),
		}
	case len(other) > 0:
		return match{}, &Error{
			Kind: WrongSurroundings, Line: c.body.tok(other[0].first).line, Matches: len(other),
			Problem: fmt.Sprintf("%s is no statement of its own in %s(): it %s", c.wanted(), c.Function, c.partOf(other[0])),
		}
	}
	if line := c.deadLine(); line > 0 {
		return match{}, &Error{
			Kind: WrongSurroundings, Line: line, Matches: 1,
			Problem: fmt.Sprintf("%s stands under #if 0 in %s()", c.wanted(), c.Function),
		}
	}
	e := &Error{Kind: NoLandmark, Line: c.f.line, Problem: fmt.Sprintf("no %s in %s()", c.wanted(), c.Function)}
	if i := c.nearestStatement(); i >= 0 {
		st := c.body.stmts[i]
		e.Nearest, e.NearestLine = cut(c.show(st.first, st.last, false), 120), c.body.tok(st.first).line
	}
	return match{}, e
}

// applied is the line on which the edit's text stands already, around one of
// the places of the landmark; 0 = it does not.
func (c *cEdit) applied(own, other []match) int {
	words := c.added.words
	there := func(i int) bool { return c.body.stands(i, words) }
	if c.Put == Replace && len(own) == 0 && len(words) > 0 {
		for _, m := range c.body.occurrences(words) {
			if _, ok := c.body.run(m.first, m.last); ok {
				return c.body.tok(m.first).line
			}
		}
	}
	if c.goesOn() {
		own = other // with its else, the landmark's if is a statement no longer
	}
	for _, m := range own {
		var yes bool
		switch {
		case len(words) == 0:
			yes = c.commentApplied(m)
		case c.Put == After:
			yes = there(m.last + 1)
		case c.Put == Before:
			yes = there(m.first - len(words))
		default:
			// The text may hold the landmark that it replaces.
			for i := m.last + 1 - len(words); i <= m.first && !yes; i++ {
				yes = there(i)
			}
		}
		if yes {
			return c.body.tok(m.first).line
		}
	}
	return 0
}

// commentApplied is applied for a text without tokens.
func (c *cEdit) commentApplied(m match) bool {
	text := foldedLines(c.Text)
	at, err := c.lines(m)
	if err != nil || len(text) == 0 {
		return false
	}
	switch c.Put {
	case After:
		_, there := startsWithLines(c.src[at.end:], text)
		return there
	case Before:
		// A comment put above the landmark may have become attached to it.
		attached := stretch{at.pos, lineStart(c.src, c.body.tok(m.first).pos)}
		return endsWithLines(c.src[:at.pos], text) || len(findLines(c.src, attached, text)) > 0
	}
	return false
}

// deadLine is the line under an #if 0 in the function where a landmark stands, 0 = none.
func (c *cEdit) deadLine() int {
	from, to := c.toks[c.f.open].pos, c.toks[c.f.close].pos
	first := sort.Search(len(c.dead), func(i int) bool { return c.dead[i].pos > from })
	last := sort.Search(len(c.dead), func(i int) bool { return c.dead[i].pos > to })
	dead := c.dead[first:last]
	for _, l := range c.landmarks {
		for i := range dead {
			k := 0
			for k < len(l.words) && i+k < len(dead) && string(c.text(dead[i+k])) == l.words[k] {
				k++
			}
			if k == len(l.words) {
				return dead[i].line
			}
		}
	}
	return 0
}

// partOf tells what a match belongs to that is no statement of its own.
func (c *cEdit) partOf(m match) string {
	i := c.body.innermost(m.first)
	for c.body.stmts[i].last < m.first {
		i-- // a statement under the same head, that ended before
	}
	st := c.body.stmts[i]
	if s := c.body.scopes[st.scope]; st.first == m.first && !s.braced {
		return "stands under " + c.head(s, false)
	}
	if next := m.last + 1; next < len(c.body.at) && c.body.is(next, "else") {
		return fmt.Sprintf("goes on with the else on line %d", c.body.tok(next).line)
	}
	return "is part of " + cut(c.show(st.first, st.last, false), 80)
}

// around are the scopes that stand around a match, outermost first.
func (c *cEdit) around(m match) []scope {
	var up []scope
	s := c.body.scopes[c.body.stmts[c.body.at[m.first]].scope]
	for s.parent >= 0 {
		up = append(up, s)
		s = c.body.scopes[s.parent]
	}
	slices.Reverse(up)
	return up
}

// head is the head of a scope for people.
func (c *cEdit) head(s scope, short bool) string {
	if s.first > s.last {
		return "{…}"
	}
	return cut(c.show(s.first, s.last, short), 60)
}

// surroundings refuses a match that other code than the edit's Inside stands
// around, that not all configurations have, or that need not be reached.
func (c *cEdit) surroundings(m match) *Error {
	refuse := func(format string, args ...any) *Error {
		return &Error{
			Kind: WrongSurroundings, Line: c.body.tok(m.first).line, Matches: 1,
			Problem: c.wanted() + " " + fmt.Sprintf(format, args...),
		}
	}
	begin, from, to := c.toks[c.f.open].pos, c.body.tok(m.first).pos, c.body.tok(m.last).end
	for _, d := range c.conditionals {
		if d.pos < begin || d.pos > from || d.end < from {
			continue
		}
		branch := d.parts[0]
		for _, p := range d.parts {
			if p.pos < from {
				branch = p
			}
		}
		under := fmt.Sprintf("stands under the %s on line %d", branch.show(), branch.line)
		if branch.pos != d.pos {
			under += " of " + d.parts[0].show()
		}
		return refuse("%s", under)
	}
	for _, d := range c.directives {
		if d.pos > from && d.pos < to {
			return refuse("has a preprocessor line in it, on line %d", d.line)
		}
	}
	around := c.around(m)
	for _, s := range append([]scope{c.body.scopes[0]}, around...) {
		if s.torn != nil {
			return refuse("stands beside a statement that the %s on line %d cuts in two", s.torn.parts[0].show(), s.torn.line)
		}
	}
	same := func(s scope, in snippet) bool {
		return len(in.words) == s.last-s.first+1 && c.body.stands(s.first, in.words)
	}
	if slices.EqualFunc(around, c.inside, same) {
		if word, line := c.wayOut(m, len(around) > 0); word != "" && c.Reached {
			return refuse("may not be reached: there is a %s before it in %s(), on line %d", word, c.Function, line)
		}
		return nil
	}
	name := func(heads []string) string {
		if len(heads) == 0 {
			return fmt.Sprintf("directly in %s()", c.Function)
		}
		names := slices.Clone(heads)
		for i, h := range names {
			if h == "" {
				names[i] = "{…}"
			}
		}
		return "inside " + strings.Join(names, ", ")
	}
	var heads []string
	for _, s := range around {
		heads = append(heads, c.head(s, false))
	}
	return refuse("stands %s, not %s", name(heads), name(c.Inside))
}

// wayOut is the first word before a match by which the function, or a block around
// the match, may be left, and its line.
func (c *cEdit) wayOut(m match, inBlock bool) (word string, line int) {
	for i := range m.first {
		switch t := c.body.tok(i); string(c.text(t)) {
		case "continue", "break":
			if !inBlock {
				continue
			}
			fallthrough
		case "return", "goto":
			return string(c.text(t)), t.line
		}
	}
	return "", 0
}

// lines returns the lines that the edit's text takes the place of; none, at
// the place where it goes, for Before and After.
func (c *cEdit) lines(m match) (stretch, *Error) {
	first, last := c.body.tok(m.first), c.body.tok(m.last)
	refuse := func(line int, problem string) (stretch, *Error) {
		return stretch{}, &Error{Kind: WrongSurroundings, Line: line, Matches: 1, Problem: c.wanted() + " " + problem}
	}
	at := stretch{lineStart(c.src, first.pos), last.end}
	before := c.toks[c.body.lo+m.first-1].end // the body's brace stands before everything
	if before > at.pos {
		return refuse(first.line, "does not begin its line")
	}
	for i := c.commentsFrom(last.end); ; i++ {
		for at.end < len(c.src) && c.src[at.end] != '\n' && isSpace(c.src[at.end]) {
			at.end++
		}
		if i == len(c.comments) || c.comments[i].pos != at.end {
			break
		}
		at.end = c.comments[i].end
	}
	if at.end == len(c.src) || c.src[at.end] != '\n' {
		return refuse(c.lastLine(last), "does not end its line")
	}
	at.end++

	// Go up over the comments that belong to the landmark.
	attached := at.pos
	for i := c.commentsFrom(first.pos) - 1; i >= 0 && c.comments[i].end > before; i-- {
		d := c.comments[i]
		start := lineStart(c.src, d.pos)
		if d.end <= attached {
			if start < before || bytes.Count(c.src[d.end:attached], []byte{'\n'}) != 1 {
				break
			}
		} else if start < before {
			return refuse(first.line, "begins where a comment ends")
		}
		attached = start
	}
	switch c.Put {
	case Before:
		return stretch{attached, attached}, nil
	case After:
		return stretch{at.end, at.end}, nil
	}
	for _, d := range c.comments[c.commentsFrom(before):] {
		if d.pos >= at.end {
			break
		}
		if d.end > at.pos {
			return refuse(d.line, "has a comment in its lines, which would be lost")
		}
	}
	return at, nil
}

// commentsFrom is the index of the first comment that begins at pos or after.
func (c *cEdit) commentsFrom(pos int) int {
	return sort.Search(len(c.comments), func(i int) bool { return c.comments[i].pos >= pos })
}
