package patchmail

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"patchgen/series"
)

// Limits of Sparse: a hostile hunk may begin at any line.
const (
	maxSparseLine = 1 << 20 // number of the last line of a file
	maxSparse     = 1 << 22 // lines of all files together
)

// Sparse returns the patches for files of which only those lines are known that
// stand in the patches; each other line is a stand-in that is like no other. It is
// enough to have git compare the series with another one (git: range-diff.c, which
// looks at diffs and messages alone), when the tree of that day is gone.
func (s *Series) Sparse() ([]series.Patch, error) {
	p := sparse{files: make(map[string]*sparseFile)}
	for _, m := range s.Patches {
		if m.DiffError != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, m.DiffError)
		}
		for _, f := range m.Files {
			if err := p.learn(f); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", m.Name, f.NewName, err)
			}
		}
	}
	// Now that all lines are known, the same again for what they give.
	now := make(map[string][]byte)
	var patches []series.Patch
	for _, m := range s.Patches {
		patch := series.Patch{Subject: m.Title, Body: m.Message}
		for _, f := range m.Files {
			c := series.Change{Path: f.NewName}
			if !f.IsNew {
				var ok bool
				if c.Before, ok = now[f.NewName]; !ok {
					c.Before = p.files[f.NewName].text()
				}
			}
			var after bytes.Buffer
			if err := gitdiff.Apply(&after, bytes.NewReader(c.Before), f); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", m.Name, f.NewName, err)
			}
			c.After = after.Bytes()
			now[f.NewName] = c.After
			patch.Changes = append(patch.Changes, c)
		}
		patches = append(patches, patch)
	}
	return patches, nil
}

type sparse struct {
	files map[string]*sparseFile
	lines int
}

// A sparseLine is one line of a file, "" while it is not known.
type sparseLine struct{ text string }

// A sparseFile has the lines before all patches, and after those read so far:
// the same lines, but for those added and removed.
type sparseFile struct{ base, now []*sparseLine }

// learn takes the lines that a diff tells.
func (p *sparse) learn(f *gitdiff.File) error {
	if f.IsBinary || f.IsCopy || f.IsRename || f.IsDelete {
		return errors.New("only changes of text and new files can be compared")
	}
	file := p.files[f.NewName]
	switch {
	case f.IsNew && file != nil:
		return errors.New("it is made twice")
	case file == nil:
		file = &sparseFile{}
		p.files[f.NewName] = file
	}
	shift := int64(0) // of lines by the hunks before
	for _, h := range f.TextFragments {
		at := h.OldPosition + shift
		if h.OldLines > 0 {
			at--
		}
		if at < 0 || at+h.OldLines > maxSparseLine {
			return fmt.Errorf("there is a hunk at line %d", h.OldPosition)
		}
		for int64(len(file.now)) < at+h.OldLines {
			line := &sparseLine{}
			file.base, file.now = append(file.base, line), append(file.now, line)
			if p.lines++; p.lines > maxSparse {
				return errors.New("the files are too long")
			}
		}
		// git finds the heading of a hunk above it.
		if h.Comment != "" {
			for i := at - 1; i >= 0 && i >= at-4; i-- {
				if file.now[i].text == "" {
					file.now[i].text = h.Comment + "\n"
					break
				}
			}
		}
		var now []*sparseLine
		old := file.now[at : at+h.OldLines]
		for _, l := range h.Lines {
			if l.Op == gitdiff.OpAdd {
				now = append(now, &sparseLine{l.Line})
				continue
			}
			if len(old) == 0 {
				return errors.New("a hunk has more lines than it says")
			}
			old[0].text = l.Line
			if l.Op == gitdiff.OpContext {
				now = append(now, old[0])
			}
			old = old[1:]
		}
		tail := file.now[at+h.OldLines:]
		file.now = append(append(file.now[:at:at], now...), tail...)
		shift += h.NewLines - h.OldLines
	}
	return nil
}

// text is the file before all patches.
func (f *sparseFile) text() []byte {
	var b strings.Builder
	for i, l := range f.base {
		if l.text == "" {
			fmt.Fprintf(&b, "\t\x01%d\n", i+1)
		}
		b.WriteString(l.text)
	}
	return []byte(b.String())
}
