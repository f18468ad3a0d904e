package check

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"patchgen/submit/patchmail"
)

const (
	mostTitle   = 75 // characters
	mostPatches = 15
)

var (
	replyTo     = regexp.MustCompile(`^(?i)(re|fwd?|aw|sv):`)
	titlePrefix = regexp.MustCompile(`^[^\s:"'][^:]{0,50}: *\S`)
	aRevert     = regexp.MustCompile(`^(Revert|Reapply) "`)
	onePrefix   = regexp.MustCompile(`^[\w./,+*{}&<>()\[\]@-]+( [\w./,+*{}&-]+){0,2}: +`)
	fixup       = regexp.MustCompile(`^(fixup|squash|amend)! `)
	unmergeable = regexp.MustCompile(`(?i)\b(do ?not|don't) (merge|submit|apply|send)\b|\bnot for (upstream|merging|submission)\b`)
	firstWord   = regexp.MustCompile(`^[A-Za-z]+`)
	thisPatch   = regexp.MustCompile(`(?i)\b(this|the following|these|current) (patch|patchset|patch ?set|commit|series|change)(es)?\b`)
	resend      = regexp.MustCompile(`(?i)^resend$`)
)

// notImperative are common verbs in other forms. What may as well be a noun or an
// adjective there, such as "tests", "updates" or "handling", is not among them.
const notImperative = `adds added adding allows allowed allowing avoids avoided avoiding changed changing cleaned cleaning
	converts converted converting corrected correcting creates created creating deletes deleted deleting disables disabled disabling
	dropped dropping enables enabled enabling ensures ensured ensuring extends extended extending fixes fixed fixing handled
	implements implemented implementing improves improved improving introduces introduced introducing makes made making moved moving
	prevents prevented preventing provides provided providing refactored refactoring removes removed removing renames renamed renaming
	replaces replaced replacing restored restoring reworked reworking simplifies simplified simplifying switched updated updating using`

// subject looks at a mail's subject alone.
func (c *checker) subject(n int, m *patchmail.Mail) {
	raw, _ := m.Header.Text("Subject")
	if replyTo.MatchString(strings.TrimSpace(raw)) {
		c.fault("subject", n, "Subject", "it is a reply or a forward", "write the mail anew with git format-patch")
	}
	if !m.Tags.Has("PATCH") && !slices.ContainsFunc(m.Tags.Words, func(w string) bool { return strings.Contains(strings.ToUpper(w), "PATCH") }) {
		c.fault("subject", n, "Subject", "[PATCH] is missing, by which people and programs tell patches from other mails", "write it again with git format-patch")
	}
	if m.Title == "" {
		c.fault("subject", n, "Subject", "there is no summary", "give the commit a summary")
		return
	}
	if strings.Contains(m.Subject, "SUBJECT HERE") {
		c.fault("leftover", n, "Subject", "git's placeholder is in it", "write what the series does")
		return
	}
	if fixup.MatchString(m.Title) {
		c.fault("leftover", n, "Subject", fmt.Sprintf("the commit waits for git rebase --autosquash: %q", clip(m.Title, 40)), "run it")
		return
	}
	if unmergeable.MatchString(m.Title) && !m.Tags.Has("RFC") {
		c.fault("leftover", n, "Subject", fmt.Sprintf("%q says that it must not be merged", clip(m.Title, 60)), "drop the patch, or send the series as RFC")
	}
	if long := utf8.RuneCountInString(m.Title); long > mostTitle && !aRevert.MatchString(m.Title) {
		add := c.fault
		if n == 0 {
			add = c.note // it is not committed
		}
		add("title-length", n, "Subject", fmt.Sprintf("the summary has %d characters of at most %d", long, mostTitle), "shorten it")
	}
	if n == 0 {
		return
	}
	if strings.HasSuffix(m.Title, ".") && !strings.HasSuffix(m.Title, "..") && !strings.HasSuffix(m.Title, "etc.") {
		c.fault("title-period", n, "Subject", "the summary ends in a period", "take it off")
	}
	if !titlePrefix.MatchString(m.Title) && !aRevert.MatchString(m.Title) {
		c.fault("title-prefix", n, "Subject", fmt.Sprintf("the summary does not begin with a subsystem, such as \"dma-mapping: \": %q", clip(m.Title, 60)),
			"see what git log --oneline has for these files")
	}
	what := m.Title
	for {
		p := onePrefix.FindString(what)
		if p == "" {
			break
		}
		what = what[len(p):]
	}
	word := firstWord.FindString(what)
	after := strings.TrimPrefix(what, word)
	switch {
	case thisPatch.MatchString(m.Title):
		c.fault("title-mood", n, "Subject", fmt.Sprintf("the summary speaks of %q", thisPatch.FindString(m.Title)), "give an order: make xyzzy do frotz")
	case slices.Contains(strings.Fields(notImperative), strings.ToLower(word)) && strings.HasPrefix(after, " ") && !strings.HasPrefix(after, " point"):
		c.fault("title-mood", n, "Subject", fmt.Sprintf("the summary begins with %q and is no order", word), "write it as an order: add, not adds, added or adding")
	}
}

// numbers looks at what numbers and tags the subjects have together.
func (c *checker) numbers() {
	const do = "write all patches again with one git format-patch"
	total := len(c.s.Patches)
	if total > mostPatches {
		c.fault("count", 0, "", fmt.Sprintf("there are %d patches, and CIs and maintainers take at most %d at a time", total, mostPatches), "send it in parts, one after the other is merged")
	}
	if c.s.Cover == nil && total > 1 {
		if total > 2 {
			c.fault("cover", 0, "", "there is no cover letter", "write one with git format-patch --cover-letter")
		} else {
			c.note("cover", 0, "", "there is no cover letter, which two patches can do without", "")
		}
	}

	if total == 1 && c.s.Cover == nil && c.s.Patches[0].Tags.Total > 1 {
		t := c.s.Patches[0].Tags
		c.note("numbering", 1, "Subject", fmt.Sprintf("it is patch %d of %d, and the others are not here", t.Number, t.Total), "")
		return
	}

	var seen []int // numbers as they come
	unnumbered, readable := 0, 0
	for n, m := range c.mails() {
		if m.Err != nil {
			continue
		}
		t := m.Tags
		if n > 0 {
			readable++
			if t.Number == 0 {
				unnumbered++
			} else {
				seen = append(seen, t.Number)
			}
		}
		if t.Total > 0 && t.Width != len(strconv.Itoa(t.Total)) {
			c.fault("numbering", n, "Subject", fmt.Sprintf("%d/%d is not padded with zeros to the width of %d", t.Number, t.Total, t.Total), do)
		}
		if n > 0 && t.Total > 0 && t.Total != total || n == 0 && t.Total != total && t.Total > 0 {
			c.fault("numbering", n, "Subject", fmt.Sprintf("it says that there are %d patches, but there are %d", t.Total, total), do)
		}
	}
	switch {
	case readable < total: // then what is missing may be among those
	case unnumbered > 0 && total > 1:
		c.fault("numbering", 0, "Subject", fmt.Sprintf("%d of %d patches have no number", unnumbered, total), do)
	case unnumbered == 0:
		sorted := slices.Sorted(slices.Values(seen))
		complete := true
		for i, n := range sorted {
			complete = complete && n == i+1
		}
		if !complete {
			c.fault("numbering", 0, "Subject", fmt.Sprintf("the patches have the numbers %s and not 1 to %d", clip(strings.Trim(fmt.Sprint(seen), "[]"), 60), total), do)
		} else if !slices.IsSorted(seen) {
			c.fault("order", 0, "", fmt.Sprintf("the patches come as %s", clip(strings.Trim(fmt.Sprint(seen), "[]"), 60)), "give the files names, or the mbox an order, that is that of the numbers")
		}
	}

	var first *patchmail.Mail
	for n, m := range c.mails() {
		if m.Err != nil {
			continue
		}
		if first == nil {
			first = m
			continue
		}
		if a, b := prefix(first), prefix(m); a != b {
			c.fault("tags", n, "Subject", fmt.Sprintf("the prefix is [%s], but that of %s is [%s]", b, first.Name, a), do)
		}
	}
}

// prefix returns a subject's tags without what may differ in a series. That PATCH
// is among them is another rule's.
func prefix(m *patchmail.Mail) string {
	words := []string{"PATCH"}
	for _, w := range m.Tags.Words {
		if !resend.MatchString(w) && !strings.EqualFold(w, "PATCH") {
			words = append(words, w)
		}
	}
	if m.Tags.Version != 1 {
		words = append(words, fmt.Sprintf("v%d", m.Tags.Version))
	}
	return strings.Join(words, " ")
}

// titles looks for summaries that are there twice.
func (c *checker) titles() {
	at := make(map[string]int)
	for n, m := range c.patches() {
		if m.Title == "" {
			continue
		}
		key := strings.ToLower(m.Title)
		if first := at[key]; first > 0 {
			c.fault("title-duplicate", n, "Subject", fmt.Sprintf("patch %d has the same summary", first), "say in each what is different, and send no patch twice")
			continue
		}
		at[key] = n
	}
}
