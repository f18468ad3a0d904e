package edit

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// A source in these tests marks with «» the lines that the edit's text must
// take the place of; marks with nothing between them are where it must go.
const left, right = "«", "»"

func unmark(src string) string { return strings.NewReplacer(left, "", right, "").Replace(src) }

// apply checks that e puts its text where src is marked, and says so; and that
// a second time it is refused, because the text is already there.
func apply(t *testing.T, e Edit, src string) Place {
	t.Helper()
	from, rest, ok := strings.Cut(src, left)
	_, to, closed := strings.Cut(rest, right)
	if !ok || !closed {
		t.Fatal("the source marks no place")
	}
	want := from + e.Text + to
	plain := []byte(unmark(src))
	got, place, err := e.Apply(plain)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	if string(plain) != unmark(src) {
		t.Fatal("Apply changed its input")
	}
	if n := utf8.RuneCountInString(place.How); n > 100 {
		t.Errorf("How has %d characters: %s", n, place.How)
	}
	if foldText(e.Text) != "" {
		if _, _, err := e.Apply(got); err == nil || err.(*Error).Kind != AlreadyThere {
			t.Errorf("a second time: %v", err)
		}
	}
	return place
}

// refuse checks that e is refused as wanted, which is the first line of the
// error without the file's name.
func refuse(t *testing.T, e Edit, src string, kind Kind, want string) *Error {
	t.Helper()
	e.File = "f.c"
	out, place, err := e.Apply([]byte(unmark(src)))
	if err == nil {
		t.Fatalf("was applied: %+v\n%s", place, out)
	}
	fail := err.(*Error)
	got, _, _ := strings.Cut(fail.Error(), "\n")
	if diff := cmp.Diff("f.c:"+want, got); diff != "" || fail.Kind != kind {
		t.Errorf("%s, want %s (-want +got)\n%s", fail.Kind, kind, diff)
	}
	if out != nil || place != (Place{}) || fail.File != "f.c" || fail.Function != e.Function || fail.Landmark == "" {
		t.Errorf("output %q, place %v, error %+v", out, place, fail)
	}
	return fail
}

// in is a file with a function f() of this body.
func in(body string) string {
	return "#include <linux/f.h>\n\nint f(struct device *dev, int x)\n{\n" + body + "}\nEXPORT_SYMBOL(f);\n"
}

const mark = "\tmark(dev);\n"

func TestPlaces(t *testing.T) {
	sync := []string{"sync(dev, x);"}
	tests := []struct {
		name string
		edit Edit
		src  string
		how  string
	}{
		{"after", Edit{Landmark: sync, Put: After}, in("\tint i;\n\n\tsync(dev, x);\n«»\n\treturn 0;\n"), "after sync(…)"},
		{"before", Edit{Landmark: sync}, in("\tint i;\n\n«»\tsync(dev, x);\n\treturn 0;\n"), "before sync(…)"},
		{"replace", Edit{Landmark: sync, Put: Replace}, in("\tint i;\n\n«\tsync(dev, x);\n»\treturn 0;\n"), "in place of sync(…)"},
		{"delete", Edit{Landmark: sync, Put: Replace, Text: "-"}, in("\tint i;\n«\tsync(dev, x);\n»\treturn 0;\n"), "in place of sync(…)"},
		{"first statement", Edit{Landmark: []string{"int i;"}}, in("«»\tint i;\n\n\tsync(dev, x);\n"), "before int i"},
		{"last statement", Edit{Landmark: []string{"return 0;"}, Put: After}, in("\tint i;\n\n\treturn 0;\n«»"), "after return 0"},
		{"declaration", Edit{Landmark: []string{"phys_addr_t paddr = to_phys(dev, x);"}, Put: After},
			in("\tphys_addr_t paddr = to_phys(dev, x);\n«»\n\tsync(dev, x);\n"), "after phys_addr_t paddr = to_phys(…)"},
		{"initializer with braces", Edit{Landmark: []string{"struct s s = { .a = { 1, 2 }, };"}, Put: After},
			in("\tstruct s s = {\n\t\t.a = { 1, 2 },\n\t};\n«»\tsync(dev, x);\n"), "after struct s s = { .a = { 1, 2 }, }"},
		{"line breaks and comments do not count", Edit{Landmark: sync, Put: After},
			in("\tsync(dev, /* the\n\t\t    device */\n\t     x);\n«»\treturn 0;\n"), ""},
		{"neither do they in the landmark", Edit{Landmark: []string{"sync( dev,\n\tx ) /* here */ ;"}, Put: After}, in("\tsync(dev, x);\n«»"), ""},
		{"whole if", Edit{Landmark: []string{"if (unlikely(is_bounced(dev, x))) sync(dev, x);"}, Put: After},
			in("\tif (unlikely(is_bounced(dev, x)))\n\t\tsync(dev, x);\n«»\n\treturn 0;\n"), "after if (…) sync(…)"},
		{"whole if with its else", Edit{Landmark: []string{"if (a) b(); else if (c) d(); else e();"}, Put: After},
			in("\tif (a)\n\t\tb();\n\telse if (c)\n\t\td();\n\telse\n\t\te();\n«»\treturn 0;\n"), ""},
		{"loop without braces as a whole", Edit{Landmark: []string{"for_each_sg(sgl, sg, n, i) unmap(sg);"}, Put: After},
			in("\tfor_each_sg(sgl, sg, n, i)\n\t\tunmap(sg);\n«»\treturn 0;\n"), "after for_each_sg(…) unmap(…)"},
		{"several statements", Edit{Landmark: []string{"a(); if (b) { c(); }"}, Put: After}, in("\ta();\n\tif (b) {\n\t\tc();\n\t}\n«»\tc();\n"), "after if (…) { c(); }"},
		{"before several statements", Edit{Landmark: []string{"a(); if (b) { c(); }"}}, in("«»\ta();\n\tif (b) {\n\t\tc();\n\t}\n\tc();\n"), "before a()"},
		{"second alternative", Edit{Landmark: []string{"old_sync(dev);", "sync(dev, x);"}, Put: After}, in("\tsync(dev, x);\n«»"), ""},
		{"two alternatives of the same tokens", Edit{Landmark: []string{"sync(dev, x);", "sync(dev,x);"}, Put: After}, in("\tsync(dev, x);\n«»"), ""},
		{"inside a loop", Edit{Landmark: sync, Inside: []string{"for_each_sg(sgl, sg, n, i)"}, Put: After},
			in("\tfor_each_sg(sgl,  sg, n, i) {\n\t\tif (y)\n\t\t\tz();\n\t\tsync(dev, x);\n«»\t}\n\treturn 0;\n"), "in for_each_sg(…): after sync(…)"},
		{"inside two blocks", Edit{Landmark: sync, Inside: []string{"while (a)", "if (b)"}, Put: After},
			in("\twhile (a) {\n\t\tif (b) {\n\t\t\tsync(dev, x);\n«»\t\t}\n\t}\n"), "in while (…), in if (…): after sync(…)"},
		{"inside a block under a head without braces", Edit{Landmark: sync, Inside: []string{"while (a)", "if (b)"}, Put: After},
			in("\twhile (a)\n\t\tif (b) {\n\t\t\tsync(dev, x);\n«»\t\t}\n"), ""},
		{"inside else", Edit{Landmark: sync, Inside: []string{"else"}}, in("\tif (a) {\n\t\tb();\n\t} else {\n«»\t\tsync(dev, x);\n\t}\n"), "in else: before sync(…)"},
		{"inside else if", Edit{Landmark: sync, Inside: []string{"else if (c)"}}, in("\tif (a) {\n\t\tb();\n\t} else if (c) {\n«»\t\tsync(dev, x);\n\t}\n"), ""},
		{"inside do", Edit{Landmark: sync, Inside: []string{"do"}}, in("\tdo {\n«»\t\tsync(dev, x);\n\t} while (a);\n"), ""},
		{"inside a bare block", Edit{Landmark: sync, Inside: []string{""}}, in("\t{\n«»\t\tsync(dev, x);\n\t}\n"), "in {…}: before sync(…)"},
		{"inside a macro that heads a block", Edit{Landmark: sync, Inside: []string{"scoped_guard(spinlock, &lock)"}}, in("\tscoped_guard(spinlock, &lock) {\n«»\t\tsync(dev, x);\n\t}\n"), ""},
		{"after a label", Edit{Landmark: sync}, in("\tgoto out;\nout:\n«»\tsync(dev, x);\n"), ""},
		{"after a case", Edit{Landmark: sync, Inside: []string{"switch (x)"}, Put: After},
			in("\tswitch (x) {\n\tcase A ? B : 3:\n\t\tsync(dev, x);\n«»\t\tbreak;\n\tdefault:\n\t\tstop();\n\t}\n"), "in switch (…): after sync(…)"},
		{"landmark with its case", Edit{Landmark: []string{"case B: sync(dev, x);"}, Inside: []string{"switch (x)"}, Put: After},
			in("\tswitch (x) {\n\tcase A:\n\t\tsync(dev, x);\n\t\tbreak;\n\tcase B:\n\t\tsync(dev, x);\n«»\t}\n"), ""},
		{"not the one under an if", Edit{Landmark: sync, Put: After}, in("\tif (vendor_cond)\n\t\tsync(dev, x);\n\tsync(dev, x);\n«»"), ""},
		{"not the one in an #if 0", Edit{Landmark: sync, Put: After}, in("#if 0\n\tsync(dev, x); don't\n#endif\n\tsync(dev, x);\n«»"), ""},
		{"not the ones in comments, strings and macros", Edit{Landmark: sync, Put: After},
			in("#define SYNC do {\\\n\tsync(dev, x);\\\n\t} while (0)\n\t/* {\n\tsync(dev, x);\n\t*/\n\tp(\"{ sync(dev, x);\", '{', '\\'', \"\\\"{\");\n\t// } sync(dev, x); \\\n\tsync(dev, x);\n\tsync(dev, x);\n«»"), ""},
		{"trailing comment", Edit{Landmark: sync, Put: After}, in("\tsync(dev, x); /* now */ // really\n«»\treturn 0;\n"), ""},
		{"trailing comment of two lines", Edit{Landmark: sync, Put: After}, in("\tsync(dev, x);\t/* now and\n\t\t\t * here */\n«»\treturn 0;\n"), ""},
		{"comment in front", Edit{Landmark: sync, Put: After}, in("\t/* now */ sync(dev, x);\n«»"), ""},
		{"comments above stay with the landmark", Edit{Landmark: sync},
			in("\ta();\n\n«»\t/*\n\t * One.\n\t */\n\t// Two.\n\t/* a */ /* b\n\t */ /* c */\n\tsync(dev, x);\n"), ""},
		{"a comment further up does not", Edit{Landmark: sync}, in("\t/* One. */\n\n«»\t/* Two. */\n\tsync(dev, x);\n"), ""},
		{"nor the comment of another statement", Edit{Landmark: sync}, in("\ta(); /* One\n\t\twhich goes on. */\n«»\t/* Two. */\n\tsync(dev, x);\n"), ""},
		{"nor one above a preprocessor line", Edit{Landmark: sync}, in("\t/* One. */\n#define A 1\n«»\tsync(dev, x);\n"), ""},
		{"replace keeps the comment above", Edit{Landmark: sync, Put: Replace}, in("\t/* One. */\n«\tsync(dev, x);\n»\t/* Two. */\n\treturn 0;\n"), ""},
		{"conditional around other statements", Edit{Landmark: sync, Put: After},
			in("#ifdef CONFIG_A\n\tint i;\n\tif (a)\n\t\tb();\n#elif X\n\tc();\n#endif\n\tsync(dev, x);\n«»#ifdef CONFIG_B\n\td();\n#endif\n"), ""},
		{"conditional inside another statement", Edit{Landmark: sync, Put: After},
			in("\tif (a\n#ifdef CONFIG_A\n\t    && b\n#endif\n\t   )\n\t\tc();\n\tx = y\n#ifdef CONFIG_B\n\t\t+ 1\n#else\n\t\t+ 2\n#endif\n\t\t;\n\tsync(dev, x);\n«»"), ""},
		{"conditional torn inside another block", Edit{Landmark: sync, Put: After},
			in("\tif (a) {\n#ifdef CONFIG_A\n\t\tif (b)\n#endif\n\t\t\tc();\n\t}\n\tsync(dev, x);\n«»"), ""},
		{"macro without semicolon before else", Edit{Landmark: sync, Put: After}, in("\tif (a)\n\t\tWARN(b)\n\telse\n\t\tc();\n\tsync(dev, x);\n«»"), ""},
		{"macro in place of while", Edit{Landmark: sync, Put: After}, in("\tdo {\n\t\ta();\n\t} while_each_thread(b, c);\n\tsync(dev, x);\n«»"), ""},
		{"statement expression", Edit{Landmark: sync, Put: After}, in("\tx = ({ int y; sync(dev, x); y; });\n\tsync(dev, x);\n«»"), ""},
		{"compound literal", Edit{Landmark: []string{"if (a) return (struct s){ .x = 1 }; else b();"}, Put: After}, in("\tif (a)\n\t\treturn (struct s){ .x = 1 };\n\telse\n\t\tb();\n«»\tsync(dev, x);\n"), ""},
		{"type of", Edit{Landmark: []string{"typeof(x) y = { 1 };"}, Put: After}, in("\ttypeof(x) y = { 1 };\n«»"), ""},
		{"continued line", Edit{Landmark: sync, Put: After}, in("\tsync(dev, \\\n\t     x);\n«»"), ""},
		{"Latin-1", Edit{Landmark: sync, Put: After}, in("\t/* J\xf6rg */\n\tp(\"\xe9\");\n\tsync(dev, x);\n«»"), ""},
		{"text that holds the landmark", Edit{Landmark: sync, Put: Replace, Text: "\tif (y)\n\t\tsync(dev, x);\n\tsync(dev, x);\n"}, in("\ta();\n«\tsync(dev, x);\n»"), ""},
		{"behind a loop that ends", Edit{Landmark: sync, Put: After, Reached: true}, in("\tfor (;;)\n\t\tbreak;\n\tif (returns)\n\t\ta(); /* return */\n\tsync(dev, x);\n«»\treturn 0;\n"), ""},
		{"a landmark with a return in it", Edit{Landmark: []string{"if (b) return; sync(dev, x);"}, Put: After, Reached: true}, in("\tif (b)\n\t\treturn;\n\tsync(dev, x);\n«»"), ""},
		{"text that repeats the landmark", Edit{Landmark: sync, Put: After, Text: "\tb();\n\tsync(dev, x);\n"}, in("\ta();\n\tsync(dev, x);\n«»"), ""},
		{"text of a comment", Edit{Landmark: sync, Put: After, Text: "\n\t/* Done. */\n"}, in("\tsync(dev, x);\n«»\n\treturn 0;\n"), ""},
		{"text of a comment before", Edit{Landmark: sync, Text: "\t/* Done. */\n\n"}, in("«»\tsync(dev, x);\n"), ""},
		{"text that goes on with the landmark's if", Edit{Landmark: []string{"if (a) b();"}, Put: After, Text: "\telse\n\t\tmark(dev);\n"}, in("\tif (a)\n\t\tb();\n«»\treturn 0;\n"), ""},
		{"text of a comment on the landmark", Edit{Landmark: sync, Text: "\t/* Done. */\n"}, in("\ta(); /* Not. */\n«»\t/* One. */\n\tsync(dev, x);\n"), ""},
		{"text of a definition", Edit{Landmark: sync, Text: "#define A\n"}, in("\ta();\n\n«»\t/* One. */\n\tsync(dev, x);\n"), ""},
		{"text with a preprocessor line", Edit{Landmark: sync, Put: After, Text: "#ifdef CONFIG_A\n\tmark(dev);\n#endif\n"}, in("\tsync(dev, x);\n«»\treturn 0;\n"), ""},
		{"long names are cut",
			Edit{Landmark: []string{"swiotlb_tbl_sync_single(dev, x);"}, Inside: []string{"for_each_something_of_a_very_long_name(a)", "if (b)"}, Put: After},
			in("\tfor_each_something_of_a_very_long_name(a) {\n\t\tif (b) {\n\t\t\tswiotlb_tbl_sync_single(dev, x);\n«»\t\t}\n\t}\n"),
			"in for_each_something_of_a_very_long_name(…), in if (…): after swiotlb_tbl_sync_single(…)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.edit
			e.Function = "f"
			switch e.Text {
			case "":
				e.Text = mark
			case "-":
				e.Text = ""
			}
			place := apply(t, e, tt.src)
			if tt.how != "" && place.How != tt.how {
				t.Errorf("How is %q, want %q", place.How, tt.how)
			}
		})
	}
}

func TestLineOfPlace(t *testing.T) {
	src := in("\t/*\n\t * One.\n\t */\n«»\tsync(dev,\n\t     x);\n")
	for _, put := range []Put{Before, After, Replace} {
		_, place, err := Edit{Function: "f", Landmark: []string{"sync(dev, x);"}, Put: put, Text: mark}.Apply([]byte(unmark(src)))
		if err != nil || place.Line != 8 {
			t.Errorf("%s: line %d, %v", put, place.Line, err)
		}
	}
}

func TestRefusedLandmarks(t *testing.T) {
	sync := []string{"sync(dev, x);"}
	tests := []struct {
		name string
		edit Edit
		src  string
		kind Kind
		want string
	}{
		{"none", Edit{Landmark: sync}, in("\tother();\n"), NoLandmark, `3: no "sync(dev, x);" in f()`},
		{"none of two", Edit{Landmark: []string{"sync(dev, x);", "b();"}}, in("\tother();\n"), NoLandmark, `3: no "sync(dev, x);" (or its alternative) in f()`},
		{"none of three", Edit{Landmark: []string{"sync(dev, x);", "b();", "c();"}}, in("" + "\tother();\n"), NoLandmark, `3: no "sync(dev, x);" (or one of 2 alternatives) in f()`},
		{"in another function", Edit{Landmark: sync}, in("\tother();\n") + "\nvoid g(void)\n{\n\tsync(dev, x);\n}\n", NoLandmark, `3: no "sync(dev, x);" in f()`},
		{"twice", Edit{Landmark: sync}, in("\tsync(dev, x);\n\ta();\n\tsync(dev, x);\n"), AmbiguousLandmark, `5: "sync(dev, x);" stands 2 times in f(), on lines 5 and 7`},
		{"twice, once in another block", Edit{Landmark: sync}, in("\tsync(dev, x);\n\tif (a) {\n\tsync(dev, x);\n\t}\n"), AmbiguousLandmark, `5: "sync(dev, x);" stands 2 times in f(), on lines 5 and 7`},
		{"two alternatives", Edit{Landmark: []string{"b();", "a();"}}, in("\ta();\n\tb();\n"), AmbiguousLandmark, `5: "b();" (or its alternative) stands 2 times in f(), on lines 5 and 6`},
		{"two alternatives in one place", Edit{Landmark: []string{"a(); b();", "a();"}}, in("\ta();\n\tb();\n"), AmbiguousLandmark, `5: "a(); b();" (or its alternative) stands 2 times in f(), on lines 5 and 5`},
		{"seven times", Edit{Landmark: sync}, in(strings.Repeat("\tsync(dev, x);\n", 7)), AmbiguousLandmark, `5: "sync(dev, x);" stands 7 times in f(), on lines 5, 6, 7, 8, 9 and 2 more`},
		{"under if", Edit{Landmark: sync}, in("\tif (vendor_cond)\n\t\tsync(dev, x);\n"), WrongSurroundings, `6: "sync(dev, x);" is no statement of its own in f(): it stands under if (vendor_cond)`},
		{"under else", Edit{Landmark: sync}, in("\tif (a)\n\t\tb();\n\telse\n\t\tsync(dev, x);\n"), WrongSurroundings, `8: "sync(dev, x);" is no statement of its own in f(): it stands under else`},
		{"under for", Edit{Landmark: sync}, in("\tfor (i = 0; i < n; i++)\n\t\tsync(dev, x);\n"), WrongSurroundings, `6: "sync(dev, x);" is no statement of its own in f(): it stands under for (i = 0; i < n; i++)`},
		{"under do", Edit{Landmark: sync}, in("\tdo\n\t\tsync(dev, x);\n\twhile (a);\n"), WrongSurroundings, `6: "sync(dev, x);" is no statement of its own in f(): it stands under do`},
		{"under a macro", Edit{Landmark: sync}, in("\tfor_each_sg(a, b)\n\t\tsync(dev, x);\n"), WrongSurroundings, `6: "sync(dev, x);" is no statement of its own in f(): it stands under for_each_sg(a, b)`},
		{"under a label under if", Edit{Landmark: sync}, in("\tif (a)\nout:\t\tsync(dev, x);\n"), WrongSurroundings, `6: "sync(dev, x);" is no statement of its own in f(): it stands under if (a)`},
		{"with an else", Edit{Landmark: []string{"if (a) b();"}}, in("\tif (a)\n\t\tb();\n\telse\n\t\tc();\n"), WrongSurroundings, `5: "if (a) b();" is no statement of its own in f(): it goes on with the else on line 7`},
		{"last of an else if", Edit{Landmark: []string{"if (c) d();"}}, in("\tif (a)\n\t\tb();\n\telse if (c)\n\t\td();\n"), WrongSurroundings, `7: "if (c) d();" is no statement of its own in f(): it is part of if (a) b(); else if (c) d();`},
		{"the end of a do", Edit{Landmark: []string{"while (a);"}}, in("\tdo {\n\t} while (a);\n"), WrongSurroundings, `6: "while (a);" is no statement of its own in f(): it is part of do { } while (a);`},
		{"the declarator of a struct", Edit{Landmark: []string{"x;"}}, in("\tstruct { int a; } x;\n"), WrongSurroundings, `5: "x;" is no statement of its own in f(): it is part of struct { int a; } x;`},
		{"a member", Edit{Landmark: []string{"int a;"}}, in("\tstruct s {\n\t\tint a;\n\t} x;\n"), WrongSurroundings, `6: "int a;" is no statement of its own in f(): it is part of struct s { int a; } x;`},
		{"the condition of a for", Edit{Landmark: []string{"i < n;"}}, in("\tfor (i = 0; i < n; i++)\n\t\ta();\n"), WrongSurroundings, `5: "i < n;" is no statement of its own in f(): it is part of for (i = 0; i < n; i++) a();`},
		{"behind a question", Edit{Landmark: sync}, in("\ta = b ? c : sync(dev, x);\n"), WrongSurroundings, `5: "sync(dev, x);" is no statement of its own in f(): it is part of a = b ? c : sync(dev, x);`},
		{"in a statement expression", Edit{Landmark: sync}, in("\ta = ({\n\t\tsync(dev, x);\n\t});\n"), WrongSurroundings, `6: "sync(dev, x);" is no statement of its own in f(): it is part of a = ({ sync(dev, x); });`},
		{"an assignment's end", Edit{Landmark: sync}, in("\ta = sync(dev, x);\n"), WrongSurroundings, `5: "sync(dev, x);" is no statement of its own in f(): it is part of a = sync(dev, x);`},
		{"in a block", Edit{Landmark: sync}, in("\tif (a) {\n\t\tsync(dev, x);\n\t}\n"), WrongSurroundings, `6: "sync(dev, x);" stands inside if (a), not directly in f()`},
		{"in another block", Edit{Landmark: sync, Inside: []string{"if (b)", "else"}}, in("\tif (a) {\n\t\tsync(dev, x);\n\t}\n"), WrongSurroundings, `6: "sync(dev, x);" stands inside if (a), not inside if (b), else`},
		{"in another loop", Edit{Landmark: sync, Inside: []string{"for_each_sg(sgl, sg, n, i)"}}, in("\tfor_each_sg(sgl, s, n, i) {\n\t\tsync(dev, x);\n\t}\n"), WrongSurroundings, `6: "sync(dev, x);" stands inside for_each_sg(sgl, s, n, i), not inside for_each_sg(sgl, sg, n, i)`},
		{"in no block", Edit{Landmark: sync, Inside: []string{"if (a)"}}, in("\tsync(dev, x);\n"), WrongSurroundings, `5: "sync(dev, x);" stands directly in f(), not inside if (a)`},
		{"in an else if, not an else", Edit{Landmark: sync, Inside: []string{"else"}}, in("\tif (a) {\n\t\tb();\n\t} else if (c) {\n\t\tsync(dev, x);\n\t}\n"), WrongSurroundings, `8: "sync(dev, x);" stands inside else if (c), not inside else`},
		{"in a block with a head", Edit{Landmark: sync, Inside: []string{""}}, in("\tif (a) {\n\t\tsync(dev, x);\n\t}\n"), WrongSurroundings, `6: "sync(dev, x);" stands inside if (a), not inside {…}`},
		{"in one block more", Edit{Landmark: sync, Inside: []string{"if (a)"}}, in("\tif (a) {\n\t\t{\n\t\t\tsync(dev, x);\n\t\t}\n\t}\n"), WrongSurroundings, `7: "sync(dev, x);" stands inside if (a), {…}, not inside if (a)`},
		{"behind a return", Edit{Landmark: sync, Reached: true}, in("\tif (vendor)\n\t\treturn;\n\tsync(dev, x);\n"), WrongSurroundings, `7: "sync(dev, x);" may not be reached: there is a return before it in f(), on line 6`},
		{"behind a goto in a block", Edit{Landmark: sync, Reached: true}, in("\tif (vendor) {\n\t\tgoto out;\n\t}\n\tsync(dev, x);\nout:\n"), WrongSurroundings, `8: "sync(dev, x);" may not be reached: there is a goto before it in f(), on line 6`},
		{"behind a continue", Edit{Landmark: sync, Inside: []string{"for (;;)"}, Reached: true}, in("\tfor (;;) {\n\t\tif (vendor)\n\t\t\tcontinue;\n\t\tsync(dev, x);\n\t}\n"), WrongSurroundings, `8: "sync(dev, x);" may not be reached: there is a continue before it in f(), on line 7`},
		{"behind a break", Edit{Landmark: sync, Inside: []string{"for (;;)"}, Reached: true}, in("\tfor (;;) {\n\t\tif (vendor)\n\t\t\tbreak;\n\t\tsync(dev, x);\n\t}\n"), WrongSurroundings, `8: "sync(dev, x);" may not be reached: there is a break before it in f(), on line 7`},
		{"#if 0", Edit{Landmark: sync}, in("#if 0 /* later */\n\tif (a) {\n\tsync(dev, x);\n#endif\n\tb();\n"), WrongSurroundings, `7: "sync(dev, x);" stands under #if 0 in f()`},
		{"#ifdef", Edit{Landmark: sync}, in("#ifdef CONFIG_A\n\tsync(dev, x);\n#endif\n"), WrongSurroundings, `6: "sync(dev, x);" stands under the #ifdef CONFIG_A on line 5`},
		{"#else", Edit{Landmark: sync}, in("#if defined(A) || \\\n    defined(B)\n\ta();\n# else\n\tsync(dev, x);\n#endif\n"), WrongSurroundings, `9: "sync(dev, x);" stands under the # else on line 8 of #if defined(A) || defined(B)`},
		{"#if around its block", Edit{Landmark: sync, Inside: []string{"if (a)"}}, in("#if A\n\tif (a) {\n\t\tsync(dev, x);\n\t}\n#endif\n"), WrongSurroundings, `7: "sync(dev, x);" stands under the #if A on line 5`},
		{"#if in it", Edit{Landmark: []string{"a(); b();"}}, in("\ta();\n#if A\n\tb();\n#endif\n"), WrongSurroundings, `5: "a(); b();" has a preprocessor line in it, on line 6`},
		{"#define in it", Edit{Landmark: []string{"a(); b();"}}, in("\ta();\n#define A\n\tb();\n"), WrongSurroundings, `5: "a(); b();" has a preprocessor line in it, on line 6`},
		{"under an if of some configurations", Edit{Landmark: sync}, in("#ifdef CONFIG_A\n\tif (a)\n\t\tb();\n\telse\n#endif\n\t\tc();\n\tsync(dev, x);\n"), WrongSurroundings, `11: "sync(dev, x);" stands beside a statement that the #ifdef CONFIG_A on line 5 cuts in two`},
		{"under an if whose statement is configured out", Edit{Landmark: sync}, in("\tif (a)\n#ifdef CONFIG_A\n\t\tb();\n#endif\n\tsync(dev, x);\n"), WrongSurroundings, `9: "sync(dev, x);" stands beside a statement that the #ifdef CONFIG_A on line 6 cuts in two`},
		{"in a loop of some configurations", Edit{Landmark: sync, Inside: []string{"if (a)"}}, in("\tif (a) {\n#ifdef CONFIG_A\n\t\tfor (;;)\n#endif\n\t\t\tb();\n\t\tsync(dev, x);\n\t}\n"), WrongSurroundings, `10: "sync(dev, x);" stands beside a statement that the #ifdef CONFIG_A on line 6 cuts in two`},
		{"else of some configurations between blocks", Edit{Landmark: sync}, in("\tif (a) {\n\t\tb();\n#ifdef CONFIG_A\n\t} else {\n#endif\n\t\tc();\n\t}\n\tsync(dev, x);\n"), WrongSurroundings, `12: "sync(dev, x);" stands beside a statement that the #ifdef CONFIG_A on line 7 cuts in two`},
		{"else of some configurations behind a statement", Edit{Landmark: sync}, in("\tif (a) {\n#ifdef CONFIG_A\n\t\tb();\n\t} else {\n#endif\n\t\tc();\n\t}\n\tsync(dev, x);\n"), WrongSurroundings, `12: "sync(dev, x);" stands beside a statement that the #ifdef CONFIG_A on line 6 cuts in two`},
		{"behind a macro without semicolon", Edit{Landmark: sync}, in("\tfor (;;)\n\t\tb();\n\tWARN(a)\n#ifdef CONFIG_A\n#else\n\tcase 1:\n#endif\n\tsync(dev, x);\n"), WrongSurroundings, `12: "sync(dev, x);" stands beside a statement that the #ifdef CONFIG_A on line 8 cuts in two`},
		{"shares its first line", Edit{Landmark: sync}, in("\ta(); sync(dev, x);\n"), WrongSurroundings, `5: "sync(dev, x);" does not begin its line`},
		{"shares its line with a label", Edit{Landmark: sync}, in("out:\tsync(dev, x);\n"), WrongSurroundings, `5: "sync(dev, x);" does not begin its line`},
		{"shares its last line", Edit{Landmark: sync}, in("\tsync(dev,\n\t     x); a();\n"), WrongSurroundings, `6: "sync(dev, x);" does not end its line`},
		{"shares its last line behind a comment", Edit{Landmark: sync}, in("\tsync(dev, x); /* b\n\t*/ a();\n"), WrongSurroundings, `5: "sync(dev, x);" does not end its line`},
		{"in a function of one line", Edit{Landmark: []string{"return 0;"}}, "static inline int f(void) { return 0; }\n", WrongSurroundings, `1: "return 0;" does not begin its line`},
		{"begins where a comment ends", Edit{Landmark: sync}, in("\ta(); /* b\n\t*/ sync(dev, x);\n"), WrongSurroundings, `6: "sync(dev, x);" begins where a comment ends`},
		{"replace with a comment inside", Edit{Landmark: sync, Put: Replace}, in("\tsync(dev, /* d */\n\t     x);\n"), WrongSurroundings, `5: "sync(dev, x);" has a comment in its lines, which would be lost`},
		{"replace with a comment behind", Edit{Landmark: sync, Put: Replace}, in("\tsync(dev, x); // d\n"), WrongSurroundings, `5: "sync(dev, x);" has a comment in its lines, which would be lost`},
		{"replace with a comment in front", Edit{Landmark: sync, Put: Replace}, in("\t/* a\n\t */ sync(dev, x);\n"), WrongSurroundings, `5: "sync(dev, x);" has a comment in its lines, which would be lost`},
		{"already after", Edit{Landmark: sync, Put: After}, in("\tsync(dev, x);\n\n\t/* Mark. */\n\tmark( dev );\n"), AlreadyThere, `5: the text of this edit is already there in f()`},
		{"already before", Edit{Landmark: sync}, in("\tmark(dev); /* ! */\n\n\tsync(dev, x);\n"), AlreadyThere, `7: the text of this edit is already there in f()`},
		{"already in place", Edit{Landmark: sync, Put: Replace}, in("\tmark(dev);\n"), AlreadyThere, `5: the text of this edit is already there in f()`},
		{"an else without if", Edit{Landmark: sync}, in("\ta();\n\telse\n\t\tb();\n\tsync(dev, x);\n"), Unreadable, `6: the statements of f() cannot be followed: an else without if`},
		{"a parenthesis too many", Edit{Landmark: sync}, in("\ta());\n\tsync(dev, x);\n"), Unreadable, `5: the statements of f() cannot be followed: a bracket that closes nothing`},
		{"a parenthesis too few", Edit{Landmark: sync}, in("\ta((b);\n\tsync(dev, x);\n"), Unreadable, `5: the statements of f() cannot be followed: a bracket that is never closed`},
		{"a string that does not end", Edit{Landmark: sync}, in("\ta(\"b);\n\tsync(dev, x);\n"), Unreadable, `5: the statements of f() cannot be followed: a string or character constant that does not end`},
		{"deep brackets", Edit{Landmark: sync}, in("\t" + strings.Repeat("(", 300) + strings.Repeat(")", 300) + ";\n\tsync(dev, x);\n"), Unreadable, `5: the statements of f() cannot be followed: brackets nested too deeply`},
		{"deep statements", Edit{Landmark: sync}, in("\t" + strings.Repeat("if (a) ", 300) + "b();\n\tsync(dev, x);\n"), Unreadable, `5: the statements of f() cannot be followed: statements nested too deeply`},
		{"do without while", Edit{Landmark: sync}, in("\tdo { } ;\n\tsync(dev, x);\n"), Unreadable, `5: the statements of f() cannot be followed: a do without while`},
		{"if without condition", Edit{Landmark: sync}, in("\tif a;\n\tsync(dev, x);\n"), Unreadable, `5: the statements of f() cannot be followed: a condition is missing`},
		{"if without statement", Edit{Landmark: sync}, in("\tsync(dev, x);\n\tif (a)\n"), Unreadable, `6: the statements of f() cannot be followed: a statement is missing`},
		{"case without colon", Edit{Landmark: sync}, in("\tcase a;\n\tsync(dev, x);\n"), Unreadable, `5: the statements of f() cannot be followed: a case without colon`},
		{"an #if that ends behind it", Edit{Landmark: sync}, in("\tsync(dev, x);\n#ifdef CONFIG_A\n") + "#endif\n", Unreadable, `6: the #ifdef CONFIG_A stands partly inside f() and partly outside`},
		{"an #if that begins before it", Edit{Landmark: sync}, "#ifdef CONFIG_A\n" + in("#endif\n\tsync(dev, x);\n"), Unreadable, `1: the #ifdef CONFIG_A stands partly inside f() and partly outside`},
		{"an #else in it", Edit{Landmark: sync}, "#ifdef CONFIG_A\n" + in("\tsync(dev, x);\n#else\n\ta();\n") + "#endif\n", Unreadable, `1: the #ifdef CONFIG_A stands partly inside f() and partly outside`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.edit
			e.Function, e.Text = "f", mark
			refuse(t, e, tt.src, tt.kind, tt.want)
		})
	}
}

func TestNearestStatement(t *testing.T) {
	src := in("\tint i;\n\n\tother(x);\n\tif (unlikely(is_bounced(paddr)))\n\t\tsync_single(dev, paddr, size,\n\t\t\t    dir);\n\treturn 0;\n")
	tests := []struct {
		landmark string
		nearest  string
		line     int
	}{
		{"sync_single(dev, paddr, size, dir, SYNC_FOR_CPU);", "sync_single(dev, paddr, size, dir);", 9},
		{"if (unlikely(is_bounced(dev, paddr))) sync_single(dev, paddr, size, dir);", "if (unlikely(is_bounced(paddr))) sync_single(dev, paddr, size, dir);", 8},
		{"nothing_like_it(at, all);", "", 0},
	}
	for _, tt := range tests {
		e := Edit{Function: "f", Landmark: []string{tt.landmark}, Text: mark}
		fail := refuse(t, e, src, NoLandmark, `3: no "`+tt.landmark+`" in f()`)
		if fail.Nearest != tt.nearest || fail.NearestLine != tt.line {
			t.Errorf("nearest to %s is %q on line %d", tt.landmark, fail.Nearest, fail.NearestLine)
		}
		_, second, _ := strings.Cut(fail.Error(), "\n")
		if want := "nearest is, on line 9: sync_single(dev, paddr, size, dir);"; tt.line == 9 && second != want {
			t.Errorf("second line of the error is %q", second)
		}
	}
}

func TestBadEdits(t *testing.T) {
	src := in("\tsync(dev, x);\n")
	tests := []struct {
		name string
		edit Edit
		want string
	}{
		{"put", Edit{Put: 4}, " the edit says neither before, after, replace nor function"},
		{"no text", Edit{Text: "-"}, " the edit has no text"},
		{"text without line end", Edit{Text: "a();"}, " the edit's text does not end its last line"},
		{"text with DOS line end", Edit{Text: "a();\r\n"}, " the edit's text has a carriage return or a NUL in it"},
		{"text that does not end", Edit{Text: "\tif (a)\n"}, ` the edit's text "if (a)": a statement is missing`},
		{"text without semicolon", Edit{Text: "\ta = b\n"}, ` the edit's text "a = b": does not end its last statement`},
		{"text with a brace", Edit{Text: "\tif (a) {\n"}, ` the edit's text "if (a) {": a bracket that is never closed`},
		{"text that goes on", Edit{Text: "\t// a \\\n"}, ` the edit's text "// a \": continues on the next line`},
		{"text with half a comment", Edit{Text: "/* a\n"}, ` the edit's text "/* a": line 1: a comment that never ends`},
		{"text with an else and no if", Edit{Put: After, Text: "\telse\n\t\ta();\n"}, ` the edit's landmark and text "sync(dev, x); else a();": an else without if`},
		{"text with an else before", Edit{Text: "\telse\n\t\ta();\n"}, ` the edit's text "else a();": an else without if`},
		{"section", Edit{Section: "X"}, " the edit names both a function and a section"},
		{"empty landmark", Edit{Landmark: []string{" /* */ "}}, ` the edit's landmark "/* */": holds no statement`},
		{"half a landmark", Edit{Landmark: []string{"sync(dev, x)"}}, ` the edit's landmark "sync(dev, x)": does not end its last statement`},
		{"landmark of a head", Edit{Landmark: []string{"if (a) {"}}, ` the edit's landmark "if (a) {": a bracket that is never closed`},
		{"landmark of an else", Edit{Landmark: []string{"else a();"}}, ` the edit's landmark "else a();": an else without if`},
		{"landmark that ends in a label", Edit{Landmark: []string{"a(); out:"}}, ` the edit's landmark "a(); out:": ends in a label`},
		{"landmark with a directive", Edit{Landmark: []string{"#ifdef A\na();\n#endif"}}, ` the edit's landmark "#ifdef A a(); #endif": has a preprocessor line in it`},
		{"surrounding with a directive", Edit{Inside: []string{"#if 1"}}, ` the edit's surrounding "#if 1": line 1: a preprocessor conditional that never ends`},
		{"surrounding with a definition", Edit{Inside: []string{"#define A"}}, ` the edit's surrounding "#define A": has a preprocessor line in it`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.edit
			e.Function = "f"
			switch e.Text {
			case "":
				e.Text = mark
			case "-":
				e.Text = ""
			}
			if len(e.Landmark) == 0 {
				e.Landmark = []string{"sync(dev, x);"}
			}
			refuse(t, e, src, BadEdit, tt.want)
		})
	}
	_, _, err := Edit{File: "f.c", Function: "f", Text: mark}.Apply([]byte(src))
	if err == nil || err.Error() != "f.c: the edit has no landmark" {
		t.Error(err)
	}
	_, _, err = Edit{File: "f.txt", Landmark: []string{"a"}, Inside: []string{"b"}, Text: mark}.Apply([]byte(src))
	if err == nil || err.Error() != "f.txt: the edit names what stands around the landmark, and is neither in C nor in Kconfig" {
		t.Error(err)
	}
}

func TestUnreadable(t *testing.T) {
	tests := []struct {
		name, src string
		kind      Kind
		want      string
	}{
		{"NUL", in("\ta();\n") + "\x00", Unreadable, "8: has a NUL byte in it and is no text"},
		{"DOS", strings.ReplaceAll(in("\ta();\n"), "\n", "\r\n"), Unreadable, "1: has DOS line ends"},
		{"comment", in("\ta();\n") + "/* and so on\n", Unreadable, "8: the C cannot be followed: a comment that never ends"},
		{"comment in a directive", in("\ta();\n") + "#define A /* and so on\n", Unreadable, "8: the C cannot be followed: a comment that never ends"},
		{"#if", "#if A\n" + in("\ta();\n"), Unreadable, "1: the C cannot be followed: a preprocessor conditional that never ends"},
		{"#endif", in("\ta();\n") + "#endif\n", Unreadable, "8: the C cannot be followed: #endif without #if"},
		{"#else", "#else\n" + in("\ta();\n"), Unreadable, "1: the C cannot be followed: #else without #if"},
		{"deep #if", strings.Repeat("#if A\n", 300) + in("\ta();\n"), Unreadable, "257: the C cannot be followed: preprocessor conditionals nested too deeply"},
		{"ours", in("<<<<<<< HEAD\n\ta();\n"), ConflictMarks, "5: a merge conflict was left here: <<<<<<<"},
		{"base", in("\ta();\n||||||| 0123abc\n"), ConflictMarks, "6: a merge conflict was left here: |||||||"},
		{"middle", in("\ta();\n=======\n"), ConflictMarks, "6: a merge conflict was left here: ======="},
		{"theirs", in("\ta();\n>>>>>>> branch\n"), ConflictMarks, "6: a merge conflict was left here: >>>>>>>"},
		{"all", in("<<<<<<< HEAD\n\ta();\n=======\n\tb();\n>>>>>>> branch\n"), ConflictMarks, "5: a merge conflict was left here: <<<<<<<"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			refuse(t, Edit{Function: "f", Landmark: []string{"a();"}, Text: mark}, tt.src, tt.kind, tt.want)
		})
	}
	fail := refuse(t, Edit{Function: "f", Landmark: []string{`p("a");`}, Text: mark}, in("\tp(\"\x1b[2J\xe9\");\n"), NoLandmark, `3: no "p("a");" in f()`)
	if want := "p(\"\uFFFD[2J\uFFFD\");"; fail.Nearest != want {
		t.Errorf("nearest is %q, want %q", fail.Nearest, want)
	}
	for _, src := range []string{
		in("\ta();\n«»\t/* <<<<<<< no\n\t=======\n========\n=======-\n */\n"),
		in("\ta();\n«»\tx = a <<b;\n"),
	} {
		apply(t, Edit{Function: "f", Landmark: []string{"a();"}, Put: After, Text: mark}, src)
	}
}
