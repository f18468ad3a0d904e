// Package patchmail reads patch series as anybody mails them: what git
// format-patch, git send-email, b4 or a mail client made of them.
package patchmail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	netmail "net/mail"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // what a mail client may take instead of UTF-8

	"patchgen/series"
)

// A Series is what was mailed together, in the order in which git am would take
// it.
type Series struct {
	Cover   *Mail // nil if there is none
	Patches []*Mail
}

// A Mail is one patch, or a cover letter, which has no diff.
type Mail struct {
	Name string // of its file
	Raw  []byte // the file

	Header  message.Header
	Subject string // decoded, on one line
	Tags    Tags
	Title   string // Subject without what git am takes off its front

	From   netmail.Address // of the header
	Author netmail.Address // of the commit: From, or what the body begins with
	Date   time.Time       // zero if there is none, or it is none

	Message string // below the subject, as git am commits it, no newline at the end
	Below   string // from below "---" to the diff: the history of the series and the diffstat

	Diff      []byte // as text, LF at the ends of lines unless the files have CR LF; nil in a cover letter
	Files     []*gitdiff.File
	DiffError error // why Diff cannot be read

	Charset string // of the text, in lower case, "" if the header names none
	Coding  string // Content-Transfer-Encoding, in lower case, "" if there is none
	CRLF    bool   // all lines of the file end in CR LF

	Kind string // Content-Type, in lower case, "" if there is none
	Err  error  // of ReadAny alone: why the mail cannot be read; all but Name and Raw may be empty then
}

// Tags are what a subject has in brackets, such as [RFC PATCH net-next v2 3/10].
type Tags struct {
	Words         []string // but for the version and the numbers
	Version       int      // 1 if it is not told
	Number, Total int      // 0 if they are not told
	Width         int      // digits of Number
}

// Has reports whether word is among the words.
func (t Tags) Has(word string) bool {
	for _, w := range t.Words {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}

// MaxLine is the length of lines from which on a mail is not read, in bytes.
const MaxLine = 1 << 20

// Read reads the files *.patch of a folder, or one file, which may be an mbox
// (series.ReadPatches). The cover letter is the mail without a diff that is numbered
// 0/n, wherever it stands, or the first one if it comes before all patches; others
// without a diff are left out unless they are numbered as patches.
func Read(name string) (*Series, error) {
	mails, err := series.ReadPatches(name)
	if err != nil {
		return nil, err
	}
	return Parse(mails)
}

// Parse is Read of mails that are in memory.
func Parse(mails []series.Mail) (*Series, error) {
	s := &Series{}
	for _, raw := range split(mails) {
		if len(bytes.TrimSpace(raw.Data)) == 0 {
			return nil, fmt.Errorf("%s is empty", raw.Name)
		}
		m, err := parse(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", raw.Name, err)
		}
		switch {
		case m.isReply():
		case m.Diff != nil || m.Tags.Number > 0:
			s.Patches = append(s.Patches, m)
		case s.isCover(m):
			s.Cover = m
		case m.isNumberedCover():
			return nil, fmt.Errorf("%s and %s are both cover letters: give one series at a time", s.Cover.Name, m.Name)
		}
	}
	if len(s.Patches) == 0 {
		return nil, series.ErrNoDiff
	}
	return s, nil
}

// isNumberedCover reports whether a mail without a diff is numbered 0/n.
func (m *Mail) isNumberedCover() bool { return m.Tags.Number == 0 && m.Tags.Total > 0 }

// isCover reports whether a mail without a diff, which comes behind what s has, is its
// cover letter. What is numbered is so rather than a mail that stands before it.
func (s *Series) isCover(m *Mail) bool {
	if m.isNumberedCover() {
		return s.Cover == nil || !s.Cover.isNumberedCover()
	}
	return s.Cover == nil && len(s.Patches) == 0
}

// Mails returns all mails, the cover letter first.
func (s *Series) Mails() []*Mail {
	if s.Cover == nil {
		return s.Patches
	}
	return append([]*Mail{s.Cover}, s.Patches...)
}

var (
	fromLine   = regexp.MustCompile(`^>?From [^\n]*\n`)
	words      = &mime.WordDecoder{CharsetReader: message.CharsetReader}
	addresses  = &netmail.AddressParser{WordDecoder: words}
	headerLine = regexp.MustCompile(`^[!-9;-~]+:`)
)

func parse(raw series.Mail) (*Mail, error) { return parseMail(raw, false) }

// parseMail reads a mail; with broken, also one that a list would refuse.
func parseMail(raw series.Mail, broken bool) (*Mail, error) {
	m := &Mail{Name: raw.Name, Raw: raw.Data}
	text := fromLine.ReplaceAll(raw.Data, nil)
	m.CRLF = bytes.Contains(text, []byte("\n")) && bytes.Count(text, []byte("\n")) == bytes.Count(text, []byte("\r\n"))
	if m.CRLF {
		text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	}
	for line := range bytes.Lines(text) {
		if len(line) > MaxLine {
			return nil, fmt.Errorf("it has a line of more than %d bytes", MaxLine)
		}
	}
	if !headerLine.Match(text) {
		first, _, _ := bytes.Cut(text, []byte("\n"))
		return nil, fmt.Errorf("it is no mail, as it does not begin with a header but with %.60q", first)
	}
	entity, err := message.Read(bytes.NewReader(text))
	if err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	m.Header = entity.Header
	kind, params, err := entity.Header.ContentType()
	several := err == nil && strings.HasPrefix(kind, "multipart/")
	if several && !broken {
		return nil, errors.New("it is a mail of several parts, which mailing lists of the kernel do not take: send the patch as plain text")
	}
	if entity.Header.Has("Content-Type") {
		m.Kind = strings.ToLower(kind)
	}
	m.Charset = strings.ToLower(params["charset"])
	m.Coding = strings.ToLower(strings.TrimSpace(entity.Header.Get("Content-Transfer-Encoding")))
	var body []byte
	if several {
		body, err = plainParts(entity)
	} else {
		body, err = io.ReadAll(entity.Body)
	}
	if err != nil {
		return nil, fmt.Errorf("read the text: %w", err)
	}
	if m.Subject, err = m.header("Subject"); err != nil && !broken {
		return nil, err
	}
	m.Tags, m.Title = tags(m.Subject)
	from, err := m.header("From")
	if err != nil && !broken {
		return nil, err
	}
	if from != "" {
		// Whoever makes no valid address is named by a check, not by us.
		if a, err := addresses.Parse(m.Header.Get("From")); err == nil {
			m.From = *a
		} else if a, err := addresses.Parse(from); err == nil {
			m.From = *a
		} else {
			m.From = netmail.Address{Name: from}
		}
	}
	m.Author = m.From
	if t, err := netmail.ParseDate(m.Header.Get("Date")); err == nil {
		m.Date = t
	}
	m.split(body)
	return m, nil
}

// header returns a header decoded, on one line. If it is not UTF-8, there is an
// error, and what can be read of it.
func (m *Mail) header(name string) (string, error) {
	text, err := words.DecodeHeader(m.Header.Get(name))
	if err != nil {
		text = m.Header.Get(name)
	}
	if err = nil; !utf8.ValidString(text) {
		err = fmt.Errorf("the header %s is not UTF-8", name)
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	return strings.Join(strings.Fields(text), " "), err
}

var (
	reply   = regexp.MustCompile(`^(?i:re:)\s*`)
	bracket = regexp.MustCompile(`^\[([^\]]*)\]\s*`)
	version = regexp.MustCompile(`^(?i:v)([0-9]{1,6})$`)
	attempt = regexp.MustCompile(`^([A-Za-z]+)v([0-9]{1,6})$`) // PATCHv2, an old way
	numbers = regexp.MustCompile(`^([0-9]{1,6})/([0-9]{1,6})$`)
)

// tags takes apart what git am takes off the front of a subject (git:
// mailinfo.c, cleanup_subject).
func tags(subject string) (Tags, string) {
	t := Tags{Version: 1}
	for {
		if m := reply.FindString(subject); m != "" {
			subject = subject[len(m):]
			continue
		}
		m := bracket.FindStringSubmatch(subject)
		if m == nil {
			return t, subject
		}
		subject = subject[len(m[0]):]
		for _, word := range strings.FieldsFunc(m[1], func(r rune) bool { return r == ' ' || r == ',' }) {
			if v := version.FindStringSubmatch(word); v != nil {
				t.Version, _ = strconv.Atoi(v[1])
			} else if n := numbers.FindStringSubmatch(word); n != nil {
				t.Number, _ = strconv.Atoi(n[1])
				t.Total, _ = strconv.Atoi(n[2])
				t.Width = len(n[1])
			} else if a := attempt.FindStringSubmatch(word); a != nil {
				t.Words = append(t.Words, a[1])
				t.Version, _ = strconv.Atoi(a[2])
			} else {
				t.Words = append(t.Words, word)
			}
		}
	}
}

var (
	// Where a patch begins (git: mailinfo.c, patchbreak).
	patchBreak = regexp.MustCompile(`(?m)^(diff -.*|Index: .*|---[ \t\r]*|--- [^\s].*)$`)
	scissors   = regexp.MustCompile(`^---[ \t\r]*$`)
	diffStart  = regexp.MustCompile(`(?m)^(diff -|Index: |--- [^\s].*\n\+\+\+ )`)
	gitDiff    = regexp.MustCompile(`(?m)^diff --git `)
	signature  = regexp.MustCompile(`(?m)^-- \n`)
	inBody     = regexp.MustCompile(`^(?i:(from|date|subject)): *(.*)\n`)
)

// split takes the text of a mail apart.
func (m *Mail) split(body []byte) {
	text := string(body)
	if !utf8.ValidString(text) && m.Charset == "" {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	text = strings.TrimLeft(text, "\n")
	for {
		h := inBody.FindStringSubmatch(text)
		if h == nil {
			break
		}
		text = text[len(h[0]):]
		switch strings.ToLower(h[1]) {
		case "from":
			if a, err := addresses.Parse(h[2]); err == nil {
				m.Author = *a
			}
		case "subject":
			m.Subject = strings.Join(strings.Fields(h[2]), " ")
			_, m.Title = tags(m.Subject)
		}
	}
	rest := ""
	if at := patchBreak.FindStringIndex(text); at != nil {
		text, rest = text[:at[0]], text[at[0]:]
	} else if at := signature.FindStringIndex(text); at != nil {
		text = text[:at[0]]
	}
	m.Message = strings.TrimSpace(text)
	if first, after, _ := strings.Cut(rest, "\n"); scissors.MatchString(first) {
		rest = after
	}
	at := diffStart.FindStringIndex(rest)
	if at == nil {
		m.Below = strings.TrimRight(rest, "\n")
		return
	}
	m.Below = strings.TrimRight(rest[:at[0]], "\n")
	m.Diff = []byte(rest[at[0]:])
	m.Files, _, m.DiffError = gitdiff.Parse(bytes.NewReader(m.Diff))
	if m.DiffError == nil && len(m.Files) == 0 {
		m.DiffError = errors.New("there is no diff in it")
	}
	if !gitDiff.Match(m.Diff) {
		// go-gitdiff leaves the names of diff(1) as they are.
		for _, f := range m.Files {
			f.OldName, f.NewName = withoutPrefix(f.OldName), withoutPrefix(f.NewName)
			if !f.IsNew && !f.IsDelete {
				f.OldName = f.NewName
			}
		}
	}
}

// withoutPrefix takes off the first folder, as git am does.
func withoutPrefix(name string) string {
	_, rest, found := strings.Cut(name, "/")
	if !found {
		return name
	}
	return strings.TrimLeft(rest, "/")
}

// Text is what a reader sees below the headers and before the diff.
func (m *Mail) Text() string {
	if m.Below == "" {
		return m.Message
	}
	return m.Message + "\n---\n" + m.Below
}

// Mentions returns what stands behind the name and a colon, as in
// "base-commit: HASH", at the begin of a line of the text, "" if nothing does:
// base-commit, change-id.
func (m *Mail) Mentions(name string) string {
	tail := m.Diff
	if i := bytes.LastIndex(tail, []byte("\n-- \n")); i < 0 {
		tail = nil // git's block stands before its signature, behind the diff
	} else {
		tail = tail[max(0, i-4096):i]
	}
	for _, text := range []string{m.Text(), string(tail)} {
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, name+":"); ok {
				return strings.TrimSpace(value)
			}
		}
	}
	return ""
}

// A Trailer is one line of a message's last paragraph, such as Signed-off-by.
type Trailer struct {
	Key, Value string
	Line       int // of Message, counted from 1
}

var trailer = regexp.MustCompile(`^([A-Za-z0-9-]+):[ \t]*(\S.*)$`)

// Trailers returns the trailers of the message's last paragraph. Whatever else
// stands among them is passed over, as b4 does.
func (m *Mail) Trailers() []Trailer {
	lines := strings.Split(m.Message, "\n")
	start := len(lines)
	for start > 0 && strings.TrimSpace(lines[start-1]) != "" {
		start--
	}
	var all []Trailer
	for i, line := range lines[start:] {
		if t := trailer.FindStringSubmatch(line); t != nil {
			all = append(all, Trailer{t[1], strings.TrimSpace(t[2]), start + i + 1})
		} else if len(all) > 0 && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")) {
			all[len(all)-1].Value += " " + strings.TrimSpace(line)
		}
	}
	return all
}
