package recipients

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"patchgen/submit/patchmail"
)

// A patch is what get_maintainer.pl reads of it.
type patch struct {
	text  []byte   // UTF-8, LF at the ends of lines
	files []string // whose names stand in it, sorted
	found *gathering
}

// readPatch makes of a mail what the script reads: it does not decode mails.
func readPatch(m *patchmail.Mail) patch {
	text := m.Raw
	if m.CRLF || m.Coding == "quoted-printable" || m.Coding == "base64" ||
		m.Charset != "" && m.Charset != "utf-8" && m.Charset != "us-ascii" || strings.HasPrefix(m.Kind, "multipart/") {
		text = fmt.Appendf(nil, "Subject: %s\n\n%s\n---\n%s\n\n%s", m.Subject, m.Message, m.Below, m.Diff)
	}
	p := patch{found: newGathering()}
	var kept bytes.Buffer
	for line := range bytes.Lines(bytes.ToValidUTF8(text, []byte("\uFFFD"))) {
		_, names := classify(line)
		if i := slices.IndexFunc(names, outside); i >= 0 {
			// The script would open such a file, if it is one of YAML.
			p.found.notes = append(p.found.notes, fmt.Sprintf("%.80q is no file of a tree, and nobody was looked up for it", names[i]))
			continue
		}
		p.files = append(p.files, names...)
		kept.Write(line)
	}
	p.text = kept.Bytes()
	slices.Sort(p.files)
	p.files = slices.Compact(p.files)
	return p
}

// outside reports whether a name leads out of the tree.
func outside(name string) bool {
	return path.IsAbs(name) || slices.Contains(strings.Split(name, "/"), "..")
}

// A lineKind is what a line of a patch is to the script.
type lineKind int

const (
	plainLine  lineKind = iota // K: patterns are looked for in it
	otherLine                  // names files, or is passed over
	headerLine                 // "---" or "+++" with a name: from the first on, K: patterns count in changed lines only
)

var (
	modeLine    = regexp.MustCompile(`^ mode change [0-7]+ => [0-7]+ (\S+)\s*$`)
	renameLine  = regexp.MustCompile(`^rename (?:from|to) (\S+)\s*$`)
	gitLine     = regexp.MustCompile(`^diff --git a/(\S+) b/(\S+)\s*$`)
	fixesLine   = regexp.MustCompile(`^Fixes:\s+[0-9a-fA-F]{6,40}`)
	oldNewLine  = regexp.MustCompile(`^(?:\+\+\+|---)\s+(\S+)`)
	hunkLine    = regexp.MustCompile(`^@@ -\d+,\d+`)
	firstFolder = regexp.MustCompile(`^[^/]*/`)
)

// classify reads a line with its end as the script does, which knows neither
// mails nor hunks: a removed line "-- name" is one, too, that names a file.
func classify(line []byte) (kind lineKind, names []string) {
	if len(line) == 0 {
		return plainLine, nil
	}
	switch line[0] {
	case ' ':
		if m := modeLine.FindSubmatch(line); m != nil {
			return otherLine, []string{string(m[1])}
		}
	case 'r':
		if m := renameLine.FindSubmatch(line); m != nil {
			return otherLine, []string{string(m[1])}
		}
	case 'd':
		if m := gitLine.FindSubmatch(line); m != nil {
			return otherLine, []string{string(m[1]), string(m[2])}
		}
	case 'F':
		if fixesLine.Match(line) {
			return otherLine, nil
		}
	case '+', '-':
		if m := oldNewLine.FindSubmatch(line); m != nil {
			name := string(m[1])
			return headerLine, []string{name[len(firstFolder.FindString(name)):]}
		}
	case '@':
		if hunkLine.Match(line) {
			return otherLine, nil
		}
	}
	return plainLine, nil
}
