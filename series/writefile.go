package series

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// CheckFile returns nil if WriteFile would write the file, in a folder that is
// there. For a file that is not as the ledger has it, and without Force, the
// error is an *OccupiedError.
func CheckFile(file string, o WriteOptions) error {
	_, err := checkFile(file, o)
	return err
}

// checkFile returns the file's path without symbolic links on the way to it.
func checkFile(file string, o WriteOptions) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.Base(file))
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", &fs.PathError{Op: "write", Path: file, Err: errors.New("is there and is no file")}
	}
	if o.Force {
		return path, nil
	}
	written, err := readLedger(o.Ledger, path)
	if err != nil {
		return "", err
	}
	sums, known := written[filepath.Base(path)]
	sum, err := sumFile(path)
	if err != nil {
		return "", err
	}
	if !slices.Contains(sums, sum) {
		return "", &OccupiedError{file, known}
	}
	return path, nil
}

// WriteFile writes one file, whatever else is in its folder. It appears whole,
// by a rename. The errors are those of CheckFile.
func WriteFile(file string, data []byte, o WriteOptions) error {
	path, err := checkFile(file, o)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".patchgen-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	// A crash may leave the old file or the new one: the ledger knows both.
	written, err := readLedger(o.Ledger, path)
	if err != nil {
		return err
	}
	name, sum := filepath.Base(path), sha256.Sum256(data)
	written.add(name, sum)
	if err := written.write(o.Ledger, path); err != nil {
		return fmt.Errorf("remember what was written: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return ledger{name: {sum}}.write(o.Ledger, path)
}
