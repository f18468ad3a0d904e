//go:build kernel

package kerneltest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"patchgen/kbuild"
	"patchgen/kconfig"
	"patchgen/ktree"
	rendered "patchgen/series"
	"patchgen/templates"
)

// TestKernels compiles the reference trees as patchgen build does, and holds
// the bytes of what was compiled step by step against a build from nothing.
func TestKernels(t *testing.T) {
	set, err := templates.Load("dma-mark-dirty")
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range specs() {
		t.Run(spec, func(t *testing.T) {
			tree := openTree(t, spec)
			s, err := rendered.Render(tree, set, "full", rendered.RenderOptions{})
			if err != nil {
				t.Fatal(err)
			}
			changes, o := s.Changes(), kbuild.Options{Progress: &lines{}}
			unpatched, patched := kernels(t, tree, changes, o)
			if bytes.Equal(read(t, unpatched.BzImage), read(t, patched.BzImage)) {
				t.Error("the patches make no difference")
			}

			start := time.Now()
			if a, b := kernels(t, tree, changes, o); !a.Cached || !b.Cached {
				t.Error("compiled again")
			}
			say("%s: both from the cache: %v", spec, time.Since(start).Round(time.Millisecond))

			// Back from the patched tree, and there again.
			before, after := read(t, unpatched.BzImage), read(t, patched.BzImage)
			for _, k := range []kbuild.Kernel{unpatched, patched} {
				if err := os.RemoveAll(filepath.Dir(k.BzImage)); err != nil {
					t.Fatal(err)
				}
			}
			unpatched, patched = kernels(t, tree, changes, o)
			if unpatched.Cached || patched.Cached || !bytes.Equal(before, read(t, unpatched.BzImage)) || !bytes.Equal(after, read(t, patched.BzImage)) {
				t.Error("going from one to the other and back makes other bytes")
			}
			say("%s: incremental builds: %v and %v", spec, unpatched.Took.Round(time.Second), patched.Took.Round(time.Second))

			// From nothing, in another place, and from a person's folder.
			if tree.Dir() == "" {
				return
			}
			dir := filepath.Join(t.TempDir(), "my-linux")
			if err := os.CopyFS(dir, os.DirFS(tree.Dir())); err != nil {
				t.Fatal(err)
			}
			if err := filepath.WalkDir(tree.Dir(), func(name string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				rel, err := filepath.Rel(tree.Dir(), name)
				info, err2 := d.Info()
				if err := errors.Join(err, err2); err != nil {
					return err
				}
				return os.Chmod(filepath.Join(dir, rel), info.Mode())
			}); err != nil {
				t.Fatal(err)
			}
			for _, c := range changes {
				name := filepath.Join(dir, c.Path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, c.After, 0o666)); err != nil {
					t.Fatal(err)
				}
			}
			config := kconfig.Config{}
			for _, symbol := range rendered.Symbols(changes) {
				config[symbol] = "y"
			}
			clean, _ := kernels(t, openTree(t, dir), nil, kbuild.Options{Cache: t.TempDir(), Progress: &lines{}, Config: config})
			if clean.Cached {
				t.Error("not compiled")
			}
			if !bytes.Equal(after, read(t, clean.BzImage)) {
				t.Errorf("%s and %s differ, the one compiled step by step, the other from nothing elsewhere", patched.BzImage, clean.BzImage)
			}
		})
	}
}

func openTree(t *testing.T, spec string) *ktree.Tree {
	t.Helper()
	tree, err := ktree.Open(t.Context(), spec, ktree.Options{Progress: &lines{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

func kernels(t *testing.T, tree *ktree.Tree, changes []rendered.Change, o kbuild.Options) (unpatched, patched kbuild.Kernel) {
	t.Helper()
	unpatched, patched, err := kbuild.Kernels(t.Context(), tree, changes, o)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]kbuild.Kernel{"unpatched": unpatched, "patched": patched} {
		t.Logf("%s: %v, cached %t, %s", name, k.Took.Round(time.Second/100), k.Cached, k.Key)
	}
	return unpatched, patched
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
