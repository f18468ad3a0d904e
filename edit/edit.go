// Package edit makes one change to a text, at a place that must match exactly once.
package edit

import (
	"bytes"
	"fmt"
	"path"
	"strings"
)

// Put says where an Edit's text goes.
type Put int

const (
	Before  Put = iota // before the landmark's first line and, in C, before the comments attached above it
	After              // after the landmark's last line
	Replace            // in place of the landmark's lines; comments above them stay
	Whole              // in place of the whole function and the comments attached above it; C only
)

func (p Put) String() string {
	switch p {
	case Before:
		return "before"
	case After:
		return "after"
	case Replace:
		return "in place of"
	case Whole:
		return "in place of the whole function"
	}
	return fmt.Sprintf("Put(%d)", int(p))
}

// Edit is one change to a file: where, and what.
//
// With Function set the file is C. Landmark is one or more whole statements,
// declarations and labels that follow one another directly between braces in
// the body of that function. They are compared token by token: comments,
// white space and line breaks don't count. A statement under an "if (x)"
// without braces is no landmark, and neither is an if without its else.
//
// With Whole the landmark is the whole body, so that nothing is thrown away that
// the edit does not know. The text is then what may stand outside of functions.
//
// Without Function the file is lines of text, and Landmark is whole lines,
// compared with white space folded. A comment or a conditional of the preprocessor, of
// make or of Kconfig around them is refused, but for an Inside and a header's guard.
type Edit struct {
	File     string   // the file's name, for messages only
	Function string   // C: the function to change; "" = lines of text
	Inside   []string // all that stands around the landmark, outermost first. In a function `for_each_sg(sgl, sg, nents, i)`, `else`; "" = bare braces; none = directly in the body. Lines, of Kconfig too: `#ifdef CONFIG_X`, `#else`, `if X`
	Reached  bool     // C: no return or goto may stand before the landmark, and no continue or break before one that is Inside
	Section  string   // lines: look only from the line equal to this to the next blank line; "" = in the whole file
	Landmark []string // alternatives, of which one must match, once; lines: "..." at the end = a prefix
	Put      Put
	Text     string // whole lines with their own indentation; "" deletes (Replace and Whole only)
}

// Place tells where an Edit went.
type Place struct {
	Line int    // of the landmark in the text given, from 1; of several statements, of the one that the edit's text stands beside
	How  string // one phrase for people, at most 100 characters; Function is not in it
}

// Apply returns src with e's text put in its place; src itself is left alone.
// The error, if any, is an *Error, and then there is nothing to write.
func (e Edit) Apply(src []byte) ([]byte, Place, error) {
	fail := e.check(src)
	if fail == nil {
		var out []byte
		var p Place
		if e.Function != "" {
			out, p, fail = e.applyC(src)
		} else {
			out, p, fail = e.applyLines(src)
		}
		if fail == nil {
			return out, p, nil
		}
	}
	fail.File, fail.Function, fail.Section = e.File, e.Function, e.Section
	fail.Landmark = e.landmarks()
	return nil, Place{}, fail
}

// check refuses what no edit can be made of, whatever the kind of file.
func (e Edit) check(src []byte) *Error {
	bad := func(problem string) *Error { return &Error{Kind: BadEdit, Problem: problem} }
	switch {
	case e.Put < Before || e.Put > Whole:
		return bad("the edit says neither before, after, replace nor function")
	case len(e.Landmark) == 0:
		return bad("the edit has no landmark")
	case e.Text == "" && e.Put != Replace && e.Put != Whole:
		return bad("the edit has no text")
	case e.Text != "" && !strings.HasSuffix(e.Text, "\n"):
		return bad("the edit's text does not end its last line")
	case strings.ContainsAny(e.Text, "\r\x00"):
		return bad("the edit's text has a carriage return or a NUL in it")
	case e.Function != "" && e.Section != "":
		return bad("the edit names both a function and a section")
	case e.Put == Whole && (e.Function == "" || len(e.Inside) > 0):
		return bad("the edit is for a whole function, and names none or a part of one")
	case e.Function == "" && len(e.Inside) > 0 && !isC(e.File) && !isKconfig(e.File):
		return bad("the edit names what stands around the landmark, and is neither in C nor in Kconfig")
	}
	if i := bytes.IndexByte(src, 0); i >= 0 {
		return &Error{Kind: Unreadable, Line: lineOf(src, i), Problem: "has a NUL byte in it and is no text"}
	}
	if i := bytes.Index(src, []byte("\r\n")); i >= 0 {
		return &Error{Kind: Unreadable, Line: lineOf(src, i), Problem: "has DOS line ends"}
	}
	if i, mark := conflict(src, e.File); i >= 0 {
		return &Error{Kind: ConflictMarks, Line: lineOf(src, i), Problem: "a merge conflict was left here: " + mark}
	}
	return nil
}

// conflict finds the first line that git left behind in a merge that failed
// (xdiff/xmerge.c), and the mark. A line of seven = also underlines titles in
// text files, and is no mark there.
func conflict(src []byte, file string) (int, string) {
	first, found := -1, ""
	titles := path.Ext(file) == ".rst" || path.Ext(file) == ".txt"
	for _, mark := range []string{"<<<<<<<", "|||||||", "=======", ">>>>>>>"} {
		if mark == "=======" && titles {
			continue
		}
		for from := 0; ; {
			i := bytes.Index(src[from:], []byte(mark))
			if i < 0 || first >= 0 && from+i > first {
				break
			}
			i += from
			end := i + len(mark)
			if (i == 0 || src[i-1] == '\n') && (end == len(src) || src[end] == '\n' || src[end] == ' ') {
				first, found = i, mark
				break
			}
			from = end
		}
	}
	return first, found
}

// landmarks are the alternatives in one line.
func (e Edit) landmarks() string {
	folded := make([]string, len(e.Landmark))
	for i, l := range e.Landmark {
		folded[i] = foldText(l)
	}
	return strings.Join(folded, " or ")
}

// wanted is the landmark as messages quote it.
func (e Edit) wanted() string {
	s := quote(foldText(e.Landmark[0]), 100)
	switch n := len(e.Landmark) - 1; n {
	case 0:
		return s
	case 1:
		return s + " (or its alternative)"
	default:
		return fmt.Sprintf("%s (or one of %d alternatives)", s, n)
	}
}

// put returns src with text in place of the stretch at.
func put(src []byte, at stretch, text string) []byte {
	out := make([]byte, 0, len(src)-(at.end-at.pos)+len(text))
	out = append(out, src[:at.pos]...)
	out = append(out, text...)
	return append(out, src[at.end:]...)
}

// lineOf is the line, from 1, of the byte at pos.
func lineOf(src []byte, pos int) int { return bytes.Count(src[:pos], []byte{'\n'}) + 1 }
