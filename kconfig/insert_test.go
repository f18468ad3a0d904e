package kconfig

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/edit"
)

// added is newEntry as a diff shows it.
var added = "+" + strings.ReplaceAll(strings.TrimSuffix(newEntry, "\n"), "\n", "\n+") + "\n"

const newEntry = "config NEW\n\tbool \"new\"\n\thelp\n\t  Text.\n"

// menus has an M and an end in every place where they must not be found.
const menus = `config M
	bool

menu "Main"
	depends on X

# Comment of FIRST

config FIRST
	bool
	help
	  endmenu

if X
config M
	bool
endif

menu "Nested"
config M
	bool
endmenu

menuconfig SUB
	bool "sub"

if SUB
config IN_SUB
	bool
endif # SUB

choice
	prompt "one of"
config M
	bool "m"
endchoice
source "endmenu"

endmenu

config LAST
	bool
`

func TestInsert(t *testing.T) {
	tests := []struct {
		name string
		i    Insertion // Text is newEntry
		line int
		how  string
		diff string // the file, with a + in front of each line that is to be new
	}{
		{
			name: "after a symbol", i: Insertion{Menu: "Main", After: []string{"FIRST"}},
			line: 9, how: `in menu "Main", after FIRST`,
			diff: strings.Replace(menus, "\t  endmenu\n", "\t  endmenu\n+\n"+added, 1),
		},
		{
			name: "first that stands there", i: Insertion{Menu: "Main", After: []string{"GONE", "M", "SUB", "FIRST"}},
			line: 24, how: `in menu "Main", after SUB`,
			diff: strings.Replace(menus, "endif # SUB\n", "endif # SUB\n+\n"+added, 1),
		},
		{
			name: "only nested ones", i: Insertion{Menu: "Main", After: []string{"M", "IN_SUB"}},
			line: 39, how: `in menu "Main", before its endmenu (no M or IN_SUB there)`,
			diff: strings.Replace(menus, "source \"endmenu\"\n", "source \"endmenu\"\n+\n"+added, 1),
		},
		{
			name: "before the end", i: Insertion{Menu: "Main"},
			line: 39, how: `in menu "Main", before its endmenu`,
			diff: strings.Replace(menus, "source \"endmenu\"\n", "source \"endmenu\"\n+\n"+added, 1),
		},
		{
			name: "nested menu without blank lines", i: Insertion{Menu: "Nested"},
			line: 22, how: `in menu "Nested", before its endmenu`,
			diff: strings.Replace(menus, "config M\n\tbool\nendmenu\n", "config M\n\tbool\n+\n"+added+"+\nendmenu\n", 1),
		},
		{
			name: "top level", i: Insertion{After: []string{"FIRST", "M"}},
			line: 1, how: "at the top level, after M",
			diff: strings.Replace(menus, "\tbool\n", "\tbool\n+\n"+added, 1),
		},
		{
			name: "end of the file", i: Insertion{After: []string{"FIRST"}},
			line: 42, how: "at the end of the file (no FIRST there)",
			diff: menus + "+\n" + added,
		},
		{
			name: "empty file", line: 0, how: "at the end of the file",
			diff: added,
		},
		{
			name: "blank lines at the end of the file", line: 4, how: "at the end of the file",
			diff: "config A\n\tbool\n\n" + added + "\n",
		},
		{
			name: "empty menu", i: Insertion{Menu: "m"}, line: 4, how: `in menu "m", before its endmenu`,
			diff: "menu \"m\"\n\tdepends on A\n\t# B\n+\n" + added + "+\nendmenu\n",
		},
		{
			name: "two blank lines", i: Insertion{After: []string{"A"}}, line: 1, how: "at the top level, after A",
			diff: "config A\n\tbool\n\n" + added + "\nconfig B\n\tbool\n",
		},
		{
			name: "white space in the blank line", i: Insertion{After: []string{"A"}}, line: 1, how: "at the top level, after A",
			diff: "config A\n\tbool\n\thelp\n\t  Text.\n  \n" + added + "+\nconfig B\n\tbool\n",
		},
		{
			name: "comments below", i: Insertion{After: []string{"A"}}, line: 1, how: "at the top level, after A",
			diff: "config A\n\tbool\n#\tselect B\n\t# select C\n+\n" + added + "\nconfig B\n\tbool\n",
		},
		{
			name: "comments of the next entry", i: Insertion{After: []string{"A"}}, line: 1, how: "at the top level, after A",
			diff: "config A\n\tbool\n\t# select C\n+\n" + added + "+\n# Now B\nconfig B\n\tbool\n",
		},
		{
			name: "comments further down", i: Insertion{After: []string{"A"}}, line: 1, how: "at the top level, after A",
			diff: "config A\n\tbool\n+\n" + added + "\n# Now B\n\nconfig B\n\tbool\n",
		},
		{
			name: "comments above endmenu", i: Insertion{Menu: "m"}, line: 9, how: `in menu "m", before its endmenu`,
			diff: "menu \"m\"\nconfig A\n\tbool\n# of A\n\n# last\n+\n" + added + "\n# of endmenu\nendmenu\n",
		},
		{
			name: "help that looks like comments", i: Insertion{Menu: "m"}, line: 5, how: `in menu "m", before its endmenu`,
			diff: "menu \"m\"\nconfig A\n\thelp\n\t  # Text\n+\n" + added + "+\nendmenu\n",
		},
		{
			name: "if of another symbol", i: Insertion{After: []string{"A"}}, line: 1, how: "at the top level, after A",
			diff: "menuconfig A\n\tbool \"a\"\n+\n" + added + "\nif A || B\nendif\n\nif A\nendif\n",
		},
		{
			name: "long names", i: Insertion{Menu: strings.Repeat("long ", 30), After: []string{strings.Repeat("A", 80)}},
			line: 2, how: `in menu "` + strings.Repeat("long ", 9) + `long…", before its endmenu (no ` + strings.Repeat("A", 49) + `… there)`,
			diff: "menu \"" + strings.Repeat("long ", 30) + "\"\n+\n" + added + "+\nendmenu\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var src, want strings.Builder
			for line := range strings.Lines(tt.diff) {
				added := strings.HasPrefix(line, "+")
				want.WriteString(strings.TrimPrefix(line, "+"))
				if !added {
					src.WriteString(line)
				}
			}
			f, err := Parse("Kconfig", []byte(src.String()))
			if err != nil {
				t.Fatal(err)
			}
			tt.i.Text = newEntry
			out, place, err := f.Insert(tt.i)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.String(), string(out)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(edit.Place{Line: tt.line, How: tt.how}, place); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A file without a newline at its end gets one; that is no line of its own.
func TestInsertBehindNoNewline(t *testing.T) {
	for _, src := range []string{"config A\n\tbool", "config A\n\tbool\n  "} {
		f, err := Parse("Kconfig", []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		out, _, err := f.Insert(Insertion{Text: newEntry})
		if err != nil {
			t.Fatal(err)
		}
		want := "config A\n\tbool\n\n" + newEntry
		if strings.HasSuffix(src, " ") {
			want = src + "\n" + newEntry
		}
		if diff := cmp.Diff(want, string(out)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestInsertErrors(t *testing.T) {
	const file = `menu "Processor type and features"
config TWICE
	bool
config TWICE
	bool
endmenu
menu "Processor features"
	visible if X
endmenu
menu "Same"
endmenu
if X
menu "Same"
endmenu
endif
menu "Deep"
		config DEEP
		bool
endmenu
`
	tests := []struct {
		name string
		i    Insertion
		want edit.Error
	}{
		{
			"menu not there", Insertion{Menu: "Processor Type & Features", Text: newEntry},
			edit.Error{
				Kind: edit.NoLandmark, File: "Kconfig", Landmark: `menu "Processor Type & Features"`,
				Nearest: `menu "Processor type and features"`, NearestLine: 1,
				Problem: `there is no menu "Processor Type & Features"`,
			},
		},
		{
			"no menu near", Insertion{Menu: "Bus options", Text: newEntry},
			edit.Error{Kind: edit.NoLandmark, File: "Kconfig", Landmark: `menu "Bus options"`, Problem: `there is no menu "Bus options"`},
		},
		{
			"menu twice", Insertion{Menu: "Same", Text: newEntry},
			edit.Error{
				Kind: edit.AmbiguousLandmark, File: "Kconfig", Line: 13, Landmark: `menu "Same"`, Matches: 2,
				Problem: `menu "Same" begins in line 10 and again in line 13`,
			},
		},
		{
			"symbol twice", Insertion{Menu: "Processor type and features", After: []string{"GONE", "TWICE"}, Text: newEntry},
			edit.Error{
				Kind: edit.AmbiguousLandmark, File: "Kconfig", Line: 4, Landmark: "TWICE", Matches: 2,
				Problem: `TWICE is defined in line 2 and again in line 4, both directly in menu "Processor type and features"`,
			},
		},
		{
			"already defined", Insertion{Menu: "Processor features", Text: newEntry + "\nmenuconfig DEEP\n\tbool\n"},
			edit.Error{Kind: edit.AlreadyThere, File: "Kconfig", Line: 17, Landmark: "DEEP", Matches: 1, Problem: "DEEP is already defined in line 17"},
		},
		{
			"already defined twice", Insertion{Menu: "Processor features", Text: "config TWICE\n\tbool\n"},
			edit.Error{Kind: edit.AlreadyThere, File: "Kconfig", Line: 2, Landmark: "TWICE", Matches: 1, Problem: "TWICE is already defined in line 2"},
		},
		{
			"text broken", Insertion{Text: "config NEW\n\tbool\nendmenu\n"},
			edit.Error{Kind: edit.BadEdit, File: "the text for Kconfig", Line: 3, Problem: "endmenu has nothing to close"},
		},
		{
			"no text", Insertion{Text: ""},
			edit.Error{Kind: edit.BadEdit, File: "the text for Kconfig", Problem: "it has no entry"},
		},
		{
			"no newline", Insertion{Text: "config NEW\n\tbool"},
			edit.Error{Kind: edit.BadEdit, File: "the text for Kconfig", Problem: "it does not end in a newline"},
		},
		{
			"blank line first", Insertion{Text: "\nconfig NEW\n\tbool\n"},
			edit.Error{Kind: edit.BadEdit, File: "the text for Kconfig", Problem: "it begins or ends with white space"},
		},
		{
			"blank line last", Insertion{Text: "config NEW\n\tbool\n\t\n"},
			edit.Error{Kind: edit.BadEdit, File: "the text for Kconfig", Problem: "it begins or ends with white space"},
		},
		{
			"help draws in what follows", Insertion{After: []string{"A"}, Text: newEntry},
			edit.Error{
				Kind: edit.WrongSurroundings, File: "Kconfig", Line: 2,
				Problem: "the text does not fit behind line 2: its entries are read otherwise there",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := file
			if tt.want.Kind == edit.WrongSurroundings {
				src = "config A\n\tbool\n\t\tconfig B\n\t\tbool\n"
			}
			f, err := Parse("Kconfig", []byte(src))
			if err != nil {
				t.Fatal(err)
			}
			out, place, err := f.Insert(tt.i)
			e, ok := errors.AsType[*edit.Error](err)
			if !ok || out != nil || place != (edit.Place{}) {
				t.Fatalf("%q, %v, %v", out, place, err)
			}
			if diff := cmp.Diff(tt.want, *e); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// isInserted tells if out is src with text in it, and no more than the newlines
// that keep it apart.
func isInserted(src, out, text string) bool {
	before, behind, ok := strings.Cut(out, text)
	for range 3 {
		if ok && (before+behind == src || before+strings.TrimPrefix(behind, "\n") == src) {
			return true
		}
		before = strings.TrimSuffix(before, "\n")
	}
	return false
}

func BenchmarkInsert(b *testing.B) {
	src := generated()
	f, err := Parse("Kconfig", src)
	if err != nil {
		b.Fatal(err)
	}
	i := Insertion{Menu: "Processor type and features", After: []string{"SYMBOL_200"}, Text: newEntry}
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := f.Insert(i); err != nil {
			b.Fatal(err)
		}
	}
}
