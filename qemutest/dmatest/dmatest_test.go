package dmatest

import (
	"strings"
	"testing"
)

func TestFiles(t *testing.T) {
	files := Files()
	for name, want := range map[string]string{Name + ".c": "MODULE_LICENSE", "Kbuild": "obj-m := " + Name + ".o\n"} {
		if !strings.Contains(string(files[name]), want) {
			t.Errorf("%s has no %q", name, want)
		}
	}
	if len(files) != 2 {
		t.Errorf("%d files", len(files))
	}
}
