package ktree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// isRepository reports whether dir is a worktree with a .git folder or file,
// or itself a git folder, which is told as git does: by HEAD, objects, refs
// (git: is_git_directory() in setup.c).
func isRepository(dir string) bool {
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
		return true
	}
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// openGit opens the clone in dir at rev, or at HEAD for "".
func openGit(ctx context.Context, dir, rev string) (*Tree, error) {
	gitDir, err := findGitDir(dir)
	if err != nil {
		return nil, err
	}
	store, err := openStore(gitDir)
	if err != nil {
		return nil, cannotRead(dir, err)
	}
	t, err := openCommit(ctx, store, dir, rev)
	if err != nil {
		store.Close()
		return nil, err
	}
	if gitDir != dir && rev == "" {
		t.work = dir
	}
	return newTree(t)
}

func openCommit(ctx context.Context, s *store, dir, rev string) (*Tree, error) {
	// Without a worktree, so that nobody can touch it by way of go-git.
	repo, err := git.Open(s, nil)
	if errors.Is(err, git.ErrRepositoryNotExists) {
		err = errors.New("it has no HEAD")
	}
	if err != nil {
		return nil, cannotRead(dir, err)
	}
	name := rev
	if name == "" {
		name = "HEAD"
	}
	commit, err := resolve(ctx, s, name)
	if err != nil {
		return nil, fmt.Errorf("find revision %q in git clone %s: %w", name, dir, err)
	}
	root, err := commit.Tree()
	if err != nil {
		return nil, fmt.Errorf("read commit %.12s in git clone %s: %w", commit.Hash, dir, s.missing(dir, commit.TreeHash, err))
	}
	return &Tree{
		src:    &objects{dir, s, root, map[string]*object.Tree{}},
		origin: fmt.Sprintf("commit %.12s of %s", commit.Hash, dir),
		commit: commit.Hash.String(),
		repo:   repo,
	}, nil
}

// findGitDir returns the git folder of a clone: dir/.git, what a file of that
// name points to, or dir itself if it is bare.
func findGitDir(dir string) (string, error) {
	dot := filepath.Join(dir, ".git")
	st, err := os.Stat(dot)
	if errors.Is(err, fs.ErrNotExist) && !isLink(dot) {
		return dir, nil
	}
	if err == nil && st.IsDir() {
		return dot, nil
	}
	if err == nil {
		// gitrepository-layout(5): a line `gitdir: PATH`.
		line, _ := readLine(dot)
		target, ok := strings.CutPrefix(line, "gitdir: ")
		if ok && !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		if st, err := os.Stat(target); ok && err == nil && st.IsDir() {
			return target, nil
		}
	}
	return "", &UnsupportedError{dot, "leads to no git repository: repair it with `git worktree repair`, or remove it to have the folder read as it is"}
}

func isLink(name string) bool {
	st, err := os.Lstat(name)
	return err == nil && st.Mode()&fs.ModeSymlink != 0
}

func cannotRead(dir string, err error) error {
	return &UnsupportedError{"git clone " + dir, "cannot be read: " + err.Error()}
}

// missing explains an object that is not there.
func (s *store) missing(dir string, h plumbing.Hash, err error) error {
	if !errors.Is(err, plumbing.ErrObjectNotFound) {
		return err
	}
	if s.partial {
		return &UnsupportedError{"git object " + h.String(), fmt.Sprintf("is not in this partial clone: get it with `git -C %s cat-file -e %s`", dir, h)}
	}
	return &UnsupportedError{"git object " + h.String(), "is not in the clone: see `git fsck`"}
}

// objects is the tree of a commit.
type objects struct {
	clone string // path, for people
	store *store
	root  *object.Tree
	dirs  map[string]*object.Tree // subtrees read so far, by path
}

func (o *objects) readFile(name string) ([]byte, error) {
	entry, err := o.entry(name)
	if err != nil {
		return nil, err
	}
	switch entry.Mode {
	case filemode.Regular, filemode.Executable, filemode.Deprecated:
	case filemode.Symlink:
		return nil, &UnsupportedError{name, "is a symbolic link in this commit"}
	case filemode.Submodule:
		return nil, &UnsupportedError{name, "is a submodule in this commit"}
	default:
		return nil, &UnsupportedError{name, "is not a regular file"}
	}
	blob, err := o.store.EncodedObject(plumbing.BlobObject, entry.Hash)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, o.store.missing(o.clone, entry.Hash, err))
	}
	if blob.Size() > maxFile {
		return nil, errTooLarge(name)
	}
	r, err := blob.Reader()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer r.Close()
	return io.ReadAll(r)
}

// entry finds the entry of a file or folder.
func (o *objects) entry(name string) (*object.TreeEntry, error) {
	tree, done := o.root, ""
	for rest := name; ; {
		first, after, deeper := strings.Cut(rest, "/")
		var entry *object.TreeEntry
		for i := range tree.Entries {
			if tree.Entries[i].Name == first {
				entry = &tree.Entries[i]
				break
			}
		}
		if entry == nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if !deeper {
			return entry, nil
		}
		done, rest = done+first+"/", after
		switch entry.Mode {
		case filemode.Dir:
		case filemode.Symlink:
			return nil, &UnsupportedError{done[:len(done)-1], "is a symbolic link in this commit"}
		case filemode.Submodule:
			return nil, &UnsupportedError{done[:len(done)-1], "is a submodule in this commit"}
		default:
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		sub := o.dirs[done]
		if sub == nil {
			var err error
			if sub, err = object.GetTree(o.store, entry.Hash); err != nil {
				return nil, fmt.Errorf("read folder %s: %w", done, o.store.missing(o.clone, entry.Hash, err))
			}
			o.dirs[done] = sub
		}
		tree = sub
	}
}

func (o *objects) has(name string) bool {
	_, err := o.entry(name)
	return err == nil
}

func (o *objects) isDir(name string) bool {
	entry, err := o.entry(name)
	return err == nil && entry.Mode == filemode.Dir
}

func (o *objects) close() error { return o.store.Close() }
