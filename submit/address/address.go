// Package address says which names and addresses can stand in the header of a
// mail and in its envelope. What comes from a patch, a tree or a configuration is
// refused if it cannot.
package address

import (
	"fmt"
	"mime"
	"net/mail"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Longer than names and addresses are (RFC 5321, section 4.5.3.1), in bytes.
const (
	maxName = 200
	maxAddr = 254
)

var (
	parser = &mail.AddressParser{WordDecoder: &mime.WordDecoder{}}
	// Little is left out that RFC 5322 allows. Neither part begins with a dash, which a
	// program, such as sendmail, could take for a flag.
	form = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+/=?^_`{|}~][A-Za-z0-9!#$%&'*+/=?^_`{|}~-]*(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9][A-Za-z0-9-]*(\\.[A-Za-z0-9-]+)*$")
)

// Check returns a with the blanks of its name squeezed, or why it cannot stand in a
// header or an envelope.
func Check(a mail.Address) (mail.Address, error) {
	a.Name = Squeeze(a.Name)
	switch {
	case a.Address == "":
		return a, fmt.Errorf("%.80q has no address of the form NAME@DOMAIN", a.Name)
	case strings.ContainsFunc(a.Address, func(r rune) bool { return r >= utf8.RuneSelf }):
		return a, fmt.Errorf("the address %.80q is not plain ASCII, which few servers take (SMTPUTF8) and patchgen does not send to", a.Address)
	case len(a.Address) > maxAddr || !form.MatchString(a.Address):
		return a, fmt.Errorf("the address %.80q is not of the form NAME@DOMAIN", a.Address)
	case len(a.Name) > maxName || !Printable(a.Name):
		return a, fmt.Errorf("the name %.80q of <%s> cannot stand in a mail header", a.Name, a.Address)
	}
	return a, nil
}

// Parse parses one address, "Name <address>" or the address alone, and refuses what
// Check does.
func Parse(text string) (mail.Address, error) {
	a, err := parser.Parse(text)
	if err != nil {
		return mail.Address{}, fmt.Errorf("%.80q is not of the form \"Name <address>\": %w", text, err)
	}
	checked, err := Check(*a)
	if err != nil {
		return mail.Address{}, fmt.Errorf("%.80q: %w", text, err)
	}
	return checked, nil
}

// ParseList is Parse of a list with commas.
func ParseList(text string) ([]mail.Address, error) {
	list, err := parser.ParseList(text)
	if err != nil {
		return nil, fmt.Errorf("%.80q is no list of the form \"Name <address>, ...\": %w", text, err)
	}
	all := make([]mail.Address, len(list))
	for i, a := range list {
		if all[i], err = Check(*a); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Squeeze takes superfluous blanks from a text, and leaves what is no blank in
// one line.
func Squeeze(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' }), " ")
}

// Printable reports whether s is one line of UTF-8 without control characters.
func Printable(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, IsControl) }

// IsControl knows also the characters that turn the direction of a text, by
// which a name could pass for another.
func IsControl(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}
