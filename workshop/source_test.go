package workshop

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
	"patchgen/progress"
)

// A file is read again unless it has been as it is for a while.
func TestFolderIndex(t *testing.T) {
	dir, index := t.TempDir(), filepath.Join(t.TempDir(), "index")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "a.c"), "int a;\n")
	write(filepath.Join(dir, "b.c"), "int b;\n")
	look := func() (id string, kept map[string]summed) {
		t.Helper()
		f, err := newFolder(t.Context(), dir, ktree.Linux, index, progress.Nop{})
		if err != nil {
			t.Fatal(err)
		}
		Load(index, &kept)
		return f.Identity(), kept
	}
	first, kept := look()
	if len(kept) != 0 {
		t.Errorf("files of this second are not read again: %v", kept)
	}
	defer func(was time.Duration) { racy = was }(racy)
	racy = -time.Hour
	second, kept := look()
	if second != first || len(kept) != 2 {
		t.Errorf("%d files in the index; %s, %s", len(kept), first, second)
	}
	s := kept["a.c"]
	s.Sum[0]++
	kept["a.c"] = s
	if err := Store(index, kept); err != nil {
		t.Fatal(err)
	}
	if third, _ := look(); third == first {
		t.Error("the index is not made use of")
	}
	write(index, "damaged")
	if fourth, _ := look(); fourth != first {
		t.Error("a damaged index counts")
	}
}

func TestListing(t *testing.T) {
	for _, l := range []Listing{
		{"../x": {}}, {"/x": {}}, {"a/../x": {}}, {"a//x": {}}, {"": {}}, {"a\x00b": {}},
		{"a": {}, "a/b/c": {}},
	} {
		if _, err := l.dirs(); err == nil {
			t.Errorf("%v is taken", l)
		}
	}
	dirs, err := Listing{"a/b/c": {}, "d": {}}.dirs()
	if diff := cmp.Diff(map[string]bool{".": true, "a": true, "a/b": true}, dirs); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := parseTree([]byte("160000 commit 1234\tsub\x00"), ktree.Linux); err == nil {
		t.Error("a submodule is taken")
	}
	if l, err := parseTree([]byte("160000 commit 1234\troms/seabios\x00100644 blob 5678\tVERSION\x00"), ktree.QEMU); err != nil || len(l) != 1 {
		t.Errorf("QEMU's submodules: %v, %v", l, err)
	}
}

func FuzzGit(f *testing.F) {
	f.Add([]byte("100644 blob 0123\ta/b\x00120000 blob 4567\tc\x00"))
	f.Add([]byte("0123 blob 3\nabc\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		if l, err := parseTree(out, ktree.QEMU); err == nil {
			if dirs, err := l.dirs(); err == nil {
				for dir := range dirs {
					if !filepath.IsLocal(dir) {
						t.Errorf("%q", dir)
					}
				}
			}
		}
		if data, err := readBlob(bufio.NewReader(bytes.NewReader(out)), "0123"); err == nil && len(data) > len(out) {
			t.Error("more than there is")
		}
	})
}
