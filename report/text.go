package report

import (
	"fmt"
	"strings"
	"unicode"

	"patchgen/qemutest"
)

// width is what a cover letter is wrapped at.
const width = 72

// A text is a report in plain text.
type text struct {
	strings.Builder
}

// plain returns the report in plain text. Lines are not longer than width but for a
// word that is.
func plain(reports []*qemutest.Report, command []string) []byte {
	var t text
	for i, r := range reports {
		if i > 0 {
			t.WriteString("\n\n")
		}
		t.tree(r)
	}
	t.WriteString("Again:\n")
	t.command(command)
	return []byte(t.String())
}

func (t *text) tree(r *qemutest.Report) {
	for _, s := range Sentences(r) {
		t.wrap(s)
	}
	if len(r.Runs) > 0 {
		const format = "%-11s %5v %-7s %8v %7v %8v %7v %8v\n"
		fmt.Fprintf(t, "\n"+format, "RUN", "VCPUS", "DEVICES", "WRITTEN", "MISSED", "RESENT", "OVER", "VERDICT")
		for _, o := range r.Runs {
			fmt.Fprintf(t, format, o.Name, o.CPUs, o.Device, o.Written, o.Missed, o.Resent, o.OverReported, clean(o.Verdict))
		}
	}
	t.WriteByte('\n')
	t.wrap(ranOn(r))
}

// ranOn says what the tests of a tree ran on.
func ranOn(r *qemutest.Report) string {
	return fmt.Sprintf("Linux %s (%s), QEMU %s, accelerator %s, guests of %d MiB.", r.Kernel, r.Tree, r.QEMU, r.Accelerator, r.Memory>>20)
}

// clean takes out of a text what a terminal would act on.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// wrap writes a paragraph.
func (t *text) wrap(s string) {
	n := 0
	for _, word := range strings.Fields(clean(s)) {
		switch w := len([]rune(word)); {
		case n == 0:
			n = w
		case n+1+w > width:
			t.WriteByte('\n')
			n = w
		default:
			t.WriteByte(' ')
			n += 1 + w
		}
		t.WriteString(word)
	}
	t.WriteByte('\n')
}

// command writes a command so that it can be given to a shell, its flags with their
// values kept together.
func (t *text) command(words []string) {
	var parts []string
	for i, word := range words {
		if i > 0 && !strings.HasPrefix(word, "--") {
			parts[len(parts)-1] += " " + clean(word)
			continue
		}
		parts = append(parts, clean(word))
	}
	n := 0
	for i, part := range parts {
		w := len([]rune(part))
		switch {
		case i == 0:
			t.WriteString("  ")
			n = 2
		case n+1+w+2 > width:
			t.WriteString(" \\\n    ")
			n = 4
		default:
			t.WriteByte(' ')
			n++
		}
		t.WriteString(part)
		n += w
	}
	t.WriteByte('\n')
}
