package check

import (
	"fmt"
	"net/mail"
	"regexp"
	"strings"

	"patchgen/edit"
	"patchgen/submit/patchmail"
)

var (
	signOff    = regexp.MustCompile(`(?i)^\s*signed-off-by:`)
	aTrailer   = regexp.MustCompile(`^([A-Z][A-Za-z]*(?:-[A-Za-z]+)*):\s+\S`)
	looseTag   = regexp.MustCompile(`(?i)^\s*([a-z]+(?:[ _-][a-z]+){0,3})[ _-]by\s*(:?)\s*(.*)$`)
	fixesLine  = regexp.MustCompile(`(?i)^\s*fixes(:?)\s+(commit\s+)?([0-9a-f]{5,})\b\s*(.*)$`)
	goodFixes  = regexp.MustCompile(`^Fixes: [0-9a-f]{12,40} \("(.+)"\)$`)
	anyAddress = regexp.MustCompile(`^(.*?)\s*<([^<>@\s]+@[^<>@\s]+)>`)
)

// knownTags are what people are named by (Documentation/process/5.Posting.rst).
var knownTags = []string{
	"Signed-off-by", "Co-developed-by", "Acked-by", "Tested-by", "Reviewed-by", "Reported-by", "Suggested-by",
	"Reported-and-tested-by", "Debugged-by", "Co-authored-by", "Assisted-by", "Originally-by", "Inspired-by", "Helped-by",
}

// known reports which tag was meant, and whether it is written so.
func known(tag string) (meant string, right bool) {
	tag = strings.NewReplacer(" ", "-", "_", "-").Replace(tag)
	for _, k := range knownTags {
		if strings.EqualFold(tag, k) {
			return k, tag == k
		}
	}
	for _, k := range knownTags[:7] {
		if edit.Distance(strings.ToLower(tag), strings.ToLower(k)) <= 2 {
			return k, false
		}
	}
	return "", false
}

// trailers looks at the tags below a message.
func (c *checker) trailers(n int, m *patchmail.Mail) {
	all := m.Trailers()
	lines := strings.Split(m.Message, "\n")

	seen := make(map[string]bool)
	for _, t := range all {
		where := fmt.Sprintf("line %d of the text", t.Line)
		key := strings.ToLower(t.Key) + ": " + strings.ToLower(strings.Join(strings.Fields(t.Value), " "))
		if seen[key] {
			c.fault("trailer-duplicate", n, where, fmt.Sprintf("%q stands there twice", clip(t.Key+": "+t.Value, 60)), "take one out")
		}
		seen[key] = true
	}
	c.tagFormat(n, lines)
	c.fixesFormat(n, lines)

	// A paragraph of nothing but tags before the last is one with a hole.
	if len(all) > 0 {
		i := all[0].Line - 2 // the line above
		for i >= 0 && strings.TrimSpace(lines[i]) != "" {
			i--
		}
		end := i
		for i >= 0 && strings.TrimSpace(lines[i]) == "" {
			i--
		}
		tags := 0
		for ; i >= 0 && strings.TrimSpace(lines[i]) != ""; i-- {
			t := aTrailer.FindStringSubmatch(lines[i])
			if t == nil {
				tags = 0
				break
			}
			if k, _ := known(t[1]); k != "" || t[1] == "Fixes" || t[1] == "Cc" || t[1] == "Link" || t[1] == "Closes" {
				tags++
			}
		}
		if tags > 0 && end >= 0 {
			c.fault("trailer-block", n, fmt.Sprintf("line %d of the text", end+1), "an empty line parts the trailers, so programs see the last paragraph only", "take it out")
		}
	}
	if !c.found("body-cut", n) {
		c.signedOff(n, m, all)
	}
}

// signedOff compares the Signed-off-by lines with who writes and who sends.
func (c *checker) signedOff(n int, m *patchmail.Mail, all []patchmail.Trailer) {
	var signers []mail.Address
	for _, t := range all {
		if strings.EqualFold(t.Key, "Signed-off-by") {
			if a := anyAddress.FindStringSubmatch(t.Value); a != nil {
				signers = append(signers, mail.Address{Name: strings.Trim(a[1], `" `), Address: a[2]})
			}
		}
	}
	if len(signers) == 0 {
		if !c.found("trailer-format", n) && !c.found("trailer-block", n) {
			c.fault("signed-off-by", n, "", "there is no Signed-off-by, without which nobody may take the patch",
				fmt.Sprintf("sign off with git commit -s as %s <%s>, if you can certify the DCO", m.Author.Name, m.Author.Address))
		}
		return
	}
	if !strings.Contains(m.Author.Address, "@") {
		return // another rule's
	}
	signed, sent, close := false, false, ""
	for _, s := range signers {
		signed = signed || sameAddress(s, m.Author) && sameName(s.Name, m.Author.Name)
		sent = sent || sameAddress(s, m.From) || s.Name == m.From.Name
		if sameAddress(s, m.Author) || s.Name == m.Author.Name {
			close = fmt.Sprintf("%s <%s>", s.Name, s.Address)
		}
	}
	author := fmt.Sprintf("%s <%s>", m.Author.Name, m.Author.Address)
	switch last := signers[len(signers)-1]; {
	case !signed && close != "":
		c.fault("signed-off-by", n, "", fmt.Sprintf("the author is %s, but signed off is by %s", author, close), "have both be the same, with git commit --amend --author or -s")
	case !signed:
		c.fault("signed-off-by", n, "", fmt.Sprintf("the author, %s, has not signed off", author), "add the author's Signed-off-by, with consent")
	case !sent && !strings.HasPrefix(m.From.Address, "devnull+"): // b4's relay
		c.fault("signed-off-by", n, "", fmt.Sprintf("who sends it, %s <%s>, has not signed off", m.From.Name, m.From.Address), "who hands on a patch adds a Signed-off-by as the last")
	case !sameAddress(last, m.From) && last.Name != m.From.Name && !strings.HasPrefix(m.From.Address, "devnull+"):
		c.note("signed-off-by", n, "", fmt.Sprintf("the last Signed-off-by is by %s, but it is sent by %s", last.Name, m.From.Name), "the order of the lines is the patch's way")
	}
}

// sameName compares names whatever the spaces and quotes, and without what
// stands in parentheses, such as a company.
func sameName(a, b string) bool {
	strip := func(s string) string {
		if i := strings.IndexByte(s, '('); i > 0 {
			s = s[:i]
		}
		return strings.Join(strings.Fields(strings.Trim(s, `" `)), " ")
	}
	return strip(a) == strip(b)
}

// tagFormat looks for tags of people that programs would not find.
func (c *checker) tagFormat(n int, lines []string) {
	start := len(lines)
	for start > 0 && strings.TrimSpace(lines[start-1]) != "" {
		start--
	}
	for i, line := range lines[start:] {
		t := looseTag.FindStringSubmatch(line)
		if t == nil {
			continue
		}
		where := fmt.Sprintf("line %d of the text", start+i+1)
		tag, right := known(t[1] + "-by")
		switch {
		case tag == "":
		case t[2] == "" && !strings.Contains(t[3], "@"): // a sentence
		case !right || t[2] == "" || line != strings.TrimLeft(line, " \t") || !strings.HasPrefix(line, tag+": "):
			c.fault("trailer-format", n, where, fmt.Sprintf("%q is not to be read as %s", clip(line, 60), tag), fmt.Sprintf("write it as \"%s: Name <address>\"", tag))
		case tag != "Assisted-by" && !anyAddress.MatchString(t[3]):
			c.fault("trailer-format", n, where, fmt.Sprintf("%s has no address in angle brackets: %q", tag, clip(t[3], 60)), fmt.Sprintf("write it as \"%s: Name <address>\"", tag))
		}
	}
}

// fixesFormat looks at how Fixes: is written; whether the commit is there is
// looked at in the tree.
func (c *checker) fixesFormat(n int, lines []string) {
	const do = "write it as git log -1 --format='Fixes: %h (\"%s\")' with core.abbrev=12 does"
	for i, line := range lines {
		f := fixesLine.FindStringSubmatch(line)
		if f == nil || f[1] == "" && f[4] == "" {
			continue
		}
		where := fmt.Sprintf("line %d of the text", i+1)
		switch {
		case goodFixes.MatchString(line):
		case len(f[3]) < 12:
			c.fault("fixes", n, where, fmt.Sprintf("the commit is named by %d digits, and it takes 12", len(f[3])), do)
		case strings.HasPrefix(f[4], `("`) && !strings.HasSuffix(line, `")`):
			c.fault("fixes", n, where, "the tag goes on in another line, or has no end", "have it on one line, however long")
		default:
			c.fault("fixes", n, where, fmt.Sprintf("it is not written as programs read it: %q", clip(line, 60)), do)
		}
	}
}
