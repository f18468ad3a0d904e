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

// treeFlags say which kernel tree a command works on.
type treeFlags struct {
	tree    string
	refresh bool
}

const (
	treeUsage    = "kernel `TREE`: folder, clone, PATH@REVISION, .tar.xz or debian:X.Y"
	refreshUsage = "ask for a newer point release of a debian: tree"
)

func (f *treeFlags) add(set *pflag.FlagSet) {
	set.StringVar(&f.tree, "tree", "", treeUsage)
	set.BoolVar(&f.refresh, "refresh", false, refreshUsage)
}

func (f *treeFlags) open(ctx context.Context, cache string, report progress.Reporter) (*ktree.Tree, error) {
	tree, err := ktree.Open(ctx, f.tree, ktree.Options{Cache: cache, Progress: report, Refresh: f.refresh})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &usageError{err, "--tree takes a folder, a clone, PATH@REVISION, a .tar.xz or debian:X.Y"}
	}
	return tree, err
}

// defaultTree is the tree that one stands in, else debian:6.12.
func defaultTree() string {
	if wd, err := os.Getwd(); err == nil {
		if dir, ok := ktree.Find(wd); ok {
			return dir
		}
	}
	return "debian:6.12"
}
