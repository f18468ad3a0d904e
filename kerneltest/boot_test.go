//go:build kernel

package kerneltest

import (
	"fmt"
	"strings"
	"testing"

	"patchgen/kconfig"
	"patchgen/qemutest"
)

const suite = "dma_mark_dirty"

// boot boots the whole series: with the option and its tests on, which must
// all pass, with one CPU and with two; and with the option off.
func (s *series) boot(t *testing.T) {
	s.checkout(t, s.commits[len(s.commits)-1])
	for _, test := range []struct {
		name   string
		config kconfig.Config
		cpus   []int
		judge  func(qemutest.Result) error
	}{
		// The example suite has tests that are skipped: see TestJudges.
		{"on", with(option, "y", tests, "y"), []int{1, 2}, func(r qemutest.Result) error { return testsPassed(r, suite) }},
		{"off", with(), []int{2}, reachedInit},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := s.builder("boot")
			if err := b.Configure(t.Context(), test.config); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Make(t.Context(), "bzImage"); err != nil {
				t.Fatal(err)
			}
			for _, cpus := range test.cpus {
				t.Run(fmt.Sprintf("cpus=%d", cpus), func(t *testing.T) {
					args := []string{"kunit.enable=1", "swiotlb=force", "dma_page_dirtying=armed"}
					if test.name == "on" {
						args = append(args, "kunit_shutdown=reboot")
					}
					r, err := qemutest.Boot(t.Context(), qemutest.Machine{Kernel: b.BzImage(), Args: args, CPUs: cpus})
					if err != nil {
						t.Fatal(err)
					}
					say("  boot with %d CPUs: %v after %v", cpus, r.End, r.Took)
					if err := test.judge(r); err != nil {
						t.Errorf("%v\nthe console's end:\n%s", err, end(r.Console))
					}
				})
			}
		})
	}
}

// testsPassed returns nil if the guest ended by itself, with no complaint, and
// all tests of the suite passed.
func testsPassed(r qemutest.Result, suite string) error {
	if r.End != qemutest.Exited {
		return fmt.Errorf("the guest %v: %s", r.End, r.Why)
	}
	if faults := qemutest.Faults(r.Console); faults != nil {
		return fmt.Errorf("the kernel complains:\n\t%s", strings.Join(faults, "\n\t"))
	}
	return qemutest.ParseKTAP(r.Console).AllPassed(suite)
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
