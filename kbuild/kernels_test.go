package kbuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchgen/kconfig"
	"patchgen/ktree"
	"patchgen/series"
)

// The stand-in for make takes all that is wanted into .config, and makes the
// "kernel" of that and of the files in kernel/.
const makeKernel = `S=$2
case "$*" in
*allnoconfig*) for a; do case $a in KCONFIG_ALLCONFIG=*) cat ${a#*=} > $O/.config;; esac; done;;
*bzImage*)
	echo "  CC      a.o"
	mkdir -p $O/arch/x86/boot $O/include/config
	for f in $S/kernel/*; do echo "$f" | (read f; echo ${f##*/}); cat $f; done > $O/arch/x86/boot/bzImage
	cat $O/.config >> $O/arch/x86/boot/bzImage
	echo 6.12.1 > $O/include/config/kernel.release
	echo > $O/System.map
	echo run >> ${O%/out}/runs;;
esac
`

// A bench is a cache and a tree in it or beside it.
type bench struct {
	t     testing.TB
	cache string
	dir   string // of the tree

	module map[string][]byte
}

func newBench(t testing.TB, script string) *bench {
	t.Helper()
	tools(t, script)
	b := &bench{t: t, cache: t.TempDir(), dir: t.TempDir()}
	b.fill(b.dir)
	return b
}

func (b *bench) fill(dir string) {
	b.t.Helper()
	for name, text := range map[string]string{
		"Makefile": "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 1\nEXTRAVERSION =\n", "Kconfig": "\n",
		"kernel/a.c": "int a;\n", "kernel/b.c": "int b;\n", "scripts/run.sh": "#!/bin/sh\n", "lib/Kconfig": "\n",
	} {
		b.write(filepath.Join(dir, name), text)
	}
	if err := errors.Join(os.Chmod(filepath.Join(dir, "scripts/run.sh"), 0o755), os.Symlink("../kernel", filepath.Join(dir, "scripts/link"))); err != nil {
		b.t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return os.Chtimes(file, old, old)
	}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) write(file, text string) {
	b.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, []byte(text), 0o666)); err != nil {
		b.t.Fatal(err)
	}
}

// changes turn b.c into another file, bring a new one and a symbol.
func changes() []series.Change {
	return []series.Change{
		{Path: "kernel/b.c", Before: []byte("int b;\n"), After: []byte("int bb;\n")},
		{Path: "kernel/c.c", After: []byte("int c;\n")},
		{Path: "lib/Kconfig", Before: []byte("\n"), After: []byte("config NEW\n\tbool \"new\"\n")},
	}
}

func (b *bench) kernels(ctx context.Context, spec string, config kconfig.Config) (Kernel, Kernel, error) {
	b.t.Helper()
	tree, err := ktree.Open(b.t.Context(), spec, ktree.Options{Cache: b.cache})
	if err != nil {
		b.t.Fatal(err)
	}
	defer tree.Close()
	return Kernels(ctx, tree, changes(), Options{Cache: b.cache, Config: config, Module: b.module})
}

func (b *bench) both(spec string, config kconfig.Config) (unpatched, patched Kernel) {
	b.t.Helper()
	unpatched, patched, err := b.kernels(b.t.Context(), spec, config)
	if err != nil {
		b.t.Fatal(err)
	}
	return unpatched, patched
}

// workspace returns the only one.
func (b *bench) workspace() string {
	b.t.Helper()
	found, err := filepath.Glob(filepath.Join(b.cache, "build", "*"))
	if err != nil || len(found) != 1 {
		b.t.Fatalf("workspaces: %v", found)
	}
	return found[0]
}

// runs is how many kernels were compiled.
func (b *bench) runs() int {
	return strings.Count(readFile(b.t, filepath.Join(b.workspace(), "runs")), "run")
}

func readFile(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sources is the kernel without its configuration.
func sources(t testing.TB, k Kernel) string {
	text, _, _ := strings.Cut(readFile(t, k.BzImage), "CONFIG_")
	return strings.TrimSuffix(text, "# ")
}

const (
	unpatchedText = "a.c\nint a;\nb.c\nint b;\n"
	patchedText   = "a.c\nint a;\nb.c\nint bb;\nc.c\nint c;\n"
)

func (b *bench) check(unpatched, patched Kernel) {
	b.t.Helper()
	if diff := cmp.Diff([]string{unpatchedText, patchedText}, []string{sources(b.t, unpatched), sources(b.t, patched)}); diff != "" {
		b.t.Errorf("-want +got:\n%s", diff)
	}
}

func TestKernels(t *testing.T) {
	b := newBench(t, makeKernel)
	unpatched, patched := b.both(b.dir, nil)
	b.check(unpatched, patched)
	if unpatched.Cached || patched.Cached || patched.Release != "6.12.1" || unpatched.Key == patched.Key {
		t.Errorf("%+v %+v", unpatched, patched)
	}
	if strings.Contains(readFile(t, unpatched.Config), "CONFIG_NEW") || !strings.Contains(readFile(t, patched.Config), "CONFIG_NEW=y\n") {
		t.Error("the series' symbol is not on in the patched kernel alone")
	}
	again, patchedAgain := b.both(b.dir, nil)
	if !again.Cached || !patchedAgain.Cached || again.Key != unpatched.Key || b.runs() != 2 {
		t.Errorf("compiled %d times, %+v %+v", b.runs(), again, patchedAgain)
	}
	if _, err := os.Lstat(filepath.Join(b.dir, "kernel/c.c")); err == nil {
		t.Error("the person's tree was written to")
	}
	if st, err := os.Stat(filepath.Join(b.workspace(), "linux/scripts/run.sh")); err != nil || st.Mode()&0o111 == 0 {
		t.Errorf("the script cannot be run: %v", err)
	}
	if to, err := os.Readlink(filepath.Join(b.workspace(), "linux/scripts/link")); to != "../kernel" {
		t.Errorf("link to %q, %v", to, err)
	}

	unpatched, patched = b.both(b.dir, kconfig.Config{"MORE": "y", "NEW": "n"})
	if unpatched.Cached || patched.Cached || !strings.Contains(readFile(t, unpatched.Config), "CONFIG_MORE=y") || strings.Contains(readFile(t, unpatched.Config), "CONFIG_NEW") || strings.Contains(readFile(t, patched.Config), "CONFIG_NEW=y") {
		t.Error("the person's configuration does not count")
	}
	b.check(unpatched, patched)
	old := replaceTool(t, "gcc", "echo gcc version 99")
	unpatched, _ = b.both(b.dir, nil)
	if unpatched.Cached || unpatched.Key == again.Key {
		t.Error("another compiler makes the same kernel")
	}
	old()
	if unpatched, _ = b.both(b.dir, nil); !unpatched.Cached {
		t.Error("what was compiled before by this compiler is gone")
	}
}

// replaceTool puts another stand-in over one of those of tools.
func replaceTool(t *testing.T, name, script string) (back func()) {
	t.Helper()
	file := filepath.Join(os.Getenv("PATH"), name)
	old := readFile(t, file)
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	return func() { os.WriteFile(file, []byte(old), 0o777) }
}

// A folder's files are known by what is in them, and a change is seen even if
// neither size nor time tells of it.
func TestFolderChanges(t *testing.T) {
	b := newBench(t, makeKernel)
	first, _ := b.both(b.dir, nil)
	file := filepath.Join(b.dir, "kernel/a.c")
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	untouched, err := os.Stat(filepath.Join(b.workspace(), "linux/kernel/b.c"))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(text string) Kernel {
		t.Helper()
		b.write(file, text)
		if err := os.Chtimes(file, st.ModTime(), st.ModTime()); err != nil {
			t.Fatal(err)
		}
		k, _ := b.both(b.dir, nil)
		if got := sources(t, k); !strings.Contains(got, text) {
			t.Errorf("the kernel of %q is made of %q", text, got)
		}
		return k
	}
	for range 3 { // within one tick of the clock, too
		if k := edit("int x;\n"); k.Key == first.Key {
			t.Error("an edit was not seen")
		}
		if k := edit("int a;\n"); k.Key != first.Key || !k.Cached {
			t.Errorf("the first content again is another kernel: %+v", k)
		}
	}
	edit("int y;\n")
	if now, err := os.Stat(filepath.Join(b.workspace(), "linux/Makefile")); err != nil || now.ModTime().After(untouched.ModTime().Add(time.Second)) {
		t.Errorf("what was not changed was written again: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if k, _ := b.both(b.dir, nil); strings.Contains(sources(t, k), "a.c") {
		t.Error("a removed file is still compiled")
	}
}

// What a killed run left is not taken for whole.
func TestKilled(t *testing.T) {
	b := newBench(t, makeKernel)
	b.both(b.dir, nil)
	ws := b.workspace()

	// In the middle of writing the copy.
	b.write(filepath.Join(ws, "linux/kernel/a.c"), "int")
	b.write(filepath.Join(ws, "linux/kernel/z.c"), "left\n")
	if err := errors.Join(os.Remove(filepath.Join(ws, "linux/Kconfig")), os.RemoveAll(filepath.Join(ws, "linux/scripts"))); err != nil {
		t.Fatal(err)
	}
	b.check(b.both(b.dir, kconfig.Config{"ONE": "y"}))
	for _, name := range []string{"Kconfig", "scripts/run.sh", "scripts/link"} {
		if _, err := os.Lstat(filepath.Join(ws, "linux", name)); err != nil {
			t.Error(err)
		}
	}

	// In the middle of make.
	stale := filepath.Join(ws, "out/half")
	back := replaceTool(t, "make", `for a; do case $a in O=*) O=${a#O=};; esac; done; echo half > $O/half; kill -9 $$`)
	if _, _, err := b.kernels(t.Context(), b.dir, kconfig.Config{"TWO": "y"}); err == nil {
		t.Fatal("no error of a make that was killed")
	}
	if readFile(t, stale) == "" {
		t.Fatal("nothing left behind")
	}
	back()
	b.check(b.both(b.dir, kconfig.Config{"TWO": "y"}))
	if _, err := os.Stat(stale); err == nil {
		t.Error("what a killed make left is still there")
	}

	// make that is told to stop puts its things in order.
	back = replaceTool(t, "make", `for a; do case $a in O=*) O=${a#O=};; esac; done; echo half > $O/half; sleep 60`)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	if _, _, err := b.kernels(ctx, b.dir, kconfig.Config{"THREE": "y"}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's error", err)
	}
	back()
	b.check(b.both(b.dir, kconfig.Config{"THREE": "y"}))
	if _, err := os.Stat(stale); err != nil {
		t.Error("what make made until it was told to stop is gone")
	}

	// In the middle of the first copy.
	if err := errors.Join(os.Remove(filepath.Join(ws, "linux.index")), os.Remove(filepath.Join(ws, "linux/kernel/a.c"))); err != nil {
		t.Fatal(err)
	}
	b.check(b.both(b.dir, kconfig.Config{"FOUR": "y"}))
	if _, err := os.Stat(stale); err == nil {
		t.Error("objects of a copy that is no more are still there")
	}
}

// A package's files are linked, never written to.
func TestUnpacked(t *testing.T) {
	b := newBench(t, makeKernel)
	link := filepath.Join(b.cache, "debian", "linux-source-6.12")
	for _, version := range []string{"1", "2"} {
		dir := link + "_" + version
		b.fill(filepath.Join(dir, "linux-source-6.12"))
		os.Remove(link)
		if err := os.Symlink(filepath.Base(dir), link); err != nil {
			t.Fatal(err)
		}
		unpatched, patched := b.both("debian:6.12", nil)
		b.check(unpatched, patched)
		if unpatched.Cached {
			t.Error("the kernel of another version")
		}
		if again, _ := b.both("debian:6.12", nil); !again.Cached {
			t.Error("compiled again")
		}
		var a [2]fs.FileInfo
		for i, file := range []string{filepath.Join(link+"_1", "linux-source-6.12/kernel/a.c"), filepath.Join(b.workspace(), "linux/kernel/a.c")} {
			var err error
			if a[i], err = os.Stat(file); err != nil {
				t.Fatal(err)
			}
		}
		if !os.SameFile(a[0], a[1]) {
			t.Error("not linked, though nothing changed")
		}
		if got := readFile(t, filepath.Join(dir, "linux-source-6.12/kernel/b.c")); got != "int b;\n" {
			t.Errorf("the package's file is now %q", got)
		}
	}
}

func TestClone(t *testing.T) {
	b := newBench(t, makeKernel)
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", b.dir, "-c", "user.name=a", "-c", "user.email=a@b.c"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	git("init", "-q")
	git("config", "core.autocrlf", "true")
	git("add", ".")
	git("commit", "-qm", "one")
	b.write(filepath.Join(b.dir, "kernel/a.c"), "uncommitted\n")
	first, patched := b.both(b.dir, nil)
	b.check(first, patched)
	if st, err := os.Stat(filepath.Join(b.workspace(), "linux/scripts/run.sh")); err != nil || st.Mode()&0o111 == 0 {
		t.Errorf("the script cannot be run: %v", err)
	}
	git("commit", "-qam", "two")
	second, _ := b.both(b.dir, nil)
	if second.Cached || !strings.Contains(sources(t, second), "uncommitted") {
		t.Error("another commit, the same kernel")
	}
	git("commit", "-q", "--allow-empty", "-m", "three")
	if third, _ := b.both(b.dir, nil); !third.Cached {
		t.Error("the same files were compiled again for another commit")
	}
	if old, _ := b.both(b.dir+"@HEAD~2", nil); old.Key != first.Key || !old.Cached {
		t.Errorf("%+v", old)
	}
}

func TestKernelsErrors(t *testing.T) {
	b := newBench(t, makeKernel)
	var kernel *KernelError
	var lost *LostError
	var compile *Error
	back := replaceTool(t, "make", strings.ReplaceAll("for a; do case $a in O=*) O=${a#O=};; esac; done\n"+makeKernel, "cat ${a#*=}", "echo"))
	if _, _, err := b.kernels(t.Context(), b.dir, kconfig.Config{"FOO": "y"}); !errors.As(err, &kernel) || kernel.Patched || !errors.As(err, &lost) || !strings.Contains(err.Error(), "CONFIG_FOO: want y") {
		t.Errorf("got %v, want *LostError of the unpatched kernel", err)
	}
	back()
	replaceTool(t, "make", "for a; do case $a in O=*) O=${a#O=};; esac; done\n"+
		`case "$*" in *bzImage*) if [ -e $2/kernel/c.c ]; then echo "c.c:1:1: error: odd"; exit 2; fi;; esac`+"\n"+makeKernel)
	if _, _, err := b.kernels(t.Context(), b.dir, nil); !errors.As(err, &kernel) || !kernel.Patched || !errors.As(err, &compile) || !strings.Contains(err.Error(), "c.c:1:1: error: odd") {
		t.Errorf("got %v, want *Error of the patched kernel", err)
	}
	if unpatched, _, _ := b.kernels(t.Context(), b.dir, nil); !unpatched.Cached {
		t.Error("the unpatched kernel was compiled again")
	}
	b.write(filepath.Join(b.dir, "kernel/b.c"), "int other;\n")
	if _, _, err := b.kernels(t.Context(), b.dir, nil); err == nil || !strings.Contains(err.Error(), "another kernel/b.c") {
		t.Errorf("patches for another tree: %v", err)
	}
	b.write(filepath.Join(b.dir, ".config"), "")
	var unsupported *ktree.UnsupportedError
	if _, _, err := b.kernels(t.Context(), b.dir, nil); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "make mrproper") {
		t.Errorf("a tree that was built in: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	os.Remove(filepath.Join(b.dir, ".config"))
	var missing *MissingError
	if _, _, err := b.kernels(t.Context(), b.dir, nil); !errors.As(err, &missing) {
		t.Errorf("without tools: %v", err)
	}
}

// make makes no kernel, and says that all is well.
func TestNoKernel(t *testing.T) {
	b := newBench(t, strings.ReplaceAll(makeKernel, "echo > $O/System.map", ":"))
	if _, _, err := b.kernels(t.Context(), b.dir, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if found, _ := filepath.Glob(filepath.Join(b.workspace(), "kernels", "*")); found != nil {
		t.Errorf("kept: %v", found)
	}
}

// What it costs to be told that there is nothing to do.
func BenchmarkCacheHit(b *testing.B) {
	t := newBench(b, makeKernel)
	link := filepath.Join(t.cache, "debian", "linux-source-6.12")
	t.fill(filepath.Join(link+"_1", "linux-source-6.12"))
	if err := os.Symlink(filepath.Base(link+"_1"), link); err != nil {
		b.Fatal(err)
	}
	t.both("debian:6.12", nil)
	for b.Loop() {
		if k, _ := t.both("debian:6.12", nil); !k.Cached {
			b.Fatal("not in the cache")
		}
	}
}

// The stand-in for make makes a module of its files' names and contents, and of
// the symbols that it finds.
const makeModule = `for a; do case $a in O=*) O=${a#O=};; M=*) M=${a#M=};; esac; done
case "$*" in
*" modules")
	if [ -z "$M" ]; then echo symbols > $O/Module.symvers; exit; fi
	echo "$*" > $O/../args
	if [ -e $M/wrong.c ]; then echo "wrong.c:1:1: error: odd"; exit 2; fi
	for f in $M/*; do echo ${f##*/}; cat $f; done > $O/text
	cat $O/Module.symvers $O/text > $M/test.ko
	if [ -e $M/two ]; then echo > $M/two.ko; fi
	exit;;
esac
` + makeKernel

func TestModule(t *testing.T) {
	b := newBench(t, makeModule)
	replaceTool(t, "strip", `echo stripped > $3; cat $4 >> $3`)
	plain, without := b.both(b.dir, nil)
	if plain.Module != "" || without.Module != "" {
		t.Errorf("nobody asked for the modules %q and %q", plain.Module, without.Module)
	}

	check := func(text string, files ...string) Kernel {
		t.Helper()
		b.module = make(map[string][]byte)
		for i := 0; i < len(files); i += 2 {
			b.module[files[i]] = []byte(files[i+1])
		}
		unpatched, patched := b.both(b.dir, nil)
		if unpatched.Key != plain.Key || unpatched.Module != "" || patched.Key == without.Key {
			t.Errorf("%+v %+v", unpatched, patched)
		}
		if got := readFile(t, patched.Module); got != text {
			t.Errorf("the module is %q, want %q", got, text)
		}
		b.check(unpatched, patched)
		return patched
	}
	first := check("stripped\nsymbols\nKbuild\nobj-m\na.c\nint a;\n", "a.c", "int a;\n", "Kbuild", "obj-m\n")
	if args := readFile(t, filepath.Join(b.workspace(), "args")); !strings.Contains(args, "KCFLAGS=-ffile-prefix-map="+b.workspace()+"/=") {
		t.Errorf("the place can get into the module: make %s", args)
	}
	// What was in the folder is of no matter.
	second := check("stripped\nsymbols\nb.c\nint b;\n", "b.c", "int b;\n")
	again := check("stripped\nsymbols\nKbuild\nobj-m\na.c\nint a;\n", "a.c", "int a;\n", "Kbuild", "obj-m\n")
	if first.Cached || second.Cached || first.Key == second.Key || !again.Cached || again.Key != first.Key {
		t.Errorf("%+v %+v %+v", first, second, again)
	}
	b.module = nil
	if _, patched := b.both(b.dir, nil); patched != (Kernel{
		BzImage: without.BzImage, Config: without.Config, Key: without.Key, Release: without.Release, Cached: true, Took: patched.Took,
	}) {
		t.Errorf("with a module made meanwhile the kernel without one is %+v", patched)
	}

	var kernel *KernelError
	var compile *Error
	b.module = map[string][]byte{"wrong.c": nil}
	if _, _, err := b.kernels(t.Context(), b.dir, nil); !errors.As(err, &kernel) || !kernel.Patched || !errors.As(err, &compile) || !strings.Contains(err.Error(), "wrong.c:1:1: error: odd") {
		t.Errorf("got %v, want *Error of the patched kernel", err)
	}
	for name, want := range map[string]string{"two": "make 2 .ko files", "../a.c": "escapes"} {
		b.module = map[string][]byte{name: nil}
		if _, _, err := b.kernels(t.Context(), b.dir, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", name, err, want)
		}
	}
}

// makeVersions is makeModule with a vmlinux.
const makeVersions = `case "$*" in *bzImage*) for a; do case $a in O=*) cat PROGRAM > ${a#O=}/vmlinux;; esac; done;; esac
` + makeModule

func TestVersions(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	size, noSize := exec.LookPath("size") // before there are stand-ins only
	b := newBench(t, strings.ReplaceAll(makeVersions, "PROGRAM", program))
	replaceTool(t, "strip", `echo stripped > $3; cat $4 >> $3`)
	versions := []Version{{}, {Changes: changes(), On: []string{"NEW"}}, {Changes: changes()}}
	make := func() []Kernel {
		t.Helper()
		tree, err := ktree.Open(t.Context(), b.dir, ktree.Options{Cache: b.cache})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		kernels, err := Versions(t.Context(), tree, versions, Options{
			Cache: b.cache, Config: kconfig.Config{"NEW": "y", "MORE": "y"}, Module: map[string][]byte{"a.c": []byte("int a;\n")},
		})
		if err != nil {
			t.Fatal(err)
		}
		return kernels
	}
	plain, _ := b.both(b.dir, nil)
	kernels := make()
	if len(kernels) != 3 {
		t.Fatalf("%d kernels", len(kernels))
	}
	sizes, err := sizesOf(program)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		text string
		on   bool
	}{{unpatchedText, false}, {patchedText, true}, {patchedText, false}} {
		k := kernels[i]
		config := readFile(t, k.Config)
		if sources(t, k) != want.text || strings.Contains(config, "CONFIG_NEW=y") != want.on || !strings.Contains(config, "CONFIG_MORE=y") {
			t.Errorf("%d: %q with\n%s", i, sources(t, k), config)
		}
		if k.Cached || k.Sizes != sizes || readFile(t, k.Module) != "stripped\nsymbols\na.c\nint a;\n" || k.Key == plain.Key {
			t.Errorf("%d: %+v, want the sizes %+v", i, k, sizes)
		}
	}
	for i, k := range make() {
		if !k.Cached || k.Key != kernels[i].Key || k.Sizes != sizes {
			t.Errorf("%d: once more it is %+v", i, k)
		}
	}

	// What size(1) says of it.
	if noSize != nil {
		return
	}
	out, err := exec.Command(size, program).Output()
	if err != nil {
		t.Fatal(err)
	}
	var text, data, bss int64
	if _, err := fmt.Sscan(strings.SplitN(string(out), "\n", 2)[1], &text, &data, &bss); err != nil || (Sizes{text, data, bss}) != sizes {
		t.Errorf("%+v, and size(1) says %s", sizes, out)
	}
	if _, err := sizesOf("kernels_test.go"); err == nil {
		t.Error("a text has sizes")
	}
}
