package series

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"patchgen/ktree"
	"patchgen/templates"
)

// A Mutant is a series that was made wrong on purpose.
type Mutant struct {
	Name    string   // in kebab case
	About   string   // what is wrong with it: a clause, without a period
	Static  bool     // no test at run time can see it, so that Misplaced has to
	Changes []Change // all together, with the fault in them
}

// Mutants makes the wrong series of a set out of the right one, which is changes
// (Series.Changes), in the order of mutants.toml. Those that are about something
// that the tree does not have are left out. The error says which of them does not
// fit the series.
func Mutants(tree *ktree.Tree, set *templates.Set, changes []Change) ([]Mutant, error) {
	all, err := set.Mutants()
	if err != nil {
		return nil, err
	}
	r := renderer{tree: tree, set: set}
	if err := r.survey(RenderOptions{}); err != nil {
		return nil, err
	}
	var mutants []Mutant
	for _, m := range all {
		applies, err := r.applies(m.When)
		if err == nil && applies && len(m.Tests) > 0 {
			applies, _, err = tree.Passes(m.Tests)
		}
		if err != nil {
			return nil, fmt.Errorf("mutant %s: %w", m.Name, err)
		}
		if !applies {
			continue
		}
		wrong, err := r.mutate(m, changes)
		if err != nil {
			return nil, fmt.Errorf("mutant %s: %w", m.Name, err)
		}
		mutants = append(mutants, Mutant{m.Name, m.About, m.Static, wrong})
	}
	return mutants, nil
}

// mutate returns a copy of changes with a mutant's faults in it.
func (r *renderer) mutate(m templates.Mutant, changes []Change) ([]Change, error) {
	wrong := slices.Clone(changes) // no byte of a file is changed, only which bytes it has
	for _, c := range m.Changes {
		if ok, err := r.applies(c.When); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		var err error
		if c.File, err = r.set.Render("mutants.toml: "+m.Name, c.File, r.data); err != nil {
			return nil, err
		}
		old, err := r.set.Render("mutants.toml: "+m.Name, c.Old, r.data)
		if err != nil {
			return nil, err
		}
		text, err := r.set.Render("mutants.toml: "+m.Name, c.New, r.data)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(wrong, func(have Change) bool { return have.Path == c.File })
		if i < 0 {
			return nil, fmt.Errorf("the series does not change %s: adapt templates/%s/mutants.toml", c.File, r.set.Name)
		}
		if old == "" {
			return nil, fmt.Errorf("%s: old is empty: adapt templates/%s/mutants.toml", c.File, r.set.Name)
		}
		want := max(c.Count, 1)
		if n := bytes.Count(wrong[i].After, []byte(old)); n != want {
			return nil, fmt.Errorf("%s has this text %d times, want %d: adapt templates/%s/mutants.toml\n%s",
				c.File, n, want, r.set.Name, strings.Trim(old, "\n"))
		}
		wrong[i].After = bytes.ReplaceAll(wrong[i].After, []byte(old), []byte(text))
	}
	same := func(a, b Change) bool { return bytes.Equal(a.After, b.After) }
	if slices.EqualFunc(changes, wrong, same) {
		return nil, fmt.Errorf("it is the series as it is: adapt templates/%s/mutants.toml", r.set.Name)
	}
	return wrong, nil
}
