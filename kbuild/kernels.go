package kbuild

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patchgen/kconfig"
	"patchgen/ktree"
	"patchgen/progress"
	"patchgen/series"
	"patchgen/workshop"
)

// Options say how Kernels works. The zero value is usable.
type Options struct {
	Cache    string            // folder, the same as ktree's; "" is os.UserCacheDir()/patchgen
	Progress progress.Reporter // nil tells nobody
	Config   kconfig.Config    // wanted besides QEMUConfig and over it
	// Module has the files of an external module (Documentation/kbuild/modules.rst)
	// by their names, to be compiled for the patched kernel; nil for none. It must
	// make one .ko.
	Module map[string][]byte
}

// A Kernel is a compiled kernel in the cache, where it stays as it is.
type Kernel struct {
	BzImage string        // path
	Config  string        // path of its .config
	Module  string        // path of the module compiled for it, a .ko without debug information; "" if there is none
	Key     string        // 64 hex digits that stand for all that it is made of
	Release string        // as uname -r says, such as "6.12.117"
	Cached  bool          // nothing had to be compiled
	Took    time.Duration // to configure and compile it, or to find it
	Sizes   Sizes         // of one of Versions, else zero
}

// Sizes are those of a kernel in memory, before it frees what only the boot takes:
// bytes, sorted as size(1) does.
type Sizes struct{ Text, Data, BSS int64 }

// A KernelError says which of the two kernels cannot be built. Err is a
// *LostError, an *Error or that of a file.
type KernelError struct {
	Patched bool
	Err     error
}

func (e *KernelError) Error() string {
	if e.Patched {
		return "the patched kernel: " + e.Err.Error()
	}
	return "the kernel as it is, without patches: " + e.Err.Error()
}

func (e *KernelError) Unwrap() error { return e.Err }

// Kernels compiles a tree as it is, and with changes, which have all new
// Kconfig symbols on (series.Symbols). Both are compiled from one copy of
// the tree, in the cache, so that the second compiles only what differs.
//
// The same tree, changes, configuration and tools give the same bytes, and are
// compiled once. The tree itself is only read: of a git clone the commit, of
// a folder the files as they are.
func Kernels(ctx context.Context, tree *ktree.Tree, changes []series.Change, o Options) (unpatched, patched Kernel, err error) {
	w, err := newWorkspace(ctx, tree, o)
	if err != nil {
		return unpatched, patched, err
	}
	before, after := w.recipes(changes, o.Config)
	after.module = o.Module
	unpatched, had := w.find(before)
	patched, has := w.find(after)
	if had && has {
		return unpatched, patched, nil
	}
	unlock, err := w.open(ctx)
	if err != nil {
		return unpatched, patched, err
	}
	defer unlock()
	if err := workshop.Match(tree, changes); err != nil {
		return unpatched, patched, err
	}
	if unpatched, err = w.build(ctx, before); err != nil {
		return unpatched, patched, failed(ctx, false, err)
	}
	patched, err = w.build(ctx, after)
	return unpatched, patched, failed(ctx, true, err)
}

// A Version is a kernel to be compiled of a tree.
type Version struct {
	Changes []series.Change // nil for the tree as it is
	On      []string        // symbols to be on; others that some Version's Changes bring are off
}

// Versions compiles a tree in several versions, each with the module and with its
// Sizes. The rest is as of Kernels.
func Versions(ctx context.Context, tree *ktree.Tree, versions []Version, o Options) ([]Kernel, error) {
	w, err := newWorkspace(ctx, tree, o)
	if err != nil {
		return nil, err
	}
	var all []series.Change
	for _, v := range versions {
		all = append(all, v.Changes...)
	}
	var kernels []Kernel
	var unlock func()
	for _, v := range versions {
		r := w.recipe(v, series.Symbols(all), o)
		k, ok := w.find(r)
		if !ok {
			if unlock == nil {
				if unlock, err = w.open(ctx); err != nil {
					return nil, err
				}
				defer unlock()
			}
			if err := workshop.Match(tree, v.Changes); err != nil {
				return nil, err
			}
			if k, err = w.build(ctx, r); err != nil {
				return nil, failed(ctx, v.Changes != nil, err)
			}
		}
		kernels = append(kernels, k)
	}
	return kernels, nil
}

// recipe returns that of a Version, where all of these symbols are brought by some.
func (w *workspace) recipe(v Version, symbols []string, o Options) recipe {
	r := recipe{name: "unpatched", config: QEMUConfig(), module: o.Module, sized: true}
	maps.Copy(r.config, o.Config)
	for _, symbol := range symbols {
		delete(r.config, symbol)
	}
	for _, symbol := range v.On {
		r.config[symbol] = "y"
	}
	if v.Changes != nil {
		r.name, r.changes = "patched", make(map[string][]byte)
	}
	for _, c := range v.Changes {
		r.changes[c.Path] = c.After
	}
	return r
}

func failed(ctx context.Context, patched bool, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	var lost *LostError
	var compile *Error
	if errors.As(err, &lost) || errors.As(err, &compile) {
		return &KernelError{patched, err}
	}
	return err
}

// A recipe is what a kernel is made of beside the tree and the tools.
type recipe struct {
	name    string
	config  kconfig.Config
	changes map[string][]byte // contents by path, nil for a file to remove
	module  map[string][]byte // as in Options
	sized   bool              // its Sizes are wanted
}

// recipes returns those of the unpatched and of the patched kernel.
func (w *workspace) recipes(changes []series.Change, config kconfig.Config) (before, after recipe) {
	before = recipe{name: "unpatched", config: QEMUConfig()}
	after = recipe{name: "patched", config: QEMUConfig(), changes: make(map[string][]byte)}
	maps.Copy(before.config, config)
	for _, symbol := range series.Symbols(changes) {
		delete(before.config, symbol)
		after.config[symbol] = "y"
	}
	maps.Copy(after.config, config)
	for _, c := range changes {
		after.changes[c.Path] = c.After
	}
	return before, after
}

// A workspace is where kernels from one place are compiled, one after the
// other: a folder in the cache with
//
//	lock       held by whoever works here
//	linux/     the files of the tree, linux.index what is known of them
//	out/       make's output; out.whole is there if no make was killed in it
//	check-off/, check-on/  make's output for CheckPatches; what it warned of is in
//	           check-off.known and check-on.known, there as out.whole is
//	module/    the files of a module, and what make made of them
//	steps      how many files make compiled, by kind of build
//	kernels/   what is finished, by key
//	folder.index  sums of a person's files
type workspace struct {
	dir    string
	source workshop.Source
	origin string // of the tree, for people
	tools  string // digest of the compiler's version and of our environment
	report progress.Reporter
}

func newWorkspace(ctx context.Context, tree *ktree.Tree, o Options) (*workspace, error) {
	if tree.Kind() != ktree.Linux {
		return nil, &ktree.UnsupportedError{Name: tree.Origin(), Problem: fmt.Sprintf("is a tree of %v, and not of Linux", tree.Kind())}
	}
	w := &workspace{origin: tree.Origin(), report: o.Progress}
	if w.report == nil {
		w.report = progress.Nop{}
	}
	cache, err := workshop.Cache(o.Cache)
	if err != nil {
		return nil, err
	}
	if w.source, w.dir, err = workshop.Open(ctx, tree, cache, "build", w.report); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(w.dir, "kernels"), 0o777); err != nil {
		return nil, err
	}
	w.tools, err = toolsDigest(ctx)
	return w, err
}

// toolsDigest stands for what gcc and the linker say of themselves, and for what
// else we give to make.
func toolsDigest(ctx context.Context) (string, error) {
	h := sha256.New()
	for _, tool := range []string{"gcc", "ld"} {
		cmd := exec.CommandContext(ctx, tool, "-v")
		cmd.Env = environment(os.Environ())
		out, err := cmd.CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return "", Need(ctx)
		}
		if err != nil {
			return "", fmt.Errorf("%s -v: %w", tool, err)
		}
		h.Write(out)
	}
	fmt.Fprintln(h, fixed)
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// key stands for all that decides the bytes of a kernel.
func (w *workspace) key(r recipe) string {
	h := sha256.New()
	fmt.Fprintf(h, "kernel 1\n%s\n%s\n%s\n", w.source.Identity(), w.tools, workshop.Sum(r.config.Bytes()))
	for _, name := range slices.Sorted(maps.Keys(r.changes)) {
		data := r.changes[name]
		fmt.Fprintf(h, "%q %t %s\n", name, data == nil, workshop.Sum(data))
	}
	for _, name := range slices.Sorted(maps.Keys(r.module)) {
		fmt.Fprintf(h, "module %q %s\n", name, workshop.Sum(r.module[name]))
	}
	if r.sized {
		fmt.Fprintln(h, "sizes 1")
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// find returns a finished kernel.
func (w *workspace) find(r recipe) (Kernel, bool) {
	begin := time.Now()
	key := w.key(r)
	dir := filepath.Join(w.dir, "kernels", key)
	release, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return Kernel{}, false
	}
	k := Kernel{
		BzImage: filepath.Join(dir, "bzImage"), Config: filepath.Join(dir, "config"),
		Key: key, Release: strings.TrimSpace(string(release)), Cached: true, Took: time.Since(begin),
	}
	if len(r.module) > 0 {
		k.Module = filepath.Join(dir, moduleFile)
	}
	if r.sized {
		workshop.Load(filepath.Join(dir, sizesFile), &k.Sizes)
	}
	return k, true
}

// open waits for the workspace and clears out what cannot be trusted.
func (w *workspace) open(ctx context.Context) (unlock func(), err error) {
	if err := Need(ctx); err != nil {
		return nil, err
	}
	unlock, err = ktree.Lock(ctx, filepath.Join(w.dir, "lock"), w.report)
	if err != nil {
		return nil, err
	}
	// make takes a file for finished by its time. If it was killed, or the
	// copy or the tools are others, that says nothing.
	fresh := w.mirror().Fresh()
	whole, err := os.ReadFile(w.whole())
	if err != nil || string(whole) != w.tools || fresh {
		err = errors.Join(os.RemoveAll(w.out()), os.RemoveAll(w.whole()))
	}
	if fresh {
		for _, name := range outputs {
			err = errors.Join(err, os.RemoveAll(w.known(name)))
		}
	}
	// Of runs that were killed.
	for _, pattern := range []string{".new-*", "kernels/.new-*"} {
		left, _ := filepath.Glob(filepath.Join(w.dir, pattern))
		for _, name := range left {
			err = errors.Join(err, os.RemoveAll(name))
		}
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func (w *workspace) out() string   { return filepath.Join(w.dir, "out") }
func (w *workspace) whole() string { return filepath.Join(w.dir, "out.whole") }

func (w *workspace) mirror() *workshop.Mirror {
	return &workshop.Mirror{Dir: filepath.Join(w.dir, "linux"), Index: filepath.Join(w.dir, "linux.index"), Report: w.report}
}

// update makes the copy hold the tree with changes, and returns what the tree has.
func (w *workspace) update(ctx context.Context, changes map[string][]byte) (workshop.Listing, error) {
	m := w.mirror()
	title := "copy " + w.origin
	if !m.Fresh() {
		title = "update the copy of " + w.origin
	}
	from, err := w.source.List(ctx)
	if err != nil {
		return nil, err
	}
	return from, m.Update(ctx, w.source, from, changes, title)
}

// build finds or compiles a kernel; the workspace is open.
func (w *workspace) build(ctx context.Context, r recipe) (Kernel, error) {
	if k, ok := w.find(r); ok {
		return k, nil
	}
	if _, err := w.update(ctx, r.changes); err != nil {
		return Kernel{}, err
	}
	begin := time.Now()
	b := &Build{Source: w.mirror().Dir, Output: w.out(), Progress: w.report}
	if err := w.compile(ctx, b, r); err != nil {
		return Kernel{}, err
	}
	if err := w.keep(b, r); err != nil {
		return Kernel{}, err
	}
	k, ok := w.find(r)
	if !ok {
		return k, fmt.Errorf("the kernel is not in %s, where it was put", w.dir)
	}
	k.Cached, k.Took = false, time.Since(begin)
	return k, nil
}

// What a first build for QEMUConfig takes: Linux 6.12.
var firstSteps = map[string]int64{"whole": 1750, "patched": 50, "unpatched": 50}

// compile runs make, with out.whole away while it does.
func (w *workspace) compile(ctx context.Context, b *Build, r recipe) (err error) {
	kind := r.name
	if _, err := os.Stat(b.BzImage()); err != nil {
		kind = "whole"
	}
	if err := os.RemoveAll(w.whole()); err != nil {
		return err
	}
	defer func() {
		if !b.torn {
			err = errors.Join(err, workshop.WriteWhole(w.whole(), []byte(w.tools)))
		}
	}()
	if err := b.Configure(ctx, r.config); err != nil {
		return err
	}
	steps := maps.Clone(firstSteps)
	workshop.Load(filepath.Join(w.dir, "steps"), &steps)
	b.steps = steps[kind]
	if _, err := b.Make(ctx, "bzImage"); err != nil {
		return err
	}
	steps[kind] = b.steps
	if err := workshop.Store(filepath.Join(w.dir, "steps"), steps); err != nil || len(r.module) == 0 {
		return err
	}
	return w.compileModule(ctx, b, r.module)
}

func (w *workspace) module() string { return filepath.Join(w.dir, "module") }

// compileModule compiles an external module for the kernel that b has compiled,
// from nothing, as there is little to it.
func (w *workspace) compileModule(ctx context.Context, b *Build, files map[string][]byte) error {
	if err := Need(ctx, "strip"); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(w.module()), os.Mkdir(w.module(), 0o777)); err != nil {
		return err
	}
	root, err := os.OpenRoot(w.module())
	if err != nil {
		return err
	}
	defer root.Close()
	for name, data := range files {
		if err := root.WriteFile(name, data, 0o666); err != nil {
			return err
		}
	}
	// It is linked with what Module.symvers has, which the target bzImage does
	// not make; nothing that bzImage made is made again.
	b.steps = 0
	if _, err := b.Make(ctx, "modules"); err != nil {
		return err
	}
	// The -fmacro-prefix-map of newer trees (7.3 has it so, 6.12 has not) is for the
	// module's own files: the headers that warn would have this place in them.
	b.steps = 0
	if _, err := b.Make(ctx, "M="+w.module(), "KCFLAGS=-ffile-prefix-map="+w.dir+"/=", "modules"); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(w.module(), "*.ko"))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("the module's files make %d .ko files, not one: see what its Kbuild has as obj-m", len(found))
	}
	// As scripts/Makefile.modinst does with INSTALL_MOD_STRIP.
	out, err := exec.CommandContext(ctx, "strip", "--strip-debug", "-o", filepath.Join(w.module(), moduleFile), found[0]).CombinedOutput()
	if err != nil {
		return fmt.Errorf("strip %s: %w: %s", found[0], err, out)
	}
	return nil
}

// moduleFile is the name under which a module is kept.
const moduleFile = "module.ko"

// sizesFile is that of a kernel's Sizes.
const sizesFile = "sizes"

// sizesOf reads the Sizes of a vmlinux. Of its sections size(1) counts those that take
// memory: what is not written as text, what is and has contents as data.
func sizesOf(vmlinux string) (s Sizes, err error) {
	f, err := elf.Open(vmlinux)
	if err != nil {
		return s, err
	}
	defer f.Close()
	for _, section := range f.Sections {
		size := int64(section.Size)
		switch {
		case section.Flags&elf.SHF_ALLOC == 0:
		case section.Flags&elf.SHF_EXECINSTR != 0, section.Flags&elf.SHF_WRITE == 0:
			s.Text += size
		case section.Type == elf.SHT_NOBITS:
			s.BSS += size
		default:
			s.Data += size
		}
	}
	if s.Text == 0 {
		return s, fmt.Errorf("%s has no code", vmlinux)
	}
	return s, nil
}

// keep puts a finished kernel into kernels/, whole or not at all.
func (w *workspace) keep(b *Build, r recipe) error {
	kernels := filepath.Join(w.dir, "kernels")
	dir, err := os.MkdirTemp(kernels, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	files := map[string]string{
		"bzImage":    b.BzImage(),
		"config":     filepath.Join(b.Output, ".config"),
		"System.map": filepath.Join(b.Output, "System.map"),
		"release":    filepath.Join(b.Output, "include/config/kernel.release"),
	}
	if len(r.module) > 0 {
		files[moduleFile] = filepath.Join(w.module(), moduleFile)
	}
	for name, from := range files {
		if err := workshop.CopyFile(from, filepath.Join(dir, name), 0o666); err != nil {
			return err
		}
	}
	if r.sized {
		sizes, err := sizesOf(filepath.Join(b.Output, "vmlinux"))
		if err != nil {
			return err
		}
		if err := workshop.Store(filepath.Join(dir, sizesFile), sizes); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	return os.Rename(dir, filepath.Join(kernels, w.key(r)))
}
