package qemutest

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/initramfs/protocol"
)

// TestCells: each call has a cell in each direction, around the edges of pages, high
// and low, bounced and not, and no two cells are the same.
func TestCells(t *testing.T) {
	for _, forced := range []bool{false, true} {
		seen := make(map[string]bool)
		count := make(map[string]int)
		for _, c := range cells(forced) {
			name := c.way.mapped + " " + c.String()
			if seen[name] {
				t.Errorf("twice: %s", name)
			}
			seen[name] = true
			count[c.name+" "+c.dir]++
			if forced && !c.bounced && c.way.mapped != "resource" && c.way.mapped != "coherent" {
				t.Errorf("not bounced: %s", name)
			}
			if c.dir == "to" && c.want != Clean {
				t.Errorf("%s: want %s", name, c.want)
			}
			b := c.buffer()
			if b.length == 0 || c.back == "range" && c.offset+c.length > b.length {
				t.Errorf("%s: buffer %+v", name, b)
			}
		}
		for _, w := range ways {
			for _, d := range directions {
				if n := count[w.name+" "+d.dir]; n < 15 && !(forced && w.strict) {
					t.Errorf("forced %t: %s %s has %d cells", forced, w.name, d.name, n)
				}
			}
		}
	}
}

// fakeMatrix is a run with one cell, whose buffer of 4098 bytes begins with the last
// byte of page 2, so that it is in 3 pages.
func fakeMatrix(t *testing.T, c *cell) *matrixTrial {
	m := testMemory(t, 1<<20)
	s := newSends(newTrace(io.Discard), 1<<20)
	for i := range s.pages {
		s.pages[i].last = 1
	}
	c.span = span{pageSize - 1, pageSize + 2}
	c.mapped = protocol.Mapped{ID: 1, Frame: 1, Pages: 5, DMA: []uint64{3*pageSize - 1}}
	if c.bounced {
		c.mapped.DMA[0] = 17*pageSize - 1
	}
	x := &matrixTrial{
		Proof: &Proof{}, migration: &migration{source: &guest{name: "source", ram: m}, sends: s},
		seed: 1, cells: []*cell{c}, run: MatrixRun{Verdict: Pass},
	}
	if err := x.check(c); err != nil {
		t.Fatal(err)
	}
	if c.writes() {
		x.write(c, 0, m.bytes[3*pageSize-1:][:c.length], 7)
	}
	c.rounds = []int64{2}
	return x
}

// TestMatrixJudge: a cell in which all is as it must be passes, and one page that is
// otherwise is seen and told of.
func TestMatrixJudge(t *testing.T) {
	from := way{mapped: "single", back: "unmap", name: "dma_unmap_single"}
	for _, test := range []struct {
		name    string
		cell    cell
		sent    map[int64]uint32 // pages in pass
		over    map[int64]uint32
		verdict string
		why     string
		bad     string
	}{
		{"marked", cell{way: from, want: Dirty}, map[int64]uint32{2: 3, 3: 3, 4: 3}, nil, Pass, "", ""},
		{"last page missed", cell{way: from, want: Dirty}, map[int64]uint32{2: 3, 3: 3}, nil, Lost, "1 of 3 pages that the device wrote were not sent", "0x4000, written in pass 2, was last sent in pass 1"},
		{"sent in the pass of the write alone", cell{way: from, want: Dirty}, map[int64]uint32{2: 3, 3: 2, 4: 3}, nil, Lost, "1 of 3", "0x3000, written in pass 2, was last sent in pass 2"},
		{"guard", cell{way: from, want: Dirty}, map[int64]uint32{2: 3, 3: 3, 4: 3, 5: 3}, nil, Fail, "1 pages were sent again though nobody wrote them", "0x5000, which nobody wrote, was sent in pass 3"},
		{"marked twice", cell{way: from, want: Dirty}, map[int64]uint32{2: 3, 3: 4, 4: 3}, map[int64]uint32{3: 1}, Fail, "1 pages", ""},
		{"only read", cell{way: from, dir: "to", want: Clean}, nil, nil, Pass, "", ""},
		{"only read, and marked", cell{way: from, dir: "to", want: Clean}, map[int64]uint32{3: 3}, nil, Fail, "1 pages", "0x3000, which nobody wrote"},
		{"off", cell{way: from, off: true, want: Missed}, nil, nil, Pass, "", ""},
		{"off, and marked", cell{way: from, off: true, want: Missed}, map[int64]uint32{2: 3}, nil, Fail, "1 of 3 pages were sent though nothing should have dirtied them", "0x2000"},
		{"bounced", cell{way: from, bounced: true, want: Dirty}, map[int64]uint32{2: 3, 3: 3, 4: 3}, nil, Pass, "", ""},
		{"slot marked", cell{way: from, bounced: true, want: Dirty}, map[int64]uint32{2: 3, 3: 3, 4: 3, 17: 3}, nil, Fail, "1 pages", "0x11000, which nobody wrote"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.cell
			if c.dir == "" {
				c.dir = "from"
			}
			x := fakeMatrix(t, &c)
			for page, pass := range test.sent {
				x.sends.pages[page].last = pass
			}
			for page, n := range test.over {
				x.sends.pages[page].over = n
			}
			ours := make(map[int64]bool)
			r := x.judge(&c, nil, ours)
			var bad []string
			for _, p := range r.Bad {
				bad = append(bad, p.String())
			}
			if r.Verdict != test.verdict || !strings.HasPrefix(r.Why, test.why) || !strings.Contains(strings.Join(bad, "\n"), test.bad) || test.bad == "" && bad != nil {
				t.Errorf("%s: %s %q; want %s: %s %q", r.Verdict, r.Why, bad, test.verdict, test.why, test.bad)
			}
			x.run.Cells = []CellResult{r}
			x.verdict(nil, ours)
			if x.run.Verdict != test.verdict || (x.run.Killer == "") != (test.verdict == Pass) {
				t.Errorf("the run: %s, %q", x.run.Verdict, x.run.Killer)
			}
		})
	}
}

// TestMatrixContents: memory that does not have what the device wrote is no success,
// nor is a page that was sent and differs.
func TestMatrixContents(t *testing.T) {
	c := &cell{way: ways[0], dir: "from", want: Dirty}
	x := fakeMatrix(t, c)
	for _, page := range []int64{2, 3, 4} {
		x.sends.pages[page].last = 3
	}
	if r := x.judge(c, map[int64]bool{3: true}, map[int64]bool{}); r.Verdict != Unfit {
		t.Errorf("differs: %s: %s", r.Verdict, r.Why)
	}
	x.source.ram.bytes[3*pageSize]++
	if r := x.judge(c, nil, map[int64]bool{}); r.Verdict != Unfit || !strings.Contains(r.Why, "does not have what the device wrote") {
		t.Errorf("contents: %s: %s", r.Verdict, r.Why)
	}
}

// TestMatrixHostile: what a guest tells of a cell is checked before it is used.
func TestMatrixHostile(t *testing.T) {
	for name, change := range map[string]func(*protocol.Mapped){
		"error":        func(m *protocol.Mapped) { m.Error = "no memory" },
		"no address":   func(m *protocol.Mapped) { m.DMA = nil },
		"addresses":    func(m *protocol.Mapped) { m.DMA = append(m.DMA, 1) },
		"frame":        func(m *protocol.Mapped) { m.Frame = 1 << 60 },
		"frame 2":      func(m *protocol.Mapped) { m.Frame = 254 },
		"pages":        func(m *protocol.Mapped) { m.Pages = 1 << 31 },
		"few pages":    func(m *protocol.Mapped) { m.Pages = 2 },
		"bounced":      func(m *protocol.Mapped) { m.DMA[0] = 17 * pageSize },
		"no memory":    func(m *protocol.Mapped) { m.DMA[0] = 1 << 40 },
		"end":          func(m *protocol.Mapped) { m.DMA[0] = 1<<20 - 4 },
		"overflow":     func(m *protocol.Mapped) { m.DMA[0] = ^uint64(0) },
		"overflow end": func(m *protocol.Mapped) { m.Frame = ^uint64(0) },
	} {
		c := &cell{way: ways[0], dir: "from", want: Dirty}
		x := fakeMatrix(t, c)
		change(&c.mapped)
		if err := x.check(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestMatrixWrite: the device changes each page, whatever was there.
func TestMatrixWrite(t *testing.T) {
	for seed := range uint64(600) {
		c := &cell{way: ways[0], dir: "from", want: Dirty}
		x := fakeMatrix(t, c)
		x.seed = seed
		c.span = span{pageSize - 1, 2} // a byte in each of two pages
		to := []byte{0xa5, 0xa5}
		if x.write(c, 0, to, 1); to[0] == 0xa5 || to[1] == 0xa5 || !bytes.Equal(to, c.data[0]) {
			t.Fatalf("seed %d: % x", seed, to)
		}
	}
}

func TestJudgeKUnit(t *testing.T) {
	const head = "[    1.0] noise\nKTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: dma_mark_dirty\n    1..2\n    ok 1 mark_dirty_test_byte\n"
	two := func(line string) string { return head + "    " + line + "\nok 1 dma_mark_dirty\n" }
	suites := func(line string) string { return strings.Replace(two(line), "1..1", "1..2", 1) }
	const skip = "ok 2 mark_dirty_test_concurrent_writer # SKIP needs a second CPU"
	// KUnit of 5.10.
	const old = "# mark_dirty_test_concurrent_writer: SKIP needs a second CPU\n    ok 2 - mark_dirty_test_concurrent_writer"
	const root = "[    1.810833] " + noRoot + " on unknown-block(0,0)\n"
	for _, test := range []struct {
		name, console string
		end           End
		cpus          int
		verdict       string
		killer        string
	}{
		{"all", two("ok 2 mark_dirty_test_off"), Exited, 2, Pass, ""},
		{"one CPU", two(skip), Exited, 1, Pass, ""},
		{"skipped", two(skip), Exited, 2, Fail, "dma_mark_dirty/mark_dirty_test_concurrent_writer"},
		{"one CPU, old", two(old) + root, Panicked, 1, Pass, ""},
		{"skipped, old", two(old) + root, Panicked, 2, Fail, "dma_mark_dirty/mark_dirty_test_concurrent_writer"},
		{"broken off, old", head + root, Panicked, 2, Crashed, "missing result"},
		{"complaint, old", "WARNING: CPU: 0 PID: 1 at x.c:1\n" + two("ok 2 mark_dirty_test_off") + root, Panicked, 2, Fail, "console"},
		{"failed", two("not ok 2 mark_dirty_test_off"), Exited, 2, Fail, "dma_mark_dirty/mark_dirty_test_off"},
		{"complaint", "WARNING: CPU: 0 PID: 1 at x.c:1\n" + two("ok 2 mark_dirty_test_off"), Exited, 2, Fail, "console"},
		{"broken off", head, Exited, 2, Crashed, "missing result"},
		{"hang", head, TimedOut, 2, Crashed, "timed out"},
		{"panic", head, Panicked, 2, Crashed, "panicked"},
		{"both suites", suites("ok 2 mark_dirty_test_off") + "    # Subtest: pci_page_dirtying\n    1..1\n    ok 1 page_dirtying_test_find\nok 2 pci_page_dirtying\n", Exited, 2, Pass, ""},
		{"second suite failed", suites("ok 2 mark_dirty_test_off") + "    # Subtest: pci_page_dirtying\n    1..1\n    not ok 1 page_dirtying_test_find\nnot ok 2 pci_page_dirtying\n", Exited, 2, Fail, "pci_page_dirtying/page_dirtying_test_find"},
		{"second suite broken off", suites("ok 2 mark_dirty_test_off") + "    # Subtest: pci_page_dirtying\n    1..1\n", Exited, 2, Crashed, "missing result"},
		{"second suite left out", two("ok 2 mark_dirty_test_off"), Exited, 2, Crashed, "missing result"},
		{"other suite", "KTAP version 1\n1..1\nok 1 other\n", Exited, 2, Crashed, "missing result"},
		{"nothing", "", Exited, 2, Crashed, "missing result"},
	} {
		want := []string{kunitSuite}
		if strings.Contains(test.name, "suite") {
			want = append(want, "pci_page_dirtying")
		}
		r := judgeKUnit(Result{Console: []byte(test.console), End: test.end, Why: firstLine(panicLine, []byte(test.console))}, test.cpus, want)
		if r.Verdict != test.verdict || r.Killer != test.killer || (r.Why == "") != (r.Verdict == Pass) {
			t.Errorf("%s: %s by %q: %s; want %s by %q", test.name, r.Verdict, r.Killer, r.Why, test.verdict, test.killer)
		}
	}
}

// FuzzMatrixCheck: whatever a guest tells of a cell is refused, or safe to use.
func FuzzMatrixCheck(f *testing.F) {
	f.Add(uint64(1), uint32(5), uint64(3*pageSize-1), 0, false)
	f.Add(uint64(251), uint32(5), uint64(253*pageSize-1), 1, true)
	f.Fuzz(func(t *testing.T, frame uint64, pages uint32, dma uint64, w int, bounced bool) {
		all := append(slices.Clone(ways), kept, forDevice, ring)
		c := &cell{way: all[uint(w)%uint(len(all))], dir: "from", want: Dirty, bounced: bounced}
		m := testMemory(t, 1<<20)
		x := &matrixTrial{
			Proof: &Proof{}, migration: &migration{source: &guest{ram: m}, sends: newSends(newTrace(io.Discard), 1<<20)},
			cells: []*cell{c},
		}
		c.span = span{pageSize - 1, pageSize + 2}
		c.mapped = protocol.Mapped{ID: 1, Frame: frame, Pages: pages}
		for i := range c.entries() {
			c.mapped.DMA = append(c.mapped.DMA, dma+uint64(i)*3*pageSize)
		}
		if x.check(c) != nil {
			return
		}
		for j, address := range c.mapped.DMA {
			offset, _ := m.offset(address + uint64(c.part().offset))
			x.write(c, j, m.bytes[offset:offset+int64(c.part().length)], 1)
		}
		c.rounds = []int64{2}
		x.judge(c, nil, map[int64]bool{})
	})
}

// TestRows: the runs are summed up by call and direction, and what comes back while
// marking is off is the end.
func TestRows(t *testing.T) {
	c := func(api string, marking bool, written, missed int, verdict string) CellResult {
		return CellResult{Name: api + " cell", API: api, Direction: "FROM_DEVICE", Length: 1, Marking: marking, Want: Dirty, Written: written, Missed: missed, Verdict: verdict, Why: verdict, Quiet: 2}
	}
	runs := []MatrixRun{
		{Cells: []CellResult{c("a", true, 3, 0, Pass), c("a", false, 1, 1, Pass), c("b", true, 2, 0, Pass)}},
		{Cells: []CellResult{c("a", true, 3, 1, Lost), c("b", true, 2, 0, Fail)}},
	}
	var got []string
	for _, r := range Rows(runs) {
		got = append(got, fmt.Sprint(r.API, " ", r.Cells, r.Written, r.Missed, r.Quiet, " ", r.Verdict, " ", r.Why))
	}
	want := []string{"a 2 6 1 4 lost a cell: lost", "b 2 4 0 4 fail b cell: fail", "any of these, marking off 1 1 1 2 pass "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
