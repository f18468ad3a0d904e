package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"patchgen/ktree"
)

// maxFile is the size of a tree's file that is looked at, in bytes, as for
// ktree.Tree.ReadFile.
const maxFile = 16 << 20

// A file is one of a tree, before or after a patch.
type file struct {
	mode filemode.FileMode // 0 if there is none
	data []byte            // of a symbolic link, where it leads
}

func (f file) there() bool { return f.mode != 0 }

func (f file) hash() string { return plumbing.ComputeHash(plumbing.BlobObject, f.data).String() }

// A source reads a tree with the modes of its files, which a ktree.Tree does
// not tell.
type source struct {
	tree *ktree.Tree
	root *os.Root     // of a folder
	git  *object.Tree // of a commit
	dirs map[string]*object.Tree
}

func newSource(tree *ktree.Tree) (*source, error) {
	s := &source{tree: tree, dirs: make(map[string]*object.Tree)}
	if dir := tree.Dir(); dir != "" {
		var err error
		s.root, err = os.OpenRoot(dir)
		return s, err
	}
	commit, err := tree.Repository().CommitObject(plumbing.NewHash(tree.Commit()))
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", tree.Commit(), err)
	}
	s.git, err = commit.Tree()
	return s, err
}

func (s *source) close() {
	if s.root != nil {
		s.root.Close()
	}
}

// mode returns a file's mode, 0 if there is none. What is reached through a
// symbolic link is not there, as for git.
func (s *source) mode(name string) (filemode.FileMode, error) {
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") {
		return 0, nil
	}
	if s.git != nil {
		e, err := s.entry(name)
		if e == nil || err != nil {
			return 0, err
		}
		return e.Mode, nil
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if st, err := s.root.Lstat(dir); err != nil || !st.IsDir() {
			return 0, nil
		}
	}
	st, err := s.root.Lstat(name)
	switch {
	case err != nil:
		return 0, nil
	case st.IsDir():
		return filemode.Dir, nil
	case st.Mode()&fs.ModeSymlink != 0:
		return filemode.Symlink, nil
	case !st.Mode().IsRegular():
		return 0, nil
	case st.Mode()&0o100 != 0:
		return filemode.Executable, nil
	}
	return filemode.Regular, nil
}

// entry finds what a commit has by a name, nil if nothing. go-git's own FindEntry
// refuses names that a hostile patch may have.
func (s *source) entry(name string) (*object.TreeEntry, error) {
	tree, done := s.git, ""
	for {
		first, rest, deeper := strings.Cut(name[len(done):], "/")
		i := slices.IndexFunc(tree.Entries, func(e object.TreeEntry) bool { return e.Name == first })
		if i < 0 || deeper && tree.Entries[i].Mode != filemode.Dir {
			return nil, nil
		}
		if !deeper {
			return &tree.Entries[i], nil
		}
		done = name[:len(name)-len(rest)]
		if s.dirs[done] == nil {
			sub, err := object.GetTree(s.tree.Repository().Storer, tree.Entries[i].Hash)
			if err != nil {
				return nil, fmt.Errorf("read folder %s: %w", done, err)
			}
			s.dirs[done] = sub
		}
		tree = s.dirs[done]
	}
}

// file returns a file or link; one that is not there has no mode. The error is
// a *ktree.UnsupportedError for what no patch can change, such as a folder.
func (s *source) file(name string) (file, error) {
	mode, err := s.mode(name)
	if err != nil || mode == 0 {
		return file{}, err
	}
	f := file{mode: mode}
	switch mode {
	case filemode.Regular, filemode.Executable, filemode.Deprecated:
		if mode == filemode.Deprecated {
			f.mode = filemode.Regular
		}
		// The tree notes who was read.
		f.data, err = s.tree.ReadFile(name)
		if e := (*ktree.UnsupportedError)(nil); !errors.As(err, &e) {
			return f, err
		}
		// A text with DOS line ends is no fault here.
		var raw error
		if f.data, raw = s.raw(name); raw != nil {
			return f, err
		}
		return f, nil
	case filemode.Symlink:
		if s.root != nil {
			target, err := s.root.Readlink(name)
			return file{mode, []byte(target)}, err
		}
		f.data, err = s.raw(name)
		return f, err
	}
	return f, &ktree.UnsupportedError{Name: name, Problem: "is no file"}
}

// raw reads a file or, from git, a link as it is.
func (s *source) raw(name string) ([]byte, error) {
	if s.git != nil {
		e, err := s.entry(name)
		if e == nil || err != nil {
			return nil, errors.Join(err, fs.ErrNotExist)
		}
		blob, err := object.GetBlob(s.tree.Repository().Storer, e.Hash)
		if err != nil {
			return nil, err
		}
		return readBlob(blob)
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(data) > maxFile {
		return nil, &ktree.UnsupportedError{Name: name, Problem: "is too large"}
	}
	return data, err
}

func readBlob(b *object.Blob) ([]byte, error) {
	if b.Size > maxFile {
		return nil, &ktree.UnsupportedError{Name: b.Hash.String(), Problem: "is too large"}
	}
	r, err := b.Reader()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// walk calls do with each regular file below dir that want accepts.
func (s *source) walk(ctx context.Context, dir string, want func(name string) bool, do func(name string, data []byte) error) error {
	if s.git != nil {
		sub, err := s.git.Tree(dir)
		if err != nil {
			return nil // there is none
		}
		return sub.Files().ForEach(func(f *object.File) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			name := dir + "/" + f.Name
			if f.Mode == filemode.Symlink || !want(name) {
				return nil
			}
			data, err := readBlob(&f.Blob)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return do(name, data)
		})
	}
	return fs.WalkDir(s.root.FS(), dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !d.Type().IsRegular() || !want(name) {
			return nil
		}
		data, err := s.raw(name)
		if err != nil {
			return err
		}
		return do(name, data)
	})
}

// gitDir returns the git folder of the clone that a tree is read from, or "".
func gitDir(tree *ktree.Tree) string {
	if tree.Repository() == nil {
		return ""
	}
	st, ok := tree.Repository().Storer.(interface{ Filesystem() billy.Filesystem })
	if !ok {
		return ""
	}
	return filepath.Clean(st.Filesystem().Root())
}
