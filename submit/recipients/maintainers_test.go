package recipients

import (
	"fmt"
	"net/mail"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/submit/address"
)

// roles writes entries one a line.
func roles(entries []entry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s (%s)\n", e.person, e.role)
	}
	return b.String()
}

func TestPatterns(t *testing.T) {
	const no = -9
	tree := stand(t, nil)
	for _, test := range []struct {
		pattern, file string
		depth         int
	}{
		{"kernel/", "kernel/init.c", 1},
		{"kernel/", "kernel/a/b.c", 1},
		{"kernel", "kernel/a/b.c", 1}, // it is a folder of the tree
		{"kernel", "kernels", no},
		{"nowhere", "nowhere/a.c", no},
		{"nowhere", "nowhere-else", 1},
		{"kernel/init", "kernel/init.c", 2},
		{"kernel/init.c", "kernel/init_c", no},
		{"kernel/*", "kernel/init.c", 2},
		{"kernel/*", "kernel/a/b.c", no},
		{"kernel/*/", "kernel/a/b.c", 2},
		{"kernel/*/", "kernel/a/b/c.c", 2},
		{"kernel/**", "kernel/a/b/c.c", 2},
		{"a/**/c", "a/b/b/c.c", 3},
		{"a/*/c", "a/b/b/c.c", no},
		{"a/?.[ch]", "a/b.h", 2},
		{"a/?.[ch]", "a/b.o", no},
		{"a/[/b", "a/[/b", no}, // no regular expression
		{"a/b+c", "a/bbc", 2},
		{"a/b+c", "a/b+c", no},
		{"a|b", "b", 1},
		{"a|b", "a", 1},
		{"*", "Makefile", -1},
		{"*", "a/b", no},
		{"*/", "a/b", -1},
		{"**/b", "a/c/b", -1},
		{"", "Makefile", 1},
		{"a$", "a", 1},
		{"a/b ", "a/b", no},
		{"kernel/init.c$", "kernel/init.c", 2},
	} {
		d := newDatabase([]byte("TITLE\nF:\t"+test.pattern+"\n"), tree)
		s := d.sections[0]
		depth, ok := d.place(s, test.file)
		if !ok {
			depth = no
		}
		if depth != test.depth {
			t.Errorf("%q of %q: %d, want %d", test.pattern, test.file, depth, test.depth)
		}
		d = newDatabase([]byte("TITLE\nF:\t*\nF:\t*/\nX:\t"+test.pattern+"\nF:\t**\n"), tree)
		if _, ok := d.place(d.sections[0], test.file); ok != (test.depth == no) {
			t.Errorf("X: %q of %q: %v", test.pattern, test.file, ok)
		}
		if bad := test.pattern == "a/[/b"; bad != (len(d.notes) == 1) {
			t.Errorf("%q: notes %q", test.pattern, d.notes)
		}
	}
}

func TestToGo(t *testing.T) {
	for _, test := range []struct {
		perl     string
		x        bool
		matching string
		not      string
	}{
		{`\bfoo\b`, true, "a foo b\n", "food\n"},
		{`a b # c`, true, "ab\n", "a b\n"},
		{`a b # c`, false, "a b # c", "ab\n"},
		{`a\ b\#`, true, "a b#\n", "ab\n"},
		{`a[ #]b`, true, "a#b\n", "ab\n"},
		{`a[]#]b`, true, "a]b\n", "ab\n"},
		{`a[^]x]b`, true, "ayb\n", "a]b\n"},
		{`a[[:space:]#] b`, true, "a b\n", "ab\n"},
		{`a\[ b`, true, "a[b\n", "a[ b\n"},
		{`a$`, true, "a\n", "a\nb"},
		{`a\Z`, true, "a\n", "ab"},
		{`a\z`, true, "a", "a\n"},
		{`a[$]`, true, "a$\n", "a\n"},
		{`a\$`, true, "a$\n", "a\n"},
		{`(?i)foo`, true, "FOO\n", "FO\n"},
		{`foo\s`, true, "foo\n", "foo"},
		{`a\`, true, "", ""},
		{`(?=a)`, true, "", ""},
		{`a**`, true, "", ""},
		{`(?<a>x)\k<a>`, true, "", ""},
	} {
		re, err := regexp.Compile(toGo(test.perl, test.x))
		if test.matching == "" {
			if err == nil {
				t.Errorf("%q is taken for %q", test.perl, re)
			}
			continue
		}
		if err != nil || !re.MatchString(test.matching) || re.MatchString(test.not) {
			t.Errorf("%q is %q: %v", test.perl, toGo(test.perl, test.x), err)
		}
	}
}

func TestKeywords(t *testing.T) {
	d := newDatabase([]byte(`TEXT
M:	One <one@example.org>
K:	\bone\b
BOTH
M:	Two <two@example.org>
K:	two|either
NONE
M:	Three <three@example.org>
K:	# nothing but a comment
`), stand(t, nil))
	if len(d.notes) != 1 || len(d.keywords) != 2 {
		t.Errorf("notes %q", d.notes)
	}
	for text, want := range map[string]string{
		"Subject: one\n":                           `One <one@example.org> (maintainer:TEXT:Keyword:\bone\b)` + "\n",
		"--- a/x\n+++ b/x\n one\n":                 "",
		"--- a/x\n+++ b/x\n-\tone\n":               `One <one@example.org> (maintainer:TEXT:Keyword:\bone\b)` + "\n",
		"--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@ one\n":  "",
		"--- a/x\n+++ b/x\n two\n":                 "",
		"--- a/x\n+++ b/x\n either\n":              "Two <two@example.org> (maintainer:BOTH:Keyword:two|either)\n", // as Perl has it, after "^[+-].*"
		"--- a/one\n+++ b/one\n":                   "",
		"diff --git a/one b/one\nrename to one\n":  "",
		"Fixes: 123456789abc (\"one\")\n":          "",
		"Fixes: one\n+++ /x\n--- either\n-- one\n": `One <one@example.org> (maintainer:TEXT:Keyword:\bone\b)` + "\n",
	} {
		if diff := cmp.Diff(want, roles(d.find(nil, []byte(text)))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// TestKeywordOrder has K: in the lines with the numbers 2, 9 and 10, which the script
// sorts as texts.
func TestKeywordOrder(t *testing.T) {
	d := newDatabase([]byte(`FIRST
M:	One <one@example.org>
K:	x

# Neither this line counts, nor an empty one.
SECOND
M:	Two <two@example.org>
W:	a
W:	b
W:	c
W:	d
K:	x
K:	y
`), stand(t, nil))
	var order []string
	for _, k := range d.keywords {
		order = append(order, k.order+k.value)
	}
	if want := []string{"10y", "2x", "9x"}; !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
	want := "Two <two@example.org> (maintainer:SECOND:Keyword:y)\nOne <one@example.org> (maintainer:FIRST:Keyword:x)\n"
	if diff := cmp.Diff(want, roles(d.find(nil, []byte("xy\n")))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestClassify(t *testing.T) {
	for line, want := range map[string][]string{
		"diff --git a/x/y b/x/z\n":          {"x/y", "x/z"},
		"diff --git a/x y b/x y\n":          nil,
		"rename from x/y\n":                 {"x/y"},
		"rename to x/y\n":                   {"x/y"},
		" mode change 100644 => 100755 x\n": {"x"},
		"--- a/x/y\n":                       {"x/y"},
		"+++ b/x/y\t2026-01-01\n":           {"x/y"},
		"--- /dev/null\n":                   {"dev/null"},
		"---\n":                             nil,
		"-- \n":                             nil,
		"--- a note":                        {"a"},
		"\n":                                nil,
		"":                                  nil,
	} {
		if _, names := classify([]byte(line)); !slices.Equal(names, want) {
			t.Errorf("%q: %q", line, names)
		}
	}
}

// TestFind has what the real files have, and more.
func TestFind(t *testing.T) {
	text, err := os.ReadFile("testdata/linux/MAINTAINERS")
	if err != nil {
		t.Fatal(err)
	}
	d := newDatabase(text, stand(t, nil))
	for file, want := range map[string]string{
		"Makefile": "everybody@lists.example.org (open list)\n",
		"drivers/bounced/x.c": `"Quoted, Name" <quoted@example.org> (maintainer:BOUNCED)
 (open list:BOUNCED)
everybody@lists.example.org (open list)
`,
		"kernel/toy/x.c": `First Maintainer <first@example.org> (maintainer:TOYS WITH A TITLE THAT IS LONGER THAN ROLES MAY...)
Second Maintainer <second@example.org> (maintainer:TOYS WITH A TITLE THAT IS LONGER THAN ROLES MAY...)
Third Maintainer <third@example.org> (maintainer:TOYS WITH A TITLE THAT IS LONGER THAN ROLES MAY...)
everybody@lists.example.org (open list)
`,
		"lib/a_windup.c": `First Maintainer <first@example.org> (maintainer:TOYS WITH A TITLE THAT IS LONGER THAN ROLES MAY...)
Second Maintainer <second@example.org> (maintainer:TOYS WITH A TITLE THAT IS LONGER THAN ROLES MAY...)
Third Maintainer <third@example.org> (maintainer:TOYS WITH A TITLE THAT IS LONGER THAN ROLES MAY...)
everybody@lists.example.org (open list)
`,
		"lib/awindup.c": "everybody@lists.example.org (open list)\n",
		"include/linux/core-x.h": `First Maintainer <first@example.org> (maintainer:CORE OF THE STAND-IN)
"Jürgen Ümlaut" <juergen@example.org> (maintainer:CORE OF THE STAND-IN)
Careful Reader <reader@example.org> (reviewer:CORE OF THE STAND-IN)
core@lists.example.org (open list:CORE OF THE STAND-IN)
everybody@lists.example.org (open list)
`,
		"Documentation/bindings/toy.yaml": `Moved Person <moved@example.org> (maintainer:TOYS)
"A J. Initial (Toy Corp)" <initial@example.org> (reviewer:TOYS)
"Vera M. Binding" <vera@example.org> (in file)
Toy Team <team@example.org> (in file)
toys@lists.example.org (moderated list:TOYS)
everybody@lists.example.org (open list)
`,
	} {
		if diff := cmp.Diff(want, roles(d.find([]string{file}, nil))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestPeople(t *testing.T) {
	for text, want := range map[string]person{
		"A B <a@b.c>":                    {"A B", "a@b.c"},
		"A B <a@b.c> (x)":                {"A B", "a@b.c"},
		`"B, A" <a@b.c>`:                 {`"B, A"`, "a@b.c"},
		`A "B" C <a@b.c>`:                {`"A \"B\" C"`, "a@b.c"},
		"<a@b.c>":                        {"", "a@b.c"},
		"a@b.c":                          {"", "a@b.c"},
		"A\t<a@b.c>":                     {"A", "a@b.c"},
		"a@b.c (comment)":                {"", "a@b.c"},
		"nobody":                         {},
		"J. Doe <a@b.c>, K. Roe <d@e.f>": {`"J. Doe"`, "a@b.c>, K. Roe <d@e.f"}, // which is refused later
	} {
		if got := parsePerson(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := unescape(`"A \"B\" C"`); got != `A "B" C` {
		t.Error(got)
	}

	m := readMailmap([]byte("# comment\nNew Name <a@b.c>\n<new@b.c> <old@b.c> # moved\nBoth New <both@b.c> <both-old@b.c>\nOne Of Two <one@b.c> Shared Name <shared@b.c>\nnonsense\n"))
	for text, want := range map[string]string{
		"Old Name <a@b.c>":         "New Name <a@b.c>",
		"X <old@b.c>":              "X <new@b.c>",
		"Any <both-old@b.c>":       "Both New <both@b.c>",
		"Shared Name <shared@b.c>": "One Of Two <one@b.c>",
		"Another <shared@b.c>":     "Another <shared@b.c>",
		"X <OLD@b.c>":              "X <OLD@b.c>",
	} {
		if got := m.apply(parsePerson(text)).String(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// names has the ways in which bindings name people, and others.
const names = `# Copyright (c) 2026 Some Company. <legal@example.org>
maintainers:
  - Ann B. Cee <ann@example.org>
  - "Dee, Eff" <dee@example.org>
  - bare@example.org
  - José Úñal (Company) <jose@example.org>
  - X Y Z W <w@example.org>
  - One Two Three Four <four@example.org>
  - no@address
description: see {curly@example.org}, or write to
  Broken Line
  <broken@example.org>
`

func TestBindings(t *testing.T) {
	c := newCollector(mailmap{})
	c.file([]byte(names))
	var got strings.Builder
	for _, p := range c.inFiles {
		fmt.Fprintln(&got, p)
	}
	want := `Some Company <legal@example.org>
"Ann B. Cee" <ann@example.org>
"Dee, Eff" <dee@example.org>
bare@example.org
jose@example.org
Y Z W <w@example.org>
Three Four <four@example.org>
see <curly@example.org>
Broken Line <broken@example.org>
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseEntry(t *testing.T) {
	for line, want := range map[string]entry{
		"A B <a@b.c> (maintainer:X (Y))":                 {person{"A B", "a@b.c"}, "maintainer:X (Y)"},
		`"A \"B\" (C) <" <a@b.c> (reviewer:X)`:           {person{`"A \"B\" (C) <"`, "a@b.c"}, "reviewer:X"},
		"Jürgen <a@b.c> (supporter:X)":                   {person{"Jürgen", "a@b.c"}, "supporter:X"},
		"a@b.c (open list)":                              {person{"", "a@b.c"}, "open list"},
		"a@b.c (open list:X:Keyword:<a@x> (b)),in file)": {person{"", "a@b.c"}, "open list:X:Keyword:<a@x> (b)),in file"},
		" (open list:X)":                                 {},
		"a@b.c":                                          {},
		"A B a@b.c (x)":                                  {},
	} {
		if got, ok := parseEntry(line); got != want || ok != (want.role != "") {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// FuzzDatabase has any MAINTAINERS and patch. Nobody comes out who could not
// stand in a header.
func FuzzDatabase(f *testing.F) {
	text, err := os.ReadFile("testdata/linux/MAINTAINERS")
	if err != nil {
		f.Fatal(err)
	}
	binding, err := os.ReadFile("testdata/linux/Documentation/bindings/toy.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text), "Subject: toy_stop\n"+change("kernel/init.c", "toy_wind", "Documentation/bindings/toy.yaml", "x"), string(binding))
	f.Add("T\nM:\tA <a@b.c>\nF:\t[\nF:\t+\nX:\t{\nN:\t(\nK:\t**\n", change("+", "x"), "")
	f.Add("F:\t*\nM:\ta@b.c, d@e.f\nL:\ta@b.c x\nS:\tOrphan\nK:\t[[:x\n", "--- a/x\n", "A <a@b.c>")
	tree := stand(f, nil)
	f.Fuzz(func(t *testing.T, text, patch, file string) {
		d := newDatabase([]byte(text), tree)
		d.mailmap = readMailmap([]byte(file))
		var files []string
		for line := range strings.Lines(patch) {
			_, names := classify([]byte(line))
			files = append(files, names...)
		}
		c := newCollector(d.mailmap)
		c.file([]byte(file))
		for _, e := range slices.Concat(d.find(files, []byte(patch)), c.entries()) {
			r, err := d.recipient(e)
			if err != nil {
				continue
			}
			if _, err := address.Check(mail.Address{Name: r.Name, Address: r.Address}); err != nil || !address.Printable(r.Why) {
				t.Errorf("%+v", r)
			}
			// What the script would print is read as the same.
			if back, ok := parseEntry(e.String() + " (" + e.role + ")"); ok && back != e {
				t.Errorf("%q is read back as %q", e, back)
			}
		}
		d.foldersFor(files)
	})
}
