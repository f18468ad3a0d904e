package send

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const received = "Return-Path: <sender@example.org>\r\nReceived: from a by b\r\n\twith SMTP; Wed, 4 Mar 2026\r\nDKIM-Signature: v=1;\r\n b=x\r\n"

// arrived is a mail as a server delivers it.
func arrived(m Message) []byte { return []byte(received + crlf(m.Data)) }

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// mboxOf is an mbox as mail clients write it, with quoted From lines.
func mboxOf(t testing.TB, mails ...[]byte) string {
	var all bytes.Buffer
	for _, m := range mails {
		all.WriteString("From sender@example.org Wed Mar  4 23:59:58 2026\n")
		for line := range bytes.Lines(m) {
			if fromLine.Match(line) {
				all.WriteByte('>')
			}
			all.Write(line)
		}
		all.WriteString("\n")
	}
	return write(t, filepath.Join(t.TempDir(), "mbox"), all.Bytes())
}

// Whatever the form, mails that came back as they were are found to be so.
func TestCompareSame(t *testing.T) {
	in := append(drafts(t, "6.12"), draft("from.patch", plainHeader, "From a\n>From b\n\nFrom: header\n"+plainBody))
	messages := compose(t, options(), in...)
	var all [][]byte
	for _, m := range messages {
		all = append(all, arrived(m))
	}
	dir := t.TempDir()
	for i, m := range all {
		write(t, filepath.Join(dir, "maildir", []string{"cur", "new"}[i%2], fmt.Sprint(i)), m)
		write(t, filepath.Join(dir, "[files]", fmt.Sprintf("%d.eml", i)), m)
	}
	for name, path := range map[string]string{
		"mbox": mboxOf(t, all...), "Maildir": filepath.Join(dir, "maildir"), "files": filepath.Join(dir, "[files]"),
		"twice": mboxOf(t, append(all, all...)...),
	} {
		c, err := Compare(path, messages)
		if err != nil || len(c.Same) != len(in) || c.Missing != nil || c.Differences != nil || c.Others != 0 {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	one := write(t, filepath.Join(dir, "one.eml"), all[3])
	c, err := Compare(one, messages)
	if err != nil || len(c.Same) != 1 || len(c.Missing) != len(in)-1 || c.Same[0] != messages[3].ID {
		t.Errorf("one file: %+v, %v", c, err)
	}
	o := options()
	o.Version = 2
	c, err = Compare(mboxOf(t, all...), compose(t, o, in...))
	if err != nil || c.Others != len(in) || len(c.Missing) != len(in) {
		t.Errorf("another sending: %+v, %v", c, err)
	}
}

func TestCompare(t *testing.T) {
	d := draft("x.patch", plainHeader+"X-Odd: one two\n", plainBody)
	d.Cc = append(d.Cc, me)
	m := compose(t, options(), d)[0]
	long := compose(t, options(), draft("x.patch", plainHeader, plainBody+strings.Repeat("x", 1500)+" \n"))[0]
	// changed replaces a text that is there once.
	changed := func(m Message, old, new string) []byte {
		if strings.Count(string(arrived(m)), old) != 1 {
			t.Fatalf("%q is there %d times", old, strings.Count(string(arrived(m)), old))
		}
		return []byte(strings.Replace(string(arrived(m)), old, new, 1))
	}
	header, body, _ := strings.Cut(string(m.Data), "\n\n")
	recoded := func(coding, body string) []byte {
		return []byte(received + strings.Replace(header, "8bit", coding, 1) + "\n\n" + body)
	}
	diff := func(part string, line int, want, got string) []Difference {
		return []Difference{{Name: "x.patch", ID: m.ID, Part: part, Line: line, Want: want, Got: got}}
	}
	recodedTo := func(from, to string) []Difference {
		return []Difference{{Name: "x.patch", ID: m.ID, Part: "body", Want: from, Got: to, Encoding: true}}
	}
	for name, test := range map[string]struct {
		m    Message
		got  []byte
		want []Difference
	}{
		"folded otherwise":   {m, changed(m, "count the\r\n slabs", "count\r\n\tthe slabs"), nil},
		"quoted recipient":   {m, changed(m, ",\r\n S E Nder <", ", \"S E Nder\" <"), nil},
		"decoded recipient":  {m, changed(m, "=?UTF-8?q?J=C3=BCrgen=20Gro=C3=9F?=", "Jürgen Groß"), nil},
		"charset in quotes":  {m, changed(m, "charset=UTF-8", "charset=\"utf-8\""), nil},
		"encoding of 7bit":   {m, changed(m, "Encoding: 8bit", "Encoding: 7BIT"), nil},
		"empty lines at end": {m, append(arrived(m), "\r\n\r\n"...), nil},
		"no empty lines":     {m, bytes.TrimRight(arrived(m), "\r\n"), nil},

		"other subject":   {m, changed(m, "slabs\r\nDate", "slab\r\nDate"), diff("Subject", 0, "[PATCH] mm: count the slabs", "[PATCH] mm: count the slab")},
		"encoded subject": {m, changed(m, "[PATCH] mm:", "=?UTF-8?q?=5BPATCH=5D?= mm:"), []Difference{{Name: "x.patch", ID: m.ID, Part: "Subject", Want: "[PATCH] mm: count the slabs", Got: "=?UTF-8?q?=5BPATCH=5D?= mm: count the slabs", Encoding: true}}},
		"other From":      {m, changed(m, "From: S E Nder", "From: S E Nder via list"), diff("From", 0, "S E Nder <sender@example.org>", "S E Nder via list <sender@example.org>")},
		"lost recipient":  {m, changed(m, ",\r\n S E Nder <sender@example.org>", ""), diff("Cc", 0, "=?UTF-8?q?J=C3=BCrgen=20Gro=C3=9F?= <jg@example.org>, S E Nder <sender@example.org>", "=?UTF-8?q?J=C3=BCrgen=20Gro=C3=9F?= <jg@example.org>")},
		"lost header":     {m, changed(m, "X-Odd: one two\r\n", ""), diff("X-Odd", 0, "one two", "")},
		"format=flowed":   {m, changed(m, "charset=UTF-8", "charset=UTF-8; format=flowed"), diff("Content-Type", 0, "text/plain; charset=UTF-8", "text/plain; charset=UTF-8; format=flowed")},
		"other Date":      {m, changed(m, "+0100", "+0200"), diff("Date", 0, "Wed, 4 Mar 2026 23:59:58 +0100", "Wed, 4 Mar 2026 23:59:58 +0200")},

		"blank at end of line":   {m, changed(m, "slab; \r", "slab;\r"), diff("body", 11, "+\tint slab; ", "+\tint slab;")},
		"tab for blanks":         {m, changed(m, "+\tint", "+    int"), diff("body", 11, "+\tint slab; ", "+    int slab; ")},
		"dot":                    {m, changed(m, "\r\n.\r\n", "\r\n..\r\n"), diff("body", 3, ".", "..")},
		"From line, no mbox":     {m, changed(m, "From now on", ">From now on"), diff("body", 6, "From now on", ">From now on")},
		"cut":                    {m, []byte(strings.Split(string(arrived(m)), "diff --git")[0]), diff("body", 10, "diff --git a/mm/slab.c b/mm/slab.c", "")},
		"footer":                 {m, append(arrived(m), "_____\r\nlist footer\r\n"...), diff("body", 15, "", "_____")},
		"quoted-printable":       {m, recoded("quoted-printable", string(quote([]byte(body)))), recodedTo("8bit", "quoted-printable")},
		"base64":                 {m, recoded("BASE64", base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(body, "\n", "\r\n")))), recodedTo("8bit", "base64")},
		"recoded and other":      {m, recoded("quoted-printable", strings.Replace(string(quote([]byte(body))), "slab;", "slob;", 1)), append(recodedTo("8bit", "quoted-printable"), diff("body", 11, "+\tint slab; ", "+\tint slob; ")...)},
		"no base64":              {m, recoded("base64", "????"), append(recodedTo("8bit", "base64"), diff("body", 0, "", "it is no base64: illegal base64 data at input byte 0")...)},
		"unknown":                {m, recoded("x-what", body), append(recodedTo("8bit", "x-what"), diff("body", 0, "", `the encoding "x-what" is not known`)...)},
		"from quoted-printable":  {long, []byte(strings.NewReplacer("quoted-printable", "8bit", "=\r\n", "", "=20\r\n", " \r\n", "=46rom", "From").Replace(string(arrived(long)))), recodedTo("quoted-printable", "8bit")},
		"as it was":              {long, arrived(long), nil},
		"quoted in another way":  {long, changed(long, "=46rom", "From"), recodedTo("quoted-printable", "quoted-printable")},
		"quoted, and other text": {long, changed(long, "=46rom", "from"), append(recodedTo("quoted-printable", "quoted-printable"), diff("body", 6, "From now on", "from now on")...)},
	} {
		file := write(t, filepath.Join(t.TempDir(), "x.eml"), test.got)
		c, err := Compare(file, []Message{test.m})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.want, c.Differences); diff != "" || (len(c.Same) == 1) != (test.want == nil) {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for _, d := range c.Differences {
			if s := d.String(); strings.Contains(s, "\n") || !strings.HasPrefix(s, "x.patch: ") {
				t.Errorf("%s: %q", name, s)
			}
		}
	}
}

func TestCompareErrors(t *testing.T) {
	dir := t.TempDir()
	messages := compose(t, options(), draft("x.patch", plainHeader, plainBody))
	for want, path := range map[string]string{
		"no such file":      filepath.Join(dir, "none"),
		"no mail in":        write(t, filepath.Join(dir, "empty"), []byte(" \n")),
		"has 0 mails":       filepath.Dir(write(t, filepath.Join(dir, "sub", "x"), nil)),
		"no mail in " + dir: write(t, filepath.Join(dir, "froms"), []byte("From a\nFrom b\n\n")),
	} {
		if _, err := Compare(path, messages); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Each changed byte of what counts is found.
func TestCompareEachByte(t *testing.T) {
	m := compose(t, options(), draft("x.patch", plainHeader, plainBody))[0]
	end := len(bytes.TrimRight(m.Data, "\n"))
	coding := bytes.Index(m.Data, []byte("Content-Transfer-Encoding:"))
	for i := range end {
		got := bytes.Clone(m.Data)
		got[i] ^= 4 // neither makes a line end nor changes between small and capital letters
		d, err := m.compare(got, false)
		if err != nil {
			t.Fatal(err)
		}
		// Without this header, the text is taken for 8bit as well.
		if len(d) == 0 && (i < coding || i > coding+len("Content-Transfer-Encoding:")) {
			t.Errorf("byte %d, %q for %q, is not seen", i, got[max(0, i-5):i+1], m.Data[i])
		}
	}
}

func FuzzCompare(f *testing.F) {
	m := compose(f, options(), draft("x.patch", plainHeader, plainBody))[0]
	f.Add(arrived(m))
	f.Add(bytes.Replace(m.Data, []byte("8bit"), []byte("base64"), 1))
	f.Add([]byte("From a b\n" + string(m.Data) + "\nFrom a b\n" + string(m.Data)))
	f.Fuzz(func(t *testing.T, data []byte) {
		mails, mbox := splitMailbox(data)
		size := 0
		for _, got := range mails {
			size += len(got)
			looseHeader(got)
			d, err := m.compare(got, mbox)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range d {
				_ = d.String()
			}
		}
		if size > len(data) {
			t.Errorf("%d bytes of mails in %d", size, len(data))
		}
	})
}

func TestSplitMailbox(t *testing.T) {
	for text, want := range map[string]int{
		"From a\nA: b\n\ntext\n\nFrom c\nA: b\n\n":     2,
		"From a\nA: b\n\ntext\nFrom c\nKey: value\n":   1, // in the middle of a text
		"From a\nA: b\n\ntext\n\nFrom c on it is so\n": 1, // no header behind it
		"A: b\n\ntext\n\nFrom c\nA: b\n":               1, // no mbox
		"From a\r\nA: b\r\n\r\nFrom c\r\nA: b\r\n\r\n": 2,
	} {
		if mails, _ := splitMailbox([]byte(text)); len(mails) != want {
			t.Errorf("%q: %d mails, want %d", text, len(mails), want)
		}
	}
}
