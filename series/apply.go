package series

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"patchgen/ktree"
)

// Limits of what is read as patches.
const (
	maxPatches = 10_000
	maxPatch   = 64 << 20 // bytes of all files together
)

// An ApplyError says which part of which patch does not apply.
type ApplyError struct {
	Patch string // name of its mail
	File  string // in the tree, "" if the patch cannot be read at all
	Hunk  int    // counted from 1 in that file, 0 if it is none of them
	Err   error
}

func (e *ApplyError) Error() string {
	s := "patch " + e.Patch
	if e.File != "" {
		s += ": " + e.File
	}
	if e.Hunk > 0 {
		s += fmt.Sprintf(": hunk %d", e.Hunk)
	}
	return s + ": " + e.Err.Error()
}

func (e *ApplyError) Unwrap() error { return e.Err }

// ErrNoDiff says that no patch changes anything.
var ErrNoDiff = errors.New("there is no diff in these patches")

// ReadPatches reads what git format-patch or Write wrote: the files *.patch of
// a folder in the order of their names, or *.eml, as b4 names them, if there are
// no others; or one file, which may be an mbox. Of an mbox the mails are named
// FILE#1 and so on.
func ReadPatches(name string) ([]Mail, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	files := []string{name}
	if st.IsDir() {
		entries, err := os.ReadDir(name) // sorted
		if err != nil {
			return nil, err
		}
		files = nil
		for _, ending := range []string{".patch", ".eml"} {
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), ending) {
					files = append(files, filepath.Join(name, e.Name()))
				}
			}
			if files != nil {
				break
			}
		}
		if files == nil {
			return nil, fmt.Errorf("%s has no file *.patch or *.eml: %w", name, fs.ErrNotExist)
		}
	}
	var mails []Mail
	var size int64
	for _, file := range files {
		st, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		if !st.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a regular file", file)
		}
		if size += st.Size(); size > maxPatch || len(files) > maxPatches {
			return nil, fmt.Errorf("%s: over %d MiB of patches, or %d of them", name, maxPatch>>20, maxPatches)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		parts := splitMBox(data)
		for i, part := range parts {
			m := Mail{Name: filepath.Base(file), Data: part}
			if len(parts) > 1 {
				m.Name += fmt.Sprintf("#%d", i+1)
			}
			mails = append(mails, m)
		}
	}
	return mails, nil
}

// The line that git format-patch begins a mail with: log-tree.c,
// log_write_email_headers().
var mboxStart = regexp.MustCompile(`(?m)^From [0-9a-f]{40,64} Mon Sep 17 00:00:00 2001$`)

func splitMBox(data []byte) [][]byte {
	starts := mboxStart.FindAllIndex(data, maxPatches+1)
	var parts [][]byte
	last := 0
	for i, s := range starts {
		if i > 0 {
			parts = append(parts, data[last:s[0]])
			last = s[0]
		}
	}
	return append(parts, data[last:])
}

// Apply applies patches one after the other to the files of a tree, which
// stays as it is, and returns what they change all together, sorted by path.
// A hunk must stand with all of its context at the line that it names or, as for
// git am, at another, if that is the only one; there is no fuzz. Mails without a
// diff, such as cover letters, are passed over, and a new file's mode is not
// told. The error is an *ApplyError or ErrNoDiff.
func Apply(tree *ktree.Tree, mails []Mail) ([]Change, error) {
	a := applier{tree: tree, files: make(map[string]*Change)}
	diffs := 0
	for _, m := range mails {
		n, err := a.mail(m)
		if err != nil {
			return nil, err
		}
		diffs += n
	}
	if diffs == 0 {
		return nil, ErrNoDiff
	}
	var changes []Change
	for _, c := range a.files {
		if Differ(c.Before, c.After) { // one patch may undo what another did
			changes = append(changes, *c)
		}
	}
	sortByPath(changes)
	return changes, nil
}

// Steps is Apply with what each mail changes of what those before it leave, in their
// order. A mail without a diff changes nothing.
func Steps(tree *ktree.Tree, mails []Mail) ([][]Change, error) {
	a := applier{tree: tree, files: make(map[string]*Change)}
	var steps [][]Change
	for _, m := range mails {
		before := make(map[string][]byte)
		for name, c := range a.files {
			before[name] = c.After
		}
		if _, err := a.mail(m); err != nil {
			return nil, err
		}
		var changes []Change
		for name, c := range a.files {
			step := Change{Path: name, Before: c.Before, After: c.After}
			if data, touched := before[name]; touched {
				step.Before = data
			}
			if Differ(step.Before, step.After) {
				changes = append(changes, step)
			}
		}
		sortByPath(changes)
		steps = append(steps, changes)
	}
	return steps, nil
}

func sortByPath(changes []Change) {
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
}

// mail applies the diffs of a mail, and returns how many there are.
func (a *applier) mail(m Mail) (int, error) {
	files, _, err := gitdiff.Parse(bytes.NewReader(m.Data))
	if err != nil {
		return 0, &ApplyError{Patch: m.Name, Err: err}
	}
	for _, f := range files {
		if err := a.apply(f); err != nil {
			e := &ApplyError{Patch: m.Name, File: f.NewName, Err: err}
			if f.NewName == "" {
				e.File = f.OldName
			}
			if at := (*gitdiff.ApplyError)(nil); errors.As(err, &at) {
				e.Hunk = at.Fragment
				if errors.Is(err, &gitdiff.Conflict{}) && at.Fragment > 0 && at.Fragment <= len(f.TextFragments) {
					e.Err = fmt.Errorf("the tree does not have its lines at line %d: %w", f.TextFragments[at.Fragment-1].OldPosition, err)
				}
			}
			return 0, e
		}
	}
	return len(files), nil
}

// An applier has the files that patches touched, as they leave them.
type applier struct {
	tree  *ktree.Tree
	files map[string]*Change
}

// file returns a file as the patches so far leave it.
func (a *applier) file(name string) (*Change, error) {
	if c := a.files[name]; c != nil {
		return c, nil
	}
	if !filepath.IsLocal(name) || name == ".git" || strings.HasPrefix(name, ".git/") {
		return nil, fmt.Errorf("%q is no path of a file in a source tree", name)
	}
	c := &Change{Path: name}
	data, err := a.tree.ReadFile(name)
	switch {
	case err == nil:
		c.Before, c.After = notNil(data), notNil(data)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	a.files[name] = c
	return c, nil
}

// notNil tells an empty file from none.
func notNil(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

func (a *applier) apply(f *gitdiff.File) error {
	const plain, executable = os.FileMode(0o100644), os.FileMode(0o100755)
	switch {
	case f.IsBinary:
		return errors.New("it is a binary diff, which patchgen does not apply")
	case f.IsCopy:
		return errors.New("it copies a file: format the patches again without -C")
	case f.IsNew && f.NewMode != plain && f.NewMode != executable:
		return fmt.Errorf("it makes a file of mode %o, which is no regular file", f.NewMode)
	case !f.IsNew && !f.IsDelete && f.NewMode != 0 && f.NewMode != f.OldMode:
		return fmt.Errorf("it changes the mode from %o to %o, which patchgen does not", f.OldMode, f.NewMode)
	}
	var from, to *Change
	var err error
	if !f.IsNew {
		if from, err = a.file(f.OldName); err != nil {
			return err
		}
		if from.After == nil {
			return fmt.Errorf("the tree has no file %s", f.OldName)
		}
	}
	if !f.IsDelete {
		if to, err = a.file(f.NewName); err != nil {
			return err
		}
		if (f.IsNew || f.IsRename) && to.After != nil {
			return fmt.Errorf("the tree has a file %s already", f.NewName)
		}
	}
	var before []byte
	if from != nil {
		before = from.After
	}
	move(f.TextFragments, before)
	after := bytes.NewBuffer([]byte{})
	if err := gitdiff.Apply(after, bytes.NewReader(before), f); err != nil {
		return err
	}
	if f.IsDelete && after.Len() > 0 {
		return errors.New("it deletes a file of which something would be left")
	}
	if f.IsDelete || f.IsRename {
		from.After = nil
	}
	if to != nil {
		to.After = notNil(after.Bytes())
	}
	return nil
}

// move sets the hunks that do not stand at their lines to where they do, if that
// is a single place behind the hunk before.
func move(hunks []*gitdiff.TextFragment, src []byte) {
	lines := slices.Collect(bytes.Lines(src))
	stands := func(want []gitdiff.Line, at int64) bool {
		if at < 0 || at+int64(len(want)) > int64(len(lines)) {
			return false
		}
		for i, w := range want {
			if w.Line != string(lines[at+int64(i)]) {
				return false
			}
		}
		return true
	}
	var end, shift int64 // of the hunk before: the line behind it, and by how far it was moved
	for _, h := range hunks {
		var old []gitdiff.Line
		for _, l := range h.Lines {
			if l.Old() {
				old = append(old, l)
			}
		}
		if len(old) == 0 {
			return
		}
		at := h.OldPosition - 1
		if shift != 0 || !stands(old, at) {
			var found []int64
			for i := end; i < int64(len(lines)) && len(found) < 2; i++ {
				if stands(old, i) {
					found = append(found, i)
				}
			}
			if len(found) != 1 {
				return // to be refused at its line
			}
			at = found[0]
		}
		shift = at - (h.OldPosition - 1)
		h.OldPosition, h.NewPosition = h.OldPosition+shift, h.NewPosition+shift
		end = at + int64(len(old))
	}
}

// Changes returns what the patches change all together, sorted by path.
func (s *Series) Changes() []Change {
	at := make(map[string]int)
	var all []Change
	for _, p := range s.Patches {
		for _, c := range p.Changes {
			if i, ok := at[c.Path]; ok {
				all[i].After = c.After
				continue
			}
			at[c.Path] = len(all)
			all = append(all, c)
		}
	}
	sortByPath(all)
	return all
}

var (
	kconfigEntry  = regexp.MustCompile(`^(?:menu)?config\s+(\w+)\s*$`)
	kconfigPrompt = regexp.MustCompile(`^\s+(?:(bool|tristate)\s+"|(?:prompt\s+"))`)
	kconfigBool   = regexp.MustCompile(`^\s+(?:def_)?(?:bool|tristate)\b`)
)

// Symbols returns the Kconfig symbols that the changes bring for x86 and that
// one can switch on: without CONFIG_, sorted. Numbers and texts are not among
// them, nor what has no prompt.
func Symbols(changes []Change) []string {
	var fresh []string
	for _, c := range changes {
		if !strings.HasPrefix(filepath.Base(c.Path), "Kconfig") ||
			strings.HasPrefix(c.Path, "arch/") && !strings.HasPrefix(c.Path, "arch/x86/") {
			continue
		}
		before := switches(c.Before)
		for symbol, can := range switches(c.After) {
			if _, old := before[symbol]; can && !old {
				fresh = append(fresh, symbol)
			}
		}
	}
	slices.Sort(fresh)
	return slices.Compact(fresh)
}

// switches returns the symbols of a Kconfig file, and whether each is a bool
// or tristate with a prompt.
func switches(src []byte) map[string]bool {
	found := make(map[string]bool)
	symbol, isBool, prompt, help := "", false, false, false
	for line := range strings.Lines(string(src)) {
		line = strings.TrimRight(line, "\n")
		if m := kconfigEntry.FindStringSubmatch(line); m != nil {
			symbol, isBool, prompt, help = m[1], false, false, false
			found[symbol] = found[symbol] || false
			continue
		}
		if line != "" && line[0] != ' ' && line[0] != '\t' && line[0] != '#' {
			symbol = "" // another kind of entry
		}
		if symbol == "" || help {
			continue
		}
		help = strings.TrimSpace(line) == "help"
		isBool = isBool || kconfigBool.MatchString(line)
		prompt = prompt || kconfigPrompt.MatchString(line)
		found[symbol] = found[symbol] || isBool && prompt
	}
	return found
}
