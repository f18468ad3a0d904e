package qemutest

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// The series' own suite, and what of it one CPU cannot test.
const (
	kunitSuite = "dma_mark_dirty"
	kunitTwo   = kunitSuite + "/mark_dirty_test_concurrent_writer"
)

// KUnitSuites are the suites that the series can have, by the Kconfig symbols, without
// CONFIG_, that compile them. Not every kernel gets the hand-shake, and so the second.
var KUnitSuites = map[string]string{
	"DMA_MARK_DIRTY_KUNIT_TEST":    kunitSuite,
	"PCI_PAGE_DIRTYING_KUNIT_TEST": "pci_page_dirtying",
}

// KUnit of before 5.11 has no kunit_shutdown=, so that the guest goes on and finds
// no root file system. Before 5.14 it knows of no skipped test: the suite says so
// in a line of its own, and the test passes.
const noRoot = "Kernel panic - not syncing: VFS: Unable to mount root fs"

var skipLine = consoleLine(` *# mark_dirty_test_\w+: SKIP `)

// A KUnitRun is what the series' own suites said in a guest.
type KUnitRun struct {
	CPUs    int     `json:"cpus"`
	Passed  int     `json:"passed"`
	Skipped int     `json:"skipped"`
	Failed  int     `json:"failed"` // or without a result
	Verdict string  `json:"verdict"`
	Why     string  `json:"why,omitempty"`
	Killer  string  `json:"first_failed,omitempty"` // path of the first case that failed
	Console string  `json:"console,omitempty"`      // the file where it is kept
	Seconds float64 `json:"seconds"`
}

// KUnit boots the patched kernel with each number of vCPUs and reads what p.Suites
// say. A suite without all of its results is a crash. The error is Boot's.
func (p *Proof) KUnit(ctx context.Context, report *Report) error {
	reporter := p.stage("KUnit", len(p.CPUs))
	defer reporter.End()
	for i, cpus := range p.CPUs {
		r, err := p.kunit(ctx, cpus)
		if err != nil {
			return err
		}
		report.KUnit = append(report.KUnit, r)
		report.set(r.Verdict, "KUnit with "+count(cpus, "vCPU"), r.Why)
		reporter.Step(int64(i + 1))
	}
	return nil
}

func (p *Proof) kunit(ctx context.Context, cpus int) (KUnitRun, error) {
	// Newer trees (7.3 does, 6.12 does not) have a switch for tests at boot, too.
	b, err := Boot(ctx, Machine{
		QEMU: p.QEMU, Kernel: p.Kernels[Patched], CPUs: cpus, Limit: p.Limit,
		Args: append([]string{"kunit.enable=1", "kunit.autorun=1", "kunit_shutdown=reboot", "swiotlb=force", armed}, p.Cmdline...),
	})
	if err != nil {
		return KUnitRun{}, err
	}
	r := judgeKUnit(b, cpus, p.Suites)
	if r.Verdict != Pass {
		r.Console = p.keepText(fmt.Sprintf("kunit-%d.log", cpus), b.Console)
	}
	return r, nil
}

// judgeKUnit reads the suites' results out of what the guest printed.
func judgeKUnit(b Result, cpus int, suites []string) KUnitRun {
	r := KUnitRun{CPUs: cpus, Verdict: Pass, Seconds: b.Took.Seconds()}
	set := func(verdict, test, why string) {
		if gravity[verdict] > gravity[r.Verdict] {
			r.Verdict, r.Why = verdict, why
		}
		if r.Killer == "" {
			r.Killer = test
		}
	}
	k := ParseKTAP(b.Console)
	skipped := make(map[string]string) // why, by the path of the test
	for _, m := range skipLine.FindAllSubmatch(b.Console, -1) {
		name, why, _ := strings.Cut(strings.TrimLeft(string(m[1]), " #"), ": SKIP ")
		skipped[kunitSuite+"/"+name] = why
	}
	if b.End == Panicked && strings.HasPrefix(b.Why, noRoot) {
		b.End = Exited
	}
	missing := ""
	for _, t := range k.Tests {
		if !slices.Contains(suites, t.Name) && t.Status != Missing {
			continue
		}
		for path, t := range t.All() {
			if t.Tests != nil {
				continue // a group is what its cases are
			}
			if why, ok := skipped[path]; ok && t.Status == Passed {
				t.Status, t.Note = Skipped, why
			}
			switch t.Status {
			case Passed:
				r.Passed++
			case Skipped:
				r.Skipped++
				if path != kunitTwo || cpus > 1 {
					set(Fail, path, fmt.Sprintf("%s was skipped: %s", path, t.Note))
				}
			case Failed:
				r.Failed++
				set(Fail, path, path+" failed: "+strings.TrimSpace(firstOf(t.Log)))
			case Missing:
				r.Failed++
				if missing == "" {
					missing = strings.TrimSpace(path + ": " + t.Note)
				}
			}
		}
	}
	for _, suite := range suites {
		if _, ok := k.Find(suite); !ok && missing == "" {
			missing = "no result of the suite " + suite
		}
	}
	faults := slices.DeleteFunc(Faults(b.Console), func(line string) bool { return strings.HasPrefix(line, noRoot) })
	switch {
	case b.End != Exited:
		set(Crashed, b.End.String(), fmt.Sprintf("the guest %v: %s", b.End, strings.TrimSpace(b.Why+" "+missing)))
	case missing != "":
		set(Crashed, "missing result", "the suite broke off: "+missing)
	case len(k.Problems) > 0:
		set(Fail, "output", k.Problems[0])
	case len(faults) > 0:
		set(Fail, "console", "the kernel complains: "+faults[0])
	}
	return r
}

func firstOf(lines []string) string {
	for _, l := range lines {
		if strings.Contains(l, "# ") || strings.Contains(l, "EXPECTATION") || strings.Contains(l, "ASSERTION") {
			return l
		}
	}
	if len(lines) > 0 {
		return lines[0]
	}
	return ""
}
