package ktree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

const makefile = "# SPDX-License-Identifier: GPL-2.0\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\nNAME = Baby Opossum Posse\n"

// kernelFiles is the smallest tree that Open takes.
func kernelFiles() map[string]string {
	return map[string]string{
		"Makefile":            makefile,
		"Kconfig":             "mainmenu \"Linux\"\n",
		"kernel/dma/direct.c": "int dma_direct_supported(void)\n{\n\treturn 1;\n}\n",
	}
}

// write writes the files below dir and returns dir.
func write(t testing.TB, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFolder(t *testing.T) {
	dir := write(t, t.TempDir(), kernelFiles())
	tree, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if got := tree.Release().String(); got != "6.12.117" {
		t.Errorf("release is %q", got)
	}
	if tree.Dir() != dir || tree.Origin() != dir || tree.Commit() != "" || tree.Repository() != nil {
		t.Errorf("dir %q, origin %q, commit %q, repository %v", tree.Dir(), tree.Origin(), tree.Commit(), tree.Repository())
	}
	if _, err := tree.ReadFile("kernel/none.c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
