package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"patchgen/edit"
	"patchgen/ktree"
	"patchgen/series"
	"patchgen/templates"
)

// explainTree prints what a tree is and what would be emitted for it, of the series of
// that name, or for "" of the one that is for such trees. The error is that of
// rendering, once all is told.
func explainTree(ctx context.Context, spec, name string, stdout, stderr io.Writer) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	flags := treeFlags{tree: spec}
	tree, err := flags.open(ctx, cache, newReporter(stderr))
	if err != nil {
		return err
	}
	defer tree.Close()
	if name == "" {
		names, err := templates.For(tree.Kind())
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return &ktree.UnsupportedError{Name: tree.String(), Problem: "is a tree that no series is for"}
		}
		name = names[0]
	}
	set, err := templates.Load(name)
	if err != nil {
		return &usageError{err: err}
	}
	if err := set.Suits(tree); err != nil {
		return err
	}
	results, err := set.Results(tree)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%v %s, %s: series %s\n\n", tree.Kind(), tree.Release(), tree.Origin(), set.Name)
	generation, unknown := set.Classify(tree)
	if unknown != nil {
		// Which generation is nearest, and what differs, is in the error.
		return unknown
	}
	for _, r := range results {
		passed := fmt.Sprintf("%d of %d texts", r.Passed(), len(r.Findings))
		if r.Generation.Name == generation.Name {
			fmt.Fprintf(stdout, "generation %s, %s: %s\n", r.Generation.Name, r.Generation.About, passed)
			for _, f := range r.Findings {
				fmt.Fprintf(stdout, "  ok  %s\n", f)
			}
			continue
		}
		for _, f := range r.Findings {
			if !f.OK {
				fmt.Fprintf(stdout, "not %s, %s: %s, %s\n", r.Generation.Name, r.Generation.About, passed, f)
				break
			}
		}
	}
	fmt.Fprintln(stdout)
	for _, f := range set.Features {
		has, failed, err := tree.Passes(f.Tests)
		if err != nil {
			return err
		}
		if has {
			fmt.Fprintf(stdout, "has    %s: %s\n", f.Name, f.About)
		} else {
			fmt.Fprintf(stdout, "lacks  %s: %s; %s\n", f.Name, f.About, failed[0])
		}
	}
	var refused error
	for _, name := range set.Variants() {
		v, err := set.Variant(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "\nvariant %s: %s\n", name, v.About)
		s, err := series.Render(tree, set, name, series.RenderOptions{Tool: tool})
		if noPlace := (*edit.Error)(nil); errors.As(err, &noPlace) {
			fmt.Fprintf(stdout, "  refused: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
			refused = errors.Join(refused, fmt.Errorf("variant %s: %w", name, err))
			continue
		}
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
		for i, p := range s.Patches {
			fmt.Fprintf(t, "  %d\t%s\n", i+1, p.Subject)
			printPlaces(t, "\t", p)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return refused
}

// printPlaces prints a line for each file and edit of a patch.
func printPlaces(w io.Writer, before string, p series.Patch) {
	for _, c := range p.Changes {
		if c.Before == nil {
			fmt.Fprintf(w, "%s%s\t\t\tnew file\n", before, c.Path)
		}
		for _, e := range p.Edits {
			if e.File == c.Path {
				fmt.Fprintf(w, "%s%s\t%d\t%s\t%s\n", before, e.File, e.Line, e.Function, e.How)
			}
		}
	}
}
