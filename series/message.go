package series

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing/object"
)

// An Ident is an author: who, and when with the time zone. The date is cut to
// the second, as git stores it.
type Ident struct {
	Name, Email string
	When        time.Time
}

// crud is what git cuts off the ends of a name or address (git: ident.c).
const crud = " .,:;<>\"\\'"

// address is what is taken for an e-mail address: little that RFC 5322 allows
// is left out, and nothing is left that would need quotes.
var address = regexp.MustCompile("^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+$")

// signature checks i and gives it the form that git would store. Whatever
// could break out of a header or a commit object is refused.
func (i Ident) signature() (object.Signature, error) {
	name, email := strings.Trim(i.Name, crud), strings.Trim(i.Email, crud)
	_, zone := i.When.Zone()
	switch {
	case name == "":
		return object.Signature{}, errors.New("the author has no name: give one as \"Name <address>\"")
	case email == "":
		return object.Signature{}, fmt.Errorf("the author %s has no e-mail address: give one as \"Name <address>\"", name)
	case !printable(name), strings.ContainsAny(name, "<>"):
		return object.Signature{}, fmt.Errorf("the author's name %q has a character that cannot stand in a mail header", i.Name)
	case len(name) > 60, strings.Contains(name, "@"), strings.Join(strings.Fields(name), " ") != name,
		name[0] == '(' && name[len(name)-1] == ')', !isASCII([]byte(name)) && strings.ContainsAny(name, "\"(\\"):
		// git: mailinfo.c, handle_from.
		return object.Signature{}, fmt.Errorf("the author's name %q would not get through git am: make it plainer", i.Name)
	case !address.MatchString(email):
		return object.Signature{}, fmt.Errorf("the author's e-mail address %q is not of the form NAME@DOMAIN", i.Email)
	case i.When.Unix() < 0, i.When.Year() < 1970, i.When.Year() > 2099, zone <= -24*60*60, zone >= 24*60*60:
		// git am reads years of this range only (git: date.c).
		return object.Signature{}, fmt.Errorf("the author date %s is not between 1970 and 2099", i.When.Format(time.RFC3339))
	}
	return object.Signature{Name: name, Email: email, When: i.When}, nil
}

// printable reports whether s is one line of UTF-8 without control characters.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp)
	})
}

var (
	// What git am takes off the front of a subject (git: mailinfo.c,
	// cleanup_subject).
	subjectPrefix = regexp.MustCompile(`^(?i:re:|:|\[)`)
	// A line that git am takes for the begin of the patch, and all before it
	// for the whole message (git: mailinfo.c, patchbreak), or go-gitdiff for a
	// hunk.
	patchStart = regexp.MustCompile(`^(diff -|Index: |---\s*$|--- \S|@@ -)`)
	// A line that git am takes for the begin of another mail, and some more
	// (git: builtin/mailsplit.c, is_from_line).
	mailStart = regexp.MustCompile(`^From .*\d.\d\d:\d\d`)
	// A first line that git am takes for a header (git: mailinfo.c,
	// check_inbody_header).
	header = regexp.MustCompile(`^((?i:from|date|subject):|>From\s|\[PATCH\])`)
)

// checkSubject refuses a subject that would not come out of a mail as it went
// in.
func checkSubject(subject string) error {
	switch {
	case subject == "":
		return errors.New("the subject is empty")
	case !printable(subject):
		return fmt.Errorf("the subject %q is not one line of printable UTF-8", subject)
	case strings.Join(strings.Fields(subject), " ") != subject:
		return fmt.Errorf("the subject %q has white space at an end, doubled or of an odd kind", subject)
	case subjectPrefix.MatchString(subject):
		return fmt.Errorf("the subject %q begins with what git am would take off", subject)
	}
	return nil
}

// checkText is the same for the text below a subject.
func checkText(text string) error {
	for i, line := range strings.Split(text, "\n") {
		problem := ""
		switch {
		case !printable(strings.ReplaceAll(line, "\t", " ")):
			problem = "is not printable UTF-8"
		case patchStart.MatchString(line):
			problem = "looks like a patch and would end the message"
		case mailStart.MatchString(line):
			problem = "would begin another mail for git am"
		case i == 0 && header.MatchString(line):
			problem = "would be a header for git am"
		default:
			continue
		}
		return fmt.Errorf("line %d of the text, %q, %s: reword it or indent it", i+1, line, problem)
	}
	return nil
}

// message returns a whole commit message, cleaned of superfluous white space
// as by git commit. signOff is a Signed-off-by line to add, or "".
func message(subject, text, signOff string) (string, error) {
	text = clean(text)
	if err := checkSubject(subject); err != nil {
		return "", err
	}
	if err := checkText(text); err != nil {
		return "", err
	}
	if signOff != "" {
		text = sign(text, signOff)
	}
	if text == "" {
		return subject + "\n", nil
	}
	return subject + "\n\n" + text + "\n", nil
}

// messages returns the commit message of every patch.
func (s *Series) messages(who object.Signature, sign bool) ([]string, error) {
	if len(s.Patches) == 0 {
		return nil, fmt.Errorf("the series %s has no patches", s.Name)
	}
	line := ""
	if sign {
		line = signOff(who)
	}
	var all []string
	for i, p := range s.Patches {
		m, err := message(p.Subject, p.Body, line)
		if err != nil {
			return nil, fmt.Errorf("patch %d: %w", i+1, err)
		}
		all = append(all, m)
	}
	return all, nil
}

var (
	lineEnds   = regexp.MustCompile(`(?m)[ \t]+$`)
	emptyLines = regexp.MustCompile(`\n{3,}`)

	trailer     = regexp.MustCompile(`^[0-9A-Za-z-]+[ \t]*:`)
	lastRemarks = regexp.MustCompile(`(\n+#.*)+$`) // for git no part of a message
)

// clean takes white space off the ends of lines and of text, and all but one
// of several empty lines.
func clean(text string) string {
	text = lineEnds.ReplaceAllString(text, "")
	return strings.Trim(emptyLines.ReplaceAllString(text, "\n\n"), "\n")
}

func signOff(who object.Signature) string {
	return fmt.Sprintf("Signed-off-by: %s <%s>", who.Name, who.Email)
}

// sign adds the line signOff to text as git format-patch --signoff does:
// joined to the trailers if text ends in some, and only if it is not there yet
// (git: sequencer.c, append_signoff).
func sign(text, signOff string) string {
	body := lastRemarks.ReplaceAllString(text, "")
	last := strings.Split(body[strings.LastIndex(body, "\n\n")+1:], "\n")
	switch {
	case text == "":
		return signOff
	case !areTrailers(last):
		return text + "\n\n" + signOff
	case slices.Contains(last, signOff):
		return text
	}
	return text + "\n" + signOff
}

// areTrailers reports whether git takes the lines of a last paragraph for
// trailers: all of them are, or a quarter if git wrote one of them (git:
// trailer.c, find_trailer_start).
func areTrailers(lines []string) bool {
	trailers, others, gits, inTrailer := 0, 0, false, false
	for _, line := range lines {
		switch {
		case line == "":
		case line[0] == '#':
			inTrailer = false
		case strings.HasPrefix(line, "Signed-off-by: "), strings.HasPrefix(line, "(cherry picked from commit "):
			trailers, gits, inTrailer = trailers+1, true, true
		case line[0] == ' ' || line[0] == '\t':
			if !inTrailer {
				others++
			}
		case trailer.MatchString(line):
			trailers, inTrailer = trailers+1, true
		default:
			others, inTrailer = others+1, false
		}
	}
	return gits && trailers*3 >= others || trailers > 0 && others == 0
}
