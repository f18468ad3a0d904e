package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"patchgen/ktree"
	"patchgen/templates"
)

const treesUsage = `patchgen trees lists the reference trees: those that patchgen is tested on. Or it
tells what a tree is, and what comes of a series on many.

Usage:
    patchgen trees [--json]
    patchgen trees --explain TREE
    patchgen trees --matrix [--compile] [TREE]...

A tree is of Linux or of QEMU, and each has a series of its own; with --series NAME it
is about that one alone.

A tree's release and generation are known once it is in the cache, where emit,
build and test put it; nothing is downloaded for the list.

--explain tells which generation of the code a tree is of, text by text, what it
has besides, and which patches and edits each variant of the series would be. Of
code that is of no known generation it tells the nearest, and what differs.

--matrix renders each variant for each tree, as mails which are applied to the tree
again without fuzz: the reference trees that are in the cache, or those named. With
--compile each patch is compiled, too, as patchgen check --build does.

--json prints on one line what a matrix of GitHub Actions takes by fromJSON():

    {"include":[{"name":"6.12-full-tcg","tree":"debian:6.12","variant":"full","accel":"tcg"},…]}

with an entry for each tree, variant of dma-mark-dirty that patchgen test can prove, and
accelerator of this machine: tcg, and kvm where there is a /dev/kvm. tree, variant
and accel are for the flags of patchgen test with these names; name is fit for a
file.

Flags:
`

func trees(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	set := pflag.NewFlagSet("trees", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	asJSON := set.Bool("json", false, "print a matrix for GitHub Actions")
	explain := set.String("explain", "", "tell what `TREE` is: a folder, a git clone with or without @revision, a tarball, debian:VERSION, or debian:qemu")
	only := set.String("series", "", "`NAME` of the only series that it is about")
	matrix := set.Bool("matrix", false, "render each variant for each tree")
	compile := set.Bool("compile", false, "with --matrix, and compile each patch")
	if done, err := parse(set, treesUsage, args, stdout); done {
		return err
	}
	modes := 0
	for _, on := range []bool{*asJSON, *explain != "", *matrix} {
		if on {
			modes++
		}
	}
	switch {
	case modes > 1:
		return usagef("--json, --explain and --matrix are three things: give one of them")
	case *compile && !*matrix:
		return usagef("--compile is for --matrix")
	case set.NArg() > 0 && !*matrix:
		return &usageError{fmt.Errorf("trees takes no argument %q", set.Arg(0)), "a tree is given with --explain, or behind --matrix"}
	}
	if *explain != "" {
		return explainTree(ctx, *explain, *only, stdout, stderr)
	}
	names := templates.Names()
	if *only != "" {
		names = []string{*only}
	}
	var all []*templates.Set
	for _, name := range names {
		s, err := templates.Load(name)
		if err != nil {
			return &usageError{err: err}
		}
		all = append(all, s)
	}
	switch {
	case *asJSON:
		return writeMatrix(stdout, all)
	case *matrix:
		m := treeMatrix{sets: all, compile: *compile, report: newReporter(stderr)}
		return m.print(ctx, set.Args(), stdout)
	}
	return listTrees(ctx, stdout, all)
}

func writeMatrix(w io.Writer, sets []*templates.Set) error {
	type entry struct {
		Name    string `json:"name"`
		Tree    string `json:"tree"`
		Variant string `json:"variant"`
		Accel   string `json:"accel"`
	}
	accels := []string{"tcg"}
	if _, err := os.Stat("/dev/kvm"); err == nil {
		accels = append(accels, "kvm")
	}
	var matrix struct {
		Include []entry `json:"include"`
	}
	for _, set := range sets {
		for _, variant := range set.Variants() {
			v, err := set.Variant(variant)
			if err != nil {
				return err
			}
			if !v.Switch {
				continue
			}
			for _, tree := range ktree.References(set.Kind) {
				for _, accel := range accels {
					name := strings.TrimPrefix(tree, "debian:") + "-" + variant + "-" + accel
					matrix.Include = append(matrix.Include, entry{name, tree, variant, accel})
				}
			}
		}
	}
	return json.NewEncoder(w).Encode(matrix)
}

func listTrees(ctx context.Context, w io.Writer, sets []*templates.Set) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "TREE\tSERIES\tRELEASE\tGENERATION\tWHAT IT IS")
	for _, set := range sets {
		for _, spec := range ktree.References(set.Kind) {
			tree, err := ktree.Open(ctx, spec, ktree.Options{Cache: cache, Offline: true})
			if errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintf(t, "%s\t%s\t\t\tnot in the cache\n", spec, set.Name)
				continue
			}
			if err != nil {
				return err
			}
			gen, err := set.Classify(tree)
			tree.Close()
			if err != nil {
				return err
			}
			fmt.Fprintf(t, "%s\t%s\t%v\t%s\t%s\n", spec, set.Name, tree.Release(), gen.Name, gen.About)
		}
	}
	return t.Flush()
}
