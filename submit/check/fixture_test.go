package check

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"patchgen/ktree"
	"patchgen/series"
	"patchgen/submit/patchmail"
)

// now is when the tests are, a day after the commits that they make.
var now = time.Unix(1_750_000_000, 0).UTC()

// A commit is one to be made into a patch.
type commit struct {
	author  string // "Name <address>"; "" is A U Thor
	message string
	edit    func(w *worktree)
}

// A spec is a series to be made by git format-patch.
type spec struct {
	commits []commit
	args    []string // of git format-patch
	subject string   // of the cover letter, which is made if there is one
	text    string
}

// A worktree is where commits are made.
type worktree struct {
	t   testing.TB
	dir string
}

func (w *worktree) git(args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=A U Thor", "GIT_AUTHOR_EMAIL=author@example.org", "GIT_AUTHOR_DATE=@1749900000 +0000",
		"GIT_COMMITTER_NAME=A U Thor", "GIT_COMMITTER_EMAIL=author@example.org", "GIT_COMMITTER_DATE=@1749900000 +0000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func (w *worktree) read(name string) string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

func (w *worktree) write(name, text string) {
	w.t.Helper()
	file := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		w.t.Fatal(err)
	}
}

// add puts text at the end of a file.
func (w *worktree) add(name, text string) { w.write(name, w.read(name)+text) }

func (w *worktree) replace(name, old, text string) {
	w.t.Helper()
	was := w.read(name)
	if strings.Count(was, old) != 1 {
		w.t.Fatalf("%s has %q %d times", name, old, strings.Count(was, old))
	}
	w.write(name, strings.Replace(was, old, text, 1))
}

// files are what the tests' series change; in the stand-in they are longer than
// it has them, so that a hunk can stand elsewhere.
func standIn(t testing.TB) *worktree {
	t.Helper()
	w := &worktree{t, t.TempDir()}
	if err := os.CopyFS(w.dir, os.DirFS("../../series/testdata/linux")); err != nil {
		t.Fatal(err)
	}
	var c strings.Builder
	c.WriteString("// SPDX-License-Identifier: GPL-2.0\n")
	for i := range 30 {
		fmt.Fprintf(&c, "\nint dma_step_%d(int value)\n{\n\tvalue += %d;\n\treturn value;\n}\n", i, i)
	}
	w.write("kernel/dma/steps.c", c.String())
	w.write("scripts/run.sh", "#!/bin/sh\ntrue\n")
	w.git("init", "-q", "-b", "master")
	w.git("config", "core.abbrev", "12")
	w.git("add", "-A")
	w.git("commit", "-qm", "dma-mapping: begin the history")
	w.git("update-ref", "refs/remotes/origin/master", "HEAD")
	return w
}

// open returns the base of the worktree as a tree.
func (w *worktree) open() *ktree.Tree {
	w.t.Helper()
	tree, err := ktree.Open(w.t.Context(), w.dir+"@master", ktree.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { tree.Close() })
	return tree
}

// mails makes the commits of a spec on top of master, and returns what git
// format-patch makes of them.
func (s *spec) mails(w *worktree) []series.Mail {
	w.t.Helper()
	w.git("checkout", "-q", "-B", "topic", "master")
	for _, c := range s.commits {
		c.edit(w)
		w.git("add", "-A", "-f")
		args := []string{"commit", "-q", "--allow-empty", "--allow-empty-message", "--no-verify", "--cleanup=verbatim", "-m", c.message}
		if c.author != "" {
			args = append(args, "--author="+c.author)
		}
		w.git(args...)
	}
	out := w.t.TempDir()
	args := append([]string{"format-patch", "-q", "-o", out}, s.args...)
	w.git(append(args, "master..topic")...)
	w.git("checkout", "-q", "master")
	w.git("clean", "-qfdx")
	mails, err := series.ReadPatches(out)
	if err != nil {
		w.t.Fatal(err)
	}
	if s.subject != "" {
		data := string(mails[0].Data)
		if !strings.Contains(data, "*** BLURB HERE ***") {
			w.t.Fatalf("no cover letter:\n%s", data)
		}
		data = strings.Replace(data, "*** SUBJECT HERE ***", s.subject, 1)
		mails[0].Data = []byte(strings.Replace(data, "*** BLURB HERE ***", s.text, 1))
	}
	return mails
}

const sob = "\n\nSigned-off-by: A U Thor <author@example.org>\n"

// goodSpec is a series that nobody has anything to say about: its second version,
// of three patches that do not touch the same files.
func goodSpec() *spec {
	return &spec{
		args:    []string{"--cover-letter", "-v2", "--base=master"},
		subject: "Count what is mapped, for those who watch",
		text: "Nobody can see how many pages are mapped for a device. Count them, and\nshow the count.\n\n" +
			"It was tested by booting a guest with the option off and on.\n\n" +
			"checkpatch.pl says FILE_PATH_CHANGES for kernel/dma/count.c: MAINTAINERS\nhas all of kernel/dma/.\n\n" +
			"Changes in v2:\n - Have an option.\n - Link to v1: https://lore.kernel.org/r/20250101-count-v1-0-0123456789ab@example.org",
		commits: []commit{
			{message: "dma-mapping: add a count of mapped pages\n\nThe number of pages that are mapped for a device is not known. Add a\nfunction that others can call to count them." + sob,
				edit: func(w *worktree) {
					w.write("kernel/dma/count.c", countC)
				}},
			{message: "dma-mapping: let people choose whether pages are counted\n\nA count costs time, and few want it. Add an option that is off unless it\nis asked for." + sob,
				edit: func(w *worktree) { w.add("kernel/dma/Kconfig", kconfigEntry) }},
			{message: "Documentation: core-api: describe the count of mapped pages\n\nTell what the number means, and when it is exact." + sob,
				edit: func(w *worktree) {
					w.add("Documentation/core-api/dma-attributes.rst", "\nThe count of mapped pages\n-------------------------\n\nThe kernel counts the pages that are mapped for devices, if it was built\nto. The number is exact while nothing is mapped or unmapped.\n")
				}},
		},
	}
}

const (
	countC = `// SPDX-License-Identifier: GPL-2.0
/*
 * Count the pages that are mapped for devices.
 */
#include <linux/atomic.h>
#include <linux/mm.h>

static atomic_long_t dma_mapped_pages;

/* To be called with the number of bytes that were mapped. */
void dma_count_mapped(size_t size)
{
	atomic_long_add(PAGE_ALIGN(size) >> PAGE_SHIFT, &dma_mapped_pages);
}
`
	kconfigEntry = `
config DMA_COUNT_MAPPED
	bool "Count the pages that are mapped for devices"
	help
	  Have the kernel count the pages that are mapped for devices, so
	  that people can see how much memory devices may write to. The
	  count costs an atomic operation each time that something is mapped
	  or unmapped.

	  If unsure, say N.
`
)

// look runs Check without the tree's scripts.
func look(t testing.TB, tree *ktree.Tree, mails []series.Mail) *Result {
	t.Helper()
	s, err := patchmail.ParseAny(mails)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Check(t.Context(), tree, s, Options{Now: now, NoScripts: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *Result) table() string {
	var b strings.Builder
	for _, f := range r.Findings {
		kind := "note "
		if f.Fault {
			kind = "FAULT"
		}
		fmt.Fprintf(&b, "%s %d %s: %s: %s (%s)\n", kind, f.Patch, f.Rule, f.Where, f.Problem, f.Do)
	}
	return b.String()
}

// alter replaces a text that a mail has once.
func alter(t testing.TB, mails []series.Mail, i int, old, text string) {
	t.Helper()
	if n := bytes.Count(mails[i].Data, []byte(old)); n != 1 {
		t.Fatalf("%s has %q %d times:\n%s", mails[i].Name, old, n, mails[i].Data)
	}
	mails[i].Data = bytes.Replace(mails[i].Data, []byte(old), []byte(text), 1)
}

func mbox(mails []series.Mail, from string) []byte {
	var b bytes.Buffer
	for _, m := range mails {
		_, rest, _ := bytes.Cut(m.Data, []byte("\n"))
		fmt.Fprintf(&b, "%s\n%s\n", from, rest)
	}
	return b.Bytes()
}
