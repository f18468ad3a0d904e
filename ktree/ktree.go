// Package ktree opens a source tree of Linux or of QEMU for reading: a folder, a
// revision of a git clone, a tarball or a Debian package.
package ktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5"

	"patchgen/progress"
)

const (
	maxFile  = 16 << 20 // bytes of the largest file that ReadFile takes
	maxCache = 32 << 20 // bytes of contents that a Tree keeps
)

// References returns the trees of a kind that patchgen is tested on, the oldest
// first.
func References(k Kind) []string {
	if k == QEMU {
		return []string{"debian:qemu"}
	}
	return []string{"debian:6.1", "debian:6.12", "debian:7.3"}
}

// Options say how Open works. The zero value is usable.
type Options struct {
	Cache    string            // folder for what is unpacked and downloaded; "" is os.UserCacheDir()/patchgen
	Progress progress.Reporter // nil tells nobody
	Refresh  bool              // ask apt for a newer package even if one is in the cache
	Offline  bool              // a package that is not in the cache is an fs.ErrNotExist
}

// A Tree is a source tree of Linux or of QEMU. Its methods may be called from several
// goroutines.
type Tree struct {
	src     source
	origin  string
	kind    Kind
	release Release
	commit  string
	repo    *git.Repository
	dir     string
	work    string // worktree to compare with for Uncommitted, or ""

	mu     sync.Mutex
	cached map[string]*content
	size   int // bytes in cached
	read   map[string]bool
}

// content is a file's text, as it is and with its white space folded.
type content struct {
	data   []byte
	folded string // "" until asked for
}

// A source is where a Tree's files come from.
type source interface {
	// readFile returns a file of at most maxFile bytes. The name is valid
	// by fs.ValidPath.
	readFile(name string) ([]byte, error)
	has(name string) bool
	isDir(name string) bool
	close() error
}

// Open opens the tree that spec names:
//
//	PATH             a folder with a tree, or a git clone read at HEAD
//	PATH@REV         a git clone at a branch, tag, hash or such as HEAD~1
//	FILE.tar[.xz|.gz] a tarball, unpacked into the cache once
//	debian:X.Y       Debian's package linux-source-X.Y, fetched into the cache once
//	debian:qemu      the upstream part of Debian's source package qemu, likewise
//
// A git clone is read from its objects alone; its index and worktree stay
// untouched. The error is an *UnsupportedError for what is there but cannot
// be read as such a tree, and a *MissingToolError where a program is missing.
func Open(ctx context.Context, spec string, o Options) (*Tree, error) {
	if o.Progress == nil {
		o.Progress = progress.Nop{}
	}
	if strings.HasPrefix(spec, "debian:") {
		return openDebian(ctx, strings.TrimPrefix(spec, "debian:"), o)
	}
	st, err := os.Stat(spec)
	if err == nil && st.IsDir() {
		return openDir(ctx, spec, "")
	}
	if err == nil {
		return openTarball(ctx, spec, o)
	}
	// A path may hold an @ itself, and a revision too: the longest path
	// that is there wins.
	for i := strings.LastIndexByte(spec, '@'); i > 0; i = strings.LastIndexByte(spec[:i], '@') {
		if st, err := os.Stat(spec[:i]); err == nil && st.IsDir() {
			if spec[i+1:] == "" {
				return nil, fmt.Errorf("no revision after the @ in %q", spec)
			}
			return openDir(ctx, spec[:i], spec[i+1:])
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open tree: %w", err)
	}
	return nil, &NotFoundError{spec, "it is no folder, no tarball, no PATH@REV of a git clone, and no Debian package such as debian:6.12 or debian:qemu"}
}

// openDir opens a folder: as a git clone if it is one, at HEAD for rev "".
func openDir(ctx context.Context, dir, rev string) (*Tree, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if isRepository(abs) {
		return openGit(ctx, abs, rev)
	}
	if rev != "" {
		return nil, &UnsupportedError{abs, fmt.Sprintf("is no git clone, so it has no revision %q", rev)}
	}
	return openFolder(abs, abs)
}

// newTree checks what tree src holds. It closes src on failure.
func newTree(t *Tree) (*Tree, error) {
	t.cached, t.read = map[string]*content{}, map[string]bool{}
	root, err := checkRoot(t.src)
	if err != nil {
		t.src.close()
		if e := (*noTreeError)(nil); errors.As(err, &e) {
			return nil, &UnsupportedError{t.origin, e.Error()}
		}
		return nil, err
	}
	t.kind, t.release = root.kind, root.release
	t.read[root.told] = true
	return t, nil
}

// Find returns the root of the tree of that kind that dir is in.
func Find(dir string, k Kind) (string, bool) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	for {
		if src, err := newFolder(dir); err == nil {
			root, err := checkRoot(src)
			src.close()
			if err == nil && root.kind == k {
				return dir, true
			}
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", false
		}
		dir = up
	}
}

// ReadFile returns the file's bytes. name is a slash path relative to the
// tree's root. The error wraps fs.ErrNotExist if there is no such file; it is
// an *UnsupportedError for a file with DOS line ends, over 16 MiB, or that is
// not a regular file inside the tree.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, err := t.content(name)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(c.data), nil
}

// IsDir reports whether the tree has a folder of that name, a slash path
// relative to the tree's root. A symbolic link to one counts as one where the
// tree is not read from git.
func (t *Tree) IsDir(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return validName(name) && t.src.isDir(name)
}

// validName reports whether a name can be that of a file or folder in a tree.
func validName(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, "\\\x00")
}

// content returns the file from the cache or from the source; t.mu is held.
func (t *Tree) content(name string) (*content, error) {
	if !validName(name) {
		return nil, fmt.Errorf("%q is no path of a file in a source tree", name)
	}
	if c := t.cached[name]; c != nil {
		return c, nil
	}
	data, err := t.src.readFile(name)
	if err != nil {
		return nil, err
	}
	if i := bytes.Index(data, []byte("\r\n")); i >= 0 {
		return nil, &UnsupportedError{name, fmt.Sprintf("has DOS line ends (line %d): unpack or check out the tree again without converting text, with git by core.autocrlf=false", 1+bytes.Count(data[:i], []byte("\n")))}
	}
	t.read[name] = true
	c := &content{data: data}
	if t.size+len(data) <= maxCache {
		t.cached[name] = c
		t.size += len(data)
	}
	return c, nil
}

// Kind returns what the tree is the source of.
func (t *Tree) Kind() Kind { return t.kind }

// Release returns what the tree says that it is: a kernel's Makefile, QEMU's VERSION.
func (t *Tree) Release() Release { return t.release }

// String names the tree and its release for people.
func (t *Tree) String() string { return fmt.Sprintf("%s (%v %s)", t.origin, t.kind, t.release) }

// Origin says where the tree is from, for people.
func (t *Tree) Origin() string { return t.origin }

// Commit returns the 40 hex digits of the commit that is read, "" where the
// tree is not read from git.
func (t *Tree) Commit() string { return t.commit }

// Repository returns the git clone that the tree is read from, or nil.
func (t *Tree) Repository() *git.Repository { return t.repo }

// Dir returns the folder that holds all files of the tree, "" if the tree is
// read from git objects.
func (t *Tree) Dir() string { return t.dir }

// Read returns the names of the files opened so far, sorted.
func (t *Tree) Read() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := make([]string, 0, len(t.read))
	for n := range t.read {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Uncommitted returns those of Read whose copy in the git worktree differs
// from the commit that is read, sorted. It is empty for a tree that was opened
// with a revision or has no worktree.
func (t *Tree) Uncommitted() []string {
	if t.work == "" {
		return nil
	}
	work, err := newFolder(t.work)
	if err != nil {
		return nil
	}
	defer work.close()
	var names []string
	for _, name := range t.Read() {
		committed, err := t.ReadFile(name)
		if err != nil {
			continue
		}
		// A file that is not checked out is no change: sparse checkouts
		// have many. Neither is a line end converted on checkout.
		now, err := work.readFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !bytes.Equal(bytes.ReplaceAll(now, []byte("\r\n"), []byte("\n")), committed) {
			names = append(names, name)
		}
	}
	return names
}

// Close releases the files that the Tree holds open.
func (t *Tree) Close() error { return t.src.close() }
