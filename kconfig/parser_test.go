package kconfig

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/edit"
)

const everything = `# SPDX-License-Identifier: GPL-2.0
mainmenu "Linux/$(ARCH) $(shell, echo "a (b)") Configuration"

comment "Compiler: $(CC_VERSION_TEXT)"
	depends on !A

cc-option = $(success,$(CC) -Werror \
name := "not $(closed
name += # part of the value
$(error-if,$(failure,command -v $(CC)),C compiler '$(CC)' not found)

menu "A \"quoted\" menu"
	depends on A
	visible if B || (C && !D)

config A # comment
	bool "A" if B = "y" && \
		(C != n || D)	# endmenu
	default y if !(A || B)
	default $(cc-option,-m32) if X$(Y) >= 3
	depends on A if B
	select B if \
	  C

	imply C
	range 0 $(MAX) if D
	help
	  Text, and
	  endmenu
	    deeper: config NOT_HERE

	  # still text

menuconfig B
  tristate 'it is "B"'
  option env="ARCH"
  ---help---
    Text
   config C
  def_tristate m
  help

	# its first line is the next that is not blank

if A && B
if C

choice
	prompt "one of"
	default D1
	optional
config D1
	hex "d"
	modules
	transitional
if E
config D2
	bool "d2"
endif
endchoice

endif

menu 'inner'
endmenu
endif
source "arch/$(SRCARCH)/Kconfig"
orsource "*.conf"
endmenu
choice OLD_NAME
	tristate "old"
endchoice

config LAST
	def_bool y`

func TestParse(t *testing.T) {
	f, err := Parse("Kconfig", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	want := []entry{
		0:  {"mainmenu", `Linux/$(ARCH) $(shell, echo "a (b)") Configuration`, -1, 2, 2, 2},
		1:  {"comment", "Compiler: $(CC_VERSION_TEXT)", -1, 4, 5, 5},
		2:  {"=", "cc-option", -1, 7, 7, 7},
		3:  {"=", "name", -1, 8, 8, 8},
		4:  {"=", "name", -1, 9, 9, 9},
		5:  {"$", "", -1, 10, 10, 10},
		6:  {"menu", `A "quoted" menu`, -1, 12, 14, 69},
		7:  {"config", "A", 6, 16, 32, 32},
		8:  {"menuconfig", "B", 6, 34, 38, 38},
		9:  {"config", "C", 6, 39, 43, 43},
		10: {"if", "A && B", 6, 45, 45, 66},
		11: {"if", "C", 10, 46, 46, 62},
		12: {"choice", "", 11, 48, 51, 60},
		13: {"config", "D1", 12, 52, 55, 55},
		14: {"if", "E", 12, 56, 56, 59},
		15: {"config", "D2", 14, 57, 58, 58},
		16: {"menu", "inner", 10, 64, 64, 65},
		17: {"source", "arch/$(SRCARCH)/Kconfig", 6, 67, 67, 67},
		18: {"orsource", "*.conf", 6, 68, 68, 68},
		19: {"choice", "OLD_NAME", -1, 70, 71, 72},
		20: {"config", "LAST", -1, 74, 75, 75},
	}
	if diff := cmp.Diff(want, f.entries, cmp.AllowUnexported(entry{})); diff != "" {
		t.Error(diff)
	}
	var lines []string
	for n := range f.lines {
		lines = append(lines, f.line(n+1))
	}
	if diff := cmp.Diff(everything, strings.Join(lines, "\n")); diff != "" {
		t.Error(diff)
	}
}

// syntax is what Parse has to pass or to refuse. The kernel's own conf is
// asked the same in TestTrees, but for what is marked old: statements
// that it knew once, or never did.
var syntax = []struct {
	name    string
	src     string
	old     bool
	line    int    // of the error, 0 = none
	problem string // how the error begins
}{
	{name: "nothing", src: ""},
	{name: "blank lines and comments", src: "\n \t\n# comment\n\t# comment \\\n\n"},
	{name: "no newline at the end", src: "config A\n\tbool\n\thelp\n\t  Text"},
	{name: "end of file in help", src: "config A\n\tbool\n\thelp\n\t  Text\n  \t"},
	{name: "keyword as symbol", src: "config A\n\tbool\nconfig config-x\n\tbool\n\tdepends on A\n"},
	{name: "unsupported characters", src: "config A;\n\tbool @ \"a\" | & \\ ~ if y : +\n"},
	{name: "string not closed", src: "config A\n\tbool \"a \\\nconfig B\n\tbool 'b\n"},
	{name: "other quote in string", src: "comment \"it's\"\ncomment 'a \"b\"'\ncomment \"a \\\" b\"\ncomment \"\\\\\"\n"},
	{name: "quote in a reference", src: "comment \"a $(shell,echo \"x\") b\"\nconfig A\n\tbool\n"},
	{name: "dollar alone", src: "config A\n\tstring \"a $ b $A\"\n"},
	{name: "assignments", src: "a = if ( \"\nb := $(a) endmenu\nc += \\\nconfig A\n\tbool\n"},
	{name: "macro that comes to nothing", src: "e :=\n$(e) config A\n\tbool \"a\"\n\tdefault y $(e) if B $(e)\n$(e)\n\tdepends on y\n"},
	{name: "assignment to what a macro names", src: "a := b\n$(a) := c\n"},
	{name: "continued line", src: "config \\\nA\n\tbool \\\n\t\"a\" \\\n\n\tdefault y\n"},
	{name: "continued blank line", src: "\\\n\\\n\nconfig A\n\tbool\n"},
	{name: "text right behind help is help", src: "config A\n\tbool \"a\"\n\thelp\nendmenu\nconfig B\n\tbool\n"},
	{name: "help in column 0 goes on where it is indented", src: "config A\n\tbool \"a\"\n\thelp\nendmenu\n endif\n\tendchoice\nconfig B\n\tbool\n"},
	{name: "tab is 8 columns", src: "config A\n\tbool \"a\"\n\thelp\n        endmenu\n\tendmenu\n  \tendmenu\n"},
	{name: "help ends at dedent", src: "config A\n\thelp\n\t  Text\n\tbool \"a\"\n"},
	{name: "comment ends help", src: "config A\n\tbool \"a\"\n\thelp\n\t  Text\n\n# comment\n\tdepends on y\n"},
	{name: "white space in blank line of help", src: "config A\n\tbool \"a\"\n\thelp\n\t  Text\n \n\n\t  endmenu\n \nconfig B\n\tbool\n"},
	{name: "expressions", src: "config A\n\tbool\n\tdefault !!(y && !(C != \"x\")) || B<C || (B) && 'x'>=C && m\n"},
	{name: "visible without if", src: "menu \"m\"\n\tvisible\nendmenu\n"},
	{name: "if and comment in choice", src: "choice\n\tprompt \"c\"\nif y\ncomment \"x\"\nconfig A\n\tbool \"a\"\nendif\nendchoice\n"},
	{name: "byte order mark", src: "\ufeffconfig A\n\tbool\n"},
	{name: "carriage return", src: "config A\n\tbool\r\n\tdefault y\n"},

	{name: "old keywords", old: true, src: "config A\n\tboolean \"a\"\n\toption allnoconfig_y\n\t---help---\n\t  Text\nmenu Word\nendmenu\nsource lib/x-y.z/Kconfig\n"},
	{name: "source in choice", old: true, src: "choice\n\tprompt \"c\"\nsource \"x\"\nendchoice\n"},
	{name: "relative sources", old: true, src: "rsource \"x\"\nosource \"y*\"\norsource \"z\"\n"},

	{name: "menu not closed", src: "menu \"a\"\nmenu \"b\"\nendmenu\n", line: 3, problem: `the file ends in menu "a", open since line 1`},
	{name: "if not closed", src: "menu \"a\"\nif A\nendmenu\n", line: 3, problem: `endmenu does not close what is open; this is in if A, open since line 2`},
	{name: "choice closed by endif", src: "choice\n\tprompt \"c\"\nendif\n", line: 3, problem: "endif does not close what is open; this is in choice, open since line 1"},
	{name: "endmenu too many", src: "menu \"a\"\nendmenu\nendmenu\n", line: 3, problem: "endmenu has nothing to close"},
	{name: "unknown statement", src: "config A\n\tbool\n\n  hello world\n", line: 4, problem: `no statement begins with "hello"`},
	{name: "text behind help", src: "config A\n\tbool \"a\"\n\thelp\n\n\t  Text\n\n\tmore\n", line: 7, problem: `no statement begins with "more"`},
	{name: "help ends at tab behind spaces", src: "config A\n\tbool \"a\"\n\thelp\n\t  Text\n  \tendmenu\n", line: 5, problem: "endmenu has nothing to close"},
	{name: "no line is continued in a string", src: "comment \"a \\\nendmenu\n", line: 2, problem: "endmenu has nothing to close"},
	{name: "stray string", src: "\"hello\"\n", line: 1, problem: `no statement begins with "hello"`},
	{name: "stray operator", src: "&& A\n", line: 1, problem: `no statement begins with "&&"`},
	{name: "no symbol", src: "config\n", line: 1, problem: "config wants a symbol"},
	{name: "two symbols", src: "config A B\n\tbool\n", line: 1, problem: `config wants nothing more before "B"`},
	{name: "symbol in quotes", src: "config \"A\"\n\tbool\n", line: 1, problem: "config wants a symbol"},
	{name: "menu without prompt", src: "menu\nendmenu\n", line: 1, problem: "menu wants a text in quotes"},
	{name: "menu with if", src: "menu \"a\" if A\nendmenu\n", line: 1, problem: `menu wants nothing more before "if"`},
	{name: "if without condition", src: "if\nendif\n", line: 1, problem: "if wants an expression that is complete"},
	{name: "endif with condition", src: "if A\nendif A\n", line: 2, problem: `endif wants nothing more before "A"`},
	{name: "attribute behind endmenu", src: "menu \"a\"\nendmenu\n\tdepends on A\n", line: 3, problem: "depends does not belong to the statement before it"},
	{name: "attribute behind source", old: true, src: "config A\n\tbool\nsource \"x\"\n\tdefault y\n", line: 4, problem: "default does not belong"},
	{name: "attribute behind assignment", src: "config A\n\tbool\na := b\n\tdefault y\n", line: 4, problem: "default does not belong"},
	{name: "attribute in if", src: "if A\n\tdepends on B\nendif\n", line: 2, problem: "depends does not belong"},
	{name: "attribute of another entry", src: "menu \"a\"\n\tdefault y\nendmenu\n", line: 2, problem: "default does not belong"},
	{name: "help of a comment", src: "comment \"a\"\n\thelp\n\t  Text\n", line: 2, problem: "help does not belong"},
	{name: "select in choice", src: "choice\n\tprompt \"c\"\n\tselect A\nendchoice\n", line: 3, problem: "select does not belong"},
	{name: "menu in choice", src: "choice\n\tprompt \"c\"\nif A\nmenu \"a\"\nendmenu\nendif\nendchoice\n", line: 4, problem: "menu can't stand in a choice"},
	{name: "choice in choice", src: "choice\n\tprompt \"c\"\nchoice\n\tprompt \"d\"\nendchoice\nendchoice\n", line: 3, problem: "choice can't stand in a choice"},
	{name: "depends without on", src: "config A\n\tbool\n\tdepends A\n", line: 3, problem: `depends wants "on" behind it`},
	{name: "prompt without text", src: "config A\n\tbool\n\tprompt if A\n", line: 3, problem: "prompt wants a text in quotes"},
	{name: "type with if", src: "config A\n\tbool if A\n", line: 2, problem: "bool wants a text in quotes"},
	{name: "range of one", src: "config A\n\tint\n\trange 1 if A\n", line: 3, problem: "range wants a symbol or a value"},
	{name: "select of a value", src: "config A\n\tbool\n\tselect \"B\"\n", line: 3, problem: "select wants a symbol"},
	{name: "help with text", src: "config A\n\tbool \"a\"\n\thelp me\n\t  Text\n", line: 3, problem: `help wants nothing more before "me"`},
	{name: "assignment to a keyword", src: "config A\n\tbool\n\tdefault = y\n", line: 3, problem: `default has an expression that breaks at "="`},
	{name: "expression of two words", src: "config A\n\tbool\n\tdefault A B\n", line: 3, problem: `default has an expression that breaks at "B"`},
	{name: "expression ends early", src: "if A &&\nendif\n", line: 1, problem: "if wants an expression that is complete"},
	{name: "operator first", src: "if || A\nendif\n", line: 1, problem: `if has an expression that breaks at "||"`},
	{name: "empty parentheses", src: "if ()\nendif\n", line: 1, problem: `if has an expression that breaks at ")"`},
	{name: "parenthesis not closed", src: "if (A\nendif\n", line: 1, problem: `if has an expression with a "(" that is not closed`},
	{name: "parenthesis not opened", src: "if A)\nendif\n", line: 1, problem: `if has an expression that breaks at ")"`},
	{name: "parenthesis behind operand", src: "if A (B)\nendif\n", line: 1, problem: `if has an expression that breaks at "("`},
	{name: "not behind operand", src: "if A !B\nendif\n", line: 1, problem: `if has an expression that breaks at "!"`},
	{name: "comparison of three", src: "if A = B = C\nendif\n", line: 1, problem: `if has an expression that breaks at "="`},
	{name: "comparison of an expression", src: "if (A) = B\nendif\n", line: 1, problem: `if has an expression that breaks at "="`},
	{name: "comparison with an expression", src: "if A = !B\nendif\n", line: 1, problem: `if has an expression that breaks at "!"`},
	{name: "condition of a condition", src: "config A\n\tbool\n\tdefault y if A if B\n", line: 3, problem: `default wants nothing more before "if"`},
	{name: "reference not closed", src: "config A\n\tbool\n\tdefault $(success,(a)\n\tdepends on B)\n", line: 3, problem: "the reference $(success,(a) is not closed in its line"},
	{name: "reference in string not closed", src: "comment \"$(a\"\n", line: 1, problem: "the reference $(a\" is not closed in its line"},
	{name: "conflict marks", src: "config A\n\tbool \"a\"\n\thelp\n\t  Text\n<<<<<<< HEAD\n\t  Text\n=======\n>>>>>>> x\n", line: 5, problem: "a merge left its conflict marks here"},
	{name: "DOS", src: "config A\r\n\tbool \"a\"\r\n\thelp\r\n\t  Text\r\n\r\n\t  Text\r\n", line: 1, problem: "its lines end in CR LF"},
}

func TestSyntax(t *testing.T) {
	for _, tt := range syntax {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("Kconfig", []byte(tt.src))
			if tt.line == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := errors.AsType[*edit.Error](err)
			if !ok {
				t.Fatalf("%v, %v", f, err)
			}
			if f != nil || e.File != "Kconfig" || e.Line != tt.line || !strings.HasPrefix(e.Problem, tt.problem) {
				t.Errorf("line %d: %s; want line %d: %s", e.Line, e.Problem, tt.line, tt.problem)
			}
		})
	}
}

func TestParseNestedDeep(t *testing.T) {
	nested := func(n int) []byte {
		return []byte(strings.Repeat("if A\n", n) + strings.Repeat("endif\n", n))
	}
	if _, err := Parse("Kconfig", nested(mostNested)); err != nil {
		t.Error(err)
	}
	if _, err := Parse("Kconfig", nested(mostNested+1)); err == nil {
		t.Error("no error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	for _, tt := range syntax {
		f.Add([]byte(tt.src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Parse("Kconfig", src)
		if err != nil {
			if e, ok := errors.AsType[*edit.Error](err); !ok || e.Line < 1 || e.Line > len(src)+1 {
				t.Fatalf("%#v", err)
			}
			return
		}
		for i, e := range file.entries {
			if e.first < 1 || e.first > e.head || e.head > e.last || e.last > len(file.lines) || e.parent >= i {
				t.Fatalf("%v: %+v", i, e)
			}
			if e.parent >= 0 {
				if p := file.entries[e.parent]; e.first <= p.head || e.last >= p.last {
					t.Fatalf("%+v is not in %+v", e, p)
				}
			}
			if i > 0 && e.first <= file.entries[i-1].head {
				t.Fatalf("%+v overlaps %+v", e, file.entries[i-1])
			}
		}
		menus := []string{""}
		for _, e := range file.entries {
			if e.keyword == "menu" {
				menus = append(menus, e.name)
			}
		}
		for _, menu := range menus {
			const text = "config NEW\n\tbool\n"
			out, _, err := file.Insert(Insertion{Menu: menu, After: []string{"A"}, Text: text})
			if err != nil {
				if _, ok := errors.AsType[*edit.Error](err); !ok {
					t.Fatalf("%#v", err)
				}
				continue
			}
			if !isInserted(string(src), string(out), text) {
				t.Fatalf("%q", out)
			}
		}
	})
}

// generated is a Kconfig file of about the size of arch/x86/Kconfig, 100 kB.
func generated() []byte {
	var b strings.Builder
	b.WriteString("menu \"Processor type and features\"\n\n")
	for i := range 400 {
		fmt.Fprintf(&b, "config SYMBOL_%d\n\tbool \"Symbol %d\" if EXPERT\n\tdefault y if X86_64 && !SYMBOL_7\n\tdepends on PCI || (ISA = \"y\")\n\tselect SYMBOL_8\n\thelp\n", i, i)
		b.WriteString("\t  This is what people are told of the symbol,\n\t  in two lines and more.\n\n\t  If unsure, say N.\n\n")
	}
	b.WriteString("endmenu\n")
	return []byte(b.String())
}

func BenchmarkParse(b *testing.B) {
	src := generated()
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("Kconfig", src); err != nil {
			b.Fatal(err)
		}
	}
}
