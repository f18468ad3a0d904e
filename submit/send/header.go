package send

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"patchgen/submit/address"
)

// Limits of what is read and written as a mail.
const (
	maxLine   = 998       // bytes of a line without its end: RFC 5322, section 2.1.1
	maxHeader = 256 << 10 // bytes of a header
	maxMail   = 64 << 20  // bytes of a mail
	maxMails  = 10_000    // of one sending
	maxWord   = 254       // bytes of a Message-ID, and of the mailer's name
)

// A field is one field of a mail's header.
type field struct {
	name string
	raw  []byte // all of its lines with their ends, which are LF
}

// value is what stands behind the colon, on one line.
func (f field) value() string {
	return strings.TrimSpace(strings.ReplaceAll(string(f.raw[len(f.name)+1:]), "\n", ""))
}

func (f field) is(name string) bool { return strings.EqualFold(f.name, name) }

var fieldStart = regexp.MustCompile(`^([!-9;-~]+):`)

// splitHeader cuts a mail, which does not begin with an mbox "From " line, into
// the fields of its header and its body.
//
// What programs read in different ways is refused: a header would appear for
// one that is none for the other. For git send-email, for instance, a line of
// blanks ends the header, for RFC 5322 it does not.
func splitHeader(data []byte) (fields []field, body []byte, err error) {
	for n := 1; len(data) > 0; n++ {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		if len(line) == 0 {
			return fields, rest, nil
		}
		whole := data[:len(data)-len(rest)]
		if err := checkLine(line); err != nil {
			return nil, nil, fmt.Errorf("line %d of the header %w", n, err)
		}
		name := fieldStart.FindSubmatch(line)
		switch {
		case line[0] == ' ' || line[0] == '\t':
			if fields == nil {
				return nil, nil, errors.New("the header begins with a continued line")
			}
			last := &fields[len(fields)-1]
			last.raw = append(last.raw, whole...)
		case name == nil:
			return nil, nil, fmt.Errorf("line %d of the header, %q, is no \"Name: value\": write the patch with git format-patch", n, clip(string(line)))
		default:
			fields = append(fields, field{string(name[1]), slices.Clone(whole)})
		}
		if last := &fields[len(fields)-1]; len(last.raw) > maxHeader {
			return nil, nil, fmt.Errorf("the header %s has more than %d bytes", last.name, maxHeader)
		} else if last.raw[len(last.raw)-1] != '\n' {
			last.raw = append(last.raw, '\n')
		}
		data = rest
	}
	return fields, nil, nil
}

// checkLine refuses a line that cannot stand in a header.
func checkLine(line []byte) error {
	switch {
	case len(line) > maxLine:
		return fmt.Errorf("has more than %d bytes", maxLine)
	case line[len(line)-1] == '\r':
		return errors.New("ends in CR LF: convert the file to the line ends of Unix")
	case len(bytes.TrimSpace(line)) == 0:
		return errors.New("is made of blanks")
	case !utf8.Valid(line):
		return errors.New("is not UTF-8")
	case bytes.ContainsFunc(line, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }):
		return errors.New("has a control character")
	}
	return nil
}

// fieldsNamed returns the fields of a name.
func fieldsNamed(fields []field, name string) []field {
	var all []field
	for _, f := range fields {
		if f.is(name) {
			all = append(all, f)
		}
	}
	return all
}

// single returns the field that may stand in a header once, and whether it does.
func single(fields []field, name string) (field, bool, error) {
	switch all := fieldsNamed(fields, name); len(all) {
	case 0:
		return field{}, false, nil
	case 1:
		return all[0], true, nil
	default:
		return field{}, false, fmt.Errorf("the header has %d lines %s: leave one", len(all), name)
	}
}

var (
	words = &mime.WordDecoder{}
	atoms = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+( [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$")
)

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// encode returns an address for a header, folded as its name needs it, with
// quotes only where they are needed, as git writes it.
func encode(a mail.Address) string {
	switch {
	case a.Name == "":
		return a.Address
	case !isASCII(a.Name) || strings.Contains(a.Name, "=?"):
		return strings.Join(encodeWords(a.Name), "\n ") + " <" + a.Address + ">"
	}
	return display(a)
}

// display is encode for where UTF-8 can stand as it is.
func display(a mail.Address) string {
	name := a.Name
	switch {
	case name == "":
		return a.Address
	case !atoms.MatchString(strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return 'x'
		}
		return r
	}, name)):
		name = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return name + " <" + a.Address + ">"
}

// encodeWords returns text as the words of RFC 2047, each of at most 75 bytes.
// All is encoded that is not plain in each place (git: pretty.c,
// is_rfc2047_special).
func encodeWords(text string) []string {
	const begin, end = "=?UTF-8?q?", "?="
	var all []string
	word := begin
	for _, r := range text {
		unit := string(r)
		if !strings.ContainsRune("!*+/-", r) && (r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r)) {
			unit = ""
			for _, b := range []byte(string(r)) {
				unit += fmt.Sprintf("=%02X", b)
			}
		}
		if len(word)+len(unit)+len(end) > 75 {
			all = append(all, word+end)
			word = begin
		}
		word += unit
	}
	return append(all, word+end)
}

// decode returns the value of a header without encoded words, on one line.
func decode(value string) (string, error) {
	text, err := words.DecodeHeader(value)
	if err != nil {
		return "", fmt.Errorf("%q: %w", clip(value), err)
	}
	text = address.Squeeze(text)
	if !address.Printable(text) {
		return "", fmt.Errorf("%q has a line end or another control character in it", clip(text))
	}
	return text, nil
}

// clip shortens what is quoted in a message.
func clip(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
