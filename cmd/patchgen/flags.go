package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"patchgen/ktree"
	"patchgen/progress"
	"patchgen/series"
	"patchgen/templates"
)

// cacheDir is the folder of all that patchgen keeps.
func cacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", &usageError{err, "set HOME or XDG_CACHE_HOME"}
	}
	return filepath.Join(cache, "patchgen"), nil
}

// parse parses the flags of a command. If it is done, there is no more to do than to
// return the error: help was asked for, and printed, or a flag is wrong.
func parse(set *pflag.FlagSet, usage string, args []string, stdout io.Writer) (done bool, err error) {
	switch err := set.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		_, err := fmt.Fprint(stdout, usage, set.FlagUsages())
		return true, err
	case err != nil:
		return true, &usageError{err, fmt.Sprintf(`see "patchgen %s --help"`, set.Name())}
	}
	return false, nil
}

// writeOptions are those of all that patchgen writes.
func writeOptions(cache string, force bool) series.WriteOptions {
	return series.WriteOptions{Force: force, Ledger: filepath.Join(cache, "written")}
}

// The series, one for each kind of tree.
const (
	linuxSeries = "dma-mark-dirty"
	qemuSeries  = "qemu-page-dirtying"
)

// loadSeries returns the templates of a series, which must have the variant.
func loadSeries(name, variant string) (*templates.Set, error) {
	set, err := templates.Load(name)
	if err == nil {
		_, err = set.Variant(variant)
	}
	if err != nil {
		return nil, &usageError{err: err}
	}
	return set, nil
}

// treeFlags say which tree a command works on.
type treeFlags struct {
	tree    string
	refresh bool
}

const (
	treeUsage    = "source `TREE`: folder, clone, PATH@REVISION, .tar.xz, debian:X.Y, or debian:qemu"
	refreshUsage = "ask for a newer point release of a debian: tree"
)

func (f *treeFlags) add(set *pflag.FlagSet) {
	set.StringVar(&f.tree, "tree", "", treeUsage)
	set.BoolVar(&f.refresh, "refresh", false, refreshUsage)
}

func (f *treeFlags) open(ctx context.Context, cache string, report progress.Reporter) (*ktree.Tree, error) {
	tree, err := ktree.Open(ctx, f.tree, ktree.Options{Cache: cache, Progress: report, Refresh: f.refresh})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &usageError{err, "--tree takes a folder, a clone, PATH@REVISION, a .tar.xz, debian:X.Y or debian:qemu"}
	}
	return tree, err
}

// defaultTree is the kernel tree that one stands in, else debian:6.12.
func defaultTree() string { return defaultTreeOf(ktree.Linux) }

// defaultTreeOf is the tree of a kind that one stands in, else one of Debian's.
func defaultTreeOf(k ktree.Kind) string {
	if wd, err := os.Getwd(); err == nil {
		if dir, ok := ktree.Find(wd, k); ok {
			return dir
		}
	}
	if k == ktree.QEMU {
		return "debian:qemu"
	}
	return "debian:6.12"
}
