package qemubuild

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
	"patchgen/series"
	"patchgen/workshop"
)

// A bench has a stand-in for a tree of QEMU, and stand-ins for what compiles it: ninja
// puts the sources together.
type bench struct {
	t         *testing.T
	dir, tree string
}

const mesonOfBlobs = `
fds = [
  'edk2-x86_64-code.fd',
]
blobs = [
  'bios-256k.bin',
  'kvmvapic.bin',
  'linuxboot_dma.bin',
  'efi-virtio.rom',
  'QEMU,tcx.bin',
]
foreach f : [
  'bamboo.dts',
]
endforeach
`

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	b.tree = filepath.Join(b.dir, "qemu")
	b.write(map[string]string{
		"qemu/VERSION":              "10.0.2\n",
		"qemu/hw/pci/pci.c":         "int pci;\n",
		"qemu/qapi/pci.json":        "{}\n",
		"qemu/pc-bios/meson.build":  mesonOfBlobs,
		"qemu/pc-bios/kvmvapic.bin": "the tree's\n",
		"qemu/configure": `#!/bin/sh
echo run >>../configured
: >build.ninja
mkdir -p pyvenv/bin
cat >pyvenv/bin/meson <<'EOS'
#!/bin/sh
echo "$*" >../tested
if grep -q wrong ../src/tests/qtest/*.c; then
	echo "not ok 1 /pci/bad"
	echo "1/1 qtest - qtest-x86_64/pci-page-dirtying-test FAIL 0.1s"
	exit 1
fi
EOS
chmod +x pyvenv/bin/meson
`,
		"bin/ninja": `#!/bin/sh
echo "$*" >>../targets
echo "[1/2] Compiling C object pci.c.o"
if grep -q bad ../src/hw/pci/*.c; then
	echo "FAILED: libcommon.a.p/pci.c.o "
	echo "gcc -c ../src/hw/pci/pci.c"
	echo "../src/hw/pci/pci.c:1:1: error: bad type"
	echo "[2/2] Compiling C object other.c.o"
	echo "ninja: build stopped: subcommand failed."
	exit 1
fi
grep -l odd ../src/hw/pci/*.c | while read -r f; do echo "$f:1:1: warning: it is odd [-Wodd]"; done
cat ../src/hw/pci/*.c >qemu-system-x86_64
echo "[2/2] Linking target qemu-system-x86_64"
`,
		"bin/pkg-config": "#!/bin/sh\n", "bin/python3": "#!/bin/sh\n", "bin/make": "#!/bin/sh\n",
		"bin/ar": "#!/bin/sh\n", "bin/objcopy": "#!/bin/sh\n",
		"bin/gcc": "#!/bin/sh\necho gcc 12\n", "bin/ld": "#!/bin/sh\necho ld 2\n",
		"share/bios-256k.bin": "seabios\n", "share/linuxboot_dma.bin": "rom\n",
	})
	for _, pattern := range []string{"bin/*", "qemu/configure"} {
		names, _ := filepath.Glob(filepath.Join(b.dir, pattern))
		for _, name := range names {
			if err := os.Chmod(name, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", filepath.Join(b.dir, "bin")+":"+os.Getenv("PATH"))
	python, places := systemPython, firmware
	t.Cleanup(func() { systemPython, firmware = python, places })
	systemPython, firmware = filepath.Join(b.dir, "bin/python3"), []string{filepath.Join(b.dir, "share")}
	return b
}

func (b *bench) write(files map[string]string) {
	b.t.Helper()
	for name, text := range files {
		name = filepath.Join(b.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, []byte(text), 0o666)); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) read(name string) string {
	b.t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		b.t.Error(err)
	}
	return string(data)
}

// kept returns a file that is kept beside out/.
func (b *bench) kept(name string) string {
	b.t.Helper()
	found, _ := filepath.Glob(filepath.Join(b.dir, "cache/qemu/*", name))
	if len(found) != 1 {
		b.t.Fatalf("%s: %v", name, found)
	}
	return b.read(found[0])
}

func (b *bench) open() *ktree.Tree {
	b.t.Helper()
	tree, err := ktree.Open(b.t.Context(), b.tree, ktree.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { tree.Close() })
	return tree
}

func (b *bench) options() Options { return Options{Cache: filepath.Join(b.dir, "cache")} }

func (b *bench) build(changes ...series.Change) QEMU {
	b.t.Helper()
	q, err := Build(b.t.Context(), b.open(), changes, b.options())
	if err != nil {
		b.t.Fatal(err)
	}
	return q
}

func newFile(name, text string) series.Change { return series.Change{Path: name, After: []byte(text)} }

func TestBuild(t *testing.T) {
	b := newBench(t)
	plain := b.build()
	if plain.Cached || plain.Version != "10.0.2" || b.read(plain.Binary) != "int pci;\n" {
		t.Errorf("%+v", plain)
	}
	patched := b.build(newFile("hw/pci/dirty.c", "int dirty;\n"))
	if patched.Cached || patched.Key == plain.Key || b.read(patched.Binary) != "int dirty;\nint pci;\n" {
		t.Errorf("%+v: %q", patched, b.read(patched.Binary))
	}
	if again := b.build(); !again.Cached || again.Key != plain.Key || b.read(again.Binary) != "int pci;\n" {
		t.Errorf("again: %+v", again)
	}
	if b.kept("configured") != "run\n" {
		t.Errorf("it was configured %q", b.kept("configured"))
	}
	// Firmware is the tree's own, else the machine's; what is in neither is left out.
	got := make(map[string]string)
	files, err := os.ReadDir(patched.Firmware)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		got[f.Name()] = b.read(filepath.Join(patched.Firmware, f.Name()))
	}
	want := map[string]string{"bios-256k.bin": "seabios\n", "kvmvapic.bin": "the tree's\n", "linuxboot_dma.bin": "rom\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"-L", patched.Firmware}, patched.Args()); diff != "" {
		t.Error(diff)
	}
	var there []string
	found, _ := filepath.Glob(filepath.Join(b.dir, "cache/qemu/*/src/pc-bios/*"))
	for _, name := range found {
		there = append(there, filepath.Base(name))
	}
	if want := strings.Fields("QEMU,tcx.bin bamboo.dtb bios-256k.bin edk2-x86_64-code.fd.bz2 efi-virtio.rom kvmvapic.bin linuxboot_dma.bin meson.build"); !slices.Equal(there, want) {
		t.Errorf("pc-bios has %v", there)
	}
	// Another configure is run.
	b.write(map[string]string{"qemu/configure": b.read(filepath.Join(b.tree, "configure")) + "# other\n"})
	if q := b.build(); q.Key == plain.Key || b.kept("configured") != "run\nrun\n" {
		t.Errorf("configured %q", b.kept("configured"))
	}
}

func TestBuildFails(t *testing.T) {
	b := newBench(t)
	_, err := Build(t.Context(), b.open(), []series.Change{newFile("hw/pci/dirty.c", "bad\n")}, b.options())
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	want := []string{"hw/pci/pci.c:1:1: error: bad type"}
	if failed.Command != "ninja" || failed.What != "libcommon.a.p/pci.c.o" || !slices.Equal(failed.Lines, want) || !strings.Contains(b.read(failed.Log), "subcommand failed") {
		t.Errorf("%+v", failed)
	}
	b.build(newFile("hw/pci/dirty.c", "good\n"))

	linux := filepath.Join(b.dir, "linux")
	b.write(map[string]string{"linux/Makefile": "VERSION = 6\nPATCHLEVEL = 12\n", "linux/Kconfig": "", "linux/kernel/x": ""})
	tree, err := ktree.Open(t.Context(), linux, ktree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	var unsupported *ktree.UnsupportedError
	if _, err := Build(t.Context(), tree, nil, b.options()); !errors.As(err, &unsupported) {
		t.Errorf("Linux: %v", err)
	}
	if _, err := Build(t.Context(), b.open(), []series.Change{{Path: "hw/pci/pci.c", Before: []byte("other"), After: []byte("x")}}, b.options()); err == nil || !strings.Contains(err.Error(), "another hw/pci/pci.c") {
		t.Errorf("for another tree: %v", err)
	}
	b.write(map[string]string{"qemu/subprojects/keycodemapdb.wrap": "[wrap-git]\n"})
	if _, err := Build(t.Context(), b.open(), nil, b.options()); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "has no subprojects/keycodemapdb") {
		t.Errorf("a clone: %v", err)
	}
	b.write(map[string]string{"qemu/subprojects/keycodemapdb/README": "x\n"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, b.open(), []series.Change{newFile("hw/pci/x.c", "x")}, b.options()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestMissing(t *testing.T) {
	b := newBench(t)
	b.write(map[string]string{
		"bin/pkg-config": "#!/bin/sh\n[ $2 != glib-2.0 ]\n",
		"bin/python3":    "#!/bin/sh\n[ \"$2\" != 'import pycotap' ]\n",
	})
	_, err := Build(t.Context(), b.open(), nil, b.options())
	var missing *workshop.MissingError
	if !errors.As(err, &missing) || err.Error() != "glib-2.0, the Python module pycotap are missing: install the packages libglib2.0-dev python3-pycotap" {
		t.Errorf("got %v", err)
	}
	firmware = nil
	_, err = Build(t.Context(), b.open(), nil, b.options())
	if !errors.As(err, &missing) || err.Error() != "bios-256k.bin, linuxboot_dma.bin are missing: install the packages qemu-system-data seabios" {
		t.Errorf("got %v", err)
	}
}

func TestQtests(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Check = true
	test := newFile("tests/qtest/pci-page-dirtying-test.c", "right\n")
	for range 2 { // although it is built already
		q, err := Build(t.Context(), b.open(), []series.Change{test}, o)
		if err != nil || !slices.Equal(q.Checked, []string{"pci-page-dirtying-test"}) {
			t.Errorf("%+v, %v", q, err)
		}
	}
	if got := b.kept("targets"); !strings.Contains(got, "qemu-system-x86_64 tests/qtest/pci-page-dirtying-test\n") {
		t.Errorf("made: %s", got)
	}
	if got := b.kept("tested"); got != "test --no-rebuild --print-errorlogs qtest-x86_64/pci-page-dirtying-test\n" {
		t.Errorf("meson %s", got)
	}
	test.After = []byte("wrong\n")
	_, err := Build(t.Context(), b.open(), []series.Change{test}, o)
	var failed *Error
	if !errors.As(err, &failed) || failed.Command != "qtest" || failed.What != "qtest-x86_64/pci-page-dirtying-test" || failed.Lines[0] != "not ok 1 /pci/bad" {
		t.Errorf("got %v", err)
	}
	if q, err := Build(t.Context(), b.open(), nil, o); err != nil || q.Checked != nil {
		t.Errorf("no test: %+v, %v", q, err)
	}
}

func TestCheckPatches(t *testing.T) {
	b := newBench(t)
	got, err := CheckPatches(t.Context(), b.open(), [][]series.Change{
		{newFile("hw/pci/a.c", "odd\n"), newFile("MAINTAINERS", "x\n")},
		{{Path: "hw/pci/a.c", Before: []byte("odd\n"), After: []byte("bad\n")}},
		{{Path: "hw/pci/a.c", Before: []byte("bad\n"), After: []byte("int a;\n")}},
	}, b.options())
	if err != nil {
		t.Fatal(err)
	}
	if got.Compiler != "gcc 12" || got.Patches[1].Err == nil {
		t.Errorf("%+v", got)
	}
	got.Patches[1].Err = nil
	want := []PatchCheck{{Compiled: []string{"hw/pci/a.c"}, New: []string{"hw/pci/a.c: it is odd [-Wodd]"}}, {}, {Compiled: []string{"hw/pci/a.c"}}}
	if diff := cmp.Diff(want, got.Patches); diff != "" {
		t.Error(diff)
	}
	_, err = CheckPatches(t.Context(), b.open(), [][]series.Change{{newFile("a.c", "a")}, {{Path: "a.c", Before: []byte("b"), After: []byte("c")}}}, b.options())
	if err == nil || !strings.Contains(err.Error(), "patch 2 is for another a.c") {
		t.Errorf("got %v", err)
	}
}
