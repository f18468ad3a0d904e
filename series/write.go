package series

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// WriteOptions say what Write may replace.
type WriteOptions struct {
	Force  bool   // write beside and over files that patchgen did not write
	Ledger string // folder where Write remembers what it wrote; "" = it does not
}

// An OccupiedError says that a file is in the way.
type OccupiedError struct {
	File    string // its path
	Changed bool   // patchgen wrote it, but otherwise than it is now
}

func (e *OccupiedError) Error() string {
	if e.Changed {
		return fmt.Sprintf("%s was changed since patchgen wrote it", e.File)
	}
	return fmt.Sprintf("%s was not written by patchgen", e.File)
}

// Write makes the folder dir hold the given files, and of what an earlier
// Write left there only these. The new content appears whole, by one rename;
// but file by file if dir holds other files too (with Force), is or holds the
// working directory, or cannot be renamed.
//
// If dir holds a file that is not as the ledger has it, and Force is not set,
// the error is an *OccupiedError, and dir stays as it is.
func Write(dir string, files []Mail, o WriteOptions) error {
	var names []string
	for _, f := range files {
		if f.Name != filepath.Base(f.Name) || !filepath.IsLocal(f.Name) || f.Name == "." || !printable(f.Name) || slices.Contains(names, f.Name) {
			return fmt.Errorf("%q is no name for a new file", f.Name)
		}
		names = append(names, f.Name)
	}
	dir, err := locate(dir)
	if err != nil {
		return err
	}
	written, err := readLedger(o.Ledger, dir)
	if err != nil {
		return err
	}
	old, err := survey(dir, written)
	if err != nil {
		return err
	}
	if old.other != nil && !o.Force {
		return old.other
	}

	// A crash may leave old or new files: the ledger knows both until the end.
	now := make(ledger)
	for _, f := range files {
		now.add(f.Name, sha256.Sum256(f.Data))
		written.add(f.Name, sha256.Sum256(f.Data))
	}
	if err := written.write(o.Ledger, dir); err != nil {
		return err
	}
	switch {
	case !old.exists:
		err = create(dir, files)
	case old.other == nil && !holdsWorkingDirectory(dir):
		err = replace(dir, files, written)
		var occupied *OccupiedError
		if err != nil && !errors.As(err, &occupied) { // a mount point, or a parent not to be written to
			err = fill(dir, files, old.ours)
		}
	default:
		err = fill(dir, files, old.ours)
	}
	if err != nil {
		return err
	}
	return now.write(o.Ledger, dir)
}

// CheckDir returns Write's error about what is in the way, before there are files.
func CheckDir(dir string, o WriteOptions) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		// It is not made before it is needed; it is enough that it can be.
		above, err := filepath.Abs(filepath.Dir(dir))
		for err == nil {
			if _, err = os.Stat(above); !errors.Is(err, fs.ErrNotExist) {
				break
			}
			above, err = filepath.Dir(above), nil
		}
		if err == nil {
			err = unix.Access(above, unix.W_OK)
		}
		if err != nil {
			return &fs.PathError{Op: "write", Path: dir, Err: err}
		}
		return nil
	}
	dir, err := locate(dir)
	if err != nil {
		return err
	}
	written, err := readLedger(o.Ledger, dir)
	if err != nil {
		return err
	}
	if old, err := survey(dir, written); err != nil {
		return err
	} else if old.other != nil && !o.Force {
		return old.other
	}
	return nil
}

// locate returns the absolute path of dir without symbolic links, and makes
// the folders above it.
func locate(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real, nil
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return "", err
	}
	if parent, err = filepath.EvalSymlinks(parent); err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}

// A state is what stands in a folder.
type state struct {
	exists bool
	ours   []string       // names of files that are as they were written
	other  *OccupiedError // about the first that is not
}

func survey(dir string, written ledger) (state, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, err
	}
	s := state{exists: true}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		sums, known := written[e.Name()]
		if known && e.Type().IsRegular() {
			sum, err := sumFile(path)
			if err != nil {
				return state{}, err
			}
			if slices.Contains(sums, sum) {
				s.ours = append(s.ours, e.Name())
				continue
			}
		}
		if s.other == nil {
			s.other = &OccupiedError{path, known}
		}
	}
	return s, nil
}

func sumFile(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [sha256.Size]byte(h.Sum(nil)), err
}

// holdsWorkingDirectory reports whether dir is the working directory or above
// it: whoever stands there would find himself in a deleted folder.
func holdsWorkingDirectory(dir string) bool {
	wd, err := os.Getwd()
	if err == nil {
		wd, err = filepath.EvalSymlinks(wd)
	}
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(dir, wd)
	return err == nil && filepath.IsLocal(rel)
}

// stage writes files into the folder "new" of a new hidden folder in parent.
func stage(parent string, files []Mail) (holder, folder string, err error) {
	if holder, err = os.MkdirTemp(parent, ".patchgen-"); err != nil {
		return "", "", err
	}
	folder = filepath.Join(holder, "new")
	err = os.Mkdir(folder, 0o777)
	for _, f := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, f.Name), f.Data, 0o666)
		}
	}
	if err != nil {
		os.RemoveAll(holder)
	}
	return holder, folder, err
}

// create makes dir, which is not there.
func create(dir string, files []Mail) error {
	holder, folder, err := stage(filepath.Dir(dir), files)
	if err != nil {
		return err
	}
	defer os.RemoveAll(holder)
	return os.Rename(folder, dir)
}

// replace puts another folder in the place of dir, in which all is written by
// patchgen.
func replace(dir string, files []Mail, written ledger) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	holder, folder, err := stage(filepath.Dir(dir), files)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	err = errors.Join(os.Chown(folder, int(owner.Uid), int(owner.Gid)), os.Chmod(folder, info.Mode()))
	if err == nil {
		err = exchange(folder, dir)
	}
	if err != nil {
		os.RemoveAll(holder)
		return err
	}
	// folder is the old one now. Has a file been put there in the meantime?
	old, err := survey(folder, written)
	if err == nil && old.other != nil {
		old.other.File = filepath.Join(dir, filepath.Base(old.other.File))
		err = old.other
	}
	if err != nil {
		if back := exchange(folder, dir); back != nil {
			return fmt.Errorf("%w; what was in %s is now in %s (%v)", err, dir, folder, back)
		}
		os.RemoveAll(holder)
		return err
	}
	for _, name := range old.ours {
		err = errors.Join(err, os.Remove(filepath.Join(folder, name)))
	}
	return errors.Join(err, os.Remove(folder), os.Remove(holder))
}

// exchange swaps two folders, by one rename where the file system can.
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return swap(a, b)
	}
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: a, New: b, Err: err}
	}
	return nil
}

// swap is exchange by several renames.
func swap(a, b string) error {
	aside := a + ".aside"
	if err := os.Rename(b, aside); err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return errors.Join(err, os.Rename(aside, b))
	}
	return os.Rename(aside, a)
}

// fill puts files into dir, over those of the same names, and removes what
// else there is of ours.
func fill(dir string, files []Mail, ours []string) error {
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if info, err := os.Lstat(path); err == nil && info.IsDir() {
			return fmt.Errorf("%s is a folder where a file is to be written: take another folder", path)
		}
	}
	holder, folder, err := stage(dir, files)
	if err != nil {
		return err
	}
	defer os.RemoveAll(holder)
	for _, f := range files {
		if err := os.Rename(filepath.Join(folder, f.Name), filepath.Join(dir, f.Name)); err != nil {
			return err
		}
		ours = slices.DeleteFunc(ours, func(name string) bool { return name == f.Name })
	}
	for _, name := range ours {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// A ledger has the SHA-256 sums of what was written to a folder, by the name
// of the file. It is kept elsewhere, in the format of sha256sum, as git
// send-email would send whatever lies in the folder.
type ledger map[string][][sha256.Size]byte

func (l ledger) add(name string, sum [sha256.Size]byte) { l[name] = append(l[name], sum) }

// ledgerFile returns the path of the ledger for dir.
func ledgerFile(folder, dir string) string {
	return filepath.Join(folder, fmt.Sprintf("%x", sha256.Sum256([]byte(dir))))
}

// readLedger reads the ledger for dir, leaving out what it does not
// understand.
func readLedger(folder, dir string) (ledger, error) {
	l := make(ledger)
	if folder == "" {
		return l, nil
	}
	data, err := os.ReadFile(ledgerFile(folder, dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if b, err := hex.DecodeString(sum); err == nil && len(b) == sha256.Size {
			l.add(name, [sha256.Size]byte(b))
		}
	}
	return l, nil
}

func (l ledger) write(folder, dir string) error {
	if folder == "" {
		return nil
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(l)) {
		for _, sum := range l[name] {
			fmt.Fprintf(&b, "%x  %s\n", sum, name)
		}
	}
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(folder, ".ledger-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(b.String())
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), ledgerFile(folder, dir))
}
