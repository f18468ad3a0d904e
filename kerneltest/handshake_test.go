//go:build kernel

package kerneltest

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"patchgen/qemutest"
)

// TestHandshake judges patchgen test --tests handshake by its table and its JSON:
// QEMU is built with its series, and wrong on purpose.
func TestHandshake(t *testing.T) {
	c := newTester(t)
	file := filepath.Join(t.TempDir(), "result.json")
	args := []string{"--tests", "handshake", "--json", file}
	if *mutants {
		args = append(args, "--mutants")
	}
	e := c.run(t, nil, nil, args...)
	e.want(t, 0)
	say("%s", e.stdout)
	if t.Failed() {
		t.FailNow()
	}
	r := readReport(t, file)
	if r.QEMU == "" || r.Verdict != qemutest.Pass || len(r.Runs)+len(r.KUnit)+len(r.Matrix) > 0 {
		t.Errorf("verdict %s, with %d runs of other tests", r.Verdict, len(r.Runs))
	}
	// Which of them move pages: told once more and not by the program.
	migrates := []string{"migrate", "cancel", "back", "old guest, unplug"}
	seen := make(map[string]int)
	for _, h := range r.Handshakes {
		seen[h.Name]++
		if h.Verdict != qemutest.Pass || h.Missed != 0 || h.Early {
			t.Errorf("%s, %d vCPUs: verdict %s (%s), %d missed, early %t", h.Name, h.CPUs, h.Verdict, h.Why, h.Missed, h.Early)
		}
		if !strings.Contains(e.stdout, h.Name) {
			t.Errorf("the table lacks %q", h.Name)
		}
		at := func(what string) int { return slices.Index(h.History, what) }
		switch {
		case slices.Contains(migrates, h.Name):
			// In the warm-up, the disk's 32 MiB, and a page or so for each packet;
			// devices that were unplugged first have written before it.
			if unplugged := h.Name == "old guest, unplug"; unplugged && h.Written != 0 || !unplugged && h.Written < 8192+1024 {
				t.Errorf("%s: %d pages were written", h.Name, h.Written)
			}
			if at("wait-page-dirtying") < 0 || at("wait-page-dirtying") > at("active") || at("gone: disk") < 0 || at("completed") < 0 {
				t.Errorf("%s: %v", h.Name, h.History)
			}
		case h.Name == "not asked":
			if at("wait-page-dirtying") >= 0 || at("active") < 0 {
				t.Errorf("%s: %v", h.Name, h.History)
			}
		case at("failed") < 0 || at("completed") >= 0:
			t.Errorf("%s: %v", h.Name, h.History)
		}
	}
	if len(seen) != 10 {
		t.Errorf("the experiments are %v", seen)
	}
	for name, n := range seen {
		if n != 2 {
			t.Errorf("%s was made %d times, want it with 1 and with 2 vCPUs", name, n)
		}
	}
	judgeImpatient(t, r.Mutants)
}

// judgeImpatient wants a QEMU that does not wait to be seen by the pages that it loses.
func judgeImpatient(t *testing.T, killed []qemutest.Mutant) {
	t.Helper()
	for _, m := range killed {
		if m.Name == "qemu:does-not-wait" {
			if !slices.ContainsFunc(m.Killers, func(k string) bool { return strings.HasSuffix(k, "pages were lost") }) {
				t.Errorf("%s was seen by %v", m.Name, m.Killers)
			}
			return
		}
	}
	t.Errorf("no QEMU that does not wait is among %d mutants", len(killed))
}
