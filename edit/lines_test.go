package edit

import (
	"strings"
	"testing"
)

// maintainers has the shape of the kernel's MAINTAINERS.
const maintainers = `List of maintainers
===================

M: Mail patches to

DMA MAPPING HELPERS
M:	A Person <a@example.org>
L:	list@example.org
F:	include/linux/dma-direct.h
F:	include/linux/dma-mapping.h
F:	kernel/dma/

DMA-BUF FRAMEWORK
M:	A Person <a@example.org>
F:	include/linux/dma-buf.h
F:	kernel/dma/
`

// parameters has the shape of kernel-parameters.txt.
const parameters = `	dma_debug=off	If the kernel is compiled with DMA_API_DEBUG support,
			this option disables the debugging code at boot.

	dma_debug_entries=<number>
			This option allows to tune the number of preallocated
			entries.

	driver_async_probe=  [KNL]
`

// attributes has the shape of dma-attributes.rst.
const attributes = `SKIP
====

The first call transfers the buffer, what
synchronizes the caches.
Use this attribute with
care!

FORCE
=======

By default the buffer is
assembled.
`

// at marks with «» the place in text where the stretch stands.
func at(text, stretch string, put Put) string {
	if strings.Count(text, stretch) != 1 {
		panic("no place for " + stretch)
	}
	switch put {
	case Before:
		return strings.Replace(text, stretch, left+right+stretch, 1)
	case After:
		return strings.Replace(text, stretch, stretch+left+right, 1)
	}
	return strings.Replace(text, stretch, left+stretch+right, 1)
}

func TestLinePlaces(t *testing.T) {
	const dirty = "F:\tkernel/dma/dirty.c\n"
	tests := []struct {
		name string
		edit Edit
		src  string
		how  string
	}{
		{"before", Edit{Landmark: []string{"F: include/linux/dma-buf.h"}}, at(maintainers, "F:\tinclude/linux/dma-buf.h\n", Before), `before line "F: include/linux/dma-buf.h"`},
		{"after", Edit{Landmark: []string{"F: include/linux/dma-buf.h"}, Put: After}, at(maintainers, "F:\tinclude/linux/dma-buf.h\n", After), `after line "F: include/linux/dma-buf.h"`},
		{"replace", Edit{Landmark: []string{"F: include/linux/dma-buf.h"}, Put: Replace}, at(maintainers, "F:\tinclude/linux/dma-buf.h\n", Replace), `in place of line "F: include/linux/dma-buf.h"`},
		{"first line", Edit{Landmark: []string{"List of maintainers"}}, at(maintainers, "List of maintainers\n", Before), ""},
		{"in a section", Edit{Section: "DMA MAPPING HELPERS", Landmark: []string{"F: kernel/dma/"}, Put: After},
			at(maintainers, "F:\tinclude/linux/dma-mapping.h\nF:\tkernel/dma/\n", After), `after line "F: kernel/dma/" in DMA MAPPING HELPERS`},
		{"in the last section", Edit{Section: "DMA-BUF FRAMEWORK", Landmark: []string{"F: kernel/dma/"}, Put: After}, maintainers + left + right, ""},
		{"after the section's own line", Edit{Section: "DMA MAPPING HELPERS", Landmark: []string{"DMA MAPPING HELPERS"}, Put: After}, at(maintainers, "DMA MAPPING HELPERS\n", After), ""},
		{"second alternative", Edit{Landmark: []string{"F: include/linux/dma.h", "F:	include/linux/dma-direct.h", "F: include/linux/dma-direct.h"}, Put: After}, at(maintainers, "F:\tinclude/linux/dma-direct.h\n", After), ""},
		{"prefix", Edit{Landmark: []string{"driver_async_probe=..."}, Text: "\tdma_page_dirtying=\n"}, at(parameters, "\tdriver_async_probe=  [KNL]\n", Before), `before line "driver_async_probe= [KNL]"`},
		{"several lines", Edit{Landmark: []string{"\nUse this attribute\twith\ncare!\n"}, Put: After, Text: "\nMore.\n"}, at(attributes, "Use this attribute with\ncare!\n", After), `after line "Use this attribute with"`},
		{"several lines with a prefix", Edit{Landmark: []string{"Use this attribute with\nca..."}, Put: Replace, Text: "Use it.\n"}, at(attributes, "Use this attribute with\ncare!\n", Replace), ""},
		{"several lines with a blank one", Edit{Landmark: []string{"care!\n\nFORCE"}, Put: Replace, Text: "care.\n\nFORCE 2\n"}, at(attributes, "care!\n\nFORCE\n", Replace), ""},
		{"seven = under a title", Edit{File: "a/b.rst", Landmark: []string{"By default the buffer is"}, Put: After}, at(attributes, "By default the buffer is\n", After), ""},
		{"delete", Edit{Landmark: []string{"care!"}, Put: Replace, Text: "-", File: "b.txt"}, at(attributes, "care!\n", Replace), ""},
		{"text that holds the landmark", Edit{Landmark: []string{"care!"}, Put: Replace, Text: "great\ncare!\n"}, at(attributes, "care!\n", Replace), ""},
		{"include", Edit{Landmark: []string{`#include "direct.h"`}, Put: After, Text: "#include \"dirty.h\"\n"}, "#include <linux/a.h>\n#include \"direct.h\"\n" + left + right + "\nint a;\n", `after line "#include "direct.h""`},
		{"long lines are cut", Edit{Section: strings.Repeat("LONG ", 20), Landmark: []string{strings.Repeat("long ", 20)}, Put: Replace}, strings.Repeat("LONG ", 20) + "\n" + left + strings.Repeat("long ", 20) + "\n" + right,
			`in place of line "long long long long long long long long lon…" in LONG LONG LONG LONG LONG LONG L…`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.edit
			if e.File == "" {
				e.File = "d.rst"
			}
			switch e.Text {
			case "":
				e.Text = dirty
			case "-":
				e.Text = ""
			}
			place := apply(t, e, tt.src)
			if tt.how != "" && place.How != tt.how {
				t.Errorf("How is %q, want %q", place.How, tt.how)
			}
			before, _, _ := strings.Cut(tt.src, left)
			if want := strings.Count(before, "\n") + 1; e.Put != After && place.Line != want {
				t.Errorf("line %d, want %d", place.Line, want)
			}
		})
	}
}

func TestRefusedLines(t *testing.T) {
	const dirty = "F:\tkernel/dma/dirty.c\n"
	section := "DMA MAPPING HELPERS"
	tests := []struct {
		name    string
		edit    Edit
		src     string
		kind    Kind
		want    string
		nearest string
		line    int
	}{
		{"none", Edit{Landmark: []string{"F: include/linux/dma-map.h"}}, maintainers, NoLandmark, ` no line "F: include/linux/dma-map.h"`, "F: include/linux/dma-direct.h", 9},
		{"none at all", Edit{Landmark: []string{"something else"}}, maintainers, NoLandmark, ` no line "something else"`, "", 0},
		{"only a part of a line", Edit{Landmark: []string{"F: include/linux"}}, maintainers, NoLandmark, ` no line "F: include/linux"`, "F: include/linux/dma-direct.h", 9},
		{"longer than the line", Edit{Landmark: []string{"F: kernel/dma/ x"}}, maintainers, NoLandmark, ` no line "F: kernel/dma/ x"`, "F: kernel/dma/", 11},
		{"white space more", Edit{Landmark: []string{"F : kernel/dma/"}}, maintainers, NoLandmark, ` no line "F : kernel/dma/"`, "F: kernel/dma/", 11},
		{"none in the section", Edit{Section: section, Landmark: []string{"F: include/linux/dma-buf.h"}}, maintainers, NoLandmark, `6: no line "F: include/linux/dma-buf.h" in DMA MAPPING HELPERS`, "F: include/linux/dma-direct.h", 9},
		{"two lines, the second differs", Edit{Landmark: []string{"Use this attribute with\ncaution!"}}, attributes, NoLandmark, ` no line "Use this attribute with caution!"`, "care!", 7},
		{"two lines, the file ends", Edit{Landmark: []string{"assembled.\nDone."}}, attributes, NoLandmark, ` no line "assembled. Done."`, "assembled.", 13},
		{"two lines, the section ends", Edit{Section: "care!", Landmark: []string{"care!\n\nFORCE"}}, attributes, NoLandmark, `7: no line "care! FORCE" in care!`, "care!", 7},
		{"twice", Edit{Landmark: []string{"F: kernel/dma/"}}, maintainers, AmbiguousLandmark, `11: line "F: kernel/dma/" stands 2 times, on lines 11 and 16`, "", 0},
		{"two alternatives", Edit{Section: section, Landmark: []string{"L: ...", "F: kernel/dma/"}}, maintainers, AmbiguousLandmark, `8: line "L: ..." (or its alternative) in DMA MAPPING HELPERS stands 2 times, on lines 8 and 11`, "", 0},
		{"prefix twice", Edit{Section: section, Landmark: []string{"F: include/..."}}, maintainers, AmbiguousLandmark, `9: line "F: include/..." in DMA MAPPING HELPERS stands 2 times, on lines 9 and 10`, "", 0},
		{"overlapping", Edit{Landmark: []string{"a\na"}}, "a\na\na\n", AmbiguousLandmark, `1: line "a a" stands 2 times, on lines 1 and 2`, "", 0},
		{"no section", Edit{Section: "DMA MAPPING", Landmark: []string{"F: kernel/dma/"}}, maintainers, NoLandmark, ` no section "DMA MAPPING"`, "DMA MAPPING HELPERS", 6},
		{"two sections", Edit{Section: "M: A Person <a@example.org>", Landmark: []string{"F: kernel/dma/"}}, maintainers, AmbiguousLandmark, `7: section "M: A Person <a@example.org>" stands 2 times, on lines 7 and 14`, "", 0},
		{"already after", Edit{Landmark: []string{"F: kernel/dma/"}, Put: After}, "F:\tkernel/dma/\n\nF: kernel/dma/dirty.c\n", AlreadyThere, "1: the text of this edit is already there", "", 0},
		{"already elsewhere in the section", Edit{Section: section, Landmark: []string{"L: list@example.org"}, Put: After}, strings.Replace(maintainers, "F:\tkernel", dirty+"F:\tkernel", 1), AlreadyThere, "11: the text of this edit is already there in DMA MAPPING HELPERS", "", 0},
		{"already in place", Edit{Landmark: []string{"F: kernel/old/"}, Put: Replace}, "a\nF: kernel/dma/dirty.c\n", AlreadyThere, "2: the text of this edit is already there", "", 0},
		{"section of two lines", Edit{Section: "a\nb", Landmark: []string{"F: kernel/dma/"}}, maintainers, BadEdit, ` the edit's section "a b" is no line`, "", 0},
		{"blank section", Edit{Section: " ", Landmark: []string{"F: kernel/dma/"}}, maintainers, BadEdit, ` the edit's section "" is no line`, "", 0},
		{"any line", Edit{Landmark: []string{"..."}}, maintainers, BadEdit, ` the edit's landmark "..." is no line`, "", 0},
		{"any line behind another", Edit{Landmark: []string{"a\n ..."}}, maintainers, BadEdit, ` the edit's landmark "a ..." is no line`, "", 0},
		{"no line end", Edit{Landmark: []string{"b"}, Put: After}, "a\nb", Unreadable, "2: the last line of the file does not end", "", 0},
		{"conflict", Edit{Landmark: []string{"b"}}, "a\n=======\nb\n", ConflictMarks, "2: a merge conflict was left here: =======", "", 0},
		{"empty", Edit{Landmark: []string{"b"}}, "", NoLandmark, ` no line "b"`, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.edit
			e.Text = dirty
			src := tt.src
			if strings.Contains(src, "=======\n\n") { // a title, which f.c has none of
				src = strings.Replace(src, "=======\n", "\n", 1)
			}
			src = strings.Replace(src, "===================\n", "-\n", 1)
			fail := refuse(t, e, src, tt.kind, tt.want)
			if fail.Nearest != tt.nearest || fail.NearestLine != tt.line {
				t.Errorf("nearest is %q on line %d, want %q on line %d", fail.Nearest, fail.NearestLine, tt.nearest, tt.line)
			}
		})
	}
}

func TestErrorWithoutLineOfNearest(t *testing.T) {
	e := &Error{File: "Kconfig", Problem: "no menu", Nearest: "another"}
	if got, want := e.Error(), "Kconfig: no menu\nnearest is: another"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What stands around lines, and makes them another thing in some configurations or no
// code at all, is refused, unless the edit names it.
func TestEnclosed(t *testing.T) {
	const landmark = "#include <linux/mm.h>"
	for _, tt := range []struct {
		name, file, src string
		inside          []string
		want            string // of the message, "" if it is applied
	}{
		{"plain", "f.c", "#include <linux/mm.h>\n", nil, ""},
		{"guard", "f.h", "/* x */\n#ifndef F_H\n#define F_H\n#include <linux/mm.h>\nint x;\n#endif /* F_H */\n", nil, ""},
		{"guard with a value", "f.h", "#ifndef F_H\n#define F_H 1\n#ifdef __KERNEL__\n#include <linux/mm.h>\n#endif\n#endif\nint x;\n", nil, ""},
		{"behind a condition", "f.c", "#ifdef X\nint x;\n#endif\n#include <linux/mm.h>\n#ifdef X\n#endif\n", nil, ""},
		{"#ifdef", "f.c", "int y;\n#ifdef X\n#include <linux/mm.h>\n#endif\n", nil, "stands under the #ifdef X on line 2"},
		{"#ifdef, named", "f.c", "int y;\n#ifdef  X\n#include <linux/mm.h>\n#endif\n", []string{"#ifdef X"}, ""},
		{"#else", "f.c", "int y;\n#ifdef X\nint z;\n#else\n#include <linux/mm.h>\n#endif\n", []string{"#ifdef X"}, "stands under the #else on line 4"},
		{"#else, named", "f.c", "int y;\n#ifdef X\nint z;\n#else\n#include <linux/mm.h>\n#endif\n", []string{"#else"}, ""},
		{"two, one named", "f.c", "int y;\n#if A\n#if B\n#include <linux/mm.h>\n#endif\n#endif\n", []string{"#if B"}, "stands under the #if A on line 2"},
		{"two, named", "f.c", "int y;\n#if A\n#if B\n#include <linux/mm.h>\n#endif\n#endif\n", []string{"#if A", "#if B"}, ""},
		{"none, one named", "f.c", "#include <linux/mm.h>\n", []string{"#if A"}, "does not stand under #if A"},
		{"no guard", "f.h", "#ifndef F_H\n#include <linux/mm.h>\nint x;\n#endif\nint y;\n", nil, "stands under the #ifndef F_H on line 1"},
		{"comment", "f.c", "/*\n#include <linux/mm.h>\n */\nint y;\n", nil, "stands at the comment that begins on line 1"},
		{"comment, meant", "f.c", "/*\n * A word.\n */\nint y;\n", nil, ""},
		{"comment behind it", "f.c", "#include <linux/mm.h>\n/* y */\nint y;\n", nil, ""},
		{"macro", "f.c", "#define X \\\n#include <linux/mm.h>\nint y;\n", nil, "is in the preprocessor line that begins on line 1"},
		{"cannot be followed", "f.c", "#include <linux/mm.h>\n#endif\n", nil, "the C cannot be followed: #endif without #if"},
		{"no C", "f.txt", "#ifdef X\n#include <linux/mm.h>\n#endif\n", nil, ""},
		{"make", "a/Makefile", "ifdef CONFIG_X\nendif\n#include <linux/mm.h>\n", nil, ""},
		{"make, ifdef", "a/Makefile", "ifdef CONFIG_X\n#include <linux/mm.h>\nendif\n", nil, `stands under the "ifdef CONFIG_X"`},
		{"make, ifeq", "a/Kbuild", "ifeq ($(CONFIG_X),y)\nelse\n#include <linux/mm.h>\nendif\n", nil, `stands under the "ifeq ($(CONFIG_X),y)"`},
		{"make, joined", "a/Makefile", "obj-y += a.o \\\n#include <linux/mm.h>\n", nil, "is a part of the line before it"},
		{"make, endif too many", "a/Makefile", "endif\n#include <linux/mm.h>\n", nil, ""},
		{"Kconfig", "a/Kconfig", "if A\nendif # A\nconfig X\n\thelp\n\t  If so,\n\t  if A\n#include <linux/mm.h>\n", nil, ""},
		{"Kconfig, if", "a/Kconfig", "if A\n#include <linux/mm.h>\nendif\n", nil, `stands inside "if A", not ""`},
		{"Kconfig, if, named", "a/Kconfig.x", "if A # yes\n#include <linux/mm.h>\nendif\n", []string{"if A"}, ""},
		{"Kconfig, two ifs, one named", "a/Kconfig", "if A\nif B\n#include <linux/mm.h>\nendif\nendif\n", []string{"if A"}, `stands inside "if A, if B", not "if A"`},
		{"Kconfig, choice", "a/Kconfig", "choice\n#include <linux/mm.h>\nendchoice\n", nil, `stands inside "choice"`},
	} {
		put := After
		if tt.name == "make, joined" {
			put = Before
		}
		landmark := landmark
		if tt.name == "comment, meant" {
			landmark = "* A word."
		}
		e := Edit{File: tt.file, Landmark: []string{landmark}, Inside: tt.inside, Put: put, Text: "new\n"}
		_, _, err := e.Apply([]byte(tt.src))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
