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

const treesUsage = `patchgen trees lists the reference trees: those that patchgen is tested on.

Usage:
    patchgen trees [--json]

A tree's release and generation are known once it is in the cache, where emit,
build and test put it; nothing is downloaded for the list.

--json prints on one line what a matrix of GitHub Actions takes by fromJSON():

    {"include":[{"name":"6.12-full-tcg","tree":"debian:6.12","variant":"full","accel":"tcg"},…]}

with an entry for each tree, variant of the series, and accelerator of this
machine: tcg, and kvm where there is a /dev/kvm. tree, variant and accel are
for the flags of patchgen test with these names; name is fit for a file.

Flags:
`

func trees(ctx context.Context, args []string, stdout io.Writer) error {
	set := pflag.NewFlagSet("trees", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	asJSON := set.Bool("json", false, "print a matrix for GitHub Actions")
	if done, err := parse(set, treesUsage, args, stdout); done {
		return err
	}
	if set.NArg() > 0 {
		return &usageError{fmt.Errorf("trees takes no argument %q", set.Arg(0)), `see "patchgen trees --help"`}
	}
	series, err := templates.Load("dma-mark-dirty")
	if err != nil {
		return err
	}
	if *asJSON {
		return writeMatrix(stdout, series.Variants())
	}
	return listTrees(ctx, stdout, series)
}

func writeMatrix(w io.Writer, variants []string) error {
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
	for _, tree := range ktree.References {
		for _, variant := range variants {
			for _, accel := range accels {
				name := strings.TrimPrefix(tree, "debian:") + "-" + variant + "-" + accel
				matrix.Include = append(matrix.Include, entry{name, tree, variant, accel})
			}
		}
	}
	return json.NewEncoder(w).Encode(matrix)
}

func listTrees(ctx context.Context, w io.Writer, set *templates.Set) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "TREE\tRELEASE\tGENERATION\tWHAT IT IS")
	for _, spec := range ktree.References {
		tree, err := ktree.Open(ctx, spec, ktree.Options{Cache: cache, Offline: true})
		if errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(t, "%s\t\t\tnot in the cache\n", spec)
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
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\n", spec, tree.Release(), gen.Name, gen.About)
	}
	return t.Flush()
}
