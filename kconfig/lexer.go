package kconfig

import (
	"fmt"
	"strings"
	"unicode"

	"patchgen/edit"
)

// The rules are those of the kernel's scripts/kconfig/lexer.l. What it only
// warns of, such as an unsupported character, is left out here as there. From
// trees older than 4.18 come "/" and "." in words and ---help---.

type tokenKind int

const (
	word     tokenKind = iota // text is the word
	macro                     // a word with a $(reference) in it; it may come to nothing
	quoted                    // text is what stands between the quotes, escapes and references as written
	operator                  // text is one of || && = != < <= > >= ! ( )
	assign                    // text is one of = := +=, behind the name that opens the line
)

type token struct {
	kind tokenKind
	text string
}

// lexer cuts a Kconfig file into statements.
type lexer struct {
	file   string // its name, for messages
	src    string
	pos    int     // of the next byte
	line   int     // that pos is in, from 1
	tokens []token // of the statement read last
}

func (l *lexer) fault(line int, format string, a ...any) *edit.Error {
	return &edit.Error{Kind: edit.Unreadable, File: l.file, Line: line, Problem: fmt.Sprintf(format, a...)}
}

// statement reads the next logical line and leaves pos behind its newline. The
// tokens are none for a line without any.
func (l *lexer) statement() error {
	l.tokens = l.tokens[:0]
	for l.pos < len(l.src) {
		start := l.pos
		l.pos++
		switch c := l.src[start]; {
		case c == '\n':
			l.line++
			return nil
		case c == ' ' || c == '\t':
		case c == '\\' && strings.HasPrefix(l.src[l.pos:], "\n"):
			l.pos++
			l.line++
		case c == '#':
			l.pos = l.lineEnd()
		case c == '"' || c == '\'':
			if err := l.quoted(c); err != nil {
				return err
			}
		case isWordByte(c) || c == '$' || c == '/' || c == '.':
			l.pos = start
			if err := l.word(); err != nil {
				return err
			}
		default:
			l.pos = start + l.operator(start)
		}
	}
	return nil
}

// lineEnd returns where the line that pos is in ends, without its newline.
func (l *lexer) lineEnd() int {
	if i := strings.IndexByte(l.src[l.pos:], '\n'); i >= 0 {
		return l.pos + i
	}
	return len(l.src)
}

func (l *lexer) add(kind tokenKind, text string) {
	l.tokens = append(l.tokens, token{kind, text})
}

// quoted reads the rest of a string. One that is not closed ends with its line.
func (l *lexer) quoted(quote byte) error {
	start := l.pos
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == quote:
			l.add(quoted, l.src[start:l.pos])
			l.pos++
			return nil
		case c == '\n':
			l.add(quoted, l.src[start:l.pos])
			return nil
		case c == '\\' && l.pos+1 < len(l.src) && l.src[l.pos+1] != '\n':
			l.pos += 2
		case c == '$':
			if err := l.reference(); err != nil {
				return err
			}
		default:
			l.pos++
		}
	}
	l.add(quoted, l.src[start:])
	return nil
}

// word reads a word, with the references in it.
func (l *lexer) word() error {
	start, kind := l.pos, word
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		if c == '$' {
			kind = macro
			if err := l.reference(); err != nil {
				return err
			}
		} else if isWordByte(c) || c == '/' || c == '.' {
			l.pos++
		} else {
			break
		}
	}
	l.add(kind, l.src[start:l.pos])
	return nil
}

// reference reads "$", with the "(...)" that may follow it on its line:
// expand_dollar_with_args() in scripts/kconfig/preprocess.c.
func (l *lexer) reference() error {
	start := l.pos
	l.pos++
	if !strings.HasPrefix(l.src[l.pos:], "(") {
		return nil
	}
	end := l.lineEnd()
	for depth := 0; l.pos < end; l.pos++ {
		switch l.src[l.pos] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				l.pos++
				return nil
			}
		}
	}
	return l.fault(l.line, "the reference %s is not closed in its line", clip(l.src[start:end]))
}

// operator adds the operator at i and returns its length in bytes, 1 for a
// character that is none. The value of an assignment is left out.
func (l *lexer) operator(i int) int {
	if len(l.tokens) == 1 && l.tokens[0].kind <= macro {
		for _, op := range [...]string{"=", ":=", "+="} {
			if strings.HasPrefix(l.src[i:], op) {
				l.add(assign, op)
				return l.lineEnd() - i
			}
		}
	}
	for _, op := range [...]string{"||", "&&", "!=", "<=", ">=", "=", "<", ">", "!", "(", ")"} {
		if strings.HasPrefix(l.src[i:], op) {
			l.add(operator, op)
			return len(op)
		}
	}
	return 1
}

// help reads a help text, from the line behind its keyword to the line that is
// indented less than its first line. It returns the last line that is not
// blank, or 0.
func (l *lexer) help() (last int) {
	first := 0 // columns that the first line is indented by; tabs count to 8
	for l.pos < len(l.src) {
		text, indent := l.pos, 0
		for text < len(l.src) && (l.src[text] == ' ' || l.src[text] == '\t') {
			if l.src[text] == '\t' {
				indent = indent&^7 + 8
			} else {
				indent++
			}
			text++
		}
		if text < len(l.src) && l.src[text] != '\n' {
			if indent < first {
				return last
			}
			if first == 0 {
				first = indent
			}
			last = l.line
		}
		if l.pos = l.lineEnd(); l.pos == len(l.src) {
			return last
		}
		l.pos++
		l.line++
		// A line in column 0 ends the text, but for the one right behind
		// the keyword, which belongs to it.
		if l.pos < len(l.src) && !isBlankByte(l.src[l.pos]) {
			return last
		}
	}
	return last
}

func isBlankByte(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }

// unquote returns a string's text without the escapes. References stay as
// they are written.
func unquote(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// clip makes s fit for a message: short, and without what would move a
// terminal's cursor.
func clip(s string) string {
	const most = 50 // characters
	r := []rune(s[:min(len(s), 4*most+4)])
	if len(r) > most {
		r = append(r[:most-1], '…')
	}
	for i := range r {
		if !unicode.IsPrint(r[i]) {
			r[i] = unicode.ReplacementChar
		}
	}
	return string(r)
}
