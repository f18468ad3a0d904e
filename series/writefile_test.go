package series

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	o := WriteOptions{Ledger: filepath.Join(t.TempDir(), "ledger")}
	write := func(name, text string) error {
		t.Helper()
		err := CheckFile(filepath.Join(dir, name), o)
		if again := WriteFile(filepath.Join(dir, name), []byte(text), o); (err == nil) != (again == nil) {
			t.Errorf("%s: CheckFile says %v, WriteFile %v", name, err, again)
		}
		return err
	}
	put(t, filepath.Join(dir, "mine"), "mine")
	for _, pair := range [][2]string{{"a", "one"}, {"b", "two"}, {"a", "three"}, {"a", "three"}} {
		if err := write(pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := list(t, dir), []string{"a", "three", "b", "two", "mine", "mine"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	var occupied *OccupiedError
	if err := write("mine", "x"); !errors.As(err, &occupied) || occupied.Changed {
		t.Errorf("a person's file: %v", err)
	}
	put(t, filepath.Join(dir, "b"), "changed")
	if err := write("b", "x"); !errors.As(err, &occupied) || !occupied.Changed {
		t.Errorf("a file that a person changed: %v", err)
	}
	if err := os.Symlink("mine", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	o.Force = true
	for _, name := range []string{"link", ".", "none/x"} {
		if err := write(name, "x"); !errors.As(err, new(*fs.PathError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := write("mine", "x"); err != nil {
		t.Error(err)
	}
	if got, want := list(t, dir), []string{"a", "three", "b", "changed", "link", "-> mine", "mine", "x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
