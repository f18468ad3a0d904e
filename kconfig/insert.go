package kconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"patchgen/edit"
)

// Insertion is text to put into a File, and where.
type Insertion struct {
	Menu  string   // the prompt of the menu; "" = the top level of the file, outside any menu, choice and if
	After []string // symbols: behind the entry of the first one that stands directly in the menu; none does = before the menu's end
	Text  string   // whole entries; no blank line first or last, and a newline at the end
}

// Insert returns the file with i.Text in its place, one blank line before and
// behind it; all other bytes stay. Line of the Place is where the entry begins
// that the text stands behind, or the endmenu that it stands before. The error
// is an *edit.Error.
//
// An entry in a choice or an if is not directly in the menu: behind it the text
// would get a condition that is not the menu's. An "if SYMBOL" right behind the
// entry of SYMBOL belongs to it, and the text goes behind both.
func (f *File) Insert(i Insertion) ([]byte, edit.Place, error) {
	text, err := f.text(i.Text)
	if err != nil {
		return nil, edit.Place{}, err
	}
	menu, err := f.menu(i.Menu)
	if err != nil {
		return nil, edit.Place{}, err
	}
	line, place, err := f.find(menu, i.After)
	if err != nil {
		return nil, edit.Place{}, err
	}
	out, err := f.put(text, menu, line)
	if err != nil {
		return nil, edit.Place{}, err
	}
	return out, place, nil
}

// text parses the text to insert and looks whether it may go into f.
func (f *File) text(src string) (*File, error) {
	text, err := Parse("the text for "+f.name, []byte(src))
	if e, ok := errors.AsType[*edit.Error](err); ok {
		e.Kind = edit.BadEdit
		return nil, e
	}
	problem := ""
	switch {
	case len(text.entries) == 0:
		problem = "it has no entry"
	case !strings.HasSuffix(src, "\n"):
		problem = "it does not end in a newline"
	case isBlankByte(src[0]), text.isBlank(len(text.lines)):
		problem = "it begins or ends with white space"
	}
	if problem != "" {
		return nil, &edit.Error{Kind: edit.BadEdit, File: text.name, Problem: problem}
	}
	defined := map[string]int{} // symbol → line
	for _, e := range slices.Backward(f.entries) {
		if e.isSymbol() {
			defined[e.name] = e.first
		}
	}
	for _, e := range text.entries {
		if line := defined[e.name]; e.isSymbol() && line > 0 {
			return nil, &edit.Error{
				Kind: edit.AlreadyThere, File: f.name, Line: line, Landmark: e.name, Matches: 1,
				Problem: fmt.Sprintf("%s is already defined in line %d", e.name, line),
			}
		}
	}
	return text, nil
}

// menu returns the entry of the menu with a prompt, -1 for "".
func (f *File) menu(prompt string) (int, error) {
	if prompt == "" {
		return -1, nil
	}
	found, nearest, common := []int{}, entry{}, 0
	wanted := strings.Fields(strings.ToLower(prompt))
	for i, e := range f.entries {
		if e.keyword != "menu" {
			continue
		}
		if e.name == prompt {
			found = append(found, i)
		}
		n := 0
		for _, w := range strings.Fields(strings.ToLower(e.name)) {
			if slices.Contains(wanted, w) {
				n++
			}
		}
		if n > common {
			nearest, common = e, n
		}
	}
	e := &edit.Error{File: f.name, Landmark: fmt.Sprintf("menu %q", prompt), Matches: len(found)}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		e.Kind = edit.NoLandmark
		e.Problem = fmt.Sprintf("there is no menu %q", clip(prompt))
		if common > 0 {
			e.Nearest, e.NearestLine = nearest.String(), nearest.first
		}
	default:
		e.Kind, e.Line = edit.AmbiguousLandmark, f.entries[found[1]].first
		e.Problem = fmt.Sprintf("menu %q begins in line %d and again in line %d", clip(prompt), f.entries[found[0]].first, e.Line)
	}
	return 0, e
}

// find returns the line behind which a text goes that is to stand in menu,
// behind the first of the symbols that stands directly in it.
func (f *File) find(menu int, after []string) (line int, place edit.Place, err error) {
	where := "at the top level"
	if menu >= 0 {
		where = "in " + f.entries[menu].String()
	}
	for _, symbol := range after {
		var found []int
		for i, e := range f.entries {
			if e.parent == menu && e.isSymbol() && e.name == symbol {
				found = append(found, i)
			}
		}
		if len(found) == 0 {
			continue
		}
		e := f.entries[found[0]]
		if len(found) > 1 {
			again := f.entries[found[1]].first
			return 0, place, &edit.Error{
				Kind: edit.AmbiguousLandmark, File: f.name, Line: again, Landmark: symbol, Matches: len(found),
				Problem: fmt.Sprintf("%s is defined in line %d and again in line %d, both directly %s", symbol, e.first, again, where),
			}
		}
		line = e.last
		for _, next := range f.entries[found[0]+1:] {
			if next.parent != menu {
				continue
			}
			if next.keyword != "if" || next.name != symbol {
				break
			}
			line = next.last
		}
		return f.withComments(line), edit.Place{Line: e.first, How: fmt.Sprintf("%s, after %s", where, e.name)}, nil
	}

	end := len(f.lines) + 1
	how := "at the end of the file"
	if menu >= 0 {
		line, end = f.entries[menu].head, f.entries[menu].last
		how = where + ", before its endmenu"
	}
	for _, e := range f.entries {
		if e.parent == menu {
			line = e.last
		}
	}
	top := f.withComments(line)
	line = end - 1
	for menu >= 0 && line > top && f.isComment(line) { // those right above an endmenu belong to it
		line--
	}
	for line > top && f.isBlank(line) {
		line--
	}
	if len(after) > 0 {
		how += " (no " + clip(strings.Join(after, " or ")) + " there)"
	}
	return line, edit.Place{Line: min(end, len(f.lines)), How: how}, nil
}

// withComments returns the last of the comment lines below a statement that
// ends in line, if they belong to it: no blank line between, and indented or
// with a blank line behind. Otherwise it returns line.
func (f *File) withComments(line int) int {
	last, indented := line, line
	for f.isComment(last + 1) {
		last++
		if indented == last-1 && f.line(last)[0] != '#' {
			indented = last
		}
	}
	if last == len(f.lines) || f.isBlank(last+1) {
		return last
	}
	return indented
}

func (f *File) isComment(n int) bool {
	return n <= len(f.lines) && strings.HasPrefix(strings.TrimLeft(f.line(n), " \t"), "#")
}

func (f *File) isBlank(n int) bool {
	return n <= len(f.lines) && strings.Trim(f.line(n), " \t") == ""
}

// put returns the file with text behind a line, in menu.
func (f *File) put(text *File, menu, line int) ([]byte, error) {
	before, behind, next := "", "", line+1
	if f.isBlank(next) && line > 0 {
		next++
	} else if line > 0 {
		before = "\n"
	}
	if next <= len(f.lines) && !f.isBlank(next) {
		behind = "\n"
	}
	at := len(f.src)
	if next <= len(f.lines) {
		at = f.lines[next-1]
	} else if !strings.HasSuffix(f.src, "\n") && f.src != "" {
		before += "\n"
	}
	out := []byte(f.src[:at] + before + text.src + behind + f.src[at:])

	// A help text, or an indentation of the file's own, must not have drawn
	// in what now stands behind it.
	got, err := Parse(f.name, out)
	if err == nil {
		shift := strings.Count(f.src[:at]+before, "\n")
		if !slices.Equal(got.entries, f.merge(text, menu, line, shift, len(got.lines)-len(f.lines))) {
			err = errors.New("its entries are read otherwise there")
		}
	}
	if err != nil {
		return nil, &edit.Error{
			Kind: edit.WrongSurroundings, File: f.name, Line: line,
			Problem: fmt.Sprintf("the text does not fit behind line %d: %v", line, err),
		}
	}
	return out, nil
}

// merge returns the entries of f with those of text behind a line, in menu.
// The text's lines move by shift, those of f behind it by added.
func (f *File) merge(text *File, menu, line, shift, added int) []entry {
	var all []entry
	for _, e := range f.entries {
		if e.first <= line {
			if e.last > line {
				e.last += added
			}
			all = append(all, e)
		}
	}
	before := len(all)
	for _, e := range text.entries {
		if e.parent < 0 {
			e.parent = menu
		} else {
			e.parent += before
		}
		all = append(all, e.moved(shift))
	}
	for _, e := range f.entries[before:] {
		if e.parent >= before {
			e.parent += len(text.entries)
		}
		all = append(all, e.moved(added))
	}
	return all
}

// moved returns e, so many lines further down.
func (e entry) moved(lines int) entry {
	e.first += lines
	e.head += lines
	e.last += lines
	return e
}
