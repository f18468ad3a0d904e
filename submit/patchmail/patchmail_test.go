package patchmail

import (
	"bytes"
	"fmt"
	"mime/quotedprintable"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/series"
)

const diff = `diff --git a/mm/slab.c b/mm/slab.c
index 1111111..2222222 100644
--- a/mm/slab.c
+++ b/mm/slab.c
@@ -1 +1 @@
-int slab;
+int slabs;
`

// mail is a patch as git format-patch writes it, with the given header lines
// and text.
func mail(headers, text string) series.Mail {
	return series.Mail{Name: "0001-x.patch", Data: []byte("From 1234567890123456789012345678901234567890 Mon Sep 17 00:00:00 2001\n" +
		headers + "\n" + text + "---\n mm/slab.c | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)\n\n" + diff + "-- \n2.39.5\n\n")}
}

const plain = "From: A U Thor <author@example.org>\nDate: Fri, 2 Jan 2026 03:04:05 +0000\nSubject: [PATCH v3 02/10] mm: count the slabs\n"

// mails are such as come from git, from other tools, and from nobody sane.
func mails() map[string]series.Mail {
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	fmt.Fprintf(w, "Über alles.\n---\n%s-- \n2.39.5\n", diff)
	w.Close()
	mime := "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
	all := map[string]series.Mail{
		"plain":            mail(plain, "There are several.\n\nSigned-off-by: A U Thor <author@example.org>\n"),
		"no text":          mail(plain, ""),
		"other's":          mail(plain, "From: Else <else@example.org>\n\nText.\n"),
		"in-body subject":  mail(plain, "From: Else <else@example.org>\nSubject: [PATCH] other title\n\nText.\n"),
		"folded":           mail("From: A U Thor <author@example.org>\nSubject: [PATCH net-next\n v2 1/2] net: a title\n that goes on\n", "Text.\n"),
		"encoded":          mail("From: =?UTF-8?q?J=C3=BCrgen=20M?= <j@example.org>\nSubject: =?UTF-8?q?[PATCH=201/1]=20mm:=20=C3=BCber?=\n"+mime+"Content-Transfer-Encoding: 8bit\n", "Über.\n"),
		"quoted-printable": {Name: "qp.patch", Data: []byte("From: A U Thor <author@example.org>\nSubject: [PATCH] mm: x\n" + mime + "Content-Transfer-Encoding: quoted-printable\n\n" + strings.ReplaceAll(qp.String(), "\r\n", "\n"))},
		"reply":            mail("From: A U Thor <author@example.org>\nSubject: Re: [PATCHv2] mm: x\n", "Text.\n"),
		"latin1":           mail("From: A U Thor <author@example.org>\nSubject: [PATCH] mm: x\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n", "\xdcber.\n"),
		"quoted name":      mail("From: \"Thor, A U\" <author@example.org>\nSubject: [PATCH] mm: x\n", "Text.\n"),
	}
	crlf := all["plain"]
	crlf.Data = bytes.ReplaceAll(crlf.Data, []byte("\n"), []byte("\r\n"))
	all["crlf"] = crlf
	return all
}

// mailinfo has git read a mail, as git am does.
func mailinfo(t *testing.T, data []byte) (info map[string]string, message, patch string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("git", "mailinfo", "msg", "patch")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git mailinfo: %v", err)
	}
	info = make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ": "); ok {
			info[key] = value
		}
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	return info, strings.TrimSpace(read("msg")), read("patch")
}

func TestAsGit(t *testing.T) {
	all := mails()
	real, err := series.ReadPatches("../../patches/6.12")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range real[1:] {
		all[m.Name] = m
	}
	for name, raw := range all {
		t.Run(name, func(t *testing.T) {
			m, err := parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			data := raw.Data
			if m.CRLF {
				data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
			}
			info, message, patch := mailinfo(t, data)
			got := map[string]string{"Author": m.Author.Name, "Email": m.Author.Address, "Subject": m.Title}
			delete(info, "Date")
			if diff := cmp.Diff(info, got); diff != "" {
				t.Errorf("not as git mailinfo (-git +patchmail):\n%s", diff)
			}
			if diff := cmp.Diff(message, m.Message); diff != "" {
				t.Errorf("the message is not as git's (-git +patchmail):\n%s", diff)
			}
			if m.DiffError != nil || !strings.HasSuffix(strings.TrimSpace(patch), strings.TrimSpace(string(m.Diff))) {
				t.Errorf("the diff is not git's: %v\n%s", m.DiffError, m.Diff)
			}
		})
	}
}

func TestTags(t *testing.T) {
	for _, test := range []struct {
		subject, title string
		tags           Tags
	}{
		{"[PATCH] a: b", "a: b", Tags{Words: []string{"PATCH"}, Version: 1}},
		{"[RFC PATCH net-next v2 03/10] a: b", "a: b", Tags{Words: []string{"RFC", "PATCH", "net-next"}, Version: 2, Number: 3, Total: 10, Width: 2}},
		{"Re: [PATCHv4 1/2] [foo] a: b", "a: b", Tags{Words: []string{"PATCH", "foo"}, Version: 4, Number: 1, Total: 2, Width: 1}},
		{"a: [b] c", "a: [b] c", Tags{Version: 1}},
		{"[PATCH 1/99999999999999] x", "x", Tags{Words: []string{"PATCH", "1/99999999999999"}, Version: 1}},
		{"[", "[", Tags{Version: 1}},
	} {
		tags, title := tags(test.subject)
		if title != test.title {
			t.Errorf("%q: title %q", test.subject, title)
		}
		if diff := cmp.Diff(test.tags, tags); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.subject, diff)
		}
	}
}

func TestRead(t *testing.T) {
	s, err := Read("../../patches/6.12")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../patches/6.12/*.patch")
	if err != nil {
		t.Fatal(err)
	}
	n := len(files) - 1 // one is the cover letter
	if s.Cover == nil || s.Cover.Tags.Total != n || len(s.Patches) != n {
		t.Fatalf("%d patches, want %d and a cover letter that says so", len(s.Patches), n)
	}
	for i, m := range s.Patches {
		if m.Tags.Number != i+1 || m.Tags.Total != n || m.Files == nil {
			t.Errorf("%s: number %d of %d, %d files", m.Name, m.Tags.Number, m.Tags.Total, len(m.Files))
		}
	}
	if got := s.Patches[0].Trailers(); len(got) > 1 {
		t.Errorf("trailers %v", got)
	}

	// A mailbox may have them in any order, and a folder the cover letter under any name.
	mails, err := series.ReadPatches("../../patches/6.12")
	if err != nil {
		t.Fatal(err)
	}
	cover := mails[0]
	for _, parse := range []func([]series.Mail) (*Series, error){Parse, ParseAny} {
		for at := range mails {
			late, err := parse(slices.Insert(slices.Clone(mails[1:]), at, cover))
			if err != nil || late.Cover == nil || late.Cover.Name != cover.Name || len(late.Patches) != n {
				t.Fatalf("the cover letter as mail %d: %v", at, err)
			}
		}
	}
	other := cover
	other.Name = "other"
	if _, err := Parse(append(slices.Clone(mails), other)); err == nil || !strings.Contains(err.Error(), "are both cover letters") {
		t.Errorf("with two cover letters: %v", err)
	}
}

func TestMentions(t *testing.T) {
	base := strings.Repeat("ab", 20)
	m := mail(plain, "Text.\n")
	m.Data = bytes.Replace(m.Data, []byte("-- \n"), []byte("\nbase-commit: "+base+"\n-- \n"), 1)
	s, err := Parse([]series.Mail{m})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Patches[0].Mentions("base-commit"); got != base {
		t.Errorf("base-commit %q", got)
	}
	if got := s.Patches[0].Mentions("change-id"); got != "" {
		t.Errorf("change-id %q", got)
	}
}

func TestTrailers(t *testing.T) {
	m, err := parse(mail(plain, "Not: this one\n\nFixes: 123456789012 (\"x\")\nCc: stable@vger.kernel.org # 5.10\n[a: remark]\nSigned-off-by: A U Thor <author@example.org>\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Trailer{
		{"Fixes", `123456789012 ("x")`, 3}, {"Cc", "stable@vger.kernel.org # 5.10", 4},
		{"Signed-off-by", "A U Thor <author@example.org>", 6},
	}
	if diff := cmp.Diff(want, m.Trailers()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct{ data, want string }{
		"no mail":   {diff, "is no mail"},
		"empty":     {" \n", "is empty"},
		"multipart": {"From: a <a@b.c>\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\n", "several parts"},
		"no diff":   {"From: a <a@b.c>\nSubject: hello\n\nText.\n", series.ErrNoDiff.Error()},
		"long line": {"From: a <a@b.c>\nSubject: x\n\n" + strings.Repeat("x", MaxLine+1) + "\n", "a line of more than"},
	} {
		if _, err := Parse([]series.Mail{{Name: "x.patch", Data: []byte(test.data)}}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// A title with a line end in it stays a title.
func TestHostileSubject(t *testing.T) {
	m, err := parse(mail("From: A <a@example.org>\nSubject: =?UTF-8?q?[PATCH]_a=0ABcc:_x@example.org?=\n", "Text.\n"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get("Bcc") != "" || strings.Contains(m.Subject, "\n") {
		t.Errorf("subject %q, Bcc %q", m.Subject, m.Header.Get("Bcc"))
	}
}

// IDs are those of git patch-id of each file alone, and change with any byte of
// what a patch says.
func TestIDs(t *testing.T) {
	s, err := Read("../../patches/6.12")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := IDs(t.Context(), s.Mails())
	if err != nil {
		t.Fatal(err)
	}
	if ids[0].PatchID != "" {
		t.Errorf("the cover letter has the patch-id %s", ids[0].PatchID)
	}
	for i, m := range s.Patches {
		cmd := exec.Command("git", "patch-id", "--stable")
		cmd.Stdin = bytes.NewReader(m.Raw)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if want, _, _ := strings.Cut(string(out), " "); ids[i+1].PatchID != want {
			t.Errorf("%s: patch-id %s, git has %s", m.Name, ids[i+1].PatchID, want)
		}
	}
	raw := mail(plain, "Text.\n")
	at := bytes.Index(raw.Data, []byte("From: "))
	end := bytes.LastIndex(raw.Data, []byte("-- \n"))
	date := bytes.Index(raw.Data, []byte("Date:"))
	dateEnd := date + bytes.IndexByte(raw.Data[date:], '\n')
	want := ""
	for i := at - 1; i < end; i++ {
		changed := series.Mail{Name: raw.Name, Data: bytes.Clone(raw.Data)}
		if i >= at {
			changed.Data[i] ^= 1
		}
		s, err := Parse([]series.Mail{changed})
		if err != nil {
			continue // it is no patch any more
		}
		id := s.Patches[0].digest()
		switch {
		case i < at:
			want = id
		case id == want && (i < date || i > dateEnd) && !blank(raw.Data[i]) && !blank(changed.Data[i]):
			t.Errorf("byte %d, %q: another value gives the same SHA-256", i, raw.Data[max(0, i-10):i+1])
		}
	}
}

func blank(b byte) bool { return b == ' ' || b == '\n' || b == '!' || b == '\v' }

func FuzzParse(f *testing.F) {
	for _, m := range mails() {
		f.Add(m.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse([]series.Mail{{Name: "x", Data: data}})
		if err != nil {
			return
		}
		for _, m := range s.Mails() {
			m.Trailers()
			m.Mentions("base-commit")
			m.digest()
			if strings.ContainsAny(m.Subject, "\r\n") {
				t.Errorf("subject %q", m.Subject)
			}
		}
		s.Sparse()
	})
}
