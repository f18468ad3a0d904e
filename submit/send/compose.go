package send

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"patchgen/series"
	"patchgen/submit/address"
)

// A Draft is a mail as git format-patch wrote it, and whom it goes to.
type Draft struct {
	series.Mail
	To, Cc []mail.Address
	Bcc    []mail.Address // get the mail and are not in its header
}

// ComposeOptions say what final mails have besides their text.
type ComposeOptions struct {
	From     mail.Address // whoever sends
	ChangeID string       // as b4 has it, YYYYMMDD-NAME-<12 hex digits>; "" takes a name from the first subject
	Version  int          // of the series; 0 is 1
	Time     time.Time    // of the first mail's Date, in the zone that it tells; the others follow by a second each. Zero is now
	Mailer   string       // for X-Mailer, such as "patchgen 1.0"; "" leaves it out
	Random   io.Reader    // for Message-IDs; nil is crypto/rand

	SuppressCc       []string // as in Config: with cc, those in a Draft's header Cc get no mail for that; with self, the sender
	CcCover, ToCover bool     // as in Config
}

// A Message is a final mail.
type Message struct {
	Name       string // of the file that it was made of, as in Draft
	ID         string // the Message-ID with its angle brackets
	Subject    string // decoded, on one line
	From       mail.Address
	To, Cc     []mail.Address
	Recipients []string // addresses that get it: To, Cc and Bcc, each once
	Data       []byte   // from the first header on; lines end in LF, the last one too

	LeftOut []mail.Address // in the Draft's header Cc, and no recipients by SuppressCc; only Compose tells them

	source [sha256.Size]byte // of all that it was made of, but for the time, chance, and the mailer's name
}

var (
	changeID    = regexp.MustCompile(`^[0-9]{8}-([A-Za-z0-9._-]{1,100})-[0-9a-f]{12}$`)
	messageID   = regexp.MustCompile(`^<[!-;=?A-~]+@[!-;=?A-~]+>$`)
	messageIDs  = regexp.MustCompile(`^(<[!-;=?-~]+>\s*)+$`)
	subjectTags = regexp.MustCompile(`^\s*(\[[^\]]*\]\s*)+`)
	coverTag    = regexp.MustCompile(`^\[[^\]]*\b0+/[0-9]+\]`)
	noSlug      = regexp.MustCompile(`[^a-z0-9]+`)
)

// Compose makes the final mails of a series: its cover letter first, if there is
// one. The first mail is the thread's root, and the others reply to it.
//
// What stands below the header is taken over byte for byte, but for a missing
// newline at the end, and for a "From:" line before it if the header's From is
// not whoever sends, as git send-email puts it there. It is sent as 8bit; or as
// quoted-printable, as by git, if a line is longer than 998 bytes or has a CR in
// it, or a NUL. Of the header, what is not known is kept. To, Cc and Bcc are
// added to the Draft's; a Message-ID is kept, and so is what the first mail
// replies to. Date becomes the time of sending.
//
// New Message-IDs are those of b4, <YYYYMMDD-NAME-vN-K-RANDOM@DOMAIN>, of the
// day of sending, K being 0 for a cover letter, and the domain the sender's (b4:
// ez.py, make_msgid_tpt). Chance makes that nobody can know them before. As with
// b4, the change-id stands in X-Change-ID, too.
func Compose(drafts []Draft, o ComposeOptions) ([]Message, error) {
	if len(drafts) == 0 || len(drafts) > maxMails {
		return nil, fmt.Errorf("there are %d mails to send, want 1 to %d", len(drafts), maxMails)
	}
	if o.From.Address == "" {
		return nil, errors.New("it is not known who sends: set sendemail.from, or user.name and user.email")
	}
	from, err := address.Check(o.From)
	if err != nil {
		return nil, fmt.Errorf("the sender: %w", err)
	}
	o.From = from
	if o.Version < 0 || o.Version > 9999 {
		return nil, fmt.Errorf("the series cannot have version %d", o.Version)
	}
	if !address.Printable(o.Mailer) || !isASCII(o.Mailer) || len(o.Mailer) > maxWord {
		return nil, fmt.Errorf("the mailer's name %q cannot stand in a header", clip(o.Mailer))
	}
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	var parts []*input
	names := make(map[string]bool)
	for _, d := range drafts {
		if d.Name != filepath.Base(d.Name) || !filepath.IsLocal(d.Name) || d.Name == "." || !address.Printable(d.Name) || len(d.Name) > 200 || names[d.Name] {
			return nil, fmt.Errorf("%q is no name for a file, or it is one of two", clip(d.Name))
		}
		names[d.Name] = true
		if len(parts) > 0 && o.ToCover {
			d.To = slices.Concat(d.To, parts[0].headerTo)
		}
		if len(parts) > 0 && o.CcCover {
			d.Cc = slices.Concat(d.Cc, parts[0].headerCc)
		}
		p, err := readDraft(d, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
		parts = append(parts, p)
	}
	id, err := o.messageID(parts[0].subject)
	if err != nil {
		return nil, err
	}
	first := 1
	if coverTag.MatchString(parts[0].subject) {
		first = 0
	}
	var all []Message
	ids := make(map[string]bool)
	for i, p := range parts {
		if p.id == "" {
			p.id = id(first + i)
		}
		if ids[p.id] {
			return nil, fmt.Errorf("%s: the Message-ID %s is that of another mail", p.name, p.id)
		}
		ids[p.id] = true
		if i > 0 {
			p.inReplyTo = parts[0].id
			p.references = append(slices.Clone(parts[0].references), parts[0].id)
		}
		m, err := p.finish(o, o.Time.Add(time.Duration(i)*time.Second))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// messageID returns what makes the Message-ID of the kth mail. subject is that
// of the first mail.
func (o ComposeOptions) messageID(subject string) (func(k int) string, error) {
	slug := ""
	if o.ChangeID != "" {
		m := changeID.FindStringSubmatch(o.ChangeID)
		if m == nil {
			return nil, fmt.Errorf("the change-id %q is not YYYYMMDD-NAME-<12 hex digits>", clip(o.ChangeID))
		}
		slug = m[1]
	} else {
		title := strings.ToLower(subjectTags.ReplaceAllString(subject, ""))
		for word := range strings.SplitSeq(strings.Trim(noSlug.ReplaceAllString(title, "-"), "-"), "-") {
			if len(slug)+1+len(word) > 40 {
				break
			}
			slug = strings.Trim(slug+"-"+word, "-")
		}
		if slug == "" {
			slug = "series"
		}
	}
	random := o.Random
	if random == nil {
		random = rand.Reader
	}
	var chance [6]byte
	if _, err := io.ReadFull(random, chance[:]); err != nil {
		return nil, fmt.Errorf("make a Message-ID: %w", err)
	}
	_, domain, _ := strings.Cut(o.From.Address, "@")
	return func(k int) string {
		return fmt.Sprintf("<%s-%s-v%d-%d-%x@%s>", o.Time.Format("20060102"), slug, max(o.Version, 1), k, chance, domain)
	}, nil
}

// An input is a Draft taken apart.
type input struct {
	name       string
	author     mail.Address
	rawSubject []byte // the field
	subject    string
	id         string
	inReplyTo  string
	references []string
	to, cc     []mail.Address
	bcc        []mail.Address
	headerTo   []mail.Address // those of to and cc that the file names
	headerCc   []mail.Address
	left       []mail.Address
	other      []field
	body       []byte
	source     [sha256.Size]byte
}

// The fields of which a header has at most one.
var once = []string{"From", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}

func readDraft(d Draft, o ComposeOptions) (*input, error) {
	data := d.Data
	if len(data) > maxMail {
		return nil, fmt.Errorf("it has more than %d MiB", maxMail>>20)
	}
	if bytes.HasPrefix(data, []byte("From ")) {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	fields, body, err := splitHeader(data)
	if err != nil {
		return nil, err
	}
	p := &input{name: d.Name, body: body}
	have := make(map[string]field)
	for _, name := range once {
		f, ok, err := single(fields, name)
		if err != nil {
			return nil, err
		}
		if ok {
			have[name] = f
		}
	}
	if _, ok := have["From"]; !ok {
		return nil, errors.New("it has no header From: write it with git format-patch")
	}
	if p.author, err = address.Parse(have["From"].value()); err != nil {
		return nil, fmt.Errorf("the header From: %w", err)
	}
	if err := p.readSubject(have["Subject"]); err != nil {
		return nil, err
	}
	if err := p.readThread(have); err != nil {
		return nil, err
	}
	if p.body, err = plain(have["Content-Type"], have["Content-Transfer-Encoding"], body); err != nil {
		return nil, err
	}
	for _, list := range []struct {
		name string
		to   *[]mail.Address
		more []mail.Address
	}{{"To", &p.to, d.To}, {"Cc", &p.cc, d.Cc}, {"Bcc", &p.bcc, d.Bcc}} {
		for _, f := range fieldsNamed(fields, list.name) {
			if f.value() == "" {
				continue
			}
			more, err := address.ParseList(f.value())
			if err != nil {
				return nil, fmt.Errorf("the header %s: %w", list.name, err)
			}
			*list.to = append(*list.to, more...)
		}
		switch list.name {
		case "To":
			p.headerTo = slices.Clone(p.to)
		case "Cc":
			p.cc = slices.DeleteFunc(p.cc, func(a mail.Address) bool {
				left := o.suppresses(a)
				if left {
					p.left = append(p.left, a)
				}
				return left
			})
			p.headerCc = slices.Clone(p.cc)
		}
		for _, a := range list.more {
			a, err := address.Check(a)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", list.name, err)
			}
			*list.to = append(*list.to, a)
		}
	}
	for _, f := range fields {
		if f.is("To") || f.is("Cc") || f.is("Bcc") || slices.ContainsFunc(once, f.is) {
			continue
		}
		if !isASCII(string(f.raw)) {
			return nil, fmt.Errorf("the header %s is not plain ASCII", f.name)
		}
		p.other = append(p.other, f)
	}
	p.choose()
	if len(p.to) == 0 {
		return nil, errors.New("it goes to nobody: give a recipient, or set sendemail.to")
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %s%q %q %q", len(data), data, p.to, p.cc, p.bcc)
	h.Sum(p.source[:0])
	return p, nil
}

// suppresses reports whether somebody gets no copy for standing in a header Cc.
func (o ComposeOptions) suppresses(a mail.Address) bool {
	if strings.EqualFold(a.Address, o.From.Address) {
		return slices.Contains(o.SuppressCc, "self")
	}
	return slices.Contains(o.SuppressCc, "cc")
}

// readSubject takes over the field as it is folded and encoded, if it is encoded.
func (p *input) readSubject(f field) error {
	if f.name == "" {
		return errors.New("it has no header Subject: write it with git format-patch")
	}
	var err error
	if p.subject, err = decode(f.value()); err != nil {
		return fmt.Errorf("the header Subject: %w", err)
	}
	if p.subject == "" {
		return errors.New("its Subject is empty")
	}
	if strings.Contains(p.subject, "*** SUBJECT HERE ***") { // as by git send-email
		return errors.New("its Subject is the one that git wrote to be replaced")
	}
	p.rawSubject = f.raw
	if !isASCII(string(f.raw)) {
		p.rawSubject = []byte("Subject: " + strings.Join(encodeWords(p.subject), "\n ") + "\n")
	}
	return nil
}

func (p *input) readThread(have map[string]field) error {
	if f, ok := have["Message-ID"]; ok {
		p.id = f.value()
		if !messageID.MatchString(p.id) || len(p.id) > maxWord {
			return fmt.Errorf("the Message-ID %q is not of the form <NAME@DOMAIN>", clip(p.id))
		}
	}
	for _, name := range []string{"In-Reply-To", "References"} {
		f, ok := have[name]
		if !ok {
			continue
		}
		if !messageIDs.MatchString(f.value()) {
			return fmt.Errorf("the header %s, %q, is no list of <NAME@DOMAIN>", name, clip(f.value()))
		}
		ids := strings.Fields(strings.ReplaceAll(f.value(), ">", "> "))
		if name == "References" {
			p.references = ids
		} else {
			p.inReplyTo = ids[0]
		}
	}
	if p.inReplyTo != "" && p.references == nil {
		p.references = []string{p.inReplyTo}
	}
	return nil
}

// plain returns a body without its transfer encoding, if it is one of text.
func plain(contentType, encoding field, body []byte) ([]byte, error) {
	if contentType.name != "" {
		kind, params, err := mime.ParseMediaType(contentType.value())
		charset := strings.ToLower(params["charset"])
		switch {
		case err != nil || kind != "text/plain":
			return nil, fmt.Errorf("its Content-Type is %q and not text/plain", clip(contentType.value()))
		case strings.EqualFold(params["format"], "flowed"):
			return nil, errors.New("its Content-Type is format=flowed, which breaks patches: write it with git format-patch")
		case charset != "" && charset != "utf-8" && charset != "utf8" && charset != "us-ascii":
			return nil, fmt.Errorf("it is written in %s: write it in UTF-8", clip(charset))
		}
	}
	if encoding.name == "" {
		return body, nil
	}
	var err error
	switch strings.ToLower(encoding.value()) {
	case "7bit", "8bit", "binary":
	case "quoted-printable":
		body, err = io.ReadAll(quotedprintable.NewReader(bytes.NewReader(body)))
	case "base64":
		body, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(body)))
	default:
		err = errors.New("unknown")
	}
	if err != nil {
		return nil, fmt.Errorf("its Content-Transfer-Encoding, %q: %w", clip(encoding.value()), err)
	}
	return body, nil
}

// choose leaves each recipient once, and whoever is in Cc alone becomes To, as
// with b4.
func (p *input) choose() {
	seen := make(map[string]bool)
	for _, list := range []*[]mail.Address{&p.to, &p.cc, &p.bcc} {
		var kept []mail.Address
		for _, a := range *list {
			if key := strings.ToLower(a.Address); !seen[key] {
				seen[key] = true
				kept = append(kept, a)
			}
		}
		*list = kept
	}
	if len(p.to) == 0 {
		p.to, p.cc = p.cc, nil
	}
}

// finish writes the mail.
func (p *input) finish(o ComposeOptions, when time.Time) (Message, error) {
	m := Message{Name: p.name, ID: p.id, Subject: p.subject, From: o.From, To: p.to, Cc: p.cc}
	for _, list := range [][]mail.Address{p.to, p.cc, p.bcc} {
		for _, a := range list {
			m.Recipients = append(m.Recipients, a.Address)
		}
	}
	for _, a := range p.left {
		if !slices.ContainsFunc(m.Recipients, func(r string) bool { return strings.EqualFold(r, a.Address) }) {
			m.LeftOut = append(m.LeftOut, a)
		}
	}
	body := p.body
	if p.author != o.From && !hasAuthor(body) {
		end := "\n\n"
		if inBody.Match(body) {
			end = "\n" // it is one block with what stands there
		}
		body = slices.Concat([]byte("From: "+display(p.author)+end), body)
	}
	if n := len(body); n > 0 && body[n-1] != '\n' {
		body = append(slices.Clip(body), '\n') // which a mail has at its end, on the way at the latest
	}
	encoding := "8bit"
	if needsEncoding(body) {
		encoding = "quoted-printable"
		body = quote(body)
	}

	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s\n", encode(o.From))
	b.Write(p.rawSubject)
	fmt.Fprintf(&b, "Date: %s\n", when.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	fmt.Fprintf(&b, "Message-ID: %s\n", p.id)
	if p.inReplyTo != "" {
		fmt.Fprintf(&b, "In-Reply-To: %s\n", p.inReplyTo)
	}
	if p.references != nil {
		fmt.Fprintf(&b, "References: %s\n", strings.Join(p.references, "\n "))
	}
	writeAddresses(&b, "To", p.to)
	writeAddresses(&b, "Cc", p.cc)
	for _, f := range p.other {
		if (o.Mailer == "" || !f.is("X-Mailer")) && (o.ChangeID == "" || !f.is("X-Change-ID")) {
			b.Write(f.raw)
		}
	}
	if o.ChangeID != "" {
		fmt.Fprintf(&b, "X-Change-ID: %s\n", o.ChangeID)
	}
	if o.Mailer != "" {
		fmt.Fprintf(&b, "X-Mailer: %s\n", o.Mailer)
	}
	fmt.Fprintf(&b, "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: %s\n\n", encoding)
	b.Write(body)
	m.Data = b.Bytes()
	h := sha256.New()
	fmt.Fprintf(h, "%x %q %q %d", p.source, o.From, o.ChangeID, max(o.Version, 1))
	h.Sum(m.source[:0])
	if len(m.Data) > maxMail {
		return Message{}, fmt.Errorf("it has more than %d MiB", maxMail>>20)
	}
	return m, nil
}

func writeAddresses(b *bytes.Buffer, name string, list []mail.Address) {
	for i, a := range list {
		if i == 0 {
			b.WriteString(name + ": ")
		} else {
			b.WriteString(",\n ")
		}
		b.WriteString(encode(a))
	}
	if len(list) > 0 {
		b.WriteByte('\n')
	}
}

var inBody = regexp.MustCompile(`^(?i:(from)|date|subject):`)

// hasAuthor reports whether a body begins with a From line, among those that git
// am takes for headers (git: mailinfo.c, check_inbody_header).
func hasAuthor(body []byte) bool {
	for line := range bytes.Lines(bytes.TrimLeft(body, "\n")) {
		m := inBody.FindSubmatch(line)
		if m == nil {
			break
		}
		if m[1] != nil {
			return true
		}
	}
	return false
}

// needsEncoding reports whether SMTP cannot carry a body as it is.
func needsEncoding(body []byte) bool {
	if bytes.ContainsAny(body, "\r\x00") {
		return true
	}
	for line := range bytes.Lines(body) {
		if len(bytes.TrimSuffix(line, []byte("\n"))) > maxLine {
			return true
		}
	}
	return false
}

// quote returns a body as quoted-printable: lines end where they end, and a CR is
// encoded like any other byte that is not plain. So is the F of a "From " line,
// which the reader of an mbox could take for the begin of another mail.
func quote(body []byte) []byte {
	const most = 76 // bytes of a line without its end: RFC 2045, section 6.7
	var b bytes.Buffer
	for line := range bytes.Lines(body) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		from := bytes.HasPrefix(line, []byte("From "))
		at := 0
		for i, c := range line {
			unit := []byte{c}
			last := i == len(line)-1
			if c != '\t' && (c < ' ' || c > '~') || c == '=' || last && (c == ' ' || c == '\t') || from && i == 0 {
				unit = fmt.Appendf(nil, "=%02X", c)
			}
			if at+len(unit) > most || at+len(unit) == most && !last {
				b.WriteString("=\n")
				at = 0
			}
			b.Write(unit)
			at += len(unit)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// readMessage is what Compose made, read back. It has neither recipients nor
// source.
func readMessage(name string, data []byte) (Message, error) {
	m := Message{Name: name, Data: data}
	fields, _, err := splitHeader(data)
	if err != nil {
		return m, err
	}
	for _, f := range fields {
		switch {
		case f.is("From"):
			m.From, err = address.Parse(f.value())
		case f.is("Subject"):
			m.Subject, err = decode(f.value())
		case f.is("Message-ID"):
			m.ID = f.value()
		case f.is("To"):
			m.To, err = address.ParseList(f.value())
		case f.is("Cc"):
			m.Cc, err = address.ParseList(f.value())
		}
		if err != nil {
			return m, err
		}
	}
	if m.ID == "" || m.From.Address == "" {
		return m, errors.New("it has no From or no Message-ID")
	}
	return m, nil
}

// sum is the SHA-256 of a mail, in hex digits.
func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
