//go:build kernel

package kerneltest

import (
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"patchgen/qemutest"
)

var (
	proofTree = flag.String("proof-tree", "debian:6.12", "`tree` of the tests of patchgen test")
	proofSets = flag.String("proof-tests", "kunit,proof,matrix", "`names` of the tests that TestProof makes")
	mutants   = flag.Bool("mutants", false, "have TestProof kill mutants, too")
	repeat    = flag.Int("repeat", 3, "make TestRepeat's run so many times")
	memories  = flag.String("memories", "1G", "guests' memory in TestMemory, separated by commas; the host needs twice as much")
	oldQEMU   = flag.String("old-qemu", "", "a QEMU before 9.0 for TestOldQEMU, or none to leave it out; else Debian's is fetched")
)

// TestProof judges patchgen test by what it says: on standard output and in its
// three files.
func TestProof(t *testing.T) {
	c := newTester(t)
	dir := t.TempDir()
	name := func(ext string) string { return filepath.Join(dir, "result."+ext) }
	args := []string{"--tests", *proofSets, "--json", name("json"), "--ktap", name("ktap"), "--junit", name("xml"), "--consoles", filepath.Join(dir, "consoles")}
	if *mutants {
		args = append(args, "--mutants")
	}
	e := c.run(t, nil, nil, args...)
	e.want(t, 0)
	if t.Failed() {
		t.FailNow()
	}
	say("%s", e.stdout)
	if _, err := os.Stat(filepath.Join(dir, "consoles")); err == nil {
		t.Error("consoles are kept though no run failed")
	}
	if !strings.Contains(e.stdout, "With the series none of the ") {
		t.Errorf("standard output is\n%s", e.stdout)
	}
	sets := strings.Split(*proofSets, ",")
	report := readReport(t, name("json"))
	suites := 2
	if slices.Contains(sets, "kunit") {
		suites += len(report.KUnit)
		judgeKUnitRuns(t, report.KUnit)
	}
	if slices.Contains(sets, "matrix") {
		suites += 1 + len(report.Matrix)
		if len(report.Levels) != 5 {
			t.Errorf("levels %+v", report.Levels)
		}
		judgeMatrix(t, report.Matrix)
	}
	if *mutants {
		suites++
		judgeMutants(t, report.Mutants)
	}
	judgeReport(t, name("json"), 1, 2)
	fields(t, name("json"))

	ktap := qemutest.ParseKTAP(read(t, name("ktap")))
	for _, suite := range ktap.Tests {
		if err := ktap.AllPassed(suite.Name); err != nil {
			t.Errorf("%s: %v", name("ktap"), err)
		}
	}
	if len(ktap.Tests) != suites {
		t.Errorf("%s has %d tests, want %d", name("ktap"), len(ktap.Tests), suites)
	}
	var junit struct {
		Suites []struct {
			Tests  int    `xml:"tests,attr"`
			Time   string `xml:"time,attr"`
			Faults int    `xml:"failures,attr"`
			Cases  []struct {
				Name    string    `xml:"name,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(read(t, name("xml")), &junit); err != nil {
		t.Fatal(err)
	}
	if len(junit.Suites) != suites {
		t.Errorf("%s has %d suites, want %d", name("xml"), len(junit.Suites), suites)
	}
	for _, s := range junit.Suites {
		if s.Tests != len(s.Cases) || s.Faults != 0 {
			t.Errorf("the suite tells of %d tests and %d failures, has %d", s.Tests, s.Faults, len(s.Cases))
		}
		for _, c := range s.Cases {
			if c.Failure != nil || c.Error != nil || c.Name == "" {
				t.Errorf("case %+v", c)
			}
		}
	}
}

func judgeKUnitRuns(t *testing.T, runs []qemutest.KUnitRun) {
	t.Helper()
	if len(runs) != 2 {
		t.Fatalf("%d runs of KUnit, want 2", len(runs))
	}
	for i, r := range runs {
		// One is of concurrent writers.
		if r.CPUs != i+1 || r.Failed != 0 || r.Skipped != 1-i || r.Passed < 29 || r.Verdict != qemutest.Pass {
			t.Errorf("KUnit: %+v", r)
		}
	}
}

// judgeMatrix sums up what the report has of cells, and holds it against what must
// come of them.
func judgeMatrix(t *testing.T, runs []qemutest.MatrixRun) {
	t.Helper()
	if len(runs) != 4 {
		t.Fatalf("%d runs of the matrix, want 4", len(runs))
	}
	for _, m := range runs {
		where := fmt.Sprintf("matrix, %d vCPUs, bounced %t", m.CPUs, m.Bounced)
		if m.Verdict != qemutest.Pass || m.Why != "" || m.Registers != 0 || m.Passes < 6 || m.Counters["faults"] != 0 {
			t.Errorf("%s: %s %s, %d pages of registers, %d passes, counters %v", where, m.Verdict, m.Why, m.Registers, m.Passes, m.Counters)
		}
		cells := make(map[string]int)
		for _, c := range m.Cells {
			cells[c.Want]++
			missed := map[string]int{qemutest.Dirty: 0, qemutest.Clean: 0, qemutest.Missed: c.Written}
			if c.Missed != missed[c.Want] || c.Over != 0 || (c.Written == 0) != (c.Want == qemutest.Clean) {
				t.Errorf("%s: %s: want %s, %d written, %d missed, %d over-reported", where, c.Name, c.Want, c.Written, c.Missed, c.Over)
			}
		}
		if cells[qemutest.Dirty] < 200 || cells[qemutest.Clean] < 200 || cells[qemutest.Missed] < 3 {
			t.Errorf("%s: cells %v", where, cells)
		}
		if w := m.Writers; (w == nil) != m.Bounced || w != nil && (w.Lost != 0 || w.Stores < 100_000 || w.Syncs < 100_000) {
			t.Errorf("%s: writers %+v", where, w)
		}
	}
}

// judgeMutants checks that each was killed, by whom it must be.
func judgeMutants(t *testing.T, killed []qemutest.Mutant) {
	t.Helper()
	if len(killed) < 40 {
		t.Errorf("%d mutants", len(killed))
	}
	by := make(map[string]string)
	var kunit, matrix int
	for _, m := range killed {
		by[m.Name] = strings.Join(m.Killers, "; ")
		if len(m.Killers) == 0 || m.About == "" {
			t.Errorf("mutant %s: %s: killed by %q", m.Name, m.About, m.Killers)
		}
		if strings.Contains(by[m.Name], "KUnit ") {
			kunit++
		}
		if strings.Contains(by[m.Name], "matrix ") {
			matrix++
		}
	}
	say("%d mutants, %d killed by KUnit, %d by the matrix", len(killed), kunit, matrix)
	// Those have teeth of their own, each without the other.
	if kunit < 20 || matrix < 20 {
		t.Errorf("KUnit killed %d and the matrix %d of %d mutants", kunit, matrix, len(killed))
	}
}

func readReport(t *testing.T, file string) *qemutest.Report {
	t.Helper()
	var r qemutest.Report
	if err := json.Unmarshal(read(t, file), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// judgeReport holds a report of a proof that passed against what must be in it.
func judgeReport(t *testing.T, file string, cpus ...int) *qemutest.Report {
	t.Helper()
	r := readReport(t, file)
	if r.Verdict != qemutest.Pass || r.Why != "" {
		t.Errorf("verdict %s %s", r.Verdict, r.Why)
	}
	if r.QEMU == "" || r.Accelerator == "" || r.Memory == 0 || !strings.HasPrefix(r.Kernel, "6.") && *proofTree == "debian:6.12" {
		t.Errorf("QEMU %q, accelerator %q, memory %d, kernel %q", r.QEMU, r.Accelerator, r.Memory, r.Kernel)
	}
	var want, got []string
	for _, n := range cpus {
		for _, run := range qemutest.Runs {
			want = append(want, fmt.Sprint(run.Name, run.Kernel, run.Device, n))
		}
	}
	for _, o := range r.Runs {
		got = append(got, fmt.Sprint(o.Name, o.Kernel, o.Device, o.CPUs))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("runs (-want +got):\n%s", diff)
	}
	for i, o := range r.Runs {
		run := qemutest.Runs[i%len(qemutest.Runs)]
		judgeOutcome(t, &o, run.Loses)
		if o.Verdict != qemutest.Pass {
			t.Errorf("%s, %d vCPUs: verdict %s: %s", o.Name, o.CPUs, o.Verdict, o.Why)
		}
		if calls := o.Counters["calls"]; run.Kernel == qemutest.Patched && run.Marking != (calls > 0) {
			t.Errorf("%s, %d vCPUs: %d calls were counted", o.Name, o.CPUs, calls)
		}
		if run.Marking && o.Counters["pages"] < uint64(o.Written) {
			t.Errorf("%s, %d vCPUs: %d pages were marked, %d written", o.Name, o.CPUs, o.Counters["pages"], o.Written)
		}
	}
	return r
}

// judgeOutcome checks that a run lost pages of both devices or nothing, and that
// its figures agree with one another.
func judgeOutcome(t *testing.T, o *qemutest.Outcome, loses bool) {
	t.Helper()
	where := fmt.Sprintf("%s, %d vCPUs", o.Name, o.CPUs)
	if o.Written == 0 || o.Resent == 0 || o.Passes < 3 {
		t.Errorf("%s: %d written, %d resent, %d passes", where, o.Written, o.Resent, o.Passes)
	}
	if len(o.Others) > 0 {
		t.Errorf("%s: pages %v are lost that nobody wrote", where, o.Others)
	}
	if (o.Missed > 0) != loses || len(o.Lost) != o.Missed {
		t.Errorf("%s: %d missed, %d listed; loses %t", where, o.Missed, len(o.Lost), loses)
	}
	devices := o.Device != qemutest.None
	var written, missed int
	var drivers []string
	for _, d := range o.Drivers {
		drivers = append(drivers, d.Name)
		written, missed = written+d.Written, missed+d.Missed
		if (d.Missed > 0) != loses || d.Written < 100 {
			t.Errorf("%s: %s: %d of %d missed; loses %t", where, d.Name, d.Missed, d.Written, loses)
		}
	}
	if devices && (!slices.Equal(drivers, []string{"virtio_blk", "virtio_net"}) || written != o.Written || missed != o.Missed) {
		t.Errorf("%s: drivers %v wrote %d of %d pages and missed %d of %d", where, o.Drivers, written, o.Written, missed, o.Missed)
	}
	// What the guest itself found on the destination.
	if bad := len(diskPages(o)); o.Guest.Pages == 0 || o.Guest.BadPages != bad {
		t.Errorf("%s: the guest finds %d of %d pages bad, the memories differ in %d of the disk's", where, o.Guest.BadPages, o.Guest.Pages, bad)
	}
	if devices && ((o.Guest.BadPackets > 0) != loses || o.Guest.Packets == 0) {
		t.Errorf("%s: the guest finds %d of %d packets bad; loses %t", where, o.Guest.BadPackets, o.Guest.Packets, loses)
	}
}

// diskPages returns what was lost of the disk's data, as bytes from its begin, or
// in a run without a disk, of what the CPU stored.
func diskPages(o *qemutest.Outcome) []int64 {
	var pages []int64
	for _, p := range o.Lost {
		if p.Driver != "virtio_net" && p.What == "data" {
			pages = append(pages, p.Source)
		}
	}
	slices.Sort(pages)
	return pages
}

// fields checks that the JSON has the fields that it is said to have.
func fields(t *testing.T, file string) {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(read(t, file), &doc); err != nil {
		t.Fatal(err)
	}
	has := func(object map[string]any, names string) {
		t.Helper()
		for name := range strings.FieldsSeq(names) {
			if _, ok := object[name]; !ok {
				t.Errorf("the JSON lacks %s", name)
			}
		}
	}
	has(doc, "verdict accelerator qemu kernel seed runs")
	for _, run := range doc["runs"].([]any) {
		has(run.(map[string]any), "name kernel device cpus written missed resent over_reported passes downtime_ms verdict")
	}
}

// TestFaultySeries breaks the series on purpose: the proof alone must see it, and
// say what was lost. What it cannot see is what the mutants are for.
func TestFaultySeries(t *testing.T) {
	c := newTester(t)
	w := openWork(t, *proofTree)
	s := w.emit(t, c.patchgen)
	if err := s.apply(t); err != nil {
		t.Fatal(err)
	}
	whole := s.commits[len(s.commits)-1]
	const (
		engine = "kernel/dma/mark_dirty.c"
		header = "include/linux/dma-mark-dirty.h"
		arch   = "arch/x86/include/asm/dma-mark-dirty.h"
		hooks  = "kernel/dma/direct.h"
	)
	for _, fault := range []struct {
		name    string
		edits   [][3]string // file, text that is there once, what it becomes
		code    int
		run     string   // that does not pass
		drivers []string // that lose pages in it, or lose none though they should
		hint    string
	}{
		{
			name: "no hook",
			edits: [][3]string{
				{hooks, "\tdma_mark_dirty(dev, paddr, size, dir);\n", ""},
				{hooks, "\telse\n\t\tdma_mark_dirty(dev, phys, size, dir);\n", ""},
			},
			code: 5, run: "proof", drivers: []string{"virtio_blk", "virtio_net"},
			hint: "look whether the hooks are there",
		},
		{
			name:  "last page",
			edits: [][3]string{{engine, "\tfor (;;) {\n", "\tfor (; pfn != last_pfn;) {\n"}},
			code:  5, run: "proof", drivers: []string{"virtio_blk", "virtio_net"},
			hint: "look at the bounds of the loop over pages",
		},
		{
			name:  "marks though disabled",
			edits: [][3]string{{header, "static_branch_unlikely(&dma_mark_dirty_active)", "dma_mark_dirty_armed()"}},
			code:  4, run: "bypass", drivers: []string{"virtio_blk", "virtio_net"},
			hint: "look at the condition around the call of dma_mark_dirty()",
		},
		{
			name:  "load instead of store",
			edits: [][3]string{{arch, "lock orb $0, %[byte]", "testb $0, %[byte]"}},
			code:  5, run: "proof", drivers: []string{"virtio_blk", "virtio_net"},
			hint: "look whether arch_dma_mark_dirty() stores",
		},
		{
			// The disk's buffers are whole pages, the card's are smaller.
			name:  "no small buffers",
			edits: [][3]string{{engine, "\tif (!size)\n", "\tif (size < PAGE_SIZE)\n"}},
			code:  5, run: "proof", drivers: []string{"virtio_net"},
			hint: "virtio_net lost about as much as without the series: look at the hook on its way, unmap or sync",
		},
	} {
		t.Run(fault.name, func(t *testing.T) {
			w.checkout(t, whole)
			for _, e := range fault.edits {
				w.change(t, e[0], func(src string) string {
					if n := strings.Count(src, e[1]); n != 1 {
						t.Fatalf("%s has %d times %q", e[0], n, e[1])
					}
					return strings.Replace(src, e[1], e[2], 1)
				})
			}
			w.git(t, "commit", "-q", "-a", "-m", "break it: "+fault.name)
			dir := t.TempDir()
			w.git(t, "format-patch", "-q", "-o", dir, w.base)

			file := filepath.Join(t.TempDir(), "result.json")
			e := c.run(t, nil, nil, "--patches", dir, "--cpus", "2", "--accel", "tcg", "--json", file)
			e.want(t, fault.code, fault.hint)
			if t.Failed() {
				return
			}
			for i, o := range readReport(t, file).Runs {
				run := qemutest.Runs[i]
				if o.Name != fault.run {
					judgeOutcome(t, &o, run.Loses)
					if o.Verdict != qemutest.Pass {
						t.Errorf("%s run: %s: %s", o.Name, o.Verdict, o.Why)
					}
					continue
				}
				want := map[int]string{4: qemutest.Fail, 5: qemutest.Lost}[fault.code]
				if o.Verdict != want || o.Why == "" {
					t.Errorf("%s run: %s: %s; want %s", o.Name, o.Verdict, o.Why, want)
				}
				for _, d := range o.Drivers {
					t.Logf("%s: %d of %d missed, counters %v", d.Name, d.Missed, d.Written, o.Counters)
					if red := (d.Missed > 0) != run.Loses; red != slices.Contains(fault.drivers, d.Name) {
						t.Errorf("%s run: %d of %d pages of %s are lost", o.Name, d.Missed, d.Written, d.Name)
					}
				}
				if bad := len(diskPages(&o)); o.Guest.BadPages != bad {
					t.Errorf("%s run: the guest finds %d pages bad, the memories differ in %d of the disk's", o.Name, o.Guest.BadPages, bad)
				}
			}
			if fault.code == 5 && !lostPageRE.MatchString(e.stdout) {
				t.Errorf("standard output does not name the pages:\n%s", e.stdout)
			}
		})
	}
}

// lostPageRE is how a lost page is named: its address, what wrote it, and from where.
var lostPageRE = regexp.MustCompile(`(?m)^  0x[0-9a-f]+000, data, written by the (disk, byte|card, packet) \d+ in pass \d+, \d+ ms after the migration began$`)

// TestEnds has guest, QEMU and patchgen end in all the ways in which they
// should not.
func TestEnds(t *testing.T) {
	c := newTester(t)
	// How the guest ends; at store and read the migration is under way.
	for _, test := range []struct {
		provoke string
		code    int
		says    string
		console string // of that guest has this
	}{
		{"panic@read", 6, "loss run with 2 vCPUs: the source guest panicked: Kernel panic - not syncing: sysrq triggered crash", "Call Trace:"},
		{"oops@store", 6, "calibration run with 2 vCPUs: the source guest oopsed: BUG: ", "Call Trace:"},
		{"exit@store", 6, "the source guest panicked: Kernel panic - not syncing: Attempted to kill init!", "Attempted to kill init!"},
		{"poweroff@store", 6, "the source guest powered off or reset itself", "reboot: Power down"},
		{"hang@read", 7, "no answer to read from the source guest's agent within 15s", "patchgen agent: "},
		{"hang@hello", 7, "no hello from the source guest's agent within 15s", "patchgen agent: "},
		{"nonsense@store", 6, "the source guest: the guest's agent on store: it answers request", "patchgen agent: "},
		{"garbage@store", 6, "the source guest: wait for the guest's agent to answer store: a frame of", "patchgen agent: "},
		// In the calibration that is asked of the destination alone.
		{"panic@verify", 6, "calibration run with 2 vCPUs: the destination guest panicked", "sysrq triggered crash"},
	} {
		t.Run(test.provoke, func(t *testing.T) {
			consoles := filepath.Join(t.TempDir(), "consoles")
			e := c.run(t, nil, nil, "--cpus", "2", "--accel", "tcg", "--limit", "15s", "--consoles", consoles, "--append", "patchgen.provoke="+test.provoke)
			e.want(t, test.code, test.says, "what the guests printed is in ")
			which := "source"
			if strings.Contains(test.says, "destination") {
				which = "destination"
			}
			for _, name := range list(t, consoles) {
				name = filepath.Join(consoles, name)
				if !strings.Contains(e.stderr, name) {
					t.Errorf("%s is kept and not named", name)
				}
				if strings.HasSuffix(name, which+".log") && !strings.Contains(string(read(t, name)), test.console) {
					t.Errorf("%s lacks %q", name, test.console)
				}
			}
		})
	}

	t.Run("QEMU killed", func(t *testing.T) {
		for _, which := range []string{"source", "destination"} {
			t.Run(which, func(t *testing.T) {
				e := c.run(t, nil, func(patchgen *os.Process) {
					for _, pid := range guests(t, patchgen, 2) {
						if strings.Contains(cmdline(pid), "-name patchgen-"+which+" ") {
							time.Sleep(8 * time.Second) // the migration has begun, and waits
							syscall.Kill(pid, syscall.SIGKILL)
						}
					}
				}, "--cpus", "2", "--accel", "tcg", "--append", "patchgen.provoke=hang@store")
				e.want(t, 8, "the "+which+"'s QEMU ended by itself: signal: killed")
			})
		}
	})

	t.Run("no QEMU", func(t *testing.T) {
		for _, test := range []struct{ qemu, says string }{
			{"/bin/true", "the source's QEMU ended by itself: exit status 0"},
			{script(t, "echo no such thing as a machine >&2; exit 3"), "the source's QEMU ended by itself: exit status 3: no such thing as a machine"},
			{script(t, "echo hello"), "the source's QEMU ended by itself: exit status 0: hello"},
			{"/nowhere/qemu", "install the package qemu-system-x86"},
			{script(t, "exec sleep 60"), "no greeting from the source's QEMU within 20s"},
		} {
			code := 8
			if strings.HasPrefix(test.says, "no greeting") {
				code = 7
			}
			c.run(t, nil, nil, "--accel", "tcg", "--qemu", test.qemu).want(t, code, test.says)
		}
	})

	// Of a series of runs, the second is the first that has devices.
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			var sent time.Time
			e := c.run(t, nil, func(patchgen *os.Process) {
				first := guests(t, patchgen, 2)
				for n := guests(t, patchgen, 2); slices.Contains(n, first[0]); n = guests(t, patchgen, 2) {
					time.Sleep(20 * time.Millisecond)
				}
				time.Sleep(2 * time.Second)
				sent = time.Now()
				patchgen.Signal(signal)
			}, "--cpus", "2", "--accel", "tcg")
			say("%v: ended after %v", signal, time.Since(sent).Round(time.Millisecond))
			if signal == syscall.SIGKILL {
				e.want(t, -1)
			} else {
				e.want(t, 130, "interrupted")
			}
		})
	}
}

// TestOldQEMU has a QEMU whose dirty log is unsound under TCG: that must be seen,
// and not be taken for a fault of the kernel.
func TestOldQEMU(t *testing.T) {
	if *oldQEMU == "none" {
		t.Skip("left out by -old-qemu none")
	}
	c := newTester(t)
	qemu := *oldQEMU
	if qemu == "" {
		qemu = fetchOldQEMU(t)
	}
	t.Logf("%s", run(t, "", qemu, "--version"))
	for _, cpus := range []string{"1", "2"} {
		c.run(t, nil, nil, "--qemu", qemu, "--cpus", cpus, "--accel", "tcg").want(t, 8, "this QEMU's dirty log is unsound", "take QEMU 9.0 or newer")
	}
}

// fetchOldQEMU gets a QEMU before 9.0 from the machine's own sources of packages,
// if they have one, and returns a program that runs it where it was unpacked.
// Its libraries and firmware are the installed QEMU's.
func fetchOldQEMU(t *testing.T) string {
	t.Helper()
	const missing = "Debian 12 has it, qemu-system-x86 and qemu-system-common of version 1:7.2; give one with -old-qemu PROGRAM, or leave the test out with -old-qemu none"
	var version string
	for line := range strings.Lines(run(t, "", "apt-cache", "madison", "qemu-system-x86")) {
		f := strings.Split(line, "|")
		if len(f) < 3 {
			continue
		}
		v := strings.TrimSpace(f[1])
		if exec.Command("dpkg", "--compare-versions", v, "lt", "1:9").Run() == nil {
			version = v
			break
		}
	}
	if version == "" {
		t.Fatal("apt has no QEMU before 9.0: " + missing)
	}
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(user, "patchgen", "kerneltest", unfit.ReplaceAllString("qemu-"+version, "-"))
	if _, err := os.Stat(dir); err != nil {
		part := dir + ".part"
		if err := os.RemoveAll(part); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(part, 0o777); err != nil {
			t.Fatal(err)
		}
		// The accelerators are modules, in the second package.
		run(t, part, "apt-get", "-q", "download", "qemu-system-x86="+version, "qemu-system-common="+version)
		debs, err := filepath.Glob(filepath.Join(part, "*.deb"))
		if err != nil || len(debs) != 2 {
			t.Fatalf("apt-get download left %v", debs)
		}
		for _, deb := range debs {
			run(t, part, "dpkg-deb", "-x", deb, part)
		}
		if err := os.Rename(part, dir); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "usr/bin/qemu-system-x86_64")
	if libraries := run(t, "", "ldd", program); strings.Contains(libraries, "not found") {
		t.Fatalf("libraries of %s are missing, install them:\n%s\n%s", program, libraries, missing)
	}
	modules, err := filepath.Glob(filepath.Join(dir, "usr/lib/*/qemu"))
	if err != nil || len(modules) != 1 {
		t.Fatalf("modules in %v", modules)
	}
	return script(t, fmt.Sprintf("QEMU_MODULE_DIR='%s' exec '%s' -L /usr/share/seabios -L /usr/share/qemu \"$@\"\n", modules[0], program))
}

// run returns what a command prints.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// TestRepeat makes the same run again and again: the verdict is the same, as is
// what the disk writes and loses.
func TestRepeat(t *testing.T) {
	c := newTester(t)
	var first []int64
	var invalid, runs int
	for i := range *repeat {
		file := filepath.Join(t.TempDir(), "result.json")
		c.run(t, nil, nil, "--cpus", "2", "--accel", "tcg", "--seed", "1", "--json", file).want(t, 0)
		if t.Failed() {
			t.Fatalf("in round %d", i+1)
		}
		r := judgeReport(t, file, 2)
		if r.Seed != 1 {
			t.Errorf("seed %d", r.Seed)
		}
		for _, o := range r.Runs {
			runs++
			invalid += o.Invalid
		}
		lost := diskPages(&r.Runs[1])
		if i == 0 {
			first = lost
		}
		if !slices.Equal(first, lost) {
			t.Errorf("round %d: the disk's data is lost from other places than at first", i+1)
		}
	}
	say("%s: %d rounds, %d runs, %d invalid", t.Name(), *repeat, runs, invalid)
}

// TestMemory gives the guests more memory, from 4 GiB on with a part above the
// hole.
func TestMemory(t *testing.T) {
	c := newTester(t)
	for memory := range strings.SplitSeq(*memories, ",") {
		t.Run(memory, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "result.json")
			c.run(t, nil, nil, "--cpus", "2", "--accel", "tcg", "--memory", memory, "--json", file).want(t, 0)
			if t.Failed() {
				return
			}
			r := judgeReport(t, file, 2)
			const hole = 4 << 30
			var above int
			for _, p := range r.Runs[1].Lost {
				if p.GPA >= hole {
					above++
				}
			}
			t.Logf("%d of %d pages above the hole", above, r.Runs[1].Missed)
			if r.Memory >= hole && above == 0 {
				t.Error("no page above the hole was written")
			}
		})
	}
}

// TestShell types into patchgen test --shell.
func TestShell(t *testing.T) {
	c := newTester(t)
	for _, end := range []struct {
		name, typed string
		code        int
	}{{"shutdown", "shutdown\r", 0}, {"Ctrl-A X", "\x01x", 0}, {"terminated", "", 1}} {
		t.Run(end.name, func(t *testing.T) {
			ours, theirs := pty(t)
			defer ours.Close()
			before := settings(t, theirs)
			screen := newReader(ours)
			e := c.run(t, theirs, func(patchgen *os.Process) {
				for _, step := range []struct{ wait, typed string }{
					{"> ", "echo $((6*7)) answers\r"},
					{"42 answers", end.typed},
				} {
					if err := screen.find(step.wait, 30*time.Second); err != nil {
						t.Error(err)
						patchgen.Signal(syscall.SIGTERM)
						return
					}
					if _, err := ours.WriteString(step.typed); err != nil {
						t.Error(err)
					}
				}
				if end.typed == "" {
					patchgen.Signal(syscall.SIGTERM)
				}
			}, "--shell", "--accel", "tcg")
			e.want(t, end.code)
			if after := settings(t, theirs); *before != *after {
				t.Error("the terminal is left with other settings")
			}
			theirs.Close()
		})
	}
}

// pty returns a pseudo terminal's two ends: pty(7).
func pty(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func settings(t *testing.T, terminal *os.File) *unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
