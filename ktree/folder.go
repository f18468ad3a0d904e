package ktree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// folder is a tree in a folder. os.Root keeps symbolic links from leading
// out of it.
type folder struct{ root *os.Root }

// openFolder opens the tree in dir.
func openFolder(dir, origin string) (*Tree, error) {
	src, err := newFolder(dir)
	if err != nil {
		return nil, err
	}
	return newTree(&Tree{src: src, dir: dir, origin: origin})
}

func newFolder(dir string) (folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return folder{}, fmt.Errorf("open tree: %w", err)
	}
	return folder{root}, nil
}

func (f folder) readFile(name string) ([]byte, error) {
	// O_NONBLOCK, because opening a named pipe would wait for ever.
	file, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		if st, e := f.root.Lstat(name); e == nil && st.Mode()&fs.ModeSymlink != 0 {
			return nil, &UnsupportedError{name, "is a symbolic link that leads out of the tree or to nothing"}
		}
		return nil, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &UnsupportedError{name, "is not a regular file"}
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, errTooLarge(name)
	}
	return data, nil
}

func errTooLarge(name string) error {
	return &UnsupportedError{name, fmt.Sprintf("is over %d MiB, which no source file is", maxFile>>20)}
}

func (f folder) has(name string) bool {
	_, err := f.root.Stat(name)
	return err == nil
}

func (f folder) isDir(name string) bool {
	st, err := f.root.Stat(name)
	return err == nil && st.IsDir()
}

func (f folder) close() error { return f.root.Close() }
