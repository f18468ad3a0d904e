package series

import (
	"bytes"
	"fmt"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// Verify proves that the mails, with or without a cover letter before them,
// hold the series: each diff is applied, strictly, to the contents before and
// must give the contents after. An error is a fault of patchgen.
func Verify(s *Series, mails []Mail) error {
	if len(mails) == len(s.Patches)+1 {
		if files, _, err := gitdiff.Parse(bytes.NewReader(mails[0].Data)); err != nil || len(files) > 0 {
			return fmt.Errorf("%s is no cover letter, there are %d diffs in it (%v)", mails[0].Name, len(files), err)
		}
		mails = mails[1:]
	}
	if len(mails) != len(s.Patches) {
		return fmt.Errorf("there are %d mails for %d patches", len(mails), len(s.Patches))
	}
	for i, p := range s.Patches {
		if err := p.verify(mails[i].Data); err != nil {
			return fmt.Errorf("patch %d, %s: %w", i+1, mails[i].Name, err)
		}
	}
	return nil
}

func (p Patch) verify(mail []byte) error {
	files, _, err := gitdiff.Parse(bytes.NewReader(mail))
	if err != nil {
		return err
	}
	diffs := make(map[string]*gitdiff.File)
	for _, f := range files {
		diffs[f.NewName] = f
	}
	if len(files) != len(p.Changes) {
		return fmt.Errorf("there are %d diffs for %d changed files", len(files), len(p.Changes))
	}
	for _, c := range p.Changes {
		f := diffs[c.Path]
		switch {
		case f == nil:
			return fmt.Errorf("%s: there is no diff", c.Path)
		case f.IsNew != (c.Before == nil), f.IsDelete, f.IsCopy, f.IsRename, f.OldMode|f.NewMode != 0o100644:
			return fmt.Errorf("%s: the diff is of another kind", c.Path)
		}
		var after bytes.Buffer
		if err := gitdiff.Apply(&after, bytes.NewReader(c.Before), f); err != nil {
			return fmt.Errorf("%s: %w", c.Path, err)
		}
		if !bytes.Equal(after.Bytes(), c.After) {
			return fmt.Errorf("%s: the diff gives another content", c.Path)
		}
	}
	return nil
}
