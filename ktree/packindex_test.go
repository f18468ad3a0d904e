package ktree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
)

// packedIndex returns the path of the index of a clone's only pack, and go-git's
// own reading of it, the judge.
func packedIndex(t testing.TB) (string, *idxfile.MemoryIndex) {
	t.Helper()
	clone := newClone(t)
	files := map[string]string{}
	for i := range 40 {
		files[fmt.Sprintf("mm/%d.c", i)] = strings.Repeat("int x;\n", i)
	}
	gitCommit(t, clone, files)
	gitRun(t, clone, "repack", "-q", "-a", "-d")
	names, err := filepath.Glob(filepath.Join(clone, ".git/objects/pack/*.idx"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	judge := idxfile.NewMemoryIndex()
	if err := idxfile.NewDecoder(bytes.NewReader(data)).Decode(judge); err != nil {
		t.Fatal(err)
	}
	return names[0], judge
}

func TestPackIndex(t *testing.T) {
	t.Parallel()
	name, judge := packedIndex(t)
	x, err := openPackIndex(name)
	if err != nil {
		t.Fatal(err)
	}
	defer x.file.Close()
	entries, err := judge.Entries()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e, err := entries.Next(); err == nil; e, err = entries.Next() {
		n++
		offset, err := x.find(e.Hash)
		if err != nil || uint64(offset) != e.Offset {
			t.Errorf("%s at %d, %v, want %d", e.Hash, offset, err, e.Offset)
		}
		absent := e.Hash
		absent[19] ^= 1
		if _, err := x.find(absent); !errors.Is(err, plumbing.ErrObjectNotFound) {
			t.Errorf("%s: %v", absent, err)
		}
		for _, digits := range []int{4, 7, 39, 40} {
			prefix := e.Hash.String()[:digits]
			found, err := x.withPrefix(prefix, 2)
			if err != nil || len(found) == 0 || found[0].String()[:digits] != prefix {
				t.Errorf("prefix %s: %v, %v", prefix, found, err)
			}
		}
	}
	if n < 30 || x.fanout[255] != uint32(n) {
		t.Errorf("%d objects, %d seen", x.fanout[255], n)
	}
	for _, h := range []plumbing.Hash{{}, {0: 0xff, 19: 0xff}} {
		if _, err := x.find(h); !errors.Is(err, plumbing.ErrObjectNotFound) {
			t.Errorf("%s: %v", h, err)
		}
	}
}

// Packs over 2 GiB have offsets of 8 bytes.
func TestPackIndexWide(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	b.WriteString("\xfftOc\x00\x00\x00\x02")
	hash := plumbing.NewHash("5f00000000000000000000000000000000000001")
	for i := range 256 {
		n := uint32(0)
		if i >= 0x5f {
			n = 1
		}
		binary.Write(&b, binary.BigEndian, n)
	}
	b.Write(hash[:])
	binary.Write(&b, binary.BigEndian, []uint32{0, 1 << 31})
	binary.Write(&b, binary.BigEndian, uint64(5<<30))
	b.Write(make([]byte, indexTail))
	name := filepath.Join(t.TempDir(), "x.idx")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	x, err := openPackIndex(name)
	if err != nil {
		t.Fatal(err)
	}
	defer x.file.Close()
	if offset, err := x.find(hash); err != nil || offset != 5<<30 {
		t.Errorf("%d, %v", offset, err)
	}
}

func FuzzPackIndex(f *testing.F) {
	name, _ := packedIndex(f)
	data, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, data[indexHead:indexHead+hashSize])
	f.Add(data[:indexHead+indexTail], []byte{1})
	f.Fuzz(func(t *testing.T, data, want []byte) {
		name := filepath.Join(t.TempDir(), "x.idx")
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		x, err := openPackIndex(name)
		if err != nil {
			return
		}
		defer x.file.Close()
		var h plumbing.Hash
		copy(h[:], want)
		if offset, err := x.find(h); err == nil && offset < 0 {
			t.Errorf("offset %d", offset)
		}
		x.withPrefix(h.String()[:4], 64)
	})
}
