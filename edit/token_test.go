package edit

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTokenize(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"words", "int _a1 $b __c", "int _a1 $b __c"},
		{"numbers", "0x1fUL 1.5e+3 .5 1e-5f 0x1p-3 1...5 0xe+1", "0x1fUL 1.5e+3 .5 1e-5f 0x1p-3 1...5 0xe+1"},
		{"range", "1 ... 5", "1 ... 5"},
		{"longest punctuator", "a->b+++c<<=d>>e>=f...g##h", "a -> b ++ + c <<= d >> e >= f ... g ## h"},
		{"single punctuators", "(a)[b]{c}~!%^&*-=|?:;,.<>/", "( a ) [ b ] { c } ~ ! % ^ & * -= | ? : ; , . < > /"},
		{"strings", `"a\"b" 'c' '\'' L"d" "\\"`, `"a\"b" 'c' '\'' L "d" "\\"`},
		{"string of two lines", "\"a\\\nb\" c", "\"a\\\nb\" c"},
		{"string that does not end", "\"a\nb", "\"a b"},
		{"comments", "a/* b */c//d\ne//f\\\ng\nh/**/i/*/ */j", "a c e h i j"},
		{"no comment in a string", `"/*" a "//" b`, `"/*" a "//" b`},
		{"directives", "#define a b\n  #  if c\nd\n#endif\n/* */ #define e\\\nf /* g\nh */ i\nj # k", "d j # k"},
		{"quotes in directives", "#error don't /* a\nb */ c\n#define d \"/*\" '\"'\ne", "e"},
		{"splices", "a\\\nb \\  \nc", "a b c"},
		{"backslash", "a \\ b", "a \\ b"},
		{"other bytes", "a @ ` \x01 \xff\xfe b", "a @ ` \x01 \xff\xfe b"},
		{"#if 0", "a\n#if 0\nb \"\n#if 1\nc\n#else\nd\n#endif\n#else\ne\n#endif\nf", "a e f"},
		{"empty", "", ""},
		{"no line end", "#define", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := tokenize([]byte(tt.src))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, k := range s.toks {
				got = append(got, string(s.text(k)))
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			checkTokens(t, tt.name, s)
		})
	}
}

// checkTokens checks that tokens, comments and directives stand in order, on
// the lines they say, and leave out nothing but white space.
func checkTokens(t *testing.T, file string, s *source) {
	t.Helper()
	lines := make([]int, len(s.src)+1)
	line := 1
	for i, c := range s.src {
		lines[i] = line
		if c == '\n' {
			line++
		}
	}
	lines[len(s.src)] = line
	taken := make([]bool, len(s.src))
	take := func(pos, end, line, last int) {
		t.Helper()
		if pos < last || end <= pos || lines[pos] != line {
			t.Fatalf("%s: bytes %d to %d said to be on line %d, behind %d", file, pos, end, line, last)
		}
		for i := pos; i < end; i++ {
			if taken[i] {
				t.Fatalf("%s:%d: byte taken twice", file, lines[i])
			}
			taken[i] = true
		}
	}
	for _, toks := range [][]token{s.toks, s.dead} {
		last := 0
		for _, k := range toks {
			take(k.pos, k.end, k.line, last)
			last = k.end
		}
	}
	for _, spans := range [][]span{s.comments, s.directives} {
		last := 0
		for _, c := range spans {
			take(c.pos, c.end, c.line, last)
			if lines[c.end] != c.endLine {
				t.Fatalf("%s:%d: ends on line %d, not %d", file, c.line, lines[c.end], c.endLine)
			}
			last = c.end
		}
	}
	for i, c := range s.src {
		if !taken[i] && !isSpace(c) && !(c == '\\' && splice(s.src, i) > 0) {
			t.Fatalf("%s:%d: byte %q is in nothing", file, lines[i], c)
		}
	}
}

// hostile are texts that a careless reader takes quadratic time for.
func hostile(n int) map[string]string {
	many := func(s string) string { return strings.Repeat(s, n/len(s)+1) }
	body := func(s string) string { return "int f(void)\n{\n" + s + "\n}\n" }
	return map[string]string{
		"open braces":             many("{\n"),
		"functions never closed":  many("f(){{\n}\n"),
		"parentheses":             many("("),
		"torn parentheses":        many("f(a\n{\n}\n"),
		"words":                   many("f(g("),
		"quotes in a directive":   "#error " + many(`"\`),
		"apostrophes":             "#error " + many(`'"`),
		"escapes":                 many(`\ `),
		"splices":                 many("\\\n"),
		"slashes":                 many("/*/"),
		"conditionals":            many("#if A\n#endif\n"),
		"deep conditionals":       strings.Repeat("#if A\n", 200) + body(many("a();\n")) + strings.Repeat("#endif\n", 200),
		"branches":                body("#if A\n" + many("a();\n#elif B\n") + "#endif"),
		"conditionals in a body":  body(many("#if A\na();\n#endif\n")),
		"torn conditionals":       body(many("#if A\nif (a)\n#endif\nb();\n")),
		"conditionals in parens":  body("a(" + many("\n#if A\nb,\n#endif\n") + ");"),
		"nested conditionals":     body(strings.Repeat("#if A\n", 200) + many("a();") + strings.Repeat("\n#endif", 200)),
		"else if":                 body(many("if (a) b(); else ") + ";"),
		"deep statements":         body(strings.Repeat("if (a) {", 250) + many("b();") + strings.Repeat("}", 250)),
		"under many heads":        body(many(strings.Repeat("if (a) ", 250) + "b();\n")),
		"labels":                  body(many("a:")),
		"labels under a head":     body("if (a) " + many("a:") + ";"),
		"cases":                   body(many("case a ? b ? c : d : e:")),
		"landmarks":               body(many("sync(dev, x);\n")),
		"nearly landmarks":        body(many("sync(dev, y);\n")),
		"landmarks under heads":   body(many("if (a) sync(dev, x);\n")),
		"comments above":          body(many("/* a */\n") + "sync(dev, x);"),
		"comments behind":         body("sync(dev, x);" + many("/* a */")),
		"names":                   many("void sync_dma(void)\n{\n\ta();\n}\n"),
		"conflict marks":          many("<<<<<<< "),
		"equal signs":             many("=") + "\n" + many("=======\t\n"),
		"one long line":           many("a "),
		"dead landmarks":          body("#if 0\n" + many("sync(dev, ") + "\n#endif"),
		"unterminated statements": body(many("a(b) ")),
	}
}

func FuzzTokenize(f *testing.F) {
	for _, src := range hostile(100) {
		f.Add([]byte(src))
	}
	f.Add([]byte("#if 0\n\"a\n#else\nx->y /* c */ // d\\\n'\\''\n#endif"))
	f.Fuzz(func(t *testing.T, src []byte) {
		if bytes.IndexByte(src, 0) >= 0 {
			return
		}
		s, err := tokenize(src)
		if err != nil {
			return
		}
		checkTokens(t, "fuzz", s)
		for _, fn := range s.functions() {
			if fn.at < 0 || fn.open < fn.at || fn.close < fn.open || fn.close >= len(s.toks) {
				t.Fatalf("function %+v of %d tokens", fn, len(s.toks))
			}
			if fn.fault != "" {
				continue
			}
			b, err := s.statements(fn.open+1, fn.close)
			if err != nil {
				continue
			}
			checkBody(t, b)
		}
	})
}

// checkBody checks that the statements directly in the body follow one another without gap.
func checkBody(t *testing.T, b *body) {
	t.Helper()
	next, last := 0, -1
	for i, st := range b.stmts {
		if st.first <= last || st.last < st.first || st.last >= len(b.at) || b.at[st.first] != i {
			t.Fatalf("statement %d: %+v", i, st)
		}
		last = st.first
		if st.scope == 0 {
			if st.first != next {
				t.Fatalf("statement %d begins at %d, not at %d", i, st.first, next)
			}
			next = st.last + 1
		}
	}
	if next != len(b.at) {
		t.Fatalf("statements end at %d of %d", next, len(b.at))
	}
}
