package workshop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"patchgen/ktree"
	"patchgen/progress"
	"patchgen/series"
)

// A Listing has what a tree holds, by slash path: files and symbolic links.
type Listing map[string]Entry

// An Entry is a file or a link.
type Entry struct {
	Mode fs.FileMode // 0644, 0755 or fs.ModeSymlink
	ID   string      // the same for the same contents, as long as the tree's source is the same
}

// dirs returns the folders of the files. It fails if a path leads out of the
// tree, or one is a file and a folder.
func (l Listing) dirs() (map[string]bool, error) {
	dirs := map[string]bool{".": true}
	for name := range l {
		if !filepath.IsLocal(name) || path.Clean(name) != name || strings.ContainsRune(name, 0) {
			return nil, &ktree.UnsupportedError{Name: strconv.Quote(name), Problem: "is no path of a file in a source tree"}
		}
		for dir := path.Dir(name); !dirs[dir]; dir = path.Dir(dir) {
			if _, file := l[dir]; file {
				return nil, &ktree.UnsupportedError{Name: strconv.Quote(dir), Problem: "is both a file and a folder"}
			}
			dirs[dir] = true
		}
	}
	return dirs, nil
}

// A Source is where the files of a copy come from. Nothing is written there.
type Source interface {
	// Identity is the same for the same contents.
	Identity() string
	List(ctx context.Context) (Listing, error)
	// read calls f with the contents of each of names, in order.
	read(ctx context.Context, names []string, l Listing, f func(name string, data []byte) error) error
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// placeName names a folder by where its tree is from.
func placeName(place string) string {
	return fmt.Sprintf("%s-%.8x", unfit.ReplaceAllString(filepath.Base(place), "-"), sha256.Sum256([]byte(place)))
}

// Open finds out where the tree's files are, and returns the folder below cache/sub
// for what is made of them, which it makes: the same for another state of the same
// clone, folder or package. A person's folder is read for what changed in it.
func Open(ctx context.Context, tree *ktree.Tree, cache, sub string, report progress.Reporter) (src Source, dir string, err error) {
	src, name, err := place(tree, cache)
	if err != nil {
		return nil, "", err
	}
	dir = filepath.Join(cache, sub, name)
	if strings.ContainsAny(dir, " \t:") {
		return nil, "", fmt.Errorf("make cannot work below %s, as there is a space or a colon in it: set XDG_CACHE_HOME to another folder", dir)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, "", err
	}
	if src == nil {
		src, err = newFolder(ctx, tree.Dir(), tree.Kind(), filepath.Join(dir, "folder.index"), report)
	}
	return src, dir, err
}

// place returns the tree's source, nil for a person's folder, and a name for the place
// that it is from.
func place(tree *ktree.Tree, cache string) (src Source, name string, err error) {
	if repo := tree.Repository(); repo != nil {
		st, ok := repo.Storer.(interface{ Filesystem() billy.Filesystem })
		if !ok {
			return nil, "", errors.New("the repository is not in a folder")
		}
		commit, err := repo.CommitObject(plumbing.NewHash(tree.Commit()))
		if err != nil {
			return nil, "", fmt.Errorf("commit %s: %w", tree.Commit(), err)
		}
		dir := st.Filesystem().Root()
		return &clone{dir, commit.TreeHash.String(), tree.Kind()}, placeName(strings.TrimSuffix(dir, "/.git")), nil
	}
	// What ktree unpacked is never changed, and has its version or the sum of
	// its contents in its name.
	for _, kind := range []string{"debian", "tarballs"} {
		rel, err := filepath.Rel(filepath.Join(cache, kind), tree.Dir())
		if err == nil && filepath.IsLocal(rel) && rel != "." {
			name, _, _ := strings.Cut(rel, "/")
			if kind == "debian" {
				name, _, _ = strings.Cut(name, "_")
			}
			return &unpacked{tree.Dir(), rel}, unfit.ReplaceAllString(name, "-"), nil
		}
	}
	return nil, placeName(tree.Dir()), nil
}

// walk calls f with each file and link below dir, and what lstat says, but for git's
// and what is to be skipped.
func walk(ctx context.Context, dir string, skip []string, f func(name string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		if name == ".git" || slices.Contains(skip, name) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		// Pipes and the like are no source.
		if !d.Type().IsRegular() && d.Type() != fs.ModeSymlink {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return f(filepath.ToSlash(name), info)
	})
}

func modeOf(info fs.FileInfo) fs.FileMode {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return fs.ModeSymlink
	case info.Mode()&0o100 != 0:
		return 0o755
	}
	return 0o644
}

// contents returns a file's bytes, or where a link leads.
func contents(file string, mode fs.FileMode) ([]byte, error) {
	if mode&fs.ModeSymlink != 0 {
		target, err := os.Readlink(file)
		return []byte(target), err
	}
	// What was a file a moment ago may be a link or a pipe now.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxSource {
		return nil, &ktree.UnsupportedError{Name: file, Problem: fmt.Sprintf("is no regular file of at most %d MiB", maxSource>>20)}
	}
	data := make([]byte, st.Size())
	_, err = io.ReadFull(f, data)
	return data, err
}

// The largest file of Linux 7.3 has 24 MB.
const maxSource = 256 << 20

// unpacked is a tree in patchgen's own cache.
type unpacked struct {
	dir string
	rel string // to the cache: its version, or the sum of the tarball
}

func (u *unpacked) Identity() string { return "unpacked " + u.rel }

func (u *unpacked) List(ctx context.Context) (Listing, error) {
	l := Listing{}
	err := walk(ctx, u.dir, nil, func(name string, info fs.FileInfo) error {
		l[name] = Entry{modeOf(info), fmt.Sprint(newStamp(info).unlinked())}
		return nil
	})
	return l, err
}

func (u *unpacked) read(ctx context.Context, names []string, l Listing, f func(string, []byte) error) error {
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		data, err := contents(filepath.Join(u.dir, name), l[name].Mode)
		if err == nil {
			err = f(name, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A stamp tells whether a file may have changed since it was looked at.
type stamp struct {
	Size, Mtime, Ctime int64 // bytes; nanoseconds
	Ino                uint64
}

func newStamp(info fs.FileInfo) stamp {
	s := stamp{Size: info.Size(), Mtime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Ctime, s.Ino = st.Ctim.Nano(), st.Ino
	}
	return s
}

// unlinked is s without the time that making a hard link changes.
func (s stamp) unlinked() stamp {
	s.Ctime = 0
	return s
}

// folder is a tree in a person's folder, which may change at any time. What a
// file has is known by its sum; an index of stamps spares reading it again, as
// git's does (git: Documentation/technical/racy-git.txt).
type folder struct {
	dir   string
	files Listing
	id    string
}

// A summed is what the index of a folder has of a file.
type summed struct {
	Stamp stamp
	Sum   [sha256.Size]byte
}

// A file that was changed so shortly before it was read may change again
// without a new time.
var racy = 2 * time.Second // changed by a test

// newFolder reads what changed since index was written, and writes it anew.
func newFolder(ctx context.Context, dir string, kind ktree.Kind, index string, report progress.Reporter) (*folder, error) {
	var skip []string
	switch kind {
	case ktree.Linux:
		// The main Makefile refuses these, which make mrproper removes.
		for _, name := range []string{".config", "include/config", "arch/x86/include/generated"} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				return nil, &ktree.UnsupportedError{Name: dir, Problem: "was built in, it has " + name + ": clean it with `make mrproper`"}
			}
		}
	case ktree.QEMU:
		skip = []string{"build"} // where people build it: configure, .gitignore
	}
	old, now := map[string]summed{}, map[string]summed{}
	Load(index, &old)
	f := &folder{dir: dir, files: Listing{}}
	begin := time.Now()
	report.Stage("look at "+dir, 0, "files")
	defer report.End()
	changed := false
	err := walk(ctx, dir, skip, func(name string, info fs.FileInfo) error {
		s := summed{Stamp: newStamp(info)}
		if was, ok := old[name]; ok && was.Stamp == s.Stamp {
			s.Sum = was.Sum
		} else {
			data, err := contents(filepath.Join(dir, name), modeOf(info))
			if err != nil {
				return err
			}
			s.Sum = sha256.Sum256(data)
			changed = true
		}
		if age := begin.UnixNano() - max(s.Stamp.Mtime, s.Stamp.Ctime); age > int64(racy) {
			now[name] = s
		}
		f.files[name] = Entry{modeOf(info), string(s.Sum[:])}
		report.Step(int64(len(f.files)))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	if changed || len(now) != len(old) {
		if err := Store(index, now); err != nil {
			return nil, err
		}
	}
	h := sha256.New()
	for _, name := range sorted(f.files) {
		fmt.Fprintf(h, "%s\x00%o\x00%s", name, f.files[name].Mode, f.files[name].ID)
	}
	f.id = fmt.Sprintf("folder %x", h.Sum(nil))
	return f, nil
}

func (f *folder) Identity() string                      { return f.id }
func (f *folder) List(context.Context) (Listing, error) { return f.files, nil }

func (f *folder) read(ctx context.Context, names []string, l Listing, do func(string, []byte) error) error {
	return (&unpacked{dir: f.dir}).read(ctx, names, l, func(name string, data []byte) error {
		if sum := sha256.Sum256(data); string(sum[:]) != l[name].ID {
			return fmt.Errorf("%s was changed while it was copied: try again", filepath.Join(f.dir, name))
		}
		return do(name, data)
	})
}

// clone is a commit's tree in a git repository. git itself reads it, which is
// quick for many files, and with none of a worktree's conversions.
type clone struct {
	dir  string // the git folder
	tree string // hash of the tree object
	kind ktree.Kind
}

func (c *clone) Identity() string { return "git " + c.tree }

func (c *clone) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, &series.MissingGitError{Err: err}
	}
	cmd := exec.CommandContext(ctx, "git", append([]string{"--git-dir=" + c.dir, "--no-replace-objects"}, args...)...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GIT_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to hand on
	return cmd, nil
}

func (c *clone) List(ctx context.Context) (Listing, error) {
	cmd, err := c.command(ctx, "ls-tree", "-r", "-z", "--full-tree", c.tree)
	if err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, c.failed(ctx, cmd, err)
	}
	return parseTree(out, c.kind)
}

func (c *clone) failed(ctx context.Context, cmd *exec.Cmd, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(exit.Stderr))
	}
	return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
}

// parseTree reads what git ls-tree -r -z prints: "MODE TYPE HASH\tPATH\0".
func parseTree(out []byte, kind ktree.Kind) (Listing, error) {
	l := Listing{}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		head, name, ok := strings.Cut(line, "\t")
		fields := strings.Fields(head)
		if !ok || len(fields) != 3 {
			return nil, fmt.Errorf("git ls-tree printed %q", line)
		}
		e := Entry{ID: fields[2]}
		switch fields[0] {
		case "100644", "100664":
			e.Mode = 0o644
		case "100755":
			e.Mode = 0o755
		case "120000":
			e.Mode = fs.ModeSymlink
		case "160000":
			if kind == ktree.QEMU {
				continue // a submodule, of firmware and tests that are not built
			}
			fallthrough
		default:
			return nil, &ktree.UnsupportedError{Name: name, Problem: "is a " + fields[1] + " in this commit, which no kernel has"}
		}
		l[name] = e
	}
	return l, nil
}

func (c *clone) read(ctx context.Context, names []string, l Listing, f func(string, []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd, err := c.command(ctx, "cat-file", "--batch", "--buffer")
	if err != nil {
		return err
	}
	var ask strings.Builder
	for _, name := range names {
		ask.WriteString(l[name].ID + "\n")
	}
	cmd.Stdin = strings.NewReader(ask.String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = func() error {
		in := bufio.NewReaderSize(out, 1<<20)
		for _, name := range names {
			data, err := readBlob(in, l[name].ID)
			if err != nil {
				return fmt.Errorf("git cat-file: %s: %w", name, err)
			}
			if err := f(name, data); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		cancel()
		cmd.Wait()
		return err
	}
	if err := cmd.Wait(); err != nil {
		return c.failed(ctx, cmd, err)
	}
	return nil
}

// readBlob reads what git cat-file --batch prints for an object: "HASH blob
// SIZE\n", the contents, "\n".
func readBlob(in *bufio.Reader, id string) ([]byte, error) {
	head, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	size, ok := strings.CutPrefix(strings.TrimSuffix(head, "\n"), id+" blob ")
	n, err := strconv.ParseInt(size, 10, 64)
	if !ok || err != nil || n < 0 || n > maxSource {
		return nil, fmt.Errorf("want a blob of at most %d MiB, got %q", maxSource>>20, strings.TrimSpace(head))
	}
	data := make([]byte, n+1)
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, err
	}
	return data[:n], nil
}
