package edit

// function is a definition in a C file, by indexes into source.toks.
type function struct {
	name        string
	at          int // its own name
	first       int // where its declaration begins
	open, close int // the braces of its body
	line        int
	fault       string // what of it cannot be followed, "" if all can
}

// empty reports whether the body holds nothing, as in the stubs that headers
// define for what is configured out.
func (f function) empty() bool { return f.fault == "" && f.close == f.open+1 }

// prefixes are the words that take arguments in front of a function's name
// or behind its parameters, and are never the name.
var prefixes = map[string]bool{
	"__attribute__": true, "__attribute": true, "__declspec": true, "asm": true, "__asm__": true, "__asm": true,
	"typeof": true, "__typeof__": true, "__typeof": true, "_Alignas": true, "__aligned": true, "__section": true,
	"__printf": true, "__scanf": true, "__alloc_size": true, "__assume_aligned": true, "__malloc": true,
	"__acquires": true, "__releases": true, "__must_hold": true, "__cond_acquires": true, "__cond_lock": true,
	"__no_sanitize": true, "__nonnull": true, "__diagnose_as": true, "__counted_by": true,
	"_Static_assert": true, "static_assert": true,
}

// keywords that stand before a parenthesis or a brace, and are no names.
var keywords = map[string]bool{
	"if": true, "for": true, "while": true, "switch": true, "do": true, "else": true, "return": true, "sizeof": true,
	"case": true, "default": true, "goto": true, "struct": true, "union": true, "enum": true,
}

// item is what a declaration outside all brackets is made of: a word, with the
// parenthesis behind it if there is one, or another token.
type item struct {
	tok    int
	word   string
	parens bool
}

// functions finds the definitions of a file in one pass: at file level, a name
// with a parameter list and a brace. A body ends at the brace in column 0, as
// Documentation/process/coding-style.rst has it, and the count of braces over
// all lines must come to the same place.
func (s *source) functions() []function {
	var found []function
	var decl []item
	assigned := false // the declaration has an initializer
	reset := func() { decl, assigned = decl[:0], false }
	for i := 0; i < len(s.toks); i++ {
		switch {
		case s.is(i, ";"):
			reset()
		case s.is(i, "}"):
			reset() // what is left of a body that could not be followed
		case s.is(i, "="):
			assigned = true
		case s.is(i, "("), s.is(i, "["):
			end, ok := s.closing(i)
			if !ok {
				// The branches of an #if each open what they share the end of.
				for j := i - 1; j < end; j++ {
					if f, ok := s.torn(j, i, end); ok {
						found = append(found, f)
					}
				}
				reset()
				i = end - 1
				break
			}
			if n := len(decl); s.is(i, "(") && n > 0 && decl[n-1].tok == i-1 && decl[n-1].word != "" {
				decl[n-1].parens = true
			}
			i = end
		case s.is(i, "{"):
			if at := definedName(decl); at >= 0 && !assigned {
				f := function{name: string(s.text(s.toks[at])), at: at, first: decl[0].tok, open: i, line: s.toks[at].line}
				f.close, f.fault = s.bodyEnd(i)
				found = append(found, f)
				i = f.close
			} else {
				i = s.skipBraces(i)
			}
			reset()
		default:
			it := item{tok: i}
			if s.toks[i].kind == word {
				it.word = string(s.text(s.toks[i]))
			}
			decl = append(decl, it)
		}
	}
	return found
}

// definedName picks the name being defined from the declaration before a
// brace: a word with parameters, behind which stand attributes only. -1: the
// brace opens no function.
func definedName(decl []item) int {
	if definesType(decl) {
		return -1
	}
	name, last := -1, -1
	for _, it := range decl {
		switch {
		case name >= 0 && attribute(it.word):
		case it.parens && !prefixes[it.word] && !keywords[it.word]:
			name, last = it.tok, it.tok
		default:
			name = -1
		}
	}
	if name < 0 {
		return last // behind it stands an attribute that we don't know
	}
	return name
}

// definesType reports whether the brace behind decl opens a struct, a union or
// an enum: the keyword, attributes, and the tag if it has one.
func definesType(decl []item) bool {
	i := len(decl) - 1
	tag := i >= 0 && decl[i].word != "" && !decl[i].parens && !typeKeyword[decl[i].word]
	if tag {
		i--
	}
	// Without a tag, "struct __a __b()" may as well be a function __b().
	for i >= 0 && (prefixes[decl[i].word] || tag && attribute(decl[i].word)) {
		i--
	}
	return i >= 0 && typeKeyword[decl[i].word]
}

var typeKeyword = map[string]bool{"struct": true, "union": true, "enum": true}

// attribute reports whether a word behind the parameters may be an attribute.
func attribute(word string) bool {
	return prefixes[word] || len(word) > 2 && word[:2] == "__"
}

// closing returns the index of the bracket that closes the one at i. With !ok
// there is none before a brace in column 0, whose index it returns.
func (s *source) closing(i int) (int, bool) {
	depth := 0
	for j := i; j < len(s.toks); j++ {
		if s.toks[j].kind != punct || s.toks[j].end-s.toks[j].pos != 1 {
			continue
		}
		switch s.src[s.toks[j].pos] {
		case '(', '[':
			depth++
		case ')', ']':
			if depth--; depth == 0 {
				return j, true
			}
		case '{', '}':
			if s.column0(j) {
				return j, false
			}
		}
	}
	return len(s.toks), false
}

func (s *source) column0(i int) bool {
	p := s.toks[i].pos
	return p == 0 || s.src[p-1] == '\n'
}

// torn is the function whose name may stand at j, in a declaration whose
// parenthesis from open on does not close before the brace at end.
func (s *source) torn(j, open, end int) (function, bool) {
	if j < 0 || j+1 >= len(s.toks) || s.toks[j].kind != word || !s.is(j+1, "(") || end >= len(s.toks) || !s.is(end, "{") {
		return function{}, false
	}
	name := string(s.text(s.toks[j]))
	if prefixes[name] || keywords[name] {
		return function{}, false
	}
	return function{
		name: name, at: j, first: j, line: s.toks[j].line, open: end, close: end,
		fault: "the parameters",
	}, true
}

// bodyEnd returns the brace that closes the body opened at i, and what is
// wrong where the count of braces and column 0 disagree.
func (s *source) bodyEnd(i int) (int, string) {
	depth := 0
	for j := i; j < len(s.toks); j++ {
		switch {
		case s.is(j, "{"):
			depth++
		case s.is(j, "}"):
			depth--
			switch at0 := s.column0(j); {
			case depth == 0 && (at0 || s.toks[j].line == s.toks[i].line):
				return j, ""
			case depth == 0 || at0:
				return j, "the braces"
			}
		}
	}
	return len(s.toks) - 1, "the braces"
}

// skipBraces returns the brace that closes the one at i, of a type or an
// initializer; one in column 0 does in any case.
func (s *source) skipBraces(i int) int {
	depth := 0
	for j := i; j < len(s.toks); j++ {
		switch {
		case s.is(j, "{"):
			depth++
		case s.is(j, "}"):
			depth--
			if depth == 0 || s.column0(j) {
				return j
			}
		}
	}
	return len(s.toks) - 1
}
