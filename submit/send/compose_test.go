package send

import (
	"bytes"
	"fmt"
	"io"
	"mime/quotedprintable"
	netmail "net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchgen/series"
	"patchgen/submit/address"
)

var (
	me    = netmail.Address{Name: "S E Nder", Address: "sender@example.org"}
	list  = netmail.Address{Address: "linux-kernel@example.org"}
	other = netmail.Address{Name: "Jürgen Groß", Address: "jg@example.org"}
	then  = time.Date(2026, 3, 4, 23, 59, 58, 0, time.FixedZone("", 3600))
)

// ones is a chance that is none.
type ones struct{}

func (ones) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 0x11
	}
	return len(b), nil
}

func options() ComposeOptions {
	return ComposeOptions{From: me, ChangeID: "20260102-a-b-0123456789ab", Time: then, Random: ones{}}
}

// draft is a patch with the given header lines and body.
func draft(name, header, body string) Draft {
	return Draft{
		Mail: series.Mail{Name: name, Data: []byte("From 1234567890123456789012345678901234567890 Mon Sep 17 00:00:00 2001\n" + header + "\n" + body)},
		To:   []netmail.Address{list}, Cc: []netmail.Address{other},
	}
}

const plainHeader = "From: S E Nder <sender@example.org>\nDate: Fri, 2 Jan 2026 03:04:05 +0000\nSubject: [PATCH] mm: count the\n slabs\n"

const plainBody = "There are several.\n\n.\n..\n.dots\nFrom now on\n---\n mm/slab.c | 2 +-\n\ndiff --git a/mm/slab.c b/mm/slab.c\n+\tint slab; \n-- \n2.39.5\n\n"

func compose(t testing.TB, o ComposeOptions, drafts ...Draft) []Message {
	t.Helper()
	all, err := Compose(drafts, o)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// drafts are the mails of a series in the repository.
func drafts(t testing.TB, version string) []Draft {
	t.Helper()
	mails, err := series.ReadPatches("../../patches/" + version)
	if err != nil {
		t.Fatal(err)
	}
	var all []Draft
	for _, m := range mails {
		all = append(all, Draft{Mail: m, To: []netmail.Address{list}, Cc: []netmail.Address{other}})
	}
	return all
}

func TestCompose(t *testing.T) {
	o := options()
	o.Mailer = "patchgen 1"
	got := compose(t, o, draft("0001-x.patch", plainHeader, plainBody))[0]
	want := `From: S E Nder <sender@example.org>
Subject: [PATCH] mm: count the
 slabs
Date: Wed, 4 Mar 2026 23:59:58 +0100
Message-ID: <20260304-a-b-v1-1-111111111111@example.org>
To: linux-kernel@example.org
Cc: =?UTF-8?q?J=C3=BCrgen=20Gro=C3=9F?= <jg@example.org>
X-Change-ID: 20260102-a-b-0123456789ab
X-Mailer: patchgen 1
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit

` + plainBody
	if diff := cmp.Diff(want, string(got.Data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{list.Address, other.Address}, got.Recipients); diff != "" || got.Subject != "[PATCH] mm: count the slabs" {
		t.Errorf("subject %q, recipients:\n%s", got.Subject, diff)
	}
}

// judge reads a mail by Go's net/mail.
func judge(t testing.TB, m Message) (netmail.Header, []byte) {
	t.Helper()
	msg, err := netmail.ReadMessage(bytes.NewReader(m.Data))
	if err != nil {
		t.Fatalf("%s: net/mail: %v\n%s", m.Name, err, m.Data)
	}
	body, err := io.ReadAll(msg.Body)
	if err != nil {
		t.Fatal(err)
	}
	if msg.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		if body, err = io.ReadAll(quotedprintable.NewReader(bytes.NewReader(body))); err != nil {
			t.Fatal(err)
		}
	}
	return msg.Header, body
}

func TestSeries(t *testing.T) {
	for _, version := range []string{"6.1", "6.12", "7.3"} {
		in := drafts(t, version)
		o := options()
		o.Version = 3
		o.From, _ = address.Parse("A U Thor <author@example.org>")
		all := compose(t, o, in...)
		for i, m := range all {
			h, body := judge(t, m)
			if want := fmt.Sprintf("<20260304-a-b-v3-%d-111111111111@example.org>", i); m.ID != want || h.Get("Message-ID") != want {
				t.Errorf("%s: Message-ID %s, want %s", m.Name, m.ID, want)
			}
			root := "" // shallow: all reply to the cover
			if i > 0 {
				root = all[0].ID
			}
			if h.Get("In-Reply-To") != root || h.Get("References") != root {
				t.Errorf("%s: In-Reply-To %q, References %q", m.Name, h.Get("In-Reply-To"), h.Get("References"))
			}
			if date, err := h.Date(); err != nil || !date.Equal(then.Add(time.Duration(i)*time.Second)) {
				t.Errorf("%s: Date %v, %v", m.Name, date, err)
			}
			_, want, _ := bytes.Cut(in[i].Data, []byte("\n\n"))
			if !bytes.Equal(body, want) {
				t.Errorf("%s: the text has changed", m.Name)
			}
		}
	}
}

func TestLonePatchAndNoCover(t *testing.T) {
	two := func(n int) Draft {
		return draft(fmt.Sprintf("000%d-x.patch", n), strings.Replace(plainHeader, "[PATCH]", fmt.Sprintf("[PATCH %d/2]", n), 1), plainBody)
	}
	all := compose(t, options(), two(1), two(2))
	if h, _ := judge(t, all[1]); !strings.Contains(all[0].ID, "-v1-1-") || h.Get("In-Reply-To") != all[0].ID || !strings.Contains(all[1].ID, "-v1-2-") {
		t.Errorf("without a cover letter: %s, %s replies to %s", all[0].ID, all[1].ID, h.Get("In-Reply-To"))
	}
	o := options()
	o.ChangeID = ""
	if got := compose(t, o, two(1))[0].ID; got != "<20260304-mm-count-the-slabs-v1-1-111111111111@example.org>" {
		t.Errorf("of a title: %s", got)
	}
	o.Random = nil
	a, b := compose(t, o, two(1))[0], compose(t, o, two(1))[0]
	if a.ID == b.ID || !regexp.MustCompile(`-v1-1-[0-9a-f]{12}@`).MatchString(a.ID) {
		t.Errorf("%s and %s have nothing of chance", a.ID, b.ID)
	}
	if a.source != b.source {
		t.Errorf("chance changes what a mail was made of")
	}
}

// Whoever sends for others has them named in the body, and git takes them for the
// author.
func TestAuthor(t *testing.T) {
	for name, test := range map[string]struct{ from, body, want string }{
		"the same":           {"S E Nder <sender@example.org>", "Text.\n", ""},
		"quoted":             {`"S E Nder" <sender@example.org>`, "Text.\n", ""},
		"other name":         {"Sender <sender@example.org>", "Text.\n", "From: Sender <sender@example.org>\n\n"},
		"other":              {"A U Thor <author@example.org>", "Text.\n", "From: A U Thor <author@example.org>\n\n"},
		"encoded":            {"=?UTF-8?q?J=C3=BCrgen=20Gro=C3=9F?= <jg@example.org>", "Text.\n", "From: Jürgen Groß <jg@example.org>\n\n"},
		"raw":                {"Jürgen Groß <jg@example.org>", "Text.\n", "From: Jürgen Groß <jg@example.org>\n\n"},
		"comma":              {`"Thor, A U" <author@example.org>`, "Text.\n", "From: \"Thor, A U\" <author@example.org>\n\n"},
		"dot":                {`"A. U. Thor" <author@example.org>`, "Text.\n", "From: \"A. U. Thor\" <author@example.org>\n\n"},
		"in the body":        {"A U Thor <author@example.org>", "From: Else <else@example.org>\n\nText.\n", ""},
		"after the date":     {"A U Thor <author@example.org>", "\nDate: today\nFrom: Else <else@example.org>\n\nText.\n", ""},
		"with other headers": {"A U Thor <author@example.org>", "Subject: mm: other\n\nText.\n", "From: A U Thor <author@example.org>\n"},
		"no header":          {"A U Thor <author@example.org>", "Text.\nFrom: here\n", "From: A U Thor <author@example.org>\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			body := test.body + strings.TrimPrefix(plainBody, "There are several.\n")
			m := compose(t, options(), draft("x.patch", "From: "+test.from+"\nSubject: [PATCH] mm: x\n", body))[0]
			h, got := judge(t, m)
			if h.Get("From") != "S E Nder <sender@example.org>" {
				t.Errorf("From: %s", h.Get("From"))
			}
			if diff := cmp.Diff(test.want+body, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			author, _ := address.Parse(test.from)
			if strings.Contains(body, "else@") {
				author = netmail.Address{Name: "Else", Address: "else@example.org"}
			}
			info, _ := mailinfo(t, m.Data)
			if info["Author"] != author.Name || info["Email"] != author.Address {
				t.Errorf("for git the author is %s <%s>, want %s", info["Author"], info["Email"], author.String())
			}
		})
	}
}

// mailinfo has git read a mail, as git am does, and returns headers and text.
func mailinfo(t testing.TB, data []byte) (map[string]string, string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("git", "mailinfo", "msg", "patch")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git mailinfo: %v", err)
	}
	info := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\n"), ": "); ok {
			info[key] = value
		}
	}
	var text []byte
	for _, name := range []string{"msg", "patch"} {
		part, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	return info, string(text)
}

func TestEncoding(t *testing.T) {
	long := strings.Repeat("x", maxLine-1)
	for name, test := range map[string]struct{ body, encoding string }{
		"empty":        {"", "8bit"},
		"plain":        {plainBody, "8bit"},
		"UTF-8":        {"Über\n", "8bit"},
		"not UTF-8":    {"\xdcber\n", "8bit"},
		"998 bytes":    {long + "x\n", "8bit"},
		"999 bytes":    {long + "xx\n", "quoted-printable"},
		"CR":           {"a\r\nb\rc\n", "quoted-printable"},
		"NUL":          {"a\x00\n", "quoted-printable"},
		"much to code": {"From a\r\n" + strings.Repeat("= \t ", 100) + "\n.\nüü \t\n\n", "quoted-printable"},
	} {
		m := compose(t, options(), draft("x.patch", plainHeader, test.body))[0]
		h, body := judge(t, m)
		if got := h.Get("Content-Transfer-Encoding"); got != test.encoding {
			t.Errorf("%s: %s, want %s", name, got, test.encoding)
		}
		if string(body) != test.body {
			t.Errorf("%s: the text has become %q", name, clip(string(body)))
		}
		for line := range bytes.Lines(m.Data) {
			if most := 77; len(line) > maxLine+1 || test.encoding == "quoted-printable" && len(line) > most {
				t.Errorf("%s: a line of %d bytes", name, len(line))
			}
		}
		if m.Data[len(m.Data)-1] != '\n' || bytes.ContainsAny(m.Data, "\r\x00") {
			t.Errorf("%s: it has a CR or NUL, or no newline at its end", name)
		}
	}
	m := compose(t, options(), draft("x.patch", plainHeader, "no end"))[0]
	if !bytes.HasSuffix(m.Data, []byte("\n\nno end\n")) {
		t.Errorf("without a newline at the end: %q", m.Data)
	}
}

// What is quoted-printable already is decoded, as only that can be compared and
// put together with a From line.
func TestDecoded(t *testing.T) {
	for coding, body := range map[string]string{"quoted-printable": "=C3=9Cber =\nalles=\n\n", "base64": "w5xiZXIgYWxs\nZXMK\n", "7BIT": "Über alles\n"} {
		m := compose(t, options(), draft("x.patch", plainHeader+"MIME-Version: 1.0\nContent-Type: text/plain; charset=\"utf-8\"\nContent-Transfer-Encoding: "+coding+"\n", body))[0]
		if h, body := judge(t, m); string(body) != "Über alles\n" || h.Get("Content-Transfer-Encoding") != "8bit" || len(h["Content-Type"]) != 1 {
			t.Errorf("%s: %q, %v", coding, body, h)
		}
	}
}

func TestHeadersOfTheFile(t *testing.T) {
	d := draft("x.patch", "To: first@example.org, LINUX-kernel@example.org\nCC: =?UTF-8?q?=C3=9C?= <u@example.org>\nCc: sender@example.org\nBcc: secret@example.org\n"+
		"message-id: <given@example.org>\nIn-Reply-To: <root@example.org>\nReferences: <a@b>\n <root@example.org>\nX-Odd: one\n\ttwo\nX-Odd: three\n"+plainHeader, plainBody)
	d.Bcc = []netmail.Address{{Address: "hidden@example.org"}}
	second := draft("y.patch", "Message-ID: <second@example.org>\nIn-Reply-To: <elsewhere@example.org>\n"+plainHeader, plainBody)
	all := compose(t, options(), d, second)
	h, _ := judge(t, all[0])
	for name, want := range map[string]string{
		"Message-ID": "<given@example.org>", "In-Reply-To": "<root@example.org>", "References": "<a@b> <root@example.org>",
		"To": "first@example.org, LINUX-kernel@example.org", "Bcc": "",
		"Cc": "=?UTF-8?q?=C3=9C?= <u@example.org>, sender@example.org, =?UTF-8?q?J=C3=BCrgen=20Gro=C3=9F?= <jg@example.org>",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if diff := cmp.Diff([]string{"one two", "three"}, h["X-Odd"]); diff != "" {
		t.Errorf("X-Odd (-want +got):\n%s", diff)
	}
	want := []string{"first@example.org", "LINUX-kernel@example.org", "u@example.org", "sender@example.org", "jg@example.org", "secret@example.org", "hidden@example.org"}
	if diff := cmp.Diff(want, all[0].Recipients); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
	if bytes.Contains(all[0].Data, []byte("secret@")) || bytes.Contains(all[0].Data, []byte("hidden@")) {
		t.Errorf("Bcc is to be seen:\n%s", all[0].Data)
	}
	h, _ = judge(t, all[1])
	if h.Get("Message-ID") != "<second@example.org>" || h.Get("In-Reply-To") != "<given@example.org>" || h.Get("References") != "<a@b> <root@example.org> <given@example.org>" {
		t.Errorf("the second mail has the header %v", h)
	}
}

// Whom git's settings leave out is left out of the header's Cc alone; whom the first
// mail names gets the others by ccCover and toCover alone, and if he is not left out.
func TestCopies(t *testing.T) {
	first := draft("0000-x.patch", "To: first@example.org\nCc: Sender@example.org, copy@example.org\n"+plainHeader, plainBody)
	second := draft("0001-y.patch", "Cc: second@example.org\n"+plainHeader, plainBody)
	for name, test := range map[string]struct {
		suppress     []string
		cc, to       bool
		first, after []string
	}{
		"nothing":     {nil, false, false, []string{"first", "linux-kernel", "Sender", "copy", "jg"}, []string{"linux-kernel", "second", "jg"}},
		"other words": {[]string{"author", "sob", "bodycc", "misc-by", "cccmd"}, false, false, []string{"first", "linux-kernel", "Sender", "copy", "jg"}, []string{"linux-kernel", "second", "jg"}},
		"cc":          {[]string{"cc"}, false, false, []string{"first", "linux-kernel", "Sender", "jg"}, []string{"linux-kernel", "jg"}},
		"self":        {[]string{"self"}, false, false, []string{"first", "linux-kernel", "copy", "jg"}, []string{"linux-kernel", "second", "jg"}},
		"ccCover":     {nil, true, false, []string{"first", "linux-kernel", "Sender", "copy", "jg"}, []string{"linux-kernel", "second", "jg", "Sender", "copy"}},
		"toCover":     {nil, false, true, []string{"first", "linux-kernel", "Sender", "copy", "jg"}, []string{"linux-kernel", "first", "second", "jg"}},
		"all":         {[]string{"cc", "self"}, true, true, []string{"first", "linux-kernel", "jg"}, []string{"linux-kernel", "first", "jg"}},
	} {
		o := options()
		o.SuppressCc, o.CcCover, o.ToCover = test.suppress, test.cc, test.to
		for i, m := range compose(t, o, first, second) {
			want := [][]string{test.first, test.after}[i]
			got := strings.ReplaceAll(strings.Join(m.Recipients, " "), "@example.org", "")
			var left []netmail.Address
			if i == 0 && slices.Contains(test.suppress, "self") {
				left = append(left, netmail.Address{Address: "Sender@example.org"})
			}
			if slices.Contains(test.suppress, "cc") {
				left = append(left, netmail.Address{Address: []string{"copy@example.org", "second@example.org"}[i]})
			}
			if !slices.Equal(m.LeftOut, left) {
				t.Errorf("%s: %s leaves out %v, want %v", name, m.Name, m.LeftOut, left)
			}
			if got != strings.Join(want, " ") {
				t.Errorf("%s: %s goes to %s, want %s", name, m.Name, got, want)
			}
		}
	}
}

// With nobody in To, those in Cc are there.
func TestCcAlone(t *testing.T) {
	d := draft("x.patch", plainHeader, plainBody)
	d.To = nil
	if h, _ := judge(t, compose(t, options(), d)[0]); h.Get("To") != encode(other) || h["Cc"] != nil {
		t.Errorf("To %q, Cc %q", h.Get("To"), h["Cc"])
	}
}

// All that comes in is refused or harmless: no header that was not asked for.
func TestHostile(t *testing.T) {
	tests := map[string]struct {
		header string
		change func(*Draft, *ComposeOptions)
		want   string
	}{
		"encoded line end in the subject": {header: "From: a <a@b.c>\nSubject: =?UTF-8?q?[PATCH]_a=0ABcc:_x@example.org?=\n", want: "line end"},
		"line end in the author":          {header: "From: =?UTF-8?q?a=0ABcc=3A_x?= <a@b.c>\nSubject: x\n", want: "cannot stand in a mail header"},
		"line end in a given name":        {change: func(d *Draft, _ *ComposeOptions) { d.Cc[0].Name = "a\nBcc: x@example.org" }, want: "cannot stand"},
		"line end in a given address":     {change: func(d *Draft, _ *ComposeOptions) { d.To[0].Address = "a@b.c>\nBcc: <x@example.org" }, want: "NAME@DOMAIN"},
		"line end in the sender":          {change: func(_ *Draft, o *ComposeOptions) { o.From.Name = "a\r\nBcc: x" }, want: "the sender"},
		"line end in the mailer":          {change: func(_ *Draft, o *ComposeOptions) { o.Mailer = "a\nBcc: x" }, want: "the mailer"},
		"line end in the change-id":       {change: func(_ *Draft, o *ComposeOptions) { o.ChangeID = "20260102-a\nb-0123456789ab" }, want: "the change-id"},
		"a name that looks encoded":       {change: func(d *Draft, _ *ComposeOptions) { d.To[0].Name = "=?UTF-8?q?a=0ABcc:?=" }},
		"a flag for an address":           {change: func(d *Draft, _ *ComposeOptions) { d.To[0].Address = "-oQ/tmp@example.org" }, want: "NAME@DOMAIN"},
		"address that is not ASCII":       {change: func(d *Draft, _ *ComposeOptions) { d.To[0].Address = "jürgen@example.org" }, want: "SMTPUTF8"},
		"CR in the header":                {header: "From: a <a@b.c>\r\nSubject: x\r\n", want: "CR LF"},
		"bare CR":                         {header: "From: a <a@b.c>\nSubject: x\rBcc: x@example.org\n", want: "control character"},
		"bare CR in an unknown one":       {header: plainHeader + "X-Y: a\rBcc: x@example.org\n", want: "control character"},
		"line of blanks":                  {header: "From: a <a@b.c>\nSubject: x\n \nBcc: x@example.org\n", want: "blanks"},
		"blank before the colon":          {header: "From : a <a@b.c>\nSubject: x\n", want: "Name: value"},
		"two subjects":                    {header: "From: a <a@b.c>\nSubject: x\nSUBJECT: y\n", want: "2 lines Subject"},
		"no subject":                      {header: "From: a <a@b.c>\n", want: "no header Subject"},
		"empty subject":                   {header: "From: a <a@b.c>\nSubject: \n", want: "Subject is empty"},
		"subject of a template":           {header: "From: a <a@b.c>\nSubject: [PATCH 0/2] *** SUBJECT HERE ***\n", want: "to be replaced"},
		"no from":                         {header: "Subject: x\n", want: "no header From"},
		"broken from":                     {header: "From: a b c\nSubject: x\n", want: "From"},
		"not UTF-8":                       {header: "From: a <a@b.c>\nSubject: \xff\n", want: "UTF-8"},
		"raw in an unknown one":           {header: "From: a <a@b.c>\nSubject: x\nX-Y: ü\n", want: "X-Y is not plain ASCII"},
		"long line":                       {header: "From: a <a@b.c>\nSubject: " + strings.Repeat("x", 1000) + "\n", want: "998"},
		"no headers":                      {header: "diff --git a/x b/x\n", want: "Name: value"},
		"bad Message-ID":                  {header: "From: a <a@b.c>\nSubject: x\nMessage-ID: <a@b> <c@d>\n", want: "Message-ID"},
		"format=flowed":                   {header: plainHeader + "Content-Type: text/plain; charset=UTF-8; format=flowed\n", want: "flowed"},
		"multipart":                       {header: plainHeader + "Content-Type: multipart/mixed; boundary=x\n", want: "text/plain"},
		"latin1":                          {header: plainHeader + "Content-Type: text/plain; charset=iso-8859-1\n", want: "UTF-8"},
		"unknown encoding":                {header: plainHeader + "Content-Transfer-Encoding: x-uuencode\n", want: "unknown"},
		"nobody":                          {change: func(d *Draft, _ *ComposeOptions) { d.To, d.Cc = nil, nil }, want: "goes to nobody"},
		"no sender":                       {change: func(_ *Draft, o *ComposeOptions) { o.From = netmail.Address{} }, want: "user.email"},
		"path for a name":                 {change: func(d *Draft, _ *ComposeOptions) { d.Name = "../x" }, want: "no name for a file"},
		"wrong version":                   {change: func(_ *Draft, o *ComposeOptions) { o.Version = -1 }, want: "version"},
	}
	for name, test := range tests {
		if test.header == "" {
			test.header = plainHeader
		}
		d, o := draft("x.patch", test.header, plainBody), options()
		d.To, d.Cc = slices.Clone(d.To), slices.Clone(d.Cc)
		if test.change != nil {
			test.change(&d, &o)
		}
		all, err := Compose([]Draft{d}, o)
		switch {
		case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		case err == nil:
			if h, _ := judge(t, all[0]); h["Bcc"] != nil {
				t.Errorf("%s: there is a Bcc:\n%s", name, all[0].Data)
			}
		}
	}
}

func TestRawSubject(t *testing.T) {
	title := "[PATCH] mm: " + strings.Repeat("über ", 20) + "=?x"
	m := compose(t, options(), draft("x.patch", "From: a <a@b.c>\nSubject: "+title+"\n", "x\n"))[0]
	h, _ := judge(t, m)
	got, err := words.DecodeHeader(h.Get("Subject"))
	if got != title || !isASCII(h.Get("Subject")) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestEncode(t *testing.T) {
	for name, want := range map[string]string{
		"":              "a@b.c",
		"A U Thor":      "A U Thor <a@b.c>",
		"Thor, A":       `"Thor, A" <a@b.c>`,
		`A "B\" C`:      `"A \"B\\\" C" <a@b.c>`,
		"Grüße":         "=?UTF-8?q?Gr=C3=BC=C3=9Fe?= <a@b.c>",
		"=?UTF-8?q?a?=": "=?UTF-8?q?=3D=3FUTF-8=3Fq=3Fa=3F=3D?= <a@b.c>",
		strings.Repeat("é", 30): "=?UTF-8?q?" + strings.Repeat("=C3=A9", 10) + "?=\n =?UTF-8?q?" + strings.Repeat("=C3=A9", 10) +
			"?=\n =?UTF-8?q?" + strings.Repeat("=C3=A9", 10) + "?= <a@b.c>",
	} {
		a := netmail.Address{Name: name, Address: "a@b.c"}
		got := encode(a)
		if got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
		if back, err := address.Parse(strings.ReplaceAll(got, "\n", "")); err != nil || back != a {
			t.Errorf("%q comes back as %v, %v", name, back, err)
		}
	}
}

func TestMany(t *testing.T) {
	d := draft("x.patch", plainHeader, plainBody)
	for i := range 300 {
		d.Cc = append(d.Cc, netmail.Address{Name: strings.Repeat("Lang, ", 10), Address: fmt.Sprintf("a%d@example.org", i)})
	}
	m := compose(t, options(), d)[0]
	h, _ := judge(t, m)
	cc, err := h.AddressList("Cc")
	if err != nil || len(cc) != 301 || len(m.Recipients) != 302 {
		t.Errorf("%d in Cc, %d recipients, %v", len(cc), len(m.Recipients), err)
	}
	for line := range bytes.Lines(m.Data) {
		if len(line) > 100 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// Whatever is accepted has the headers that it may have, once each, and the text
// of the input.
func FuzzCompose(f *testing.F) {
	f.Add([]byte(plainHeader+"\n"+plainBody), "Jürgen", "a@b.c")
	f.Add([]byte("From 1\nFrom: =?UTF-8?q?a=0A?= <a@b.c>\nSubject: =?UTF-8?q?=0Ax?=\nX-A: b\n c\n\nFrom: x\n\r\n"), "a\nBcc: b", "-a@b.c")
	f.Add([]byte("From: \"a\\\"\" <a@b.c>\nSubject: ü\nReferences: <a@b><c@d>\nContent-Transfer-Encoding: base64\n\nYQ==\n"), "=?x?=", "a@b.c\n")
	for _, d := range drafts(f, "6.12")[:1] {
		f.Add(d.Data, d.To[0].Name, d.To[0].Address)
	}
	allowed := []string{"From", "Subject", "Date", "Message-Id", "In-Reply-To", "References", "To", "Cc", "X-Change-Id", "Mime-Version", "Content-Type", "Content-Transfer-Encoding"}
	f.Fuzz(func(t *testing.T, data []byte, name, address string) {
		d := Draft{Mail: series.Mail{Name: "x", Data: data}, To: []netmail.Address{{Name: name, Address: address}}}
		all, err := Compose([]Draft{d}, options())
		if err != nil {
			return
		}
		m := all[0]
		h, _ := judge(t, m)
		// A name can only come from the input's own lines.
		own := make(map[string]bool)
		top, _, _ := bytes.Cut(data, []byte("\n\n"))
		for line := range bytes.Lines(top) {
			if n, _, ok := bytes.Cut(line, []byte(":")); ok {
				own[strings.ToLower(string(n))] = true
			}
		}
		for key, values := range h {
			if known := slices.Contains(allowed, key); !known && !own[strings.ToLower(key)] || known && len(values) != 1 {
				t.Errorf("header %s: %q", key, values)
			}
		}
		if h["Bcc"] != nil || bytes.ContainsAny(m.Data, "\r\x00") || m.Data[len(m.Data)-1] != '\n' {
			t.Errorf("%q", m.Data)
		}
		for line := range bytes.Lines(m.Data) {
			if len(line) > maxLine+1 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
		back, err := readMessage(m.Name, m.Data)
		if err != nil || back.ID != m.ID || back.Subject != m.Subject || back.From != m.From {
			t.Errorf("it reads back as %+v, %v", back, err)
		}
	})
}
