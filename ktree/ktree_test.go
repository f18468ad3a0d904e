package ktree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const makefile = "# SPDX-License-Identifier: GPL-2.0\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\nNAME = Baby Opossum Posse\n"

// kernelFiles returns the smallest tree that Open takes.
func kernelFiles() map[string]string {
	return map[string]string{
		"Makefile":            makefile,
		"Kconfig":             "mainmenu \"Linux\"\n",
		"kernel/dma/direct.c": "int dma_direct_supported(void)\n{\n\treturn 1;\n}\n",
	}
}

// write writes files below dir and returns dir.
func write(t testing.TB, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// open opens a tree that must open, with a cache of its own.
func open(t testing.TB, spec string) *Tree {
	t.Helper()
	tree, err := Open(t.Context(), spec, Options{Cache: filepath.Join(t.TempDir(), "cache")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

// refuse opens a tree that must not open, for an error that has all of texts.
func refuse(t testing.TB, spec string, texts ...string) error {
	t.Helper()
	tree, err := Open(t.Context(), spec, Options{Cache: filepath.Join(t.TempDir(), "cache")})
	if err == nil {
		tree.Close()
		t.Fatalf("Open(%q) worked", spec)
	}
	contains(t, err, texts...)
	return err
}

// contains checks that an error has all of texts and is one line.
func contains(t testing.TB, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %q", err)
	}
}

func isUnsupported(err error) bool {
	e := (*UnsupportedError)(nil)
	return errors.As(err, &e)
}

func TestFolder(t *testing.T) {
	t.Parallel()
	dir := write(t, t.TempDir(), kernelFiles())
	tree := open(t, dir)
	if got := tree.Release().String(); got != "6.12.117" {
		t.Errorf("release is %q", got)
	}
	if tree.Dir() != dir || tree.Origin() != dir || tree.Commit() != "" || tree.Repository() != nil {
		t.Errorf("dir %q, origin %q, commit %q, repository %v", tree.Dir(), tree.Origin(), tree.Commit(), tree.Repository())
	}
	data, err := tree.ReadFile("kernel/dma/direct.c")
	if want := kernelFiles()["kernel/dma/direct.c"]; err != nil || string(data) != want {
		t.Errorf("read %q, %v", data, err)
	}
	data[0] = 'X' // must not reach the cache
	if again, _ := tree.ReadFile("kernel/dma/direct.c"); again[0] == 'X' {
		t.Error("a caller can change the cached content")
	}
	if diff := cmp.Diff([]string{"Makefile", "kernel/dma/direct.c"}, tree.Read()); diff != "" {
		t.Error(diff)
	}
	if got := tree.Uncommitted(); got != nil {
		t.Errorf("uncommitted %q in a folder without git", got)
	}
}

// An extracted tree is read as it is, inside somebody's git clone too.
func TestFolderBelowClone(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	tree := open(t, write(t, filepath.Join(clone, "vendor/linux"), kernelFiles()))
	if tree.Commit() != "" {
		t.Error("read from git")
	}
}

func TestFolderReadOnly(t *testing.T) {
	t.Parallel()
	dir := write(t, t.TempDir(), kernelFiles())
	for _, sub := range []string{"kernel/dma", "kernel", "."} {
		if err := os.Chmod(filepath.Join(dir, sub), 0o555); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, sub := range []string{".", "kernel", "kernel/dma"} {
			os.Chmod(filepath.Join(dir, sub), 0o755)
		}
	})
	if _, err := open(t, dir).ReadFile("kernel/dma/direct.c"); err != nil {
		t.Error(err)
	}
}

func TestFolderSymlinked(t *testing.T) {
	t.Parallel()
	dir := write(t, t.TempDir(), kernelFiles())
	link := filepath.Join(t.TempDir(), "linux")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, link).ReadFile("kernel/dma/direct.c"); err != nil {
		t.Error(err)
	}
}

func TestReadFileRefuses(t *testing.T) {
	t.Parallel()
	outside := write(t, t.TempDir(), map[string]string{"secret": "secret\n"})
	files := kernelFiles()
	files["dos.c"] = "int a;\nint b;\r\nint c;\r\n"
	files["large.c"], files["limit.c"] = "", ""
	dir := write(t, t.TempDir(), files)
	if err := errors.Join(os.Truncate(filepath.Join(dir, "large.c"), maxFile+1), os.Truncate(filepath.Join(dir, "limit.c"), maxFile)); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"inside.c":   "kernel/dma/direct.c",
		"absolute.c": filepath.Join(outside, "secret"),
		"relative.c": filepath.Join("..", filepath.Base(filepath.Dir(outside)), "secret"),
		"dangling.c": "nothing",
		"loop.c":     "loop.c",
		"dir":        outside,
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.c"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree := open(t, dir)
	for _, test := range []struct{ name, want string }{
		{"dos.c", "dos.c has DOS line ends (line 2)"},
		{"large.c", "large.c is over 16 MiB"},
		{"absolute.c", "symbolic link that leads out of the tree"},
		{"relative.c", "symbolic link that leads out of the tree"},
		{"dangling.c", "symbolic link"},
		{"loop.c", "symbolic link"},
		{"pipe.c", "pipe.c is not a regular file"},
		{"kernel", "kernel is not a regular file"},
		{"dir/secret", "dir/secret"},
	} {
		data, err := tree.ReadFile(test.name)
		if err == nil {
			t.Errorf("%s: read %d bytes", test.name, len(data))
			continue
		}
		contains(t, err, test.want)
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s counts as missing: %v", test.name, err)
		}
		if test.name != "dir/secret" && !isUnsupported(err) {
			t.Errorf("%s: %T", test.name, err)
		}
	}
	for _, name := range []string{"inside.c", "limit.c"} {
		if _, err := tree.ReadFile(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"kernel/none.c", "kernel/dma/direct.c/x", "none/none.c"} {
		if _, err := tree.ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("missing file: %v", err)
		}
	}
	for _, name := range []string{"", ".", "..", "../x", "/etc/passwd", "kernel//x", "kernel/../Makefile", "kernel/", "./Makefile", "kernel\\dma", "a\x00b"} {
		if _, err := tree.ReadFile(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("path %q: %v", name, err)
		}
	}
	if diff := cmp.Diff([]string{"Makefile", "inside.c", "limit.c"}, tree.Read()); diff != "" {
		t.Error(diff)
	}
	if tree.size > maxCache {
		t.Errorf("%d bytes cached", tree.size)
	}
}

func TestIsDir(t *testing.T) {
	dir := write(t, filepath.Join(t.TempDir(), "linux"), kernelFiles())
	if err := errors.Join(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644), os.Symlink("kernel", filepath.Join(dir, "link")), os.Symlink("..", filepath.Join(dir, "out"))); err != nil {
		t.Fatal(err)
	}
	clone := newClone(t)
	gitCommit(t, clone, map[string]string{"kernel/dma/direct.h": "\n"})
	if err := os.Mkdir(filepath.Join(clone, "new"), 0o755); err != nil { // in no commit
		t.Fatal(err)
	}
	for _, spec := range []string{dir, clone} {
		tree := open(t, spec)
		for name, want := range map[string]bool{
			"kernel": true, "kernel/dma": true, "link/dma": spec == dir,
			"kernel/": false, "kernel/dma/direct.c": false, "kernel/none": false, "none": false, "new": false, "pipe": false,
			"": false, ".": false, "..": false, "../linux": false, "/": false, dir: false, "out/linux": false, "kernel\x00": false, "kernel\\dma": false,
		} {
			if got := tree.IsDir(name); got != want {
				t.Errorf("%s: IsDir(%q) = %v", spec, name, got)
			}
		}
		if got := tree.Read(); !cmp.Equal(got, []string{"Makefile"}) {
			t.Errorf("read %q", got)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	without := func(name string) map[string]string {
		files := kernelFiles()
		delete(files, name)
		return files
	}
	bootloader := kernelFiles()
	bootloader["Makefile"] = "obj-y += main.o\n"
	for _, test := range []struct {
		files map[string]string
		want  string
	}{
		{without("Makefile"), "is no kernel tree: it has no Makefile"},
		{without("Kconfig"), "is no kernel tree: it has no Kconfig"},
		{without("kernel/dma/direct.c"), "is no kernel tree: it has no folder kernel/"},
		{bootloader, "is no kernel tree: its Makefile sets no VERSION and PATCHLEVEL"},
	} {
		dir := write(t, t.TempDir(), test.files)
		if err := refuse(t, dir, dir, test.want); !isUnsupported(err) {
			t.Errorf("%T", err)
		}
	}
	plain := write(t, t.TempDir(), kernelFiles())
	refuse(t, plain+"@v6.12", "is no git clone", "v6.12")
	refuse(t, plain+"@", "no revision after the @")
	err := refuse(t, filepath.Join(plain, "none"), "no folder, no tarball, no PATH@REV", "debian:6.12")
	if isUnsupported(err) {
		t.Errorf("%T", err)
	}
	refuse(t, "debian:6.12.117", "first two numbers")
	refuse(t, "debian:", "first two numbers")
}

// The longest path that is there is the path, the rest the revision.
func TestPathWithAt(t *testing.T) {
	t.Parallel()
	parent := filepath.Join(t.TempDir(), "me@home")
	clone := filepath.Join(parent, "linux@work")
	gitInit(t, clone, kernelFiles())
	gitRun(t, clone, "tag", "v1@2")
	for _, spec := range []string{clone, clone + "@HEAD", clone + "@v1@2", clone + "@@"} {
		if tree := open(t, spec); tree.Commit() != gitRun(t, clone, "rev-parse", "HEAD") {
			t.Errorf("%s: commit %s", spec, tree.Commit())
		}
	}
	if tree := open(t, write(t, filepath.Join(parent, "plain@v6.12"), kernelFiles())); tree.Commit() != "" {
		t.Error("a folder with @ is read from git")
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	dir := write(t, t.TempDir(), kernelFiles())
	for _, sub := range []string{".", "kernel", "kernel/dma"} {
		if got, ok := Find(filepath.Join(dir, sub), Linux); !ok || got != dir {
			t.Errorf("from %s: %q, %v", sub, got, ok)
		}
	}
	if got, ok := Find(t.TempDir(), Linux); ok {
		t.Errorf("found %q", got)
	}
}

func BenchmarkFolder(b *testing.B) { benchmark(b, write(b, b.TempDir(), benchFiles())) }

func BenchmarkClone(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "linux")
	gitInit(b, dir, benchFiles())
	gitRun(b, dir, "gc", "-q")
	benchmark(b, dir)
}

// benchFiles are 12 files of the size that the series reads.
func benchFiles() map[string]string {
	files := kernelFiles()
	for _, name := range benchNames {
		files[name] = strings.Repeat("static inline void f(struct device *dev) /* "+name+" */ {}\n", 2000)
	}
	return files
}

var benchNames = []string{
	"MAINTAINERS", "arch/x86/Kconfig", "kernel/dma/Kconfig", "kernel/dma/Makefile", "kernel/dma/mapping.c", "kernel/dma/swiotlb.c",
	"kernel/dma/direct.h", "drivers/xen/swiotlb-xen.c", "include/linux/device.h", "include/linux/dma-mapping.h",
	"Documentation/admin-guide/kernel-parameters.txt", "Documentation/core-api/dma-attributes.rst",
}

func benchmark(b *testing.B, spec string) {
	for b.Loop() {
		tree, err := Open(b.Context(), spec, Options{})
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range benchNames {
			if _, err := tree.ReadFile(name); err != nil {
				b.Fatal(err)
			}
		}
		tree.Close()
	}
}
