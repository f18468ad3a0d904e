package check

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"patchgen/submit/patchmail"
)

var (
	// What git shortlog begins the patches of an author with.
	byAuthor = regexp.MustCompile(`(?m)^\S.* \((\d+)\):$`)
	tested   = regexp.MustCompile(`(?i)\b(test(s|ed|ing)?|boot(s|ed)?|kunit|kselftest|selftests?|benchmarks?|measured?|ran|run on|compile[d-])\b`)
)

// An author is one paragraph of a shortlog.
type author struct {
	count  int // as it says
	titles []string
}

// shortlogOf finds the shortlog of a cover letter, and where it begins; nil if there is
// none. It is the last such paragraphs, one directly after the other: what a person wrote
// before them may look like one.
func shortlogOf(text string) (authors []author, at int) {
	heads := byAuthor.FindAllStringSubmatchIndex(text, -1)
	for i := len(heads) - 1; i >= 0; i-- {
		h := heads[i]
		titles, size := titlesOf(strings.TrimPrefix(text[h[1]:], "\n"))
		if authors != nil && strings.TrimSpace(text[h[1]:at][min(size+1, at-h[1]):]) != "" {
			break
		}
		if titles == nil {
			continue
		}
		authors = append([]author{{number(text[h[2]:h[3]]), titles}}, authors...)
		at = h[0]
	}
	return authors, at
}

// titlesOf returns the titles at the begin of a text, indented all alike, by two blanks
// (git: builtin/log.c) or six (git: shortlog.c); a line that is so by more goes on with
// what is above it. size is that of their lines.
func titlesOf(text string) (titles []string, size int) {
	indent := 0
	for line := range strings.Lines(text) {
		title := strings.TrimSpace(line)
		by := len(line) - len(strings.TrimLeft(line, " "))
		switch {
		case title == "" || by < 2 || by < indent:
			return titles, size
		case titles != nil && by > indent:
			titles[len(titles)-1] += " " + title
		default:
			indent = by
			titles = append(titles, strings.Join(strings.Fields(title), " "))
		}
		size += len(line)
	}
	return titles, size
}

// letterText returns what a person wrote of a cover letter: all before the
// shortlog or diffstat.
func letterText(text string) string {
	if authors, at := shortlogOf(text); authors != nil {
		text = text[:at]
	}
	if at := shortStat.FindStringIndex(text); at != nil {
		text = text[:at[0]]
		for strings.HasSuffix(text, "\n") { // the files above it
			line := text[strings.LastIndexByte(text[:len(text)-1], '\n')+1:]
			if !strings.Contains(line, "|") {
				break
			}
			text = strings.TrimSuffix(text, line)
		}
	}
	return text
}

// letter looks at the cover letter.
func (c *checker) letter() {
	m := c.s.Cover
	if m == nil || m.Err != nil {
		if len(c.s.Patches) == 1 && c.s.Patches[0].Err == nil {
			p := c.s.Patches[0]
			c.testing(p, p.Text())
		}
		return
	}
	c.testing(m, m.Text())
	if strings.TrimSpace(letterText(m.Message)) == "" {
		c.fault("body", 0, "", "the cover letter says nothing", "tell what the series is for, how it is built up, and how it was tested")
	}
	c.shortlog(m)
}

func (c *checker) testing(m *patchmail.Mail, text string) {
	if !tested.MatchString(text) {
		n := 0
		if c.s.Cover == nil {
			n = 1
		}
		c.note("testing", n, "", "nothing is said of how it was tested", "say so, or that it was not")
	}
}

// shortlog compares the list of patches in the cover letter, as git writes it,
// with the patches.
func (c *checker) shortlog(m *patchmail.Mail) {
	const do = "write the cover letter again with git format-patch --cover-letter, and put the text in"
	text := m.Text()
	if c.foundAny("numbering") || c.foundAny("mail") {
		return // patches are missing
	}
	authors, _ := shortlogOf(text)
	if authors == nil {
		return
	}
	listed := make(map[string]int)
	total := 0
	for _, a := range authors {
		total += a.count
		for _, title := range a.titles {
			listed[title]++
		}
	}
	for n, p := range c.patches() {
		title := strings.Join(strings.Fields(p.Title), " ")
		if title == "" {
			return // another rule's
		}
		if listed[title] == 0 {
			c.fault("cover-stale", 0, "shortlog", fmt.Sprintf("patch %d is not in it: %q", n, clip(title, 60)), do)
			return
		}
		listed[title]--
	}
	for title, n := range listed {
		if n > 0 {
			c.fault("cover-stale", 0, "shortlog", fmt.Sprintf("it has a patch that does not follow: %q", clip(title, 60)), do)
			return
		}
	}
	if total != len(c.s.Patches) {
		c.fault("cover-stale", 0, "shortlog", fmt.Sprintf("it counts %d patches, but there are %d", total, len(c.s.Patches)), do)
	}
}

// letterStat compares the diffstat in the cover letter with what git says of all
// patches together, once they are applied.
func (c *checker) letterStat(ctx context.Context, r *repository) error {
	m := c.s.Cover
	if m == nil || m.Err != nil || c.applied < len(c.s.Patches) || c.foundAny("numbering") {
		return nil
	}
	says := shortStat.FindAllString(m.Text(), -1)
	if says == nil {
		return nil
	}
	says[0] = says[len(says)-1]
	is := ""
	for _, how := range []string{"-M", "--no-renames", "-C", "--find-copies-harder"} {
		out, err := r.git(ctx, nil, "diff", "--shortstat", "-M", how, fmt.Sprintf("HEAD~%d", c.applied), "HEAD", "--")
		if err != nil {
			return err
		}
		if is = strings.TrimSpace(string(out)); is == strings.TrimSpace(says[0]) {
			return nil
		}
	}
	c.fault("cover-stale", 0, "diffstat", fmt.Sprintf("it says %q, but the patches make %q", strings.TrimSpace(says[0]), is),
		"write the cover letter again with git format-patch --cover-letter, and put the text in")
	return nil
}
