package series

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
)

// info returns how git mailinfo understands a mail: the lines Author, Email,
// Subject and Date, an empty line, and the message below the subject.
func info(t *testing.T, mail []byte) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("git", "mailinfo", "msg", "patch")
	cmd.Dir, cmd.Env = dir, gitEnv(dir)
	cmd.Stdin = bytes.NewReader(mail)
	head, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	message, err := os.ReadFile(filepath.Join(dir, "msg"))
	if err != nil {
		t.Fatal(err)
	}
	return string(head) + string(message)
}

// fuzzing reports whether a fuzz target runs with -fuzz. Else it has no seeds:
// what they would test is tested faster, all at once.
func fuzzing() bool { return flag.Lookup("test.fuzz").Value.String() != "" }

// sample are texts of every kind, good and bad, to stand below a subject.
var sample = []string{
	"", "Why.", "a\n\nb", "\n\n a\n\n\n\nb  \n\n", "\ta\n", "Größer", "a\n---", "a\n--- ", "a\n---\nb", "a\n--- b/c", "a\n----", "a\n---x", "a\n -- -",
	"diff -u a b", "diff --git a/x b/x", "diff x", "Index: x", "Index:x", "From: a", "from: a", "Date: x", "Subject: x", "a\nSubject: x", "To: x",
	"From a@b Mon Sep 17 00:00:00 2001", "a\nFrom 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: x\n\nb",
	"From here\nFrom there", "From the one at 10:30:00 in 1990", "a\nFrom the one at 10:30:00 in 2091", ">From here", "> From here", ">From\tx", ">From 0123 Mon Sep 17 00:00:00 2001",
	"[PATCH] x", "[PATCH]x", "[PATCH 1/2] x", "a\n-- \nb", "a\n--\nb", "a\r\nb", "a\x00b", "a\x7fb", "a\xffb", "a\u2028b", "a\u0085b", "a\u00a0b", "#a\n# b",
	"a\n@@ -1 +1 @@\n-a\n+b", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b", "a\n-- >8 --\nb", "Why.\n\nCc: a@b", "a\fb", "\v", "\ufeffa",
	"=?UTF-8?q?x?=", "Content-Type: text/plain; charset=latin1", "MIME-Version: 1.0", "a =\nb", "> a\n>> b", ".\n.", "diff - x\n", "--- \u00a0x",
}

// subjects are subjects of every kind, good and bad.
var subjects = []string{
	"mm: size", "mm: Größe", "Re: x", "re: x", "Re:x", "Rex", ":x", "[x] y", "a [x]", "(x) y", "a: b: c", " a", "a ", "a  b", "a\tb", "a\nb", "a\rb", "a\x00",
	"a\u00a0b", "=?UTF-8?q?x?=", "=?UTF-8?q?x?= =?UTF-8?q?y?=", "a =? b", "a =?= b", "x?=", "PATCH", "a_b=c", "\"a\" <b>", "<a>", "a,b;c", "a\\", "a.", ".a", "-a", "--- a", "diff -a",
	repeat("long ", 60), repeat("längeres ", 60), repeat("x", 300), repeat("ü", 300), repeat("日本", 99), "\xff", "a\u2029b", "\u200b", "\u202e", "🐧 tux",
}

// readMessages writes patches with the given messages, and has git mailinfo
// read them.
func readMessages(t *testing.T, messages [][2]string, signed bool) {
	t.Helper()
	s := &Series{Name: "messages", Title: "messages", Blurb: "Why."}
	var want []string
	for i, m := range messages {
		signOff := ""
		if signed {
			signOff = "Signed-off-by: A U Thor <author@example.org>"
		}
		full, err := message(m[0], m[1], signOff)
		if err != nil {
			continue
		}
		s.Patches = append(s.Patches, Patch{Subject: m[0], Body: m[1], Changes: []Change{{fmt.Sprint(i), nil, []byte("x\n")}}})
		_, text, _ := strings.Cut(strings.TrimSuffix(full, "\n"), "\n\n")
		if text != "" {
			text += "\n"
		}
		want = append(want, fmt.Sprintf("Author: A U Thor\nEmail: author@example.org\nSubject: %s\nDate: Sun, 1 Mar 2026 12:34:56 +0330\n\n%s", m[0], text))
	}
	if len(want) == 0 {
		return
	}
	mails, err := s.Mail(context.Background(), MailOptions{Author: thor, SignOff: signed, Prefix: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(s, mails); err != nil {
		t.Error(err)
	}
	mails = patches(s, mails)
	dir := t.TempDir()
	if n := judge(t, dir, "mailsplit", "-o"+dir, save(t, []Mail{{"mbox", MBox(mails)}})[0]); n != fmt.Sprintln(len(mails)) {
		t.Errorf("git splits %d mails into %s", len(mails), n)
	}
	for i, m := range mails {
		if diff := cmp.Diff(want[i], info(t, m.Data)); diff != "" {
			t.Errorf("this (-) is read by git as (+):\n%s", diff)
		}
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	var messages [][2]string
	for _, s := range subjects {
		messages = append(messages, [2]string{s, "Why."})
	}
	for _, s := range sample {
		messages = append(messages, [2]string{"mm: size", s})
	}
	readMessages(t, messages, false)
}

func FuzzMessage(f *testing.F) {
	if fuzzing() {
		for _, s := range subjects {
			f.Add(s, "Why.", true)
		}
		for _, s := range sample {
			f.Add("mm: size", s, false)
		}
	}
	f.Fuzz(func(t *testing.T, subject, text string, signed bool) {
		readMessages(t, [][2]string{{subject, text}}, signed)
	})
}

// readIdents writes a patch by each author who is not refused, and has git
// mailinfo read it.
func readIdents(t *testing.T, authors []Ident) {
	t.Helper()
	r, base, tree := emptyScratch(t)
	tip := base
	var want []string
	for _, a := range authors {
		who, err := a.signature()
		if err != nil {
			continue
		}
		m, err := message("mm: size", "Why.", signOff(who))
		if err != nil {
			t.Fatal(err)
		}
		if tip, err = putCommit(r, tree, tip, who, m); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("Author: %s\nEmail: %s\nSubject: mm: size\nDate: %s\n\nWhy.\n\nSigned-off-by: %[1]s <%[2]s>\n",
			who.Name, who.Email, who.When.Format("Mon, 2 Jan 2006 15:04:05 -0700")))
	}
	if len(want) == 0 {
		return
	}
	if err := r.flush(); err != nil {
		t.Fatal(err)
	}
	judge(t, r.dir, "format-patch", "-q", "--always", "-o", "out", base.String()+".."+tip.String())
	for i, m := range load(t, filepath.Join(r.dir, "out")) {
		text, _ := cutSignature(m.Data)
		if diff := cmp.Diff(want[i], info(t, text)); diff != "" {
			t.Errorf("this (-) is read by git as (+):\n%s", diff)
		}
	}
}

// emptyScratch returns a scratch repository with a commit of an empty tree.
func emptyScratch(t *testing.T) (r *scratch, base, tree plumbing.Hash) {
	t.Helper()
	r, err := newScratch(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if tree, err = putFiles(r, plumbing.ZeroHash, nil); err != nil {
		t.Fatal(err)
	}
	who, err := committer.signature()
	if err != nil {
		t.Fatal(err)
	}
	if base, err = putCommit(r, tree, plumbing.ZeroHash, who, "base\n"); err != nil {
		t.Fatal(err)
	}
	return r, base, tree
}

var (
	names = []string{
		"A U Thor", "A", "", " ", ".", "A.", "A. U. Thor", "Jörg", "日本", "Thor, A", `A "U" Thor`, `"A U Thor"`, `"`, `\`, `A \ B`, "(A)", "A (U) Thor", "A (U", "A) U", `J "ö"`, `ö (x)`, "ö (x", "ö x)", "ö, x", "A@B", "ö@b",
		"A <b>", "A\nB", "A\rB", "A\x00", "A  B", "A\tB", "A\u00a0B", "A:B", "A;B", "[A]", "=?UTF-8?q?x?=", "A =?", "A\u202eB", "\xff", repeat("x", 60), repeat("ü", 30), repeat("x", 61), "'A'", "A'B", "-", "ö.", "ö \\ x", `o\"x`,
	}
	addresses = []string{"", "a", "a@b", " a@b ", "<a@b>", "a b@c", "a\n@b", "ö@b", "a,b@c", `"a b"@c`, `"a"@c`, "a(b)@c", "a@[1.2.3.4]", "(a@b)", "a@b@c", "a;b@c", ":a@b", "a\\b@c", repeat("a", 300) + "@b"}
)

func TestIdent(t *testing.T) {
	t.Parallel()
	var authors []Ident
	for _, name := range names {
		authors = append(authors, Ident{name, thor.Email, thor.When})
	}
	for i, email := range addresses {
		authors = append(authors, Ident{names[7*(i%2)], email, time.Unix(4102444799*int64(i%2), 0).In(time.FixedZone("", (14-2*i)*3600))})
	}
	readIdents(t, authors)
}

func FuzzIdent(f *testing.F) {
	if fuzzing() {
		for _, name := range names {
			f.Add(name, "author@example.org", int64(1772355896), 210)
		}
		for _, email := range addresses {
			f.Add("A U Thor", email, int64(0), -12*60)
			f.Add("Jörg", email, int64(4102444799), 14*60)
		}
	}
	f.Fuzz(func(t *testing.T, name, email string, unix int64, minutes int) {
		if minutes > -24*60 && minutes < 24*60 {
			readIdents(t, []Ident{{name, email, time.Unix(unix, 0).In(time.FixedZone("", minutes*60))}})
		}
	})
}

// TestSign compares sign with git format-patch --signoff for many texts.
func TestSign(t *testing.T) {
	t.Parallel()
	const line = "Signed-off-by: Com Mitter <committer@example.org>"
	texts := []string{"", "a", "a\n\nb", line, "a\n\n" + line, "a\n" + line, line + "\n\na", "a\n\n" + line + "\nCc: b"}
	lines := []string{
		"", "", "a", "a b: c", "Cc: a", "Fixes: b", "Key : c", "Key:", ": x", "-: x", " more", "\tmore", "# remark", line, "Signed-off-by: Other <o@b>", "Signed-off-by:x",
		"(cherry picked from commit 0123)", "Größe: x", "Link=x",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 600 {
		var text []string
		for range 1 + random.IntN(9) {
			text = append(text, lines[random.IntN(len(lines))])
		}
		if i%2 == 0 { // one paragraph, behind another
			text = append([]string{"a", ""}, slices.DeleteFunc(text, func(s string) bool { return s == "" })...)
		}
		texts = append(texts, strings.Join(text, "\n"))
	}

	who, err := committer.signature()
	if err != nil {
		t.Fatal(err)
	}
	r, base, tree := emptyScratch(t)
	tip := base
	var want []string
	for i, text := range texts {
		text = clean(text)
		subject := fmt.Sprintf("Number %d", i)
		if tip, err = putCommit(r, tree, tip, who, strings.TrimRight(subject+"\n\n"+text, "\n")+"\n"); err != nil {
			t.Fatal(err)
		}
		want = append(want, sign(text, line))
	}
	if err := r.flush(); err != nil {
		t.Fatal(err)
	}
	judge(t, r.dir, "format-patch", "-q", "--always", "--signoff", "-o", "out", base.String()+".."+tip.String())
	for i, m := range load(t, filepath.Join(r.dir, "out")) {
		got, _ := cutSignature(m.Data)
		_, text, _ := strings.Cut(string(got), "\n\n")
		if text != want[i]+"\n" {
			t.Errorf("signed %q: git has %q, this is %q", texts[i], text, want[i])
		}
	}
}

func TestMessageRefuses(t *testing.T) {
	for _, c := range []struct{ subject, text, want string }{
		{"", "", "the subject is empty"},
		{"a\nb", "", `the subject "a\nb" is not one line of printable UTF-8`},
		{"a\x1bb", "", `the subject "a\x1bb" is not one line of printable UTF-8`},
		{"a  b", "", `the subject "a  b" has white space at an end, doubled or of an odd kind`},
		{"[RFC] a", "", `the subject "[RFC] a" begins with what git am would take off`},
		{"a", "b\n---\nc", `line 2 of the text, "---", looks like a patch and would end the message: reword it or indent it`},
		{"a", "b\n\ndiff --git a/b b/b", `line 3 of the text, "diff --git a/b b/b", looks like a patch and would end the message: reword it or indent it`},
		{"a", "From a@b Mon Sep 17 00:00:00 2001", `line 1 of the text, "From a@b Mon Sep 17 00:00:00 2001", would begin another mail for git am: reword it or indent it`},
		{"a", "Subject: b", `line 1 of the text, "Subject: b", would be a header for git am: reword it or indent it`},
		{"a", "b\x07", `line 1 of the text, "b\a", is not printable UTF-8: reword it or indent it`},
	} {
		if _, err := message(c.subject, c.text, ""); err == nil || err.Error() != c.want {
			t.Errorf("%q, %q: got error %v, want %s", c.subject, c.text, err, c.want)
		}
	}
}
