package edit

import (
	"bytes"
	"fmt"
)

// tokenKind tells apart what the rules of this package treat differently.
type tokenKind uint8

const (
	word   tokenKind = iota // identifier or keyword
	number                  // preprocessing number
	quoted                  // string or character constant
	punct                   // punctuator, or a byte that is nothing else
	broken                  // string or character constant that its line does not close
)

// token is one C token: src[pos:end], beginning on line (from 1).
type token struct {
	pos, end int
	line     int
	kind     tokenKind
}

// span is a stretch of the source in bytes, with the lines of its first and last byte.
type span struct {
	pos, end      int
	line, endLine int
}

// conditional is a preprocessor conditional, from its #if to its #endif.
type conditional struct {
	span
	parts []part // #if, #elif, #else, in this order
}

// part is one branch of a conditional; it begins at the directive and ends at the next one.
type part struct {
	span        // of the directive itself
	tok  int    // index of the first token after the directive
	text string // the directive, white space folded
}

// source is a C file cut into tokens. Comments and preprocessor lines are no
// tokens. Lines under a literal #if 0 are never compiled: their tokens stand
// apart in dead.
type source struct {
	src          []byte
	toks         []token
	dead         []token
	comments     []span        // in the order of the file, those of dead lines too
	directives   []span        // the same; continued lines belong to their directive
	conditionals []conditional // in the order of their #endif
	ends         []int         // for each conditional, index of the first token after its #endif
}

// maxNesting bounds conditionals, brackets and statements inside one another.
// C promises 63 and 127 levels (C11 5.2.4.1); beyond this the text is hostile.
const maxNesting = 256

// sourceError is a fault of the text on a line.
type sourceError struct {
	line int
	what string
}

func (e *sourceError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.what) }

// tokenize cuts src into tokens, in time linear in its length.
func tokenize(src []byte) (*source, error) {
	s := &source{src: src, toks: make([]token, 0, len(src)/5+8)}
	var open []conditional // the conditionals not closed yet
	deadFrom := 0          // depth in open of the #if 0 that we are in, from 1; 0 = none
	line := 1
	fresh := true // only white space and comments on this line so far
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c == '\n':
			line++
			fresh = true
			i++
			continue
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			i++
			continue
		case c == '\\' && splice(src, i) > 0:
			i += splice(src, i)
			line++
			continue
		case c == '/' && i+1 < len(src) && (src[i+1] == '*' || src[i+1] == '/'):
			end, lines, ok := comment(src, i)
			if !ok {
				return nil, &sourceError{line, "a comment that never ends"}
			}
			s.comments = append(s.comments, span{i, end, line, line + lines})
			i, line = end, line+lines
			continue
		case c == '#' && fresh:
			end, lines, ok := directive(src, i)
			if !ok {
				return nil, &sourceError{line, "a comment that never ends"}
			}
			d := span{i, end, line, line + lines}
			s.directives = append(s.directives, d)
			if err := s.condition(d, &open, &deadFrom); err != nil {
				return nil, err
			}
			i, line = end, line+lines
			continue
		}
		t := token{pos: i, line: line}
		var lines int
		t.end, lines, t.kind = next(src, i)
		if deadFrom > 0 {
			s.dead = append(s.dead, t)
		} else {
			s.toks = append(s.toks, t)
		}
		i, line, fresh = t.end, line+lines, false
	}
	if n := len(open); n > 0 {
		return nil, &sourceError{open[n-1].line, "a preprocessor conditional that never ends"}
	}
	return s, nil
}

// condition keeps account of the conditionals when d is one of their directives.
func (s *source) condition(d span, open *[]conditional, deadFrom *int) error {
	name, rest := directiveName(s.src[d.pos:d.end])
	p := part{span: d, tok: len(s.toks)}
	depth := len(*open)
	switch name {
	case "if", "ifdef", "ifndef":
		if depth == maxNesting {
			return &sourceError{d.line, "preprocessor conditionals nested too deeply"}
		}
		p.text = s.fold(d.pos, d.end)
		*open = append(*open, conditional{span: d, parts: []part{p}})
		if *deadFrom == 0 && name == "if" && string(rest) == "0" {
			*deadFrom = depth + 1
		}
	case "elif", "elifdef", "elifndef", "else", "endif":
		if depth == 0 {
			return &sourceError{d.line, "#" + name + " without #if"}
		}
		if *deadFrom == depth {
			*deadFrom = 0
		}
		c := &(*open)[depth-1]
		if name != "endif" {
			p.text = s.fold(d.pos, d.end)
			c.parts = append(c.parts, p)
			break
		}
		c.end, c.endLine = d.end, d.endLine
		s.conditionals = append(s.conditionals, *c)
		s.ends = append(s.ends, len(s.toks))
		*open = (*open)[:depth-1]
	}
	return nil
}

// directiveName splits a directive into its name and what follows, comments cut off.
func directiveName(d []byte) (name string, rest []byte) {
	d = bytes.TrimLeft(d[1:], " \t")
	n := 0
	for n < len(d) && isLetter(d[n]) {
		n++
	}
	rest = d[n:]
	for i := 0; i+1 < len(rest); i++ {
		if rest[i] == '/' && (rest[i+1] == '*' || rest[i+1] == '/') {
			rest = rest[:i]
			break
		}
	}
	return string(d[:n]), bytes.TrimSpace(rest)
}

// splice is the length of the line continuation at i, 0 if there is none.
// Blanks between the backslash and the line's end are let through, as GCC does.
func splice(src []byte, i int) int {
	for j := i + 1; j < len(src); j++ {
		switch src[j] {
		case '\n':
			return j + 1 - i
		case ' ', '\t', '\r':
		default:
			return 0
		}
	}
	return 0
}

// comment returns the end of the comment at i and how many lines it spans beyond its first.
func comment(src []byte, i int) (end, lines int, ok bool) {
	if src[i+1] == '*' {
		n := bytes.Index(src[i+2:], []byte("*/"))
		if n < 0 {
			return 0, 0, false
		}
		end = i + 2 + n + 2
		return end, bytes.Count(src[i:end], []byte{'\n'}), true
	}
	for j := i + 2; j < len(src); {
		switch {
		case src[j] == '\n':
			return j, lines, true
		case src[j] == '\\' && splice(src, j) > 0:
			j += splice(src, j)
			lines++
		default:
			j++
		}
	}
	return len(src), lines, true
}

// directive returns the end of the preprocessor line at i, without its line
// feed, and how many lines it spans beyond its first.
func directive(src []byte, i int) (end, lines int, ok bool) {
	plain := false // quotes mean nothing, after an apostrophe as in #error don't
	for j := i; j < len(src); {
		switch c := src[j]; {
		case c == '\n':
			return j, lines, true
		case c == '\\' && splice(src, j) > 0:
			j += splice(src, j)
			lines++
		case c == '/' && j+1 < len(src) && (src[j+1] == '*' || src[j+1] == '/'):
			e, n, ok := comment(src, j)
			if !ok {
				return 0, 0, false
			}
			j, lines = e, lines+n
		case (c == '"' || c == '\'') && !plain:
			e, n, closed := literal(src, j)
			if !closed {
				plain = true
				break
			}
			j, lines = e, lines+n
		default:
			j++
		}
	}
	return len(src), lines, true
}

// literal returns the end of the string or character constant at i, and whether
// it is closed before its line ends.
func literal(src []byte, i int) (end, lines int, closed bool) {
	for j := i + 1; j < len(src); {
		switch src[j] {
		case src[i]:
			return j + 1, lines, true
		case '\n':
			return j, lines, false
		case '\\':
			if n := splice(src, j); n > 0 {
				j += n
				lines++
				break
			}
			j++
			if j < len(src) && src[j] != '\n' {
				j++
			}
		default:
			j++
		}
	}
	return len(src), lines, false
}

// puncts are the punctuators of more than one byte, longest first (C11 6.4.6, without digraphs).
var puncts = []string{
	"...", "<<=", ">>=",
	"->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||",
	"*=", "/=", "%=", "+=", "-=", "&=", "^=", "|=", "##",
}

// next returns the end, the lines spanned beyond the first, and the kind of the token at i.
func next(src []byte, i int) (end, lines int, kind tokenKind) {
	switch c := src[i]; {
	case isLetter(c):
		for end = i + 1; end < len(src) && (isLetter(src[end]) || isDigit(src[end])); end++ {
		}
		return end, 0, word
	case isDigit(c) || c == '.' && i+1 < len(src) && isDigit(src[i+1]):
		for end = i + 1; end < len(src); end++ {
			c := src[end]
			if isLetter(c) || isDigit(c) || c == '.' {
				continue
			}
			if last := src[end-1] | 0x20; (c == '+' || c == '-') && (last == 'e' || last == 'p') {
				continue
			}
			break
		}
		return end, 0, number
	case c == '"' || c == '\'':
		end, lines, closed := literal(src, i)
		if !closed {
			return end, lines, broken
		}
		return end, lines, quoted
	}
	if i+1 < len(src) && isPunct[src[i+1]] {
		for _, p := range puncts {
			if len(src)-i >= len(p) && src[i+1] == p[1] && string(src[i:i+len(p)]) == p {
				return i + len(p), 0, punct
			}
		}
	}
	return i + 1, 0, punct
}

// isPunct marks the bytes that can stand second in a punctuator.
var isPunct = func() (t [256]bool) {
	for _, p := range puncts {
		t[p[1]] = true
	}
	return t
}()

// isLetter reports whether c may begin an identifier. Bytes from 0x80 may: old
// files hold Latin-1, new ones UTF-8, and both only in comments and strings.
func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || c >= 0x80
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// text is the token's own bytes.
func (s *source) text(t token) []byte { return s.src[t.pos:t.end] }

// is reports whether token i is the text given.
func (s *source) is(i int, text string) bool {
	t := s.toks[i]
	return t.end-t.pos == len(text) && string(s.src[t.pos:t.end]) == text
}

// lastLine is the line on which t ends.
func (s *source) lastLine(t token) int {
	return t.line + bytes.Count(s.text(t), []byte{'\n'})
}

// fold is src[pos:end] with white space folded.
func (s *source) fold(pos, end int) string {
	return string(bytes.Join(bytes.Fields(s.src[pos:end]), []byte{' '}))
}

// lineStart is the offset at which the line holding pos begins.
func lineStart(src []byte, pos int) int { return bytes.LastIndexByte(src[:pos], '\n') + 1 }

// lineEnd is the offset after the line feed of the line holding pos, or the text's end.
func lineEnd(src []byte, pos int) int {
	if n := bytes.IndexByte(src[pos:], '\n'); n >= 0 {
		return pos + n + 1
	}
	return len(src)
}

// blank reports whether b is white space only.
func blank(b []byte) bool { return len(bytes.TrimSpace(b)) == 0 }
