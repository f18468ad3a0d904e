package edit

import (
	"bytes"
	"fmt"
)

// whole puts the text in place of the function.
func (c *cEdit) whole() ([]byte, Place, *Error) {
	m, fail := c.find()
	if fail != nil {
		return nil, Place{}, fail
	}
	if fail := c.surroundings(m); fail != nil {
		return nil, Place{}, fail
	}
	refuse := func(line int, format string, args ...any) ([]byte, Place, *Error) {
		return nil, Place{}, &Error{
			Kind: WrongSurroundings, Line: line, Matches: 1,
			Problem: fmt.Sprintf(format, args...),
		}
	}
	if last := len(c.body.at) - 1; m.first > 0 || m.last < last {
		other := 0
		if m.first == 0 {
			other = m.last + 1
		}
		return refuse(c.body.tok(other).line, "%s is not all that %s() does", c.wanted(), c.Function)
	}
	at, fail := c.definition()
	if fail != nil {
		return nil, Place{}, fail
	}
	for _, d := range c.directives {
		if d.end > at.pos && d.pos < at.end {
			return refuse(d.line, "%s() has a preprocessor line in it", c.Function)
		}
	}
	for _, d := range c.conditionals {
		if d.pos < at.pos && d.end > at.pos {
			return refuse(c.f.line, "%s() stands under the %s on line %d", c.Function, d.parts[0].show(), d.line)
		}
	}
	// Of the blank lines on both sides one is enough.
	if c.Text == "" && at.pos > 1 && c.src[at.pos-2] == '\n' && at.end < len(c.src) && c.src[at.end] == '\n' {
		at.end++
	}
	return put(c.src, at, c.Text), Place{Line: c.f.line, How: c.Put.String()}, nil
}

// defined is the line on which the edit's text stands in the file, 0 = nowhere.
func (c *cEdit) defined() int {
	words := c.added.words
	for i := range c.toks {
		k := 0
		for k < len(words) && i+k < len(c.toks) && c.is(i+k, words[k]) {
			k++
		}
		if k > 0 && k == len(words) {
			return c.toks[i].line
		}
	}
	return 0
}

// definition returns the lines of the function, from the comments attached above it
// to its last brace.
func (c *cEdit) definition() (stretch, *Error) {
	refuse := func(line int, problem string) (stretch, *Error) {
		return stretch{}, &Error{Kind: WrongSurroundings, Line: line, Matches: 1, Problem: c.Function + "() " + problem}
	}
	first, last := c.toks[c.f.first], c.toks[c.f.close]
	at := stretch{lineStart(c.src, first.pos), last.end}
	if at.pos != first.pos {
		return refuse(first.line, "does not begin its line")
	}
	// What stands above and has no semicolon, such as a macro, looks like a part of it.
	if bytes.Contains(c.src[first.pos:c.toks[c.f.open].pos], []byte("\n\n")) {
		return refuse(c.f.line, "has a blank line in its declaration, or stands behind something that does not end")
	}
	if at.end < len(c.src) && c.src[at.end] != '\n' {
		return refuse(last.line, "does not end its line")
	}
	at.end = min(at.end+1, len(c.src))
	for i := c.commentsFrom(first.pos) - 1; i >= 0; i-- {
		d := c.comments[i]
		start := lineStart(c.src, d.pos)
		if start != d.pos || len(bytes.TrimSpace(c.src[d.end:at.pos])) > 0 || bytes.Count(c.src[d.end:at.pos], []byte{'\n'}) != 1 {
			break
		}
		at.pos = start
	}
	return at, nil
}
