package series

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"patchgen/edit"
	"patchgen/ktree"
	"patchgen/templates"
)

// A Misplacement is a rule of where calls have to stand, and how changes break it.
type Misplacement struct {
	Place    string // name of the rule, in kebab case
	About    string // the rule: a clause, without a period
	File     string
	Function string // "" if it is missing
	Line     int    // of its name in the changed file, 0 if it is missing
	Problem  string // one sentence for people, without file and line
}

func (m Misplacement) String() string {
	at := m.File
	if m.Line > 0 {
		at += fmt.Sprintf(":%d", m.Line)
	}
	return fmt.Sprintf("%s: %s (%s: %s)", at, m.Problem, m.Place, m.About)
}

// Misplaced judges changes, which are all of a variant of the set (Series.Changes),
// by the rules of the set's places.toml, and returns those that are broken, in the
// order of that file. It looks at the C of the files that these name, as the changes
// leave it. The error is an *edit.Error for C that cannot be followed.
func Misplaced(tree *ktree.Tree, set *templates.Set, variant string, changes []Change) ([]Misplacement, error) {
	r := renderer{tree: tree, set: set}
	if err := r.survey(RenderOptions{}); err != nil {
		return nil, err
	}
	return r.misplaced(variant, changes)
}

func (r *renderer) misplaced(variant string, changes []Change) ([]Misplacement, error) {
	places, err := r.set.Places()
	if err != nil {
		return nil, err
	}
	files := make(map[string][]edit.Function)
	var broken []Misplacement
	for _, p := range places {
		if p.Variant != "" && p.Variant != variant {
			continue
		}
		ok, err := r.applies(p.When)
		if err == nil && ok {
			err = r.fillIn(&p)
		}
		if err != nil {
			return nil, fmt.Errorf("place %s: %w", p.Name, err)
		}
		if !ok {
			continue
		}
		if _, read := files[p.File]; !read {
			if files[p.File], err = r.functions(changes, p.File); err != nil {
				return nil, err
			}
		}
		broken = append(broken, breaches(p, files[p.File])...)
	}
	return broken, nil
}

// functions returns those of a file as the changes leave it; none if there is no such
// file.
func (r *renderer) functions(changes []Change, file string) ([]edit.Function, error) {
	for _, c := range changes {
		if c.Path == file {
			return edit.Functions(file, c.After)
		}
	}
	src, err := r.tree.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return edit.Functions(file, src)
}

// unhooked refuses a tree in which the edits found their places, and which yet has code
// that the rules want otherwise, such as one more way on which buffers come back.
func (r *renderer) unhooked(variant string, changes []Change) error {
	wrong, err := r.misplaced(variant, changes)
	if err != nil || len(wrong) == 0 {
		return err
	}
	m := wrong[0]
	e := &edit.Error{Kind: edit.Unhooked, File: m.File, Function: m.Function, Problem: m.Problem + ": " + m.About}
	if m.Function != "" {
		e.Problem = "with the series " + e.Problem
	}
	// A person looks for it in the tree as it is.
	before, err := r.functions(nil, m.File)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(before, func(f edit.Function) bool { return f.Name == m.Function }); i >= 0 {
		e.Line = before[i].Line
	}
	return e
}

// fillIn renders the templates of a place.
func (r *renderer) fillIn(p *templates.Place) error {
	p.Callers = slices.Clone(p.Callers)
	texts := []*string{&p.File, &p.Function, &p.Call}
	for i := range p.Callers {
		texts = append(texts, &p.Callers[i])
	}
	for _, t := range texts {
		out, err := r.set.Render("places.toml: "+p.Name, *t, r.data)
		if err != nil {
			return err
		}
		*t = out
	}
	return nil
}

// breaches returns how the functions of its file break a rule.
func breaches(p templates.Place, all []edit.Function) []Misplacement {
	var broken []Misplacement
	found := false
	for _, f := range all {
		if p.Function != "" && f.Name != p.Function {
			continue
		}
		if p.Function == "" && !slices.ContainsFunc(p.Callers, func(c string) bool { return slices.Contains(f.Calls, c) }) {
			continue
		}
		found = true
		if problem := breach(p, f.Calls); problem != "" {
			broken = append(broken, Misplacement{p.Name, p.About, p.File, f.Name, f.Line, f.Name + "() " + problem})
		}
	}
	if !found && !p.Never {
		problem := fmt.Sprintf("the series leaves no %s() in it", p.Function)
		if p.Function == "" {
			problem = fmt.Sprintf("the series leaves no function in it that calls %s()", strings.Join(p.Callers, "() or "))
		}
		broken = append(broken, Misplacement{p.Name, p.About, p.File, "", 0, problem})
	}
	return broken
}

// breach tells how a function that makes these calls breaks a rule, "" if it
// does not.
func breach(p templates.Place, calls []string) string {
	first, last, n := -1, -1, 0
	for i, c := range calls {
		if c == p.Call {
			if n == 0 {
				first = i
			}
			last = i
			n++
		}
	}
	switch {
	case p.Never && n > 0:
		return fmt.Sprintf("calls %s()", p.Call)
	case p.Never:
		return ""
	case n == 0:
		return fmt.Sprintf("does not call %s()", p.Call)
	case p.Count > 0 && n != p.Count:
		return fmt.Sprintf("calls %s() %d times, want %d", p.Call, n, p.Count)
	}
	for i, c := range calls {
		if i > first && slices.Contains(p.Behind, c) {
			return fmt.Sprintf("calls %s() before %s()", p.Call, c)
		}
		if i < last && slices.Contains(p.Before, c) && slices.Contains(edit.Leaves, c) {
			return fmt.Sprintf("has a %s before it calls %s()", c, p.Call)
		}
		if i < last && slices.Contains(p.Before, c) {
			return fmt.Sprintf("calls %s() behind %s()", p.Call, c)
		}
	}
	return ""
}
