package check

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"patchgen/submit/patchmail"
)

const bodyWidth = 75

var (
	// What scripts/checkpatch.pl lets be long (COMMIT_LOG_LONG_LINE): lines of a
	// diffstat, of compilers, tags and links.
	mayBeLong = regexp.MustCompile(`^\s*[\w/.]+\s+\|\s+\d+|^\s*(?:[\w.+-]*/)+[\w.+-]+:|^\s*(?i:fixes:|https?:|[a-z-]+-by:|cc:|link:|closes:|buglink:|references:|in-reply-to:)|://`)
	// What a reader keeps as it is: indented, quoted, a table, a command, a list of
	// references.
	literal = regexp.MustCompile(`^(\s{2,}|\t|>|\||[$#+] |\[\d+\]|base-commit: |change-id: |prerequisite-)`)
	// Where a trace of the kernel begins, which goes on to the next empty line.
	trace = regexp.MustCompile(`^\s*(?:WARNING:|BUG:|Oops|KASAN|UBSAN|Call [Tt]race|RIP:|CPU:|\[\s*\d+\.\d{6}\s*\]|\[<[0-9a-fA-F]{8,}>\])|^(?:\s+\w+:\s+[0-9a-fA-F]+){3}|^\s*#\d+\s*\[[0-9a-fA-F]+\]\s*\w+ at `)

	toDo       = regexp.MustCompile(`(^|[^\w/.-])(TODO|FIXME|XXX)($|[^\w/.])`)
	aTemplate  = regexp.MustCompile(`\{\{-?\s*(\.[A-Za-z]|\$\w|if |else\b|end\b|range |with |template |block )|<no value>|%![a-zA-Z]\((\w|<)|%!\(|\$\{\{`)
	aField     = regexp.MustCompile(`\{\{\s+\w+\s+\}\}|<(INSERT|YOUR|FILL)[ A-Z_-]*>`)
	gitsBlurb  = regexp.MustCompile(`\*\*\* (SUBJECT|BLURB) HERE \*\*\*|EDITME: `)
	conflict   = regexp.MustCompile(`^(<{7}|>{7}|\|{7})( |$)`)
	backupFile = regexp.MustCompile(`(\.orig|\.rej|\.swp|\.bak|~)$`)
	changeID   = regexp.MustCompile(`(?i)^\s*change-id:`)

	historyHead = regexp.MustCompile(`(?i)^[\s*#-]*((changes|changelog|changed|history|differences|revisions?)\s+(in|since|from|for|between|of|to|history)?\s*(the\s+)?(v|version\s*|rfc\s*v?|patch\s*v?)\d|(since|from) v\d|v\d+[a-z]?\s*(:|->|-->|=>|→|\.\.\s*v)|v\d+\s*$|(changelog|change log|revision history|version history|changes)\s*:?\s*$)`)
	versionsOf  = regexp.MustCompile(`(?i)\bv\d+\b|range-diff|interdiff`)
	numberedOne = regexp.MustCompile(`(?i)(v|version\s*)\d`)
)

// text looks at what a mail says.
func (c *checker) text(n int, m *patchmail.Mail) {
	if n == 0 {
		c.leftovers(n, strings.Split(m.Text(), "\n"))
		c.width(n, strings.Split(letterText(m.Message), "\n"))
		return
	}
	lines := strings.Split(m.Message, "\n")
	c.leftovers(n, lines)
	for i, line := range strings.Split(m.Below, "\n") {
		if gitsBlurb.MatchString(line) || aTemplate.MatchString(line) {
			c.fault("leftover", n, fmt.Sprintf("line %d below ---", i+1), fmt.Sprintf("a template was not filled in: %q", clip(line, 60)), "write what belongs there")
			break
		}
	}
	c.cut(n, m)
	c.width(n, lines)

	said := false
	for i, line := range lines {
		where := fmt.Sprintf("line %d of the text", i+1)
		if changeID.MatchString(line) {
			c.fault("change-id", n, where, "there is a Change-Id, which means nothing outside of Gerrit", "take it out, and turn off the hook that adds it")
		}
		if historyHead.MatchString(line) && numberedOne.MatchString(line) {
			c.fault("history-place", n, where, fmt.Sprintf("the history of versions would be committed: %q", clip(strings.TrimSpace(line), 40)), "move it below ---")
			break
		}
		said = said || thisPatch.MatchString(line)
	}
	if said {
		c.note("body-mood", n, "", "the text speaks of this patch or commit", "give an order, or tell of the kernel before it")
	}
	if c.found("body-cut", n) {
		return
	}
	if strings.TrimSpace(withoutTrailers(m)) == "" {
		c.fault("body", n, "", "there is no text between summary and trailers", "tell the problem, why it matters, and what is done about it")
	}
}

// withoutTrailers returns the message without its trailers.
func withoutTrailers(m *patchmail.Mail) string {
	lines := strings.Split(m.Message, "\n")
	trailers := m.Trailers()
	for _, t := range trailers {
		lines[t.Line-1] = ""
	}
	return strings.Join(lines, "\n")
}

// leftovers looks for what was to be written or taken out.
func (c *checker) leftovers(n int, lines []string) {
	var spots []spot
	for i, line := range lines {
		problem := ""
		switch {
		case gitsBlurb.MatchString(line):
			problem = "git's placeholder is in the text"
		case aTemplate.MatchString(line) || aField.MatchString(line):
			problem = "a template was not filled in"
		case conflict.MatchString(line):
			problem = "a conflict was not resolved"
		case toDo.MatchString(line):
			problem = "something is to be done"
		default:
			continue
		}
		spots = append(spots, spot{fmt.Sprintf("line %d of the text", i+1), fmt.Sprintf("%s: %q", problem, clip(strings.TrimSpace(line), 60))})
	}
	c.faults("leftover", n, spots, "write what belongs there")
}

// width looks for lines that were not wrapped.
func (c *checker) width(n int, lines []string) {
	first, count, columns := 0, 0, 0
	inTrace := false
	for i, line := range lines {
		if strings.TrimSpace(line) == "" {
			inTrace = false
			continue
		}
		inTrace = inTrace || trace.MatchString(line)
		if inTrace || utf8.RuneCountInString(line) <= bodyWidth || mayBeLong.MatchString(line) || literal.MatchString(line) || longWord(line) {
			continue
		}
		if count++; count == 1 {
			first, columns = i+1, utf8.RuneCountInString(line)
		}
	}
	if count == 0 {
		return
	}
	problem := fmt.Sprintf("it has %d columns of at most %d", columns, bodyWidth)
	if count > 1 {
		problem += fmt.Sprintf(", and %d other lines are too long as well", count-1)
	}
	add := c.fault
	if n == 0 {
		add = c.note // it is not committed
	}
	add("body-width", n, fmt.Sprintf("line %d of the text", first), problem, "wrap the text")
}

// longWord reports whether a line is long for a single word, such as a path.
func longWord(line string) bool {
	for word := range strings.FieldsSeq(line) {
		if utf8.RuneCountInString(word) > bodyWidth*2/3 {
			return true
		}
	}
	return false
}

// cut looks for a message that ends where its writer did not mean it to: what
// git am takes for the begin of a patch ends it.
func (c *checker) cut(n int, m *patchmail.Mail) {
	for i, line := range strings.Split(m.Below, "\n") {
		if signOff.MatchString(line) && len(m.Trailers()) == 0 {
			first, _, _ := strings.Cut(m.Below, "\n")
			c.fault("body-cut", n, fmt.Sprintf("line %d below the text", i+1),
				fmt.Sprintf("git am ends the message at a line such as --- or diff, here before %q, so the Signed-off-by behind it is lost", clip(first, 40)),
				"indent the line, and have --- stand behind the trailers only")
			return
		}
	}
}

// versions looks at what a new version says of the older ones.
func (c *checker) versions() {
	version := 1
	for _, m := range c.mails() {
		version = max(version, m.Tags.Version)
	}
	if version < 2 {
		return
	}
	for n, m := range c.mails() {
		text := m.Below
		if n == 0 {
			text = m.Text()
		}
		head := false
		for line := range strings.SplitSeq(text, "\n") {
			head = head || historyHead.MatchString(line)
		}
		// A head without a number needs one somewhere.
		if head && versionsOf.MatchString(text) || strings.Contains(text, "Range-diff") || m.Tags.Has("RESEND") {
			return
		}
	}
	c.fault("history", 0, "", fmt.Sprintf("this is version %d, but nothing says what has changed since the one before", version),
		"tell it in the cover letter, or below the --- of each patch, with a link to the older version")
}
