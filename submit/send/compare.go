package send

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"patchgen/submit/address"
)

// maxMailbox is the most that Compare reads, in bytes.
const maxMailbox = 256 << 20

// A Comparison is of mails as they came back with mails as they were sent.
type Comparison struct {
	Same        []string // Message-IDs of mails of which each copy is as it was sent
	Missing     []string // Message-IDs of mails that are not there
	Differences []Difference
	Others      int // mails that are of another sending
}

// A Difference is the first in one part of a mail.
type Difference struct {
	Name, ID  string // of the mail, as in Message
	Part      string // name of a header, or "body"
	Line      int    // of the body, counted from 1; 0 for a header
	Want, Got string // what was sent and what came back, at most a line; "" is nothing
	Encoding  bool   // the text is the same, only otherwise encoded on the way
}

func (d Difference) String() string {
	where := d.Part
	if d.Line > 0 {
		where = fmt.Sprintf("line %d of the text", d.Line)
	}
	if d.Encoding {
		where += ", encoded otherwise on the way"
	}
	return fmt.Sprintf("%s: %s: sent %q, came back %q", d.Name, where, clip(d.Want), clip(d.Got))
}

// Compare holds the mails that came back, in an mbox, a Maildir, a folder of
// files *.eml, or the file of one mail, against those that Compose made. Which is
// which is known by the Message-ID.
//
// Each header that was sent has to be there with the same text, wherever it is
// folded; the recipients may be encoded or quoted otherwise, too. What a transport
// adds (Received, DKIM-Signature and so on) is passed over. Below the header each
// byte counts, but for these: CR LF at the ends of lines, empty lines at the end,
// and ">From " for "From " in an mbox. If the text comes back in another encoding,
// quoted-printable instead of 8bit, say, that is one Difference, and the text is
// decoded and compared nevertheless.
func Compare(reflected string, messages []Message) (Comparison, error) {
	var c Comparison
	mails, mbox, err := readMailbox(reflected)
	if err != nil {
		return c, err
	}
	copies := make(map[string][][]byte)
	for _, data := range mails {
		id := looseHeader(data).get("Message-ID")
		if !slices.ContainsFunc(messages, func(m Message) bool { return m.ID == id }) {
			c.Others++
			continue
		}
		copies[id] = append(copies[id], data)
	}
	for _, m := range messages {
		if copies[m.ID] == nil {
			c.Missing = append(c.Missing, m.ID)
			continue
		}
		same := true
		for _, got := range copies[m.ID] {
			d, err := m.compare(got, mbox)
			if err != nil {
				return c, fmt.Errorf("%s: %w", m.Name, err)
			}
			if same = same && len(d) == 0; len(d) > 0 {
				c.Differences = append(c.Differences, d...)
				break
			}
		}
		if same {
			c.Same = append(c.Same, m.ID)
		}
	}
	return c, nil
}

func (m Message) compare(got []byte, mbox bool) ([]Difference, error) {
	wantHeader, want, err := splitHeader(m.Data)
	if err != nil {
		return nil, err
	}
	gotHeader := looseHeader(got)
	var all []Difference
	add := func(part string, line int, want, got string, encoding bool) {
		all = append(all, Difference{m.Name, m.ID, part, line, want, got, encoding})
	}
	for _, f := range wantHeader {
		want, got := address.Squeeze(f.value()), gotHeader.get(f.name)
		switch {
		case want == got || f.is("Content-Transfer-Encoding"):
		case f.is("To") || f.is("Cc"):
			if !sameAddresses(want, got) {
				add(f.name, 0, want, got, false)
			}
		case f.is("Content-Type"):
			if !sameType(want, got) {
				add(f.name, 0, want, got, false)
			}
		default:
			a, errA := decode(want)
			b, errB := decode(got)
			add(f.name, 0, want, got, got != "" && errA == nil && errB == nil && a == b)
		}
	}

	const part = "body"
	_, body, _ := cutHeader(got)
	wantCoding, gotCoding := coding(looseHeader(m.Data)), coding(gotHeader)
	line, a, b := firstDifference(want, body, mbox)
	if wantCoding == gotCoding && (line == 0 || wantCoding == "8bit") {
		if line > 0 {
			add(part, line, a, b, false)
		}
		return all, nil
	}
	add(part, 0, wantCoding, gotCoding, true)
	if want, err = decodeBody(want, wantCoding); err != nil {
		return nil, err
	}
	if body, err = decodeBody(body, gotCoding); err != nil {
		add(part, 0, "", err.Error(), false)
		return all, nil
	}
	// In base64 the ends of lines may be those of the way.
	if line, a, b := firstDifference(unixLines(want), unixLines(body), mbox && gotCoding == "8bit"); line > 0 {
		add(part, line, a, b, false)
	}
	return all, nil
}

// firstDifference returns the first line that differs, counted from 1, and 0 if
// none does.
func firstDifference(want, got []byte, mbox bool) (n int, a, b string) {
	wants := strings.Split(strings.TrimRight(string(want), "\n"), "\n")
	gots := strings.Split(strings.TrimRight(string(got), "\n"), "\n")
	for i := range max(len(wants), len(gots)) {
		switch {
		case i >= len(wants) && gots[i] != "":
			return i + 1, "", gots[i]
		case i >= len(gots) && wants[i] != "":
			return i + 1, wants[i], ""
		case i >= len(wants) || i >= len(gots):
			continue // there is more below
		case wants[i] != gots[i] && !(mbox && fromLine.MatchString(wants[i]) && gots[i] == ">"+wants[i]):
			return i + 1, wants[i], gots[i]
		}
	}
	return 0, "", ""
}

var fromLine = regexp.MustCompile(`^>*From `)

func sameAddresses(want, got string) bool {
	a, errA := address.ParseList(want)
	b, errB := address.ParseList(got)
	return errA == nil && errB == nil && slices.EqualFunc(a, b, func(a, b mail.Address) bool {
		return a.Name == b.Name && strings.EqualFold(a.Address, b.Address)
	})
}

func sameType(want, got string) bool {
	a, paramsA, errA := mime.ParseMediaType(want)
	b, paramsB, errB := mime.ParseMediaType(got)
	return errA == nil && errB == nil && a == b && len(paramsA) == len(paramsB) && strings.EqualFold(paramsA["charset"], paramsB["charset"])
}

func coding(h header) string {
	c := strings.ToLower(h.get("Content-Transfer-Encoding"))
	if c == "" || c == "7bit" || c == "binary" {
		return "8bit" // the text is the same in all of them
	}
	return c
}

func decodeBody(body []byte, coding string) ([]byte, error) {
	var r io.Reader = bytes.NewReader(body)
	switch coding {
	case "8bit":
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	default:
		return nil, fmt.Errorf("the encoding %q is not known", clip(coding))
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("it is no %s: %w", coding, err)
	}
	return text, nil
}

// A header is what others made of one: by names in small letters, the values on
// one line each.
type header map[string][]string

// get returns the first value of a header.
func (h header) get(name string) string {
	if v := h[strings.ToLower(name)]; v != nil {
		return v[0]
	}
	return ""
}

// looseHeader reads a header, and passes over what is none.
func looseHeader(data []byte) header {
	h := make(header)
	top, _, _ := cutHeader(data)
	name := ""
	for line := range strings.Lines(string(top)) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" && (line[0] == ' ' || line[0] == '\t') {
			if v := h[name]; v != nil {
				v[len(v)-1] = address.Squeeze(v[len(v)-1] + " " + line)
			}
			continue
		}
		m := fieldStart.FindStringSubmatch(line)
		if m == nil {
			name = ""
			continue
		}
		name = strings.ToLower(m[1])
		h[name] = append(h[name], address.Squeeze(line[len(m[0]):]))
	}
	return h
}

// cutHeader cuts a mail at the first empty line.
func cutHeader(data []byte) (header, body []byte, found bool) {
	if bytes.HasPrefix(data, []byte("\n")) {
		return nil, data[1:], true
	}
	if i := bytes.Index(data, []byte("\n\n")); i >= 0 {
		return data[:i+1], data[i+2:], true
	}
	return data, nil, false
}

// readMailbox reads mails, lines ending in LF, and whether they are of an mbox.
func readMailbox(name string) (mails [][]byte, mbox bool, err error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, false, err
	}
	if !st.IsDir() {
		data, err := readFile(name, maxMailbox)
		if err != nil {
			return nil, false, err
		}
		mails, mbox = splitMailbox(data)
		if len(mails) == 0 {
			return nil, false, fmt.Errorf("there is no mail in %s", name)
		}
		return mails, mbox, nil
	}
	var files []string
	for _, pattern := range []string{"cur/*", "new/*", "*.eml"} {
		found, err := filepath.Glob(filepath.Join(escapeGlob(name), pattern))
		if err != nil {
			return nil, false, err
		}
		files = append(files, found...)
	}
	if len(files) == 0 || len(files) > maxMails {
		return nil, false, fmt.Errorf("%s has %d mails in cur, new and *.eml, want 1 to %d: name an mbox, a Maildir, or a file", name, len(files), maxMails)
	}
	size := int64(maxMailbox)
	for _, file := range files {
		data, err := readFile(file, size)
		if err != nil {
			return nil, false, err
		}
		size -= int64(len(data))
		mails = append(mails, unixLines(data))
	}
	return mails, false, nil
}

func escapeGlob(path string) string {
	return regexp.MustCompile(`[*?[\\]`).ReplaceAllString(path, `\$0`)
}

func unixLines(data []byte) []byte {
	return bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
}

// splitMailbox cuts an mbox into mails, which all have a "From " line before them,
// with a header behind it and an empty line before it. Without one at its begin
// the file is a mail.
func splitMailbox(data []byte) (mails [][]byte, mbox bool) {
	data = unixLines(data)
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, false
	}
	if !bytes.HasPrefix(data, []byte("From ")) {
		return [][]byte{data}, false
	}
	start, empty := -1, true
	for at := 0; at < len(data); {
		line, rest, _ := bytes.Cut(data[at:], []byte("\n"))
		next := len(data) - len(rest)
		if empty && bytes.HasPrefix(line, []byte("From ")) && fieldStart.Match(rest) {
			if start >= 0 {
				mails = append(mails, data[start:at])
			}
			start = next
		}
		empty = len(line) == 0
		at = next
	}
	if start >= 0 {
		mails = append(mails, data[start:])
	}
	return mails, true
}
