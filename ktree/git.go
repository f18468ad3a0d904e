package ktree

import (
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
func openGit(dir, rev string) (*Tree, error) {
	repo, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return nil, fmt.Errorf("open git clone %s: %w", dir, err)
	}
	name := rev
	if name == "" {
		name = "HEAD"
	}
	hash, err := repo.ResolveRevision(plumbing.Revision(name))
	if err != nil {
		return nil, fmt.Errorf("find revision %q in %s: %w", name, dir, err)
	}
	commit, err := repo.CommitObject(*hash)
	if err != nil {
		return nil, fmt.Errorf("read commit %s of %s: %w", hash, dir, err)
	}
	root, err := commit.Tree()
	if err != nil {
		return nil, fmt.Errorf("read tree of commit %s of %s: %w", hash, dir, err)
	}
	t := &Tree{
		src:    &objects{repo, root, map[string]*object.Tree{}},
		origin: fmt.Sprintf("commit %.12s of %s", hash, dir),
		commit: hash.String(),
		repo:   repo,
	}
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil && rev == "" {
		t.work = dir
	}
	return newTree(t)
}

// objects is the tree of a commit.
type objects struct {
	repo *git.Repository
	root *object.Tree
	dirs map[string]*object.Tree // subtrees read so far, by path
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
	size, err := o.repo.Storer.EncodedObjectSize(entry.Hash)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if size > maxFile {
		return nil, errTooLarge(name)
	}
	blob, err := o.repo.BlobObject(entry.Hash)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	r, err := blob.Reader()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
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
			if sub, err = o.repo.TreeObject(entry.Hash); err != nil {
				return nil, fmt.Errorf("read folder %s: %w", done, err)
			}
			o.dirs[done] = sub
		}
		tree = sub
	}
}

func (o *objects) isDir(name string) bool {
	entry, err := o.entry(name)
	return err == nil && entry.Mode == filemode.Dir
}

func (o *objects) close() error {
	if c, ok := o.repo.Storer.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
