// Package edit makes one change to a text, at a place that must match exactly once.
package edit

// Put says where an Edit's text goes.
type Put int

const (
	Before  Put = iota // before the landmark's first line, and before the comments attached to it
	After              // after the landmark's last line
	Replace            // instead of the landmark's lines; comments above stay
)

// Edit is one change to a file: where, and what.
//
// With Function set the file is C: Landmark is looked for in the body of that
// function. Without it the file is lines of text, and Landmark is whole lines.
type Edit struct {
	File     string   // the file's name, for messages only
	Function string   // C: the function to change; "" = lines of text
	Inside   []string // C: heads of the blocks around the landmark, outermost first: `for_each_sg(sgl, sg, nents, i)`; none = directly in the body
	Section  string   // lines: look only from the line equal to this to the next blank line; "" = in the whole file
	Landmark []string // alternatives, of which one must match, once; C: whole statements; lines: whole lines, "..." at the end = a prefix
	Put      Put
	Text     string // whole lines with their own indentation; ends in a newline
}

// Place tells where an Edit went.
type Place struct {
	Line int    // of the landmark's first line in the text given, from 1
	How  string // one phrase for people, under 100 characters
}

// Apply returns src with e's text put in its place; src itself is left alone.
// The error, if any, is an *Error, and then nothing is returned to write.
func (e Edit) Apply(src []byte) ([]byte, Place, error) {
	return nil, Place{}, &Error{Kind: NoLandmark, File: e.File, Problem: "not written yet"}
}
