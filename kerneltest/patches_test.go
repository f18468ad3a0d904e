//go:build kernel

package kerneltest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
)

var update = flag.Bool("update", false, "write patches/ anew")

// TestPatches writes the series for the reference trees again and compares it
// with what is kept in patches/.
func TestPatches(t *testing.T) {
	for _, spec := range specs() {
		t.Run(spec, func(t *testing.T) {
			tree, err := ktree.Open(t.Context(), spec, ktree.Options{Progress: &lines{}})
			if err != nil {
				t.Fatal(err)
			}
			r := tree.Release()
			tree.Close()
			kept := filepath.Join("..", "patches", fmt.Sprintf("%d.%d", r.Version, r.Patchlevel))
			made := filepath.Join(t.TempDir(), "out")
			cmd := exec.CommandContext(t.Context(), "go", "run", "../cmd/patchgen", "emit", "--tree", absolute(t, spec), "-o", made,
				"--from", "A U Thor <author@example.org>", "--date", "2026-01-02T03:04:05Z")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if *update {
				if err := errors.Join(os.RemoveAll(kept), os.CopyFS(kept, os.DirFS(made))); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, got := readMails(t, kept), readMails(t, made)
			if tree := appliesTo(want); tree != appliesTo(got) {
				say("patches/ is for %s, the tree is now %s: changes are compared, and neither lines nor context", tree, appliesTo(got))
				want, got = changes(t, want), changes(t, got)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("patches/ is not what patchgen writes now; go test -tags kernel ./kerneltest -run TestPatches -update (-kept +made):\n%s", diff)
			}
		})
	}
}

var (
	gitVersion = regexp.MustCompile(`\n-- \n\S+\n+$`)
	appliesRE  = regexp.MustCompile(`(?m)^Applies to (.*(?:\n.+)*)`)
)

// readMails returns the mails of a folder by name, without the version of git.
func readMails(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%s has no series: %v %v", dir, files, err)
	}
	mails := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		mails[filepath.Base(file)] = string(gitVersion.ReplaceAll(text, nil))
	}
	return mails
}

func appliesTo(mails map[string]string) string {
	m := appliesRE.FindStringSubmatch(mails["0000-cover-letter.patch"])
	if m == nil {
		return ""
	}
	return m[1]
}

// changes reduces mails to what does not depend on the point release: messages,
// and the lines that are added to and removed from each file.
func changes(t *testing.T, mails map[string]string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for name, text := range mails {
		files, message, err := gitdiff.Parse(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// The first line has the commit's name, the diffstat is said by the lines.
		_, message, _ = strings.Cut(message, "\n")
		message, _, _ = strings.Cut(message, "\n---\n")
		if name == "0000-cover-letter.patch" {
			message = appliesRE.ReplaceAllString(message, "")
			out[name] = message
			continue
		}
		var b bytes.Buffer
		fmt.Fprintln(&b, message)
		added := 0
		for _, f := range files {
			fmt.Fprintln(&b, "file", f.OldName, f.NewName)
			for _, frag := range f.TextFragments {
				for _, line := range frag.Lines {
					if line.Op != gitdiff.OpContext {
						fmt.Fprint(&b, line.Op, line.Line)
						added++
					}
				}
			}
		}
		if added == 0 {
			t.Errorf("%s changes nothing", name)
		}
		out[name] = b.String()
	}
	return out
}

// The comparison across point releases sees a changed line, and does not see
// where it stands.
func TestChanges(t *testing.T) {
	const mail = "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nSubject: x\n\nbody\n---\n f | 1 +\n\n" +
		"diff --git a/f b/f\nindex %s..%s 100644\n--- a/f\n+++ b/f\n@@ -%d,2 +%d,3 @@\n %s\n+%s\n b\n"
	one := map[string]string{"0001-x.patch": fmt.Sprintf(mail, "111111111111", "222222222222", 1, 1, "a", "new")}
	moved := map[string]string{"0001-x.patch": fmt.Sprintf(mail, "333333333333", "444444444444", 7, 7, "other", "new")}
	other := map[string]string{"0001-x.patch": fmt.Sprintf(mail, "111111111111", "222222222222", 1, 1, "a", "old")}
	if diff := cmp.Diff(changes(t, one), changes(t, moved)); diff != "" {
		t.Errorf("a moved hunk is another change:\n%s", diff)
	}
	if cmp.Equal(changes(t, one), changes(t, other)) {
		t.Error("another line is the same change")
	}
	if !slices.Contains(strings.Split(changes(t, one)["0001-x.patch"], "\n"), "+new") {
		t.Errorf("no +new in %q", changes(t, one)["0001-x.patch"])
	}
}
