package patchmail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-message"

	"patchgen/series"
)

// ReadAny is Read of mails that may be broken, for those who tell what is wrong with
// them: a mail that cannot be read has Err and stands among the patches, one of several parts
// is read as its plain text, and headers that are not UTF-8 are read as far as
// they are.
func ReadAny(name string) (*Series, error) {
	mails, err := series.ReadPatches(name)
	if err != nil {
		return nil, err
	}
	return ParseAny(mails)
}

// ParseAny is ReadAny of mails that are in memory.
func ParseAny(mails []series.Mail) (*Series, error) {
	s := &Series{}
	for _, raw := range split(mails) {
		m, err := parseMail(raw, true)
		if len(bytes.TrimSpace(raw.Data)) == 0 {
			err = errors.New("it is empty")
		}
		if err != nil {
			m = &Mail{Name: raw.Name, Raw: raw.Data, Tags: Tags{Version: 1}, Err: err}
		}
		switch {
		case m.isReply():
		case m.Err != nil || m.Diff != nil || m.Tags.Number > 0:
			s.Patches = append(s.Patches, m)
		case s.isCover(m):
			s.Cover = m
		case m.isNumberedCover():
			s.Patches = append(s.Patches, m) // for a check to name
		}
	}
	// A lone mail that is not numbered 0/n is a patch without a diff.
	if len(s.Patches) == 0 && s.Cover != nil && s.Cover.Tags.Total == 0 && s.Cover.Tags.Has("PATCH") {
		s.Patches, s.Cover = []*Mail{s.Cover}, nil
	}
	if len(s.Patches) == 0 {
		return nil, series.ErrNoDiff
	}
	return s, nil
}

// isReply reports whether m is an answer in the thread of a series, as archives
// have them: git am would stop at it.
func (m *Mail) isReply() bool {
	return m.Err == nil && m.Diff == nil && reply.MatchString(m.Subject)
}

// plainParts returns the text of a mail of several parts, without those that
// are no plain text.
func plainParts(e *message.Entity) ([]byte, error) {
	var text []byte
	err := e.Walk(func(_ []int, part *message.Entity, err error) error {
		if err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
			return err
		}
		kind, _, err := part.Header.ContentType()
		if err == nil && (strings.HasPrefix(kind, "multipart/") || kind == "text/html" || !strings.HasPrefix(kind, "text/")) {
			return nil
		}
		data, err := io.ReadAll(part.Body)
		text = append(text, data...)
		return err
	})
	return text, err
}

// split takes mboxes apart that others than git wrote: series.ReadPatches knows
// git's only.
func split(mails []series.Mail) []series.Mail {
	var all []series.Mail
	for _, m := range mails {
		parts := splitMBox(m.Data)
		if len(parts) == 1 {
			all = append(all, m)
			continue
		}
		for i, part := range parts {
			all = append(all, series.Mail{Name: fmt.Sprintf("%s#%d", m.Name, i+1), Data: part})
		}
	}
	return all
}

// splitMBox splits where git am does, but not where no header follows, such as
// in a text that quotes a mail.
func splitMBox(data []byte) [][]byte {
	if !isFromLine(data) {
		return [][]byte{data}
	}
	var parts [][]byte
	start, at := 0, 0
	for line := range bytes.Lines(data) {
		if at > 0 && isFromLine(line) && headerLine.Match(data[at+len(line):]) {
			parts = append(parts, data[start:at])
			start = at
		}
		at += len(line)
	}
	return append(parts, data[start:])
}

// isFromLine reports whether data begins with a line that begins a mail in an
// mbox (git: builtin/mailsplit.c, is_from_line).
func isFromLine(data []byte) bool {
	if !bytes.HasPrefix(data, []byte("From ")) {
		return false
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	colon := bytes.LastIndexByte(line, ':')
	digit := func(i int) bool { return i >= 0 && i < len(line) && '0' <= line[i] && line[i] <= '9' }
	if len(line) < 19 || colon < 9 {
		return false
	}
	for _, i := range []int{colon - 4, colon - 2, colon - 1, colon + 1, colon + 2} {
		if !digit(i) {
			return false
		}
	}
	year := 0
	for _, c := range bytes.TrimLeft(line[colon+3:], " ") {
		if c < '0' || c > '9' || year > 9999 {
			break
		}
		year = 10*year + int(c-'0')
	}
	return year > 90
}
