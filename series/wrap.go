package series

import "strings"

const bodyWidth = 75 // columns of a commit message: Documentation/process/submitting-patches.rst

// wrap fills the paragraphs of a message, whose lines vary with the tree that
// it is rendered for. Items of a list (" - ") hang; text that is indented
// otherwise is literal and kept.
func wrap(text string) string {
	var out []string
	for _, paragraph := range strings.Split(text, "\n\n") {
		var words []string
		first, rest := "", ""
		flush := func() {
			if len(words) > 0 {
				out = append(out, fillLines(first, rest, words)...)
			}
			words = nil
		}
		for _, line := range strings.Split(paragraph, "\n") {
			item, isItem := strings.CutPrefix(line, " - ")
			switch {
			case isItem:
				flush()
				first, rest = " - ", "   "
				words = strings.Fields(item)
			case strings.HasPrefix(line, "   ") && rest != "":
				words = append(words, strings.Fields(line)...)
			case strings.HasPrefix(line, " "):
				flush()
				out = append(out, line)
			default:
				if rest != "" {
					flush()
				}
				first, rest = "", ""
				words = append(words, strings.Fields(line)...)
			}
		}
		flush()
		out = append(out, "")
	}
	return strings.TrimRight(strings.Join(out, "\n"), "\n")
}

func fillLines(first, rest string, words []string) []string {
	var lines []string
	line := first + words[0]
	for _, w := range words[1:] {
		if len(line)+1+len(w) > bodyWidth {
			lines = append(lines, line)
			line = rest + w
			continue
		}
		line += " " + w
	}
	return append(lines, line)
}
