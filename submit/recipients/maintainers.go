package recipients

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patchgen/ktree"
)

// A database is a MAINTAINERS file, with the semantics that scripts/get_maintainer.pl
// of Linux 7.3 gives it; they are not always those that the head of MAINTAINERS
// tells. Where the order of two sections makes a difference and the script leaves
// it to Perl's hashes, here it is that of the file.
//
// It is for one goroutine.
type database struct {
	sections []*section
	titled   map[string]*section // by title as roles have it; nil for one that several have
	keywords []*keyword
	mailmap  mailmap
	tree     *ktree.Tree
	notes    []string // patterns that cannot be read
}

// A section is lines "X: value" without another between, and the line before.
type section struct {
	title  string
	status string // S:
	fields []*field
}

// A field is one line of a section.
type field struct {
	key     byte
	value   string
	pattern *pattern       // of F: and X:
	regexp  *regexp.Regexp // of N:, nil if it cannot be read
}

// A keyword is a K: line. Of a patch's text any line may match, of its diff
// changed ones.
type keyword struct {
	section    *section
	value      string
	order      string // number of the line as text, by which the script sorts
	text, diff *regexp.Regexp
}

// cutField cuts a line "X: value".
func cutField(line []byte) (key byte, value string, ok bool) {
	if len(line) < 2 || line[0] < 'A' || line[0] > 'Z' || line[1] != ':' {
		return 0, "", false
	}
	return line[0], string(bytes.TrimLeft(line[2:], " \t\n\v\f\r")), true
}

func newDatabase(text []byte, tree *ktree.Tree) *database {
	d := &database{titled: make(map[string]*section), tree: tree}
	index, title, within := 0, "", (*section)(nil)
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		key, value, ok := cutField(line)
		if !ok {
			if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 && trimmed[0] != '#' {
				title, within = string(line), nil
				index++
			}
			continue
		}
		if within == nil {
			within = &section{title: title}
			d.sections = append(d.sections, within)
		}
		d.addField(within, key, value, index)
		index++
	}
	for _, s := range d.sections {
		short := shorten(s.title)
		if _, twice := d.titled[short]; twice {
			d.titled[short] = nil
		} else {
			d.titled[short] = s
		}
	}
	slices.SortFunc(d.keywords, func(a, b *keyword) int { return cmp.Compare(a.order, b.order) })
	d.mailmap = readMailmap(d.optional(".mailmap"))
	return d
}

func (d *database) addField(s *section, key byte, value string, index int) {
	f := &field{key: key, value: value}
	var err error
	switch key {
	case 'F', 'X':
		f.pattern = newPattern(value)
	case 'N':
		f.regexp, err = compile("", value)
	case 'K':
		k := &keyword{section: s, value: value, order: strconv.Itoa(index)}
		if k.text, err = compile("", value); err == nil {
			k.diff, err = compile("^[+-].*", value)
		}
		if err == nil {
			d.keywords = append(d.keywords, k)
		}
	case 'S':
		s.status = strings.TrimSpace(value)
	}
	if err != nil {
		d.note(s, key, value, err)
	}
	s.fields = append(s.fields, f)
}

func (d *database) note(s *section, key byte, value string, err error) {
	const most = 20
	if len(d.notes) == most {
		d.notes = append(d.notes, "more of MAINTAINERS cannot be read")
	} else if len(d.notes) < most {
		d.notes = append(d.notes, fmt.Sprintf("MAINTAINERS, %.80s: %c: %.120q is passed over: %v", clean(s.title), key, value, err))
	}
}

// optional returns a file of the tree, nil if there is none that can be read.
func (d *database) optional(name string) []byte {
	data, err := d.tree.ReadFile(name)
	if err != nil {
		return nil
	}
	return data
}

// shorten shortens a title as roles have it (get_maintainer.pl: get_subsystem_name).
func shorten(title string) string {
	const most = 50
	runes := []rune(title)
	if len(runes) <= most {
		return title
	}
	return strings.TrimRight(string(runes[:most-3]), " \t\n\v\f\r") + "..."
}

// A pattern is that of an F: or X: line: a regular expression in which "." is
// plain, and "*", "**" and "?" are wildcards.
type pattern struct {
	value  string
	prefix string // what a name begins with that matches
	plain  bool   // prefix is all of it
	regexp *regexp.Regexp
	bad    bool // the expression cannot be read
}

var wildcards = strings.NewReplacer(".", `\.`, "**", "(?:.*)", "*", ".*", "?", ".")

func newPattern(value string) *pattern {
	p := &pattern{value: value}
	i := strings.IndexAny(value, `*?[](){}+|^$\`)
	switch {
	case i < 0:
		p.prefix, p.plain = value, true
	case strings.Contains(value, "|"):
	case value[i] == '+' || value[i] == '{':
		// The character before may be left out.
	default:
		p.prefix = value[:i]
	}
	return p
}

// match reports whether a file's name matches, and how deep the pattern goes,
// -1 for one that begins with a wildcard (get_maintainer.pl: file_match_pattern).
func (d *database) match(s *section, f *field, name string) (depth int, ok bool) {
	p := f.pattern
	if !strings.HasPrefix(name, p.prefix) {
		return 0, false
	}
	value := p.value
	if p.plain {
		if p.mayBeFolder(name) && d.tree.IsDir(value) {
			value += "/"
		}
		if !strings.HasPrefix(name, value) {
			return 0, false
		}
	} else {
		if p.regexp == nil && !p.bad {
			var err error
			if p.regexp, err = regexp.Compile("^" + toGo(wildcards.Replace(value), false)); err != nil {
				p.bad = true
				d.note(s, f.key, value, err)
			}
		}
		if p.bad || !p.regexp.MatchString(name) {
			return 0, false
		}
	}
	depth = strings.Count(value, "/")
	if !strings.HasSuffix(value, "/") {
		if depth != strings.Count(name, "/") && !strings.Contains(value, "**") {
			return 0, false
		}
		depth++
	}
	if strings.HasPrefix(value, "*") {
		depth = -1
	}
	return depth, true
}

// mayBeFolder reports whether a pattern is one that the script takes for a folder
// without a slash at its end, if it is one, and that could match a name: it looks
// for the folder when dots have been escaped.
func (p *pattern) mayBeFolder(name string) bool {
	return p.plain && p.value != "" && !strings.HasSuffix(p.value, "/") && !strings.Contains(p.value, ".") && strings.HasPrefix(name, p.value)
}

// foldersFor returns the folders of the tree that patterns name without a slash
// and that make a difference for the files.
func (d *database) foldersFor(files []string) []string {
	var all []string
	for _, s := range d.sections {
		for _, f := range s.fields {
			if f.pattern == nil {
				continue
			}
			if slices.ContainsFunc(files, f.pattern.mayBeFolder) && d.tree.IsDir(f.value) {
				all = append(all, f.value)
			}
		}
	}
	return all
}

// compile compiles what Perl knows as m/$before$value/x.
func compile(before, value string) (*regexp.Regexp, error) {
	expr := toGo(value, true)
	if expr == "" {
		return nil, errors.New("it is empty") // Perl would take the last one that matched
	}
	return regexp.Compile(before + expr)
}

// toGo writes a regular expression of Perl, with or without the flag x, for Go,
// whose language is a part of Perl's but for these: $ and \Z are also before a
// newline at the end, and there is no x.
func toGo(expr string, x bool) string {
	const end = `(?:\n?\z)`
	var b strings.Builder
	class := false // within brackets
	for i := 0; i < len(expr); i++ {
		c := expr[i]
		switch {
		case c == '\\' && i+1 < len(expr):
			i++
			switch next := expr[i]; {
			case next == 'Z' && !class:
				b.WriteString(end)
			case isBlank(next):
				fmt.Fprintf(&b, `\x%02x`, next)
			default:
				b.WriteByte('\\')
				b.WriteByte(next)
			}
		case class:
			if posix := posixClass.FindString(expr[i:]); posix != "" {
				b.WriteString(posix)
				i += len(posix) - 1
				continue
			}
			b.WriteByte(c)
			class = c != ']'
		case c == '[':
			open := classStart.FindString(expr[i:])
			b.WriteString(open)
			i += len(open) - 1
			class = true
		case x && isBlank(c):
		case x && c == '#':
			return b.String()
		case c == '$':
			b.WriteString(end)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

var (
	posixClass = regexp.MustCompile(`^\[:\^?[a-z]+:\]`)
	classStart = regexp.MustCompile(`^\[\^?\]?`)
)

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// A placed section is one that a file is of.
type placed struct {
	*section
	depth int
}

// sectionsOf returns the sections of a file, those with the deepest pattern
// first.
func (d *database) sectionsOf(name string) []placed {
	var all []placed
	for _, s := range d.sections {
		if depth, ok := d.place(s, name); ok {
			all = append(all, placed{s, depth})
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return cmp.Compare(b.depth, a.depth) })
	return all
}

// place reports whether a file is of a section, and how deep the pattern goes: of
// several, the last that matches.
func (d *database) place(s *section, name string) (depth int, ok bool) {
	for _, f := range s.fields {
		switch {
		case f.key == 'X':
			if _, excluded := d.match(s, f, name); excluded {
				return 0, false
			}
		case f.key == 'F':
			if n, matches := d.match(s, f, name); matches {
				depth, ok = n, true
			}
		case f.regexp != nil && f.regexp.MatchString(name):
			depth, ok = 0, true
		}
	}
	return depth, ok
}

// matching returns the keywords that a patch has.
func (d *database) matching(text []byte) []*keyword {
	found := make(map[*keyword]bool)
	diff := false
	for line := range bytes.Lines(text) {
		kind, _ := classify(line)
		if kind == headerLine {
			diff = true
		}
		if kind != plainLine {
			continue
		}
		for _, k := range d.keywords {
			re := k.text
			if diff {
				re = k.diff
			}
			if !found[k] && re.Match(line) {
				found[k] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(d.keywords), func(k *keyword) bool { return !found[k] })
}

// find returns what get_maintainer.pl --nogit --nogit-fallback --roles does for a
// patch with a text and files, which are sorted.
func (d *database) find(files []string, text []byte) []entry {
	c := newCollector(d.mailmap)
	for _, name := range files {
		for _, s := range d.sectionsOf(name) {
			c.section(s.section, "")
		}
		if strings.HasSuffix(name, ".yaml") {
			c.file(d.optional(name))
		}
	}
	for _, k := range d.matching(text) {
		c.section(k.section, ":Keyword:"+k.value)
	}
	return c.entries()
}
