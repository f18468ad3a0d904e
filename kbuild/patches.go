package kbuild

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"patchgen/kconfig"
	"patchgen/ktree"
	"patchgen/progress"
	"patchgen/series"
	"patchgen/workshop"
)

// A Checked is what compilers said of a series, patch by patch.
type Checked struct {
	Compiler string    // the first line of gcc --version
	Sparse   string    // what sparse --version prints
	Folders  []string  // compiled whole, as make takes them, such as "kernel/dma/"; sorted
	Base     []Warning // of these folders without patches, sorted
	Patches  []PatchCheck
}

// A PatchCheck is about the tree as one patch leaves it.
type PatchCheck struct {
	Symbols []string      // that the series has brought by then, without CONFIG_, sorted
	Off     CheckedBuild  // with them off
	On      *CheckedBuild // with them on; nil if there are none yet
}

// A CheckedBuild is one compilation after one patch. What it is compared with is
// the tree before that patch in the same configuration.
type CheckedBuild struct {
	Config string // SHA-256 of its .config in 64 hex digits; "" if there is none

	// Of the C, assembler and header files that the patch touches and leaves there,
	// those that were read by the compiler and those that this configuration leaves
	// out; both sorted. If Err is not nil, NotCompiled is nil and Compiled has what
	// is known.
	Compiled, NotCompiled []string

	New, Gone []Warning // sorted

	Lost *LostError // symbols that did not get their value, told at the patch that does it; the rest was compiled
	Err  *Error     // the tree does not compile, or its Kconfig cannot be read
}

// The output folders of CheckPatches.
var outputs = []string{"check-off", "check-on"}

// CheckPatches compiles what the patches of a series touch, after each of them:
// with W=1, sparse and kernel-doc, and with the series' new options (series.Symbols)
// off and on. The changes of a patch stand on those of the patches before it; the
// configuration is QEMUConfig, and o.Config over it. o.Module is of no account.
//
// The folders that the touched files are in are compiled whole before the first
// patch, and after that what make finds out of date. So a header that is touched is
// judged by what these folders compile, and not by other users of it: a header in
// include/ by none if the series touches no C. A header that nothing included is
// in NotCompiled. A warning is known by its file and text and has no line: a second
// one that reads the same is none.
//
// A patch that does not compile is reported and does not end the work. Files that
// it keeps from being compiled are judged at the next patch after which they are.
// What cannot be compiled without patches is a *KernelError.
//
// It works in the workspace of Kernels, and in output folders of its own, which stay
// for the next time. If ctx ends in the middle of a make they are made anew.
func CheckPatches(ctx context.Context, tree *ktree.Tree, patches [][]series.Change, o Options) (*Checked, error) {
	if err := Need(ctx, "sparse", "python3"); err != nil {
		return nil, err
	}
	states, err := follow(patches)
	if err != nil {
		return nil, err
	}
	last := len(patches)
	if err := workshop.Match(tree, between(states, last)); err != nil {
		return nil, err
	}
	w, err := newWorkspace(ctx, tree, o)
	if err != nil {
		return nil, err
	}
	result := &Checked{}
	if result.Compiler, err = firstLine(ctx, "gcc", "--version"); err != nil {
		return nil, err
	}
	if result.Sparse, err = firstLine(ctx, "sparse", "--version"); err != nil {
		return nil, err
	}
	unlock, err := w.open(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	from, err := w.update(ctx, nil)
	if err != nil {
		return nil, err
	}
	for name, data := range states[0] {
		if _, ok := from[name]; ok != (data != nil) {
			return nil, fmt.Errorf("the patches are for another %s than the tree has", name)
		}
	}
	result.Folders = foldersOf(from, patches)
	r := &round{workspace: w, from: from, states: states, config: o.Config, result: result}
	err = r.check(ctx)
	return result, errors.Join(err, r.close())
}

// follow returns what the files that a series touches are before it and after each
// of its patches, nil for one that is not there. What patches have yet to touch
// is in the first alone.
func follow(patches [][]series.Change) ([]map[string][]byte, error) {
	before, now := make(map[string][]byte), make(map[string][]byte)
	states := []map[string][]byte{before}
	for i, patch := range patches {
		for _, c := range patch {
			if !filepath.IsLocal(c.Path) || path.Clean(c.Path) != c.Path {
				return nil, &ktree.UnsupportedError{Name: fmt.Sprintf("%q", c.Path), Problem: "is no path of a file in a source tree"}
			}
			was, touched := now[c.Path]
			if !touched {
				before[c.Path], was = c.Before, c.Before
			}
			if series.Differ(was, c.Before) {
				return nil, fmt.Errorf("patch %d is for another %s than the patches before it leave", i+1, c.Path)
			}
			now[c.Path] = c.After
		}
		states = append(states, maps.Clone(now))
	}
	return states, nil
}

// between returns what n patches change all together, sorted by path.
func between(states []map[string][]byte, n int) []series.Change {
	var changes []series.Change
	for _, name := range slices.Sorted(maps.Keys(states[n])) {
		changes = append(changes, series.Change{Path: name, Before: states[0][name], After: states[n][name]})
	}
	return changes
}

// foldersOf returns the folders that the series' C, assembler and headers are
// compiled in, none inside another: those that have a Makefile, for the Makefile of
// fs/xfs has the files of fs/xfs/libxfs. make passes over a folder that the
// configuration leaves out.
func foldersOf(from workshop.Listing, patches [][]series.Change) []string {
	made := make(map[string]bool)
	makefile := func(name string) bool { return path.Base(name) == "Makefile" || path.Base(name) == "Kbuild" }
	for name := range from {
		if makefile(name) {
			made[path.Dir(name)] = true
		}
	}
	var dirs []string
	for _, c := range slices.Concat(patches...) {
		if makefile(c.Path) {
			made[path.Dir(c.Path)] = true
		}
		if compiles(c.Path) {
			dirs = append(dirs, path.Dir(c.Path))
		}
	}
	var folders []string
	for _, dir := range dirs {
		for !made[dir] && strings.Count(dir, "/") > 1 {
			dir = path.Dir(dir)
		}
		other := strings.HasPrefix(dir, "arch/") && !strings.HasPrefix(dir, "arch/x86/")
		if made[dir] && dir != "." && !other && !outside.has(dir+"/") {
			folders = append(folders, dir+"/")
		}
	}
	slices.Sort(folders)
	var top prefixes
	for _, folder := range folders {
		if !top.has(folder) {
			top = append(top, folder)
		}
	}
	return top
}

// compiles tells if a file is one that a compiler reads.
func compiles(name string) bool {
	return slices.Contains([]string{".c", ".S", ".h"}, path.Ext(name))
}

// What no kernel for x86 is compiled from, or only by way of other folders.
var outside = prefixes{"Documentation/", "include/", "arch/x86/include/", "scripts/", "tools/"}

type prefixes []string

func (p prefixes) has(name string) bool {
	return slices.ContainsFunc(p, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// shapesConfig tells if what Kconfig makes of a configuration may depend on the file.
func shapesConfig(name string) bool {
	return strings.HasPrefix(path.Base(name), "Kconfig") || strings.HasPrefix(name, "scripts/") || name == "Makefile"
}

// inert tells if make has nothing to do with the file.
func inert(name string) bool {
	return name == "MAINTAINERS" || name == "CREDITS" ||
		strings.HasPrefix(name, "Documentation/") && !shapesConfig(name) && path.Base(name) != "Makefile"
}

// firstLine returns that of what a command prints.
func firstLine(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environment(os.Environ())
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}

// A round is one run of CheckPatches.
type round struct {
	*workspace
	from     workshop.Listing
	states   []map[string][]byte // as follow returns them
	config   kconfig.Config      // the person's
	result   *Checked
	checkers []*checker // one with the options off, and one with them on if there are any
}

func (r *round) check(ctx context.Context) error {
	last := len(r.states) - 1
	off := QEMUConfig()
	maps.Copy(off, r.config)
	options := make([][]string, len(r.states)) // that there are in each of the states
	for i := range r.states {
		options[i] = series.Symbols(between(r.states, i))
		for _, symbol := range options[i] {
			delete(off, symbol)
		}
	}
	if len(r.result.Folders) > 0 || slices.ContainsFunc(slices.Collect(maps.Keys(r.states[last])), shapesConfig) {
		if err := r.base(ctx, off, len(slices.Concat(options...)) > 0); err != nil {
			return err
		}
	}
	r.report.Stage("compile patches", int64(last), "patches")
	defer r.report.End()
	for i, state := range r.states[1:] {
		s := r.stride(i + 1)
		for name, data := range state {
			was, touched := r.states[i][name]
			if !touched {
				was = r.states[0][name]
			}
			if series.Differ(was, data) {
				s.touched = append(s.touched, name)
			}
			if data == nil {
				s.gone = append(s.gone, name)
			}
		}
		slices.Sort(s.touched)
		if err := r.mirror().Change(r.from, state, s.touched); err != nil {
			return err
		}
		p := PatchCheck{Symbols: options[i+1]}
		on := maps.Clone(off)
		for _, symbol := range p.Symbols {
			on[symbol] = cmp.Or(r.config[symbol], "y")
		}
		builds := []CheckedBuild{{NotCompiled: s.sources()}, {}}
		err := r.each(ctx, func(ctx context.Context, k int, c *checker) (err error) {
			builds[k], err = c.next(ctx, []kconfig.Config{off, on}[k], s)
			return err
		})
		if err != nil {
			return err
		}
		p.Off = builds[0]
		if p.Symbols != nil {
			p.On = &builds[1]
		}
		r.result.Patches = append(r.result.Patches, p)
		r.report.Step(int64(i + 1))
	}
	return nil
}

// base compiles the folders without patches, in one output folder or both. The
// options are not there yet, so the configuration is the same.
func (r *round) base(ctx context.Context, config kconfig.Config, both bool) error {
	key := workshop.Sum(fmt.Appendf(nil, "check 1\n%s\n%s\n%s\n%s", r.source.Identity(), r.tools, r.result.Sparse, config.Bytes()))
	count := &counter{report: r.report}
	for _, name := range outputs {
		c, err := r.checker(name, key, count)
		if err != nil {
			return err
		}
		if r.checkers = append(r.checkers, c); !both {
			break
		}
	}
	r.report.Stage("compile what the patches touch without them", 0, "files")
	defer r.report.End()
	err := r.each(ctx, func(ctx context.Context, _ int, c *checker) error {
		build, err := c.next(ctx, config, r.stride(0))
		switch {
		case err != nil:
			return err
		case build.Lost != nil:
			return &KernelError{Err: build.Lost}
		case build.Err != nil:
			return &KernelError{Err: build.Err}
		}
		c.base, c.Progress = c.units, nil
		return nil
	})
	if err != nil {
		return err
	}
	r.result.Base = union(r.checkers[0].base)
	return nil
}

// stride returns what leads to a state but for what is touched.
func (r *round) stride(number int) stride {
	var shape []byte
	for _, c := range between(r.states, number) {
		if shapesConfig(c.Path) && series.Differ(c.Before, c.After) {
			shape = fmt.Appendf(shape, "%q %t %s\n", c.Path, c.After == nil, workshop.Sum(c.After))
		}
	}
	return stride{number: number, shape: string(shape), targets: r.targets}
}

// targets returns what make is to make of the tree as it is in the copy now; none if
// the series has nothing to compile.
func (r *round) targets() []string {
	var targets []string
	for _, folder := range r.result.Folders {
		if _, err := os.Stat(filepath.Join(r.mirror().Dir, folder)); err == nil {
			targets = append(targets, folder)
		}
	}
	// Without a target make makes all. What headers warn of is known from this, too.
	if targets == nil && r.result.Folders != nil {
		targets = []string{"prepare"}
	}
	return targets
}

// each calls f for each of the checkers at the same time, since much of what make
// does, and Kconfig, keeps one processor busy. The first error ends them all.
func (r *round) each(ctx context.Context, f func(ctx context.Context, k int, c *checker) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for k, c := range r.checkers {
		wg.Go(func() {
			if err := f(ctx, k, c); err != nil {
				once.Do(func() { first = err })
				cancel()
			}
		})
	}
	wg.Wait()
	return first
}

func (r *round) close() error {
	var err error
	for _, c := range r.checkers {
		err = errors.Join(err, c.close())
	}
	return err
}

// A counter takes the steps of several makes for one stage.
type counter struct {
	mu     sync.Mutex
	report progress.Reporter
	done   int64
}

func (c *counter) Stage(string, int64, string) {}
func (c *counter) End()                        {}

func (c *counter) Step(int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	c.report.Step(c.done)
}

// A stride is what leads from one state of the tree to the next.
type stride struct {
	number  int      // of the patch, 0 for the tree without patches
	shape   string   // stands for what the series changed of what Kconfig reads
	touched []string // files that differ, sorted
	gone    []string // files that the series touches or touched and that are not there
	targets func() []string
}

// sources returns what a compiler might have to read, of what is there.
func (s *stride) sources() []string {
	var names []string
	for _, name := range s.touched {
		if compiles(name) && !slices.Contains(s.gone, name) {
			names = append(names, name)
		}
	}
	return names
}

// A checker compiles a tree again and again, as it is changed, and knows what each
// unit warned of when it was compiled last.
type checker struct {
	Build
	file  string // where that is kept
	state checked
	units map[string][]Warning
	base  map[string][]Warning // those without patches; nil until they are known

	configs map[string]configured // those of the last run
	made    string                // key of what .config was made of, "" if it must be made
	config  string                // digest of .config
	failed  bool                  // the last one did not compile
	broken  bool                  // a make did not end by itself
}

// checked is what is kept of a checker from one run to the next.
type checked struct {
	Key     string // of the tree, the tools and the configuration
	Folders []string
	Units   map[string][]Warning
	Configs map[string]configured // of this run, by what they are made of
}

// A configured is what Kconfig made of a configuration.
type configured struct {
	Config   []byte // the .config
	Warnings []Warning
}

// known is the file that is there if what an output folder has is whole, and that
// says what was warned of.
func (w *workspace) known(output string) string { return filepath.Join(w.dir, output+".known") }

// checker takes up an output folder.
func (r *round) checker(output, key string, report progress.Reporter) (*checker, error) {
	c := &checker{
		Build: Build{Source: r.mirror().Dir, Output: filepath.Join(r.dir, output), Progress: report},
		file:  r.known(output), units: make(map[string][]Warning),
		state: checked{Key: key, Folders: r.result.Folders, Configs: make(map[string]configured)},
	}
	var old checked
	workshop.Load(c.file, &old)
	if old.Key != key {
		if err := errors.Join(os.RemoveAll(c.Output), os.RemoveAll(c.file)); err != nil {
			return nil, err
		}
		return c, os.Mkdir(c.Output, 0o777)
	}
	c.configs = old.Configs
	maps.Copy(c.units, old.Units)
	for unit := range old.Units {
		// What is not compiled this time is not up to date.
		if prefixes(old.Folders).has(unit) && !prefixes(c.state.Folders).has(unit) {
			if err := c.forget(c.units, unit); err != nil {
				return nil, err
			}
		}
	}
	return c, os.Remove(c.file)
}

// forget takes a unit out of units, and has make compile it anew.
func (c *checker) forget(units map[string][]Warning, unit string) error {
	delete(units, unit)
	if !isObject(unit) {
		return nil
	}
	if err := os.Remove(filepath.Join(c.Output, unit)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func isObject(unit string) bool {
	return (path.Ext(unit) == ".o" || path.Ext(unit) == ".s") && filepath.IsLocal(unit)
}

// close keeps what is known, unless make was killed. What patches alone had compiled
// goes, so that the next series finds no more than the tree.
func (c *checker) close() error {
	if c.broken || c.base == nil {
		return nil
	}
	for unit := range maps.Clone(c.units) {
		if _, ok := c.base[unit]; !ok {
			if err := c.forget(c.units, unit); err != nil {
				return err
			}
		}
	}
	c.state.Units = c.units
	return workshop.Store(c.file, c.state)
}

// next compiles what is out of date. The error is one that ends the work.
func (c *checker) next(ctx context.Context, want kconfig.Config, s stride) (build CheckedBuild, err error) {
	defer func() { c.broken = c.broken || err != nil }()
	if s.number > 0 && !c.failed && !slices.ContainsFunc(s.touched, func(name string) bool { return !inert(name) }) {
		return CheckedBuild{Config: c.config, NotCompiled: s.sources()}, nil
	}
	units := maps.Clone(c.units)
	for _, name := range s.gone {
		if err := c.forget(units, unitOf(name)); err != nil {
			return build, err
		}
	}
	c.failed = false
	if err := c.reconfigure(ctx, want, s, &build, units); err != nil {
		return build, err
	}
	if build.Err != nil {
		return build, nil
	}
	build.Config = c.config
	var made map[string][]Warning
	if targets := s.targets(); targets != nil {
		t, err := c.check(ctx, targets...)
		if err := c.take(err, s, &build); err != nil {
			return build, err
		}
		made = t.units
		for unit, warnings := range made {
			// Not compiled to its end, it is judged when it is. Its object may be
			// there: make deletes only one that the failure left another.
			if !t.failed[unit] {
				units[unit] = warnings
			}
		}
	}
	before, after := union(c.units), union(units)
	build.New, build.Gone = New(before, after), New(after, before)
	c.units = units
	err = c.sort(made, s, &build)
	return build, err
}

// reconfigure makes .config, if it may become another. Kconfig asks the compiler
// some hundred questions each time, for which it takes longer than there is to
// compile after most patches: what it answered in the last run is taken again. As
// its files have another time now, make has it look at the answer once more.
func (c *checker) reconfigure(ctx context.Context, want kconfig.Config, s stride, build *CheckedBuild, units map[string][]Warning) error {
	key := workshop.Sum(append(want.Bytes(), s.shape...))
	if c.made == key {
		return nil
	}
	c.made, c.config = "", ""
	file := filepath.Join(c.Output, ".config")
	made, ok := c.configs[key]
	if ok {
		if there, err := os.ReadFile(file); err != nil || !bytes.Equal(there, made.Config) {
			if err := os.WriteFile(file, made.Config, 0o666); err != nil {
				return err
			}
		}
	}
	var err error
	if ok {
		err = c.survived(want)
	} else {
		made.Warnings, err = c.configure(ctx, want)
	}
	if !errors.As(err, &build.Lost) {
		if err := c.take(err, s, build); err != nil || build.Err != nil {
			return err
		}
	}
	if made.Config, err = os.ReadFile(file); err != nil {
		return err
	}
	c.made, c.config = key, workshop.Sum(made.Config)
	c.state.Configs[key] = made
	units["Kconfig"] = made.Warnings
	return nil
}

// take takes it down if make failed, and returns any other error.
func (c *checker) take(err error, s stride, build *CheckedBuild) error {
	if err == nil {
		return nil
	}
	if !errors.As(err, &build.Err) || c.torn {
		return err
	}
	c.failed = true
	// The next make writes a log of its own.
	build.Err.Log = filepath.Join(c.Output, fmt.Sprintf("patch-%d.log", s.number))
	return os.Rename(c.log(), build.Err.Log)
}

// sort sorts the files that a patch touched by whether the compiler read them.
func (c *checker) sort(units map[string][]Warning, s stride, build *CheckedBuild) error {
	sources := s.sources()
	if sources == nil {
		return nil
	}
	read := make(map[string]bool)
	for unit := range units {
		if err := c.addRead(unit, read); err != nil {
			return err
		}
	}
	for _, name := range sources {
		_, made := units[unitOf(name)]
		switch {
		case read[name], made && unitOf(name) != name:
			build.Compiled = append(build.Compiled, name)
		case build.Err == nil:
			build.NotCompiled = append(build.NotCompiled, name)
		}
	}
	return nil
}

// addRead adds the files of the tree that a unit was made of: scripts/basic/fixdep.c
// writes them down beside the object.
func (c *checker) addRead(unit string, read map[string]bool) error {
	if !isObject(unit) {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(c.Output, path.Dir(unit), "."+path.Base(unit)+".cmd"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for word := range strings.FieldsSeq(string(text)) {
		if name, ok := strings.CutPrefix(word, c.Source+"/"); ok {
			read[path.Clean(name)] = true
		}
	}
	return err
}
