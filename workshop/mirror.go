package workshop

import (
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"patchgen/progress"
)

// A Mirror is a folder that is made to hold what a Listing says. Only what
// differs is written, so that make compiles only what depends on that. An index
// of what was written there, with stamps, tells the folder's state even after a
// run that was killed: whatever is not as the index has it is looked at.
type Mirror struct {
	Dir, Index string
	Report     progress.Reporter
}

// A held is what a mirror's index has of a file.
type held struct {
	ID    string
	Stamp stamp
}

// Fresh reports whether nothing is known of the folder.
func (m *Mirror) Fresh() bool {
	_, err := os.Stat(m.Index)
	return err != nil
}

// Update makes the folder hold src, of which from is the list, and over it the
// contents of changes; nil removes a file.
//
// A fresh mirror of a tree in patchgen's own cache is one of hard links.
// Therefore a file is never written to, but always made anew. Later a link would
// bring a time with it that is older than the objects compiled from another
// content.
func (m *Mirror) Update(ctx context.Context, src Source, from Listing, changes map[string][]byte, title string) error {
	want := overlay(from, changes)
	dirs, err := want.dirs()
	if err != nil {
		return err
	}
	link := ""
	if m.Fresh() {
		if err := os.RemoveAll(m.Dir); err != nil {
			return err
		}
		if u, ok := src.(*unpacked); ok {
			link = u.dir
		}
	}
	known := map[string]held{}
	Load(m.Index, &known)
	now, err := m.prune(ctx, want, dirs, known)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.Dir, 0o777); err != nil {
		return err
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if err := os.Mkdir(filepath.Join(m.Dir, dir), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}

	var todo []string
	for _, name := range sorted(want) {
		if _, ok := now[name]; !ok {
			todo = append(todo, name)
		}
	}
	if len(todo) == 0 && len(now) == len(known) {
		return nil
	}
	m.Report.Stage(title, int64(len(todo)), "files")
	defer m.Report.End()
	done := 0
	put := func(name string, data []byte) error {
		if err := m.put(name, want[name].Mode, data); err != nil {
			return err
		}
		info, err := os.Lstat(filepath.Join(m.Dir, name))
		if err != nil {
			return err
		}
		now[name] = m.held(want[name], info)
		done++
		m.Report.Step(int64(done))
		return nil
	}
	var read []string
	for _, name := range todo {
		if data, ok := changes[name]; ok {
			if err := put(name, data); err != nil {
				return err
			}
			continue
		}
		if link != "" && want[name].Mode&fs.ModeSymlink == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			to := filepath.Join(m.Dir, name)
			if os.Link(filepath.Join(link, name), to) == nil {
				info, err := os.Lstat(to)
				if err != nil {
					return err
				}
				now[name] = m.held(want[name], info)
				done++
				m.Report.Step(int64(done))
				continue
			}
		}
		read = append(read, name)
	}
	if len(read) > 0 {
		if err := src.read(ctx, read, want, put); err != nil {
			return err
		}
	}
	return Store(m.Index, now)
}

// Change makes the folder, which Update has made hold from, hold changes on top of
// that; only names can differ from what is there. The index is not told: it says of
// these files what they were, so that the next Update looks at them, and lets stand
// with its time what is as it should be.
func (m *Mirror) Change(from Listing, changes map[string][]byte, names []string) error {
	want := overlay(from, changes)
	if _, err := want.dirs(); err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := want[name]; ok {
			continue
		}
		if err := os.Remove(filepath.Join(m.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for dir := path.Dir(name); dir != "." && os.Remove(filepath.Join(m.Dir, dir)) == nil; dir = path.Dir(dir) {
		}
	}
	for _, name := range names {
		e, ok := want[name]
		if !ok {
			continue
		}
		if err := os.MkdirAll(filepath.Join(m.Dir, path.Dir(name)), 0o777); err != nil {
			return err
		}
		if err := m.put(name, e.Mode, changes[name]); err != nil {
			return err
		}
	}
	return nil
}

// overlay returns what l is with changes on top.
func overlay(l Listing, changes map[string][]byte) Listing {
	l = maps.Clone(l)
	for name, data := range changes {
		if data == nil {
			delete(l, name)
			continue
		}
		e, there := l[name]
		if !there {
			e.Mode = 0o644
			if bytes.HasPrefix(data, []byte("#!")) {
				e.Mode = 0o755
			}
		}
		e.ID = "change " + Sum(data)
		l[name] = e
	}
	return l
}

func (m *Mirror) held(e Entry, info fs.FileInfo) held {
	return held{e.Mode.String() + e.ID, newStamp(info).unlinked()}
}

// prune removes from the folder what is not wanted, and returns what is there
// as it should be.
func (m *Mirror) prune(ctx context.Context, want Listing, dirs map[string]bool, known map[string]held) (map[string]held, error) {
	now := make(map[string]held, len(want))
	err := filepath.WalkDir(m.Dir, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(file, m.Dir), "/"))
		if d.IsDir() {
			if dirs[cmp.Or(name, ".")] {
				return nil
			}
			if err := os.RemoveAll(file); err != nil {
				return err
			}
			return fs.SkipDir
		}
		e, ok := want[name]
		if !ok || e.Mode&fs.ModeSymlink != d.Type() {
			return os.Remove(file)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if h := m.held(e, info); known[name] == h {
			now[name] = h
		}
		return nil
	})
	return now, err
}

// put makes a file, unless it is there already with that mode and content.
func (m *Mirror) put(name string, mode fs.FileMode, data []byte) error {
	file := filepath.Join(m.Dir, name)
	if info, err := os.Lstat(file); err == nil {
		if modeOf(info) == mode && (info.Size() == int64(len(data))) {
			if there, err := contents(file, mode); err == nil && bytes.Equal(there, data) {
				return nil
			}
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	if mode&fs.ModeSymlink != 0 {
		return os.Symlink(string(data), file)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func sorted(l Listing) []string { return slices.Sorted(maps.Keys(l)) }

// Load reads what Store wrote. What cannot be read is as if it were not there, and
// v stays as it is.
func Load[T any](file string, v *T) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	var stored T
	if err := gob.NewDecoder(f).Decode(&stored); err == nil {
		*v = stored
	}
}

// Store writes a file that appears whole.
func Store(file string, v any) error {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		return err
	}
	return WriteWhole(file, b.Bytes())
}

// WriteWhole writes a file that appears whole.
func WriteWhole(file string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
