//go:build kernel

package kerneltest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"patchgen/kbuild"
	"patchgen/ktree"
)

// A work is a place in the cache where a tree stands as a git repository, and
// where it is compiled. The source path is always the same, so that a build
// takes up what the one before left.
type work struct {
	spec string
	dir  string // has src, a git repository, and the output folders
	base string // commit with the tree as it is
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// openWork brings the tree into a repository of its own and locks that until the
// test ends. Git's index of it is kept: what did not change is not read again.
func openWork(t *testing.T, spec string) *work {
	tree, err := ktree.Open(t.Context(), spec, ktree.Options{Progress: &lines{}})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if tree.Dir() == "" {
		t.Fatalf("%s: these tests need a tree with all its files in a folder", spec)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	w := &work{spec: spec, dir: filepath.Join(cache, "patchgen", "kerneltest", unfit.ReplaceAllString(spec, "-"))}
	if err := os.MkdirAll(w.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(w.dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}

	say("%s: %s", spec, tree.Origin())
	w.run(t, w.dir, nil, "git", "init", "-q", "src")
	w.git(t, "config", "gc.auto", "0") // which would come in between, and print
	snapshot := []string{
		"GIT_DIR=" + filepath.Join(w.src(), ".git"),
		"GIT_WORK_TREE=" + tree.Dir(),
		"GIT_INDEX_FILE=" + filepath.Join(w.dir, "index"),
	}
	// Files above that size go into one pack, which is much sooner written than
	// 80000 files.
	w.run(t, tree.Dir(), snapshot, "git", "-c", "core.bigFileThreshold=1", "add", "--all", "--force", ".")
	id := w.run(t, tree.Dir(), snapshot, "git", "write-tree")
	w.base = w.git(t, "commit-tree", "-m", tree.Origin(), id)
	w.git(t, "update-ref", "refs/heads/base", w.base)
	// A run that was stopped may have left these.
	os.RemoveAll(filepath.Join(w.src(), ".git", "rebase-apply"))
	os.Remove(filepath.Join(w.src(), ".git", "index.lock"))
	w.checkout(t, w.base)
	return w
}

func (w *work) src() string { return filepath.Join(w.dir, "src") }

func (w *work) checkout(t *testing.T, commit string) {
	t.Helper()
	w.git(t, "checkout", "--quiet", "--force", "--detach", commit)
	w.git(t, "clean", "-xdffq")
}

// builder returns a build of what stands in src, in an output folder of that
// name.
func (w *work) builder(name string) *kbuild.Build {
	return &kbuild.Build{Source: w.src(), Output: filepath.Join(w.dir, "out-"+name), Progress: &lines{}}
}

// command returns a command with git's configuration and identity fixed.
func (w *work) command(t *testing.T, dir string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GIT_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Kernel Test", "GIT_AUTHOR_EMAIL=test@example.org", "GIT_AUTHOR_DATE=2026-01-01T00:00:00Z",
		"GIT_COMMITTER_NAME=Kernel Test", "GIT_COMMITTER_EMAIL=test@example.org", "GIT_COMMITTER_DATE=2026-01-01T00:00:00Z")
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// run returns what the command prints, without white space around it. It fails
// the test if the command fails.
func (w *work) run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := w.command(t, dir, env, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

func (w *work) git(t *testing.T, args ...string) string {
	t.Helper()
	return w.run(t, w.src(), nil, "git", args...)
}
