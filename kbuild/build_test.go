package kbuild

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchgen/kconfig"
)

// tools makes a folder with stand-ins for what a build calls the only PATH,
// beside the shell's own. script is what make does; O is its output folder.
func tools(t testing.TB, script string, without ...string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, script string) {
		for _, w := range without {
			if w == name {
				return
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range append(buildTools, "sparse", "python3", "qemu-system-x86_64", "strip") {
		write(name, "exit 0")
	}
	write("make", `for a; do case $a in O=*) O=${a#O=};; esac; done; `+script)
	for _, name := range []string{"cat", "sleep", "echo", "mkdir", "git"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func newBuild(t *testing.T) *Build {
	return &Build{Source: t.TempDir(), Output: t.TempDir()}
}

func TestMake(t *testing.T) {
	tools(t, `echo "$*" > $O/args; echo "$KBUILD_BUILD_USER/$ARCH/$LC_ALL" >> $O/args
echo "  CC      a.o"; echo "  CC      b.o"; echo "$0: 1: x.c:1: warning: not one"; echo "a.c:3:4: warning: odd" >&2`)
	t.Setenv("ARCH", "alpha")
	b := newBuild(t)
	seen := &stages{}
	b.Progress = seen
	warnings, err := b.Make(t.Context(), "bzImage")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Warning{{"a.c", "odd"}}, warnings); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&stages{"make bzImage", 2, true}, seen, cmp.AllowUnexported(stages{})); diff != "" {
		t.Error(diff)
	}
	args, err := os.ReadFile(filepath.Join(b.Output, "args"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(strings.ReplaceAll(string(args), b.Source, "SRC"), b.Output, "OUT")
	if !strings.HasPrefix(got, "-C SRC O=OUT -j") || !strings.HasSuffix(got, " CC=gcc LOCALVERSION= CF=-D__typeof_unqual__=__typeof__ bzImage\npatchgen//C\n") {
		t.Errorf("make was run so: %s", got)
	}
}

type stages struct {
	name string
	done int64
	end  bool
}

func (s *stages) Stage(name string, _ int64, _ string) { s.name = name }
func (s *stages) Step(done int64)                      { s.done = done }
func (s *stages) End()                                 { s.end = true }

func TestMakeFails(t *testing.T) {
	tools(t, `echo "a.c:3:4: error: no such thing" >&2; exit 2`)
	b := newBuild(t)
	_, err := b.Make(t.Context(), "a.o")
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want *Error", err)
	}
	want := "make a.o: exit status 2:\n\ta.c:3:4: error: no such thing\n(all of the output is in " + failed.Log + ")"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
	if log, err := os.ReadFile(failed.Log); err != nil || !strings.Contains(string(log), "no such thing") {
		t.Errorf("log %q, %v", log, err)
	}
}

func TestMakeIsStopped(t *testing.T) {
	tools(t, "sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := newBuild(t).Make(ctx, "a.o"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestCheck(t *testing.T) {
	tools(t, `echo "$*" > $O/args; echo "  CHECK   a.c"; echo "a.c:1:1: warning: odd"`)
	b := newBuild(t)
	made, err := b.check(t.Context(), "a.o")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]Warning{"a.o": {{"a.c", "odd"}}}, made.units); diff != "" {
		t.Error(diff)
	}
	args, err := os.ReadFile(filepath.Join(b.Output, "args"))
	if err != nil || !strings.Contains(string(args), " -k W=1 C=1 ") {
		t.Errorf("make was run with %s, %v", args, err)
	}
	tools(t, `echo "Makefile:1311: C=1 specified, but sparse is not available or not up to date" >&2`)
	if _, err := b.check(t.Context(), "a.o"); err == nil || err.Error() != "sparse was not run: C=1 specified, but sparse is not available or not up to date" {
		t.Errorf("got %v", err)
	}
}

func TestNeed(t *testing.T) {
	tools(t, "", "flex", "sparse", "qemu-system-x86_64")
	err := Need(t.Context(), "sparse", "qemu-system-x86_64")
	var missing *MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("got %v, want *MissingError", err)
	}
	want := "flex, sparse, qemu-system-x86_64 are missing: install the packages flex qemu-system-x86 sparse"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
	if _, err := newBuild(t).Make(t.Context(), "a.o"); !errors.As(err, &missing) {
		t.Errorf("Make: got %v, want *MissingError", err)
	}
	tools(t, "")
	if err := Need(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestQEMUConfig(t *testing.T) {
	c := QEMUConfig()
	for _, name := range []string{"64BIT", "SWIOTLB_XEN", "KUNIT", "SERIAL_8250_CONSOLE"} {
		if c[name] != "y" {
			t.Errorf("CONFIG_%s is %q", name, c[name])
		}
	}
}

func TestConfigure(t *testing.T) {
	// Linux's answer: NET stays, FOO goes for lack of BAR, GONE is not known.
	tools(t, `for a; do case $a in KCONFIG_ALLCONFIG=*) cat ${a#*=} > $O/wanted;; esac; done; echo "CONFIG_NET=y" > $O/.config`)
	b := newBuild(t)
	for name, text := range map[string]string{
		"net/Kconfig": "config NET\n\tbool \"net\"\n",
		"lib/Kconfig.debug": "menuconfig FOO\n\tbool \"foo\"\n\tdepends on BAR || BAZ\n\tdepends on !QUX\n\thelp\n\t  text\n" +
			"config OTHER\n\tbool\n\tdepends on NEVER\n",
		"arch/arm/Kconfig": "config GONE\n\tdepends on ARM\n",
	} {
		file := filepath.Join(b.Source, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Configure(t.Context(), kconfig.Config{"NET": "y"}); err != nil {
		t.Fatal(err)
	}
	wanted, err := os.ReadFile(filepath.Join(b.Output, "wanted"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("CONFIG_NET=y\n", string(wanted)); diff != "" {
		t.Error(diff)
	}

	err = b.Configure(t.Context(), kconfig.Config{"NET": "y", "FOO": "y", "GONE": "m"})
	var lost *LostError
	if !errors.As(err, &lost) {
		t.Fatalf("got %v, want *LostError", err)
	}
	want := `the tree's Kconfig does not take the configuration:
	CONFIG_FOO: want y, got nothing; depends on BAR || BAZ; depends on !QUX
	CONFIG_GONE: want m, got nothing; the tree has no such symbol`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}
