//go:build kernel

package kerneltest

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"patchgen/kbuild"
	"patchgen/kconfig"
)

// compile compiles what the patches touch, after each of them and with the
// option off and on, and compares the warnings with those of the tree before.
func (s *series) compile(t *testing.T) {
	s.checkout(t, s.base)
	off, on := s.newCompiler(t, "off", with()), s.newCompiler(t, "on", with())
	for i, commit := range s.commits[1:] {
		t.Run(fmt.Sprintf("%04d", i+1), func(t *testing.T) {
			s.checkout(t, commit)
			if err := off.next(t, commit); err != nil {
				t.Errorf("option off: %v", err)
			}
			s.turnOn(t, on.config)
			if err := on.next(t, commit); err != nil {
				t.Errorf("option on: %v", err)
			}
		})
	}
	// All that the series brings was compiled, or the above says nothing.
	for _, file := range s.changed(t, s.base, s.commits[len(s.commits)-1], ".c") {
		if !on.has(file) {
			t.Errorf("%s was not compiled", file)
		}
	}
	if on.config[tests] != "y" {
		t.Errorf("the series has no CONFIG_%s", tests)
	}
}

// turnOn adds the series' symbols to a configuration, as far as what stands in
// src has entries for them.
func (w *work) turnOn(t *testing.T, c kconfig.Config) {
	for _, symbol := range []string{option, tests} {
		cmd := w.command(t, w.src(), nil, "git", "grep", "-q", "^config "+symbol+"$", "--", "arch/x86/Kconfig*", "kernel/dma/Kconfig*", "lib/Kconfig*")
		if cmd.Run() == nil {
			c[symbol] = "y"
		}
	}
}

// changed returns the files with that ending that differ between two commits
// and are there in the second.
func (w *work) changed(t *testing.T, from, to, ending string) []string {
	var files []string
	for _, file := range strings.Fields(w.git(t, "diff", "--name-only", "--diff-filter=d", from, to)) {
		if strings.HasSuffix(file, ending) {
			files = append(files, file)
		}
	}
	return files
}

// Where the users of the DMA API's headers are that a series may touch.
var folders = []string{"kernel/dma/", "drivers/xen/"}

// A compiler compiles a tree again and again, as it is changed.
type compiler struct {
	*work
	*kbuild.Build
	config kconfig.Config
	at     string           // the commit compiled last
	known  []kbuild.Warning // those of the tree before any change
}

// newCompiler compiles the folders whole, for what they warn of.
func (w *work) newCompiler(t *testing.T, name string, config kconfig.Config) *compiler {
	c := &compiler{work: w, Build: w.builder(name), config: config, at: w.base}
	if err := c.Configure(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if err := os.RemoveAll(filepath.Join(c.Output, folder)); err != nil {
			t.Fatal(err)
		}
	}
	known, err := c.Check(t.Context(), folders...)
	if err != nil {
		t.Fatal(err)
	}
	say("  %s: %d warnings in %s before any patch", name, len(known), strings.Join(folders, " and "))
	c.known = known
	return c
}

// next compiles what is out of date after a commit: what the kernel's own
// make finds to depend on the files that it touched.
func (c *compiler) next(t *testing.T, commit string) error {
	if err := c.Configure(t.Context(), c.config); err != nil {
		return err
	}
	warnings, err := c.Check(t.Context(), folders...)
	if err != nil {
		return err
	}
	for _, file := range c.changed(t, c.at, commit, ".c") {
		if !slices.Contains(folders, path.Dir(file)+"/") {
			return fmt.Errorf("%s is in none of the folders that are compiled", file)
		}
	}
	c.at = commit
	if fresh := kbuild.New(c.known, warnings); fresh != nil {
		var b strings.Builder
		for _, w := range fresh {
			fmt.Fprintf(&b, "\n\t%v", w)
		}
		return fmt.Errorf("%d new warnings:%s", len(fresh), b.String())
	}
	return nil
}

func (c *compiler) has(file string) bool {
	_, err := os.Stat(filepath.Join(c.Output, strings.TrimSuffix(file, ".c")+".o"))
	return err == nil
}
