package series

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"patchgen/edit"
	"patchgen/kconfig"
	"patchgen/ktree"
	"patchgen/templates"
)

// RenderOptions are what a series says about how it was made.
type RenderOptions struct {
	Tool string // program and version: "patchgen 0.1"
	Call string // the arguments that decide what is rendered: "--variant full"
	// Testing is for the cover letter: how these very patches were tested, in
	// paragraphs and list items that need not be wrapped. "" says that they were not.
	Testing string
}

// Render makes the variant of a set of templates for a tree. It reads from the
// tree the files that are tested or edited, and no other.
//
// The error is a *ktree.UnsupportedError for a tree of another kind than the set's,
// a *ktree.UnknownError for one of no known generation, and an
// *edit.Error for an edit that found no place, or more than one, and for code that
// the edits leave wrong.
func Render(tree *ktree.Tree, set *templates.Set, variant string, o RenderOptions) (*Series, error) {
	v, err := set.Variant(variant)
	if err != nil {
		return nil, err
	}
	r := renderer{tree: tree, set: set, files: make(map[string][]byte), grown: make(map[string][]growth)}
	if err := r.survey(o); err != nil {
		return nil, err
	}

	s := &Series{
		Name:       set.Name,
		Kind:       tree.Kind(),
		Generation: r.data.Generation,
		Release:    tree.Release().String(),
		Origin:     tree.Origin(),
		BaseCommit: tree.Commit(),
	}
	s.Title, s.Blurb, err = r.message(v.Cover)
	if err != nil {
		return nil, err
	}
	for _, p := range v.Patches {
		patch, err := r.patch(p)
		if err != nil {
			return nil, err
		}
		if len(patch.Changes) > 0 {
			s.Patches = append(s.Patches, patch)
		}
	}
	s.Attributes, err = tree.ReadFile(".gitattributes")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return s, r.unhooked(variant, s.Changes())
}

type renderer struct {
	tree  *ktree.Tree
	set   *templates.Set
	data  templates.Data
	files map[string][]byte   // as the patches so far leave them
	grown map[string][]growth // by the edits so far
}

// survey finds out what the tree is and has.
func (r *renderer) survey(o RenderOptions) error {
	gen, err := r.set.Classify(r.tree)
	if err != nil {
		return err
	}
	r.data = templates.Data{
		Has:        make(map[string]bool),
		Name:       gen.Names,
		Release:    r.tree.Release().String(),
		Origin:     public(r.tree.Origin()),
		BaseCommit: r.tree.Commit(),
		Generation: gen.Name,
		Tool:       o.Tool,
		Call:       o.Call,
		Digest:     r.set.Digest()[:12],
		Testing:    o.Testing,
	}
	for _, f := range r.set.Features {
		r.data.Has[f.Name], _, err = r.tree.Passes(f.Tests)
		if err != nil {
			return err
		}
	}
	return nil
}

// public is a tree's origin for a mail: where it lies on a disk is nobody's
// business.
func public(origin string) string {
	if filepath.IsAbs(origin) {
		return filepath.Base(origin)
	}
	return origin
}

// applies tells whether the tree has each feature of when, or lacks it if it
// is written with a "!".
func (r *renderer) applies(when []string) (bool, error) {
	for _, w := range when {
		name, not := strings.CutPrefix(w, "!")
		has, known := r.data.Has[name]
		if !known {
			return false, fmt.Errorf("templates/%s: when: no feature %q in generations.toml", r.set.Name, name)
		}
		if has == not {
			return false, nil
		}
	}
	return true, nil
}

// message renders a message template and parts the subject from the body.
func (r *renderer) message(file string) (subject, body string, err error) {
	text, err := r.set.RenderFile(file, r.data)
	if err != nil {
		return "", "", err
	}
	subject, body, found := strings.Cut(strings.TrimSpace(text), "\n\n")
	if !found || strings.Contains(subject, "\n") {
		return "", "", fmt.Errorf("templates/%s/%s: want a subject, a blank line, a body", r.set.Name, file)
	}
	return subject, wrap(body), nil
}

func (r *renderer) patch(p templates.Patch) (Patch, error) {
	var out Patch
	if ok, err := r.applies(p.When); err != nil || !ok {
		return out, err
	}
	before := make(map[string][]byte) // nil for a new file
	for _, n := range p.New {
		if err := r.add(n, before); err != nil {
			return out, err
		}
	}
	for _, e := range p.Edits {
		ok, err := r.applies(e.When)
		if err != nil {
			return out, err
		}
		if !ok {
			continue
		}
		placed, err := r.edit(e, before)
		if err != nil {
			return out, err
		}
		out.Edits = append(out.Edits, placed)
	}
	for name, text := range before {
		out.Changes = append(out.Changes, Change{Path: name, Before: text, After: r.files[name]})
	}
	slices.SortFunc(out.Changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })

	var err error
	out.Subject, out.Body, err = r.message(p.Message)
	return out, err
}

// read returns a file as the patches so far leave it.
func (r *renderer) read(name string) ([]byte, error) {
	if text, ok := r.files[name]; ok {
		return text, nil
	}
	return r.tree.ReadFile(name)
}

func (r *renderer) add(n templates.New, before map[string][]byte) error {
	ok, err := r.applies(n.When)
	if err != nil || !ok {
		return err
	}
	if n.File, err = r.set.Render("file that is new", n.File, r.data); err != nil {
		return err
	}
	_, err = r.read(n.File)
	if err == nil {
		return &edit.Error{
			Kind: edit.AlreadyThere, File: n.File,
			Problem: "the series makes this file, but the tree has it: the series, or a part of it, is there already",
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := r.set.RenderFile(n.Template, r.data)
	if err != nil {
		return err
	}
	before[n.File] = nil
	r.files[n.File] = []byte(text)
	return nil
}

func (r *renderer) edit(e templates.Edit, before map[string][]byte) (PlacedEdit, error) {
	file, err := r.set.Render("file of an edit", e.File, r.data)
	if err != nil {
		return PlacedEdit{File: e.File}, err
	}
	e.File = file
	placed := PlacedEdit{File: e.File}
	src, err := r.read(e.File)
	if errors.Is(err, fs.ErrNotExist) {
		return placed, &edit.Error{Kind: edit.NoLandmark, File: e.File, Function: e.Function, Problem: "the tree has no such file"}
	}
	if err != nil {
		return placed, err
	}
	var text string
	if e.Template != "" {
		text, err = r.set.RenderFile(e.Template, r.data)
	} else {
		text, err = r.set.Render(e.File+": text", e.Text, r.data)
	}
	if err != nil {
		return placed, err
	}
	function, err := r.set.Render(e.File+": function", e.Function, r.data)
	if err != nil {
		return placed, err
	}

	var out []byte
	if len(e.After) > 0 || e.Menu != "" {
		var f *kconfig.File
		f, err = kconfig.Parse(e.File, src)
		if err == nil {
			out, placed.Place, err = f.Insert(kconfig.Insertion{Menu: e.Menu, After: e.After, Text: text})
		}
	} else {
		var put edit.Put
		put, err = putOf(e.Put)
		if err == nil {
			out, placed.Place, err = edit.Edit{
				File: e.File, Function: function, Inside: e.Inside, Reached: e.Reached, Section: e.Section,
				Landmark: e.Landmark, Put: put, Text: text,
			}.Apply(src)
		}
	}
	if err != nil {
		return placed, err
	}
	placed.Function = function
	placed.Line = r.moved(e.File, placed.Line, src, out)
	if _, ok := before[e.File]; !ok {
		before[e.File] = src
	}
	r.files[e.File] = out
	return placed, nil
}

// A growth is what an edit did to a file's lines: those behind the first at
// lines moved down by added.
type growth struct{ at, added int }

// moved notes that an edit made out of src, and returns what number the line
// of src has in the tree: that is where a person looks for it.
func (r *renderer) moved(file string, line int, src, out []byte) int {
	same := 0
	for same < min(len(src), len(out)) && src[same] == out[same] {
		same++
	}
	newline := []byte("\n")
	g := growth{
		at:    bytes.Count(src[:same], newline),
		added: bytes.Count(out, newline) - bytes.Count(src, newline),
	}
	for _, before := range slices.Backward(r.grown[file]) {
		if line > before.at {
			line = max(line-before.added, before.at)
		}
	}
	r.grown[file] = append(r.grown[file], g)
	return line
}

func putOf(word string) (edit.Put, error) {
	switch word {
	case "before":
		return edit.Before, nil
	case "after":
		return edit.After, nil
	case "replace":
		return edit.Replace, nil
	case "function":
		return edit.Whole, nil
	}
	return 0, fmt.Errorf("put = %q: want before, after, replace or function", word)
}
