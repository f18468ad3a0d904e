//go:build kernel

package kerneltest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
	"patchgen/qemubuild"
	patches "patchgen/series"
)

var qemuTree = flag.String("qemu-tree", "debian:qemu", "tree of QEMU that TestQEMUSeries works on")

// TestQEMUSeries judges the series that patchgen emits for QEMU: by git am, by what is
// kept in patches/, by the tree's checkpatch.pl, by the compiler after each patch, and by
// the qtests that it adds.
func TestQEMUSeries(t *testing.T) {
	patchgen := newTester(t).patchgen
	w := openWork(t, *qemuTree)
	tree, err := ktree.Open(t.Context(), *qemuTree, ktree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	emit := func(args ...string) string {
		dir := t.TempDir()
		t.Log(w.run(t, dir, nil, patchgen, append([]string{"emit", "--series", "qemu-page-dirtying", "--tree", absolute(t, *qemuTree), "-o", dir,
			"--from", "A U Thor <author@example.org>", "--date", "2026-01-02T03:04:05Z"}, args...)...))
		return dir
	}
	dir := emit("--signoff")
	s := w.readSeries(t, dir)
	step(t, "am", s.am)
	step(t, "kept", func(t *testing.T) { keptAs(t, tree, emit()) })
	step(t, "checkpatch", s.qemuCheckpatch)
	step(t, "check", func(t *testing.T) {
		t.Log(w.run(t, dir, nil, patchgen, "check", dir, "--tree", absolute(t, *qemuTree)))
	})
	if !*compile {
		return
	}
	mails, err := patches.ReadPatches(dir)
	if err != nil {
		t.Fatal(err)
	}
	step(t, "compile", func(t *testing.T) {
		steps, err := patches.Steps(tree, mails)
		if err != nil {
			t.Fatal(err)
		}
		checked, err := qemubuild.CheckPatches(t.Context(), tree, steps, qemubuild.Options{Progress: &lines{}})
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range checked.Patches {
			if p.Err != nil {
				t.Errorf("patch %d: %v", i+1, p.Err)
			}
			for _, warning := range p.New {
				t.Errorf("patch %d: %s", i+1, warning)
			}
		}
	})
	step(t, "qtest", func(t *testing.T) {
		changes, err := patches.Apply(tree, mails)
		if err != nil {
			t.Fatal(err)
		}
		q, err := qemubuild.Build(t.Context(), tree, changes, qemubuild.Options{Progress: &lines{}, Check: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(q.Checked) == 0 {
			t.Error("the series adds no qtest")
		}
		out, err := exec.CommandContext(t.Context(), q.Binary, append(q.Args(), "-M", "q35", "-device", "pcie-root-port,help")...).CombinedOutput()
		t.Logf("%v passed in %s", q.Checked, q.Binary)
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// keptAs compares a series with what is kept in patches/, or keeps it with -update.
func keptAs(t *testing.T, tree *ktree.Tree, made string) {
	r := tree.Release()
	kept := filepath.Join("..", "patches", fmt.Sprintf("qemu-%d.%d", r.Version, r.Patchlevel))
	if *update {
		if err := errors.Join(os.RemoveAll(kept), os.CopyFS(kept, os.DirFS(made))); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, got := readMails(t, kept), readMails(t, made)
	if tree := appliesTo(want); tree != appliesTo(got) {
		say("%s is for %s, the tree is now %s: changes are compared, and neither lines nor context", kept, tree, appliesTo(got))
		want, got = changes(t, want), changes(t, got)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is not what patchgen writes now; go test -tags kernel ./kerneltest -run TestQEMUSeries -update (-kept +made):\n%s", kept, diff)
	}
}

// qemuCheckpatch has the tree's checkpatch.pl read the patches. It may say nothing, but
// that MAINTAINERS should have new files if another patch of the series puts them there.
func (s *series) qemuCheckpatch(t *testing.T) {
	updated := strings.Contains(s.git(t, "diff", "--name-only", s.base, s.commits[len(s.commits)-1]), "MAINTAINERS")
	for _, file := range s.patches {
		cmd := s.command(t, s.src(), nil, "perl", "scripts/checkpatch.pl", "--strict", "--no-summary", "--terse", "--color=never", "--patch", file)
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1 && len(out) > 0) {
			t.Errorf("%s: %v\n%s", filepath.Base(file), err, out)
		}
		for line := range strings.Lines(string(out)) {
			if !updated || !strings.Contains(line, "does MAINTAINERS need updating?") {
				t.Error(strings.TrimSpace(line))
			}
		}
	}
}
