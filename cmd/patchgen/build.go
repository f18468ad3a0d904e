package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"patchgen/kbuild"
	"patchgen/kconfig"
	"patchgen/ktree"
	"patchgen/qemubuild"
	"patchgen/series"
	"patchgen/templates"
)

const buildUsage = `patchgen build configures and compiles a kernel tree, without the series and
with it; or QEMU, with it.

Usage:
    patchgen build [--tree TREE] [--patches PATH] [-o DIR] [flags]
    patchgen build --series qemu-page-dirtying [--tree TREE] [--patches PATH]
                   [--check] [-o DIR] [flags]

It prints the paths of the two kernels, the unpatched one first. They boot in
QEMU on x86-64; the patched one has the series' new Kconfig symbols on, its
tests among them. Of QEMU it prints the path of qemu-system-x86_64, and then that
of the folder with its firmware, for -L; with --check it has run the qtests that
the patches add. The tree is copied to the cache and compiled there, and what was
compiled once from the same is taken from the cache.

--patches is a folder of *.patch files or an mbox file, as written by patchgen
emit or git format-patch. As for git am, a hunk may stand at another line than
the one it names; here only if that is the only place for it.

Examples:
    $ patchgen build -o kernels
    $ patchgen build --tree ~/linux@v6.12 --patches out --config mine.config
    $ patchgen build --series qemu-page-dirtying --check

If the kernel or QEMU does not compile with the patches, or a qtest fails, the
exit code is 4; if it is the kernel as it is, or a wanted Kconfig symbol cannot be had, 3.

Flags:
`

type buildFlags struct {
	treeFlags
	series, patches, variant, output string
	config                           []string
	check, force, asJSON             bool
}

func build(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := buildFlags{}
	set := pflag.NewFlagSet("build", pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	f.treeFlags.add(set)
	set.StringVar(&f.series, "series", linuxSeries, "`NAME` of the series")
	set.StringVar(&f.patches, "patches", "", "`PATH` of patches (default: the series that emit writes)")
	set.StringVar(&f.variant, "variant", "full", "`VARIANT` of that series")
	set.StringVarP(&f.output, "output-directory", "o", "", "copy the kernels and their configurations, or QEMU and its firmware, to `DIR`")
	set.StringArrayVar(&f.config, "config", nil, "`FILE` with CONFIG_NAME=value lines that are wanted, too; again for more")
	set.BoolVar(&f.check, "check", false, "of QEMU, run the qtests that the patches add")
	set.BoolVar(&f.force, "force", false, "overwrite files that patchgen did not write")
	set.BoolVar(&f.asJSON, "json", false, "print what was built as JSON")
	if done, err := parse(set, buildUsage, args, stdout); done {
		return err
	}
	if set.NArg() > 0 {
		return &usageError{fmt.Errorf("build takes no argument %q", set.Arg(0)), "the tree is given with --tree, patches with --patches"}
	}
	templates, err := loadSeries(f.series, f.variant)
	if err != nil {
		return err
	}
	ofQEMU := templates.Kind == ktree.QEMU
	if ofQEMU && f.config != nil {
		return usagef("--config is for kernels, and the series %s is for QEMU", f.series)
	}
	if f.check && !ofQEMU {
		return usagef("--check runs qtests, and the series %s is for Linux", f.series)
	}
	if f.tree == "" {
		f.tree = defaultTreeOf(templates.Kind)
	}
	config, err := readFragments(f.config)
	if err != nil {
		return err
	}
	report := newReporter(stderr)
	cache, err := buildCache()
	if err != nil {
		return err
	}
	tree, err := f.open(ctx, cache, report)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := templates.Suits(tree); err != nil {
		return err
	}
	changes, err := changesOf(tree, templates, f.patches, f.variant)
	if err != nil {
		return err
	}
	if ofQEMU {
		return f.qemu(ctx, tree, changes, cache, report, stdout, stderr)
	}
	unpatched, patched, err := kbuild.Kernels(ctx, tree, changes, kbuild.Options{Cache: cache, Progress: report, Config: config})
	if err != nil {
		return err
	}
	if f.output != "" {
		if err := f.copy(cache, &unpatched, &patched); err != nil {
			return err
		}
	}
	fmt.Fprintf(stderr, "patchgen: Linux %s of %s, unpatched %s, patched %s\n", patched.Release, tree.Origin(), how(unpatched), how(patched))
	if f.asJSON {
		return writeKernels(stdout, tree.Origin(), unpatched, patched)
	}
	_, err = fmt.Fprintf(stdout, "%s\n%s\n", unpatched.BzImage, patched.BzImage)
	return err
}

// buildCache is the cache folder, which make must be able to work in.
func buildCache() (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	if parent := filepath.Dir(cache); strings.ContainsAny(parent, " \t:") {
		return "", &usageError{fmt.Errorf("make cannot work below %q, with a space or a colon", parent), "set XDG_CACHE_HOME to another folder"}
	}
	return cache, nil
}

// readFragments merges configuration files; a later one wins.
func readFragments(files []string) (kconfig.Config, error) {
	all := kconfig.Config{}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			return nil, &usageError{err, "--config takes a file with CONFIG_NAME=value lines"}
		}
		c, err := kconfig.ParseConfig(file, src)
		if err != nil {
			return nil, &usageError{err, "--config takes a file with CONFIG_NAME=value lines"}
		}
		maps.Copy(all, c)
	}
	return all, nil
}

// changesFor is changesOf for the series for Linux.
func changesFor(tree *ktree.Tree, patches, variant string) ([]series.Change, error) {
	set, err := loadSeries(linuxSeries, variant)
	if err != nil {
		return nil, err
	}
	return changesOf(tree, set, patches, variant)
}

// changesOf returns what the patches at a path change in the tree, or for ""
// what the variant of the series does that emit writes.
func changesOf(tree *ktree.Tree, set *templates.Set, patches, variant string) ([]series.Change, error) {
	if err := set.Suits(tree); err != nil {
		return nil, err
	}
	if patches != "" {
		mails, err := series.ReadPatches(patches)
		if err != nil {
			return nil, &usageError{err, "--patches takes a folder of *.patch files, or an mbox"}
		}
		changes, err := series.Apply(tree, mails)
		if errors.Is(err, series.ErrNoDiff) {
			err = &usageError{fmt.Errorf("%s: %w", patches, err), "--patches takes what patchgen emit or git format-patch wrote"}
		}
		return changes, err
	}
	s, err := render(tree, set, variant)
	if err != nil {
		return nil, err
	}
	return s.Changes(), nil
}

// rendered returns the series for Linux that emit writes, and its templates.
func rendered(tree *ktree.Tree, variant string) (*templates.Set, *series.Series, error) {
	set, err := loadSeries(linuxSeries, variant)
	if err != nil {
		return nil, nil, err
	}
	s, err := render(tree, set, variant)
	return set, s, err
}

// render renders a series as emit does.
func render(tree *ktree.Tree, set *templates.Set, variant string) (*series.Series, error) {
	return series.Render(tree, set, variant, series.RenderOptions{Tool: tool, Call: "--series " + set.Name + " --variant " + variant})
}

// qemu builds QEMU.
func (f *buildFlags) qemu(ctx context.Context, tree *ktree.Tree, changes []series.Change, cache string, report *reporter, stdout, stderr io.Writer) error {
	q, err := qemubuild.Build(ctx, tree, changes, qemubuild.Options{Cache: cache, Progress: report, Check: f.check})
	if err != nil {
		return err
	}
	if f.output != "" {
		if err := f.copyQEMU(cache, &q); err != nil {
			return err
		}
	}
	took := "compiled in " + q.Took.Round(time.Second).String()
	if q.Cached {
		took = "from the cache"
	}
	switch {
	case len(q.Checked) > 0:
		took += "; passed: " + strings.Join(q.Checked, ", ")
	case f.check:
		took += "; the patches add no qtest"
	}
	fmt.Fprintf(stderr, "patchgen: QEMU %s of %s, %s\n", q.Version, tree.Origin(), took)
	if f.asJSON {
		return printJSON(stdout, struct {
			Origin   string   `json:"origin"`
			Binary   string   `json:"binary"`
			Firmware string   `json:"firmware"`
			Key      string   `json:"key"`
			Release  string   `json:"release"`
			Qtests   []string `json:"qtests,omitempty"`
			Cached   bool     `json:"cached"`
			Seconds  float64  `json:"seconds"`
		}{tree.Origin(), q.Binary, q.Firmware, q.Key, q.Version, q.Checked, q.Cached, q.Took.Seconds()})
	}
	_, err = fmt.Fprintf(stdout, "%s\n%s\n", q.Binary, q.Firmware)
	return err
}

// copyQEMU copies QEMU and its firmware to the output folder, and has it name the
// copies.
func (f *buildFlags) copyQEMU(cache string, q *qemubuild.QEMU) error {
	names, err := filepath.Glob(filepath.Join(q.Firmware, "*"))
	if err != nil {
		return err
	}
	var files []series.Mail
	for _, name := range append(names, q.Binary) {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files = append(files, series.Mail{Name: filepath.Base(name), Data: data})
	}
	if err := folderNotWritten(f.output, series.Write(f.output, files, writeOptions(cache, f.force))); err != nil {
		return err
	}
	q.Binary, q.Firmware = filepath.Join(f.output, filepath.Base(q.Binary)), f.output
	return os.Chmod(q.Binary, 0o755)
}

// copy copies the kernels to the output folder, and has them name the copies.
func (f *buildFlags) copy(cache string, unpatched, patched *kbuild.Kernel) error {
	var files []series.Mail
	add := func(path *string, name string) error {
		data, err := os.ReadFile(*path)
		files = append(files, series.Mail{Name: name, Data: data})
		*path = filepath.Join(f.output, name)
		return err
	}
	for _, err := range []error{
		add(&unpatched.BzImage, "bzImage-unpatched"), add(&unpatched.Config, "config-unpatched"),
		add(&patched.BzImage, "bzImage-patched"), add(&patched.Config, "config-patched"),
	} {
		if err != nil {
			return err
		}
	}
	return folderNotWritten(f.output, series.Write(f.output, files, writeOptions(cache, f.force)))
}

func how(k kbuild.Kernel) string {
	if k.Cached {
		return "from the cache"
	}
	return "compiled in " + k.Took.Round(time.Second).String()
}

func writeKernels(w io.Writer, origin string, unpatched, patched kbuild.Kernel) error {
	type kernelJSON struct {
		BzImage string  `json:"bzimage"`
		Config  string  `json:"config"`
		Key     string  `json:"key"`
		Release string  `json:"release"`
		Cached  bool    `json:"cached"`
		Seconds float64 `json:"seconds"`
	}
	of := func(k kbuild.Kernel) kernelJSON {
		return kernelJSON{k.BzImage, k.Config, k.Key, k.Release, k.Cached, k.Took.Seconds()}
	}
	return printJSON(w, struct {
		Origin    string     `json:"origin"`
		Unpatched kernelJSON `json:"unpatched"`
		Patched   kernelJSON `json:"patched"`
	}{origin, of(unpatched), of(patched)})
}

// explainBuild tells the exit code of an error of building, and what to do.
func explainBuild(err error) (code int, hint string, ok bool) {
	var (
		noTool  *kbuild.MissingError
		noApply *series.ApplyError
		lost    *kbuild.LostError
		kernel  *kbuild.KernelError
		qemu    *qemubuild.Error
	)
	switch {
	case errors.As(err, &noTool):
		return exitUnfit, "", true
	case errors.As(err, &noApply):
		return exitUnsupported, "rebase the patches on this tree with git am -3 and git format-patch, or leave out --patches", true
	case errors.As(err, &qemu):
		return exitCheck, "", true
	case errors.As(err, &lost):
		return exitUnsupported, "take the symbol out of --config, or add what it depends on", true
	case errors.As(err, &kernel):
		if kernel.Patched {
			return exitCheck, "", true
		}
		return exitUnsupported, "the tree does not compile without any patch: see whether it suits this compiler", true
	}
	return 0, "", false
}
