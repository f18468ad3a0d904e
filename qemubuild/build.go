// Package qemubuild configures and compiles QEMU for x86-64 guests, and keeps what it
// compiled.
package qemubuild

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patchgen/ktree"
	"patchgen/progress"
	"patchgen/series"
	"patchgen/workshop"
)

// Options say how QEMU is built. The zero value is usable.
type Options struct {
	Cache    string            // folder, the same as ktree's; "" is os.UserCacheDir()/patchgen
	Progress progress.Reporter // nil tells nobody
	Check    bool              // run the qtests that the changes add; one that fails is an *Error
}

// A QEMU is a compiled QEMU in the cache, where it stays as it is.
type QEMU struct {
	Binary   string        // path of qemu-system-x86_64
	Firmware string        // folder for -L
	Key      string        // 64 hex digits that stand for all that it is made of
	Version  string        // as the tree's VERSION says, such as "10.0.2"
	Checked  []string      // the qtests that passed, if that was asked for, such as "pci-page-dirtying-test"
	Cached   bool          // nothing had to be compiled
	Took     time.Duration // to configure, compile and check it, or to find it
}

// Args returns the arguments that QEMU needs to find its firmware.
func (q QEMU) Args() []string { return []string{"-L", q.Firmware} }

const binary = "qemu-system-x86_64"

// Build compiles a tree of QEMU with changes, which may be none. What depends on them
// alone is compiled where the tree, or it with other changes, was compiled before.
//
// The tree is only read: of a git clone the commit, of a folder the files as they are.
// The error is a *workshop.MissingError where a program or library is missing, and an
// *Error where configure, the compiler or a qtest fails.
func Build(ctx context.Context, tree *ktree.Tree, changes []series.Change, o Options) (QEMU, error) {
	begin := time.Now()
	w, err := newWorkspace(ctx, tree, o)
	if err != nil {
		return QEMU{}, err
	}
	contents := contentsOf(changes)
	// Of the firmware that the tree has not, what the machine has is part of it.
	from, err := w.source.List(ctx)
	if err != nil {
		return QEMU{}, err
	}
	stubs, err := w.stubs(tree, from, contents)
	if err != nil {
		return QEMU{}, err
	}
	if err := complete(tree, from); err != nil {
		return QEMU{}, err
	}
	q := w.name(tree, contents, stubs)
	if _, err := os.Stat(q.Binary); err == nil && !o.Check {
		q.Cached, q.Took = true, time.Since(begin)
		return q, nil
	}
	unlock, err := w.open(ctx)
	if err != nil {
		return QEMU{}, err
	}
	defer unlock()
	if err := workshop.Match(tree, changes); err != nil {
		return QEMU{}, err
	}
	tests := qtests(changes)
	targets := []string{binary}
	if o.Check {
		targets = append(targets, tests...)
	}
	if _, err := w.make(ctx, from, overlay(stubs, contents), targets); err != nil {
		return QEMU{}, err
	}
	if o.Check {
		if err := w.check(ctx, tests); err != nil {
			return QEMU{}, err
		}
		for _, t := range tests {
			q.Checked = append(q.Checked, path.Base(t))
		}
	}
	if err := w.keep(q); err != nil {
		return QEMU{}, err
	}
	q.Took = time.Since(begin)
	return q, nil
}

// contentsOf returns what files hold after changes, nil for one that is removed.
func contentsOf(changes []series.Change) map[string][]byte {
	m := make(map[string][]byte)
	for _, c := range changes {
		m[c.Path] = c.After
	}
	return m
}

func overlay(below, above map[string][]byte) map[string][]byte {
	all := maps.Clone(below)
	maps.Copy(all, above)
	return all
}

// qtests returns the targets of the qtests that changes add.
func qtests(changes []series.Change) []string {
	var targets []string
	for _, c := range changes {
		name, ok := strings.CutSuffix(c.Path, "-test.c")
		if ok && c.Before == nil && path.Dir(name) == "tests/qtest" {
			targets = append(targets, name+"-test")
		}
	}
	return targets
}

// A workspace is where the QEMUs from one place are compiled, one after the other: a
// folder in the cache with
//
//	lock       held by whoever works here
//	src/       the files of the tree, src.index what is known of them
//	out/       what is compiled; out.whole is there if nothing was killed in it
//	*.log      all that configure, ninja and the qtests said last
//	built/     what is finished, by key
//	folder.index  sums of a person's files
type workspace struct {
	dir    string
	source workshop.Source
	origin string // of the tree, for people
	tools  string // digest of the compiler, and of how configure is called
	report progress.Reporter
}

func newWorkspace(ctx context.Context, tree *ktree.Tree, o Options) (*workspace, error) {
	if tree.Kind() != ktree.QEMU {
		return nil, &ktree.UnsupportedError{Name: tree.Origin(), Problem: fmt.Sprintf("is a tree of %v, and not of QEMU", tree.Kind())}
	}
	w := &workspace{origin: tree.Origin(), report: o.Progress}
	if w.report == nil {
		w.report = progress.Nop{}
	}
	cache, err := workshop.Cache(o.Cache)
	if err != nil {
		return nil, err
	}
	if w.source, w.dir, err = workshop.Open(ctx, tree, cache, "qemu", w.report); err != nil {
		return nil, err
	}
	w.tools, err = toolsDigest(ctx)
	return w, err
}

// name returns the QEMU that is to be, with its paths.
func (w *workspace) name(tree *ktree.Tree, changes, stubs map[string][]byte) QEMU {
	h := sha256.New()
	fmt.Fprintf(h, "QEMU 1\n%s\n%s\n", w.source.Identity(), w.tools)
	for _, files := range []map[string][]byte{changes, stubs} {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			fmt.Fprintf(h, "%q %t %s\n", name, files[name] == nil, workshop.Sum(files[name]))
		}
	}
	key := fmt.Sprintf("%x", h.Sum(nil))
	dir := filepath.Join(w.dir, "built", key)
	return QEMU{Binary: filepath.Join(dir, binary), Firmware: filepath.Join(dir, "firmware"), Key: key, Version: tree.Release().String()}
}

func (w *workspace) out() string            { return filepath.Join(w.dir, "out") }
func (w *workspace) whole() string          { return filepath.Join(w.dir, "out.whole") }
func (w *workspace) log(name string) string { return filepath.Join(w.dir, name+".log") }

func (w *workspace) mirror() *workshop.Mirror {
	return &workshop.Mirror{Dir: filepath.Join(w.dir, "src"), Index: filepath.Join(w.dir, "src.index"), Report: w.report}
}

// open waits for the workspace and clears out what runs that were killed left.
func (w *workspace) open(ctx context.Context) (unlock func(), err error) {
	if err := need(ctx); err != nil {
		return nil, err
	}
	unlock, err = ktree.Lock(ctx, filepath.Join(w.dir, "lock"), w.report)
	if err != nil {
		return nil, err
	}
	err = os.MkdirAll(filepath.Join(w.dir, "built"), 0o777)
	for _, pattern := range []string{".new-*", "built/.new-*"} {
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

// make makes targets of the tree with changes, and returns what the compiler warned of.
func (w *workspace) make(ctx context.Context, from workshop.Listing, changes map[string][]byte, targets []string) ([]string, error) {
	m := w.mirror()
	title := "update the copy of " + w.origin
	if m.Fresh() {
		title = "copy " + w.origin
	}
	// ninja takes a file for finished by its time. If the copy is a new one, that says
	// nothing; nor does it if ninja was killed, or configure would do something else.
	state := w.tools
	for _, name := range []string{"configure", "pythondeps.toml"} {
		state += " " + from[name].ID + workshop.Sum(changes[name])
	}
	if was, err := os.ReadFile(w.whole()); err != nil || string(was) != state || m.Fresh() {
		if err := os.RemoveAll(w.out()); err != nil {
			return nil, err
		}
	}
	if err := m.Update(ctx, w.source, from, changes, title); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(w.whole()); err != nil {
		return nil, err
	}
	if _, statErr := os.Stat(filepath.Join(w.out(), "build.ninja")); statErr != nil {
		if err := errors.Join(os.RemoveAll(w.out()), os.Mkdir(w.out(), 0o777)); err != nil {
			return nil, err
		}
		if err := w.configure(ctx, m.Dir); err != nil {
			return nil, errors.Join(err, os.RemoveAll(w.out()))
		}
	}
	t := newTranscript("compile QEMU", w.report)
	torn, err := w.run(ctx, "ninja", t, w.out(), "ninja", targets...)
	if !torn {
		err = errors.Join(err, workshop.WriteWhole(w.whole(), []byte(state)))
	}
	return t.warnings, err
}

// What a clone of QEMU's has no files of: configure would fetch them.
var fetched = []string{"keycodemapdb", "berkeley-softfloat-3", "berkeley-testfloat-3"}

// complete returns an error for a tree that cannot be built without the network.
func complete(tree *ktree.Tree, from workshop.Listing) error {
	for _, name := range fetched {
		folder := "subprojects/" + name
		if _, wanted := from[folder+".wrap"]; wanted && !tree.IsDir(folder) {
			return &ktree.UnsupportedError{Name: tree.Origin(), Problem: "has no " + folder + ", which configure would fetch, and here nothing is fetched: give the tarball of a release, or one that the tree's scripts/archive-source.sh makes"}
		}
	}
	return nil
}

// keep puts a finished QEMU into built/, whole or not at all.
func (w *workspace) keep(q QEMU) error {
	built := filepath.Dir(q.Binary)
	if _, err := os.Stat(q.Binary); err == nil {
		return nil // it was only checked again
	}
	dir, err := os.MkdirTemp(filepath.Dir(built), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := workshop.CopyFile(filepath.Join(w.out(), binary), filepath.Join(dir, binary), 0o777); err != nil {
		return err
	}
	firmware := filepath.Join(dir, filepath.Base(q.Firmware))
	if err := os.Mkdir(firmware, 0o777); err != nil {
		return err
	}
	files, err := os.ReadDir(filepath.Join(w.mirror().Dir, blobs))
	if err != nil {
		return err
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return err
		}
		if !isFirmware(f.Name()) || !info.Mode().IsRegular() || info.Size() == 0 {
			continue
		}
		if err := workshop.CopyFile(filepath.Join(w.mirror().Dir, blobs, f.Name()), filepath.Join(firmware, f.Name()), 0o666); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	return os.Rename(dir, built)
}
