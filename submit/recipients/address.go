package recipients

import (
	"errors"
	"fmt"
	"mime"
	"net/mail"
	"strings"

	"patchgen/submit/address"
)

var words = &mime.WordDecoder{}

// mailboxes reads the value of a trailer as people write it: "Name <address>",
// an address alone, several of them with commas, a name with a comma but without
// quotes, and a comment behind it, as in "stable@vger.kernel.org # 5.10+".
// What was read before an error is returned with it.
func mailboxes(text string) ([]mail.Address, error) {
	var all []mail.Address
	for rest := text; ; {
		a, after, err := cutMailbox(rest)
		if err == nil {
			a, err = address.Check(a)
		}
		if err != nil {
			return all, fmt.Errorf("%.80q: %w", text, err)
		}
		all = append(all, a)
		more := false
		rest, more = strings.CutPrefix(strings.TrimLeft(after, " \t"), ",")
		if !more || !strings.Contains(rest, "@") {
			return all, nil
		}
	}
}

var errNoMailbox = errors.New(`there is no "Name <address>" in it`)

// cutMailbox cuts a name and an address off the front of a text.
func cutMailbox(text string) (a mail.Address, after string, err error) {
	text = strings.TrimLeft(text, " \t")
	var name strings.Builder // without quotes
	quoted := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\' && i+1 < len(text):
			i++
			name.WriteByte(text[i])
		case quoted:
			name.WriteByte(c)
		case c == '<':
			inner, after, found := strings.Cut(text[i+1:], ">")
			if !found {
				return a, "", errors.New("a < has no >")
			}
			decoded, err := words.DecodeHeader(name.String())
			if err != nil {
				return a, "", err
			}
			return mail.Address{Name: decoded, Address: strings.Trim(inner, " \t")}, after, nil
		case strings.IndexByte(" \t,;#(", c) >= 0 && strings.Contains(text[:i], "@") && !strings.ContainsAny(text[:i], " \t\","):
			// An address alone, unless it stands for a name.
			if !strings.HasPrefix(strings.TrimLeft(text[i:], " \t"), "<") {
				return mail.Address{Address: text[:i]}, text[i:], nil
			}
			name.WriteByte(c)
		default:
			name.WriteByte(c)
		}
	}
	switch {
	case quoted:
		return a, "", errors.New("a quote has no end")
	case strings.Contains(text, "@") && !strings.ContainsAny(text, " \t\""):
		return mail.Address{Address: text}, "", nil
	}
	return a, "", errNoMailbox
}

// clean makes a text of a tree or a mail fit to be shown in a line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case address.IsControl(r):
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
