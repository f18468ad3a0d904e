package edit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// cEdit is an Edit at work on a C file.
type cEdit struct {
	Edit
	*source
	landmarks []snippet
	inside    []snippet
	added     snippet
	f         function
	body      *body
}

// applyC makes the edit in C.
func (e Edit) applyC(src []byte) ([]byte, Place, *Error) {
	c := &cEdit{Edit: e}
	if err := c.prepare(); err != nil {
		return nil, Place{}, err
	}
	var err error
	if c.source, err = tokenize(src); err != nil {
		return nil, Place{}, c.unreadable(err)
	}
	if line := c.defined(); e.Put == Whole && line > 0 {
		return nil, Place{}, &Error{Kind: AlreadyThere, Line: line, Matches: 1, Problem: "the text of this edit is already there"}
	}
	if err := c.findFunction(); err != nil {
		return nil, Place{}, err
	}
	if err := c.readBody(); err != nil {
		return nil, Place{}, err
	}
	if e.Put == Whole {
		return c.whole()
	}
	m, fail := c.find()
	if fail != nil {
		return nil, Place{}, fail
	}
	if err := c.surroundings(m); err != nil {
		return nil, Place{}, err
	}
	at, fail := c.lines(m)
	if fail != nil {
		return nil, Place{}, fail
	}
	return put(src, at, e.Text), c.place(m), nil
}

// place tells of the statement that the text stands beside.
func (c *cEdit) place(m match) Place {
	where := ""
	if around := c.around(m); len(around) > 0 {
		var heads []string
		for _, s := range around {
			heads = append(heads, "in "+c.head(s, true))
		}
		where = cut(strings.Join(heads, ", "), 62) + ": "
	}
	first, last := m.first, m.last
	switch end, _ := c.body.run(first, last); c.Put {
	case After:
		first = c.body.stmts[end].first
	case Before:
		last = c.body.stmts[c.body.at[first]].last
	}
	return Place{
		Line: c.body.tok(first).line,
		How:  cut(fmt.Sprintf("%s%s %s", where, c.Put, strings.TrimSuffix(c.show(first, last, true), ";")), 100),
	}
}

// unreadable is the Error of C that cannot be followed.
func (c *cEdit) unreadable(err error) *Error {
	e := &Error{Kind: Unreadable}
	var line *sourceError
	var tok *bodyError
	switch {
	case errors.As(err, &line):
		e.Line, e.Problem = line.line, "the C cannot be followed: "+line.what
	case errors.As(err, &tok):
		e.Line = c.toks[tok.tok].line
		e.Problem = fmt.Sprintf("the statements of %s() cannot be followed: %s", c.Function, tok.what)
	}
	return e
}

// prepare reads the C of the edit itself.
func (c *cEdit) prepare() *Error {
	read := func(what, text string, check func(snippet) error) (snippet, *Error) {
		s, err := snip(text)
		if err == nil {
			err = check(s)
		}
		if err != nil {
			return s, &Error{Kind: BadEdit, Problem: fmt.Sprintf("the edit's %s %s: %v", what, quote(foldText(text), 60), err)}
		}
		return s, nil
	}
	for _, text := range c.Landmark {
		l, err := read("landmark", text, snippet.landmark)
		if err != nil {
			return err
		}
		same := func(other snippet) bool { return slices.Equal(l.words, other.words) }
		if !slices.ContainsFunc(c.landmarks, same) {
			c.landmarks = append(c.landmarks, l)
		}
	}
	for _, text := range c.Inside {
		in, err := read("surrounding", text, snippet.plain)
		if err != nil {
			return err
		}
		c.inside = append(c.inside, in)
	}
	var err *Error
	if c.added, err = read("text", c.Text, snippet.ended); err != nil {
		return err
	}
	if c.Put == Whole {
		return nil
	}
	if !c.goesOn() {
		_, err = read("text", c.Text, snippet.whole)
		return err
	}
	for _, text := range c.Landmark {
		if _, err := read("landmark and text", text+"\n"+c.Text, snippet.whole); err != nil {
			return err
		}
	}
	return nil
}

// goesOn reports whether the text is an else to the landmark's if, and whole
// only together with it.
func (c *cEdit) goesOn() bool {
	return c.Put == After && len(c.added.words) > 0 && c.added.words[0] == "else"
}

// snippet is C text of an Edit, cut into tokens.
type snippet struct {
	*source
	words []string // the text of each token
}

func snip(text string) (snippet, error) {
	s, err := tokenize([]byte(text))
	if err != nil {
		return snippet{}, err
	}
	n := snippet{source: s, words: make([]string, len(s.toks))}
	for i, t := range s.toks {
		n.words[i] = string(s.text(t))
	}
	return n, nil
}

// plain refuses preprocessor lines, which are no tokens and would not be compared.
func (s snippet) plain() error {
	if len(s.directives) > 0 {
		return errors.New("has a preprocessor line in it")
	}
	return nil
}

// landmark refuses what is not one or more whole statements.
func (s snippet) landmark() error {
	if len(s.toks) == 0 {
		return errors.New("holds no statement")
	}
	if s.words[len(s.words)-1] == ":" {
		return errors.New("ends in a label")
	}
	if err := s.plain(); err != nil {
		return err
	}
	return s.whole()
}

// ended refuses a last line that swallows the one behind it.
func (s snippet) ended() error {
	if bytes.HasSuffix(bytes.TrimRight(s.src, " \t\n"), []byte{'\\'}) {
		return errors.New("continues on the next line")
	}
	return nil
}

// whole refuses what begins a statement and does not end it.
func (s snippet) whole() error {
	if len(s.toks) == 0 {
		return nil
	}
	if _, err := s.statements(0, len(s.toks)); err != nil {
		return err
	}
	if !slices.Contains([]string{";", "}", ":"}, s.words[len(s.words)-1]) {
		return errors.New("does not end its last statement")
	}
	return nil
}

// findFunction finds the one definition with something in its body.
func (c *cEdit) findFunction() *Error {
	name := c.Function
	all := c.functions()
	var found, stubs []function
	for _, f := range all {
		switch {
		case f.name != name:
		case f.empty():
			stubs = append(stubs, f)
		default:
			found = append(found, f)
		}
	}
	switch {
	case len(found) > 1:
		lines := make([]int, len(found))
		for i, f := range found {
			lines[i] = f.line
		}
		return &Error{
			Kind: AmbiguousFunction, Line: lines[0], Matches: len(found),
			Problem: fmt.Sprintf("%s() is defined %d times, on %s", name, len(found), lineList(lines)),
		}
	case len(found) == 1 && found[0].fault != "":
		return &Error{
			Kind: Unreadable, Line: found[0].line, Matches: 1,
			Problem: fmt.Sprintf("%s of %s() cannot be followed", found[0].fault, name),
		}
	case len(found) == 1:
		c.f = found[0]
		return nil
	}
	e := &Error{Kind: NoFunction, Problem: fmt.Sprintf("no definition of %s()", name)}
	if len(stubs) > 0 {
		e.Line = stubs[0].line
		e.Problem += ", only an empty one"
	} else if what, line := c.mention(all); line > 0 {
		e.Line = line
		e.Problem += ", only " + what
	}
	if f, ok := nearestName(name, all); ok {
		e.Nearest, e.NearestLine = cut(f.name, 100)+"()", f.line
	}
	return e
}

// mention tells how and where the function's name occurs, though it is not defined.
func (c *cEdit) mention(all []function) (what string, line int) {
	for _, d := range c.directives {
		kind, rest := directiveName(c.src[d.pos:d.end])
		if kind == "define" && len(rest) > 0 && isLetter(rest[0]) {
			if end, _, _ := next(rest, 0); string(rest[:end]) == c.Function {
				return "a macro", d.line
			}
		}
	}
	for i, t := range c.toks {
		if t.kind != word || !c.is(i, c.Function) {
			continue
		}
		if i+1 == len(c.toks) || !c.is(i+1, "(") {
			return "a mention", t.line
		}
		for _, f := range all {
			if f.open < i && i < f.close {
				return "a call", t.line
			}
		}
		return "a declaration", t.line
	}
	for _, t := range c.dead {
		if t.kind == word && string(c.text(t)) == c.Function {
			return "a mention under #if 0", t.line
		}
	}
	return "", 0
}

// readBody parses the function's body. No conditional may stand partly inside it.
func (c *cEdit) readBody() *Error {
	from, to := c.toks[c.f.open].pos, c.toks[c.f.close].pos
	in := func(pos int) bool { return pos > from && pos < to }
	for _, d := range c.conditionals {
		inside := 0
		for _, p := range d.parts {
			if in(p.pos) {
				inside++
			}
		}
		if endIn := in(d.end - 1); inside > 0 && (inside < len(d.parts) || !endIn) || inside == 0 && endIn {
			return &Error{
				Kind: Unreadable, Line: d.line, Matches: 1,
				Problem: fmt.Sprintf("the %s stands partly inside %s() and partly outside", d.parts[0].show(), c.Function),
			}
		}
	}
	var err error
	if c.body, err = c.statements(c.f.open+1, c.f.close); err != nil {
		return c.unreadable(err)
	}
	return nil
}

// show is the directive for people.
func (p part) show() string { return cut(strings.ReplaceAll(p.text, `\ `, ""), 60) }
