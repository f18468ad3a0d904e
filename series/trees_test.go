package series

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"patchgen/edit"
	"patchgen/ktree"
	"patchgen/templates"
)

var update = flag.Bool("update", false, "write the golden files of testdata/trees")

// An opener opens a copy of a skeleton tree, after change has edited it.
type opener func(t testing.TB, change func(dir string)) *ktree.Tree

// trees are the skeletons of testdata/trees by name, which is the version where it begins.
func trees(t testing.TB) map[string]opener {
	t.Helper()
	files, err := filepath.Glob("testdata/trees/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no skeletons: %v", err)
	}
	all := make(map[string]opener)
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		all[name] = func(t testing.TB, change func(string)) *ktree.Tree {
			t.Helper()
			dir := filepath.Join(t.TempDir(), "linux-"+name)
			if err := txtar.Write(archive, dir); err != nil {
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
	}
	return all
}

// Each variant on each skeleton: where the edits went, what they did, and that git
// applies the mails.
func TestTrees(t *testing.T) {
	set, err := templates.Load("dma-mark-dirty")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for name, open := range trees(t) {
		for _, variant := range set.Variants() {
			golden := filepath.Join("testdata", "trees", name+"."+variant+".golden")
			t.Run(name+"/"+variant, func(t *testing.T) {
				dir := ""
				tree := open(t, func(d string) { dir = d })
				s, err := Render(tree, set, variant, RenderOptions{Tool: "patchgen test", Call: "test"})
				if err != nil {
					t.Fatal(err)
				}
				found[s.Generation] = true
				mails, err := s.Mail(context.Background(), MailOptions{Author: thor})
				if err != nil {
					t.Fatal(err)
				}
				if err := Verify(s, mails); err != nil {
					t.Fatal(err)
				}
				gitApplies(t, dir, s, mails)
				for _, c := range s.Changes() {
					if text := string(c.After); strings.Contains(text, "{{") || strings.Contains(text, "<no value>") {
						t.Errorf("%s was not rendered whole", c.Path)
					}
				}
				got := report(s, mails)
				if *update {
					if err := os.WriteFile(golden, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), string(got)); diff != "" {
					t.Errorf("%s (-want +got), go test -update writes it:\n%s", golden, diff)
				}
			})
		}
	}
	for _, g := range set.Generations {
		if !found[g.Name] && !t.Failed() {
			t.Errorf("no skeleton is of generation %s", g.Name)
		}
	}
}

// report is what a golden file has: the places of the edits, and the diffs of files
// that the tree has.
func report(s *Series, mails []Mail) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "generation %s\n\n", s.Generation)
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for i, p := range s.Patches {
		fmt.Fprintf(w, "%d\t%s\n", i+1, p.Subject)
		for _, e := range p.Edits {
			fmt.Fprintf(w, "\t%s:%d\t%s\t%s\n", e.File, e.Line, e.Function, e.How)
		}
		for _, c := range p.Changes {
			if c.Before == nil {
				fmt.Fprintf(w, "\t%s\t\tnew file\n", c.Path)
			}
		}
	}
	w.Flush()
	lines := strings.Split(b.String(), "\n")
	b.Reset()
	for _, l := range lines[:len(lines)-1] {
		b.WriteString(strings.TrimRight(l, " ") + "\n")
	}
	for _, m := range mails {
		_, diffs, _ := bytes.Cut(m.Data, []byte("\n---\n"))
		for _, d := range bytes.Split(diffs, []byte("\ndiff --git "))[1:] {
			if bytes.Contains(d, []byte("\nnew file mode ")) {
				continue
			}
			_, d, _ = bytes.Cut(d, []byte("\n--- "))
			d, _, _ = bytes.Cut(d, []byte("\n-- \n"))
			fmt.Fprintf(&b, "\n--- %s\n", d)
		}
	}
	return b.Bytes()
}

// gitApplies has git itself apply the mails to the tree.
func gitApplies(t *testing.T, dir string, s *Series, mails []Mail) {
	t.Helper()
	cmd := exec.Command("git", "apply", "--whitespace=error-all", "-")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	var in bytes.Buffer
	for _, m := range mails {
		in.Write(m.Data)
	}
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git apply: %v: %s", err, out)
	}
	for _, c := range s.Changes() {
		got, err := os.ReadFile(filepath.Join(dir, c.Path))
		if err != nil || !bytes.Equal(got, c.After) {
			t.Errorf("git apply leaves %s otherwise (%v)", c.Path, err)
		}
	}
}

// The places and mutants are written for each skeleton, too.
func TestTreesMutants(t *testing.T) {
	set, err := templates.Load("dma-mark-dirty")
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range trees(t) {
		t.Run(name, func(t *testing.T) {
			tree := open(t, nil)
			s, err := render(t, tree)
			if err != nil {
				t.Fatal(err)
			}
			wrong, err := Misplaced(tree, set, "full", s.Changes())
			if err != nil || len(wrong) > 0 {
				t.Errorf("%v, %v", wrong, err)
			}
			mutants, err := Mutants(tree, set, s.Changes())
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for _, m := range mutants {
				if wrong, err := Misplaced(tree, set, "full", m.Changes); err != nil {
					t.Errorf("%s: %v", m.Name, err)
				} else if len(wrong) > 0 {
					seen++
				} else if m.Static {
					t.Errorf("no place sees %s", m.Name)
				}
			}
			if seen < 5 || s.Generation >= "C" && seen < 10 {
				t.Errorf("the places see %d of %d mutants", seen, len(mutants))
			}
		})
	}
}

// What vendors do to the code. Each is refused, by the names of the file and of the
// function, and the mark never stands in a wrong place.
func TestTreesRefuse(t *testing.T) {
	for name, open := range trees(t) {
		t.Run(name, func(t *testing.T) {
			dir := ""
			original := open(t, func(d string) { dir = d })
			s, err := render(t, original)
			if err != nil {
				t.Fatal(err)
			}
			originals := make(map[string][]byte)
			for _, c := range s.Changes() {
				originals[c.Path] = c.Before
			}
			refused := func(what, file, function string, changes ...Change) {
				t.Helper()
				for _, c := range changes {
					write(t, filepath.Join(dir, c.Path), c.After)
					defer write(t, filepath.Join(dir, c.Path), originals[c.Path])
				}
				tree, err := ktree.Open(context.Background(), dir, ktree.Options{Cache: dir + "-cache"})
				if err != nil {
					t.Fatal(err)
				}
				defer tree.Close()
				_, err = render(t, tree)
				unknown, noPlace := (*ktree.UnknownError)(nil), (*edit.Error)(nil)
				switch {
				case err == nil:
					t.Errorf("%s: it is not refused", what)
				case errors.As(err, &noPlace):
					if file != "" && noPlace.File != file || function != "" && noPlace.Function != function {
						t.Errorf("%s: another place is refused: %v", what, err)
					}
					if !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), function) {
						t.Errorf("%s: the message does not name %s and %s(): %v", what, file, function, err)
					}
				case !errors.As(err, &unknown) || !strings.Contains(err.Error(), file):
					t.Errorf("%s: %v", what, err)
				}
			}
			// changed is a change to the lines of a file.
			changed := func(file string, lines func([]string) []string) Change {
				src, err := original.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				out := strings.Join(lines(strings.SplitAfter(string(src), "\n")), "")
				if out == string(src) {
					t.Fatalf("%s is not changed", file)
				}
				return Change{file, src, []byte(out)}
			}
			insert := func(file string, line int, text ...string) Change {
				return changed(file, func(lines []string) []string { return slices.Insert(lines, line-1, text...) })
			}

			for i, p := range s.Patches {
				for _, e := range p.Edits {
					if e.Function == "" || originals[e.File] == nil {
						continue // lines, or a file of the series' own
					}
					at := fmt.Sprintf("%s:%d %s()", e.File, e.Line, e.Function)
					refused("a return before "+at, e.File, e.Function, insert(e.File, e.Line, "\tif (vendor_wants())\n", "\t\treturn;\n"))
					refused("a condition on "+at, e.File, e.Function, insert(e.File, e.Line, "\tif (vendor_wants())\n"))
					from, to := definition(t, original, e.File, e.Function)
					refused("a second definition of "+at, e.File, e.Function, changed(e.File, func(lines []string) []string {
						return append(lines, lines[from:to]...)
					}))
					refused("another name for "+at, e.File, "", changed(e.File, func(lines []string) []string {
						for n := from; n < to; n++ {
							lines[n] = strings.ReplaceAll(lines[n], e.Function+"(", e.Function+"_vendor(")
						}
						return lines
					}))
				}
				refused(fmt.Sprintf("patch %d alone", i+1), "", "", p.Changes...)
			}
			if s.Generation == "B'" {
				// In the merge window of 4.20, and rfc must not invent what makes the caches coherent.
				write(t, filepath.Join(dir, "kernel/dma/swiotlb.c"), regexp.MustCompile(`(?s)\tif \(!dev_is_dma_coherent\(hwdev\) && target == SYNC_FOR_\w+\)\n[^\n]*\n`).ReplaceAll(originals["kernel/dma/swiotlb.c"], nil))
				tree, err := ktree.Open(context.Background(), dir, ktree.Options{Cache: dir + "-cache"})
				if err != nil {
					t.Fatal(err)
				}
				set, err := templates.Load("dma-mark-dirty")
				if err != nil {
					t.Fatal(err)
				}
				noPlace := (*edit.Error)(nil)
				if _, err := Render(tree, set, "rfc", RenderOptions{}); !errors.As(err, &noPlace) || noPlace.Function != "swiotlb_sync_single" {
					t.Errorf("without cache maintenance: %v", err)
				}
				tree.Close()
				write(t, filepath.Join(dir, "kernel/dma/swiotlb.c"), originals["kernel/dma/swiotlb.c"])
			}
			add := func(file, text string) Change {
				return changed(file, func(lines []string) []string { return append(lines, text) })
			}
			if s.Generation >= "C" { // the DMA operations of before are replaced as a whole, or are each in their own edit
				refused("a new way back", "kernel/dma/direct.c", "dma_direct_sync_bvecs_for_cpu", add("kernel/dma/direct.c",
					"\nvoid dma_direct_sync_bvecs_for_cpu(struct device *dev, phys_addr_t paddr, size_t size)\n{\n\tarch_sync_dma_for_cpu(paddr, size, DMA_FROM_DEVICE);\n}\n"))
				refused("a new way back in Xen", "drivers/xen/swiotlb-xen.c", "xen_vendor_sync", add("drivers/xen/swiotlb-xen.c",
					"\nvoid xen_vendor_sync(struct device *dev, phys_addr_t paddr, size_t size)\n{\n\tarch_sync_dma_for_cpu(paddr, size, DMA_FROM_DEVICE);\n}\n"))
				from, _ := definition(t, original, "kernel/dma/direct.c", "dma_direct_unmap_sg")
				refused("entries that are left out", "kernel/dma/direct.c", "dma_direct_unmap_sg", changed("kernel/dma/direct.c", func(lines []string) []string {
					for n := from; ; n++ {
						if strings.Contains(lines[n], "for_each_sg(") {
							lines[n] = strings.TrimSuffix(strings.TrimRight(lines[n], "\n"), "{") + "{\n\t\tif (vendor_wants(sg))\n\t\t\tcontinue;\n"
							return lines
						}
					}
				}))
			}
			if mapping, err := original.ReadFile("kernel/dma/mapping.c"); err == nil && bytes.Contains(mapping, []byte("dma_direct_sync_single_for_cpu(")) {
				all, err := edit.Functions("kernel/dma/mapping.c", mapping)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range all {
					if slices.ContainsFunc(f.Calls, func(c string) bool {
						return strings.HasPrefix(c, "dma_direct_unmap_") || strings.HasPrefix(c, "dma_direct_sync_")
					}) {
						refused("a return at the head of "+f.Name, "kernel/dma/mapping.c", f.Name, changed("kernel/dma/mapping.c", func(lines []string) []string {
							for n := f.Line; ; n++ {
								if lines[n] == "{\n" {
									return slices.Insert(lines, n+1, "\tif (vendor_skips(dev))\n", "\t\treturn;\n")
								}
							}
						}))
					}
				}
				if !bytes.Contains(mapping, []byte("__dma_sync_single_for_cpu(")) {
					refused("inlines that leave out syncs", "kernel/dma/mapping.c", "__dma_sync_single_for_cpu", changed("kernel/dma/mapping.c", func(lines []string) []string {
						for n := range lines {
							lines[n] = strings.Replace(lines[n], "void dma_sync_", "void __dma_sync_", 1)
						}
						return lines
					}))
				}
			}
			all := s.Changes()
			refused("the whole series", "", "", all...)
			for i, c := range all {
				if c.Before == nil {
					continue
				}
				refused("conflict marks in "+c.Path, c.Path, "", insert(c.Path, max(1, bytes.Count(c.Before, []byte("\n"))/2), "<<<<<<< HEAD\n"))
				refused(c.Path+" reverted", "", "", slices.Delete(slices.Clone(all), i, i+1)...)
			}
		})
	}
}

// write writes a file, or removes it if its contents are nil.
func write(t *testing.T, name string, data []byte) {
	t.Helper()
	err := os.Remove(name) // so that no stamp can be the same
	if data != nil {
		os.MkdirAll(filepath.Dir(name), 0o777)
		err = os.WriteFile(name, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// definition returns the lines of a function's definition, from its return type to
// the brace that closes it.
func definition(t *testing.T, tree *ktree.Tree, file, function string) (from, to int) {
	t.Helper()
	src, err := tree.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all, err := edit.Functions(file, src)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(src), "\n")
	for _, f := range all {
		if f.Name == function {
			from = f.Line - 1
			for from > 0 && lines[from-1] != "" {
				from--
			}
			to = from
			for lines[to] != "}" {
				to++
			}
			return from, to + 1
		}
	}
	t.Fatalf("%s has no %s()", file, function)
	return 0, 0
}

// BenchmarkTrees is what the matrix of patchgen trees does for nine skeletons, one
// of each generation but for the steps between, and both variants.
func BenchmarkTrees(b *testing.B) {
	set, err := templates.Load("dma-mark-dirty")
	if err != nil {
		b.Fatal(err)
	}
	all := trees(b)
	for b.Loop() {
		for _, name := range []string{"4.4", "4.14", "4.19", "5.4", "5.9", "5.10", "6.12", "6.18", "7.3"} {
			for _, variant := range set.Variants() {
				s, err := Render(all[name](b, nil), set, variant, RenderOptions{Tool: "patchgen test", Call: "test"})
				if err != nil {
					b.Fatal(err)
				}
				mails, err := s.Mail(context.Background(), MailOptions{Author: thor})
				if err != nil {
					b.Fatal(err)
				}
				if err := Verify(s, mails); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}
