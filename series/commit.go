package series

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/memory"
)

// A file is one blob to be put into a tree.
type file struct {
	path        string
	rest        string        // of path, below the tree at hand
	before, now plumbing.Hash // before is zero for a new file
}

// commit stores the patches in st as commits on top of the commit base with
// the given tree, and returns the name of the last. Each file must be in that
// tree as Change.Before says, else nothing but unreachable objects is stored.
func (s *Series) commit(ctx context.Context, st storer.EncodedObjectStorer, base, tree plumbing.Hash, who object.Signature, messages []string) (plumbing.Hash, error) {
	tip := base
	for i, p := range s.Patches {
		if err := ctx.Err(); err != nil {
			return plumbing.ZeroHash, err
		}
		files, err := p.files(st)
		if err == nil {
			tree, err = putFiles(st, tree, files)
		}
		if err == nil {
			tip, err = putCommit(st, tree, tip, who, messages[i])
		}
		if err != nil {
			return plumbing.ZeroHash, fmt.Errorf("patch %d, %q: %w", i+1, p.Subject, err)
		}
	}
	return tip, nil
}

// files stores the new contents of p's files.
func (p Patch) files(st storer.EncodedObjectStorer) ([]file, error) {
	if len(p.Changes) == 0 {
		return nil, errors.New("it changes no file")
	}
	var files []file
	for _, c := range p.Changes {
		if !fs.ValidPath(c.Path) || c.Path == "." || strings.ContainsRune(c.Path, 0) ||
			slices.ContainsFunc(strings.Split(c.Path, "/"), func(s string) bool { return strings.EqualFold(s, ".git") }) {
			return nil, fmt.Errorf("%q is no path inside a tree", c.Path)
		}
		if slices.ContainsFunc(files, func(f file) bool { return f.path == c.Path }) {
			return nil, fmt.Errorf("%s is changed twice", c.Path)
		}
		f := file{path: c.Path, rest: c.Path}
		if c.Before != nil {
			if bytes.Equal(c.Before, c.After) {
				return nil, fmt.Errorf("%s is the same before and after", c.Path)
			}
			f.before = plumbing.ComputeHash(plumbing.BlobObject, c.Before)
		}
		var err error
		if f.now, err = putBlob(st, c.After); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Path, err)
		}
		files = append(files, f)
	}
	return files, nil
}

func putBlob(st storer.EncodedObjectStorer, content []byte) (plumbing.Hash, error) {
	o := st.NewEncodedObject()
	o.SetType(plumbing.BlobObject)
	w, err := o.Writer()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if _, err := w.Write(content); err != nil {
		return plumbing.ZeroHash, err
	}
	return st.SetEncodedObject(o)
}

// putFiles stores the tree that old becomes with files, and returns its name.
// A zero old is the empty tree.
func putFiles(st storer.EncodedObjectStorer, old plumbing.Hash, files []file) (plumbing.Hash, error) {
	var entries []object.TreeEntry
	if !old.IsZero() {
		tree, err := object.GetTree(st, old)
		if err != nil {
			return plumbing.ZeroHash, fmt.Errorf("read tree %s: %w", old, err)
		}
		entries = tree.Entries
	}
	below := make(map[string][]file) // by the name of the folder
	for _, f := range files {
		name, rest, deeper := strings.Cut(f.rest, "/")
		if deeper {
			f.rest = rest
			below[name] = append(below[name], f)
			continue
		}
		i := slices.IndexFunc(entries, func(e object.TreeEntry) bool { return e.Name == name })
		switch {
		case i < 0 && f.before.IsZero():
			entries = append(entries, object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: f.now})
			continue
		case i < 0:
			return plumbing.ZeroHash, fmt.Errorf("%s is not in the base, though the series was made for a tree with it", f.path)
		case f.before.IsZero():
			return plumbing.ZeroHash, fmt.Errorf("%s is in the base, though the series adds it", f.path)
		case entries[i].Mode != filemode.Regular:
			return plumbing.ZeroHash, fmt.Errorf("%s has mode %06o in the base: only plain files of mode 100644 can be changed", f.path, uint32(entries[i].Mode))
		case entries[i].Hash != f.before:
			return plumbing.ZeroHash, fmt.Errorf("%s is not the same in the base as in the tree that the series was made for", f.path)
		}
		entries[i].Hash = f.now
	}
	for name, files := range below {
		i := slices.IndexFunc(entries, func(e object.TreeEntry) bool { return e.Name == name })
		if i < 0 {
			i = len(entries)
			entries = append(entries, object.TreeEntry{Name: name, Mode: filemode.Dir})
		}
		if entries[i].Mode != filemode.Dir {
			return plumbing.ZeroHash, fmt.Errorf("%s goes through %s, which is no folder", files[0].path, name)
		}
		hash, err := putFiles(st, entries[i].Hash, files)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		entries[i].Hash = hash
	}
	sort.Sort(object.TreeEntrySorter(entries))
	o := st.NewEncodedObject()
	if err := (&object.Tree{Entries: entries}).Encode(o); err != nil {
		return plumbing.ZeroHash, err
	}
	return st.SetEncodedObject(o)
}

// putCommit stores a commit; a zero parent is none.
func putCommit(st storer.EncodedObjectStorer, tree, parent plumbing.Hash, who object.Signature, message string) (plumbing.Hash, error) {
	c := &object.Commit{Author: who, Committer: who, Message: message, TreeHash: tree}
	if !parent.IsZero() {
		c.ParentHashes = []plumbing.Hash{parent}
	}
	o := st.NewEncodedObject()
	if err := c.Encode(o); err != nil {
		return plumbing.ZeroHash, err
	}
	return st.SetEncodedObject(o)
}

// A scratch is a bare repository in a folder, to be read by git. All objects
// go into one pack: on a disk, a file for each of them would take longer than
// all the rest.
type scratch struct {
	*memory.Storage // the trees and commits, to be read again
	dir             string
	pack            bytes.Buffer
	zlib            *zlib.Writer // to pack
	offsets         map[plumbing.Hash]int
	index           idxfile.Writer
}

// newScratch makes an empty repository in the empty folder dir, in which git
// abbreviates blob names to 12 digits, as the kernel asks for
// (Documentation/process/submitting-patches.rst), and finds hunk headings as
// attributes say, the text of a .gitattributes file.
func newScratch(dir string, attributes []byte) (*scratch, error) {
	for _, d := range []string{"info", "objects", "objects/pack", "refs"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string][]byte{
		"HEAD":            []byte("ref: refs/heads/none\n"),
		"config":          []byte("[core]\n\trepositoryFormatVersion = 0\n\tbare = true\n\tabbrev = 12\n"),
		"info/attributes": attributes,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	r := &scratch{Storage: memory.NewStorage(), dir: dir, offsets: make(map[plumbing.Hash]int)}
	r.pack.Write(make([]byte, packHeader))
	var err error
	r.zlib, err = zlib.NewWriterLevel(&r.pack, zlib.NoCompression)
	return r, err
}

// The format of a pack is told in git: Documentation/gitformat-pack.txt.
const packHeader = 4 + 4 + 4 // the bytes of "PACK", a version, and the number of objects

// SetEncodedObject adds o to the pack. It is not compressed: the pack lives
// for milliseconds, most of which zlib would take.
func (r *scratch) SetEncodedObject(o plumbing.EncodedObject) (plumbing.Hash, error) {
	hash, start := o.Hash(), r.pack.Len()
	if r.offsets[hash] != 0 {
		return hash, nil
	}
	r.offsets[hash] = start
	if o.Type() != plumbing.BlobObject {
		if _, err := r.Storage.SetEncodedObject(o); err != nil {
			return hash, err
		}
	}
	// The type and four bits of the size, then seven bits a byte; the highest
	// bit of each tells that another follows.
	size := o.Size()
	b := byte(o.Type())<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		r.pack.WriteByte(b | 128)
		b = byte(size & 127)
	}
	r.pack.WriteByte(b)
	content, err := o.Reader()
	if err != nil {
		return hash, err
	}
	defer content.Close()
	r.zlib.Reset(&r.pack)
	if _, err := io.Copy(r.zlib, content); err != nil {
		return hash, err
	}
	if err := r.zlib.Close(); err != nil {
		return hash, err
	}
	r.index.Add(hash, uint64(start), crc32.ChecksumIEEE(r.pack.Bytes()[start:]))
	return hash, nil
}

// flush writes the pack and its index, to which nothing can be added then.
func (r *scratch) flush() error {
	pack := r.pack.Bytes()
	copy(pack, "PACK\x00\x00\x00\x02")
	binary.BigEndian.PutUint32(pack[8:], uint32(len(r.offsets)))
	sum := sha1.Sum(pack)
	if err := r.index.OnFooter(sum); err != nil {
		return err
	}
	index, err := r.index.Index()
	if err != nil {
		return err
	}
	var idx bytes.Buffer
	if _, err := idxfile.NewEncoder(&idx).Encode(index); err != nil {
		return err
	}
	name := filepath.Join(r.dir, "objects/pack/pack-"+hex.EncodeToString(sum[:]))
	if err := os.WriteFile(name+".pack", append(pack, sum[:]...), 0o600); err != nil {
		return err
	}
	return os.WriteFile(name+".idx", idx.Bytes(), 0o600)
}

// base stores in r a commit with the files that s changes, as they are before,
// and returns the name of it and of its tree.
func (s *Series) base(r *scratch, who object.Signature) (commit, tree plumbing.Hash, err error) {
	var files []file
	seen := make(map[string]bool)
	for _, p := range s.Patches {
		for _, c := range p.Changes {
			if !seen[c.Path] && c.Before != nil {
				hash, err := putBlob(r, c.Before)
				if err != nil {
					return commit, tree, err
				}
				files = append(files, file{path: c.Path, rest: c.Path, now: hash})
			}
			seen[c.Path] = true
		}
	}
	if tree, err = putFiles(r, plumbing.ZeroHash, files); err != nil {
		return commit, tree, err
	}
	commit, err = putCommit(r, tree, plumbing.ZeroHash, who, "base\n")
	return commit, tree, err
}
