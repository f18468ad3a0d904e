//go:build kernel

package ktree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Debian's package for real: fetched once into the user's cache, then opened
// from there at once and without apt.
func TestKernelDebian(t *testing.T) {
	tree, err := Open(t.Context(), "debian:6.12", Options{})
	if err != nil {
		t.Fatal(err)
	}
	tree.Close()

	t.Setenv("PATH", t.TempDir())
	start := time.Now()
	if tree, err = Open(t.Context(), "debian:6.12", Options{}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 50*time.Millisecond {
		t.Errorf("opening what is cached took %v", d)
	}
	defer tree.Close()
	t.Logf("%s, Linux %s", tree.Origin(), tree.Release())
	r := tree.Release()
	if r.Version != 6 || r.Patchlevel != 12 || !strings.HasPrefix(tree.Origin(), "Debian linux-source-6.12 "+r.String()+"-") {
		t.Errorf("%s is Linux %s", tree.Origin(), r)
	}
	for _, name := range []string{"MAINTAINERS", "arch/x86/Kconfig", "kernel/dma/direct.h", "drivers/xen/swiotlb-xen.c", "Documentation/admin-guide/kernel-parameters.txt"} {
		if data, err := tree.ReadFile(name); err != nil || len(data) < 1000 {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	if st, err := os.Stat(filepath.Join(tree.Dir(), "scripts/checkpatch.pl")); err != nil || st.Mode()&0o100 == 0 {
		t.Errorf("scripts/checkpatch.pl cannot be run: %v", err)
	}
	if dir, ok := Find(filepath.Join(tree.Dir(), "kernel/dma"), Linux); !ok || dir != tree.Dir() {
		t.Errorf("found %q", dir)
	}
}
