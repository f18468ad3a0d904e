package receipt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"patchgen/edit"
	"patchgen/qemutest"
	"patchgen/series"
	"patchgen/submit/patchmail"
)

// load reads one of the series of the repository.
func load(t testing.TB) ([]*patchmail.Mail, []patchmail.ID) {
	t.Helper()
	s, err := patchmail.Read("../../patches/6.12")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := patchmail.IDs(t.Context(), s.Patches)
	if err != nil {
		t.Fatal(err)
	}
	return s.Patches, ids
}

var day = time.Date(2026, 3, 1, 12, 0, 0, 123, time.UTC)

// full is a receipt with something in each place.
func full(t testing.TB) *Receipt {
	patches, ids := load(t)
	r := New("patchgen 1", patches, ids)
	s := &series.Series{Origin: "/home/somebody/linux", Release: "6.12.1", BaseCommit: strings.Repeat("ab", 20)}
	s.Patches = []series.Patch{{Edits: []series.PlacedEdit{{File: "kernel/dma/direct.c", Function: "f", Place: edit.Place{Line: 12, How: "after g(…)"}}}}}
	r.SetSeries(s, Templates{"dma-mark-dirty", "full", strings.Repeat("12", 32), "direct"})
	r.Build = &Build{Time: day, Origin: "linux", Compiler: "gcc 12", Sparse: "0.6.4", Folders: []string{"kernel/dma/", "drivers/xen/"}}
	for range patches {
		c := &Compiled{Compiled: []string{"kernel/dma/direct.c"}, New: []string{}, Gone: []string{}}
		r.Build.Patches = append(r.Build.Patches, PatchBuild{Off: c, On: c})
	}
	report := &qemutest.Report{
		Verdict: qemutest.Pass, Tree: "../linux", Accelerator: "tcg", QEMU: "10.0.2", Kernel: "6.12.1", Seed: 7, Memory: 256 << 20,
		KUnit: []qemutest.KUnitRun{{CPUs: 1, Passed: 31, Skipped: 1, Verdict: qemutest.Pass}, {CPUs: 2, Passed: 32, Verdict: qemutest.Pass}},
		Runs: []qemutest.Outcome{
			{Name: "loss", Kernel: "unpatched", Device: "blind", CPUs: 1, Written: 100, Missed: 98, Verdict: qemutest.Pass},
			{Name: "proof", Kernel: "patched", Device: "blind", CPUs: 1, Written: 100, Verdict: qemutest.Pass},
		},
		Levels: []qemutest.LevelRun{{Parameter: "", CPUs: 1, Verdict: qemutest.Pass}},
		Matrix: []qemutest.MatrixRun{{
			CPUs: 1, Writers: &qemutest.Writers{Stores: 1000, Syncs: 10}, Verdict: qemutest.Pass,
			Cells: []qemutest.CellResult{{Name: "x", API: "dma_unmap_single", Direction: "FROM_DEVICE", Length: 1, Want: qemutest.Dirty, Marking: true, Written: 3, Quiet: 2, Verdict: qemutest.Pass}},
		}},
		Handshakes: []qemutest.HandshakeRun{
			{Name: "migrate", QEMU: "10.0.9", CPUs: 1, Written: 50, WaitMS: 3000, Downtime: 20, Verdict: qemutest.Pass},
			{Name: "suspend", QEMU: "10.0.9", CPUs: 2, Written: 60, Verdict: qemutest.Pass},
		},
	}
	r.AddTest(report, Host{"patchgen 1", strings.Repeat("cd", 32), "gcc 12"}, day)
	r.AddBench(measured())
	return r
}

// measured is a Bench with something in each place.
func measured() Bench {
	b := Bench{
		Time: day, Tool: "patchgen 1", Tree: "/home/somebody/linux", Kernel: "6.12.1", Config: strings.Repeat("cd", 32), Compiler: "gcc 12", QEMU: "10.0.2 (Debian 1)",
		Sizes: []Size{{"without", 8504612, 2437000, 933892}, {"off", 8504612, 2437000, 933892}, {"on", 8505888, 2441424, 929796}, {"rfc", 8504932, 2437000, 933892}},
	}
	of := func(v float64) qemutest.Spread { return qemutest.Spread{Median: v, Min: v * 0.9, Max: v * 1.1} }
	b.Accelerator, b.Seed, b.Memory = "tcg", 5, 256<<20
	for _, arm := range []string{qemutest.NoSeries, "logging", qemutest.SeriesArm, qemutest.UnplugsFirst} {
		b.Migrations = append(b.Migrations, qemutest.MigrationCost{Arm: arm, Device: "blind", Rounds: 3, Bytes: of(1 << 30), TotalMS: of(1e5), Written: of(9231), Missed: of(9112), Resent: of(1e6), Verdict: qemutest.Pass})
	}
	for _, arm := range []string{qemutest.SeriesArm, qemutest.UnplugsFirst} {
		for _, rate := range []int{0, 16000} {
			b.WarmUps = append(b.WarmUps, qemutest.WarmUp{Arm: arm, Memory: 512 << 20, Rate: rate, Rounds: 3, IOBytes: of(1 << 40), WithoutMS: of(12345), TotalMS: of(123456), DowntimeMS: of(1234), Bytes: of(1 << 34), Verdict: qemutest.Pass})
		}
	}
	for i, state := range []string{"without", "off", "armed", "on", "rfc"} {
		for _, call := range []string{"dma_unmap_page", "dma_sync_single_for_cpu"} {
			for _, n := range []int{64, 4 << 10, 64 << 10, 1 << 20} {
				c := qemutest.CallCost{State: state, Call: call, Bytes: n, Instructions: uint64(48 + 7*i)}
				if state == "on" {
					c.Instructions = uint64(155 + max(0, n/4096-1)*50)
				}
				c.Most = c.Instructions
				b.Instructions = append(b.Instructions, c)
			}
		}
	}
	return b
}

// What is written is as the schema says, and nothing else is.
func TestSchema(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	patches, ids := load(t)
	for name, r := range map[string]*Receipt{"full": full(t), "empty": New("patchgen 1", patches, ids)} {
		data, err := r.JSON()
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		back, err := parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back); diff != "" {
			t.Errorf("%s: not read as written (-written +read):\n%s", name, diff)
		}
		// The schema knows each field.
		var fields map[string]any
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		fields["other"] = 1
		if schema.Validate(fields) == nil {
			t.Errorf("%s: a field that there is not is taken", name)
		}
	}
}

func TestHolds(t *testing.T) {
	r := full(t)
	patches, ids := load(t)
	if err := r.Holds(patches, ids); err != nil {
		t.Error(err)
	}
	raw, err := series.ReadPatches("../../patches/6.12")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ old, new, want string }{
		{"dma_mark_dirty", "dma_mark_dirtx", "patch 1"},
		{"hypervisor", "hypervizor", "patch 1"},
		{"\n+\t", "\n+ ", "patch 1"},
		{"Subject: [PATCH", "Subject: [RFC PATCH", "patch 1"},
	} {
		changed := bytes.Replace(raw[1].Data, []byte(test.old), []byte(test.new), 1)
		s, err := patchmail.Parse([]series.Mail{{Name: "x", Data: changed}})
		if err != nil {
			t.Fatal(err)
		}
		now := append([]*patchmail.Mail{s.Patches[0]}, patches[1:]...)
		nowIDs, err := patchmail.IDs(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		var stale *StaleError
		if err := r.Holds(now, nowIDs); !errors.As(err, &stale) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q for %q: %v", test.new, test.old, err)
		}
	}
	counts := fmt.Sprintf("of %d patches, and there are %d;", len(patches), len(patches)-1)
	if err := r.Holds(patches[1:], ids[1:]); err == nil || !strings.Contains(err.Error(), counts) {
		t.Errorf("one patch less: %v", err)
	}
	other := bytes.Replace(raw[1].Data, []byte("Date: Fri, 2 Jan"), []byte("Date: Sat, 3 Jan"), 1)
	if s, err := patchmail.Parse([]series.Mail{{Name: "x", Data: other}}); err != nil {
		t.Error(err)
	} else if now, err := patchmail.IDs(t.Context(), s.Patches); err != nil || now[0] != ids[0] {
		t.Errorf("another date: %v, %v", now, err)
	}
}

// A receipt tells what was done, and of that only what went well is said to others.
func TestTesting(t *testing.T) {
	r := full(t)
	const want = `Tested, with these very patches:

 - Compiled after each patch: kernel/dma and drivers/xen of linux, with gcc 12, W=1 and sparse, the new options off and on: no new warning.
 - KUnit on 6.12.1 (linux) in QEMU 10.0.2, tcg, with 1 and 2 vCPUs: 63 cases passed, 0 failed, 1 skipped.
 - 2 live migrations of 6.12.1 (linux) in QEMU 10.0.2, tcg, seed 7: of the 100 pages that devices wrote without a dirty log 0 were missed with marking on; without the series 98 were.
 - Each call of the DMA API in each direction, on 6.12.1 (linux) in QEMU 10.0.2, tcg: 0 of 3 pages written by a device were missed, 0 of 2 others were sent again. Of 1000 stores of a device to a page that the CPU synced at the same time 0 were undone.
 - 2 migrations on 6.12.1 (linux), tcg, by a QEMU 10.0.9 that asks the guest for marking: of the 110 pages that devices wrote without a dirty log 0 were missed.

What one call costs on 6.12.1 (linux), gcc 12: instructions for a buffer that a device has written, which is not bounced, as QEMU 10.0.2 counts them (-icount); and what each further page adds.

  dma_unmap_page               64 B    4 KiB   64 KiB    1 MiB    a page
    without the series           48       48       48       48         0
    off                          55       55       55       55         0
    armed, idle                  62       62       62       62         0
    on                          155      155      905    12905        50
    rfc, always on               76       76       76       76         0
  dma_sync_single_for_cpu
    without the series           48       48       48       48         0
    off                          55       55       55       55         0
    armed, idle                  62       62       62       62         0
    on                          155      155      905    12905        50
    rfc, always on               76       76       76       76         0

The size of vmlinux, 6.12.1 (linux), gcc 12:

  kernel, bytes                    text        data         bss
    without the series          8504612     2437000      933892
    option off                  8504612     2437000      933892
    option on                   8505888     2441424      929796
    rfc, always on              8504932     2437000      933892

What a migration of a guest of 256 MiB costs, on 6.12.1 (linux) in QEMU 10.0.2, tcg, seed 5: medians of 3 rounds; how much they vary is in the receipt. Blind devices leave no trace in the dirty log, as those that are passed through.

                 NO SERIES  LOGGING   SERIES  UNPLUG FIRST
  devices            blind    blind    blind         blind
  sent, MiB           1024     1024     1024          1024
  passes                 0        0        0             0
  total, ms         100000   100000   100000        100000
  downtime, ms           0        0        0             0
  pages written       9231     9231     9231          9231
  missed              9112     9112     9112          9112
  resent           1000000  1000000  1000000       1000000
  over-reported          0        0        0             0

Without the series pages are lost: what that migration costs buys a guest that is damaged.

A guest that reads from a blind disk while it is migrated, on 6.12.1 (linux) in QEMU 10.0.2, tcg, seed 5: with the series the disk stays for the first pass, else it is unplugged first. Medians of 3 rounds, for sizes of memory and rates at which the CPU dirties it; how much they vary is in the receipt.

                   WITHOUT DISK, s          I/O, MiB          MISSED
  MEMORY  PAGES/s  series   unplug   series   unplug  series  unplug
  512M          0    12.3     12.3  1048576  1048576       0       0
  512M      16000    12.3     12.3  1048576  1048576       0       0

                         TOTAL, s    DOWNTIME, ms       SENT, MiB
  MEMORY  PAGES/s  series  unplug  series  unplug  series  unplug
  512M          0   123.5   123.5    1234    1234   16384   16384
  512M      16000   123.5   123.5    1234    1234   16384   16384

Unplugged first, the guest lacks its disk for 1.0 to 1.0 times as long.`
	if diff := cmp.Diff(want, r.Testing()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if text := r.Text(); strings.Contains(text, "somebody") || !strings.Contains(text, "kernel/dma/direct.c:12 in f: after g(…)") {
		t.Errorf("text:\n%s", text)
	}
	patches, ids := load(t)
	if got := New("patchgen 1", patches, ids).Testing(); got != "" {
		t.Errorf("nothing was done, and it says %q", got)
	}
	for what, change := range map[string]func(*Receipt){
		"a new warning":   func(r *Receipt) { r.Build.Patches[2].On = &Compiled{New: []string{"x.c: y"}} },
		"no compilation":  func(r *Receipt) { r.Build.Patches[2].Off = &Compiled{Error: "make"} },
		"pages were lost": func(r *Receipt) { r.Tests[0].Verdict = qemutest.Lost },
	} {
		r := full(t)
		change(r)
		if got := r.Testing(); got != "" {
			t.Errorf("%s, and it says %q", what, got)
		}
		_ = r.Text()
	}
	r.Tests[0].KUnit = nil
	r.Tests[0].Matrix = nil
	if got := r.Testing(); strings.Contains(got, "KUnit") || strings.Contains(got, "DMA API") {
		t.Errorf("says what was not run:\n%s", got)
	}
}

// A test is in the place of what it makes anew alone, and one that failed stays until
// all of it is.
func TestAddTest(t *testing.T) {
	part := func(verdict string, kunit, runs, handshakes bool) *qemutest.Report {
		r := &qemutest.Report{Tree: "linux", Verdict: verdict}
		if kunit {
			r.KUnit = []qemutest.KUnitRun{{CPUs: 1, Passed: 1, Verdict: verdict}}
		}
		if runs {
			r.Runs = []qemutest.Outcome{{Name: "proof", Verdict: verdict}}
		}
		if handshakes {
			r.Handshakes = []qemutest.HandshakeRun{{Name: "migrate", Verdict: verdict}}
		}
		return r
	}
	r := &Receipt{}
	shape := func() string {
		var all []string
		for _, t := range r.Tests {
			all = append(all, fmt.Sprintf("%s %d%d%d", t.Verdict, len(t.KUnit), len(t.Runs), len(t.Handshakes)))
		}
		return strings.Join(all, ", ")
	}
	for _, step := range []struct {
		report *qemutest.Report
		want   string
	}{
		{part(qemutest.Pass, true, true, false), "pass 110"},
		{part(qemutest.Pass, false, false, true), "pass 110, pass 001"},
		{part(qemutest.Fail, true, false, true), "pass 010, fail 101"},
		{part(qemutest.Pass, true, false, false), "pass 010, fail 101, pass 100"},
		{part(qemutest.Pass, true, true, true), "pass 111"},
	} {
		r.AddTest(step.report, Host{}, day)
		if got := shape(); got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
	}
	other := part(qemutest.Pass, true, true, true)
	other.Tree = "other"
	r.AddTest(other, Host{}, day)
	if got := shape(); got != "pass 111, pass 111" {
		t.Errorf("of two trees: %s", got)
	}
}

// What was measured is in the place of what was before, and fits into a mail.
func TestBench(t *testing.T) {
	patches, ids := load(t)
	r := New("patchgen 1", patches, ids)
	b := measured()
	b.Instructions[0].Most = 50
	b.Nanoseconds = []qemutest.CallTime{
		{State: "off", Call: "dma_unmap_page", Bytes: 64, Calls: 1024, Median: 20.4, Low: 19, High: 31.6},
		{State: "off", Call: "dma_unmap_page", Bytes: 1 << 20, Calls: 1024, Median: 21, Low: 19, High: 77},
		{State: "elsewhere", Call: "dma_unmap_page", Bytes: 64, Calls: 16, Median: 1, Low: 1, High: 1},
	}
	r.AddBench(measured())
	r.AddBench(b)
	if len(r.Benches) != 1 || r.Benches[0].Tree != "linux" {
		t.Fatalf("%d benches", len(r.Benches))
	}
	text := r.Testing()
	for _, want := range []string{
		"    without the series        48-50       48", "dma_unmap_page               64 B    1 MiB    spread\n    off                          20       21 -10/+267%\n",
		"    elsewhere                     1        -    -0/+0%",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	if strings.HasPrefix(text, "Tested") || !strings.Contains(r.Text(), "MEASURED  2026-03-01 12:00:00Z on linux") {
		t.Errorf("it says\n%s", text)
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, " ") && (len(line) > 72 || strings.HasSuffix(line, " ")) {
			t.Errorf("%d columns: %q", len(line), line)
		}
	}
	other := measured()
	other.Tree = "other"
	r.AddBench(other)
	if len(r.Benches) != 2 {
		t.Errorf("%d benches of two trees", len(r.Benches))
	}
	// What is measured anew takes the place of its sort alone.
	r.AddBench(Bench{Time: day, Tree: "other", Sizes: measured().Sizes})
	if len(r.Benches) != 3 || r.Benches[1].Sizes != nil || r.Benches[1].Migrations == nil || r.Benches[2].Sizes == nil {
		t.Errorf("%d benches: %+v", len(r.Benches), r.Benches)
	}
	r.AddBench(Bench{Time: day, Tree: "other", Sizes: measured().Sizes[:1]})
	if len(r.Benches) != 3 || len(r.Benches[2].Sizes) != 1 {
		t.Errorf("%d benches: %+v", len(r.Benches), r.Benches)
	}
	if (&Bench{}).Tables() != "" {
		t.Error("nothing was measured, and there is a table")
	}
}

func TestReadRefused(t *testing.T) {
	good, err := full(t).JSON()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                       "EOF",
		"{}":                     "format 0",
		`{"receipt": 2}`:         "format 2",
		`{"receipt": 1}`:         "no patches",
		`{"receipt": 1, "x": 2}`: "unknown field",
		strings.Replace(string(good), `"patch_id": "`, `"patch_id": "x`, 1): "IDs",
	} {
		file := filepath.Join(t.TempDir(), "x.json")
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	good, err := full(f).JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parse(data); err == nil {
			_ = r.Testing()
			_ = r.Text()
		}
	})
}
