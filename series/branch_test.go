package series

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

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage"
	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
)

// open opens a repository.
func open(t testing.TB, dir string) *git.Repository {
	t.Helper()
	tree, err := ktree.Open(context.Background(), dir, ktree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree.Repository()
}

// snapshot returns all that is in a repository and its worktree, but for the
// objects, the branch feature/topic, and folders.
func snapshot(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	pairs := list(t, dir)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(pairs[i], "objects/") && !strings.HasSuffix(pairs[i], "heads/feature/topic") && !strings.HasSuffix(pairs[i], "/") {
			all = append(all, pairs[i], pairs[i+1])
		}
	}
	return all
}

func TestBranch(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, dir string) (repo string) // from a clone
	}{
		{"plain", func(t *testing.T, dir string) string { return dir }},
		{"packed", func(t *testing.T, dir string) string {
			judge(t, dir, "gc", "-q")
			judge(t, dir, "pack-refs", "--all")
			return dir
		}},
		{"bare", func(t *testing.T, dir string) string {
			judge(t, dir, "clone", "-q", "--bare", ".", "bare")
			return dir + "/bare"
		}},
		{"alternates", func(t *testing.T, dir string) string {
			judge(t, dir, "clone", "-q", "--shared", ".", "shared")
			return dir + "/shared"
		}},
		{"linked worktree", func(t *testing.T, dir string) string {
			judge(t, dir, "worktree", "add", "-q", "linked", "-b", "other")
			return dir + "/linked"
		}},
		{"git folder elsewhere", func(t *testing.T, dir string) string {
			judge(t, dir, "clone", "-q", "--separate-git-dir", "elsewhere", ".", "sub")
			return dir + "/sub"
		}},
		{"changed worktree and index", func(t *testing.T, dir string) string {
			put(t, dir+"/README", "changed")
			put(t, dir+"/new", "new")
			judge(t, dir, "add", "new")
			return dir
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := simple(2)
			dir, base := clone(t, s)
			at := c.prepare(t, dir)
			before := snapshot(t, dir)
			tip, err := s.Branch(context.Background(), open(t, at), plumbing.NewHash(base), "feature/topic", thor, true)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("more than the branch has changed:\n%s", diff)
			}
			if got := strings.TrimSpace(judge(t, at, "rev-parse", "refs/heads/feature/topic")); got != tip.String() {
				t.Errorf("the branch is at %s, not at %s", got, tip)
			}
			judge(t, at, "fsck", "--strict", "--no-dangling")
		})
	}
}

// TestBranchObjects checks the modes of new objects.
func TestBranchObjects(t *testing.T) {
	t.Parallel()
	s := simple(2)
	dir, base := clone(t, s)
	if _, err := s.Branch(context.Background(), open(t, dir), plumbing.NewHash(base), "topic", thor, false); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := filepath.WalkDir(dir+"/.git/objects", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		if info, err := d.Info(); err != nil || info.Mode() != 0o444 {
			t.Errorf("%s has mode %v (%v)", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil || n < 10 {
		t.Errorf("%d objects, %v", n, err)
	}
}

func TestBranchLog(t *testing.T) {
	t.Parallel()
	s := simple(2)
	dir, base := clone(t, s)
	if _, err := s.Branch(context.Background(), open(t, dir), plumbing.NewHash(base), "topic", thor, false); err != nil {
		t.Fatal(err)
	}
	got := judge(t, dir, "reflog", "--date=raw", "--format=%gn <%ge> %gd %gs", "topic")
	if want := fmt.Sprintf("A U Thor <author@example.org> topic@{%d +0330} branch: Created by patchgen\n", thor.When.Unix()); got != want {
		t.Errorf("got reflog %q, want %q", got, want)
	}
}

func TestBranchRefuses(t *testing.T) {
	t.Parallel()
	s := simple(2)
	dir, base := clone(t, s)
	judge(t, dir, "branch", "loose")
	judge(t, dir, "branch", "packed")
	judge(t, dir, "branch", "deep/er")
	judge(t, dir, "pack-refs", "--all")
	judge(t, dir, "branch", "-f", "loose")
	judge(t, dir, "tag", "a-tag")
	put(t, dir+"/.git/refs/heads/locked.lock", "")
	blob, tree := strings.TrimSpace(judge(t, dir, "rev-parse", "main:mm/mark.c")), strings.TrimSpace(judge(t, dir, "rev-parse", "main^{tree}"))
	stream := ""
	for name, change := range map[string]string{ // other bases
		"changed":    "M 100644 inline mm/mark.c\ndata 1\nx\n",
		"gone":       "D mm/mark.c\n",
		"there":      "M 100644 inline mm/new/0.h\ndata 1\nx\n",
		"executable": "M 100755 " + blob + " mm/mark.c\n",
		"link":       "M 120000 " + blob + " mm/mark.c\n",
		"folder":     "M 100644 inline mm/new\ndata 1\nx\n",
	} {
		stream += fmt.Sprintf("commit refs/tags/%s\ncommitter C <c@example.org> 0 +0000\ndata 0\nfrom %s\n%s\n", name, base, change)
	}
	put(t, dir+"/.git/stream", stream)
	judge(t, dir, "-c", "alias.import=!git fast-import --quiet <.git/stream", "import")
	at := func(name string) string { return strings.TrimSpace(judge(t, dir, "rev-parse", name)) }

	for _, c := range []struct{ name, base, branch, want string }{
		{"loose branch", base, "loose", "the branch loose exists"},
		{"packed branch", base, "packed", "the branch packed exists"},
		{"below a branch", base, "loose/x", "branch loose/x: git update-ref: "},
		{"below a packed branch", base, "packed/x", "branch packed/x: git update-ref: "},
		{"above a branch", base, "deep", "branch deep: git update-ref: "},
		{"locked", base, "locked", "branch locked: git update-ref: "},
		{"bad name", base, "a..b", `"a..b" is no name for a branch`},
		{"option", base, "-d", `"-d" is no name for a branch`},
		{"HEAD", base, "HEAD", `"HEAD" is no name for a branch`},
		{"unknown base", "0123456789012345678901234567890123456789", "topic", "commit 0123456789012345678901234567890123456789: object not found"},
		{"base is a tree", tree, "topic", "commit " + tree + ": "},
		{"file changed", at("changed"), "topic", `patch 1, "mm: take step 1": mm/mark.c is not the same in the base as in the tree`},
		{"file gone", at("gone"), "topic", "mm/mark.c is not in the base"},
		{"new file there", at("there"), "topic", "mm/new/0.h is in the base, though the series adds it"},
		{"executable", at("executable"), "topic", "mm/mark.c has mode 100755 in the base"},
		{"link", at("link"), "topic", "mm/mark.c has mode 120000 in the base"},
		{"folder is a file", at("folder"), "topic", "mm/new/0.h goes through new, which is no folder"},
	} {
		before := snapshot(t, dir)
		_, err := s.Branch(context.Background(), open(t, dir), plumbing.NewHash(c.base), c.branch, thor, false)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q", c.name, err, c.want)
		}
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Errorf("%s: something has changed:\n%s", c.name, diff)
		}
	}
	if _, err := s.Branch(context.Background(), open(t, dir), plumbing.NewHash(base), "a-tag", thor, false); err != nil {
		t.Errorf("a branch with the name of a tag: %v", err)
	}
	author := thor
	author.Email = ""
	if _, err := s.Branch(context.Background(), open(t, dir), plumbing.NewHash(base), "topic", author, false); err == nil {
		t.Error("no error without an e-mail address")
	}
}

// TestBranchName compares what is refused with git.
func TestBranchName(t *testing.T) {
	t.Parallel()
	s := simple(2)
	dir, base := clone(t, s)
	for _, name := range []string{
		"a", "a/b", "A.b", "ö", "a-b", "a@b", "a}b", "refs/heads/x", "a.", "a/", "/a", "a//b", ".a", "a/.b", "a..b", "a.lock", "a.lock/b", "a b", "a~b", "a^b", "a:b", "a?b", "a*b", "a[b", "a\\b",
		"a@{b", "@", "-a", "a/-b", "a\tb", "a\nb", "a\x7fb", "", "HEAD", "b/HEAD", "a;b", "$(a)", "\"a\"",
	} {
		cmd := exec.Command("git", "check-ref-format", "--branch", name)
		cmd.Dir, cmd.Env = dir, gitEnv(dir)
		good := cmd.Run() == nil && name != "HEAD" && name != "@" // which git branch refuses
		_, err := s.Branch(context.Background(), open(t, dir), plumbing.NewHash(base), name, thor, false)
		if (err == nil) != good {
			t.Errorf("%q: got error %v, but to git it is good: %v", name, err, good)
		}
		if err == nil {
			judge(t, dir, "branch", "-q", "-D", name)
		}
	}
}

// A late is a repository in which something else happens when the first object
// is stored.
type late struct {
	storage.Storer
	happen func()
}

func (l *late) SetEncodedObject(o plumbing.EncodedObject) (plumbing.Hash, error) {
	if l.happen != nil {
		l.happen()
		l.happen = nil
	}
	return l.Storer.SetEncodedObject(o)
}

func (l *late) Filesystem() billy.Filesystem {
	return l.Storer.(interface{ Filesystem() billy.Filesystem }).Filesystem()
}

// TestBranchLate has another process make the branch in the meantime.
func TestBranchLate(t *testing.T) {
	t.Parallel()
	s := simple(2)
	dir, base := clone(t, s)
	repo, err := git.Open(&late{open(t, dir).Storer, func() { judge(t, dir, "branch", "topic") }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Branch(context.Background(), repo, plumbing.NewHash(base), "topic", thor, false)
	if err == nil || !strings.Contains(err.Error(), "branch topic: git update-ref: ") {
		t.Errorf("got error %v", err)
	}
	if got := strings.TrimSpace(judge(t, dir, "rev-parse", "topic")); got != base {
		t.Errorf("the branch went from %s to %s", base, got)
	}
}

func BenchmarkBranch(b *testing.B) {
	s := kernelSized()
	dir, base := clone(b, s)
	for i := 0; b.Loop(); i++ {
		author := thor
		author.Name = fmt.Sprint("Number ", i)
		if _, err := s.Branch(context.Background(), open(b, dir), plumbing.NewHash(base), fmt.Sprint("topic-", b.N, "-", i), author, false); err != nil {
			b.Fatal(err)
		}
	}
}

func TestBranchWithoutGit(t *testing.T) {
	s := simple(2)
	dir, base := clone(t, s)
	repo := open(t, dir)
	t.Setenv("PATH", t.TempDir())
	_, err := s.Branch(context.Background(), repo, plumbing.NewHash(base), "topic", thor, false)
	var missing *MissingGitError
	if !errors.As(err, &missing) {
		t.Errorf("got error %v", err)
	}
	if _, err := os.Stat(dir + "/.git/refs/heads/topic"); err == nil {
		t.Error("the branch is there")
	}
}
