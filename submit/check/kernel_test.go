//go:build kernel

package check

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
	"patchgen/series"
	"patchgen/submit/patchmail"
)

// trees are the kernel trees named in PATCHGEN_TREES, folders with colons
// between.
func trees(t *testing.T) []*ktree.Tree {
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
	if all == nil {
		t.Fatal("PATCHGEN_TREES is empty: set it to the folders of kernel trees, with colons between")
	}
	return all
}

func installed(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%v: install the package %s", err, debian)
	}
}

// part has the files of a tree that the series of these tests change, as a clone
// to make commits in.
func part(t *testing.T, tree *ktree.Tree) *worktree {
	t.Helper()
	w := &worktree{t, t.TempDir()}
	for _, name := range []string{
		"MAINTAINERS", "Makefile", "Kconfig", "kernel/dma/Kconfig", "kernel/dma/Makefile", "kernel/dma/direct.h", "kernel/dma/direct.c",
		"Documentation/core-api/dma-attributes.rst", "Documentation/core-api/index.rst",
	} {
		data, err := os.ReadFile(filepath.Join(tree.Dir(), name))
		if err != nil {
			t.Fatal(err)
		}
		w.write(name, string(data))
	}
	w.git("init", "-q", "-b", "master")
	w.git("config", "core.abbrev", "12")
	w.git("add", "-A")
	w.git("commit", "-qm", "dma-mapping: begin the history")
	return w
}

// lookAll runs Check with all that it has.
func lookAll(t *testing.T, tree *ktree.Tree, mails []series.Mail) *Result {
	t.Helper()
	installed(t, "perl", "perl")
	installed(t, "codespell", "codespell")
	s, err := patchmail.ParseAny(mails)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Check(t.Context(), tree, s, Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The series that this repository has for a tree is found good, once it is
// signed.
func TestOwnSeries(t *testing.T) {
	for _, tree := range trees(t) {
		release := strings.Join(strings.SplitN(tree.Release().String(), ".", 3)[:2], ".")
		t.Run(release, func(t *testing.T) {
			mails, err := series.ReadPatches(filepath.Join("../../patches", release))
			if err != nil {
				t.Fatal(err)
			}
			r := lookAll(t, tree, mails)
			for _, f := range r.Findings {
				if f.Fault && (f.Rule != "signed-off-by" && f.Rule != "date") {
					t.Errorf("unsigned: %+v", f)
				}
			}
			for i := range mails[1:] {
				text, rest, _ := bytes.Cut(mails[i+1].Data, []byte("\n---\n"))
				mails[i+1].Data = fmt.Appendf(nil, "%s\n\n%s---\n%s", text, sobLine, rest)
			}
			for i := range mails {
				mails[i].Data = bytes.Replace(mails[i].Data, []byte("Date: Fri, 2 Jan 2026"), []byte("Date: Thu, 2 Jan 2025"), 1)
			}
			r = lookAll(t, tree, mails)
			if r.Faults() > 0 || r.Stats.Applied != len(mails)-1 {
				t.Errorf("%d applied\n%s", r.Stats.Applied, r.table())
			}
			if !strings.Contains(r.table(), "FILE_PATH_CHANGES: added, moved or deleted file(s), does MAINTAINERS need updating? (explained in the cover letter)") {
				t.Errorf("what the cover letter explains is not told:\n%s", r.table())
			}
			t.Logf("%+v", r.Stats)
		})
	}
}

// Nobody says anything about the good series that the faulty ones are made of, by
// whatever way it was sent.
func TestGoodAtAll(t *testing.T) {
	for _, tree := range trees(t) {
		t.Run(tree.Release().String(), func(t *testing.T) {
			w := part(t, tree)
			for _, g := range goodOnes[:8] {
				t.Run(g.name, func(t *testing.T) {
					mails := g.spec().mails(w)
					if g.mails != nil {
						mails = g.mails(t, w, mails)
					}
					if r := lookAll(t, tree, mails); r.Faults() > 0 || r.Stats.Applied != 3 {
						t.Errorf("%d applied\n%s", r.Stats.Applied, r.table())
					}
				})
			}
		})
	}
}

// brokenByTools are found by the programs of the tree and of Debian.
var brokenByTools = []brokenSeries{
	{"no space", "checkpatch", 1, also(1, func(w *worktree) {
		w.add("kernel/dma/count.c", "\nint dma_count(int a)\n{\n\tif(a)\n\t\treturn 1;\n\treturn 0;\n}\n")
	}), nil},
	{"CamelCase", "checkpatch", 1, also(1, func(w *worktree) {
		w.add("kernel/dma/count.c", "\nint dma_countTheseThings(int a)\n{\n\treturn a;\n}\n")
	}), nil},
	{"no license", "checkpatch", 1, also(1, func(w *worktree) {
		w.write("kernel/dma/more.c", "int dma_more;\n")
	}), nil},
	{"unexplained", "checkpatch", 1, func(s *spec) { s.text = strings.Replace(s.text, "FILE_PATH_CHANGES", "something", 1) }, nil},
	{"misspelled text", "spelling", 2, said(2, "few want it", "few recieve it"), nil},
	{"misspelled summary", "spelling", 1, said(1, "add a count of mapped", "add teh count of mapped"), nil},
	{"misspelled cover letter", "spelling", 0, func(s *spec) { s.text = strings.Replace(s.text, "Nobody can", "Nobody definately can", 1) }, nil},
	{"misspelled comment", "spelling", 1, also(1, func(w *worktree) { w.add("kernel/dma/count.c", "\n/* It occured here. */\n") }), nil},
}

// What the programs say of a faulty series is one fault, and nothing is told twice.
func TestBrokenAtAll(t *testing.T) {
	for _, tree := range trees(t) {
		t.Run(tree.Release().String(), func(t *testing.T) {
			w := part(t, tree)
			good := goodSpec().mails(w)
			for _, b := range brokenByTools {
				t.Run(b.name, func(t *testing.T) {
					b.only(t, lookAll(t, tree, b.make(t, w, good)))
				})
			}
		})
	}
}

// faultyC is what checkpatch.pl says a lot of, some of it by looking at the
// tree.
const faultyC = `// SPDX-License-Identifier: GPL-2.0
#include <asm/io.h>
#include <asm/uaccess.h>

static const struct of_device_id dma_ids[] = {
	{ .compatible = "fairchild,74hc595" },
	{ .compatible = "nobody,nothing-at-all" },
	{ }
};

int dma_inflate(int myArgument)
{
	int a=inflateSync(deflateBound(compressBound(myArgument)));
	if(a) { return a; }
        return SetPageDirty(0) ;
}
`

// What the script says in our folder is what it says in the tree.
func TestCheckpatch(t *testing.T) {
	installed(t, "perl", "perl")
	for _, tree := range trees(t) {
		t.Run(tree.Release().String(), func(t *testing.T) {
			w := part(t, tree)
			mails := (&spec{commits: []commit{{
				message: "dma-mapping: have many faults\n\nIt is in /usr/src/linux/kernel/dma/direct.c and /linux/kernel/fork.c:12, see\ncommit 01234567 and a line that is far too long to be one of a commit message, is it not.\n\n" +
					"Reported-by: Some Body <some@example.net>\nsigned-off-by: A U Thor <author@example.org>\n",
				edit: func(w *worktree) {
					w.write("kernel/dma/faults.c", faultyC)
					w.add("kernel/dma/Kconfig", "\nconfig DMA_FAULTS\n\tbool \"Faults\"\n")
					w.replace("kernel/dma/direct.c", "#include <linux/memblock.h> /* for max_pfn */\n", "#include <linux/memblock.h>\n#include <asm/io.h>\n")
				},
			}}}).mails(w)

			scratch := t.TempDir()
			file := filepath.Join(scratch, "x.patch")
			if err := os.WriteFile(file, mails[0].Data, 0o666); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("perl", filepath.Join(tree.Dir(), "scripts/checkpatch.pl"), "--root="+tree.Dir(), "--strict", "--show-types", "--terse", "--no-summary", "--color=never", file)
			cmd.Dir = scratch // where it keeps what it knows of include/
			cmd.Env = append(os.Environ(), "GIT_DIR=/nonexistent", "HOME="+scratch)
			out, err := cmd.Output()
			if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1) {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(out)) {
				// It was run elsewhere, and says where it looked.
				want = append(want, strings.ReplaceAll(strings.TrimSpace(line), tree.Dir(), "."))
			}
			if len(want) < 15 {
				t.Fatalf("the script says only\n%s", out)
			}
			// From git, not all of the tree is there in files.
			for name, tree := range map[string]*ktree.Tree{"folder": tree, "clone": clone(t, tree)} {
				s, err := patchmail.ParseAny(mails)
				if err != nil {
					t.Fatal(err)
				}
				src, err := newSource(tree)
				if err != nil {
					t.Fatal(err)
				}
				defer src.close()
				c := &checker{s: s, o: Options{}}
				h, err := c.apply(t.Context(), src)
				if err != nil {
					t.Fatal(err)
				}
				r := &root{dir: filepath.Join(t.TempDir(), "root"), script: checkpatchOf[tree.Kind()], h: h}
				if err := r.fill(t.Context(), src, s); err != nil {
					t.Fatal(err)
				}
				findings, err := r.checkpatch(t.Context(), 1, s.Patches[0])
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, f := range findings {
					level, rest, _ := strings.Cut(f.Problem, " ")
					got = append(got, level+":"+rest)
					if !strings.HasPrefix(f.Type, "MISSING") && f.Where == "" && f.Type != "NO_AUTHOR_SIGN_OFF" {
						t.Errorf("%s: no place is told: %+v", name, f)
					}
				}
				for i, line := range want {
					_, want[i], _ = strings.Cut(line, ": ")
					if want[i] == "" || !strings.Contains(line, "x.patch:") {
						want[i] = line
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-script in the tree +ours):\n%s", name, diff)
				}
			}
		})
	}
}

// clone makes a clone of a part of a tree, with all that the script looks at.
func clone(t *testing.T, tree *ktree.Tree) *ktree.Tree {
	t.Helper()
	w := part(t, tree)
	for _, dir := range append([]string{"scripts", "include", "Documentation/devicetree/bindings", "kernel"}, checkpatchOf[ktree.Linux].files...) {
		cmd := exec.Command("cp", "-r", "--parents", dir, w.dir)
		cmd.Dir = tree.Dir()
		if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(dir, ".") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	w.git("config", "gc.auto", "0") // or it repacks what we are to read
	w.git("add", "-A", "-f")
	w.git("commit", "-qm", "more")
	return w.open()
}

// A patch that would have the scripts run a command is refused, and runs none.
func TestNoCommands(t *testing.T) {
	tree := trees(t)[0]
	w := part(t, tree)
	mark := filepath.Join(t.TempDir(), "mark")
	command := "$(echo${IFS}>" + mark + ")"
	for name, edit := range map[string]func(w *worktree){
		"name": func(w *worktree) {
			w.write("kernel/dma/x"+strings.ReplaceAll(command, "/", "${PWD%%[!/]*}")+".c", "int a;\n")
		},
		"content": func(w *worktree) { w.write("kernel/dma/x.txt", "++ b/"+command+"\n") },
		"license": func(w *worktree) { w.write("kernel/dma/x.c", "// SPDX-License-Identifier: "+command+"\n") },
		"include": func(w *worktree) {
			w.write("kernel/dma/x.c", "#include <asm/"+command+".h>\n")
			w.write("include/linux/"+strings.ReplaceAll(command, "/", "${PWD%%[!/]*}")+".h", "int a;\n")
		},
		"script": func(w *worktree) {
			w.write("scripts/checkpatch.pl", "#!/usr/bin/perl\nopen(my $f, '>', '"+mark+"');\n")
			w.write("scripts/get_maintainer.pl", "#!/usr/bin/perl\nopen(my $f, '>', '"+mark+"');\n")
			w.write("scripts/spdxcheck.py", "#!/usr/bin/python3\nopen('"+mark+"', 'w')\n")
			executable(w, "scripts/spdxcheck.py")
		},
		"configuration": func(w *worktree) { w.write(".checkpatch.conf", "--root=/nonexistent\n") },
	} {
		mails := (&spec{commits: []commit{{message: "dma: x\n\nA text." + sob, edit: edit}, {message: "dma: y\n\nA text." + sob, edit: func(w *worktree) { w.write("kernel/dma/y.c", "#include <asm/"+command+".h>\n") }}}}).mails(w)
		s, err := patchmail.ParseAny(mails)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Check(t.Context(), tree, s, Options{Now: now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(mark); err == nil {
			t.Fatalf("%s: the command was run", name)
		}
	}
}

// What git send-email makes of a series is as good as the series.
func TestSendEmail(t *testing.T) {
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(strings.TrimSpace(string(path)), "git-send-email")); err != nil {
		t.Fatalf("%v: install the package git-email", err)
	}
	tree := trees(t)[0]
	w := part(t, tree)
	for _, encoding := range []string{"auto", "quoted-printable", "8bit"} {
		s := goodSpec()
		for i := range s.commits {
			s.commits[i].author = "Jürgen Größer <author@example.org>"
			s.commits[i].message = strings.ReplaceAll(s.commits[i].message, "A U Thor", "Jürgen Größer")
		}
		dir := t.TempDir()
		box := filepath.Join(dir, "mbox")
		server := filepath.Join(dir, "sendmail")
		script := "#!/bin/sh\n{ echo 'From x@y Thu Jan  1 00:00:00 1970'; cat; echo; } >>'" + box + "'\n"
		if err := os.WriteFile(server, []byte(script), 0o777); err != nil {
			t.Fatal(err)
		}
		var files []string
		for _, m := range s.mails(w) {
			file := filepath.Join(dir, m.Name)
			if err := os.WriteFile(file, m.Data, 0o666); err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
		w.git(append([]string{"send-email", "--quiet", "--confirm=never", "--suppress-cc=all", "--to=list@example.org", "--from=Jürgen Größer <author@example.org>",
			"--sendmail-cmd=" + server, "--transfer-encoding=" + encoding, "--8bit-encoding=UTF-8"}, files...)...)
		read, err := patchmail.ReadAny(box)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Check(t.Context(), tree, read, Options{}) // the dates are those of sending
		if err != nil {
			t.Fatal(err)
		}
		if r.Faults() != 0 || r.Stats.Applied != 3 {
			t.Errorf("%s: %d applied\n%s", encoding, r.Stats.Applied, r.table())
		}
	}
}
