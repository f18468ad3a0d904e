package ktree

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	first, second := gitRun(t, clone, "rev-parse", "HEAD~1"), gitRun(t, clone, "rev-parse", "HEAD")
	gitRun(t, clone, "checkout", "-q", "-b", "side", first)
	gitCommit(t, clone, map[string]string{"mm/side.c": "\n"})
	gitRun(t, clone, "checkout", "-q", "-b", "third", first)
	gitCommit(t, clone, map[string]string{"mm/third.c": "\n"})
	gitRun(t, clone, "checkout", "-q", "master")
	gitRun(t, clone, "merge", "-q", "-m", "an octopus", "side", "third")
	gitRun(t, clone, "tag", "light", first)
	gitRun(t, clone, "tag", "-a", "-m", "x", "v6.12", second)
	gitRun(t, clone, "tag", "-a", "-m", "x", "of-tag", "v6.12")
	gitRun(t, clone, "branch", "topic/dma-v2", first)
	gitRun(t, clone, "branch", first[:6], second) // as a short hash would be
	gitRun(t, clone, "update-ref", "refs/remotes/origin/next", first)
	gitRun(t, clone, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/next")
	gitRun(t, clone, "tag", "of-tree", "HEAD^{tree}")

	check := func(t *testing.T) {
		revs := []string{
			"HEAD", "@", "@~1", "@^", "master", "heads/master", "refs/heads/master", "side", "light", "tags/light", "v6.12", "of-tag", "of-tag^{}",
			"topic/dma-v2", "origin/next", "origin", first, first[:7], second[:12], first[:6],
			"HEAD~", "HEAD~1", "HEAD~2", "HEAD~0", "HEAD^", "HEAD^1", "HEAD^2", "HEAD^3", "HEAD^0", "HEAD^2~1", "HEAD~1^1", "HEAD^^", "HEAD~~",
			"v6.12^{commit}", "v6.12^{}~1", "v6.12-3-g" + first[:8], second[:10] + "~1",
		}
		args := []string{"rev-parse"}
		for _, rev := range revs {
			args = append(args, rev+"^{commit}")
		}
		judge := strings.Fields(gitRun(t, clone, args...))
		for i, rev := range revs {
			want := judge[i]
			tree, err := Open(t.Context(), clone+"@"+rev, Options{})
			if err != nil {
				t.Errorf("%s: %v", rev, err)
				continue
			}
			if tree.Commit() != want {
				t.Errorf("%s is %s, want %s", rev, tree.Commit(), want)
			}
			tree.Close()
		}
	}
	t.Run("loose", check)
	gitRun(t, clone, "gc", "-q")
	t.Run("packed", check)

	for _, test := range []struct{ rev, want string }{
		{"none", `no branch, tag or commit "none"`},
		{"abcdef0", `no branch, tag or commit "abcdef0"`},
		{"0123456789012345678901234567890123456789", "no commit 0123456789"},
		{"of-tree", "is a tree and no commit"},
		{"HEAD~9", "has no parent 1"},
		{"HEAD^4", "has no parent 4"},
		{"HEAD~99999999999999999999", "no such parent"},
		{"HEAD@{1}", "patchgen does not know"},
		{"HEAD:Makefile", "patchgen does not know"},
		{"HEAD^{/fix}", "patchgen does not know"},
		{gitRun(t, clone, "rev-parse", "HEAD:Makefile"), "is a blob and no commit"},
	} {
		refuse(t, clone+"@"+test.rev, clone, test.want)
	}
}

func TestResolveAmbiguous(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	s, err := openStore(filepath.Join(clone, ".git"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	head, err := resolve(t.Context(), s, "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	// Commits until two of them begin with the same 4 digits.
	prefix := ""
	for seen, i := map[string]bool{}, 0; prefix == ""; i++ {
		c := *head
		c.Message = fmt.Sprint(i)
		o := &plumbing.MemoryObject{}
		if err := c.Encode(o); err != nil {
			t.Fatal(err)
		}
		digits := o.Hash().String()[:4]
		if seen[digits] {
			prefix = digits
		}
		seen[digits] = true
		if _, err := s.SetEncodedObject(o); err != nil {
			t.Fatal(err)
		}
	}
	refuse(t, clone+"@"+prefix, "fits more than one commit")
	gitRun(t, clone, "branch", prefix)
	if got := open(t, clone+"@"+prefix).Commit(); got != head.Hash.String() {
		t.Errorf("branch %s is %s", prefix, got)
	}
}

func FuzzRevision(f *testing.F) {
	clone := newClone(f)
	gitRun(f, clone, "gc", "-q")
	s, err := openStore(filepath.Join(clone, ".git"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	for _, rev := range []string{"HEAD~1^0", "@", "master^{}", "v1-2-gabcd", "0000", "~", "^{", "@{u}", "refs/../HEAD", "HEAD~1~1~1"} {
		f.Add(rev)
	}
	f.Fuzz(func(t *testing.T, rev string) {
		c, err := resolve(t.Context(), s, rev)
		if (c == nil) == (err == nil) {
			t.Errorf("%v, %v", c, err)
		}
	})
}
