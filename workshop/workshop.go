// Package workshop is what kbuild and qemubuild have in common: the copy of a tree in
// the cache, what is known of it, and the running of what compiles it.
package workshop

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"patchgen/ktree"
	"patchgen/series"
)

// Cache returns the absolute path of the cache folder that a caller names; "" is
// os.UserCacheDir()/patchgen, as for ktree.
func Cache(name string) (string, error) {
	if name == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache folder: %w", err)
		}
		name = filepath.Join(user, "patchgen")
	}
	return filepath.Abs(name)
}

// Match checks that the changes are for the tree as it is.
func Match(tree *ktree.Tree, changes []series.Change) error {
	for _, c := range changes {
		data, err := tree.ReadFile(c.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if (err == nil) != (c.Before != nil) || !bytes.Equal(data, c.Before) {
			return fmt.Errorf("the patches are for another %s than the tree has", c.Path)
		}
	}
	return nil
}

// Sum is the SHA-256 of data in hex.
func Sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// CopyFile copies a file's contents, and has them on the disk.
func CopyFile(from, to string, mode fs.FileMode) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}
