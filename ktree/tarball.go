package ktree

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"patchgen/progress"
)

// Limits of a tarball; Linux 7.3 has 98,000 entries and 1.7 GB.
const (
	maxEntries = 500_000
	maxUnpack  = 8 << 30 // bytes
)

// openTarball opens the tree in a tarball, unpacked into the cache under the
// hash of the tarball's content, so that a copy is not unpacked again and a changed
// file never taken for what it was.
func openTarball(ctx context.Context, file string, o Options) (*Tree, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	f, err := openRegular(abs)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var magic [512]byte
	n, err := io.ReadFull(f, magic[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	format := tarFormat(magic[:n])
	if format == "" {
		return nil, &UnsupportedError{abs, "is no tarball (.tar.xz, .tar.gz or .tar) and no folder with a source tree"}
	}
	cache, err := cacheDir(o, "tarballs")
	if err != nil {
		return nil, err
	}
	key, err := contentKey(ctx, f, cache)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", abs, err)
	}
	dir := filepath.Join(cache, key)
	err = once(ctx, dir, o.Progress, func(part string) error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		st, err := f.Stat()
		if err != nil {
			return err
		}
		// Of a bare archive only its end says that it is whole: two
		// blocks of zeros, which archive/tar does not ask for.
		var end [1024]byte
		if _, err := f.ReadAt(end[:], max(0, st.Size()-int64(len(end)))); format == "tar" && (err != nil || end != [1024]byte{}) {
			return errors.New("the archive is cut short")
		}
		return unpack(ctx, f, st.Size(), format, part, abs, o.Progress)
	})
	if e := (*UnsupportedError)(nil); errors.As(err, &e) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", abs, err)
	}
	return openUnpacked(dir, abs)
}

// openRegular opens a file that is no device and no pipe.
func openRegular(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &UnsupportedError{name, "is neither a folder nor a file"}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// tarFormat tells from a file's first 512 bytes if it is "xz", "gz" or "tar";
// "" if it is none.
func tarFormat(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return "gz"
	case len(head) >= 262 && string(head[257:262]) == "ustar":
		return "tar"
	}
	return ""
}

// contentKey returns the SHA-256 of f, in hex. It is remembered in cache for
// the file's state, because hashing takes a tenth of a second and more.
func contentKey(ctx context.Context, f *os.File, cache string) (string, error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	// The time of change cannot be set by hand: a file of the same state
	// has the same content.
	sys := st.Sys().(*syscall.Stat_t)
	memo := filepath.Join(cache, fmt.Sprintf("state-%x-%x-%x-%x.%x", sys.Dev, sys.Ino, st.Size(), sys.Ctim.Sec, sys.Ctim.Nsec))
	if key, err := os.Readlink(memo); err == nil && len(key) == 2*sha256.Size {
		return key, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, &counter{ctx: ctx, r: f}); err != nil {
		return "", err
	}
	key := hex.EncodeToString(h.Sum(nil))
	os.Remove(memo)
	os.Symlink(key, memo) // if it fails, the hash is taken again next time
	return key, nil
}

// openUnpacked opens the tree below dir: in its one folder, or dir itself.
func openUnpacked(dir, origin string) (*Tree, error) {
	root := dir
	if _, err := os.Lstat(filepath.Join(dir, "Makefile")); err != nil {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		if len(entries) == 1 && entries[0].IsDir() {
			root = filepath.Join(dir, entries[0].Name())
		}
	}
	return openFolder(root, origin)
}

// cacheDir returns a folder of the cache, made if need be.
func cacheDir(o Options, name string) (string, error) {
	base := o.Cache
	if base == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache folder: %w", err)
		}
		base = filepath.Join(user, "patchgen")
	}
	dir, err := filepath.Abs(filepath.Join(base, name))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	return dir, nil
}

// once makes the folder dir, if it is not there, by calling fill for a folder
// beside it that becomes dir when all went well. Of several processes one
// fills and the others wait.
func once(ctx context.Context, dir string, p progress.Reporter, fill func(part string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	unlock, err := Lock(ctx, dir+".lock", p)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return nil // another process was faster
	}
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil { // of a run that was interrupted
		return err
	}
	if err := os.Mkdir(part, 0o755); err != nil {
		return err
	}
	err = fill(part)
	if err == nil {
		err = os.Rename(part, dir)
	}
	if err != nil {
		os.RemoveAll(part)
	}
	return err
}

// unpack unpacks a tarball of a format that tarFormat tells into dir, tells p
// how many of its size bytes are done, and checks that a source tree came out.
func unpack(ctx context.Context, r io.Reader, size int64, format, dir, origin string, p progress.Reporter) error {
	p.Stage("unpack "+filepath.Base(origin), size, "bytes")
	defer p.End()
	in := &counter{ctx: ctx, r: r}
	// xz reads ahead in another goroutine; p is told in this one.
	step := func() { p.Step(in.done.Load()) }
	var err error
	switch format {
	case "xz":
		err = unxz(ctx, in, func(r io.Reader) error { return untar(ctx, r, dir, step) })
	case "gz":
		var z *gzip.Reader
		if z, err = gzip.NewReader(bufio.NewReaderSize(in, 1<<18)); err == nil {
			err = untar(ctx, z, dir, step)
		}
	default:
		err = untar(ctx, in, dir, step)
	}
	if err != nil {
		return err
	}
	t, err := openUnpacked(dir, origin)
	if err != nil {
		return err
	}
	return t.Close()
}

// unxz calls f with what the xz program makes of r.
func unxz(ctx context.Context, r io.Reader, f func(io.Reader) error) error {
	xz, err := exec.LookPath("xz")
	if err != nil {
		return &MissingToolError{Tool: "xz", Package: "xz-utils"}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, xz, "--decompress", "--stdout", "--threads=0")
	var stderr tail
	cmd.Stdin, cmd.Stderr = r, &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = f(out)
	if err == nil {
		// What follows the archive's end must be sound too.
		_, err = io.Copy(io.Discard, out)
	} else {
		cancel()
	}
	wait := cmd.Wait()
	// If xz failed, that is why the archive ended early.
	if text := stderr.String(); wait != nil && text != "" {
		return fmt.Errorf("xz: %s", text)
	}
	if err == nil {
		err = wait
	}
	return err
}

// untar unpacks a tar stream into dir. Names and links that lead out of dir
// are refused, and so is everything but folders, files and links. step is
// called after each entry.
func untar(ctx context.Context, r io.Reader, dir string, step func()) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	archive := tar.NewReader(bufio.NewReaderSize(r, 1<<18))
	made := map[string]bool{".": true}
	for entries, bytes := 0, int64(0); ; entries++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			if entries == 0 {
				return errors.New("the archive is empty")
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if bytes += h.Size; entries >= maxEntries || bytes > maxUnpack {
			return fmt.Errorf("the archive has more than %d entries or %d GiB, which no source tree has", maxEntries, maxUnpack>>30)
		}
		if h.Typeflag == tar.TypeXGlobalHeader { // git archive writes one
			continue
		}
		name := path.Clean(strings.TrimSuffix(h.Name, "/"))
		if !filepath.IsLocal(name) || strings.ContainsAny(name, "\\\x00") {
			return fmt.Errorf("the archive has an entry with a name that leads out of it: %q", h.Name)
		}
		if err := makeDirs(root, path.Dir(name), made); err != nil {
			return err
		}
		if err := unpackEntry(root, archive, h, name, made); err != nil {
			return err
		}
		step()
	}
}

// makeDirs makes a folder and those above it; made has what is there.
func makeDirs(root *os.Root, name string, made map[string]bool) error {
	if made[name] {
		return nil
	}
	if err := root.MkdirAll(name, 0o755); err != nil {
		return err
	}
	made[name] = true
	return nil
}

func unpackEntry(root *os.Root, archive io.Reader, h *tar.Header, name string, made map[string]bool) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return makeDirs(root, name, made)
	case tar.TypeReg:
		mode := fs.FileMode(0o644)
		if h.Mode&0o100 != 0 {
			mode = 0o755
		}
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, archive); err != nil {
			f.Close()
			return fmt.Errorf("unpack %s: %w", name, err)
		}
		return f.Close()
	case tar.TypeSymlink:
		if path.IsAbs(h.Linkname) || !filepath.IsLocal(path.Join(path.Dir(name), h.Linkname)) {
			return fmt.Errorf("the archive has a symbolic link that leads out of it: %s to %q", name, h.Linkname)
		}
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		if !filepath.IsLocal(h.Linkname) {
			return fmt.Errorf("the archive has a link that leads out of it: %s to %q", name, h.Linkname)
		}
		return root.Link(path.Clean(h.Linkname), name)
	}
	return fmt.Errorf("the archive has %q, which is no folder, file or link", h.Name)
}

// A counter counts the bytes that are read through it, and ends with the
// context.
type counter struct {
	ctx  context.Context
	r    io.Reader
	done atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.done.Add(int64(n))
	return n, err
}

// tail keeps the last bytes written to it: the end of what a program says.
type tail struct{ buf []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - 16<<10; n > 0 {
		t.buf = t.buf[n:]
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.buf)) }
