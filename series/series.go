// Package series is a patch series as a value, and its ways out: git commits
// and git's own patch mail.
package series

import (
	"bytes"

	"patchgen/edit"
	"patchgen/ktree"
)

// A Series is a list of patches to one tree, each standing on the one before.
type Series struct {
	Name  string // of the template folder, such as "dma-mark-dirty"
	Title string // subject of the cover letter, one line
	Blurb string // text of the cover letter, wrapped at 75, no trailing newline

	Patches []Patch

	Kind       ktree.Kind // of the tree
	Generation string     // of the tree's code, as the templates name it
	Release    string     // of the tree, such as "6.12.117"
	Origin     string     // of the tree, for people
	BaseCommit string     // 40 hex digits; "" for a tree that is in no repository
	Attributes []byte     // the tree's own .gitattributes; nil if it has none
}

// A Patch is one commit of a series.
type Patch struct {
	Subject string // one line
	Body    string // wrapped at 75, no trailing newline
	Changes []Change
	Edits   []PlacedEdit
}

// A Change is what a patch does to one file, as its whole contents before and
// after. Before is nil for a new file and not nil, though it may be empty, for
// one that is there; After is nil for a deleted file, which only Apply makes.
type Change struct {
	Path          string // slash-separated, relative to the root of the tree
	Before, After []byte
}

// Differ compares contents of a file, nil being those of none.
func Differ(a, b []byte) bool { return (a == nil) != (b == nil) || !bytes.Equal(a, b) }

// A PlacedEdit tells where one edit of a patch went.
type PlacedEdit struct {
	File     string
	Function string // "" where the file is not C
	edit.Place
}
