package edit

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is what kept an Edit from its place.
type Kind string

const (
	NoFunction        Kind = "no function"
	AmbiguousFunction Kind = "ambiguous function"
	NoLandmark        Kind = "no landmark"        // or no section
	AmbiguousLandmark Kind = "ambiguous landmark" // or section
	WrongSurroundings Kind = "wrong surroundings" // the landmark is there, but not where it is meant to stand
	Unhooked          Kind = "unhooked"           // the edits found their places, and other code would still be wrong
	AlreadyThere      Kind = "already there"      // the edit was made before
	ConflictMarks     Kind = "conflict marks"
	Unreadable        Kind = "unreadable" // no text, or C that cannot be followed
	BadEdit           Kind = "bad edit"   // the fault is the Edit's own
)

// Error tells what was looked for, where, and what was found instead. What to
// do next is for the command to say.
type Error struct {
	Kind        Kind
	File        string
	Line        int    // where the trouble is, from 1; 0 = no line in particular
	Function    string // "" for lines of text
	Section     string
	Landmark    string // the alternatives, joined with " or "
	Problem     string // one sentence for people, without file and line
	Nearest     string // the nearest candidate, "" = none is near
	NearestLine int    // from 1; 0 = unknown
	Matches     int    // how many places matched
}

// Error is one line, or two when there is a nearest candidate.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	fmt.Fprintf(&b, ": %s", e.Problem)
	switch {
	case e.Nearest != "" && e.NearestLine > 0:
		fmt.Fprintf(&b, "\nnearest is, on line %d: %s", e.NearestLine, e.Nearest)
	case e.Nearest != "":
		fmt.Fprintf(&b, "\nnearest is: %s", e.Nearest)
	}
	return b.String()
}

// cut shortens s to n characters, the last of which is then "…". What is no
// UTF-8 and what would move a terminal's cursor is replaced.
func cut(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return strings.TrimRight(string([]rune(s)[:n-1]), " ") + "…"
}

// quote is s as it is, cut, between quotes.
func quote(s string, n int) string { return `"` + cut(s, n) + `"` }

// lineList is "lines 3, 7 and 12", cut where it grows long.
func lineList(lines []int) string {
	const most = 5
	var b strings.Builder
	for i, l := range lines {
		switch {
		case i == most:
			fmt.Fprintf(&b, " and %d more", len(lines)-most)
			return "lines " + b.String()
		case i > 0 && i == len(lines)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		fmt.Fprint(&b, l)
	}
	return "lines " + b.String()
}
