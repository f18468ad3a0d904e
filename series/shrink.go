package series

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

const (
	shrinkFrom   = 64 << 10 // bytes; a smaller file costs git nothing to speak of
	shrinkMargin = 200      // lines kept on both sides of what changes, more than any hunk shows
	abbrev       = 12       // hex digits of a blob's name in a diff, as in the scratch repository
)

// A part is what git was given of a large file, and what is to be put right in
// the diff for that.
type part struct {
	dropped int               // lines before the part, less the one that is kept for headings
	names   map[string]string // abbreviated names of blobs: of the part, and of the whole
}

// shrink returns the series with its large files cut down to where they change.
// git would spend most of its time on MAINTAINERS, which has 25,000 lines, else.
// What a diff shows does not depend on the lines far away, but for names of
// blobs, numbers of lines and the heading of the first hunk.
func (s *Series) shrink() (*Series, map[string]part) {
	versions := make(map[string][][]byte)
	for _, p := range s.Patches {
		for _, c := range p.Changes {
			if versions[c.Path] == nil {
				versions[c.Path] = [][]byte{c.Before}
			}
			versions[c.Path] = append(versions[c.Path], c.After)
		}
	}
	parts := make(map[string]part)
	cut := make(map[string]func([]byte) []byte)
	for name, v := range versions {
		if len(v[0]) < shrinkFrom || hasDriver(s.Attributes, name) {
			continue
		}
		head, tail := common(v)
		head, tail = backLines(v[0][:head]), tail-aheadLines(v[0][len(v[0])-tail:])
		if head+tail < shrinkFrom/2 {
			continue
		}
		heading := lastHeading(v[0][:head])
		cut[name] = func(whole []byte) []byte {
			return append(bytes.Clone(heading), whole[head:len(whole)-tail]...)
		}
		p := part{
			dropped: bytes.Count(v[0][:head], []byte("\n")) - bytes.Count(heading, []byte("\n")),
			names:   make(map[string]string),
		}
		for _, whole := range v {
			p.names[blobName(cut[name](whole))] = blobName(whole)
		}
		parts[name] = p
	}
	if len(parts) == 0 {
		return s, nil
	}
	small := *s
	small.Patches = nil
	for _, p := range s.Patches {
		q := p
		q.Changes = nil
		for _, c := range p.Changes {
			if f := cut[c.Path]; f != nil {
				c.Before, c.After = f(c.Before), f(c.After)
			}
			q.Changes = append(q.Changes, c)
		}
		small.Patches = append(small.Patches, q)
	}
	return &small, parts
}

// hasDriver reports whether attributes might give the file a diff driver, which
// has a way of its own to find headings.
func hasDriver(attributes []byte, name string) bool {
	ext := path.Ext(name)
	for _, line := range strings.Split(string(attributes), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		pattern := fields[0]
		if strings.Contains(line, "diff") && (ext != "" && strings.HasSuffix(pattern, ext) || strings.Contains(pattern, path.Base(name)) || strings.HasSuffix(pattern, "*")) {
			return true
		}
	}
	return false
}

// common returns how many bytes all versions have in common at the start and at
// the end. The two do not overlap in any version.
func common(versions [][]byte) (head, tail int) {
	first := versions[0]
	head, tail = len(first), len(first)
	shortest := len(first)
	for _, v := range versions[1:] {
		shortest = min(shortest, len(v))
		n := 0
		for n < min(head, len(v)) && first[n] == v[n] {
			n++
		}
		head = n
		n = 0
		for n < min(tail, len(v)) && first[len(first)-1-n] == v[len(v)-1-n] {
			n++
		}
		tail = n
	}
	return head, min(tail, shortest-head)
}

// backLines returns where the last lines of text start, those of the margin and
// the one that is cut off at its end.
func backLines(text []byte) int {
	end := len(text)
	for range shrinkMargin + 1 {
		end = max(bytes.LastIndexByte(text[:end], '\n'), 0)
	}
	if end == 0 {
		return 0
	}
	return end + 1
}

// aheadLines is the same for the first lines of text: where they end.
func aheadLines(text []byte) int {
	start := 0
	for range shrinkMargin + 1 {
		n := bytes.IndexByte(text[start:], '\n')
		if n < 0 {
			return len(text)
		}
		start += n + 1
	}
	return start
}

// lastHeading returns the last line of text that git takes for the heading of a
// hunk where there is no diff driver (git: xdiff/xemit.c, def_ff).
func lastHeading(text []byte) []byte {
	for end := len(text); end > 0; {
		start := bytes.LastIndexByte(text[:end-1], '\n') + 1
		if c := text[start]; c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c == '$' {
			return text[start:end]
		}
		end = start
	}
	return nil
}

// blobName is the abbreviated name of a blob with that content.
func blobName(content []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(content))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))[:abbrev]
}

var (
	indexLine = regexp.MustCompile(`^index ([0-9a-f]+)\.\.([0-9a-f]+)( [0-7]+)?\n$`)
	hunkLine  = regexp.MustCompile(`^@@ -([0-9]+)((?:,[0-9]+)? \+)([0-9]+)((?:,[0-9]+)? @@.*\n)$`)
)

// restore puts the mail's diffs of parts right.
func restore(mail []byte, parts map[string]part) ([]byte, error) {
	if len(parts) == 0 {
		return mail, nil
	}
	var out bytes.Buffer
	var p part
	for line := range bytes.Lines(mail) {
		switch {
		case bytes.HasPrefix(line, []byte("diff --git a/")):
			_, name, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " b/")
			p = parts[name]
		case p.names == nil:
		case bytes.HasPrefix(line, []byte("index ")):
			m := indexLine.FindSubmatch(line)
			if m == nil || p.names[string(m[1])] == "" || p.names[string(m[2])] == "" {
				return nil, fmt.Errorf("git names blobs that were not given to it: %s", bytes.TrimSpace(line))
			}
			line = fmt.Appendf(nil, "index %s..%s%s\n", p.names[string(m[1])], p.names[string(m[2])], m[3])
		case bytes.HasPrefix(line, []byte("@@ ")):
			m := hunkLine.FindSubmatch(line)
			if m == nil {
				return nil, fmt.Errorf("git wrote a hunk of unknown form: %s", bytes.TrimSpace(line))
			}
			line = fmt.Appendf(nil, "@@ -%s%s%s%s", p.moved(m[1]), m[2], p.moved(m[3]), m[4])
		}
		out.Write(line)
	}
	return out.Bytes(), nil
}

func (p part) moved(number []byte) string {
	n, _ := strconv.Atoi(string(number)) // the pattern took digits only
	return strconv.Itoa(n + p.dropped)
}
