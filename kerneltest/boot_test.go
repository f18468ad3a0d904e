//go:build kernel

package kerneltest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"patchgen/kbuild"
	"patchgen/qemutest"
)

const (
	suite    = "dma_mark_dirty"
	pciSuite = "pci_page_dirtying"
)

// What cannot be tested with one CPU.
const twoCPUs = suite + "/mark_dirty_test_concurrent_writer"

// boot boots the tree after each patch, with the option on, then with the
// option off. Where the series has its tests, they must all pass, with one CPU
// and with two.
func (s *series) boot(t *testing.T) {
	b := s.builder("boot")
	tested := false
	for _, state := range []string{"on", "off"} {
		for i, commit := range s.commits[1:] {
			t.Run(fmt.Sprintf("%s/%04d", state, i+1), func(t *testing.T) {
				s.checkout(t, commit)
				config := with()
				if state == "on" {
					s.turnOn(t, config)
				}
				if err := b.Configure(t.Context(), config); err != nil {
					t.Fatal(err)
				}
				if _, err := b.Make(t.Context(), "bzImage"); err != nil {
					t.Fatal(err)
				}
				if state == "on" && i == len(s.commits)-2 {
					nops(t, b.Output)
				}
				if config[tests] == "y" {
					tested = true
					suites := []string{suite}
					if config[pciTests] == "y" {
						suites = append(suites, pciSuite)
					}
					bootOnce(t, b, 1, []string{"kunit_shutdown=reboot"}, func(r qemutest.Result) error { return testsPassed(r, suites, twoCPUs) })
					bootOnce(t, b, 2, []string{"kunit_shutdown=reboot"}, func(r qemutest.Result) error { return testsPassed(r, suites) })
				} else {
					bootOnce(t, b, 2, nil, reachedInit)
				}
			})
		}
	}
	if !tested {
		t.Errorf("the series has no CONFIG_%s", tests)
	}
}

func bootOnce(t *testing.T, b *kbuild.Build, cpus int, args []string, judge func(qemutest.Result) error) {
	t.Run(fmt.Sprintf("cpus=%d", cpus), func(t *testing.T) {
		r, err := qemutest.Boot(t.Context(), qemutest.Machine{
			Kernel: b.BzImage(),
			Args:   append([]string{"kunit.enable=1", "swiotlb=force", "dma_page_dirtying=armed"}, args...),
			CPUs:   cpus,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := judge(r); err != nil {
			t.Errorf("%v\nthe console's end:\n%s", err, end(r.Console))
		}
		t.Logf("%v after %v", r.End, r.Took)
	})
}

// testsPassed returns nil if the guest ended by itself, with no complaint, and
// all tests of the suites passed, but for those that may be skipped.
func testsPassed(r qemutest.Result, suites []string, maySkip ...string) error {
	// KUnit of before 5.11 has no kunit_shutdown=.
	if reachedInit(r) != nil {
		if r.End != qemutest.Exited {
			return fmt.Errorf("the guest %v: %s", r.End, r.Why)
		}
		if faults := qemutest.Faults(r.Console); faults != nil {
			return fmt.Errorf("the kernel complains:\n\t%s", strings.Join(faults, "\n\t"))
		}
	}
	k := qemutest.ParseKTAP(r.Console)
	var errs []error
	for _, name := range suites {
		errs = append(errs, k.AllPassed(name, maySkip...))
	}
	return errors.Join(errs...)
}

// reachedInit returns nil if the kernel came as far as looking for a program
// to start, and complained of nothing but that there is none.
func reachedInit(r qemutest.Result) error {
	if r.End != qemutest.Panicked || !strings.Contains(r.Why, "Unable to mount root fs") && !strings.Contains(r.Why, "No working init found") {
		return fmt.Errorf("the guest %v: %s; want a panic for lack of an init", r.End, r.Why)
	}
	if faults := qemutest.Faults(r.Console); len(faults) != 1 {
		return fmt.Errorf("the kernel complains:\n\t%s", strings.Join(faults, "\n\t"))
	}
	return nil
}

func end(console []byte) []byte {
	return console[max(0, len(console)-4000):]
}
