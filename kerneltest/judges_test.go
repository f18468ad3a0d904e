//go:build kernel

package kerneltest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"patchgen/kbuild"
	"patchgen/qemutest"
)

const direct = "kernel/dma/direct.c"

// toy makes a series of one patch that appends text to direct.c, as git
// itself writes it.
func (w *work) toy(t *testing.T, text string) *series {
	w.checkout(t, w.base)
	w.change(t, direct, func(src string) string { return src + text })
	w.git(t, "commit", "-q", "-a", "-s", "-m", "dma-direct: change something\n\nIt was not as it should be. Now it is.")
	dir := t.TempDir()
	w.git(t, "-c", "core.abbrev=12", "format-patch", "-q", "--cover-letter", "-o", dir, w.base)
	return w.readSeries(t, dir)
}

func (w *work) change(t *testing.T, name string, f func(string) string) {
	name = filepath.Join(w.src(), name)
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	after := f(string(src))
	if after == string(src) {
		t.Fatalf("%s was not changed", name)
	}
	if err := os.WriteFile(name, []byte(after), 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestJudges breaks things on purpose: each of the judges of TestSeries must
// see it.
func TestJudges(t *testing.T) {
	w := openWork(t, specs()[0])

	t.Run("honest", func(t *testing.T) {
		s := w.toy(t, "\nstatic void __maybe_unused honest(void)\n{\n}\n")
		step(t, "am", s.am)
		step(t, "checkpatch", s.checkpatch)
	})

	t.Run("trailing white space", func(t *testing.T) {
		s := w.toy(t, "\n/* behind it */ \n")
		if err := s.apply(t); err == nil || !strings.Contains(err.Error(), "trailing whitespace") {
			t.Errorf("git am: %v", err)
		}
		findings, err := s.findings(t, 1, s.patches[0])
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(findings, func(f finding) bool { return f.kind == "TRAILING_WHITESPACE" && f.file == direct })
		if i < 0 {
			t.Fatalf("checkpatch.pl finds %v", findings)
		}
		for cover, want := range map[string]bool{
			"TRAILING_WHITESPACE in\n2/2":                    false,
			"nothing in 1/1":                                 false,
			"TRAILING_WHITESPACE in\n1/1: wanted":            true,
			" - kernel/dma/direct.c: TRAILING_WHITESPACE":    true,
			" - TRAILING_WHITESPACE\n - kernel/dma/direct.c": false,
		} {
			s.cover = cover
			if got := s.explained(findings[i]); got != want {
				t.Errorf("cover letter %q: explained is %t", cover, got)
			}
		}
	})

	t.Run("message", func(t *testing.T) {
		s := w.toy(t, "\n/* fine */\n")
		edit(t, s.patches[0], func(p string) string { return strings.ReplaceAll(p, "Signed-off-by:", "Signed by:") })
		findings, err := s.findings(t, 1, s.patches[0])
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(findings, func(f finding) bool { return f.kind == "MISSING_SIGN_OFF" }) {
			t.Errorf("checkpatch.pl finds %v", findings)
		}
	})

	t.Run("offset", func(t *testing.T) {
		s := w.toy(t, "\n/* fine */\n")
		edit(t, s.patches[0], func(p string) string {
			before, after, _ := strings.Cut(p, "\n@@ -")
			return before + "\n@@ -1" + after
		})
		if err := s.apply(t); err != nil {
			return // git am did not even take it
		}
		dir := t.TempDir()
		s.git(t, "-c", "core.abbrev=12", "format-patch", "-q", "--numbered", "-o", dir, s.base)
		if err := samePatches(s.patches, dir); err == nil {
			t.Error("nobody saw the wrong line number")
		}
	})

	t.Run("kconfig", func(t *testing.T) {
		entry := "\nconfig " + option + "\n\tbool \"SWIOTLB page dirtying\"\n\tdepends on X86_64 && SWIOTLB\n"
		entryOfTests := "\nconfig " + tests + "\n\tbool \"tests\" if !KUNIT_ALL_TESTS\n\tdepends on " + option + " && KUNIT=y\n\tdefault KUNIT_ALL_TESTS\n"
		for _, test := range []struct {
			name, entry, before, want string
		}{
			{"right", entry, "config GART_IOMMU\n", ""},
			{"default y", entry + "\tdefault y\n", "config GART_IOMMU\n", "does not list CONFIG_" + option + "=n"},
			{"wrong menu", entry, "menu \"Bus options (PCI etc.)\"\n", "does not stand once in the menu"},
			{"no prompt", strings.Replace(entry, "bool \"SWIOTLB page dirtying\"", "bool", 1), "config GART_IOMMU\n", "does not list CONFIG_" + option + "=n"},
		} {
			t.Run(test.name, func(t *testing.T) {
				w.checkout(t, w.base)
				w.change(t, "arch/x86/Kconfig", func(src string) string {
					return strings.Replace(src, test.before, test.entry[1:]+"\n"+test.before, 1)
				})
				w.change(t, "kernel/dma/Kconfig", func(src string) string { return src + entryOfTests })
				err := w.judgeKconfig(t)
				if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
					t.Errorf("got %v, want %q", err, test.want)
				}
			})
		}
	})

	t.Run("boot", func(t *testing.T) {
		const passed = "KTAP version 1\n1..1\n    # Subtest: dma_mark_dirty\n    1..1\n    ok 1 a\nok 1 dma_mark_dirty\n"
		for _, r := range []qemutest.Result{
			{Console: []byte(passed), End: qemutest.TimedOut},
			{Console: []byte(strings.Replace(passed, "    ok 1 a\n", "", 1))},
			{Console: []byte(strings.Replace(passed, "ok 1 a", "ok 1 a # SKIP", 1))},
			{Console: []byte("WARNING: CPU: 0 PID: 1 at kernel/dma/direct.c:1 f\n" + passed)},
		} {
			if testsPassed(r, []string{suite}) == nil {
				t.Errorf("passes: %v %s", r.End, r.Console)
			}
		}
		if err := testsPassed(qemutest.Result{Console: []byte(passed)}, []string{suite}); err != nil {
			t.Error(err)
		}
	})

	if !*compile {
		return
	}
	// One series, in which each patch puts another text behind the file.
	steps := []struct{ name, text, want string }{
		{"honest", "\nstatic void __maybe_unused honest(void)\n{\n}\n", ""},
		{"gcc", "\nstatic int __maybe_unused sets(void)\n{\n\tint unused;\n\n\tunused = 1;\n\treturn 0;\n}\n", "direct.c: variable 'unused' set but not used"},
		{"mended", "\nstatic int __maybe_unused sets(void)\n{\n\treturn 0;\n}\n", ""},
		{"sparse", "\nstatic int __maybe_unused reads(int __user *p)\n{\n\treturn *p;\n}\n", "direct.c: dereference of noderef expression"},
		{"kernel-doc", "\n/**\n * told() - do it\n */\nstatic void __maybe_unused told(int a)\n{\n}\n", "'a' not described in 'told'"},
		{"syntax", "\nint broken(void) { return 1\n", "direct.c:"},
		{"mended again", "\n/* nothing */\n", ""},
	}
	w.checkout(t, w.base)
	text := string(w.blob(t, w.base, direct))
	s := &series{work: w, commits: []string{w.base}}
	for _, step := range steps {
		w.change(t, direct, func(string) string { return text + step.text })
		w.git(t, "commit", "-q", "-a", "-m", step.name)
		s.commits = append(s.commits, w.git(t, "rev-parse", "HEAD"))
	}
	checked := s.check(t)
	for i, step := range steps {
		t.Run("compile/"+step.name, func(t *testing.T) {
			p := checked.Patches[i]
			err := blame(p.Off)
			if step.want == "" && err != nil || step.want != "" && (err == nil || !strings.Contains(err.Error(), step.want)) {
				t.Errorf("got %v, want %q", err, step.want)
			}
			t.Log(err)
			if p.On != nil {
				t.Errorf("there is nothing to turn on: %v", *p.On)
			}
			if !slices.Equal(p.Off.Compiled, []string{direct}) || p.Off.NotCompiled != nil {
				t.Errorf("compiled: %v, not compiled: %v", p.Off.Compiled, p.Off.NotCompiled)
			}
			if step.name == "syntax" && (!strings.Contains(err.Error(), "error: ") || strings.Count(err.Error(), "\n") > 15) {
				t.Errorf("these are not the telling lines: %v", err)
			}
			// What one patch brings goes with the next that compiles.
			var gone []kbuild.Warning
			if i > 0 && step.name != "syntax" {
				gone = checked.Patches[i-1].Off.New
			}
			if step.name == "mended again" {
				gone = checked.Patches[i-2].Off.New
			}
			if !slices.Equal(p.Off.Gone, gone) {
				t.Errorf("gone: %v, want %v", p.Off.Gone, gone)
			}
		})
	}
}

func edit(t *testing.T, file string, f func(string) string) {
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(f(string(src))), 0o666); err != nil {
		t.Fatal(err)
	}
}
