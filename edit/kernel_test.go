//go:build kernel

package edit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// trees are the kernel trees named in PATCHGEN_TREES.
func trees(t *testing.T) []string {
	t.Helper()
	list := filepath.SplitList(os.Getenv("PATCHGEN_TREES"))
	if len(list) == 0 {
		t.Fatal("PATCHGEN_TREES names no kernel tree")
	}
	return list
}

// kernelFile is a C file of a tree, cut into tokens.
type kernelFile struct {
	name string
	*source
}

func kernelFiles(t *testing.T, tree string, folders ...string) []kernelFile {
	t.Helper()
	var files []kernelFile
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(tree, folder), func(path string, d fs.DirEntry, err error) error {
			if ext := filepath.Ext(path); err != nil || !d.Type().IsRegular() || ext != ".c" && ext != ".h" {
				return err
			}
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			s, err := tokenize(src)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return nil
			}
			files = append(files, kernelFile{path, s})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) == 0 {
		t.Fatalf("no C in %s", tree)
	}
	return files
}

// TestKernelFiles reads every file, and can follow all but one function in a thousand.
func TestKernelFiles(t *testing.T) {
	for _, tree := range trees(t) {
		functions, lost := 0, 0
		for _, f := range kernelFiles(t, tree, "kernel", "drivers/xen", "lib", "include/linux") {
			checkTokens(t, f.name, f.source)
			for _, fn := range f.functions() {
				functions++
				err := errors.New(fn.fault)
				if fn.fault == "" {
					var b *body
					if b, err = f.statements(fn.open+1, fn.close); err == nil {
						checkBody(t, b)
						continue
					}
				}
				lost++
				t.Logf("%s:%d: %s(): %v", f.name, fn.line, fn.name, err)
			}
		}
		if functions < 10000 || lost*1000 > functions {
			t.Errorf("%s: %d of %d functions cannot be followed", tree, lost, functions)
		}
	}
}

// TestFunctionsAgreeWithCtags lets universal-ctags judge which functions there are.
func TestFunctionsAgreeWithCtags(t *testing.T) {
	for _, tree := range trees(t) {
		for _, f := range kernelFiles(t, tree, "kernel/dma", "drivers/xen") {
			if strings.HasSuffix(f.name, "xen-pciback/conf_space.c") {
				continue // ctags takes the macro DEFINE_PCI_CONFIG, without semicolon, for a function
			}
			out, err := exec.Command("ctags", "-x", "--language-force=C", "--kinds-C=f", "--sort=no", "--_xformat=%N %n", f.name).Output()
			if err != nil {
				t.Fatalf("ctags (package universal-ctags): %v", err)
			}
			var got strings.Builder
			for _, fn := range f.functions() {
				fmt.Fprintf(&got, "%s %d\n", fn.name, fn.line)
			}
			if diff := cmp.Diff(string(out), got.String()); diff != "" {
				t.Errorf("%s (-ctags +patchgen):\n%s", f.name, diff)
			}
		}
	}
}

// TestEveryStatement makes an edit after every statement of every function:
// each goes to its own place, or is refused for a reason that is there.
func TestEveryStatement(t *testing.T) {
	for _, tree := range trees(t) {
		made, refused := 0, map[Kind]int{}
		for _, f := range kernelFiles(t, tree, "kernel/dma", "drivers/xen") {
			all := f.functions()
			for _, fn := range all {
				twins := 0
				for _, other := range all {
					if other.name == fn.name && !other.empty() {
						twins++
					}
				}
				if twins != 1 || fn.fault != "" {
					continue
				}
				c := &cEdit{source: f.source, f: fn}
				if c.readBody() != nil {
					continue
				}
				for _, st := range c.body.stmts {
					m := match{st.first, st.last}
					if _, ok := c.body.run(m.first, m.last); !ok || c.body.is(m.last, ":") || !c.body.is(m.last, ";") && !c.body.is(m.last, "}") {
						continue
					}
					text := c.show(m.first, m.last, false)
					if len(text) >= 1000 || len(f.comments) > c.commentsFrom(c.body.tok(m.first).pos) &&
						f.comments[c.commentsFrom(c.body.tok(m.first).pos)].pos < c.body.tok(m.last).pos && strings.Contains(text, "//") {
						continue
					}
					e := Edit{Function: fn.name, Landmark: []string{text}, Put: After, Text: mark}
					for _, s := range c.around(m) {
						e.Inside = append(e.Inside, c.show(s.first, s.last, false))
					}
					out, place, err := e.Apply(f.src)
					if err != nil {
						fail := err.(*Error)
						refused[fail.Kind]++
						if !slices.Contains([]Kind{AmbiguousLandmark, WrongSurroundings}, fail.Kind) {
							t.Errorf("%s:%d: %v", f.name, c.body.tok(m.first).line, err)
						}
						continue
					}
					made++
					went := strings.Index(string(out), mark)
					behind := f.toks[c.body.lo+m.last+1].pos
					if place.Line != c.body.tok(m.first).line || went < c.body.tok(m.last).end || went > behind ||
						string(out) != string(f.src[:went])+mark+string(f.src[went:]) {
						t.Errorf("%s:%d: edit went to line %d", f.name, c.body.tok(m.first).line, lineOf(f.src, went))
					}
				}
			}
		}
		t.Logf("%s: %d edits made, refused %v", tree, made, refused)
		if made < 5000 || refused[WrongSurroundings]*10 > made {
			t.Errorf("%s: only %d edits could be made, refused %v", tree, made, refused)
		}
	}
}

// TestEditsOfSeries finds the places that the series edits, in each tree that has the file's function.
func TestEditsOfSeries(t *testing.T) {
	const loop = "for_each_sg(sgl, sg, nents, i)"
	edits := []Edit{
		{File: "kernel/dma/direct.h", Function: "dma_direct_sync_single_for_cpu", Put: After, Landmark: []string{
			"if (unlikely(is_swiotlb_buffer(paddr))) swiotlb_tbl_sync_single(dev, paddr, size, dir, SYNC_FOR_CPU);",
			"if (unlikely(is_swiotlb_buffer(dev, paddr))) swiotlb_sync_single_for_cpu(dev, paddr, size, dir);",
			"swiotlb_sync_single_for_cpu(dev, paddr, size, dir);",
		}},
		{File: "kernel/dma/direct.h", Function: "dma_direct_unmap_page dma_direct_unmap_phys", Put: After, Landmark: []string{
			"if (!(attrs & DMA_ATTR_SKIP_CPU_SYNC)) dma_direct_sync_single_for_cpu(dev, addr, size, dir);",
			"if (!(attrs & DMA_ATTR_SKIP_CPU_SYNC)) dma_direct_sync_single_for_cpu(dev, addr, size, dir, flush);",
		}},
		{File: "kernel/dma/direct.c", Function: "dma_direct_sync_sg_for_cpu", Inside: []string{loop}, Put: After, Landmark: []string{
			"if (unlikely(is_swiotlb_buffer(paddr))) swiotlb_tbl_sync_single(dev, paddr, sg->length, dir, SYNC_FOR_CPU);",
			"if (unlikely(is_swiotlb_buffer(dev, paddr))) swiotlb_sync_single_for_cpu(dev, paddr, sg->length, dir);",
			"swiotlb_sync_single_for_cpu(dev, paddr, sg->length, dir);",
		}},
		{File: "kernel/dma/mapping.c", Function: "__dma_need_sync dma_need_sync", Landmark: []string{
			"const struct dma_map_ops *ops = get_dma_ops(dev);",
		}},
		{File: "drivers/xen/swiotlb-xen.c", Function: "xen_swiotlb_unmap_page xen_swiotlb_unmap_phys", Put: After, Landmark: []string{
			"if (is_xen_swiotlb_buffer(hwdev, dev_addr)) swiotlb_tbl_unmap_single(hwdev, paddr, size, size, dir, attrs);",
			"if (is_xen_swiotlb_buffer(hwdev, dev_addr)) swiotlb_tbl_unmap_single(hwdev, paddr, size, dir, attrs);",
			"pool = xen_swiotlb_find_pool(hwdev, dev_addr); if (pool) __swiotlb_tbl_unmap_single(hwdev, paddr, size, dir, attrs, pool);",
		}},
		{File: "MAINTAINERS", Section: "DMA MAPPING HELPERS", Put: After, Landmark: []string{"F: kernel/dma/"}},
		{File: "Documentation/admin-guide/kernel-parameters.txt", Landmark: []string{"dma_debug_driver=<driver_name>"}},
		{File: "Documentation/core-api/dma-attributes.rst", Put: After, Landmark: []string{"device domain after releasing a mapping for it. Use this attribute with\ncare!"}},
	}
	for _, tree := range trees(t) {
		for _, e := range edits {
			src, err := os.ReadFile(filepath.Join(tree, e.File))
			if err != nil {
				t.Fatal(err)
			}
			e.Text = "mark();\n"
			functions := strings.Fields(e.Function)
			if len(functions) == 0 {
				functions = []string{""}
			}
			made := 0
			for _, e.Function = range functions {
				_, place, err := e.Apply(src)
				switch fail, _ := err.(*Error); {
				case err == nil:
					t.Logf("%s/%s:%d: %s", filepath.Base(tree), e.File, place.Line, place.How)
					made++
				case fail.Kind != NoFunction:
					t.Errorf("%s: %v", tree, err)
				}
			}
			if made != 1 {
				t.Errorf("%s: %s: %d edits of %v made", tree, e.File, made, functions)
			}
		}
	}
}

// TestHostile takes an input eight times, and one of eight times the length, for which
// quadratic time would be eight times as long. It needs no kernel, but more time than
// other tests have.
func TestHostile(t *testing.T) {
	const n = 1 << 16
	short, long := hostile(n), hostile(8*n)
	edits := []Edit{
		{Function: "f", Landmark: []string{"sync(dev, x);"}, Put: After, Text: mark},
		{Function: "f", Landmark: []string{"sync(dev, x);"}, Put: Replace, Text: mark},
		{Landmark: []string{"sync(dev, x);\nreturn 0;"}, Put: Replace, Text: mark},
	}
	cost := func(src string, times int) time.Duration {
		start := cpuTime(t)
		for range times {
			for _, e := range edits {
				e.Apply([]byte(src))
			}
		}
		return cpuTime(t) - start
	}
	for name := range short {
		a, b := cost(short[name], 8), cost(long[name], 1)
		for try := 0; b > 4*a+50*time.Millisecond; try++ {
			if try == 5 { // a garbage collection does not come every time
				t.Errorf("%s: %v for %d bytes eight times, %v for %d bytes", name, a, len(short[name]), b, len(long[name]))
				break
			}
			a, b = min(a, cost(short[name], 8)), min(b, cost(long[name], 1))
		}
	}
}

// cpuTime is what the process has used, whatever else the machine does.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}
