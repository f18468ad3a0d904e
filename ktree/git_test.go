package ktree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-cmp/cmp"
)

// gitRun runs the git program, the judge of what this package reads.
func gitRun(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// gitInit makes a clone in dir with one commit of files.
func gitInit(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	gitRun(t, dir, "init", "-q", "-b", "master")
	gitCommit(t, dir, files)
}

func gitCommit(t testing.TB, dir string, files map[string]string) string {
	t.Helper()
	write(t, dir, files)
	gitRun(t, dir, "add", ".")
	gitRun(t, dir, "commit", "-q", "--allow-empty", "-m", "a commit")
	return gitRun(t, dir, "rev-parse", "HEAD")
}

// newClone returns a clone with two commits; mm/page.c has "int two;" in the second.
func newClone(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "linux")
	if err := os.CopyFS(dir, os.DirFS(template(t))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// template makes what newClone copies, once.
var templateDir struct {
	sync.Mutex
	name string
}

func template(t testing.TB) string {
	templateDir.Lock()
	defer templateDir.Unlock()
	if templateDir.name == "" {
		dir, err := os.MkdirTemp("", "ktree")
		if err != nil {
			t.Fatal(err)
		}
		files := kernelFiles()
		files["mm/page.c"] = "int one;\n"
		gitInit(t, dir, files)
		gitCommit(t, dir, map[string]string{"mm/page.c": "int two;\n"})
		templateDir.name = dir
	}
	return templateDir.name
}

func TestMain(m *testing.M) {
	code := m.Run()
	if templateDir.name != "" {
		os.RemoveAll(templateDir.name)
	}
	os.Exit(code)
}

// readsPage checks that a tree reads as what git says of the revision.
func readsPage(t *testing.T, spec, clone, rev string) *Tree {
	t.Helper()
	tree := open(t, spec)
	if want := gitRun(t, clone, "rev-parse", rev+"^{commit}"); tree.Commit() != want {
		t.Errorf("%s is commit %s, want %s", spec, tree.Commit(), want)
	}
	data, err := tree.ReadFile("mm/page.c")
	if want := gitRun(t, clone, "show", rev+":mm/page.c") + "\n"; err != nil || string(data) != want {
		t.Errorf("%s reads %q, %v, want %q", spec, data, err, want)
	}
	return tree
}

func TestClone(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	gitRun(t, clone, "tag", "-a", "-m", "a tag", "v6.12", "HEAD~1")
	write(t, clone, map[string]string{"mm/page.c": "int three;\n", "kernel/new.c": "\n"})
	before := snapshot(t, clone)

	tree := readsPage(t, clone, clone, "HEAD")
	if want := "commit " + tree.Commit()[:12] + " of " + clone; tree.Origin() != want {
		t.Errorf("origin %q, want %q", tree.Origin(), want)
	}
	if tree.Dir() != "" || tree.Repository() == nil {
		t.Errorf("dir %q, repository %v", tree.Dir(), tree.Repository())
	}
	if _, err := tree.ReadFile("kernel/new.c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("uncommitted file: %v", err)
	}
	if _, err := tree.ReadFile("Makefile"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"mm/page.c"}, tree.Uncommitted()); diff != "" {
		t.Error(diff)
	}
	if got := readsPage(t, clone+"@v6.12", clone, "v6.12").Uncommitted(); got != nil {
		t.Errorf("uncommitted %q at a revision", got)
	}
	readsPage(t, clone+"@HEAD~1", clone, "HEAD~1")

	if diff := cmp.Diff(before, snapshot(t, clone)); diff != "" {
		t.Errorf("reading changed the clone: %s", diff)
	}
}

// snapshot returns size and time of change of all files below dir.
func snapshot(t *testing.T, dir string) map[string]string {
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			st, e := d.Info()
			all[name], err = fmt.Sprint(st.Size(), st.ModTime()), e
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestUncommitted(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	names := []string{"Kconfig", "Makefile", "kernel/dma/direct.c", "mm/page.c"}
	// Converted line ends and files that are not checked out are no changes.
	write(t, clone, map[string]string{"Makefile": strings.ReplaceAll(makefile, "\n", "\r\n"), "Kconfig": "x\n"})
	if err := os.Remove(filepath.Join(clone, "mm/page.c")); err != nil {
		t.Fatal(err)
	}
	tree := open(t, clone)
	for _, name := range names {
		if _, err := tree.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"Kconfig"}, tree.Uncommitted()); diff != "" {
		t.Error(diff)
	}
}

func TestCloneForms(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	gitRun(t, dir, "clone", "-q", "--bare", clone, "bare.git")
	gitRun(t, dir, "clone", "-q", "--mirror", clone, "mirror.git")
	gitRun(t, dir, "clone", "-q", "--shared", clone, "shared")
	gitRun(t, dir, "clone", "-q", "--shared", in("shared"), "shared2")
	gitRun(t, dir, "clone", "-q", "--depth=1", "file://"+clone, "shallow")
	gitRun(t, clone, "worktree", "add", "-q", "--detach", in("linked"), "HEAD~1")
	gitRun(t, dir, "clone", "-q", clone, "packed")
	gitRun(t, in("packed"), "gc", "-q")

	gitRun(t, dir, "clone", "-q", clone, "packs")
	gitRun(t, in("packs"), "repack", "-q", "-a", "-d")
	gitCommit(t, in("packs"), map[string]string{"mm/page.c": "int many;\n"})
	gitRun(t, in("packs"), "repack", "-q", "-d")
	gitRun(t, in("packs"), "multi-pack-index", "write")
	gitCommit(t, in("packs"), map[string]string{"mm/slab.c": "int loose;\n"})

	relative := in("relative")
	gitRun(t, dir, "clone", "-q", "--shared", clone, "relative")
	rel, err := filepath.Rel(filepath.Join(relative, ".git/objects"), filepath.Join(clone, ".git/objects"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, relative, map[string]string{".git/objects/info/alternates": "# borrowed\n\n" + rel + "\n"})

	// Android's repo: .git is a link, and objects in it too.
	gitRun(t, dir, "clone", "-q", clone, "android")
	for _, link := range [][2]string{{"android/.git/objects", "project-objects/objects"}, {"android/.git", "projects/linux.git"}} {
		if err := os.MkdirAll(filepath.Dir(in(link[1])), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Rename(in(link[0]), in(link[1])), os.Symlink(in(link[1]), in(link[0]))); err != nil {
			t.Fatal(err)
		}
	}

	gitRun(t, dir, "clone", "-q", "--no-checkout", clone, "sparse")
	gitRun(t, in("sparse"), "config", "core.repositoryFormatVersion", "1")
	gitRun(t, in("sparse"), "config", "extensions.worktreeConfig", "true")
	gitRun(t, in("sparse"), "config", "extensions.objectFormat", "sha1")

	for _, name := range []string{"bare.git", "mirror.git", "shared", "shared2", "shallow", "linked", "packed", "packs", "relative", "android", "sparse", "packed/.git"} {
		t.Run(strings.ReplaceAll(name, "/", "-"), func(t *testing.T) {
			readsPage(t, in(name), in(name), "HEAD")
		})
	}
	readsPage(t, in("packs")+"@HEAD~2", in("packs"), "HEAD~2")
	refuse(t, in("shallow")+"@HEAD~1", "shallow", "git fetch --deepen")

	// A worktree that moved, and one whose clone is gone.
	if err := os.Rename(clone, clone+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := refuse(t, in("linked"), "leads to no git repository", "git worktree repair"); !isUnsupported(err) {
		t.Errorf("%T", err)
	}
	if err := refuse(t, in("shared"), "borrows objects from", "info/alternates"); !isUnsupported(err) {
		t.Errorf("%T", err)
	}
}

func TestCloneRefuses(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	config := func(key, value string) string {
		dir := t.TempDir()
		gitRun(t, dir, "clone", "-q", clone, ".")
		gitRun(t, dir, "config", "core.repositoryFormatVersion", "1")
		gitRun(t, dir, "config", key, value)
		return dir
	}
	unborn := t.TempDir()
	gitRun(t, unborn, "init", "-q")
	sha256 := t.TempDir()
	gitRun(t, sha256, "init", "-q", "--object-format=sha256")
	gitCommit(t, sha256, kernelFiles())
	noKernel := t.TempDir()
	gitInit(t, noKernel, map[string]string{"Makefile": "all:\n"})
	noFolder := t.TempDir()
	gitInit(t, noFolder, map[string]string{"Makefile": makefile, "Kconfig": "\n", "kernel": "a file\n"})
	for _, test := range []struct{ dir, want string }{
		{config("extensions.refStorage", "reftable"), "git refs migrate"},
		{config("extensions.future", "1"), `extension "future"`},
		{config("core.repositoryFormatVersion", "9"), `repository format version "9"`},
		{sha256, "by sha256; patchgen reads SHA-1 repositories only"},
		{noKernel, "is no kernel tree: its Makefile sets no VERSION"},
		{noFolder, "is no kernel tree: it has no folder kernel/"},
	} {
		if err := refuse(t, test.dir, test.dir, test.want); !isUnsupported(err) {
			t.Errorf("%s: %T", test.want, err)
		}
	}
	refuse(t, unborn, "HEAD leads to no commit")
}

func TestCloneEntries(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	files := map[string]string{"mm/dos.c": "int a;\r\n", "mm/large.c": strings.Repeat("\x00", maxFile+1)}
	if err := errors.Join(os.Symlink("page.c", filepath.Join(clone, "mm/link.c")), os.Symlink("mm", filepath.Join(clone, "linkdir"))); err != nil {
		t.Fatal(err)
	}
	gitRun(t, clone, "config", "core.compression", "0")
	gitCommit(t, clone, files)
	gitRun(t, clone, "update-index", "--add", "--cacheinfo", "160000,"+gitRun(t, clone, "rev-parse", "HEAD")+",module")
	gitRun(t, clone, "commit", "-q", "-m", "a submodule")
	tree := open(t, clone)
	for _, test := range []struct{ name, want string }{
		{"mm/dos.c", "mm/dos.c has DOS line ends"},
		{"mm/large.c", "mm/large.c is over 16 MiB"},
		{"mm/link.c", "mm/link.c is a symbolic link in this commit"},
		{"linkdir/page.c", "linkdir is a symbolic link in this commit"},
		{"module", "module is a submodule in this commit"},
		{"module/x.c", "module is a submodule in this commit"},
		{"mm", "mm is not a regular file"},
	} {
		_, err := tree.ReadFile(test.name)
		contains(t, err, test.want)
		if !isUnsupported(err) {
			t.Errorf("%s: %T", test.name, err)
		}
	}
	for _, name := range []string{"mm/none.c", "none/none.c", "mm/page.c/x"} {
		if _, err := tree.ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("missing file: %v", err)
		}
	}
}

func TestClonePartial(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	gitRun(t, clone, "config", "uploadpack.allowFilter", "true")
	dir := t.TempDir()
	gitRun(t, dir, "clone", "-q", "--bare", "--filter=blob:none", "file://"+clone, "partial.git")
	partial := filepath.Join(dir, "partial.git")
	err := refuse(t, partial, "read Makefile", "is not in this partial clone", "git -C "+partial+" cat-file -e")
	if !isUnsupported(err) {
		t.Errorf("%T", err)
	}
	// What the error says to do is of use.
	for _, name := range []string{"Makefile", "Kconfig", "mm/page.c"} {
		gitRun(t, partial, "cat-file", "-e", "HEAD:"+name)
	}
	readsPage(t, partial, partial, "HEAD")
}

func TestCloneDamaged(t *testing.T) {
	t.Parallel()
	clone := newClone(t)
	hash := gitRun(t, clone, "rev-parse", "HEAD:mm/page.c")
	other := gitRun(t, clone, "rev-parse", "HEAD:Kconfig")
	object := func(h string) string { return filepath.Join(clone, ".git/objects", h[:2], h[2:]) }
	tree := open(t, clone)
	if err := os.Remove(object(hash)); err != nil {
		t.Fatal(err)
	}
	_, err := tree.ReadFile("mm/page.c")
	contains(t, err, "read mm/page.c", hash, "is not in the clone", "git fsck")
	// Another object in its place is noticed.
	data, err := os.ReadFile(object(other))
	if err == nil {
		err = os.WriteFile(object(hash), data, 0o444)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = tree.ReadFile("mm/page.c")
	contains(t, err, hash, "damaged")
}

// What the series package does with the clone: add a commit and a branch.
func TestRepositoryAdds(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"plain", "packed", "shared", "linked"} {
		t.Run(form, func(t *testing.T) {
			clone := newClone(t)
			dir := filepath.Join(t.TempDir(), form)
			switch form {
			case "plain":
				dir = clone
			case "packed":
				dir = clone
				gitRun(t, dir, "gc", "-q")
			case "shared":
				gitRun(t, ".", "clone", "-q", "--shared", clone, dir)
			case "linked":
				gitRun(t, clone, "worktree", "add", "-q", dir)
			}
			tree := open(t, dir)
			repo := tree.Repository()
			head, err := repo.CommitObject(plumbing.NewHash(tree.Commit()))
			if err != nil {
				t.Fatal(err)
			}
			o := repo.Storer.NewEncodedObject()
			commit := &object.Commit{Author: head.Author, Committer: head.Author, Message: "new\n", TreeHash: head.TreeHash, ParentHashes: []plumbing.Hash{head.Hash}}
			if err := commit.Encode(o); err != nil {
				t.Fatal(err)
			}
			hash, err := repo.Storer.SetEncodedObject(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := repo.Storer.SetReference(plumbing.NewHashReference("refs/heads/new", hash)); err != nil {
				t.Fatal(err)
			}
			if got := gitRun(t, dir, "log", "--format=%s %P", "-1", "new"); got != "new "+tree.Commit() {
				t.Errorf("git sees %q", got)
			}
			gitRun(t, dir, "fsck", "--strict")
			if again, err := repo.CommitObject(hash); err != nil || again.Message != "new\n" {
				t.Errorf("read back %v, %v", again, err)
			}
			if status := gitRun(t, dir, "status", "--porcelain"); status != "" {
				t.Errorf("status %q", status)
			}
			if _, err := repo.Worktree(); err == nil {
				t.Error("the user's worktree can be reached")
			}
			if err := repo.Storer.SetIndex(nil); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("the user's index can be written: %v", err)
			}
			if err := repo.Storer.SetConfig(nil); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("the user's configuration can be written: %v", err)
			}
		})
	}
}
