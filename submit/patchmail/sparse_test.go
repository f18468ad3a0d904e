package patchmail

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchgen/series"
)

// files are a tree: C with functions, and text.
func files() map[string]string {
	var c, text strings.Builder
	for f := range 12 {
		fmt.Fprintf(&c, "int function_%d(int a)\n{\n", f)
		for l := range 9 {
			fmt.Fprintf(&c, "\ta += %d;\n", f*l)
		}
		c.WriteString("\treturn a;\n}\n\n")
	}
	for l := range 60 {
		fmt.Fprintf(&text, "Line %d.\n\n", l)
	}
	return map[string]string{"kernel/dma/direct.c": c.String(), "Documentation/dma.rst": text.String(), "Makefile": "obj-y += direct.o\n"}
}

// repository is a git clone of these files, and returns what runs git there.
func repository(t *testing.T) (dir string, git func(args ...string) string) {
	t.Helper()
	dir = t.TempDir()
	git = func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
			"GIT_AUTHOR_NAME=A U Thor", "GIT_AUTHOR_EMAIL=author@example.org", "GIT_AUTHOR_DATE=@1700000000 +0000",
			"GIT_COMMITTER_NAME=A U Thor", "GIT_COMMITTER_EMAIL=author@example.org", "GIT_COMMITTER_DATE=@1700000000 +0000")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	git("init", "-q", "-b", "main")
	git("config", "core.abbrev", "12")
	for name, text := range files() {
		put(t, dir, name, text)
	}
	git("add", "-A")
	git("commit", "-qm", "base")
	return dir, git
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// versions are two of a series, as the files after each patch; the second has
// other lines in one patch, another message, and one patch more.
func versions() [][]map[string]string {
	tree := files()
	c, text := tree["kernel/dma/direct.c"], tree["Documentation/dma.rst"]
	edit := func(s string, pairs ...string) string {
		for i := 0; i < len(pairs); i += 2 {
			s = strings.Replace(s, pairs[i], pairs[i+1], 1)
		}
		return s
	}
	c1 := edit(c, "\ta += 6;\n", "\ta += 6;\n\tmark(a);\n", "\ta += 40;\n", "\ta += 41;\n\ta--;\n")
	c2 := edit(c1, "\tmark(a);\n", "\tif (a)\n\t\tmark(a);\n", "\ta += 88;\n", "")
	d2 := edit(text, "Line 30.\n", "Line thirty.\n")
	mark := "int marks;\n"
	c2b := edit(c2, "\t\tmark(a);\n", "\t\tmark(a + 1);\n")
	return [][]map[string]string{
		{
			{"kernel/dma/direct.c": c1, "kernel/dma/mark.c": mark},
			{"kernel/dma/direct.c": c2, "Documentation/dma.rst": d2},
		},
		{
			{"kernel/dma/direct.c": c1, "kernel/dma/mark.c": mark + "int more;\n"},
			{"kernel/dma/direct.c": c2b, "Documentation/dma.rst": d2},
			{"Makefile": "obj-y += direct.o mark.o\n"},
		},
	}
}

// What git makes of the last version's mails is what it makes of its commits.
func TestRangeDiff(t *testing.T) {
	dir, git := repository(t)
	commit := func(branch string, version []map[string]string) {
		git("checkout", "-q", "-b", branch, "main")
		for i, files := range version {
			for name, text := range files {
				put(t, dir, name, text)
			}
			git("add", "-A")
			git("commit", "-qm", fmt.Sprintf("dma: do the part %d\n\nIt is in %s.\n\nSigned-off-by: A U Thor <author@example.org>", i+1, branch))
		}
	}
	all := versions()
	commit("v1", all[0])
	commit("v2", all[1])

	git("format-patch", "-q", "--cover-letter", "-o", "mails", "main..v1")
	before, err := Read(filepath.Join(dir, "mails"))
	if err != nil {
		t.Fatal(err)
	}
	previous, err := before.Sparse()
	if err != nil {
		t.Fatal(err)
	}

	s := &series.Series{Name: "x", Title: "a title", Blurb: "A text."}
	now := make(map[string][]byte)
	for name, text := range files() {
		now[name] = []byte(text)
	}
	for i, files := range all[1] {
		p := series.Patch{Subject: fmt.Sprintf("dma: do the part %d", i+1), Body: "It is in v2."}
		for name, text := range files {
			p.Changes = append(p.Changes, series.Change{Path: name, Before: now[name], After: []byte(text)})
			now[name] = []byte(text)
		}
		s.Patches = append(s.Patches, p)
	}
	mails, err := s.Mail(t.Context(), series.MailOptions{
		Author: series.Ident{Name: "A U Thor", Email: "author@example.org", When: time.Unix(1700000000, 0)}, SignOff: true, Version: 2,
		Previous: previous, Changelog: "Changes in v2:\n- more", ChangeID: "20260301-x-0123456789ab",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := series.Verify(s, mails); err != nil {
		t.Error(err)
	}

	git("format-patch", "-q", "--cover-letter", "-v2", "-o", "mails2", "--range-diff=main..v1", "--creation-factor=999", "main..v2")
	want, err := os.ReadFile(filepath.Join(dir, "mails2", "v2-0000-cover-letter.patch"))
	if err != nil {
		t.Fatal(err)
	}
	cut := func(text string) string {
		_, diff, found := strings.Cut(text, "Range-diff against v1:\n") // git: builtin/log.c, diff_title
		if !found {
			t.Fatalf("there is no range-diff:\n%s", text)
		}
		diff, _, _ = strings.Cut(diff, "\n-- \n")
		var lines []string
		for line := range strings.Lines(diff) {
			if f := strings.Fields(line); len(f) > 4 && strings.HasSuffix(f[0], ":") { // 1:  abcdef ! 1:  fedcba title
				f[1], f[4] = "HASH", "HASH"
				line = strings.Join(f, " ") + "\n"
			}
			lines = append(lines, line)
		}
		return strings.Split(strings.Join(lines, ""), "\n\nchange-id")[0]
	}
	cover := string(mails[0].Data)
	if diff := cmp.Diff(strings.TrimRight(cut(string(want)), "\n"), strings.TrimRight(cut(cover), "\n")); diff != "" {
		t.Errorf("the range-diff is not that of the commits (-git +patchgen):\n%s", diff)
	}
	if !strings.Contains(cover, "\n\n---\nChanges in v2:\n- more\n\nA U Thor (3):\n") || !strings.Contains(cover, "\n\nchange-id: 20260301-x-0123456789ab\n-- \n") {
		t.Errorf("the cover letter:\n%s", cover)
	}
}

func TestSparseRefused(t *testing.T) {
	for _, diff := range []string{
		"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1900000000,1 +1900000000,1 @@\n-a\n+b\n",
		"diff --git a/x b/x\ndeleted file mode 100644\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n",
		"diff --git a/x b/x\nnew file mode 100644\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+a\ndiff --git a/x b/x\nnew file mode 100644\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+a\n",
	} {
		s, err := Parse([]series.Mail{{Name: "x", Data: []byte("From: a <a@b.c>\nSubject: [PATCH] x\n\nText.\n---\n" + diff)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sparse(); err == nil {
			t.Errorf("taken:\n%s", diff)
		}
	}
}
