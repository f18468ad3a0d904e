package qemubuild

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"patchgen/ktree"
	"patchgen/series"
	"patchgen/workshop"
)

// A Checked is what compiling after each patch of a series showed.
type Checked struct {
	Compiler string // the first line of gcc --version
	Target   string // what was made each time
	Patches  []PatchCheck
}

// A PatchCheck is about the tree as one patch leaves it.
type PatchCheck struct {
	Compiled []string // the C files that it touches, sorted; nil if Err is not
	New      []string // what the compiler warned of in files that the series touches, without line numbers, sorted
	Err      *Error   // it does not compile
}

// CheckPatches compiles QEMU, and the qtests that the series adds, after each patch.
// The changes of a patch stand on those of the patches before it. A patch that does not
// compile is reported and does not end the work. o.Check is of no account.
func CheckPatches(ctx context.Context, tree *ktree.Tree, patches [][]series.Change, o Options) (*Checked, error) {
	w, err := newWorkspace(ctx, tree, o)
	if err != nil {
		return nil, err
	}
	unlock, err := w.open(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	gcc := exec.CommandContext(ctx, "gcc", "--version")
	gcc.Env = environment()
	version, err := gcc.Output()
	if err != nil {
		return nil, fmt.Errorf("gcc --version: %w", err)
	}
	c := &Checked{Target: binary}
	c.Compiler, _, _ = strings.Cut(string(version), "\n")
	from, err := w.source.List(ctx)
	if err != nil {
		return nil, err
	}
	if err := complete(tree, from); err != nil {
		return nil, err
	}
	var first []series.Change // of each file that is touched so far
	contents := make(map[string][]byte)
	for i, patch := range patches {
		p := PatchCheck{}
		for _, change := range patch {
			was, touched := contents[change.Path]
			if !touched {
				first = append(first, change)
			} else if series.Differ(was, change.Before) {
				return nil, fmt.Errorf("patch %d is for another %s than the patches before it leave", i+1, change.Path)
			}
			contents[change.Path] = change.After
			if strings.HasSuffix(change.Path, ".c") && change.After != nil {
				p.Compiled = append(p.Compiled, change.Path)
			}
		}
		slices.Sort(p.Compiled)
		if err := workshop.Match(tree, first); err != nil {
			return nil, err
		}
		stubs, err := w.stubs(tree, from, contents)
		if err != nil {
			return nil, err
		}
		warnings, err := w.make(ctx, from, overlay(stubs, contents), append([]string{binary}, qtests(first)...))
		if errors.As(err, &p.Err) {
			p.Compiled, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, text := range warnings {
			if file, _, _ := strings.Cut(text, ": "); contents[file] != nil {
				p.New = append(p.New, text)
			}
		}
		c.Patches = append(c.Patches, p)
	}
	return c, nil
}
