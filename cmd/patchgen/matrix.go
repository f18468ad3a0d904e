package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"patchgen/edit"
	"patchgen/kbuild"
	"patchgen/ktree"
	"patchgen/qemubuild"
	"patchgen/series"
	"patchgen/templates"
)

// A treeMatrix tells what becomes of each variant of a series on each of some trees.
type treeMatrix struct {
	sets    []*templates.Set // each is for trees of its kind
	compile bool
	report  *reporter
}

// A matrixError says that the series cannot be had for all of the trees.
type matrixError struct{ refused, wrong int }

func (e *matrixError) Error() string {
	if e.wrong > 0 {
		return fmt.Sprintf("%d series do not compile, or bring new warnings", e.wrong)
	}
	return fmt.Sprintf("%d series were refused: patchgen trees --explain TREE tells why", e.refused)
}

// print prints the table for the trees, or for the reference trees in the cache.
func (m *treeMatrix) print(ctx context.Context, specs []string, w io.Writer) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	all := len(specs) == 0
	if all {
		for _, set := range m.sets {
			specs = append(specs, ktree.References(set.Kind)...)
		}
	}
	var failed matrixError
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "TREE\tRELEASE\tGENERATION\tVARIANT\tPATCHES\tEDITS\tAPPLIED\tCOMPILED")
	for _, spec := range specs {
		tree, err := ktree.Open(ctx, spec, ktree.Options{Cache: cache, Offline: all, Progress: m.report})
		if all && errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(t, "%s\tnot in the cache\n", spec)
			continue
		}
		if err != nil {
			return err
		}
		set := m.sets[0] // whose Suits says what is wrong, if none is for the tree
		if i := slices.IndexFunc(m.sets, func(s *templates.Set) bool { return s.Kind == tree.Kind() }); i >= 0 {
			set = m.sets[i]
		}
		err = m.rows(ctx, t, cache, spec, tree, set, &failed)
		tree.Close()
		if err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if failed != (matrixError{}) {
		return &failed
	}
	return nil
}

// rows prints a line for each variant of a tree.
func (m *treeMatrix) rows(ctx context.Context, w io.Writer, cache, spec string, tree *ktree.Tree, set *templates.Set, failed *matrixError) error {
	for _, variant := range set.Variants() {
		s, err := series.Render(tree, set, variant, series.RenderOptions{Tool: tool, Call: "--variant " + variant})
		unknown, noPlace := (*ktree.UnknownError)(nil), (*edit.Error)(nil)
		if errors.As(err, &unknown) || errors.As(err, &noPlace) {
			failed.refused++
			line, _, _ := strings.Cut(err.Error(), "\n")
			fmt.Fprintf(w, "%s\t%s\t\t%s\trefused: %s\n", spec, tree.Release(), variant, line)
			continue
		}
		if err != nil {
			return err
		}
		mails, err := s.Mail(ctx, series.MailOptions{Author: anybody})
		if err != nil {
			return err
		}
		if err := series.Verify(s, mails); err != nil {
			return fmt.Errorf("%s, variant %s: the patches do not give what was rendered: %w", spec, variant, err)
		}
		compiled := "not tried"
		if m.compile {
			var ok bool
			if compiled, ok, err = m.compiled(ctx, cache, tree, s); err != nil {
				return err
			}
			if !ok {
				failed.wrong++
			}
		}
		edits := 0
		for _, p := range s.Patches {
			edits += len(p.Edits)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\tyes\t%s\n", spec, s.Release, s.Generation, variant, len(s.Patches), edits, compiled)
	}
	return nil
}

// anybody is the author of mails that nobody gets.
var anybody = series.Ident{Name: "A U Thor", Email: "author@example.org", When: time.Unix(1e9, 0)}

// compiled compiles the series patch by patch, and says in few words how that went.
func (m *treeMatrix) compiled(ctx context.Context, cache string, tree *ktree.Tree, s *series.Series) (result string, ok bool, err error) {
	var patches [][]series.Change
	for _, p := range s.Patches {
		patches = append(patches, p.Changes)
	}
	if s.Kind == ktree.QEMU {
		checked, err := qemubuild.CheckPatches(ctx, tree, patches, qemubuild.Options{Cache: cache, Progress: m.report})
		if err != nil {
			return "", false, err
		}
		for i, p := range checked.Patches {
			switch {
			case p.Err != nil:
				return fmt.Sprintf("patch %d does not compile", i+1), false, nil
			case len(p.New) > 0:
				return fmt.Sprintf("patch %d brings %d warnings", i+1, len(p.New)), false, nil
			}
		}
		return "yes, no new warning", true, nil
	}
	checked, err := kbuild.CheckPatches(ctx, tree, patches, kbuild.Options{Cache: cache, Progress: m.report})
	if err != nil {
		return "", false, err
	}
	for i, p := range checked.Patches {
		builds := []kbuild.CheckedBuild{p.Off}
		if p.On != nil {
			builds = append(builds, *p.On)
		}
		for _, b := range builds {
			switch {
			case b.Err != nil:
				return fmt.Sprintf("patch %d does not compile", i+1), false, nil
			case b.Lost != nil:
				return fmt.Sprintf("patch %d: %v", i+1, b.Lost), false, nil
			case len(b.New) > 0:
				return fmt.Sprintf("patch %d brings %d warnings", i+1, len(b.New)), false, nil
			}
		}
	}
	if !slices.ContainsFunc(checked.Patches, func(p kbuild.PatchCheck) bool { return p.On != nil && len(p.On.Compiled) > 0 }) {
		return "nothing to compile", false, nil
	}
	return "yes, no new warning", true, nil
}
