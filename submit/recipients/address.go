package recipients

import (
	"errors"
	"fmt"
	"mime"
	"net/mail"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Longer than names and addresses are (RFC 5321, section 4.5.3.1).
const (
	maxName    = 200
	maxAddress = 254
)

var (
	words  = &mime.WordDecoder{}
	parser = &mail.AddressParser{WordDecoder: words}
	// Little is left out that RFC 5322 allows. Neither part begins with a dash, which a
	// program could take for a flag.
	addressForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+/=?^_`{|}~][A-Za-z0-9!#$%&'*+/=?^_`{|}~-]*(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9][A-Za-z0-9-]*(\\.[A-Za-z0-9-]+)*$")
)

// checkAddress returns a with the blanks of its name squeezed, or refuses what
// cannot stand in a header.
func checkAddress(a mail.Address) (mail.Address, error) {
	a.Name = squeeze(a.Name)
	switch {
	case a.Address == "":
		return a, fmt.Errorf("%.80q has no address of the form NAME@DOMAIN", a.Name)
	case len(a.Address) > maxAddress || !addressForm.MatchString(a.Address):
		return a, fmt.Errorf("the address %.80q is not of the form NAME@DOMAIN in plain ASCII", a.Address)
	case len(a.Name) > maxName || !printable(a.Name):
		return a, fmt.Errorf("the name %.80q of <%s> cannot stand in a mail header", a.Name, a.Address)
	}
	return a, nil
}

// parseAddress parses one address as it stands in a configuration file.
func parseAddress(text string) (mail.Address, error) {
	a, err := parser.Parse(text)
	if err != nil {
		return mail.Address{}, fmt.Errorf("%.80q is not of the form \"Name <address>\": %w", text, err)
	}
	checked, err := checkAddress(*a)
	if err != nil {
		return mail.Address{}, fmt.Errorf("%.80q: %w", text, err)
	}
	return checked, nil
}

// mailboxes reads the value of a trailer as people write it: "Name <address>",
// an address alone, several of them with commas, a name with a comma but without
// quotes, and a comment behind it, as in "stable@vger.kernel.org # 5.10+".
// What was read before an error is returned with it.
func mailboxes(text string) ([]mail.Address, error) {
	var all []mail.Address
	for rest := text; ; {
		a, after, err := cutMailbox(rest)
		if err == nil {
			a, err = checkAddress(a)
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
			address, after, found := strings.Cut(text[i+1:], ">")
			if !found {
				return a, "", errors.New("a < has no >")
			}
			decoded, err := words.DecodeHeader(name.String())
			if err != nil {
				return a, "", err
			}
			return mail.Address{Name: decoded, Address: strings.Trim(address, " \t")}, after, nil
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

// squeeze takes superfluous blanks from a text.
func squeeze(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' }), " ")
}

// printable reports whether s is one line of UTF-8 without control characters.
func printable(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, isControl) }

// isControl knows also the characters that turn the direction of a text, by
// which a name could pass for another.
func isControl(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// clean makes a text of a tree or a mail fit to be shown in a line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case isControl(r):
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
