package check

import (
	"bytes"
	"fmt"
	"mime"
	"net/mail"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-message"

	"patchgen/submit/patchmail"
)

// Limits of a mail, in bytes.
const (
	mostMail = 100_000
	mostLine = 998
)

var headerField = regexp.MustCompile(`^([!-9;-~]+):`)

var words = &mime.WordDecoder{CharsetReader: message.CharsetReader}

// Addresses that git makes up when it is not told one (git: ident.c), and hosts
// that nobody else reaches.
var unreachable = regexp.MustCompile(`(?i)@(.*\.)?(\(none\)|localhost|localdomain|local|lan|internal|invalid)>?$`)

// mail looks at how a mail is built, whatever it says.
func (c *checker) mail(n int, m *patchmail.Mail) {
	if m.Err != nil {
		c.fault("mail", n, "", "it cannot be read: "+m.Err.Error(), "write it again with git format-patch")
		return
	}
	if len(m.Raw) > mostMail {
		c.note("size", n, "", fmt.Sprintf("it has %d bytes, and some lists refuse more than %d", len(m.Raw), mostMail), "split the patch, or ask the maintainer how to send it")
	}
	c.mime(n, m)
	c.bytes(n, m)
	c.sender(n, m)
}

func (c *checker) mime(n int, m *patchmail.Mail) {
	const do = "send it as plain text inline, best with git send-email"
	disposition, _, _ := m.Header.ContentDisposition()
	_, params, _ := m.Header.ContentType()
	switch {
	case m.Kind == "multipart/signed", m.Kind == "multipart/encrypted":
		c.fault("mime", n, "Content-Type", "it is signed or encrypted in parts (PGP/MIME), which breaks programs that apply patches", do)
	case strings.HasPrefix(m.Kind, "multipart/"):
		c.fault("mime", n, "Content-Type", "it is a mail of several parts ("+m.Kind+")", do)
	case m.Kind == "text/html":
		c.fault("mime", n, "Content-Type", "it is HTML", do)
	case m.Kind != "" && m.Kind != "text/plain":
		c.fault("mime", n, "Content-Type", "it is "+m.Kind+" and not plain text", do)
	case strings.EqualFold(disposition, "attachment"):
		c.fault("mime", n, "Content-Disposition", "it is an attachment", do)
	case m.Coding == "base64":
		c.fault("mime", n, "Content-Transfer-Encoding", "it is encoded as base64, so nobody can read it in an archive or quote it", do)
	case strings.EqualFold(params["format"], "flowed"):
		c.fault("mime", n, "Content-Type", "it is format=flowed, by which readers wrap lines anew", do)
	}
}

// bytes looks at the characters and line ends.
func (c *checker) bytes(n int, m *patchmail.Mail) {
	const utf = "write it again with git format-patch, which encodes headers and declares UTF-8"
	head, body := m.Raw, []byte(nil)
	for _, end := range []string{"\n\n", "\n\r\n"} {
		if i := bytes.Index(head, []byte(end)); i >= 0 {
			head, body = m.Raw[:i+1], m.Raw[i+1:]
		}
	}
	if line, name := rawHeader(head); name == "From" && n == 0 && utf8.Valid(head) {
		c.note("charset", n, fmt.Sprintf("line %d of the mail", line), "From has characters beyond ASCII that are not encoded, as some versions of git leave it in a cover letter", "send it with git send-email or patchgen send, which encode it")
	} else if line > 0 {
		c.fault("charset", n, fmt.Sprintf("line %d of the mail", line), "a header has characters beyond ASCII that are not encoded", utf)
	}
	switch {
	case m.Coding == "quoted-printable", m.Coding == "base64":
		if text := m.Text(); !utf8.ValidString(text) {
			c.fault("charset", n, "", "the text is not UTF-8", utf)
		} else if m.Charset != "" && m.Charset != "utf-8" && m.Charset != "us-ascii" {
			c.fault("charset", n, "Content-Type", "the charset is "+m.Charset+" and not UTF-8", utf)
		}
	case isASCII(body):
		if m.Charset != "" && m.Charset != "utf-8" && m.Charset != "us-ascii" && !strings.HasPrefix(m.Charset, "iso-8859-") {
			c.fault("charset", n, "Content-Type", "the charset is "+m.Charset+" and not UTF-8", utf)
		}
	case strings.HasPrefix(m.Kind, "multipart/"):
		// The parts say it of themselves; that there are any is another rule's.
	case m.Charset == "" || m.Charset == "us-ascii":
		c.fault("charset", n, "Content-Type", "there are characters beyond ASCII, but no header says that they are UTF-8", utf)
	case m.Charset != "utf-8":
		c.fault("charset", n, "Content-Type", "the charset is "+m.Charset+" and not UTF-8", utf)
	case !utf8.Valid(body):
		line := bytes.Count(head, []byte("\n")) + lineOf(body, func(l []byte) bool { return !utf8.Valid(l) })
		c.fault("charset", n, fmt.Sprintf("line %d of the mail", line), "it says that it is UTF-8, but is not", utf)
	}

	if i := bytes.IndexByte(m.Raw, 0); i >= 0 {
		c.fault("control", n, fmt.Sprintf("line %d of the mail", 1+bytes.Count(m.Raw[:i], []byte("\n"))), "there is a NUL byte, at which git am stops", "take it out")
	} else if name := c.brokenHeader(m); name != "" {
		c.fault("control", n, name, "there is a line end in the header once it is decoded, which could become a header of its own", "take it out")
	} else if i := strings.IndexFunc(m.Subject+"\n"+m.Message, isControl); i >= 0 {
		c.fault("control", n, "", fmt.Sprintf("there is the control character %U in the subject or text", []rune((m.Subject + "\n" + m.Message)[i:])[0]), "take it out")
	}

	if m.CRLF {
		c.fault("crlf", n, "", "its lines end in CR LF, as on DOS", "write the file again as it came from git, with LF")
	} else {
		var spots []spot
		for l := range added(m) {
			if strings.HasSuffix(l.text, "\r") {
				spots = append(spots, spot{l.where(), "an added line ends in CR LF, as on DOS"})
			}
		}
		c.faults("crlf", n, spots, "have the editor end lines in LF (core.autocrlf=input)")
	}

	if m.Coding != "quoted-printable" && m.Coding != "base64" {
		if line := lineOf(m.Raw, func(l []byte) bool { return len(bytes.TrimRight(l, "\r\n")) > mostLine }); line > 0 {
			c.fault("long-line", n, fmt.Sprintf("line %d of the mail", line), fmt.Sprintf("it is over %d bytes long, and mail servers break such lines", mostLine),
				"send it with git send-email --transfer-encoding=auto")
		}
	}
}

// rawHeader finds the first line of a header that has more than ASCII, and the name of
// the field; 0 if there is none.
func rawHeader(head []byte) (line int, name string) {
	for l := range bytes.Lines(head) {
		line++
		if field := headerField.FindSubmatch(l); field != nil {
			name = string(field[1])
		}
		if !isASCII(l) {
			return line, name
		}
	}
	return 0, ""
}

// brokenHeader returns the name of a header of several lines, or "".
func (c *checker) brokenHeader(m *patchmail.Mail) string {
	for _, name := range []string{"Subject", "From", "To", "Cc", "Message-Id", "In-Reply-To"} {
		for _, value := range m.Header.Values(name) {
			if text, err := words.DecodeHeader(value); err == nil && strings.ContainsAny(text, "\r\n") && !strings.ContainsAny(value, "\r\n") {
				return name
			}
		}
	}
	return ""
}

// sender looks at who writes, and when.
func (c *checker) sender(n int, m *patchmail.Mail) {
	const do = "set user.name and user.email of git, and write the patches again"
	switch from := m.Author; {
	case m.Header.Get("From") == "":
		c.fault("from", n, "From", "there is no From, so git am has no author", do)
	case !strings.Contains(from.Address, "@"):
		c.fault("from", n, "From", fmt.Sprintf("%q has no address of the form NAME@DOMAIN", clip(from.Name+from.Address, 80)), do)
	case unreachable.MatchString(from.Address):
		c.fault("from", n, "From", fmt.Sprintf("nobody else can write to %s", from.Address), do)
	case strings.TrimSpace(from.Name) == "":
		c.fault("from", n, "From", "the author has no name", do)
	}
	switch {
	case m.Date.IsZero() && m.Header.Get("Date") != "":
		c.fault("date", n, "Date", fmt.Sprintf("%q is no date", clip(m.Header.Get("Date"), 60)), "write it again with git format-patch")
	case m.Date.After(c.o.Now.Add(24 * time.Hour)):
		c.fault("date", n, "Date", fmt.Sprintf("the mail is of %s, which is to come", m.Date.Format(time.DateOnly)), "set the clock, and git commit --amend --date=now")
	case m.Date.IsZero():
		c.note("date", n, "", "there is no Date, so git am takes the time at which it runs", "")
	}
}

// threads looks at how the mails hang together, if they have been given
// Message-IDs.
func (c *checker) threads() {
	ids := make(map[string]bool)
	first, loose := true, []int(nil)
	var top string
	for n, m := range c.mails() {
		if m.Err != nil {
			continue
		}
		id := strings.TrimSpace(m.Header.Get("Message-Id"))
		parents := strings.Fields(m.Header.Get("In-Reply-To") + " " + m.Header.Get("References"))
		if first {
			top = id
			if len(parents) > 0 && len(c.s.Patches) > 1 {
				c.note("thread", n, "In-Reply-To", "the series answers another mail; if that is an older version, archives and CIs take both for one", "send a new version as a thread of its own, with a link to the old one")
			}
		} else if top != "" {
			within := false
			for _, p := range parents {
				within = within || ids[p]
			}
			if !within {
				loose = append(loose, n)
			}
		}
		if id != "" && ids[id] {
			c.fault("thread", n, "Message-ID", "another mail has the same Message-ID, so servers drop one of them", "have git send-email make them anew")
		}
		first = false
		ids[id] = id != ""
	}
	for _, n := range loose {
		c.fault("thread", n, "In-Reply-To", "the mail answers none of the series", "send them with git send-email --thread --no-chain-reply-to")
	}
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isControl reports whether r has no place in a text.
func isControl(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r >= 0x7f && r < 0xa0
}

// lineOf returns the number of the first line that is so, or 0.
func lineOf(text []byte, is func([]byte) bool) int {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if is(line) {
			return n
		}
	}
	return 0
}

// sameAddress compares as checkpatch.pl does: whatever the case.
func sameAddress(a, b mail.Address) bool { return strings.EqualFold(a.Address, b.Address) }
