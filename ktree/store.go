package ktree

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/plumbing/format/objfile"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// A store is go-git's storage of a clone, made for reading few objects out of
// many: packs are read through a packIndex. Objects and references can be
// added; index and configuration cannot be written.
type store struct {
	storage.Storer                           // references, shallow commits, configuration
	writer         *filesystem.ObjectStorage // new objects
	config         *config.Config            // without the extensions that make no difference to reading

	mu      sync.Mutex
	dirs    []string // object folders: the clone's own, then its alternates
	packs   []*pack  // of all dirs; listed when the first object is asked for
	listed  bool
	partial bool // a partial clone: objects may be missing
}

// openStore opens the repository whose git folder is gitDir.
func openStore(gitDir string) (*store, error) {
	gitDir, err := filepath.EvalSymlinks(gitDir)
	if err != nil {
		return nil, err
	}
	common, err := commonDir(gitDir)
	if err != nil {
		return nil, err
	}
	// Android's repo has objects as a symbolic link into another folder.
	own, err := filepath.EvalSymlinks(filepath.Join(common, "objects"))
	if err != nil {
		return nil, err
	}
	noCache := cache.NewObjectLRU(0)
	s := &store{
		Storer: filesystem.NewStorage(dotgit.NewRepositoryFilesystem(osfs.New(gitDir), osfs.New(common)), noCache),
		writer: filesystem.NewObjectStorage(dotgit.New(osfs.New(filepath.Dir(own))), noCache),
		dirs:   []string{own},
	}
	if err := s.readConfig(); err != nil {
		return nil, err
	}
	return s, s.addAlternates(own, 5)
}

// commonDir returns the git folder that a linked worktree shares with the
// others, or gitDir itself (gitrepository-layout(5), commondir).
func commonDir(gitDir string) (string, error) {
	line, err := readLine(filepath.Join(gitDir, "commondir"))
	if errors.Is(err, fs.ErrNotExist) {
		line = "."
	} else if err != nil {
		return "", err
	}
	if !filepath.IsAbs(line) {
		line = filepath.Join(gitDir, line)
	}
	return filepath.EvalSymlinks(line)
}

// readLine returns the first line of a small file.
func readLine(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 8192))
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimRight(line, "\r"), err
}

// addAlternates adds the object folders that dir borrows from, to the depth
// that git goes to (link_alt_odb_entries() in object-file.c).
func (s *store) addAlternates(dir string, depth int) error {
	f, err := os.Open(filepath.Join(dir, "info", "alternates"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '"' {
			if unquoted, err := strconv.Unquote(line); err == nil {
				line = unquoted
			}
		}
		if !filepath.IsAbs(line) {
			line = filepath.Join(dir, line)
		}
		if st, err := os.Stat(line); err != nil || !st.IsDir() {
			return &UnsupportedError{dir, fmt.Sprintf("borrows objects from %s, which is not there (named in info/alternates)", line)}
		}
		if slices.Contains(s.dirs, line) || depth == 0 {
			continue
		}
		s.dirs = append(s.dirs, line)
		if err := s.addAlternates(line, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// readConfig reads the clone's configuration and refuses what go-git cannot
// read, by name.
func (s *store) readConfig() error {
	cfg, err := s.Storer.Config()
	if err != nil {
		return fmt.Errorf("read the clone's config: %w", err)
	}
	switch version := cfg.Raw.Section("core").Option("repositoryformatversion"); version {
	case "", "0", "1":
	default:
		return fmt.Errorf("it has git's repository format version %q; patchgen knows 0 and 1", version)
	}
	if cfg.Raw.HasSection("extensions") {
		for _, o := range cfg.Raw.Section("extensions").Options {
			key, value := strings.ToLower(o.Key), strings.ToLower(o.Value)
			switch {
			case key == "objectformat" && value == "sha1", key == "refstorage" && value == "files":
			case key == "objectformat":
				return fmt.Errorf("it names its objects by %s; patchgen reads SHA-1 repositories only", value)
			case key == "refstorage":
				return fmt.Errorf("it keeps its references in a %s, which patchgen cannot read: give a worktree's folder without .git, or convert with `git refs migrate --ref-format=files`", value)
			case key == "noop", key == "partialclone", key == "preciousobjects", key == "worktreeconfig", key == "relativeworktrees":
			default:
				return fmt.Errorf("it has the git extension %q, which patchgen does not know", o.Key)
			}
		}
		// go-git refuses every extension but noop.
		cfg.Raw.RemoveSection("extensions")
	}
	s.config = cfg
	return nil
}

// Filesystem is the clone's git folder, as go-git's own storage has it.
func (s *store) Filesystem() billy.Filesystem {
	return s.Storer.(*filesystem.Storage).Filesystem()
}

// Config returns the clone's configuration without its extensions.
func (s *store) Config() (*config.Config, error) { return s.config, nil }

var errReadOnly = fmt.Errorf("the clone's index and configuration are left alone: %w", errors.ErrUnsupported)

func (s *store) SetConfig(*config.Config) error           { return errReadOnly }
func (s *store) SetIndex(*index.Index) error              { return errReadOnly }
func (s *store) AddAlternate(string) error                { return errReadOnly }
func (s *store) NewEncodedObject() plumbing.EncodedObject { return &plumbing.MemoryObject{} }
func (s *store) IterEncodedObjects(plumbing.ObjectType) (storer.EncodedObjectIter, error) {
	return nil, fmt.Errorf("list all objects of a clone: %w", errors.ErrUnsupported)
}

// SetEncodedObject adds an object to the clone.
func (s *store) SetEncodedObject(o plumbing.EncodedObject) (plumbing.Hash, error) {
	return s.writer.SetEncodedObject(o)
}

// HasEncodedObject returns plumbing.ErrObjectNotFound if there is no such object.
func (s *store) HasEncodedObject(h plumbing.Hash) error {
	_, err := s.EncodedObject(plumbing.AnyObject, h)
	return err
}

// EncodedObjectSize returns an object's size in bytes.
func (s *store) EncodedObjectSize(h plumbing.Hash) (int64, error) {
	o, err := s.EncodedObject(plumbing.AnyObject, h)
	if err != nil {
		return 0, err
	}
	return o.Size(), nil
}

// EncodedObject returns an object, in memory. The error is
// plumbing.ErrObjectNotFound if there is none of that name and type.
func (s *store) EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	typ, data, err := s.packed(h)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		typ, data, err = s.loose(h)
	}
	if err != nil {
		if !errors.Is(err, plumbing.ErrObjectNotFound) {
			err = fmt.Errorf("read git object %s: %w", h, err)
		}
		return nil, err
	}
	o := &plumbing.MemoryObject{}
	o.SetType(typ)
	o.Write(data)
	if o.Hash() != h {
		return nil, fmt.Errorf("read git object %s: %w", h, errDamaged)
	}
	if t != plumbing.AnyObject && typ != t {
		return nil, plumbing.ErrObjectNotFound
	}
	return o, nil
}

var errDamaged = errors.New("it is damaged: see `git fsck`")

// packed reads an object from the packs; s.mu is held.
func (s *store) packed(h plumbing.Hash) (plumbing.ObjectType, []byte, error) {
	if err := s.listPacks(); err != nil {
		return 0, nil, err
	}
	for _, p := range s.packs {
		if err := p.open(); err != nil {
			return 0, nil, err
		}
		offset, err := p.index.find(h)
		if err == nil {
			return p.read(offset)
		}
		if !errors.Is(err, plumbing.ErrObjectNotFound) {
			return 0, nil, err
		}
	}
	return 0, nil, plumbing.ErrObjectNotFound
}

// loose reads an object that has a file of its own.
func (s *store) loose(h plumbing.Hash) (plumbing.ObjectType, []byte, error) {
	name := h.String()
	for _, dir := range s.dirs {
		f, err := os.Open(filepath.Join(dir, name[:2], name[2:]))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		defer f.Close()
		r, err := objfile.NewReader(f)
		if err != nil {
			return 0, nil, err
		}
		defer r.Close()
		t, size, err := r.Header()
		if err != nil {
			return 0, nil, err
		}
		if size > maxObject {
			return 0, nil, errObjectSize
		}
		data, err := io.ReadAll(io.LimitReader(r, size+1))
		if err == nil && int64(len(data)) != size {
			err = errDamaged
		}
		return t, data, err
	}
	return 0, nil, plumbing.ErrObjectNotFound
}

// listPacks finds the packs of all object folders. A multi-pack index stands
// beside the packs' own, so that it need not be read.
func (s *store) listPacks() error {
	if s.listed {
		return nil
	}
	for _, dir := range s.dirs {
		entries, err := os.ReadDir(filepath.Join(dir, "pack"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		there := map[string]bool{}
		for _, e := range entries {
			there[e.Name()] = true
			// Written by git for the packs of a partial clone
			// (Documentation/technical/partial-clone).
			s.partial = s.partial || strings.HasSuffix(e.Name(), ".promisor")
		}
		for _, e := range entries {
			// An index may be there before its pack while git fetches.
			name, ok := strings.CutSuffix(e.Name(), ".idx")
			if ok && strings.HasPrefix(name, "pack-") && there[name+".pack"] {
				s.packs = append(s.packs, &pack{name: filepath.Join(dir, "pack", name)})
			}
		}
	}
	s.listed = true
	return nil
}

// withPrefix returns up to limit names of objects that begin with prefix,
// which is in lower-case hex, at least 4 digits.
func (s *store) withPrefix(prefix string, limit int) ([]plumbing.Hash, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.listPacks(); err != nil {
		return nil, err
	}
	var names []plumbing.Hash
	add := func(h plumbing.Hash) {
		if !slices.Contains(names, h) {
			names = append(names, h)
		}
	}
	for _, p := range s.packs {
		if err := p.open(); err != nil {
			return nil, err
		}
		found, err := p.index.withPrefix(prefix, limit)
		if err != nil {
			return nil, err
		}
		for _, h := range found {
			add(h)
		}
	}
	for _, dir := range s.dirs {
		entries, err := os.ReadDir(filepath.Join(dir, prefix[:2]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if name := prefix[:2] + e.Name(); strings.HasPrefix(name, prefix) && plumbing.IsHash(name) {
				add(plumbing.NewHash(name))
			}
		}
	}
	return names[:min(limit, len(names))], nil
}

// Close closes the packs.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range s.packs {
		errs = append(errs, p.close())
	}
	s.packs, s.listed = nil, false
	return errors.Join(errs...)
}
