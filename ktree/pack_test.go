package ktree

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// Chains of deltas, by offset and by name.
func TestPackDeltas(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	var lines []string
	for i := range 800 {
		lines = append(lines, fmt.Sprintf("a line of a source file, number %d", i*i))
	}
	texts := map[plumbing.Hash]string{}
	const versions = 16
	for i := range versions {
		lines[i*50] = fmt.Sprintf("changed in version %d", i)
		text := strings.Join(lines, "\n")
		write(t, clone, map[string]string{fmt.Sprintf("mm/page%d.c", i): text})
		o := &plumbing.MemoryObject{}
		o.SetType(plumbing.BlobObject)
		o.Write([]byte(text))
		texts[o.Hash()] = text
	}
	gitCommit(t, clone, nil)
	for _, byOffset := range []string{"true", "false"} {
		gitRun(t, clone, "config", "repack.useDeltaBaseOffset", byOffset)
		gitRun(t, clone, "repack", "-q", "-a", "-d", "-f", "--depth=50", "--window=50")
		if chains := gitRun(t, clone, "verify-pack", "-v", filepath.Join(".git/objects/pack", packName(t, clone))); !strings.Contains(chains, "chain length = 6") {
			t.Fatalf("no long chain: %s", chains)
		}
		s, err := openStore(filepath.Join(clone, ".git"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for hash, want := range texts {
			typ, data, err := s.packed(hash)
			if err != nil || typ != plumbing.BlobObject || string(data) != want {
				t.Errorf("%s: %s of %d bytes, %v", hash, typ, len(data), err)
			}
		}
	}
}

// packName returns the name of the index of a clone's only pack.
func packName(t testing.TB, clone string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(clone, ".git/objects/pack/*.idx"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	return filepath.Base(names[0])
}

func FuzzPack(f *testing.F) {
	clone := newClone(f)
	gitRun(f, clone, "repack", "-q", "-a", "-d")
	name := filepath.Join(clone, ".git/objects/pack", packName(f, clone))
	data, err := os.ReadFile(strings.TrimSuffix(name, "idx") + "pack")
	if err != nil {
		f.Fatal(err)
	}
	index, err := openPackIndex(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { index.file.Close() })
	for _, rev := range []string{"HEAD", "HEAD:", "HEAD:mm/page.c"} {
		offset, err := index.find(plumbing.NewHash(gitRun(f, clone, "rev-parse", rev)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, offset)
	}
	f.Add(append([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\xef\x04\x64\x01"), data...), int64(12))
	f.Fuzz(func(t *testing.T, data []byte, offset int64) {
		name := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(name+".pack", data, 0o644); err != nil {
			t.Fatal(err)
		}
		p := &pack{name: name, index: index}
		typ, object, err := p.read(offset)
		if err == nil && (len(object) > maxObject || !typ.Valid() || typ.IsDelta()) {
			t.Errorf("%s of %d bytes", typ, len(object))
		}
		if p.file != nil {
			p.file.Close()
		}
	})
}

// A pack in which a delta is its own base must end, not recurse for ever.
func TestEndlessDelta(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	hash := plumbing.NewHash(gitRun(t, clone, "rev-parse", "HEAD:mm/page.c"))
	gitRun(t, clone, "repack", "-q", "-a", "-d")
	names, _ := filepath.Glob(filepath.Join(clone, ".git/objects/pack/*.idx"))
	x, err := openPackIndex(names[0])
	if err != nil {
		t.Fatal(err)
	}
	offset, err := x.find(hash)
	if err != nil {
		t.Fatal(err)
	}
	x.file.Close()
	pack := names[0][:len(names[0])-3] + "pack"
	data, err := os.ReadFile(pack)
	if err != nil {
		t.Fatal(err)
	}
	// A REF_DELTA (7) of 4 bytes on itself: copy nothing, add one byte.
	self := append([]byte{7<<4 | 4}, hash[:]...)
	self = append(self, deflate(t, []byte{1, 1, 1, 'x'})...)
	data = append(data[:offset:offset], append(self, make([]byte, 64)...)...)
	os.Chmod(pack, 0o644)
	if err := os.WriteFile(pack, data, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := openStore(filepath.Join(clone, ".git"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.EncodedObject(plumbing.AnyObject, hash); !errors.Is(err, errDeltaChain) {
		t.Error(err)
	}
}

func deflate(t *testing.T, data []byte) []byte {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
