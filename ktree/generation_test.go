package ktree

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

// The generations of these tests, as a manifest has them.
const generations = `
[[generation]]
name = "E"
about = "Linux 5.10"
[[generation.test]]
file = "kernel/dma/direct.h"
has = ["static inline void dma_direct_unmap_page(", "is_swiotlb_buffer(paddr)"]

[[generation]]
name = "F"
about = "Linux 5.15 to 6.8"
[[generation.test]]
file = "kernel/dma/direct.h"
has = [
	"static inline void dma_direct_unmap_page(",
	"if (unlikely(is_swiotlb_buffer(dev, phys)))",
	"swiotlb_tbl_sync_single(dev, paddr, size, dir, SYNC_FOR_CPU)",
]
lacks = ["bool flush", "arch_dma_mark"]
[[generation.test]]
file = "lib/swiotlb.c"
lacks = ["unmap_single("]

[[generation]]
name = "A"
[[generation.test]]
file = "lib/swiotlb.c"
has = ["unmap_single(hwdev, dev_addr, size, dir);"]
`

func parseGenerations(t *testing.T) []Generation {
	t.Helper()
	var manifest struct {
		Generation []Generation `toml:"generation"`
	}
	if _, err := toml.Decode(generations, &manifest); err != nil {
		t.Fatal(err)
	}
	return manifest.Generation
}

const directH = `/* SPDX-License-Identifier: GPL-2.0 */
static inline void
dma_direct_unmap_page(struct device *dev, dma_addr_t addr,
		size_t size, enum dma_data_direction dir)
{
	phys_addr_t phys = dma_to_phys(dev, addr);

	if (unlikely(is_swiotlb_buffer(dev,
				       phys)))
		swiotlb_tbl_sync_single(dev,	paddr, size,
					dir, SYNC_FOR_CPU);
}
`

// kernelWith opens a kernel tree with a kernel/dma/direct.h.
func kernelWith(t *testing.T, direct string) (*Tree, string) {
	files := kernelFiles()
	files["kernel/dma/direct.h"] = direct
	dir := write(t, t.TempDir(), files)
	return open(t, dir), dir
}

func TestClassify(t *testing.T) {
	t.Parallel()
	tree, _ := kernelWith(t, directH)
	got, err := tree.Classify(parseGenerations(t))
	if err != nil || got.Name != "F" {
		t.Fatalf("%q, %v", got.Name, err)
	}
	if diff := cmp.Diff([]string{"Makefile", "kernel/dma/direct.h"}, tree.Read()); diff != "" {
		t.Error(diff)
	}
}

func TestClassifyUnknown(t *testing.T) {
	t.Parallel()
	vendor := strings.Replace(directH, "is_swiotlb_buffer(dev,\n\t\t\t\t       phys)", "is_swiotlb_buffer(dev, phys, our_flags)", 1)
	vendor = strings.Replace(vendor, "}\n", "\n\tqcom_finish(dev,\n\t\t    bool\tflush);\n}\n", 1)
	tree, dir := kernelWith(t, vendor)
	_, err := tree.Classify(parseGenerations(t))
	if e := (*UnknownError)(nil); !errors.As(err, &e) || len(e.Matches) != 0 {
		t.Fatalf("%T", err)
	}
	want := `the code of ` + dir + ` (Linux 6.12.117) is of no known generation
nearest is F, Linux 5.15 to 6.8
4 of 6 texts are as expected:
  ok  kernel/dma/direct.h has "static inline void dma_direct_unmap_page("
  NO  kernel/dma/direct.h should have "if (unlikely(is_swiotlb_buffer(dev, phys)))": line 8 is "if (unlikely(is_swiotlb_buffer(dev, phys, our_flags)))"
  ok  kernel/dma/direct.h has "swiotlb_tbl_sync_single(dev, paddr, size, dir, SYNC_FOR_CPU)"
  NO  kernel/dma/direct.h should lack "bool flush": it is in line 13
  ok  kernel/dma/direct.h lacks "arch_dma_mark"
  ok  lib/swiotlb.c lacks "unmap_single("
further away:
  E, Linux 5.10; 1 of 2, kernel/dma/direct.h should have "is_swiotlb_buffer(paddr)": line 8 is "if (unlikely(is_swiotlb_buffer(dev, phys, our_flags)))"
  A; 0 of 1, lib/swiotlb.c should have "unmap_single(hwdev, dev_addr, size, dir);": no such file`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestClassifyTwo(t *testing.T) {
	t.Parallel()
	tree, dir := kernelWith(t, directH+"is_swiotlb_buffer(paddr)\n")
	_, err := tree.Classify(parseGenerations(t))
	contains(t, err, "the code of "+dir, "of more than one generation, E and F")
}

func TestClassifyFails(t *testing.T) {
	t.Parallel()
	tree, _ := kernelWith(t, "int a;\r\n")
	_, err := tree.Classify(parseGenerations(t))
	contains(t, err, "generation E", "DOS line ends")
	if _, err := tree.Classify([]Generation{{Name: "X"}}); err == nil {
		t.Error("a generation without a test fits")
	}
	if _, err := tree.Classify(nil); err == nil {
		t.Error("of no generation at all")
	}
	for _, test := range []Test{{File: "Makefile"}, {File: "Makefile", Has: []string{" \n"}}, {File: "../x", Has: []string{"x"}}} {
		if _, _, err := tree.Passes([]Test{test}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: %v", test, err)
		}
	}
}

func TestPasses(t *testing.T) {
	t.Parallel()
	tree, _ := kernelWith(t, directH)
	const file = "kernel/dma/direct.h"
	for _, test := range []struct {
		test   Test
		failed []string
	}{
		{Test{file, []string{"static inline void dma_direct_unmap_page(struct device *dev,", " size_t size"}, []string{"dma_direct_unmap_phys"}}, nil},
		{Test{file, []string{"\n\n/* SPDX", "} "}, nil}, nil},
		{Test{"none.c", nil, []string{"x"}}, nil},
		{Test{"none.c", []string{"x"}, []string{"y"}}, []string{`none.c should have "x": no such file`}},
		{Test{file, []string{"dma_direct_unmap_phys("}, nil}, []string{file + ` should have "dma_direct_unmap_phys(": it has no dma_direct_unmap_phys`}},
		{Test{file, []string{"( ("}, nil}, []string{file + ` should have "( (": not there`}},
		{Test{file, nil, []string{"dir,\nSYNC_FOR_CPU"}}, []string{file + ` should lack "dir, SYNC_FOR_CPU": it is in line 11`}},
		{Test{file, nil, []string{" /* SPDX"}}, []string{file + ` should lack "/* SPDX": it is in line 1`}},
		{Test{file, []string{"sizet size", "unlikely(is_swiotlb_buffer(phys)", "size_tsize"}, nil}, []string{
			file + ` should have "sizet size": it has no sizet`,
			file + ` should have "unlikely(is_swiotlb_buffer(phys)": line 8 is "if (unlikely(is_swiotlb_buffer(dev,"`,
			file + ` should have "size_tsize": it has no size_tsize`,
		}},
	} {
		ok, failed, err := tree.Passes([]Test{test.test})
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(test.failed, failed); diff != "" || ok != (test.failed == nil) {
			t.Errorf("%v: %v %s", test.test, ok, diff)
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add(directH, "void dma_direct_unmap_page(")
	f.Add("a\n\n b", " b ")
	f.Fuzz(func(t *testing.T, src, text string) {
		folded := fold(" " + src + " ")
		if fold(folded) != folded || strings.Contains(folded, "  ") {
			t.Errorf("%q is folded to %q", src, folded)
		}
		words := func(s string) []string {
			return strings.FieldsFunc(s, func(r rune) bool { return r < 0x80 && isSpace(byte(r)) })
		}
		if !cmp.Equal(words(folded), words(src)) {
			t.Errorf("%q is folded to %q", src, folded)
		}
		lines := 1 + strings.Count(src, "\n")
		if n := lineAt(src, strings.Index(folded, text)); n < 1 || n > lines {
			t.Errorf("line %d of %d", n, lines)
		}
		nearest(src, text)
	})
}
