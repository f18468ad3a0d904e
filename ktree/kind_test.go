package ktree

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func qemuFiles() map[string]string {
	return map[string]string{"VERSION": "10.0.2\n", "Makefile": "all:\n", "Kconfig": "", "hw/pci/pci.c": "int pci;\n", "qapi/pci.json": "{}\n", "configure": "#!/bin/sh\n"}
}

func TestQEMUTree(t *testing.T) {
	dir := write(t, t.TempDir(), qemuFiles())
	tree, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if tree.Kind() != QEMU || tree.Release().String() != "10.0.2" || tree.String() != dir+" (QEMU 10.0.2)" {
		t.Errorf("%v: %v %v", tree, tree.Kind(), tree.Release())
	}
	if diff := cmp.Diff([]string{"VERSION"}, tree.Read()); diff != "" {
		t.Error(diff)
	}
	if got, ok := Find(filepath.Join(dir, "hw/pci"), QEMU); !ok || got != dir {
		t.Errorf("found %q", got)
	}
	if got, ok := Find(filepath.Join(dir, "hw/pci"), Linux); ok {
		t.Errorf("found a kernel at %q", got)
	}
	for name, text := range map[string]string{"VERSION": "ten\n", "hw/pci/pci.c": ""} {
		files := qemuFiles()
		delete(files, name)
		if text != "" {
			files[name] = text
		}
		_, err := Open(t.Context(), write(t, t.TempDir(), files), Options{})
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), " is no QEMU tree: ") {
			t.Errorf("with %s %q: %v", name, text, err)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.2\n": "10.0.2", "9.2.90": "9.2.90", "10.1.0-rc1\n": "10.1.0-rc1",
		"": "", "10.0": "", "10.0.2\n10.0.3": "", "10.0.x": "", "1.2.99999999999": "", "10.0.2-$(id)": "",
	} {
		r, ok := parseVersion(text)
		if ok != (want != "") || ok && r.String() != want {
			t.Errorf("%q: %v, %v", text, r, ok)
		}
	}
}

func TestKindText(t *testing.T) {
	for _, k := range []Kind{Linux, QEMU} {
		var got Kind
		if err := got.UnmarshalText([]byte(strings.ToLower(k.String()))); err != nil || got != k {
			t.Errorf("%v: %v, %v", k, got, err)
		}
	}
	if err := new(Kind).UnmarshalText([]byte("BSD")); err == nil {
		t.Error("BSD is taken")
	}
}

func TestDebianSource(t *testing.T) {
	f := newFakeApt(t)
	var entries []tar.Header
	for name, text := range qemuFiles() {
		entries = append(entries, tar.Header{Name: "qemu-10.0.2/" + name, Linkname: text})
	}
	data := compress(t, "xz", tarball(t, entries...))
	uris := func(sum string) string {
		return fmt.Sprintf("Need to get 1 kB\n'http://mirror.example/qemu_10.0.2%%2bds.orig.tar.xz' qemu_10.0.2+ds.orig.tar.xz %d SHA256:%s\n", len(data), sum)
	}
	good := fmt.Sprintf("%x", sha256.Sum256(data))
	write(t, f.dir, map[string]string{
		"madison":                         "      qemu | 1:10.0.2+ds-2 | http://mirror.example/debian bookworm-backports/main Sources\n",
		"uris":                            uris(strings.Repeat("0", 64)),
		"debs/qemu_10.0.2+ds.orig.tar.xz": string(data),
	})
	_, err := Open(t.Context(), "debian:qemu", f.opts)
	contains(t, err, "fetch debian:qemu", "qemu_10.0.2+ds.orig.tar.xz has the SHA-256 "+good)
	if left, _ := filepath.Glob(filepath.Join(f.opts.Cache, "debian/qemu*")); len(left) != 1 { // the lock
		t.Errorf("left %v", left)
	}
	write(t, f.dir, map[string]string{"uris": uris(good)})
	for range 2 {
		f.log()
		tree, err := Open(t.Context(), "debian:qemu", f.opts)
		if err != nil {
			t.Fatal(err)
		}
		tree.Close()
		if tree.String() != "Debian qemu 1:10.0.2+ds-2 (QEMU 10.0.2)" {
			t.Error(tree)
		}
	}
	if asked := f.log(); len(asked) != 0 {
		t.Errorf("asked apt again: %v", asked)
	}
	if f.told.open != 0 {
		t.Errorf("stages left open: %q", f.told.names)
	}
	sources, err := os.ReadFile(filepath.Join(f.opts.Cache, "debian/apt-source/patchgen.sources"))
	if err != nil || !strings.HasPrefix(string(sources), "Types: deb-src\nURIs: http://mirror.example/debian\n") || !strings.Contains(string(sources), "Targets: Sources\n") || strings.Contains(string(sources), "security") {
		t.Errorf("%s, %v", sources, err)
	}
	f.opts.Refresh = true
	write(t, f.dir, map[string]string{"madison": ""})
	_, err = Open(t.Context(), "debian:qemu", f.opts)
	contains(t, err, "no source package qemu at http://mirror.example/debian")
}
