package kbuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"patchgen/kconfig"
	"patchgen/ktree"
	"patchgen/series"
	"patchgen/workshop"
)

// The stand-in for make does what comments in the C of the folders that it is given
// say: "//warn TEXT", "//on TEXT" to warn if NEW is on, "//error TEXT", "//only" for a
// file that is compiled only if NEW is on, "//reads FILE" of a header, "//sleep". It
// compiles what differs from what it compiled before, and writes the names to
// made. Kconfig loses what is called LOST, and fails if lib/Kconfig says so.
const makeChecks = `S=$2 new=n code=0
case "$*" in
*bzImage*) ;;
*allnoconfig*)
	echo config >> $O/made
	while read line; do case $line in
	broken) echo "lib/Kconfig:1: syntax error"; exit 1;;
	odd) echo "lib/Kconfig:2:warning: odd";;
	esac; done < $S/lib/Kconfig
	for a; do case $a in KCONFIG_ALLCONFIG=*)
		while read line; do case $line in *LOST*) ;; *) echo "$line";; esac; done < ${a#*=} > $O/.config;;
	esac; done
	exit;;
*)
	case "$*" in *" -k W=1 C=1 "*) ;; *) echo "called with $*"; exit 3;; esac
	while read line; do case $line in CONFIG_NEW=y) new=y;; esac; done < $O/.config
	for a; do case $a in */) case $a in $S*|/*) ;; *)
	mkdir -p $O/$a
	for f in $S/$a*.c; do
		[ -e $f ] || continue
		o=${f#$S/} warns= error= headers= only=
		while read word text; do case $word in
		//warn) warns="$warns$f:3:4: warning: $text
";;
		//on) [ $new = n ] || warns="$warns$f:3:4: warning: $text
";;
		//error) error=$text;;
		//only) only=y;;
		//reads) headers="$headers $S/$text";;
		//sleep) sleep 60;;
		esac; done < $f
		[ "$only$new" != yn ] || continue
		o=$O/${o%.c}.o
		object="$new $(cat $f $headers)"
		if [ -e $o ] && [ "$(cat $o)" = "$object" ]; then continue; fi
		echo ${f#$S/} >> $O/made
		echo "  CC      ${o#$O/}"
		if [ -n "$error" ]; then
			echo "$f:3:4: error: $error"
			echo "make[2]: *** [$S/scripts/Makefile.build:234: ${o#$O/}] Error 1" >&2
			code=2
			continue
		fi
		echo "  CHECK   $f"
		echo -n "$warns" >&2
		echo "$object" > $o
		echo "source := $f  deps := $f $headers" > ${o%/*}/.${o##*/}.cmd
	done;;
	esac;; esac; done
	exit $code;;
esac
` + makeKernel

func newCheckBench(t testing.TB) *bench {
	t.Helper()
	b := newBench(t, makeChecks)
	b.write(filepath.Join(b.dir, "kernel/Makefile"), "obj-y += a.o b.o\n")
	b.write(filepath.Join(b.dir, "lib/Makefile"), "obj-y += l.o\n")
	b.write(filepath.Join(b.dir, "lib/l.c"), "int l;\n//warn of l\n")
	b.write(filepath.Join(b.dir, "kernel/a.c"), "int a;\n//warn of old\n")
	return b
}

// A draft makes patches of texts.
type draft struct {
	*bench
	now     map[string]*string
	patches [][]series.Change
}

func (b *bench) draft() *draft { return &draft{bench: b, now: make(map[string]*string)} }

// patch adds a patch that gives these files these texts; "-" removes one.
func (d *draft) patch(files ...string) *draft {
	d.t.Helper()
	var changes []series.Change
	for i := 0; i < len(files); i += 2 {
		name, text := files[i], &files[i+1]
		c := series.Change{Path: name}
		if _, ok := d.now[name]; !ok {
			d.now[name] = nil
			if data, err := os.ReadFile(filepath.Join(d.dir, name)); err == nil {
				was := string(data)
				d.now[name] = &was
			}
		}
		if was := d.now[name]; was != nil {
			c.Before = []byte(*was)
		}
		if *text == "-" {
			text = nil
		} else {
			c.After = []byte(*text)
		}
		d.now[name] = text
		changes = append(changes, c)
	}
	d.patches = append(d.patches, changes)
	return d
}

func (d *draft) try(ctx context.Context, spec string) (*Checked, error) {
	d.t.Helper()
	tree, err := ktree.Open(d.t.Context(), spec, ktree.Options{Cache: d.cache})
	if err != nil {
		d.t.Fatal(err)
	}
	defer tree.Close()
	return CheckPatches(ctx, tree, d.patches, Options{Cache: d.cache, Config: kconfig.Config{"MORE": "y"}})
}

func (d *draft) check(spec string) *Checked {
	d.t.Helper()
	c, err := d.try(d.t.Context(), spec)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// made returns what was compiled since it was asked last.
func (b *bench) made(output string) string {
	b.t.Helper()
	file := filepath.Join(b.workspace(), output, "made")
	text, _ := os.ReadFile(file)
	os.Remove(file)
	return strings.Join(strings.Fields(string(text)), " ")
}

func files(names ...string) []string { return names }
func warn(file, text string) []Warning {
	return []Warning{{file, text}}
}

// What a build's configuration is, and how make words a failure, is looked at in
// other tests.
var coarse = cmp.Options{
	cmpopts.IgnoreFields(CheckedBuild{}, "Config"),
	cmpopts.IgnoreFields(Error{}, "Args", "Log", "Err"),
	cmpopts.IgnoreFields(LostError{}, "Depends"),
	cmpopts.EquateEmpty(),
}

const option = "config NEW\n\tbool \"new\"\n"

// whole is a series in which each patch is judged in another way.
func (b *bench) whole() *draft {
	return b.draft().
		patch("lib/Kconfig", option, "kernel/b.c", "int bb;\n//on b\n", "kernel/h.h", "int h;\n").
		patch("kernel/a.c", "int aa;\n//warn of old\n//warn of new\n//reads kernel/h.h\n").
		patch("kernel/b.c", "int b\n//error expected ‘;’\n", "kernel/c.c", "int c;\n//only\n//warn of c\n").
		patch("kernel/b.c", "int bb;\n").
		patch("Documentation/x.rst", "text\n", "MAINTAINERS", "x\n").
		patch("kernel/h.h", "int hh;\n", "arch/arm/a.c", "int arm;\n").
		patch("kernel/a.c", "int a;\n", "kernel/c.c", "-")
}

var wholeWant = []PatchCheck{
	{Symbols: []string{"NEW"},
		Off: CheckedBuild{Compiled: files("kernel/b.c"), NotCompiled: files("kernel/h.h")},
		On:  &CheckedBuild{Compiled: files("kernel/b.c"), NotCompiled: files("kernel/h.h"), New: warn("kernel/b.c", "b")}},
	{Symbols: []string{"NEW"},
		Off: CheckedBuild{Compiled: files("kernel/a.c"), New: warn("kernel/a.c", "of new")},
		On:  &CheckedBuild{Compiled: files("kernel/a.c"), New: warn("kernel/a.c", "of new")}},
	{Symbols: []string{"NEW"},
		Off: CheckedBuild{Compiled: files("kernel/b.c"), Err: &Error{Lines: []string{"kernel/b.c:3:4: error: expected ‘;’"}}},
		On: &CheckedBuild{Compiled: files("kernel/b.c", "kernel/c.c"), New: warn("kernel/c.c", "of c"),
			Err: &Error{Lines: []string{"kernel/b.c:3:4: error: expected ‘;’"}}}},
	{Symbols: []string{"NEW"},
		Off: CheckedBuild{Compiled: files("kernel/b.c")},
		On:  &CheckedBuild{Compiled: files("kernel/b.c"), Gone: warn("kernel/b.c", "b")}},
	{Symbols: []string{"NEW"}, On: &CheckedBuild{}},
	{Symbols: []string{"NEW"},
		Off: CheckedBuild{Compiled: files("kernel/h.h"), NotCompiled: files("arch/arm/a.c")},
		On:  &CheckedBuild{Compiled: files("kernel/h.h"), NotCompiled: files("arch/arm/a.c")}},
	{Symbols: []string{"NEW"},
		Off: CheckedBuild{Compiled: files("kernel/a.c"), Gone: []Warning{{"kernel/a.c", "of new"}, {"kernel/a.c", "of old"}}},
		On: &CheckedBuild{Compiled: files("kernel/a.c"), Gone: []Warning{
			{"kernel/a.c", "of new"}, {"kernel/a.c", "of old"}, {"kernel/c.c", "of c"}}}},
}

func TestCheckPatches(t *testing.T) {
	b := newCheckBench(t)
	replaceTool(t, "gcc", "echo gcc 99; echo more")
	replaceTool(t, "sparse", "echo 0.6.4")
	stages := &told{}
	c := func() *Checked {
		t.Helper()
		tree, err := ktree.Open(t.Context(), b.dir, ktree.Options{Cache: b.cache})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		c, err := CheckPatches(t.Context(), tree, b.whole().patches, Options{Cache: b.cache, Progress: stages})
		if err != nil {
			t.Fatal(err)
		}
		want := &Checked{Compiler: "gcc 99", Sparse: "0.6.4", Folders: files("kernel/"), Base: warn("kernel/a.c", "of old"), Patches: wholeWant}
		if diff := cmp.Diff(want, c, coarse); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		return c
	}
	first := c()
	if got := stages.String(); !strings.HasSuffix(got, "; compile what the patches touch without them 8 of 0 files; compile patches 7 of 7 patches") {
		t.Errorf("told: %s", got)
	}
	for i, p := range first.Patches {
		if len(p.Off.Config) != 64 || len(p.On.Config) != 64 || p.Off.Config == p.On.Config || p.Off.Config != first.Patches[0].Off.Config {
			t.Errorf("patch %d: the configurations are %s and %s", i+1, p.Off.Config, p.On.Config)
		}
	}
	for _, build := range []CheckedBuild{first.Patches[2].Off, *first.Patches[2].On} {
		if log := readFile(t, build.Err.Log); !strings.Contains(log, "error: expected ‘;’") {
			t.Errorf("the log of the failed make: %s", log)
		}
	}
	// Patch 1 has b.c, and is the only one for which Kconfig is asked again; 2 a.c, 3 and
	// 4 b.c; 5 has nothing to compile; 6 has what a.c reads, and 7 a.c.
	const want = "config kernel/a.c kernel/b.c config kernel/b.c kernel/a.c kernel/b.c kernel/b.c kernel/a.c kernel/a.c"
	if got := b.made("check-off"); got != want {
		t.Errorf("make was given %s, want %s", got, want)
	}

	// A kernel is none of the workspace's remains, and the other way round.
	unpatched, patched := b.both(b.dir, nil)
	if got := sources(t, unpatched); got != "Makefile\nobj-y += a.o b.o\na.c\nint a;\n//warn of old\nb.c\nint b;\n" {
		t.Errorf("the kernel without patches is made of %q", got)
	}
	if got := sources(t, patched); !strings.Contains(got, "int bb;\nc.c\nint c;\n") {
		t.Errorf("the kernel with patches is made of %q", got)
	}
	again := c()
	if diff := cmp.Diff(first, again, cmpopts.IgnoreFields(Error{}, "Err")); diff != "" {
		t.Errorf("the second time: -first +second:\n%s", diff)
	}
	// The last patch left a.c with another text than it had before the first. What
	// Kconfig answers is known.
	if got, want := b.made("check-off"), strings.ReplaceAll(want, "config ", ""); got != want {
		t.Errorf("the second time make was given %s, want %s", got, want)
	}
}

// told takes down the stages of some work.
type told []struct {
	name, unit  string
	done, total int64
}

func (s *told) Stage(name string, total int64, unit string) {
	*s = append(*s, struct {
		name, unit  string
		done, total int64
	}{name, unit, 0, total})
}
func (s *told) Step(done int64) { (*s)[len(*s)-1].done = done }
func (s *told) End()            {}

func (s *told) String() string {
	var all []string
	for _, st := range *s {
		all = append(all, fmt.Sprintf("%s %d of %d %s", st.name, st.done, st.total, st.unit))
	}
	return strings.Join(all, "; ")
}

// Warnings that stand where they did, and files that are put back, are no news: not
// to the next series, not to one of another folder.
func TestCheckPatchesAgain(t *testing.T) {
	b := newCheckBench(t)
	b.whole().check(b.dir)
	b.made("check-off")

	// The file that the first series brought is new again.
	fresh := b.draft().patch("kernel/c.c", "int c;\n//warn of c\n")
	want := []PatchCheck{{Off: CheckedBuild{Compiled: files("kernel/c.c"), New: warn("kernel/c.c", "of c")}}}
	for _, made := range []string{"kernel/a.c kernel/b.c kernel/c.c", "kernel/c.c"} {
		if diff := cmp.Diff(want, fresh.check(b.dir).Patches, coarse); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if got := b.made("check-off"); got != made {
			t.Errorf("make was given %s, want %s", got, made)
		}
	}
	// A file that no patch touched is compiled in another folder, and its warnings
	// do not count while it is not.
	lib := b.draft().patch("lib/m.c", "int m;\n//warn of m\n", "lib/l.c", "int ll;\n//warn of l\n")
	want = []PatchCheck{{Off: CheckedBuild{Compiled: files("lib/l.c", "lib/m.c"), New: warn("lib/m.c", "of m")}}}
	c := lib.check(b.dir)
	if diff := cmp.Diff(&Checked{Folders: files("lib/"), Base: warn("lib/l.c", "of l"), Patches: want}, c, coarse); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	b.made("check-off")
	if c := fresh.check(b.dir); !cmp.Equal(warn("kernel/a.c", "of old"), c.Base) {
		t.Errorf("the tree warns of %v", c.Base)
	}
	if got, want := b.made("check-off"), "kernel/a.c kernel/b.c kernel/c.c"; got != want {
		t.Errorf("make was given %s, want %s", got, want)
	}
	// Another tree is another base.
	b.write(filepath.Join(b.dir, "kernel/b.c"), "int b;\n//warn of b\n")
	if c := fresh.check(b.dir); !cmp.Equal([]Warning{{"kernel/a.c", "of old"}, {"kernel/b.c", "of b"}}, c.Base) {
		t.Errorf("the tree warns of %v", c.Base)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "kernel/c.c")); err == nil {
		t.Error("the person's tree was written to")
	}
}

func TestCheckPatchesConfig(t *testing.T) {
	b := newCheckBench(t)
	d := b.draft().
		patch("lib/Kconfig", "broken\n", "kernel/b.c", "int bb;\n//warn of b\n").
		patch("MAINTAINERS", "x\n").
		patch("lib/Kconfig", "config LOST\n\tbool \"lost\"\nodd\n").
		patch("lib/Kconfig", "config LOST\n\tbool \"lost\"\n", "kernel/b.c", "int b;\n")
	broken := func(compiled ...string) CheckedBuild {
		return CheckedBuild{Compiled: compiled, Err: &Error{Lines: []string{"lib/Kconfig:1: syntax error"}}}
	}
	brought := []Warning{{"kernel/b.c", "of b"}, {"lib/Kconfig", "odd"}}
	lost := &LostError{Lost: []kconfig.Lost{{Symbol: "LOST", Want: "y"}}}
	want := []PatchCheck{
		{Off: broken()},
		{Off: broken()}, // still
		{Symbols: files("LOST"), Off: CheckedBuild{New: brought}, On: &CheckedBuild{New: brought, Lost: lost}},
		{Symbols: files("LOST"), Off: CheckedBuild{Compiled: files("kernel/b.c"), Gone: brought}, On: &CheckedBuild{Compiled: files("kernel/b.c"), Gone: brought, Lost: lost}},
	}
	d.check(b.dir)
	c := d.check(b.dir) // as it is known from the first time
	if diff := cmp.Diff(want, c.Patches, coarse); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	const first, second = "config kernel/a.c kernel/b.c config config config kernel/b.c config kernel/b.c", "config config kernel/b.c kernel/b.c"
	if got, want := b.made("check-off"), first+" "+second; got != want {
		t.Errorf("make was given %s, want %s", got, want)
	}
	if deps, ok := c.Patches[2].On.Lost.Depends["LOST"]; !ok || len(deps) > 0 {
		t.Errorf("what LOST depends on: %v", c.Patches[2].On.Lost.Depends)
	}
	if c.Patches[0].Off.Config != "" || c.Patches[2].Off.Config == "" {
		t.Errorf("the digests are %q and %q", c.Patches[0].Off.Config, c.Patches[2].Off.Config)
	}
}

// With nothing to compile, nothing is compiled.
func TestCheckPatchesNone(t *testing.T) {
	b := newCheckBench(t)
	for _, test := range []struct {
		d    *draft
		want []PatchCheck
		made string
	}{
		{b.draft(), nil, ""},
		{b.draft().patch("Documentation/a.rst", "x\n").patch("MAINTAINERS", "x\n"), []PatchCheck{{}, {}}, ""},
		{b.draft().patch("include/linux/x.h", "x\n", "arch/arm/mm/x.S", "x\n", "tools/x.c", "x\n"),
			[]PatchCheck{{Off: CheckedBuild{NotCompiled: files("arch/arm/mm/x.S", "include/linux/x.h", "tools/x.c")}}}, ""},
		{b.draft().patch("lib/Kconfig", option), []PatchCheck{{Symbols: files("NEW"), On: &CheckedBuild{}}}, "config config"},
	} {
		c := test.d.check(b.dir)
		if diff := cmp.Diff(&Checked{Patches: test.want}, c, coarse); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		for _, name := range outputs {
			if got := b.made(name); got != test.made {
				t.Errorf("make was given %q, want %q", got, test.made)
			}
		}
	}
}

func TestCheckPatchesStopped(t *testing.T) {
	b := newCheckBench(t)
	d := b.draft().
		patch("kernel/b.c", "int bb;\n//warn of b\n", "kernel/c.c", "int c;\n").
		patch("kernel/a.c", "int a;\n//sleep\n", "kernel/b.c", "-")
	ctx, cancel := context.WithCancel(t.Context())
	tree, err := ktree.Open(t.Context(), b.dir, ktree.Options{Cache: b.cache})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	stop := &stopper{cancel: cancel}
	if _, err := CheckPatches(ctx, tree, d.patches, Options{Cache: b.cache, Progress: stop}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's error", err)
	}
	if _, err := os.Stat(filepath.Join(b.workspace(), "check-off.known")); err == nil {
		t.Error("what a stopped make left counts as whole")
	}
	if diff := cmp.Diff(wholeWant, b.whole().check(b.dir).Patches, coarse); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if unpatched, _ := b.both(b.dir, nil); !strings.Contains(sources(t, unpatched), "int a;\n//warn of old\nb.c\nint b;\n") {
		t.Errorf("the kernel is made of %q", sources(t, unpatched))
	}

	// A make that something else killed is not a patch that does not compile.
	back := replaceTool(t, "make", "kill -9 $$")
	var failed *Error
	if _, err := b.whole().try(t.Context(), b.dir); !errors.As(err, &failed) {
		t.Errorf("got %v, want *Error", err)
	}
	back()
	if diff := cmp.Diff(wholeWant, b.whole().check(b.dir).Patches, coarse); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// The copy is made anew: then so are the objects.
	if err := os.Remove(filepath.Join(b.workspace(), "linux.index")); err != nil {
		t.Fatal(err)
	}
	b.made("check-on")
	if diff := cmp.Diff(wholeWant, b.whole().check(b.dir).Patches, coarse); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, want := b.made("check-on"), "config kernel/a.c kernel/b.c config "; !strings.HasPrefix(got, want) {
		t.Errorf("make was given %s, want %s first", got, want)
	}
}

// A stopper ends the work a little while after one patch is done.
type stopper struct {
	cancel func()
	stage  string
}

func (s *stopper) Stage(name string, _ int64, _ string) { s.stage = name }
func (s *stopper) End()                                 {}
func (s *stopper) Step(int64) {
	if s.stage == "compile patches" {
		time.AfterFunc(200*time.Millisecond, s.cancel)
	}
}

func TestCheckPatchesErrors(t *testing.T) {
	b := newCheckBench(t)
	before, after := []byte("int b;\n"), []byte("int bb;\n")
	tree, err := ktree.Open(t.Context(), b.dir, ktree.Options{Cache: b.cache})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for name, test := range map[string]struct {
		patches [][]series.Change
		want    string
	}{
		"another tree":      {[][]series.Change{{{Path: "kernel/b.c", Before: after, After: before}}}, "the patches are for another kernel/b.c than the tree has"},
		"there already":     {[][]series.Change{{{Path: "kernel/b.c", After: after}}}, "another kernel/b.c than the tree has"},
		"not one another":   {[][]series.Change{{{Path: "kernel/b.c", Before: before, After: after}}, {{Path: "kernel/b.c", Before: before, After: after}}}, "patch 2 is for another kernel/b.c"},
		"a file as folder":  {[][]series.Change{{{Path: "kernel/b.c/x.c", After: after}}}, "kernel/b.c"},
		"through a link":    {[][]series.Change{{{Path: "scripts/link/b.c", Before: before}}}, "another scripts/link/b.c than the tree has"},
		"through a link in": {[][]series.Change{{{Path: "scripts/link/z.c", After: before}}}, "both a file and a folder"},
		"outside":           {[][]series.Change{{{Path: "../b.c", After: after}}}, "is no path of a file"},
		"absolute":          {[][]series.Change{{{Path: "/b.c", After: after}}}, "is no path of a file"},
		"not clean":         {[][]series.Change{{{Path: "kernel//b.c", After: after}}}, "is no path of a file"},
	} {
		if _, err := CheckPatches(t.Context(), tree, test.patches, Options{Cache: b.cache}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want %q", name, err, test.want)
		}
	}
	if got := readFile(t, filepath.Join(b.dir, "kernel/b.c")); got != string(before) {
		t.Errorf("the person's file is %q", got)
	}

	b.write(filepath.Join(b.dir, "kernel/a.c"), "int a\n//error expected ;\n")
	var kernel *KernelError
	if _, err := b.draft().patch("kernel/b.c", "int bb;\n").try(t.Context(), b.dir); !errors.As(err, &kernel) || kernel.Patched || !strings.Contains(err.Error(), "kernel/a.c:3:4: error: expected ;") {
		t.Errorf("got %v, want *KernelError of the tree without patches", err)
	}
	b.write(filepath.Join(b.dir, "kernel/a.c"), "int a;\n")
	replaceTool(t, "make", `for a; do case $a in O=*) O=${a#O=};; esac; done; echo > $O/.config`)
	var lost *LostError
	if _, err := b.draft().patch("kernel/b.c", "int bb;\n").try(t.Context(), b.dir); !errors.As(err, &kernel) || !errors.As(err, &lost) {
		t.Errorf("got %v, want *KernelError of *LostError", err)
	}
	if err := os.Remove(filepath.Join(os.Getenv("PATH"), "sparse")); err != nil {
		t.Fatal(err)
	}
	var missing *MissingError
	if _, err := b.whole().try(t.Context(), b.dir); !errors.As(err, &missing) || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("got %v, want *MissingError", err)
	}
}

// A clone and a package are as good as a folder.
func TestCheckPatchesOrigins(t *testing.T) {
	b := newCheckBench(t)
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-qm", "one"}} {
		cmd := exec.Command("git", append([]string{"-C", b.dir, "-c", "user.name=a", "-c", "user.email=a@b.c"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	if diff := cmp.Diff(wholeWant, b.whole().check(b.dir).Patches, coarse); diff != "" {
		t.Errorf("clone: -want +got:\n%s", diff)
	}

	link := filepath.Join(b.cache, "debian", "linux-source-6.12")
	dir := filepath.Join(link+"_1", "linux-source-6.12")
	if err := os.RemoveAll(filepath.Join(b.dir, ".git")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o777), os.Rename(b.dir, dir), os.Symlink(filepath.Base(link+"_1"), link)); err != nil {
		t.Fatal(err)
	}
	b.dir = dir
	for range 2 {
		if diff := cmp.Diff(wholeWant, b.whole().check("debian:6.12").Patches, coarse); diff != "" {
			t.Errorf("package: -want +got:\n%s", diff)
		}
		if got := readFile(t, filepath.Join(dir, "kernel/a.c")); got != "int a;\n//warn of old\n" {
			t.Errorf("the package's file is %q", got)
		}
	}
}

func TestFoldersOf(t *testing.T) {
	from := workshop.Listing{}
	for _, dir := range []string{".", "kernel", "kernel/dma", "fs", "fs/xfs", "arch/x86", "arch/x86/mm", "arch/arm/mm", "arch/x86/include/asm", "drivers", "tools/x"} {
		from[filepath.Join(dir, "Makefile")] = workshop.Entry{Mode: 0o644}
	}
	from["drivers/xen/Kbuild"] = workshop.Entry{Mode: 0o644}
	for _, test := range []struct {
		touched string
		want    []string
	}{
		{"kernel/dma/direct.c kernel/dma/direct.h drivers/xen/x.c", files("drivers/xen/", "kernel/dma/")},
		{"kernel/dma/direct.c kernel/fork.c kernel/dma/Kconfig", files("kernel/")},
		{"fs/xfs/libxfs/a/b.c", files("fs/xfs/")},
		{"drivers/new/a.c", nil}, // no one compiles it
		{"drivers/new/a.c drivers/new/Makefile", files("drivers/new/")},
		{"arch/x86/mm/a.S arch/arm/mm/a.c arch/x86/include/asm/a.h include/linux/a.h tools/x/a.c a.c", files("arch/x86/mm/")},
		{"Documentation/a.rst kernel/Makefile", nil},
	} {
		var patches [][]series.Change
		for _, name := range strings.Fields(test.touched) {
			patches = append(patches, []series.Change{{Path: name}})
		}
		if diff := cmp.Diff(test.want, foldersOf(from, patches)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.touched, diff)
		}
	}
}
