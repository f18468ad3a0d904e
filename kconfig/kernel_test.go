//go:build kernel

package kconfig

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const x86 = "arch/x86/Kconfig"

// TestTrees reads the kernel trees that PATCHGEN_TREES names, folders with
// colons between, and asks the conf program of each to judge. The trees are
// only read; make, a C compiler, flex and bison are needed.
func TestTrees(t *testing.T) {
	trees := filepath.SplitList(os.Getenv("PATCHGEN_TREES"))
	if len(trees) == 0 {
		t.Fatal("PATCHGEN_TREES is empty: set it to the folders of kernel trees, with colons between")
	}
	for _, tree := range trees {
		t.Run(filepath.Base(tree), func(t *testing.T) {
			t.Run("parse", func(t *testing.T) { testParse(t, tree) })
			k := newKernel(t, tree)
			t.Run("syntax", k.testSyntax)
			t.Run("insert", k.testInsert)
		})
	}
}

// testParse reads each Kconfig file of a tree, and puts an entry into each
// menu in it.
func testParse(t *testing.T, tree string) {
	files, inserted := 0, 0
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasPrefix(d.Name(), "Kconfig") {
			return err
		}
		if strings.Contains(path, "/rvgen/templates/") { // %%NAMES%% to be filled in: no Kconfig yet
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		f, err := Parse(path, src)
		if err != nil {
			t.Error(err)
			return nil
		}
		var again strings.Builder
		for n := range f.lines {
			again.WriteString(f.line(n+1) + "\n")
		}
		if strings.TrimSuffix(again.String(), "\n") != strings.TrimSuffix(string(src), "\n") {
			t.Errorf("%s: the lines are not those of the file", path)
		}
		menus := map[string]int{}
		for _, e := range f.entries {
			if e.keyword == "menu" {
				menus[e.name]++
			}
		}
		for menu, n := range menus {
			if n > 1 {
				continue
			}
			out, _, err := f.Insert(Insertion{Menu: menu, Text: newEntry})
			if err != nil {
				t.Error(err)
				continue
			}
			if !isInserted(string(src), string(out), newEntry) {
				t.Errorf("%s: more than the new entry is new", path)
			}
			inserted++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files, %d insertions", files, inserted)
	if files < 1000 || inserted < 100 {
		t.Errorf("%d files and %d insertions are too few for a kernel", files, inserted)
	}
}

// kernel is a tree made of links, in which arch/x86/Kconfig can be another.
type kernel struct {
	dir string
	out string // make's O=, with conf built and the configuration that defconfig makes
	src []byte // arch/x86/Kconfig
}

func newKernel(t *testing.T, tree string) *kernel {
	src, err := os.ReadFile(filepath.Join(tree, x86))
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{dir: t.TempDir(), out: t.TempDir(), src: src}
	tree, err = filepath.Abs(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"", "arch", "arch/x86"} {
		names, err := os.ReadDir(filepath.Join(tree, folder))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(k.dir, folder), 0o777); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			name := filepath.Join(folder, name.Name())
			if name == "arch" || name == "arch/x86" || name == x86 {
				continue
			}
			if err := os.Symlink(filepath.Join(tree, name), filepath.Join(k.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.write(t, src)
	k.make(t, "x86", "defconfig")
	return k
}

func (k *kernel) write(t *testing.T, src []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, x86), src, 0o666); err != nil {
		t.Fatal(err)
	}
}

// make returns what make prints to standard output.
func (k *kernel) make(t *testing.T, arch, target string) string {
	t.Helper()
	cmd := exec.Command("make", "-s", "O="+k.out, "ARCH="+arch, target)
	cmd.Dir = k.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, stderr.String())
	}
	return string(out)
}

func (k *kernel) config(t *testing.T) Config {
	t.Helper()
	name := filepath.Join(k.out, ".config")
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(name, src)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (k *kernel) setConfig(t *testing.T, c Config) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(k.out, ".config"), c.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

// testSyntax asks conf what it makes of the table that TestSyntax is about.
func (k *kernel) testSyntax(t *testing.T) {
	for _, tt := range syntax {
		if tt.old {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "Kconfig"), []byte(tt.src), 0o666); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(filepath.Join(k.out, "scripts/kconfig/conf"), "--alldefconfig", "Kconfig")
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); (err != nil) != (tt.line > 0) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// testInsert asks conf what it makes of the file with a new entry.
func (k *kernel) testInsert(t *testing.T) {
	const (
		symbol = "SWIOTLB_PAGE_DIRTYING"
		prompt = "SWIOTLB page dirtying"
		text   = "config " + symbol + "\n\tbool \"" + prompt + "\"\n\tdepends on X86_64 && SWIOTLB\n\thelp\n\t  Text.\n"
	)
	f, err := Parse(x86, k.src)
	if err != nil {
		t.Fatal(err)
	}
	old := k.config(t)
	if old["SWIOTLB"] != "y" {
		t.Fatalf("SWIOTLB is %q", old["SWIOTLB"])
	}
	for _, i := range []Insertion{
		{Menu: "Processor type and features", After: []string{"GART_IOMMU"}, Text: text},
		{Menu: "Processor type and features", Text: text},
		{Menu: "Bus options (PCI etc.)", Text: text},
	} {
		t.Run(fmt.Sprint(i.Menu, i.After), func(t *testing.T) {
			out, place, err := f.Insert(i)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("line %d, %s", place.Line, place.How)
			if len(i.After) > 0 && f.line(place.Line) != "config "+i.After[0] {
				t.Errorf("line %d is %q", place.Line, f.line(place.Line))
			}
			k.write(t, out)
			defer k.write(t, k.src)

			k.setConfig(t, old)
			help := k.make(t, "x86", "helpnewconfig")
			_, location, _ := strings.Cut(help, "Location:\n")
			var menus []string
			for _, m := range regexp.MustCompile(`(?m)^ *-> (.*)$`).FindAllStringSubmatch(location, -1) {
				if !strings.HasPrefix(m[1], prompt+" ("+symbol) { // newer ones end with the entry itself
					menus = append(menus, m[1])
				}
			}
			if diff := cmp.Diff([]string{i.Menu}, menus); diff != "" {
				t.Error("helpnewconfig tells another menu:", diff, help)
			}
			line := 1 + bytes.Count(out[:bytes.Index(out, []byte(text))], []byte("\n"))
			if defined := fmt.Sprintf("Defined at %s:%d\n  Prompt: %s\n", x86, line, prompt); !strings.Contains(help, defined) {
				t.Errorf("helpnewconfig does not tell %q: %s", defined, help)
			}

			if len(i.After) == 0 { // the value does not hang on the place
				return
			}
			if diff := cmp.Diff("CONFIG_"+symbol+"=n\n", k.make(t, "x86", "listnewconfig")); diff != "" {
				t.Error("listnewconfig:", diff)
			}
			k.make(t, "x86", "olddefconfig")
			want := maps.Clone(old)
			want[symbol] = "n"
			if diff := cmp.Diff(want, k.config(t)); diff != "" {
				t.Error("olddefconfig, default:", diff)
			}
			want[symbol] = "y"
			k.setConfig(t, want)
			k.make(t, "x86", "olddefconfig")
			if lost := want.Lost(k.config(t)); lost != nil {
				t.Error("olddefconfig, y:", lost)
			}
			k.setConfig(t, Config{symbol: "y", "EXPERT": "y"})
			k.make(t, "i386", "olddefconfig")
			lost := Config{symbol: "y", "EXPERT": "y"}.Lost(k.config(t))
			if diff := cmp.Diff([]Lost{{Symbol: symbol, Want: "y"}}, lost); diff != "" {
				t.Error("olddefconfig, no X86_64:", diff)
			}
		})
	}
}
