package templates

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"patchgen/ktree"
)

func TestSuits(t *testing.T) {
	set, err := loadFS("other", fstest.MapFS{generationsFile: {Data: []byte("tree = \"QEMU\"\n")}})
	if err != nil || set.Kind != ktree.QEMU {
		t.Fatalf("%+v, %v", set, err)
	}
	if _, err := loadFS("other", fstest.MapFS{generationsFile: {Data: []byte("tree = \"BSD\"\n")}}); err == nil {
		t.Error("BSD is taken")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"Makefile": "VERSION = 6\nPATCHLEVEL = 12\n", "Kconfig": "", "kernel/x": ""} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, []byte(text), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := ktree.Open(t.Context(), dir, ktree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	_, err = set.Classify(tree)
	var unsupported *ktree.UnsupportedError
	want := dir + " is a tree of Linux 6.12.0, and the series other is for QEMU: give --series dma-mark-dirty"
	if !errors.As(err, &unsupported) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	linux, err := Load("dma-mark-dirty")
	if err != nil {
		t.Fatal(err)
	}
	if err := linux.Suits(tree); err != nil {
		t.Error(err)
	}
}
