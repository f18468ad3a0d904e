//go:build kernel

package kerneltest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"patchgen/kbuild"
	"patchgen/kconfig"
)

const (
	option = "SWIOTLB_PAGE_DIRTYING"
	tests  = "DMA_MARK_DIRTY_KUNIT_TEST"
	menu   = "Processor type and features"

	// The hand-shake, and its suite.
	pciOption = "PCI_PAGE_DIRTYING"
	pciTests  = "PCI_PAGE_DIRTYING_KUNIT_TEST"
)

// with returns kbuild's configuration with some symbols more.
func with(symbols ...string) kconfig.Config {
	c := kbuild.QEMUConfig()
	for i := 0; i < len(symbols); i += 2 {
		c[symbols[i]] = symbols[i+1]
	}
	return c
}

// kconfig has the tree's own scripts/kconfig/conf judge the entries.
func (s *series) kconfig(t *testing.T) {
	s.checkout(t, s.commits[len(s.commits)-1])
	if err := s.judgeKconfig(t); err != nil {
		t.Error(err)
	}
}

func (w *work) judgeKconfig(t *testing.T) error {
	b := w.builder("kconfig")
	configure := func(c kconfig.Config) (kconfig.Config, error) {
		if err := b.Configure(t.Context(), c); err != nil {
			return nil, err
		}
		return b.Config()
	}

	// A configuration from before the series: listnewconfig asks for the
	// option, and olddefconfig gives it its default. conf writes "is not set"
	// for what has a prompt that one can see, and leaves the others out.
	before, err := configure(with())
	if err != nil {
		return err
	}
	delete(before, option)
	delete(before, tests)
	file := filepath.Join(b.Output, ".config")
	if err := os.WriteFile(file, before.Bytes(), 0o666); err != nil {
		return err
	}
	if _, err := b.Make(t.Context(), "listnewconfig"); err != nil {
		return err
	}
	log, err := os.ReadFile(filepath.Join(b.Output, "make.log"))
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Split(string(log), "\n"), "CONFIG_"+option+"=n") {
		return fmt.Errorf("listnewconfig does not list CONFIG_%s=n:\n%s", option, log)
	}
	if _, err := b.Make(t.Context(), "olddefconfig"); err != nil {
		return err
	}
	got, err := b.Config()
	if err != nil {
		return err
	}
	if got[option] != "n" {
		return fmt.Errorf("CONFIG_%s is %q by default, want n and visible", option, got[option])
	}
	if _, there := got[tests]; there {
		return fmt.Errorf("CONFIG_%s can be had without CONFIG_%s", tests, option)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	// Above and below the entries of a menu conf writes comments.
	_, inside, begun := strings.Cut(string(text), "\n# "+menu+"\n")
	inside, _, ended := strings.Cut(inside, "\n# end of "+menu+"\n")
	if !begun || !ended || strings.Count(inside, option) != 1 || strings.Count(string(text), option) != 1 {
		return fmt.Errorf("CONFIG_%s does not stand once in the menu %q", option, menu)
	}

	for _, test := range []struct {
		name  string
		want  kconfig.Config
		tests string
	}{
		{"on", with(option, "y"), "n"},
		{"on with its tests", with(option, "y", tests, "y"), "y"},
		{"on with all tests", with(option, "y", "KUNIT_ALL_TESTS", "y"), "y"},
	} {
		got, err := configure(test.want)
		if err != nil {
			return fmt.Errorf("%s: %w", test.name, err)
		}
		if got[tests] != test.tests {
			return fmt.Errorf("%s: CONFIG_%s is %q, want %s", test.name, tests, got[tests], test.tests)
		}
	}

	// A PC of 32 bits has no use for it.
	c := kconfig.Config{"64BIT": "n", "PCI": "y", option: "y"}
	var lost *kbuild.LostError
	if err := b.Configure(t.Context(), c); !errors.As(err, &lost) || len(lost.Lost) != 1 || lost.Lost[0].Symbol != option {
		return fmt.Errorf("without 64BIT: got %v, want CONFIG_%s to be lost", err, option)
	}
	return nil
}
