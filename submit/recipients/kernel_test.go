//go:build kernel

package recipients

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
	"patchgen/submit/patchmail"
)

// trees opens the kernel trees named in PATCHGEN_TREES.
func trees(t testing.TB) []*ktree.Tree {
	t.Helper()
	var all []*ktree.Tree
	for _, dir := range filepath.SplitList(os.Getenv("PATCHGEN_TREES")) {
		tree, err := ktree.Open(t.Context(), dir, ktree.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tree.Close() })
		all = append(all, tree)
	}
	if len(all) == 0 {
		t.Fatal("PATCHGEN_TREES names no kernel tree")
	}
	if _, err := exec.LookPath("perl"); err != nil {
		t.Fatal("perl is not installed (Debian package perl)")
	}
	return all
}

// patchesFor reads the series that the repository keeps for a tree.
func patchesFor(t testing.TB, tree *ktree.Tree) *patchmail.Series {
	t.Helper()
	r := tree.Release()
	s, err := patchmail.Read(fmt.Sprintf("../../patches/%d.%d", r.Version, r.Patchlevel))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A said is one line of get_maintainer.pl: address in lower case, role, title of
// the section.
type said struct{ address, role, title string }

var saidLine = regexp.MustCompile(`^.*?([^\s<]+@[^\s>]+)>? \(([^:()]+(?:\([^:()]*\))?)(?::(.*?))?(?::Keyword:.*?)?(,in file)?\)$`)

func judge(ctx context.Context, tree *ktree.Tree, args ...string) ([]said, error) {
	cmd := exec.CommandContext(ctx, "perl", append([]string{"scripts/get_maintainer.pl", "--nogit", "--nogit-fallback", "--no-rolestats", "--roles"}, args...)...)
	cmd.Dir = tree.Dir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if complaints := noVCS.ReplaceAll(stderr.Bytes(), nil); err != nil || len(complaints) > 0 {
		return nil, fmt.Errorf("get_maintainer.pl: %v: %s", err, complaints)
	}
	var all []said
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, " (open list:") {
			continue // "L: Name <address>" makes a list of no address
		}
		l := saidLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if l == nil {
			return nil, fmt.Errorf("get_maintainer.pl says %q", line)
		}
		s := said{strings.ToLower(l[1]), l[2], l[3]}
		switch s.role {
		case "reviewer", "open list", "moderated list", "in file":
		default: // what was made of S: before Linux 7
			s.role = "maintainer"
		}
		if s.title == "" && s.role != "in file" {
			s.title = "THE REST"
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("get_maintainer.pl names nobody for %q", args)
	}
	return all, nil
}

// saidBy is a list of recipients as a judge would say it. titles has the titles of
// MAINTAINERS as the script shows them, by those that Recipient.Why does.
func saidBy(list []Recipient, titles map[string]string) []said {
	var all []said
	for _, r := range list {
		s := said{strings.ToLower(r.Address), r.Role, ""}
		if r.Role == "author" || r.Role == "trailer" {
			continue
		}
		why, _, _ := strings.Cut(strings.TrimPrefix(r.Why, "MAINTAINERS: "), "; ")
		why, _, _ = strings.Cut(why, ", K: ")
		title, ok := titles[why]
		if !ok { // there is a status
			title = titles[why[:max(0, strings.LastIndex(why, " ("))]]
		}
		s.title = title
		all = append(all, s)
	}
	return all
}

func titles(t testing.TB, tree *ktree.Tree) (*database, map[string]string) {
	t.Helper()
	text, err := tree.ReadFile("MAINTAINERS")
	if err != nil {
		t.Fatal(err)
	}
	d := newDatabase(text, tree)
	return d, d.shown()
}

// compare compares two answers whatever their order. Where sections are equally
// near to a file, Perl's hashes decide which of them a person is named for: it has
// to be one of them.
func compare(d *database, files []string, want, got []said) string {
	near := make(map[string]map[string]bool) // addresses, and titles that may name them
	for _, name := range files {
		first := make(map[string]int)
		for _, s := range d.sectionsOf(name) {
			for _, f := range s.fields {
				if f.key != 'M' && f.key != 'R' && f.key != 'L' {
					continue
				}
				c := newCollector(d.mailmap)
				c.section(&section{title: s.title, fields: []*field{f}}, "")
				for _, e := range c.entries() {
					key := strings.ToLower(e.address)
					if depth, ok := first[key]; ok && depth != s.depth {
						continue
					}
					first[key] = s.depth
					if near[key] == nil {
						near[key] = make(map[string]bool)
					}
					near[key][shorten(s.title)] = true
				}
			}
		}
	}
	byAddress := func(a, b said) int { return strings.Compare(a.address, b.address) }
	want, got = slices.Clone(want), slices.Clone(got)
	slices.SortFunc(want, byAddress)
	slices.SortFunc(got, byAddress)
	for i := range got {
		if i < len(want) && got[i].address == want[i].address && got[i].title != want[i].title &&
			near[got[i].address][want[i].title] && near[got[i].address][got[i].title] {
			got[i] = want[i]
		}
	}
	return cmp.Diff(want, got, cmp.AllowUnexported(said{}))
}

// TestKernelPatches has three answers for each patch: the script in the whole tree,
// the script as For runs it, and the reader.
func TestKernelPatches(t *testing.T) {
	for _, tree := range trees(t) {
		s := patchesFor(t, tree)
		d, all := titles(t, tree)
		start := time.Now()
		script, err := For(t.Context(), tree, s, Options{})
		if err != nil {
			t.Fatal(err)
		}
		scripted := time.Since(start)
		start = time.Now()
		reader, err := For(t.Context(), tree, s, Options{NoScript: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: script %v, reader %v for %d patches; %s; %s", tree.Release(), scripted, time.Since(start), len(s.Patches), script.Source, reader.Source)
		if !strings.HasPrefix(script.Source, "scripts/") || !strings.HasPrefix(reader.Source, "patchgen's") || len(reader.Notes) > 1 {
			t.Errorf("%s, %s, notes %q", script.Source, reader.Source, reader.Notes)
		}
		for i, m := range s.Patches {
			file, err := filepath.Abs(fmt.Sprintf("../../patches/%d.%d/%s", tree.Release().Version, tree.Release().Patchlevel, m.Name))
			if err != nil {
				t.Fatal(err)
			}
			want, err := judge(t.Context(), tree, file)
			if err != nil {
				t.Fatal(err)
			}
			files := readPatch(m).files
			for name, r := range map[string]*Result{"script": script, "reader": reader} {
				l := r.Lists[i+1]
				if l.Mail != m.Name || len(l.Notes) > 0 {
					t.Errorf("%s: list of %s, notes %q", m.Name, l.Mail, l.Notes)
				}
				got := saidBy(slices.Concat(l.To, l.Cc), all)
				if diff := compare(d, files, want, got); diff != "" {
					t.Errorf("%s, %s, %s (-script in the tree +ours):\n%s", tree.Release(), m.Name, name, diff)
				}
				if len(l.To) == 0 || slices.ContainsFunc(l.To, func(r Recipient) bool { return r.Role != "maintainer" }) {
					t.Errorf("%s: To is %v", m.Name, l.To)
				}
			}
		}
		for _, r := range script.Lists[0].To {
			t.Logf("%s: To %s <%s>, %s, %s, %v", tree.Release(), r.Name, r.Address, r.Role, r.Why, r.Patches)
		}
	}
}

// paths draws n files from the F: lines of a tree's MAINTAINERS, evenly; fewer,
// as some lines fit no file.
func paths(t testing.TB, tree *ktree.Tree, d *database, n, offset int) []string {
	t.Helper()
	var values, all []string
	for _, s := range d.sections {
		for _, f := range s.fields {
			if f.key == 'F' {
				values = append(values, f.value)
			}
		}
	}
	for i := range n {
		value := values[(i*len(values)/n+offset)%len(values)]
		found, _ := filepath.Glob(filepath.Join(tree.Dir(), value))
		for _, path := range found {
			filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
				if err != nil || !e.Type().IsRegular() || strings.ContainsAny(path, " ,\\") {
					return err
				}
				name, _ := filepath.Rel(tree.Dir(), path)
				all = append(all, filepath.ToSlash(name))
				return fs.SkipAll
			})
			break
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) < n/2 {
		t.Fatalf("%d paths only", len(all))
	}
	return all
}

func (d *database) shown() map[string]string {
	all := make(map[string]string)
	for _, s := range d.sections {
		short := shorten(s.title)
		all[clean(s.title)], all[clean(short)] = short, short
	}
	return all
}

func (d *database) said(t testing.TB, files []string) []said {
	var list []Recipient
	for _, e := range d.find(files, nil) {
		r, err := d.recipient(e)
		if err != nil {
			t.Logf("%v: %v", e, err)
			continue
		}
		list = append(list, r)
	}
	return saidBy(list, d.shown())
}

// TestKernelPaths compares the reader with the script for 300 files from all over
// the trees: some together, and some alone.
func TestKernelPaths(t *testing.T) {
	opened := trees(t)
	type job struct {
		tree  *ktree.Tree
		d     *database
		files []string
		said  []said
	}
	var jobs []*job
	for i, tree := range opened {
		d, _ := titles(t, tree)
		all := paths(t, tree, d, 300/len(opened), i)
		for files := range slices.Chunk(all, 25) {
			jobs = append(jobs, &job{tree: tree, d: d, files: files})
		}
		n := 60 / len(opened)
		for i := range n {
			jobs = append(jobs, &job{tree: tree, d: d, files: []string{all[i*len(all)/n]}})
		}
	}
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for _, j := range jobs {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			var err error
			if j.said, err = judge(t.Context(), j.tree, slices.Concat([]string{"--nokeywords", "-f"}, j.files)...); err != nil {
				t.Errorf("%v: %v", j.files, err)
			}
		})
	}
	wg.Wait()
	recipients := 0
	for _, j := range jobs {
		recipients += len(j.said)
		if diff := compare(j.d, j.files, j.said, j.d.said(t, j.files)); diff != "" {
			t.Errorf("%s, %v (-script +reader):\n%s", j.tree.Release(), j.files, diff)
		}
	}
	t.Logf("%d runs, %d recipients", len(jobs), recipients)
}

// TestKernelStand has the trees' scripts read the stand-in, which has what is rare in
// real trees.
func TestKernelStand(t *testing.T) {
	for _, tree := range trees(t) {
		program, err := tree.ReadFile(scriptName)
		if err != nil {
			t.Fatal(err)
		}
		small := stand(t, map[string]string{scriptName: string(program), "Documentation/bindings/names.yaml": names})
		d, shown := titles(t, small)
		for _, change := range []string{
			change("Makefile", "x"),
			change("drivers/bounced/x.c", "int windup;"),
			change("kernel/toy/x.c", "x", "kernel/init.c", "y"),
			change("lib/a_windup.c", "x"),
			change("lib/awindup.c", "x"),
			change("include/linux/core-x.h", "\ttoy_wind(1);"),
			change("lib/x.c", "\ttoy_winder(1);"),
			change("lib/x.c", "\ttoy_stop(1);"),
			change("arch/toy/x.c", "x"),
			change("arch/toys/x.c", "x"),
			change("arch/toys.c", "x"),
			change("drivers/x/toy_x.h", "x"),
			change("drivers/x/y/toy_x.h", "x"),
			change("Documentation/bindings/toy.yaml", "x"),
			change("Documentation/bindings/names.yaml", "x", "Documentation/bindings/none.yaml", "y"),
			change("lib/x.c", "x", "../../etc/x.yaml", "y"),
			"diff --git a/lib/a b/kernel/a\nsimilarity index 100%\nrename from lib/a\nrename to kernel/a\n",
			" mode change 100644 => 100755 kernel/a\ndiff --git a/lib/x b/lib/x\n--- /dev/null\n+++ b/lib/x\n@@ -0,0 +1 @@\n+toy_stop()\n",
			"--- lib/x.orig\n+++ kernel/x\n@@ -1,2 +1 @@\n a\n--- arch/toy/a\n",
		} {
			s := parse(t, letter("a.patch", "1/1", "Text.", change))
			script, err := For(t.Context(), small, s, Options{})
			if err != nil {
				t.Fatal(err)
			}
			reader, err := For(t.Context(), small, s, Options{NoScript: true})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(script.Source, scriptName) {
				t.Fatal(script.Source)
			}
			answer := func(r *Result) []said { return saidBy(slices.Concat(r.Lists[0].To, r.Lists[0].Cc), shown) }
			if diff := compare(d, readPatch(s.Patches[0]).files, answer(script), answer(reader)); diff != "" || len(answer(script)) == 0 {
				t.Errorf("%s, %s (-script +reader):\n%s", tree.Release(), change, diff)
			}
			if tree.Release().Version < 7 {
				continue // the names have other quotes, so others are the same person
			}
			if diff := cmp.Diff(sorted(script.Lists), sorted(reader.Lists), cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Notes" }, cmp.Ignore())); diff != "" {
				t.Errorf("%s, %s (-script +reader):\n%s", tree.Release(), change, diff)
			}
		}
	}
}

// TestKernelGit has the script name the same people for a commit, of which there
// are no files, as for a folder.
func TestKernelGit(t *testing.T) {
	tree := trees(t)[0]
	s := patchesFor(t, tree)
	const binding = "Documentation/devicetree/bindings/trivial-devices.yaml"
	s.Patches[0].Raw = bytes.Replace(s.Patches[0].Raw, []byte("\ndiff --git "), []byte("\ndiff --git a/"+binding+" b/"+binding+"\ndiff --git "), 1)
	want, err := For(t.Context(), tree, s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(want.Lists[1].Cc, func(r Recipient) bool { return r.Role == "in file" }) && !strings.Contains(fmt.Sprint(want.Lists[1]), whyInFile) {
		t.Error("nobody is named in the binding")
	}
	for _, git := range []bool{false, true} {
		dir := t.TempDir()
		for _, name := range []string{"Makefile", "Kconfig", "kernel/Makefile", "MAINTAINERS", ".mailmap", "scripts/get_maintainer.pl", binding} {
			data, err := tree.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name), string(data))
		}
		write(t, filepath.Join(dir, ".get_maintainer.conf"), "--nom\n")
		if git {
			commit(t, dir)
		}
		small, err := ktree.Open(t.Context(), dir, ktree.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer small.Close()
		if (small.Dir() == "") != git {
			t.Fatalf("opened %s", small.Origin())
		}
		got, err := For(t.Context(), small, s, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Source != "scripts/get_maintainer.pl of "+small.Origin() {
			t.Error(got.Source)
		}
		if diff := cmp.Diff(sorted(want.Lists), sorted(got.Lists)); diff != "" {
			t.Errorf("git %v (-whole tree +small):\n%s", git, diff)
		}
	}
}

// sorted is lists in an order that does not depend on Perl's hashes.
func sorted(lists []List) []List {
	for _, l := range lists {
		for _, rs := range [][]Recipient{l.To, l.Cc} {
			slices.SortFunc(rs, func(a, b Recipient) int { return strings.Compare(a.Address, b.Address) })
		}
	}
	return lists
}

func BenchmarkRead(b *testing.B) {
	tree := trees(b)[0]
	text, err := tree.ReadFile("MAINTAINERS")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		newDatabase(text, tree)
	}
}

func BenchmarkFind(b *testing.B) {
	tree := trees(b)[0]
	d, _ := titles(b, tree)
	p := readPatch(patchesFor(b, tree).Patches[0])
	b.SetBytes(int64(len(p.text)))
	for b.Loop() {
		if len(d.find(p.files, p.text)) == 0 {
			b.Fatal("nobody")
		}
	}
}

// BenchmarkFor is a whole series.
func BenchmarkFor(b *testing.B) {
	tree := trees(b)[0]
	s := patchesFor(b, tree)
	for _, name := range []string{"reader", "script"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := For(b.Context(), tree, s, Options{NoScript: name == "reader"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
