package edit

import "slices"

// body is the statements of a function, or of a landmark, as a tree over
// source.toks[lo:hi]. Indexes into it count from lo.
type body struct {
	s      *source
	lo, hi int
	pair   []int // for a bracket, the one that closes or opens it
	around []int // the bracket directly around a token, -1 = none
	stmts  []stmt
	at     []int // for a token, the statement that begins there, -1 = none
	block  []int // for a brace, the scope that it opens, -1 = none
	scopes []scope
}

// stmt is a statement, a declaration or a label.
type stmt struct {
	first, last int
	scope       int
	leaf        bool // holds no statement of its own
}

// scope is what stands around a statement: braces with the head before them,
// such as "if (x)", or a head alone. Scope 0 is the function's body.
type scope struct {
	parent      int          // -1 for the function's body
	first, last int          // of the head; first > last: no head
	braced      bool         // between braces, and not under a head alone
	torn        *conditional // cuts a statement directly inside in two; nil = none does
}

// bodyError tells where the statements cannot be followed.
type bodyError struct {
	tok  int // in source.toks
	what string
}

func (e *bodyError) Error() string { return e.what }

// statements parses source.toks[lo:hi], which stand between two braces.
func (s *source) statements(lo, hi int) (*body, error) {
	b := &body{s: s, lo: lo, hi: hi}
	n := hi - lo
	b.pair, b.around, b.at, b.block = make([]int, n), make([]int, n), make([]int, n), make([]int, n)
	for i := range n {
		b.pair[i], b.around[i], b.at[i], b.block[i] = -1, -1, -1, -1
	}
	if err := b.brackets(); err != nil {
		return nil, err
	}
	b.scopes = append(b.scopes, scope{parent: -1, last: -1, braced: true})
	if err := b.list(0, n, 0, 0); err != nil {
		return nil, err
	}
	b.tear()
	return b, nil
}

func (b *body) is(i int, text string) bool { return b.s.is(b.lo+i, text) }
func (b *body) tok(i int) token            { return b.s.toks[b.lo+i] }

func (b *body) fault(i int, what string) error { return &bodyError{b.lo + i, what} }

// brackets pairs (, [ and { with what closes them.
func (b *body) brackets() error {
	var open []int
	for i := range b.pair {
		if len(open) > 0 {
			b.around[i] = open[len(open)-1]
		}
		t := b.tok(i)
		if t.kind == broken {
			return b.fault(i, "a string or character constant that does not end")
		}
		if t.kind != punct || t.end-t.pos != 1 {
			continue
		}
		switch c := b.s.src[t.pos]; c {
		case '(', '[', '{':
			if len(open) == maxNesting {
				return b.fault(i, "brackets nested too deeply")
			}
			open = append(open, i)
		case ')', ']', '}':
			if len(open) == 0 || closes[b.s.src[b.tok(open[len(open)-1]).pos]] != c {
				return b.fault(i, "a bracket that closes nothing")
			}
			o := open[len(open)-1]
			open = open[:len(open)-1]
			b.pair[o], b.pair[i] = i, o
			if b.around[i] = -1; len(open) > 0 {
				b.around[i] = open[len(open)-1]
			}
		}
	}
	if len(open) > 0 {
		return b.fault(open[len(open)-1], "a bracket that is never closed")
	}
	return nil
}

var closes = map[byte]byte{'(': ')', '[': ']', '{': '}'}

// list parses the statements from i to end.
func (b *body) list(i, end, scope, depth int) error {
	for i < end {
		var err error
		if i, err = b.statement(i, end, scope, depth); err != nil {
			return err
		}
	}
	return nil
}

// statement parses the statement at i, which ends before end, and returns
// what stands behind it. A label is a statement of its own here.
func (b *body) statement(i, end, in, depth int) (int, error) {
	if depth == maxNesting {
		return 0, b.fault(i, "statements nested too deeply")
	}
	id := len(b.stmts)
	b.stmts = append(b.stmts, stmt{first: i, scope: in})
	b.at[i] = id
	next, leaf, err := b.statementEnd(i, end, in, depth)
	b.stmts[id].last, b.stmts[id].leaf = next-1, leaf
	return next, err
}

func (b *body) statementEnd(i, end, in, depth int) (next int, leaf bool, err error) {
	if b.is(i, "{") {
		next, err = b.under(i, end, in, depth, i, i-1)
		return next, false, err
	}
	if b.tok(i).kind == word {
		name := string(b.s.text(b.tok(i)))
		switch name {
		case "if":
			next, err = b.ifElse(i, end, in, depth)
			return next, false, err
		case "for", "while", "switch":
			last, err := b.parens(i+1, end)
			if err != nil {
				return 0, false, err
			}
			next, err = b.under(last+1, end, in, depth, i, last)
			return next, false, err
		case "do":
			next, err = b.doWhile(i, end, in, depth)
			return next, false, err
		case "else":
			return 0, false, b.fault(i, "an else without if")
		case "case", "default":
			next, err = b.caseEnd(i, end)
			return next, true, err
		}
		if i+1 < end {
			switch {
			case b.is(i+1, ":"):
				return i + 2, true, nil
			case keywords[name] || prefixes[name]:
				// A parenthesis or a brace behind it is part of an expression or a type.
			case b.is(i+1, "{"):
				// A macro that is the head of a block.
				next, err = b.under(i+1, end, in, depth, i, i)
				return next, false, err
			case b.is(i+1, "("):
				last := b.pair[i+1]
				if last+1 == end || b.is(last+1, "else") || b.is(last+1, "case") || b.is(last+1, "default") {
					return last + 1, true, nil // a macro without semicolon
				}
				// A macro such as list_for_each_entry(), or one without
				// semicolon: what follows may be its to run or not.
				if after := b.tok(last + 1); after.kind == word || b.is(last+1, "{") {
					next, err = b.under(last+1, end, in, depth, i, last)
					return next, false, err
				}
			}
		}
	}
	for j := i; j < end; j++ {
		switch {
		case b.is(j, ";"):
			return j + 1, true, nil
		case b.pair[j] > j:
			j = b.pair[j]
		}
	}
	return end, true, nil
}

// under parses the statement at i that stands under the head from first to last.
func (b *body) under(i, end, in, depth, first, last int) (int, error) {
	if i >= end {
		return 0, b.fault(end-1, "a statement is missing")
	}
	id := len(b.scopes)
	b.scopes = append(b.scopes, scope{parent: in, first: first, last: last, braced: b.is(i, "{")})
	if b.is(i, "{") {
		b.block[i] = id
		return b.pair[i] + 1, b.list(i+1, b.pair[i], id, depth+1)
	}
	for {
		next, err := b.statement(i, end, id, depth+1)
		if err != nil || !b.is(next-1, ":") || next == end {
			return next, err
		}
		i = next // the statement that the label names
	}
}

func (b *body) ifElse(i, end, in, depth int) (int, error) {
	first := i
	for {
		last, err := b.parens(i+1, end)
		if err != nil {
			return 0, err
		}
		next, err := b.under(last+1, end, in, depth, first, last)
		if err != nil || next == end || !b.is(next, "else") {
			return next, err
		}
		if next+1 < end && b.is(next+1, "if") {
			first, i = next, next+1
			continue
		}
		return b.under(next+1, end, in, depth, next, next)
	}
}

func (b *body) doWhile(i, end, in, depth int) (int, error) {
	next, err := b.under(i+1, end, in, depth, i, i)
	if err != nil {
		return 0, err
	}
	if next == end || b.tok(next).kind != word { // while, or a macro such as while_each_thread()
		return 0, b.fault(i, "a do without while")
	}
	last, err := b.parens(next+1, end)
	if err != nil {
		return 0, err
	}
	if last+1 < end && b.is(last+1, ";") {
		last++
	}
	return last + 1, nil
}

// parens returns the parenthesis that closes the one that must stand at i.
func (b *body) parens(i, end int) (int, error) {
	if i >= end || !b.is(i, "(") {
		return 0, b.fault(i-1, "a condition is missing")
	}
	return b.pair[i], nil
}

// caseEnd returns what stands behind the colon of the case or default at i.
func (b *body) caseEnd(i, end int) (int, error) {
	choices := 0
	for j := i; j < end; j++ {
		switch {
		case b.pair[j] > j:
			j = b.pair[j]
		case b.is(j, "?"):
			choices++
		case b.is(j, ":") && choices > 0:
			choices--
		case b.is(j, ":"):
			return j + 1, nil
		case b.is(j, ";"):
			return 0, b.fault(i, "a case without colon")
		}
	}
	return 0, b.fault(i, "a case without colon")
}

// run returns the statement with which the sequence of statements ends that
// begins with first and whose last token is last. !ok: the tokens are no
// sequence of whole statements directly between braces.
func (b *body) run(first, last int) (end int, ok bool) {
	if first >= len(b.at) || b.at[first] < 0 {
		return 0, false
	}
	end = b.at[first]
	if !b.scopes[b.stmts[end].scope].braced {
		return 0, false
	}
	for b.stmts[end].last < last {
		next := b.stmts[end].last + 1
		if next >= len(b.at) || b.at[next] < 0 {
			return 0, false
		}
		end = b.at[next]
	}
	return end, b.stmts[end].last == last
}

// innermost is the last statement to begin at token i or before; -1 = none.
func (b *body) innermost(i int) int {
	n, exact := slices.BinarySearchFunc(b.stmts, i, func(s stmt, i int) int { return s.first - i })
	if exact {
		return n
	}
	return n - 1
}

// tear marks the scopes whose statements depend on a preprocessor conditional.
//
// All branches were parsed one behind the other. That gives the statements of
// every configuration as long as each branch holds whole statements, or
// stands inside brackets or an expression without ending it. Otherwise
// ("if (x)" under an #ifdef) what stands around it is one thing here and
// another there.
func (b *body) tear() {
	for n := range b.s.conditionals {
		c := &b.s.conditionals[n]
		from, to := c.parts[0].tok-b.lo, b.s.ends[n]-b.lo
		if from < 0 || to > len(b.at) || from >= to {
			continue
		}
		o := b.around[from]
		for o >= 0 && b.pair[o] < to {
			o = b.around[o]
		}
		in := 0
		if o >= 0 {
			in = b.block[o]
		}
		if in < 0 || b.within(from, to) {
			continue // in brackets that open no block, or in an expression
		}
		for k, p := range c.parts {
			x, y := p.tok-b.lo, to
			if k+1 < len(c.parts) {
				y = c.parts[k+1].tok - b.lo
			}
			if x < y && !b.whole(x, y, in) {
				b.scopes[in].torn = c
			}
		}
	}
}

// whole reports whether tokens x to y are whole statements directly in a scope.
// A macro without semicolon that stands before them may take up what follows.
func (b *body) whole(x, y, in int) bool {
	ended := x == 0 || slices.Contains([]string{";", "{", "}", ":"}, string(b.s.text(b.tok(x-1))))
	end, ok := b.run(x, y-1)
	return ok && b.stmts[end].scope == in && ended
}

// within reports whether tokens x to y stand inside one simple statement that
// begins before and ends after them.
func (b *body) within(x, y int) bool {
	i := b.innermost(x - 1)
	return i >= 0 && b.stmts[i].leaf && b.stmts[i].last >= y
}
