//go:build kernel

package kerneltest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"patchgen/kbuild"
	"patchgen/kconfig"
	patches "patchgen/series"
)

// compile compiles what the patches touch, after each of them and with the
// options off and on, and compares the warnings with those of the tree before.
func (s *series) compile(t *testing.T) {
	checked := s.check(t)
	last := len(checked.Patches) - 1
	for i, p := range checked.Patches {
		t.Run(fmt.Sprintf("%04d", i+1), func(t *testing.T) {
			for name, build := range map[string]*kbuild.CheckedBuild{"off": &p.Off, "on": p.On} {
				if build == nil {
					t.Errorf("there are no options to turn %s", name)
				} else if err := blame(*build); err != nil {
					t.Errorf("options %s: %v", name, err)
				} else if name == "on" && build.NotCompiled != nil {
					// All that the series brings must be compiled, or this says nothing.
					t.Errorf("options on: %v were not compiled", build.NotCompiled)
				}
			}
		})
	}
	if got := checked.Patches[last].Symbols; !slices.Equal(got, []string{tests, pciOption, pciTests, option}) {
		t.Errorf("the series has the options %v", got)
	}
}

// check has patchgen compile the commits.
func (s *series) check(t *testing.T) *kbuild.Checked {
	t.Helper()
	var changes [][]patches.Change
	for i, commit := range s.commits[1:] {
		changes = append(changes, s.changes(t, s.commits[i], commit))
	}
	checked, err := kbuild.CheckPatches(t.Context(), openTree(t, s.spec), changes, kbuild.Options{Progress: &lines{}})
	if err != nil {
		t.Fatal(err)
	}
	say("  %d warnings in %s before any patch; %s, sparse %s",
		len(checked.Base), strings.Join(checked.Folders, " and "), checked.Compiler, checked.Sparse)
	return checked
}

// changes returns what one commit is to another, as git has it.
func (w *work) changes(t *testing.T, from, to string) []patches.Change {
	t.Helper()
	var changes []patches.Change
	for name := range strings.FieldsSeq(w.git(t, "diff", "--name-only", "--no-renames", from, to)) {
		changes = append(changes, patches.Change{Path: name, Before: w.blob(t, from, name), After: w.blob(t, to, name)})
	}
	return changes
}

// blob returns a file's contents, nil if the commit has no such file.
func (w *work) blob(t *testing.T, commit, name string) []byte {
	t.Helper()
	if w.git(t, "ls-tree", commit, "--", name) == "" {
		return nil
	}
	out, err := w.command(t, w.src(), nil, "git", "cat-file", "blob", commit+":"+name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{}, out...)
}

// blame returns what is wrong with a patch.
func blame(b kbuild.CheckedBuild) error {
	switch {
	case b.Err != nil:
		return b.Err
	case b.Lost != nil:
		return b.Lost
	case b.New != nil:
		var list strings.Builder
		for _, w := range b.New {
			fmt.Fprintf(&list, "\n\t%v", w)
		}
		return fmt.Errorf("%d new warnings:%s", len(b.New), list.String())
	}
	return nil
}

// turnOn adds the series' symbols to a configuration, as far as what stands in
// src has entries for them.
func (w *work) turnOn(t *testing.T, c kconfig.Config) {
	for _, symbol := range []string{option, tests, pciOption, pciTests} {
		cmd := w.command(t, w.src(), nil, "git", "grep", "-q", "^config "+symbol+"$", "--", "arch/x86/Kconfig*", "drivers/pci/Kconfig", "kernel/dma/Kconfig*", "lib/Kconfig*")
		if cmd.Run() == nil {
			c[symbol] = "y"
		}
	}
}
