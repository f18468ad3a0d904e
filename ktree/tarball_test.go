package ktree

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tarball returns a tar archive of entries; those without a type are files of
// the text in Linkname.
func tarball(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		text := ""
		if h.Typeflag == 0 {
			h.Typeflag, text, h.Linkname = tar.TypeReg, h.Linkname, ""
			h.Size = int64(len(text))
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// kernelEntries are kernelFiles below a folder.
func kernelEntries(folder string) []tar.Header {
	var all []tar.Header
	files := kernelFiles()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		all = append(all, tar.Header{Name: folder + name, Linkname: files[name]})
	}
	return all
}

func compress(t testing.TB, format string, data []byte) []byte {
	t.Helper()
	switch format {
	case "gz":
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(data)
		z.Close()
		return b.Bytes()
	case "xz":
		cmd := exec.Command("xz", "-0", "--stdout")
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	return data
}

func save(t testing.TB, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// stages records what is reported.
type stages struct {
	mu    sync.Mutex
	names []string
	total int64
	done  int64
	open  int
}

func (s *stages) Stage(name string, total int64, unit string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names, s.total, s.done = append(s.names, name), total, 0
	s.open++
}

func (s *stages) Step(done int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = max(s.done, done)
}

func (s *stages) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

func TestTarball(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"xz", "gz", "tar"} {
		for _, folder := range []string{"linux-6.12/", "./linux-source-6.12/", "", "./"} {
			entries := append([]tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}}, kernelEntries(folder)...)
			entries = append(entries, tar.Header{Name: folder + "scripts/check", Mode: 0o4775, Linkname: "#!/bin/sh\n"},
				tar.Header{Name: folder + "scripts/link", Typeflag: tar.TypeSymlink, Linkname: "../kernel/dma"},
				tar.Header{Name: folder + "scripts/hard", Typeflag: tar.TypeLink, Linkname: folder + "Makefile"})
			file := save(t, "linux.download", compress(t, format, tarball(t, entries...)))
			var told stages
			o := Options{Cache: t.TempDir(), Progress: &told}
			tree, err := Open(t.Context(), file, o)
			if err != nil {
				t.Errorf("%s of %q: %v", format, folder, err)
				continue
			}
			for _, name := range []string{"Makefile", "scripts/hard"} {
				if data, err := tree.ReadFile(name); err != nil || string(data) != makefile {
					t.Errorf("%s: %q, %v", name, data, err)
				}
			}
			if _, err := tree.ReadFile("scripts/link/direct.c"); err != nil {
				t.Error(err)
			}
			if st, err := os.Stat(filepath.Join(tree.Dir(), "scripts/check")); err != nil || st.Mode() != 0o755 {
				t.Errorf("%v, %v", st.Mode(), err)
			}
			if tree.Origin() != file {
				t.Errorf("origin %q", tree.Origin())
			}
			tree.Close()
			if st, _ := os.Stat(file); told.open != 0 || told.total != st.Size() || told.done != told.total {
				t.Errorf("%s: told %+v of %d bytes", format, told.names, st.Size())
			}
			// Again, and a copy: not unpacked again.
			for _, file := range []string{file, save(t, "copy.tar", compress(t, format, tarball(t, entries...)))} {
				tree, err := Open(t.Context(), file, o)
				if err != nil {
					t.Fatal(err)
				}
				tree.Close()
			}
			if diff := cmp.Diff([]string{"unpack linux.download"}, told.names); diff != "" {
				t.Error(diff)
			}
		}
	}
}

// A file that changed under its name is another tree.
func TestTarballChanged(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	file := save(t, "linux.tar", tarball(t, kernelEntries("linux/")...))
	for _, want := range []string{"6.12.117", "6.12.118"} {
		entries := kernelEntries("linux/")
		entries[1].Linkname = strings.Replace(makefile, "117", want[len(want)-3:], 1)
		if err := os.WriteFile(file, tarball(t, entries...), 0o644); err != nil {
			t.Fatal(err)
		}
		tree, err := Open(t.Context(), file, Options{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		tree.Close()
		if tree.Release().String() != want {
			t.Errorf("release %s, want %s", tree.Release(), want)
		}
	}
}

func TestTarballRefuses(t *testing.T) {
	t.Parallel()
	kernel := kernelEntries("linux/")
	with := func(entries ...tar.Header) []byte { return tarball(t, slices.Concat(kernel, entries)...) }
	whole := tarball(t, kernel...)
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"up", with(tar.Header{Name: "../evil", Linkname: "x"}), `leads out of it: "../evil"`},
		{"up inside", with(tar.Header{Name: "linux/../../evil", Linkname: "x"}), "leads out of it"},
		{"absolute", with(tar.Header{Name: "/tmp/evil", Linkname: "x"}), "leads out of it"},
		{"symlink absolute", with(tar.Header{Name: "linux/l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}), "symbolic link that leads out of it: linux/l"},
		{"symlink up", with(tar.Header{Name: "linux/l", Typeflag: tar.TypeSymlink, Linkname: "../../.."}), "symbolic link that leads out of it"},
		{"link up", with(tar.Header{Name: "linux/l", Typeflag: tar.TypeLink, Linkname: "../../evil"}), "link that leads out of it"},
		// Each link stays inside by its text, together they do not.
		{"through symlinks", with(
			tar.Header{Name: "a/b", Typeflag: tar.TypeDir, Mode: 0o755},
			tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "a/b"},
			tar.Header{Name: "a/b/up", Typeflag: tar.TypeSymlink, Linkname: "../.."},
			tar.Header{Name: "s/up/up2", Typeflag: tar.TypeSymlink, Linkname: "../.."},
			tar.Header{Name: "s/up/up2/evil", Linkname: "x"}), "up2"},
		{"device", with(tar.Header{Name: "linux/d", Typeflag: tar.TypeBlock}), "no folder, file or link"},
		{"pipe", with(tar.Header{Name: "linux/d", Typeflag: tar.TypeFifo}), "no folder, file or link"},
		{"twice", with(kernel[0]), "file exists"},
		{"zero in name", with(tar.Header{Name: "linux/a\\b", Linkname: "x"}), "leads out of it"},
		{"large", huge(t), "8 GiB"},
		{"empty", tarball(t), "no tarball"},
		{"cut in a file", whole[:700], "is cut short"},
		{"cut between files", whole[:2048], "is cut short"},
		{"cut gz", compress(t, "gz", whole)[:200], "unexpected EOF"},
		{"cut xz", compress(t, "xz", whole)[:200], "xz: "},
		{"no kernel", tarball(t, tar.Header{Name: "busybox/Makefile", Linkname: "VERSION = 1\n"}), "is no kernel tree: its Makefile sets no VERSION"},
		{"text", []byte("hello\n"), "is no tarball"},
		{"nothing", nil, "is no tarball"},
	} {
		t.Run(test.name, func(t *testing.T) {
			parent := t.TempDir()
			cache := filepath.Join(parent, "a/b/c/d/cache")
			file := save(t, "linux.tar", test.data)
			tree, err := Open(t.Context(), file, Options{Cache: cache})
			if err == nil {
				tree.Close()
				t.Fatal("it worked")
			}
			contains(t, err, file, test.want)
			err = filepath.WalkDir(parent, func(name string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() && d.Name() != "linux.tar" && !strings.HasPrefix(d.Name(), "state-") && !strings.HasSuffix(d.Name(), ".lock") {
					t.Errorf("left %s", name)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// huge is an archive of which one entry says that it has 1 TiB.
func huge(t *testing.T) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "linux/large", Size: 1 << 40, Mode: 0o644, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), make([]byte, 4096)...)
}

func TestTarballInterrupted(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"xz", "gz", "tar"} {
		cache := t.TempDir()
		file := save(t, "linux.tar", compress(t, format, tarball(t, kernelEntries("linux/")...)))
		ctx, cancel := context.WithCancel(t.Context())
		stop := &stopper{cancel: cancel, stage: "unpack"}
		if _, err := Open(ctx, file, Options{Cache: cache, Progress: stop}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", format, err)
		}
		parts, _ := filepath.Glob(filepath.Join(cache, "tarballs/*.part"))
		if len(parts) != 0 {
			t.Errorf("left %s", parts)
		}
		// A run that was killed leaves its half; the next one starts anew.
		locks, _ := filepath.Glob(filepath.Join(cache, "tarballs/*.lock"))
		if len(locks) != 1 {
			t.Fatal(locks)
		}
		write(t, strings.TrimSuffix(locks[0], ".lock")+".part", map[string]string{"linux/Makefile": "half", "other": ""})
		tree, err := Open(t.Context(), file, Options{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		tree.Close()
	}
}

// A stopper cancels when a stage of its name begins.
type stopper struct {
	cancel func()
	stage  string
}

func (s *stopper) Stage(name string, _ int64, _ string) {
	if strings.HasPrefix(name, s.stage) {
		s.cancel()
	}
}
func (s *stopper) Step(int64) {}
func (s *stopper) End()       {}

func TestTarballTwoRuns(t *testing.T) {
	t.Parallel()
	file := save(t, "linux.tar", tarball(t, kernelEntries("linux/")...))
	var told stages
	cache := t.TempDir()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			tree, err := Open(t.Context(), file, Options{Cache: cache, Progress: &told})
			if err != nil {
				t.Error(err)
				return
			}
			tree.Close()
		})
	}
	group.Wait()
	n := 0
	for _, name := range told.names {
		if strings.HasPrefix(name, "unpack") {
			n++
		}
	}
	if n != 1 || told.open != 0 {
		t.Errorf("unpacked %d times: %q", n, told.names)
	}
}

func TestTarballWithoutXz(t *testing.T) {
	file := save(t, "linux.tar.xz", compress(t, "xz", tarball(t, kernelEntries("linux/")...)))
	t.Setenv("PATH", t.TempDir())
	err := refuse(t, file, "xz is not installed (Debian package xz-utils)")
	if e := (*MissingToolError)(nil); !errors.As(err, &e) || e.Tool != "xz" {
		t.Errorf("%T", err)
	}
}

func FuzzUntar(f *testing.F) {
	f.Add(tarball(f, kernelEntries("linux/")...))
	f.Add(tarball(f, tar.Header{Name: "a/b", Typeflag: tar.TypeSymlink, Linkname: ".."}, tar.Header{Name: "a/b/c", Linkname: "x"}))
	f.Add(tarball(f, tar.Header{Name: "a", Linkname: "x"}, tar.Header{Name: "b", Typeflag: tar.TypeLink, Linkname: "a"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "dir")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		untar(t.Context(), bytes.NewReader(data), dir, func() {})
		entries, err := os.ReadDir(parent)
		if err != nil || len(entries) != 1 {
			t.Errorf("%v beside the folder: %v", entries, err)
		}
	})
}
