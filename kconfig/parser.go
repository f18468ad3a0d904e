package kconfig

import (
	"bytes"
	"fmt"
	"strings"

	"patchgen/edit"
)

// File is a Kconfig file as it is written: what it sources is not read, and
// macros are not expanded.
type File struct {
	name    string
	src     string
	lines   []int // where each line begins in src
	entries []entry
}

// An entry is a statement that is no attribute of another one. Lines count
// from 1.
type entry struct {
	keyword string // config, menuconfig, choice, menu, if, comment, source, mainmenu; = is an assignment, $ a macro on its own
	name    string // the symbol, the prompt or the condition
	parent  int    // the menu, if or choice around it; -1 at the top level of the file
	first   int
	head    int // the last line of its own attributes and help text
	last    int // head, or where its endmenu, endif or endchoice stands
}

// String tells people which entry it is.
func (e entry) String() string {
	if e.keyword == "menu" {
		return fmt.Sprintf("menu %q", clip(e.name))
	}
	return strings.TrimSpace(e.keyword + " " + clip(e.name))
}

// isSymbol tells if e defines the symbol that it is called by.
func (e entry) isSymbol() bool { return e.keyword == "config" || e.keyword == "menuconfig" }

// mostNested is how deep menus, ifs and choices may stand in each other.
const mostNested = 1000

// Parse reads a Kconfig file, as the kernel's scripts/kconfig/parser.y does;
// what older kernels had passes too, and what conf only warns of. file is its
// name, for messages. The error is an *edit.Error with the line.
func Parse(file string, src []byte) (*File, error) {
	f := &File{name: file, src: string(src)}
	for at := 0; at < len(src); {
		f.lines = append(f.lines, at)
		if i := bytes.IndexByte(src[at:], '\n'); i >= 0 {
			at += i + 1
		} else {
			at = len(src)
		}
	}
	p := &parser{lexer: lexer{file: file, src: f.src, line: 1}, f: f, current: -1}
	if len(f.lines) > 0 && strings.HasSuffix(f.line(1), "\r") {
		return nil, p.fault(1, "its lines end in CR LF, as on DOS, which conf does not read")
	}
	for p.pos < len(p.src) {
		first := p.line
		if isConflictMark(p.src[p.pos:]) {
			err := p.fault(first, "a merge left its conflict marks here")
			err.Kind = edit.ConflictMarks
			return nil, err
		}
		if err := p.statement(); err != nil {
			return nil, err
		}
		last := p.line
		if p.src[p.pos-1] == '\n' {
			last--
		}
		if problem := p.build(first, last); problem != "" {
			if len(p.open) > 0 {
				problem += "; this is in " + p.innermost()
			}
			return nil, p.fault(first, "%s", problem)
		}
	}
	if len(p.open) > 0 {
		return nil, p.fault(len(f.lines), "the file ends in %s", p.innermost())
	}
	return f, nil
}

// line returns line n, without its newline.
func (f *File) line(n int) string {
	if n < len(f.lines) {
		return f.src[f.lines[n-1] : f.lines[n]-1]
	}
	return strings.TrimSuffix(f.src[f.lines[n-1]:], "\n")
}

// isConflictMark tells if s begins as git marks a conflict. No statement does.
func isConflictMark(s string) bool {
	return strings.HasPrefix(s, "<<<<<<<") || strings.HasPrefix(s, "=======") || strings.HasPrefix(s, ">>>>>>>")
}

// parser builds a File from its statements.
type parser struct {
	lexer
	f       *File
	open    []int // the menus, ifs and choices not closed yet
	current int   // the entry that takes attributes, -1 if none does
}

// innermost tells people what is open, and since where.
func (p *parser) innermost() string {
	e := p.f.entries[p.open[len(p.open)-1]]
	return fmt.Sprintf("%s, open since line %d", e, e.first)
}

// build takes in the statement that was read from lines first to last. It
// returns what is wrong with it, for people, or "".
func (p *parser) build(first, last int) (problem string) {
	tokens := p.tokens
	// A macro in front comes to nothing, or conf refuses the line.
	for len(tokens) > 0 && tokens[0].kind == macro && !isAssignment(tokens) {
		tokens = tokens[1:]
	}
	if len(tokens) == 0 {
		if len(p.tokens) > 0 && p.current < 0 {
			p.add("$", "", first, last)
		} else if len(p.tokens) > 0 {
			p.extend(last)
		}
		return ""
	}
	keyword, a := "", arguments{tokens: tokens[1:]}
	if tokens[0].kind == word {
		keyword = tokens[0].text
	}
	name, known := a.read(keyword)
	switch {
	case a.problem != "":
		return keyword + " " + a.problem
	case !known && isAssignment(tokens):
		p.add("=", tokens[0].text, first, last)
		p.current = -1
		return ""
	case !known:
		return fmt.Sprintf("no statement begins with %q", clip(tokens[0].text))
	}
	switch keyword {
	case "config", "menuconfig", "comment":
		p.add(keyword, name, first, last)
		p.current = len(p.f.entries) - 1
	case "mainmenu", "source", "rsource", "osource", "orsource":
		p.add(keyword, name, first, last)
		p.current = -1
	case "menu", "choice", "if":
		for _, i := range p.open {
			if keyword != "if" && p.f.entries[i].keyword == "choice" {
				return keyword + " can't stand in a choice"
			}
		}
		if len(p.open) == mostNested {
			return fmt.Sprintf("more than %d menus, choices and ifs stand in each other", mostNested)
		}
		p.add(keyword, name, first, last)
		p.open = append(p.open, len(p.f.entries)-1)
		p.current = len(p.f.entries) - 1
	case "endmenu", "endchoice", "endif":
		if len(p.open) == 0 {
			return keyword + " has nothing to close"
		}
		e := &p.f.entries[p.open[len(p.open)-1]]
		if keyword != "end"+e.keyword {
			return keyword + " does not close what is open"
		}
		e.last = last
		p.open = p.open[:len(p.open)-1]
		p.current = -1
	default:
		if p.current < 0 || !p.f.entries[p.current].takes(keyword) {
			return keyword + " does not belong to the statement before it"
		}
		if keyword == "help" || keyword == "---help---" {
			last = max(last, p.help())
		}
		p.extend(last)
	}
	return ""
}

func isAssignment(tokens []token) bool { return len(tokens) == 2 && tokens[1].kind == assign }

// add appends an entry whose first statement is in lines first to last.
func (p *parser) add(keyword, name string, first, last int) {
	parent := -1
	if len(p.open) > 0 {
		parent = p.open[len(p.open)-1]
	}
	p.f.entries = append(p.f.entries, entry{keyword, name, parent, first, last, last})
}

// extend makes the current entry reach to line last.
func (p *parser) extend(last int) {
	e := &p.f.entries[p.current]
	e.head, e.last = last, last
}

// takes tells if e can have the attribute.
func (e entry) takes(attribute string) bool {
	switch e.keyword {
	case "config", "menuconfig":
		return attribute != "visible" && attribute != "optional"
	case "choice":
		switch attribute {
		case "prompt", "default", "depends", "help", "---help---", "optional", "bool", "boolean", "tristate":
			return true
		}
	case "menu":
		return attribute == "depends" || attribute == "visible"
	case "comment":
		return attribute == "depends"
	}
	return false
}

// arguments are what stands behind a keyword. Each method takes off the front
// what it is named for; the first problem stays.
type arguments struct {
	tokens  []token
	problem string
}

// read reads what stands behind keyword, and tells if it is one at all. name
// is what an entry of this kind is called by.
func (a *arguments) read(keyword string) (name string, known bool) {
	switch keyword {
	case "config", "menuconfig":
		name = a.symbol()
	case "menu", "comment", "mainmenu", "source", "rsource", "osource", "orsource":
		name = a.prompt()
	case "choice": // older kernels let it have a name
		if len(a.tokens) > 0 {
			name = a.symbol()
		}
	case "if":
		name = join(a.tokens)
		a.expression()
	case "bool", "boolean", "tristate", "string", "hex", "int":
		if len(a.tokens) > 0 {
			a.prompt()
		}
		a.condition()
	case "prompt":
		a.prompt()
		a.condition()
	case "default", "def_bool", "def_tristate":
		a.expression()
		a.condition()
	case "depends":
		if a.next().text != "on" {
			a.fail(`wants "on" behind it`)
		}
		a.expression()
		a.condition()
	case "select", "imply":
		a.symbol()
		a.condition()
	case "range":
		a.operand()
		a.operand()
		a.condition()
	case "visible":
		a.condition()
	case "option": // of older kernels, in several forms
		a.tokens = nil
	case "endmenu", "endchoice", "endif", "help", "---help---", "optional", "modules", "transitional":
	default:
		return "", false
	}
	for _, t := range a.tokens {
		if t.kind != macro { // one that comes to nothing does no harm
			a.fail(fmt.Sprintf("wants nothing more before %q", clip(t.text)))
		}
	}
	return name, true
}

func (a *arguments) fail(problem string) {
	if a.problem == "" {
		a.problem = problem
	}
}

// next takes the next token, an empty operator at the end.
func (a *arguments) next() token {
	if len(a.tokens) == 0 {
		return token{kind: operator}
	}
	t := a.tokens[0]
	a.tokens = a.tokens[1:]
	return t
}

func (a *arguments) symbol() string {
	t := a.next()
	if t.kind != word && t.kind != macro {
		a.fail("wants a symbol")
	}
	return t.text
}

// prompt takes a text; older kernels let a single word go without quotes.
func (a *arguments) prompt() string {
	t := a.next()
	if t.kind != quoted && t.kind != word || t == ifWord {
		a.fail("wants a text in quotes")
	}
	return unquote(t.text)
}

func (a *arguments) operand() {
	if t := a.next(); t.kind > quoted || t == ifWord {
		a.fail("wants a symbol or a value")
	}
}

// condition takes "if" and an expression, where there is one.
func (a *arguments) condition() {
	if len(a.tokens) > 0 && a.tokens[0] == ifWord {
		a.next()
		a.expression()
	}
}

// ifWord is what ends an expression.
var ifWord = token{word, "if"}

// join returns the tokens' text with one space between them.
func join(tokens []token) string {
	texts := make([]string, len(tokens))
	for i, t := range tokens {
		texts[i] = t.text
	}
	return strings.Join(texts, " ")
}

func (a *arguments) expression() {
	const (
		begin = iota // wants an expression
		left         // stands behind an operand, which may be compared
		right        // wants what to compare with
		whole        // stands behind an expression that can't be compared
	)
	state, depth := begin, 0
	for len(a.tokens) > 0 && a.tokens[0] != ifWord {
		t := a.next()
		ok := true
		switch complete := state == left || state == whole; {
		case t.kind == macro && complete: // it comes to nothing
		case t.kind <= quoted:
			ok = !complete
			if state == right {
				state = whole
			} else {
				state = left
			}
		case t.text == "!":
			ok = state == begin
		case t.text == "(":
			ok = state == begin
			depth++
		case t.text == ")":
			ok = complete && depth > 0
			depth--
			state = whole
		case t.text == "||" || t.text == "&&":
			ok = complete
			state = begin
		default: // a comparison
			ok = state == left
			state = right
		}
		if !ok {
			a.fail(fmt.Sprintf("has an expression that breaks at %q", clip(t.text)))
			return
		}
	}
	switch {
	case state == begin || state == right:
		a.fail("wants an expression that is complete")
	case depth > 0:
		a.fail(`has an expression with a "(" that is not closed`)
	}
}
