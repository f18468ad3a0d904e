package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"patchgen/ktree"
	"patchgen/series"
	"patchgen/submit/patchmail"
)

// A goodSeries is a way to write, pack or send patches that is as good as any.
type goodSeries struct {
	name  string
	spec  func() *spec
	mails func(t testing.TB, w *worktree, all []series.Mail) []series.Mail // or nil
}

// one is a single patch.
func one(message string, edit func(w *worktree), args ...string) func() *spec {
	return func() *spec { return &spec{commits: []commit{{message: message, edit: edit}}, args: args} }
}

func fixStep(w *worktree) { w.replace("kernel/dma/steps.c", "value += 7;", "value += 8;") }

const fixMessage = "dma-mapping: take the seventh step by eight\n\nThe step is one too short, as a test showed." + sob

// asMBox has the mails read from one file, as an archive has them.
func asMBox(from string, more ...string) func(testing.TB, *worktree, []series.Mail) []series.Mail {
	return func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		t.Helper()
		data := mbox(all, from)
		for _, m := range more {
			data = append(data, from+"\n"+m+"\n"...)
		}
		file := filepath.Join(t.TempDir(), "series.mbox")
		if err := os.WriteFile(file, data, 0o666); err != nil {
			t.Fatal(err)
		}
		mails, err := series.ReadPatches(file)
		if err != nil {
			t.Fatal(err)
		}
		return mails
	}
}

// quotedPrintable encodes a mail as git send-email does on demand.
func quotedPrintable(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
	for i, m := range all {
		head, body, _ := bytes.Cut(m.Data, []byte("\n\n"))
		head = bytes.ReplaceAll(head, []byte("\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit"), nil)
		var b bytes.Buffer
		fmt.Fprintf(&b, "%s\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: quoted-printable\n\n", head)
		w := quotedprintable.NewWriter(&b)
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		w.Close()
		all[i].Data = bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n"))
	}
	return all
}

var goodOnes = []goodSeries{
	{"as git writes it", goodSpec, nil},
	{"mbox of git", goodSpec, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		file := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(file, series.MBox(all), 0o666); err != nil {
			t.Fatal(err)
		}
		mails, err := series.ReadPatches(file)
		if err != nil {
			t.Fatal(err)
		}
		return mails
	}},
	{"mbox of b4", goodSpec, asMBox("From git@z Thu Jan  1 00:00:00 1970")},
	{"thread of an archive", goodSpec, asMBox("From mboxrd@z Thu Jan  1 00:00:00 1970",
		"From: R E Viewer <r@example.net>\nSubject: Re: [PATCH v2 2/3] dma-mapping: let people choose whether pages are counted\n\n> diff --git a/x b/x\n\nThanks.\n")},
	{"quoted-printable", goodSpec, quotedPrintable},
	{"threaded", func() *spec { s := goodSpec(); s.args = append(s.args, "--thread=shallow"); return s }, nil},
	{"threaded deep", func() *spec { s := goodSpec(); s.args = append(s.args, "--thread=deep"); return s }, nil},
	{"another prefix", func() *spec {
		s := goodSpec()
		s.args = append(s.args, "--subject-prefix=PATCH net-next", "--rfc")
		s.args = append(s.args[:len(s.args)-1], "--subject-prefix=RFC PATCH net-next")
		return s
	}, nil},
	{"two without cover letter", func() *spec { return &spec{commits: goodSpec().commits[:2]} }, nil},
	{"one", one(fixMessage, fixStep), nil},
	{"one of one", one(fixMessage, fixStep, "-n"), nil},
	{"one with a history", one(fixMessage, fixStep, "-v3"), func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		alter(t, all, 0, "\n---\n", "\n---\nv3: by eight and not by nine\nv2: https://lore.kernel.org/r/x@example.org\n\n")
		return all
	}},
	{"one of b4", one(fixMessage, fixStep), func(t testing.TB, w *worktree, all []series.Mail) []series.Mail {
		alter(t, all, 0, "\n---\n", "\n---\nIt was tested in a guest.\n---\n")
		alter(t, all, 0, "\n-- \n2", "\n---\nbase-commit: "+strings.TrimSpace(w.git("rev-parse", "master"))+"\nchange-id: 20250601-steps-0123456789ab\n\nBest regards,\n-- \nA U Thor <author@example.org>\n\n2")
		return all
	}},
	{"resent", one(fixMessage, fixStep, "--subject-prefix=PATCH RESEND"), nil},
	{"Fixes", one(fixMessage, fixStep), func(t testing.TB, w *worktree, all []series.Mail) []series.Mail {
		hash := strings.TrimSpace(w.git("rev-parse", "master"))
		alter(t, all, 0, "\n"+sobLine, fmt.Sprintf("\nFixes: %.12s (\"dma-mapping: begin the history\")\nCc: stable@vger.kernel.org # 6.1\n"+
			"Reported-by: Some Body <some@example.net>\nCloses: https://bugs.example.org/%s\n", hash, strings.Repeat("1", 80))+sobLine)
		alter(t, all, 0, "The step is", "Since commit "+hash[:12]+" (\"dma-mapping:\nbegin the history\") the step is")
		return all
	}},
	{"many trailers", one("dma-mapping: take the seventh step by eight\n\nThe step is one too short.\n\n"+
		"Link: https://lore.kernel.org/all/"+strings.Repeat("a", 60)+"@example.org/ [1]\nSuggested-by: Some Body <some@example.net>\n"+
		"Co-developed-by: C O Author <co@example.org>\nSigned-off-by: C O Author <co@example.org>\n"+
		"Reviewed-by: \"Viewer, R. E.\" <r@example.net>\nTested-by: T Ester (Company) <t@example.net> # on x86\n"+sobLine, fixStep), nil},
	{"handed on", func() *spec {
		return &spec{commits: []commit{{
			author:  "Some Body <some@example.net>",
			message: "dma-mapping: take the seventh step by eight\n\nThe step is one too short.\n\nSigned-off-by: Some Body <some@example.net>\n[au: reworded]\n" + sobLine,
			edit:    fixStep,
		}}, args: []string{"--from=A U Thor <author@example.org>"}}
	}, nil},
	{"from a company", func() *spec {
		return &spec{commits: []commit{{
			author: "A U Thor (Company) <author@example.org>", edit: fixStep,
			message: "dma-mapping: take the seventh step by eight\n\nThe step is one too short.\n\nSigned-off-by: A U Thor (Company) <author@example.org>\n",
		}}}
	}, nil},
	{"names beyond ASCII", func() *spec {
		s := goodSpec()
		for i := range s.commits {
			s.commits[i].author = "Jürgen Größer, 王 <author@example.org>"
			s.commits[i].message = strings.ReplaceAll(s.commits[i].message, "A U Thor", "Jürgen Größer, 王")
		}
		// As many bytes as would be too long, but not as many characters.
		said(1, "The number of pages", strings.Repeat("ä", 60)+"\nThe number of pages")(s)
		return s
	}, edited(0, fromLine, "From: Jürgen Größer <author@example.org>\n")}, // as some versions of git leave it
	{"shortlog of git shortlog, as b4 has it", goodSpec, func(t testing.TB, w *worktree, all []series.Mail) []series.Mail {
		all = edited(0, "\n  Documentation: core-api: describe the count of mapped pages\n", "\n      Documentation: core-api: describe the count of mapped pages\n")(t, w, all)
		all = edited(0, "\n  dma-mapping: add", "\n      dma-mapping: add")(t, w, all)
		return edited(0, "\n  dma-mapping: let", "\n      dma-mapping: let")(t, w, all)
	}},
	{"text like a shortlog", goodSpec, edited(0, "It was tested by", "Numbers of machines (3):\n  one, two, and three\n\nIt was tested by")},
	{"patch k of n alone", one(fixMessage, fixStep), edited(0, "[PATCH]", "[PATCH 3/8]")},
	{"revert", one("Revert \"dma-mapping: take the seventh step by eight, which was seven, before it was taken\"\n\nThis reverts commit HASH, as it broke the build. It was\ntested by compiling it."+sob, fixStep), func(t testing.TB, w *worktree, all []series.Mail) []series.Mail {
		alter(t, all, 0, "HASH", strings.TrimSpace(w.git("rev-parse", "master"))[:12])
		return all
	}},
	{"long lines that must be", one("dma-mapping: take the seventh step by eight\n\nThe step is one too short:\n\n"+
		"  BUG: unable to handle page fault for address: ffff888100000000 in the function that takes steps\n"+
		"[   12.345678] Call Trace:\n  <TASK>\n dma_step_7+0x12/0x34 and a very long line of a trace without any end, it goes on and on and on\n\n"+
		"See https://www.example.org/a/very/long/path/that/goes/on/and/on/and/on/and/on/and/on/index.html.\n\n"+
		"kernel/dma/steps.c:123:45: warning: a very long warning of the compiler about what is wrong there in the file\n\n"+
		"> A quote of somebody who does not wrap lines and writes on and on and on and on and on and on and on.\n"+sob, fixStep), nil},
	{"renamed, moved, deleted", func() *spec {
		return &spec{
			args: []string{"--cover-letter", "-M", "-C", "--find-copies-harder"}, subject: "Tidy up the steps",
			text: "The steps are all over the place. Tested by compiling it.\n\nThe second is a part of the first.\n\nApplies to 6.12.",
			commits: []commit{
				{message: "dma-mapping: call the steps by their name\n\nThey are paces." + sob, edit: func(w *worktree) {
					w.git("mv", "kernel/dma/steps.c", "kernel/dma/paces.c")
					w.replace("kernel/dma/paces.c", "value += 3;", "value += 4;")
				}},
				{message: "dma-mapping: copy a pace\n\nIt is needed twice." + sob, edit: func(w *worktree) {
					w.write("kernel/dma/more.c", w.read("kernel/dma/paces.c")+"\nint more;\n")
				}},
				{message: "scripts: let run.sh be run\n\nIt is a script." + sob, edit: func(w *worktree) { executable(w, "scripts/run.sh") }},
				{message: "xen/swiotlb: drop the driver\n\nNobody has it." + sob, edit: func(w *worktree) { w.git("rm", "-q", "drivers/xen/swiotlb-xen.c") }},
				{message: "dma-mapping: link to the paces\n\nA name for those who look for it." + sob, edit: func(w *worktree) {
					if err := os.Symlink("paces.c", filepath.Join(w.dir, "kernel/dma/link.c")); err != nil {
						w.t.Fatal(err)
					}
				}},
				{message: "dma-mapping: have the link lead elsewhere\n\nThere is more. An empty file is added, and one without a last\nnewline." + sob, edit: func(w *worktree) {
					os.Remove(filepath.Join(w.dir, "kernel/dma/link.c"))
					if err := os.Symlink("more.c", filepath.Join(w.dir, "kernel/dma/link.c")); err != nil {
						w.t.Fatal(err)
					}
					w.write("kernel/dma/empty.h", "")
					w.write("Documentation/x.rst", "No newline")
				}},
			},
		}
	}, nil},
	{"twelve on one file", func() *spec {
		s := &spec{args: []string{"--cover-letter", "--base=master"}, subject: "Take all steps", text: "One after the other. Not tested at all."}
		for i := range 12 {
			s.commits = append(s.commits, commit{
				message: fmt.Sprintf("dma-mapping: take step %d\n\nIt has not been taken yet, and somebody has to.%s", 2*i, sob),
				edit: func(w *worktree) {
					w.replace("kernel/dma/steps.c", fmt.Sprintf("value += %d;\n", 2*i), fmt.Sprintf("value += %d;\n\tvalue--;\n", 2*i))
				},
			})
		}
		return s
	}, nil},
	{"of diff(1)", one(fixMessage, fixStep), func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		var kept []string
		for line := range strings.Lines(string(all[0].Data)) {
			if !strings.HasPrefix(line, "diff --git") && !strings.HasPrefix(line, "index ") {
				kept = append(kept, line)
			}
		}
		all[0].Data = []byte(strings.Join(kept, ""))
		return all
	}},
	{"huge", func() *spec {
		return &spec{commits: []commit{{message: "dma-mapping: add many numbers\n\nThey are read at run time, as a test does." + sob, edit: func(w *worktree) {
			var b strings.Builder
			for i := range 100_000 {
				fmt.Fprintf(&b, "int dma_number_%d;\n", i)
			}
			w.write("kernel/dma/numbers.c", b.String())
		}}}}
	}, nil},
}

// In good series nothing is found, wherever they come from.
func TestGood(t *testing.T) {
	w := standIn(t)
	tree := w.open()
	for _, g := range goodOnes {
		t.Run(g.name, func(t *testing.T) {
			mails := g.spec().mails(w)
			if g.mails != nil {
				mails = g.mails(t, w, mails)
			}
			t.Parallel()
			r := look(t, tree, mails)
			if r.Faults() > 0 || r.Stats.Applied != r.Stats.Patches {
				t.Errorf("%d of %d patches applied\n%s", r.Stats.Applied, r.Stats.Patches, r.table())
			}
		})
	}
}

// Notes are told, too, and of the right patch.
func TestNotes(t *testing.T) {
	w := standIn(t)
	tree := w.open()
	for _, test := range []struct {
		rule, problem string
		patch         int
		spec          func() *spec
		mails         func(testing.TB, *worktree, []series.Mail) []series.Mail
		now           time.Time
	}{
		{"size", "has 2", 1, goodOnes[len(goodOnes)-1].spec, nil, now},
		{"body-mood", "speaks of this", 1, one("dma: do a thing\n\nThis patch does a thing, as a test shows."+sob, fixStep), nil, now},
		{"testing", "nothing is said of how", 1, one("dma: do a thing\n\nIt was not done."+sob, fixStep), nil, now},
		{"base", "in words only", 0, one("dma: do a thing\n\nIt applies to 6.12."+sob, fixStep), nil, now},
		{"base", "nothing says what it applies to", 0, one("dma: do a thing\n\nIt was not done."+sob, fixStep), nil, now},
		{"base", "is 101 days old", 0, goodSpec, nil, now.Add(100 * 24 * time.Hour)},
		{"base", "is not in the clone", 0, goodSpec, func(t testing.TB, w *worktree, all []series.Mail) []series.Mail {
			hash := strings.TrimSpace(w.git("rev-parse", "master"))
			return edited(0, "base-commit: "+hash, "base-commit: "+strings.Repeat("ab", 20))(t, w, all)
		}, now},
		{"cover", "which two patches can do without", 0, func() *spec { return &spec{commits: goodSpec().commits[:2]} }, nil, now},
		{"index", "no index lines", 1, one(fixMessage, fixStep), func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
			i := bytes.Index(all[0].Data, []byte("\nindex "))
			j := i + 1 + bytes.IndexByte(all[0].Data[i+1:], '\n')
			all[0].Data = append(all[0].Data[:i:i], all[0].Data[j:]...)
			return all
		}, now},
		{"index", "less than 12", 1, one(fixMessage, fixStep, "--abbrev=7"), nil, now},
		{"index", "not as they were", 1, one(fixMessage, fixStep), func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
			i := bytes.Index(all[0].Data, []byte("\nindex ")) + 7
			copy(all[0].Data[i:], "0123456789")
			return all
		}, now},
		{"thread", "answers another mail", 0, goodSpec, edited(0, "\nSubject:", "\nIn-Reply-To: <v1@example.org>\nSubject:"), now},
		{"kconfig", "on by default", 1, one("dma: ask\n\nIt was not asked."+sob, func(w *worktree) {
			w.add("kernel/dma/Kconfig", "\nconfig DMA_X\n\tbool \"x\"\n\tdefault y\n\thelp\n\t  It is x.\n")
		}), nil, now},
		{"title-length", "characters of at most", 0, func() *spec {
			s := goodSpec()
			s.subject = strings.Repeat("Count what is mapped ", 5)
			return s
		}, nil, now},
		{"apply", "was not applied, as patch 1", 2, goodSpec, everywhere(1, "kernel/dma/count.c", "kernel/dma/Makefile"), now},
	} {
		t.Run(test.rule+" "+test.problem, func(t *testing.T) {
			mails := test.spec().mails(w)
			if test.mails != nil {
				mails = test.mails(t, w, mails)
			}
			s, err := patchmail.ParseAny(mails)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Check(t.Context(), tree, s, Options{Now: test.now, NoScripts: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.Findings {
				if f.Rule == test.rule && f.Patch == test.patch && strings.Contains(f.Problem, test.problem) && !f.Fault {
					return
				}
			}
			t.Errorf("there is no such note:\n%s", r.table())
		})
	}
}

// The tree of a folder is as good as one of a clone, and its files stay as they
// are.
func TestFolder(t *testing.T) {
	w := standIn(t)
	mails := goodSpec().mails(w)
	dir := t.TempDir()
	for name := range strings.FieldsSeq(w.git("ls-files")) {
		(&worktree{t, dir}).write(name, w.read(name))
	}
	tree, err := ktree.Open(t.Context(), dir, ktree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	before := listing(t, dir)
	r := look(t, tree, mails)
	if r.Faults() > 0 || r.Stats.Applied != 3 {
		t.Errorf("%d patches applied\n%s", r.Stats.Applied, r.table())
	}
	if !strings.Contains(r.table(), "cannot be looked up here") {
		t.Errorf("nothing is said of the base:\n%s", r.table())
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the tree was\n%s\nand is\n%s", before, after)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(name string, st os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&b, name, st.Mode(), st.Size(), st.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestNoTree(t *testing.T) {
	w := standIn(t)
	r := look(t, nil, goodSpec().mails(w))
	if len(r.Findings) != 1 || r.Findings[0].Rule != "tree" {
		t.Errorf("findings:\n%s", r.table())
	}
}

// A result is a list in JSON even when there is nothing in it, and findings are
// sorted.
func TestJSON(t *testing.T) {
	w := standIn(t)
	tree := w.open()
	mails := goodSpec().mails(w)
	for i := range mails {
		mails[i].Data = bytes.ReplaceAll(mails[i].Data, []byte(sobLine), nil)
	}
	r := look(t, tree, mails)
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, f := range back.Findings {
		if f.Patch < last || f.File == "" {
			t.Errorf("%s", data)
		}
		last = f.Patch
	}
	if empty, _ := json.Marshal(&Result{Findings: []Finding{}, Stats: Stats{Tools: []string{}}}); strings.Contains(string(empty), "null") {
		t.Errorf("%s", empty)
	}
}

// Programs that are missing are named with their package.
func TestMissingTools(t *testing.T) {
	w := standIn(t)
	tree := w.open()
	s, err := patchmail.ParseAny(goodSpec().mails(w))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Check(t.Context(), tree, s, Options{}); err == nil || !strings.Contains(err.Error(), "Debian package codespell") {
		t.Errorf("without codespell: %v", err)
	}
	if _, err := Check(t.Context(), tree, s, Options{NoScripts: true}); err == nil || !strings.Contains(err.Error(), "package git") {
		t.Errorf("without git: %v", err)
	}
}

// What is found in a hostile series is one line of a table, and nothing is
// written beyond the scratch folder.
func TestHostile(t *testing.T) {
	w := standIn(t)
	tree := w.open()
	outside := filepath.Join(t.TempDir(), "outside")
	for _, name := range []string{"../../../../../../../.." + outside, outside, ".git/config", "kernel/../../x", ".GIT/hooks/post-commit", "kernel/dma/\x1b[2J", "-rf"} {
		mails := goodSpec().mails(w)
		mails = everywhere(1, "kernel/dma/count.c", name)(t, w, mails)
		r := look(t, tree, mails)
		if r.Faults() == 0 {
			t.Errorf("%q is taken", name)
		}
		for _, f := range r.Findings {
			if strings.ContainsFunc(f.Problem+f.Where, isControl) || strings.ContainsAny(f.Problem+f.Where, "\n\t") {
				t.Errorf("%q: %+v", name, f)
			}
		}
		if _, err := os.Lstat(outside); err == nil {
			t.Fatalf("%q was written", name)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	w := standIn(b)
	tree := w.open()
	s, err := patchmail.ParseAny(goodOnes[len(goodOnes)-3].spec().mails(w))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Check(b.Context(), tree, s, Options{Now: now, NoScripts: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// What is of use to nobody is told from other faults, without a tree.
func TestUnusable(t *testing.T) {
	w := standIn(t)
	for _, test := range []struct {
		name, rule string // "" if it may be sent
		mails      func(testing.TB, *worktree, []series.Mail) []series.Mail
	}{
		{"as it is", "", everywhere(1, "x", "x")},
		{"not signed off", "", edited(1, sobLine, "")},
		{"a patch less", "numbering", func(_ testing.TB, _ *worktree, all []series.Mail) []series.Mail { return slices.Delete(all, 2, 3) }},
		{"a patch twice", "numbering", func(_ testing.TB, _ *worktree, all []series.Mail) []series.Mail {
			again := all[2]
			again.Name = "again"
			return append(all[:3:3], again, all[3])
		}},
		{"in another order", "order", func(_ testing.TB, _ *worktree, all []series.Mail) []series.Mail {
			slices.Reverse(all)
			return all
		}},
		{"cut off", "apply", func(_ testing.TB, _ *worktree, all []series.Mail) []series.Mail {
			all[1].Data = all[1].Data[:bytes.Index(all[1].Data, []byte("atomic_long_add"))]
			return all
		}},
		{"NUL", "control", edited(1, "The number of pages", "The number\x00 of pages")},
		{"not the UTF-8 that it says", "charset", edited(1, "\n\nThe number of pages", "\nContent-Type: text/plain; charset=UTF-8\n\nThe number of p\xe4ges")},
		{"no diff", "empty", func(_ testing.TB, _ *worktree, all []series.Mail) []series.Mail {
			all[1].Data = all[1].Data[:bytes.Index(all[1].Data, []byte("\ndiff --git"))]
			return all
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := look(t, nil, test.mails(t, w, goodSpec().mails(w))).Unusable()
			if (test.rule != "") != (len(all) > 0) || len(all) > 0 && all[0].Rule != test.rule {
				t.Errorf("%+v, want the rule %q", all, test.rule)
			}
		})
	}
}
