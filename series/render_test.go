package series

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/edit"
	"patchgen/ktree"
	"patchgen/templates"
)

// standIn opens testdata/linux, a stand-in for a tree of generation G, after
// change has edited a copy of it.
func standIn(t testing.TB, change func(dir string)) *ktree.Tree {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "linux")
	if err := os.CopyFS(dir, os.DirFS("testdata/linux")); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(dir)
	}
	tree, err := ktree.Open(context.Background(), dir, ktree.Options{Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

func render(t testing.TB, tree *ktree.Tree) (*Series, error) {
	t.Helper()
	set, err := templates.Load("dma-mark-dirty")
	if err != nil {
		t.Fatal(err)
	}
	return Render(tree, set, "full", RenderOptions{Tool: "patchgen test", Call: "test"})
}

// substitute edits a file of a copied tree; what it replaces must be there.
func substitute(t testing.TB, file, old, new string) func(string) {
	return func(dir string) {
		t.Helper()
		name := filepath.Join(dir, file)
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), old) {
			t.Fatalf("%s does not have %q", file, old)
		}
		if err := os.WriteFile(name, []byte(strings.ReplaceAll(string(text), old, new)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRender(t *testing.T) {
	s, err := render(t, standIn(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Patches) != 8 || s.Generation != "G" || s.Release != "6.12.0-test" {
		t.Errorf("%d patches, generation %s, release %s", len(s.Patches), s.Generation, s.Release)
	}
	if strings.Contains(s.Blurb, s.Origin) || !strings.Contains(s.Blurb, "(linux)") {
		t.Errorf("the cover letter tells where the tree lies: %s", s.Blurb)
	}
	after := make(map[string]string)
	for _, p := range s.Patches {
		for _, c := range p.Changes {
			if before, ok := after[c.Path]; ok && before != string(c.Before) {
				t.Errorf("%s: %s does not begin where the patch before ended", p.Subject, c.Path)
			}
			after[c.Path] = string(c.After)
		}
		for _, line := range strings.Split(p.Body, "\n") {
			if len(line) > bodyWidth {
				t.Errorf("%s: %d columns: %s", p.Subject, len(line), line)
			}
		}
		if len(p.Subject) > bodyWidth {
			t.Errorf("subject of %d columns: %s", len(p.Subject), p.Subject)
		}
	}
	for name, text := range after {
		if strings.Contains(text, "{{") || strings.Contains(text, "<no value>") {
			t.Errorf("%s was not rendered whole", name)
		}
	}
	// The three places on the way of a buffer back to the CPU.
	for _, want := range []string{
		"\tswiotlb_sync_single_for_cpu(dev, paddr, size, dir);\n\n\tdma_mark_dirty(dev, paddr, size, dir);\n}",
		"\t\tdma_direct_sync_single_for_cpu(dev, addr, size, dir);\n\telse\n\t\tdma_mark_dirty(dev, phys, size, dir);\n",
	} {
		if !strings.Contains(after["kernel/dma/direct.h"], want) {
			t.Errorf("direct.h lacks %q", want)
		}
	}
}

// Only what is tested or edited is opened. The new files are looked for, to see
// that they are not there.
func TestRenderReads(t *testing.T) {
	tree := standIn(t, nil)
	if _, err := render(t, tree); err != nil {
		t.Fatal(err)
	}
	want := []string{
		".gitattributes",
		"Documentation/PCI/index.rst",
		"Documentation/admin-guide/kernel-parameters.txt",
		"Documentation/core-api/dma-attributes.rst",
		"Documentation/core-api/index.rst",
		"MAINTAINERS",
		"Makefile",
		"arch/x86/Kconfig",
		"arch/x86/include/asm/alternative.h",
		"drivers/pci/Kconfig",
		"drivers/pci/Makefile",
		"drivers/xen/swiotlb-xen.c",
		"include/kunit/device.h",
		"include/kunit/test.h",
		"include/linux/dma-map-ops.h",
		"include/linux/dma-mapping.h",
		"include/linux/swiotlb.h",
		"kernel/dma/Kconfig",
		"kernel/dma/Makefile",
		"kernel/dma/direct.c",
		"kernel/dma/direct.h",
		"kernel/dma/mapping.c",
		"lib/kunit/executor.c",
		"tools/testing/kunit/kunit.py",
	}
	if diff := cmp.Diff(want, tree.Read()); diff != "" {
		t.Errorf("files read (-want +got):\n%s", diff)
	}
}

func TestRenderRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(string)
		kind   edit.Kind
		file   string
	}{
		{"a condition before the landmark",
			substitute(t, "kernel/dma/direct.h", "\tswiotlb_sync", "\tif (vendor)\n\t\tswiotlb_sync"), edit.WrongSurroundings, "kernel/dma/direct.h"},
		{"the landmark twice",
			substitute(t, "kernel/dma/direct.h", "\tswiotlb_sync_single_for_cpu(dev, paddr, size, dir);\n",
				strings.Repeat("\tswiotlb_sync_single_for_cpu(dev, paddr, size, dir);\n", 2)), edit.AmbiguousLandmark, "kernel/dma/direct.h"},
		{"another loop",
			substitute(t, "kernel/dma/direct.c", "for_each_sg(sgl, sg, nents, i)", "for_each_sgtable_sg(sgl, sg, i)"), edit.WrongSurroundings, "kernel/dma/direct.c"},
		{"a function renamed",
			substitute(t, "kernel/dma/direct.c", "dma_direct_need_sync", "dma_direct_needs_sync"), edit.NoFunction, "kernel/dma/direct.c"},
		{"the menu renamed",
			substitute(t, "arch/x86/Kconfig", "Processor type", "Processor kind"), edit.NoLandmark, "arch/x86/Kconfig"},
		{"a file gone",
			func(dir string) { os.Remove(filepath.Join(dir, "kernel/dma/Makefile")) }, edit.NoLandmark, "kernel/dma/Makefile"},
		{"a file of the series there",
			func(dir string) { os.WriteFile(filepath.Join(dir, "kernel/dma/mark_dirty.c"), nil, 0o644) }, edit.AlreadyThere, "kernel/dma/mark_dirty.c"},
		{"the symbol there",
			substitute(t, "arch/x86/Kconfig", "config INSIDE", "config SWIOTLB_PAGE_DIRTYING"), edit.AlreadyThere, "arch/x86/Kconfig"},
		{"conflict marks",
			substitute(t, "kernel/dma/direct.c", "#include \"direct.h\"", "<<<<<<< HEAD\n#include \"direct.h\""), edit.ConflictMarks, "kernel/dma/direct.c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := render(t, standIn(t, tt.change))
			var e *edit.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, %v; want an *edit.Error", s, err)
			}
			if e.Kind != tt.kind || e.File != tt.file {
				t.Errorf("got %s in %s, want %s in %s: %v", e.Kind, e.File, tt.kind, tt.file, err)
			}
		})
	}
	t.Run("no known generation", func(t *testing.T) {
		_, err := render(t, standIn(t, substitute(t, "kernel/dma/direct.h", "dma_direct_unmap_page", "dma_direct_unmap_folio")))
		var e *ktree.UnknownError
		if !errors.As(err, &e) {
			t.Errorf("got %v, want a *ktree.UnknownError", err)
		}
	})
}

// BenchmarkRender renders the series for the stand-in, and says how many files
// of the tree that takes.
func BenchmarkRender(b *testing.B) {
	tree := standIn(b, nil)
	for b.Loop() {
		if _, err := render(b, tree); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(tree.Read())), "files")
}
