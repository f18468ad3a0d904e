package series

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
)

// applyTree has what a kernel tree needs, and f with the lines 1 to 9.
func applyTree(t testing.TB) *ktree.Tree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Makefile": "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 1\nEXTRAVERSION =\n", "Kconfig": "\n", "kernel/x": "x\n",
		"f": "1\n2\n3\n4\n5\n6\n7\n8\n9\n",
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, []byte(text), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := ktree.Open(t.Context(), dir, ktree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

const (
	from    = "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nSubject: x\n\nbody\n---\n\n"
	changeF = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -4,3 +4,4 @@\n 4\n 5\n+new\n 6\n-- \n2.39\n"
	again   = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -5,3 +5,3 @@\n 5\n-new\n+newer\n 6\n-- \n2.39\n"
	add     = "diff --git a/d/new.sh b/d/new.sh\nnew file mode 100755\n--- /dev/null\n+++ b/d/new.sh\n@@ -0,0 +1 @@\n+a\n-- \n2.39\n"
	remove  = "diff --git a/kernel/x b/kernel/x\ndeleted file mode 100644\n--- a/kernel/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n-- \n2.39\n"
	rename  = "diff --git a/kernel/x b/kernel/y\nsimilarity index 100%\nrename from kernel/x\nrename to kernel/y\n-- \n2.39\n"
	undo    = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -4,4 +4,3 @@\n 4\n 5\n-new\n 6\n-- \n2.39\n"
	letter  = "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nSubject: [PATCH 0/2] y\n\nwords\n f | 1 +\n\n-- \n2.39\n"
	oneTo9  = "1\n2\n3\n4\n5\n6\n7\n8\n9\n"
)

func TestApply(t *testing.T) {
	tree := applyTree(t)
	for _, test := range []struct {
		name string
		mbox string
		want []Change
	}{
		{"two on a file", letter + "\n" + from + changeF + "\n" + from + again, []Change{
			{Path: "f", Before: []byte(oneTo9), After: []byte("1\n2\n3\n4\n5\nnewer\n6\n7\n8\n9\n")}}},
		{"moved", from + strings.ReplaceAll(changeF, "@@ -4,3 +4,4 @@", "@@ -1,3 +1,4 @@"), []Change{
			{Path: "f", Before: []byte(oneTo9), After: []byte("1\n2\n3\n4\n5\nnew\n6\n7\n8\n9\n")}}},
		{"new", from + add, []Change{{Path: "d/new.sh", After: []byte("a\n")}}},
		{"delete", from + remove, []Change{{Path: "kernel/x", Before: []byte("x\n")}}},
		{"rename", from + rename, []Change{{Path: "kernel/x", Before: []byte("x\n")}, {Path: "kernel/y", After: []byte("x\n")}}},
		{"undone", from + changeF + "\n" + from + undo, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "series.mbox")
			if err := os.WriteFile(file, []byte(test.mbox), 0o666); err != nil {
				t.Fatal(err)
			}
			mails, err := ReadPatches(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Apply(tree, mails)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestApplyErrors(t *testing.T) {
	tree := applyTree(t)
	for _, test := range []struct{ name, patch, want string }{
		{"context", strings.ReplaceAll(changeF, " 6\n", " six\n"), "patch 1: f: hunk 1: the tree does not have its lines at line 4"},
		{"no file", strings.ReplaceAll(changeF, "/f", "/gone"), "patch 1: gone: the tree has no file gone"},
		{"there already", strings.ReplaceAll(add, "d/new.sh", "kernel/x"), "patch 1: kernel/x: the tree has a file kernel/x already"},
		{"outside", strings.ReplaceAll(add, "d/new.sh", "../x"), `patch 1: ../x: "../x" is no path of a file in a source tree`},
		{"git's", strings.ReplaceAll(add, "d/new.sh", ".git/hooks/x"), `no path of a file`},
		{"link", strings.ReplaceAll(add, "100755", "120000"), "which is no regular file"},
		{"mode", "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n", "changes the mode from 100644 to 100755"},
		{"torn", changeF[:strings.Index(changeF, "+new")], "patch 1: "},
		{"nothing", "just words\n", "no diff in these patches"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Apply(tree, []Mail{{Name: "1", Data: []byte(from + test.patch)}})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestReadPatches(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadPatches(dir); err == nil {
		t.Error("an empty folder has patches")
	}
	for _, name := range []string{"0002-b.patch", "0001-a.patch", "README"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	mails, err := ReadPatches(dir)
	if err != nil || len(mails) != 2 || mails[0].Name != "0001-a.patch" || string(mails[1].Data) != "0002-b.patch" {
		t.Errorf("%v, %v", mails, err)
	}
}

func TestSymbols(t *testing.T) {
	const entry = "config NEW\n\tbool \"new\" if !ALL\n\thelp\n\t  words\n\nconfig COUNT\n\tint \"how many\"\n\nconfig HIDDEN\n\tbool\n\tdefault y\n\nconfig OLD\n\tdef_bool y\n\tprompt \"now with a prompt\"\n\nmenuconfig M\n\ttristate \"m\"\n\nif M\nendif\n"
	got := Symbols([]Change{
		{Path: "lib/Kconfig.debug", Before: []byte("config OLD\n\tbool \"old\"\n"), After: []byte(entry)},
		{Path: "arch/arm/Kconfig", After: []byte("config ARM_ONLY\n\tbool \"x\"\n")},
		{Path: "arch/x86/Kconfig", After: []byte("config X\n\tbool \"x\"\n")},
		{Path: "lib/config.c", After: []byte("config C\n\tbool \"x\"\n")},
	})
	if diff := cmp.Diff([]string{"M", "NEW", "X"}, got); diff != "" {
		t.Error(diff)
	}
}

// Whatever stands in a patch, Apply returns, and names no path outside the tree.
func FuzzApply(f *testing.F) {
	tree := applyTree(f)
	for _, patch := range []string{changeF, add, remove, rename, changeF + undo} {
		f.Add([]byte(from + patch))
	}
	f.Fuzz(func(t *testing.T, patch []byte) {
		parts := splitMBox(patch)
		var mails []Mail
		n := 0
		for _, p := range parts {
			mails = append(mails, Mail{Name: "x", Data: p})
			n += len(p)
		}
		if n != len(patch) {
			t.Fatal("the mbox was not cut up whole")
		}
		changes, err := Apply(tree, mails)
		if err != nil {
			return
		}
		for _, c := range changes {
			if !filepath.IsLocal(c.Path) {
				t.Errorf("%q", c.Path)
			}
		}
		Symbols(changes)
	})
}

func TestMove(t *testing.T) {
	const hunks = "@@ -2,2 +2,3 @@\n a\n+new\n b\n@@ -5,2 +6,3 @@\n a\n+new\n b\n"
	for _, test := range []struct{ src, want string }{
		{"x\na\nb\nx\na\nb\n", "x\na\nnew\nb\nx\na\nnew\nb\n"},
		{"a\nb\nx\na\nb\n", ""},                                      // the first stands at two places
		{"x\na\nb\nx\nx\na\nb\n", "x\na\nnew\nb\nx\nx\na\nnew\nb\n"}, // the second is one line further down
		{"x\na\nb\nx\nx\na\nb\na\nb\n", ""},
		{"x\na\nb\nx\na\n", ""},
	} {
		files, _, err := gitdiff.Parse(strings.NewReader("diff --git a/f b/f\n--- a/f\n+++ b/f\n" + hunks))
		if err != nil {
			t.Fatal(err)
		}
		move(files[0].TextFragments, []byte(test.src))
		var got strings.Builder
		err = gitdiff.Apply(&got, strings.NewReader(test.src), files[0])
		if (err == nil) != (test.want != "") || err == nil && got.String() != test.want {
			t.Errorf("%q: got %q, %v; want %q", test.src, got.String(), err, test.want)
		}
	}
}

// Steps are the changes of one patch after the other, and Apply is their sum.
func TestSteps(t *testing.T) {
	tree := standIn(t, nil)
	s, err := render(t, tree)
	if err != nil {
		t.Fatal(err)
	}
	mails, err := s.Mail(t.Context(), MailOptions{Author: thor})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := Steps(tree, mails)
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != len(mails) || steps[0] != nil {
		t.Fatalf("%d steps of %d mails, the cover letter changes %v", len(steps), len(mails), steps[0])
	}
	for i, p := range s.Patches {
		want := slices.SortedFunc(slices.Values(p.Changes), func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
		if diff := cmp.Diff(want, steps[i+1]); diff != "" {
			t.Errorf("patch %d (-rendered +applied):\n%s", i+1, diff)
		}
	}
}
