//go:build kernel

package kerneltest

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	cfile "patchgen/edit"
	"patchgen/ktree"
	patches "patchgen/series"
	"patchgen/templates"
)

// What makes a mutant one of the tree, told once more and without the manifests.
var inTree = map[string]struct {
	file, text string
	lacks      bool
}{
	"kunit":            {"lib/kunit/executor.c", "kunit_run_all_tests(", false},
	"require_coherent": {"kernel/dma/direct.h", "DMA_ATTR_REQUIRE_COHERENT", false},
	"dma_skip_sync":    {"kernel/dma/mapping.c", "dma_setup_need_sync(struct device *dev)\n{\n", false},
	"device_coherent":  {"include/linux/memremap.h", "is_device_coherent_page(", false},
	"dma_map_ops":      {"kernel/dma/direct.c", "#include <linux/dma-map-ops.h>", false},
	"sync_sg_phys":     {"kernel/dma/direct.c", "is_swiotlb_buffer(sg_phys(sg))", false},
	"swiotlb_ops":      {"arch/x86/kernel/pci-swiotlb.c", ".sync_single_for_cpu", false},
	"syncs_kept":       {"kernel/dma/direct.c", "dma_direct_need_sync(", true},
}

// TestMutantsApply makes each wrong series for the trees. The places see those that
// nothing else can, and nothing in the right one.
func TestMutantsApply(t *testing.T) {
	set, err := templates.Load("dma-mark-dirty")
	if err != nil {
		t.Fatal(err)
	}
	written, err := set.Mutants()
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range specs() {
		t.Run(spec, func(t *testing.T) {
			tree, err := ktree.Open(t.Context(), spec, ktree.Options{Progress: &lines{}})
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			s, err := patches.Render(tree, set, "full", patches.RenderOptions{Tool: "patchgen test", Call: "test"})
			if err != nil {
				t.Fatal(err)
			}
			changes := s.Changes()
			mutants, err := patches.Mutants(tree, set, changes)
			if err != nil {
				t.Fatal(err)
			}

			has := func(file, text string) bool {
				src, err := tree.ReadFile(file)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				return bytes.Contains(src, []byte(text))
			}
			for _, m := range written {
				want := m.Name != "lock-patched-out" || has("arch/x86/include/asm/alternative.h", ".smp_locks")
				for _, w := range m.When {
					in, ok := inTree[strings.TrimPrefix(w, "!")]
					if !ok {
						t.Fatalf("%s: say in inTree how %s is told", m.Name, w)
					}
					want = want && has(in.file, in.text) != in.lacks != strings.HasPrefix(w, "!")
				}
				if got := slices.ContainsFunc(mutants, func(have patches.Mutant) bool { return have.Name == m.Name }); got != want {
					t.Errorf("%s: made %t, want %t", m.Name, got, want)
				}
			}

			broken, err := patches.Misplaced(tree, set, "full", changes)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range broken {
				t.Errorf("the series itself: %v", b)
			}
			for _, m := range mutants {
				if slices.EqualFunc(changes, m.Changes, func(a, b patches.Change) bool { return bytes.Equal(a.After, b.After) }) {
					t.Errorf("%s is the series itself", m.Name)
				}
				broken, err := patches.Misplaced(tree, set, "full", m.Changes)
				if err != nil {
					t.Errorf("%s: %v", m.Name, err)
				}
				for _, b := range broken {
					t.Logf("%s: %v", m.Name, b)
				}
				if m.Static && broken == nil {
					t.Errorf("%s can be seen by nobody", m.Name)
				}
			}
			t.Logf("%d of %d mutants", len(mutants), len(written))
			placesMean(t, set, changes)
		})
	}
}

// placesMean checks that a rule of order is about something: that what the mark has
// to stand behind or before is called in that file.
func placesMean(t *testing.T, set *templates.Set, changes []patches.Change) {
	places, err := set.Places()
	if err != nil {
		t.Fatal(err)
	}
	calls := make(map[string][]string)
	for _, c := range changes {
		if !strings.HasSuffix(c.Path, ".c") && !strings.HasSuffix(c.Path, ".h") {
			continue
		}
		functions, err := cfile.Functions(c.Path, c.After)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range functions {
			calls[c.Path] = append(calls[c.Path], f.Calls...)
		}
	}
	for _, p := range places {
		for _, names := range [][]string{p.Behind, p.Before} {
			if names != nil && calls[p.File] != nil && !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(calls[p.File], n) }) {
				t.Errorf("the place %s says nothing here: %s calls none of %v", p.Name, p.File, names)
			}
		}
	}
}
