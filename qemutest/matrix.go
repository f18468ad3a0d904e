package qemutest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"patchgen/initramfs/protocol"
)

// A MatrixRun is what one migration showed of the calls of the DMA API: a guest with
// a module that maps memory for a PCI device in each way, which is then written to
// as that device would. Pages are 4 KiB.
type MatrixRun struct {
	CPUs    int   `json:"cpus"`
	Bounced bool  `json:"bounced"` // the kernel bounces all (swiotlb=force)
	Passes  int64 `json:"passes"`

	Cells        []CellResult      `json:"cells"`
	Writers      *Writers          `json:"writers,omitempty"` // nil where all is bounced: the device writes elsewhere
	Registers    int64             `json:"registers"`         // pages of the devices' own memory that the kernel dirtied
	Counters     map[string]uint64 `json:"counters"`          // of the kernel's dma_page_dirtying, while the devices wrote
	Resent       int64             `json:"resent"`            // as in Outcome
	OverReported int64             `json:"over_reported"`
	Verdict      string            `json:"verdict"`
	Why          string            `json:"why,omitempty"`
	Killer       string            `json:"failed,omitempty"` // the first cell or other test that did not come out as it must
	Invalid      int               `json:"invalid"`
	Seconds      float64           `json:"seconds"`
}

// A CellResult is a cell of the matrix: memory given to a device and taken back.
type CellResult struct {
	Name      string `json:"name"`
	API       string `json:"api"`       // by which it was taken back
	Direction string `json:"direction"` // such as FROM_DEVICE
	Offset    uint32 `json:"offset"`    // of each buffer in its first page, bytes
	Length    uint32 `json:"length"`    // of each buffer, bytes
	High      bool   `json:"high"`      // above 4 GiB
	Bits      int    `json:"bits"`      // of the device's addresses
	Bounced   bool   `json:"bounced"`
	Marking   bool   `json:"marking"` // was on when it was taken back
	Want      string `json:"want"`    // Dirty, Clean or Missed

	Written int        `json:"written"` // pages that the device wrote
	Missed  int        `json:"missed"`  // of these, not sent in a later pass
	Quiet   int        `json:"quiet"`   // pages that nothing may dirty: around the buffers, the bounce buffer, what is only read
	Over    int        `json:"over"`    // of these, sent again; and times that written ones were without a change
	Bad     []CellPage `json:"bad,omitempty"`
	Verdict string     `json:"verdict"`
	Why     string     `json:"why,omitempty"`
}

// A CellPage is a page that was not sent as it must be.
type CellPage struct {
	GPA     uint64 `json:"gpa"`
	Written int64  `json:"written"` // in this pass, 0 if it was not
	Sent    int64  `json:"sent"`    // in this pass for the last time
}

func (p CellPage) String() string {
	if p.Written == 0 {
		return fmt.Sprintf("%#x, which nobody wrote, was sent in pass %d", p.GPA, p.Sent)
	}
	return fmt.Sprintf("%#x, written in pass %d, was last sent in pass %d", p.GPA, p.Written, p.Sent)
}

// Writers is what came of a device that kept writing a page while the CPU synced it.
type Writers struct {
	Stores uint64 `json:"stores"` // of the device
	Lost   uint64 `json:"lost"`   // of these, undone by the kernel
	Syncs  uint64 `json:"syncs"`  // of the CPU
}

// matrixMemory is of the guest: 256 MiB below 4 GiB, and as much above.
const matrixMemory = 2 * lowPCI

// maxAsked is how many cells the agent is asked for at once: a frame has an end.
const maxAsked = 256

// Matrix makes the runs of the matrix on the patched kernel: with each number of
// vCPUs, with bounce buffers where they are needed and everywhere. The error is as of
// Prove.
func (p *Proof) Matrix(ctx context.Context, report *Report) error {
	reporter := p.stage("matrix of the DMA API", 2*len(p.CPUs))
	defer reporter.End()
	for _, cpus := range p.CPUs {
		for _, forced := range []bool{false, true} {
			r, err := p.matrix(ctx, cpus, forced)
			if err != nil {
				return err
			}
			report.Matrix = append(report.Matrix, r)
			report.set(r.Verdict, r.name(), r.Why)
			reporter.Step(int64(len(report.Matrix)))
		}
	}
	return nil
}

func (p *Proof) matrix(ctx context.Context, cpus int, forced bool) (MatrixRun, error) {
	begin := time.Now()
	o := guestOptions{kernel: p.Kernels[Patched], cpus: cpus, memory: matrixMemory, pci: true, cmdline: []string{armed}}
	name := "matrix"
	if forced {
		name = "bounced matrix"
		o.cmdline = append(o.cmdline, "swiotlb=force")
	}
	var r MatrixRun
	invalid, err := p.valid(name, cpus, func(seed uint64) error {
		x := &matrixTrial{Proof: p, seed: seed, cells: cells(forced), run: MatrixRun{CPUs: cpus, Bounced: forced, Verdict: Pass}}
		return p.pair(ctx, name, o, 2, func(ctx context.Context, m *migration) error {
			x.migration = m
			err := x.make(ctx)
			r = x.run
			return err
		})
	})
	r.Invalid, r.Seconds = invalid, time.Since(begin).Seconds()
	return r, err
}

// A matrixTrial is one try of a run of the matrix.
type matrixTrial struct {
	*Proof
	*migration
	seed  uint64
	cells []*cell
	run   MatrixRun
}

func (x *matrixTrial) make(ctx context.Context) error {
	if err := x.prepare(ctx); err != nil {
		return err
	}
	if err := x.begin(ctx); err != nil {
		return err
	}
	held, release := x.held(ctx)
	err := x.work(held)
	release()
	if x.switched() {
		return errEarly
	}
	if err != nil {
		return err
	}
	if err := x.finish(ctx); err != nil {
		return err
	}
	return x.evaluate()
}

// prepare has the guest map all cells.
func (x *matrixTrial) prepare(ctx context.Context) error {
	if _, err := x.source.hello(ctx); err != nil {
		return err
	}
	if err := x.source.ask(ctx, protocol.OpLoad, protocol.LoadArgs{Module: x.Module}, nil); err != nil {
		return err
	}
	if !x.run.Bounced {
		if err := x.writers(ctx); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(x.cells, maxAsked) {
		var args protocol.MapArgs
		for _, c := range part {
			args.Cells = append(args.Cells, c.ask())
		}
		var r protocol.MapResult
		if err := x.source.ask(ctx, protocol.OpMap, args, &r); err != nil {
			return err
		}
		if len(r.Cells) != len(part) {
			return &AgentError{x.source.name, fmt.Errorf("it mapped %d cells of %d", len(r.Cells), len(part))}
		}
		for i, c := range part {
			c.mapped = r.Cells[i]
		}
	}
	// What the tree does not have is not of the matrix.
	x.cells = slices.DeleteFunc(x.cells, func(c *cell) bool { return c.mapped.Error == protocol.NotSupported })
	for _, c := range x.cells {
		if err := x.check(c); err != nil {
			return &AgentError{x.source.name, fmt.Errorf("%v: %w", c, err)}
		}
	}
	return x.source.ask(ctx, protocol.OpHeartbeat, protocol.HeartbeatArgs{Pages: heartbeat}, nil)
}

// check holds what the guest says of a cell against what it must be.
func (x *matrixTrial) check(c *cell) error {
	switch {
	case c.mapped.Error != "":
		return errors.New(c.mapped.Error)
	case c.way.mapped == "resource":
		return nil
	case len(c.mapped.DMA) != c.entries() || c.mapped.Frame == 0 || c.mapped.Pages > maxCellPages:
		return fmt.Errorf("it tells of %d addresses, frame %#x, %d pages", len(c.mapped.DMA), c.mapped.Frame, c.mapped.Pages)
	}
	for i := range c.mapped.Pages {
		if _, ok := x.source.ram.offset((c.mapped.Frame + uint64(i)) * pageSize); !ok {
			return fmt.Errorf("a page at frame %#x, where there is no memory", c.mapped.Frame+uint64(i))
		}
	}
	b := c.buffer()
	for i, address := range c.mapped.DMA {
		start, ok := x.source.ram.offset(address)
		end, also := x.source.ram.offset(address + uint64(b.length) - 1)
		if !ok || !also || end-start != int64(b.length)-1 {
			return fmt.Errorf("the device gets %d bytes at %#x, where there is no memory", b.length, address)
		}
		if bounced := address != c.address(i); bounced != c.bounced {
			return fmt.Errorf("bounced %t, want %t", bounced, c.bounced)
		}
		if last := c.address(i) + uint64(b.length) - 1; last/pageSize >= c.mapped.Frame+uint64(c.mapped.Pages) {
			return fmt.Errorf("buffer %d ends behind the memory of the cell", i)
		}
	}
	if high := c.mapped.Frame*pageSize >= aboveHole; c.way.mapped != "coherent" && high != c.high {
		return fmt.Errorf("it lies at frame %#x", c.mapped.Frame)
	}
	return nil
}

// maxCellPages is a bound for what a guest may say: 4 MiB and guards.
const maxCellPages = 2048

// address returns the physical address of buffer i: behind a guard page each.
func (c *cell) address(i int) uint64 {
	b := c.buffer()
	if c.way.mapped == "coherent" {
		return c.mapped.Frame * pageSize
	}
	stride := (uint64(b.offset) + uint64(b.length) + pageSize - 1) / pageSize
	return (c.mapped.Frame+1+uint64(i)*(stride+1))*pageSize + uint64(b.offset)
}

// part returns what of buffer i the device writes, as an offset into the buffer.
func (c *cell) part() span {
	if c.back == "range" {
		return c.span
	}
	return span{0, c.length}
}

// work has the device write and the guest take back: with marking off, then on, and
// two passes later once more what is mapped still, as pages that were sent since
// must be sent again.
func (x *matrixTrial) work(ctx context.Context) error {
	source := x.source
	// A suite that KUnit ran at boot, as it does before 5.19, counts as well.
	var before map[string]uint64
	if err := source.ask(ctx, protocol.OpCounters, nil, &before); err != nil {
		return err
	}
	if err := x.round(ctx, 0, func(c *cell) bool { return c.off }); err != nil {
		return err
	}
	if err := source.ask(ctx, protocol.OpMarking, protocol.MarkingArgs{On: true}, nil); err != nil {
		return err
	}
	if err := x.round(ctx, 0, func(c *cell) bool { return !c.off }); err != nil {
		return err
	}
	// In the next pass goes what was marked in this one.
	if err := x.advance(ctx, source.trace.pass()+2); err != nil {
		return err
	}
	if err := x.round(ctx, 1, func(c *cell) bool { return !c.off && c.stays() }); err != nil {
		return err
	}
	if err := source.ask(ctx, protocol.OpCounters, nil, &x.run.Counters); err != nil {
		return err
	}
	for name, n := range x.run.Counters {
		if name != "armed" && name != "enabled" {
			x.run.Counters[name] = n - before[name]
		}
	}
	return nil
}

// round has the device write the cells, and the guest take them back.
func (x *matrixTrial) round(ctx context.Context, n int, of func(*cell) bool) error {
	var back []protocol.Return
	for i, c := range x.cells {
		if !of(c) {
			continue
		}
		if c.writes() {
			part := c.part()
			for j, address := range c.mapped.DMA {
				offset, _ := x.source.ram.offset(address + uint64(part.offset)) // checked
				x.write(c, j, x.source.ram.bytes[offset:offset+int64(part.length)], x.index(i, j, n))
			}
		}
		c.rounds = append(c.rounds, x.source.trace.pass())
		if c.back != "" {
			back = append(back, c.takeBack())
		}
	}
	for part := range slices.Chunk(back, maxAsked) {
		if err := x.source.ask(ctx, protocol.OpReturn, protocol.ReturnArgs{Returns: part}, nil); err != nil {
			return err
		}
	}
	return nil
}

// write is the device's store to buffer j of a cell. It changes each page: one that
// was sent again with what it had before is taken for one that nobody wrote.
func (x *matrixTrial) write(c *cell, j int, to []byte, index uint64) {
	data := make([]byte, len(to))
	protocol.Fill(data, x.seed, index)
	first := (c.address(j) + uint64(c.part().offset)) % pageSize
	for at, next := 0, int(pageSize-first); at < len(data); at, next = next, next+pageSize {
		if end := min(next, len(data)); bytes.Equal(data[at:end], to[at:end]) {
			data[at]++
		}
	}
	copy(to, data)
	if c.data == nil {
		c.data = make([][]byte, c.entries())
	}
	c.data[j] = data
}

// index is the number of what the device writes to buffer j of cell i in round n.
func (x *matrixTrial) index(i, j, n int) uint64 { return uint64(i)<<8 | uint64(j)<<1 | uint64(n) }

// evaluate holds each page of each cell against the stream and the two memories.
func (x *matrixTrial) evaluate() error {
	differing, err := differ(x.source.ram, x.destination.ram)
	if err != nil {
		return err
	}
	differs := make(map[int64]bool, len(differing))
	for _, page := range differing {
		differs[page] = true
	}
	r := &x.run
	r.Passes = x.source.trace.pass()
	r.Resent, r.OverReported = x.sends.again()
	for _, n := range x.sends.touched {
		r.Registers += n
	}
	ours := make(map[int64]bool)
	for _, c := range x.cells {
		r.Cells = append(r.Cells, x.judge(c, differs, ours))
	}
	x.verdict(differing, ours)
	return nil
}

// judge holds one cell against what was sent. ours gets its pages that may differ.
func (x *matrixTrial) judge(c *cell, differs, ours map[int64]bool) CellResult {
	r := CellResult{
		Name: c.String(), API: c.name, Direction: c.dirName, Offset: c.offset, Length: c.length, High: c.high,
		Bits: []int{64, 32}[c.device], Bounced: c.bounced, Marking: !c.off, Want: c.want, Verdict: Pass,
	}
	set := func(verdict, why string, args ...any) {
		if gravity[verdict] > gravity[r.Verdict] {
			r.Verdict, r.Why = verdict, fmt.Sprintf(why, args...)
		}
	}
	if c.way.mapped == "resource" {
		return r
	}
	last := c.rounds[len(c.rounds)-1]
	written := make(map[int64]bool) // in RAM's pages
	part := c.part()
	for j := range c.mapped.DMA {
		if !c.writes() || part.length == 0 || c.bounced && c.skip {
			break
		}
		start, _ := x.source.ram.offset(c.address(j) + uint64(part.offset)) // checked
		for page := start / pageSize; page <= (start+int64(part.length)-1)/pageSize; page++ {
			written[page] = true
		}
		// A bounce buffer's contents must have been copied.
		if c.want == Dirty {
			memory := x.source.ram.bytes[start : start+int64(part.length)]
			if !bytes.Equal(memory, c.data[j]) {
				set(Unfit, "buffer %d does not have what the device wrote: the guest wrote it, too, or did not copy it", j)
			}
		}
	}
	bad := func(page, written int64) {
		r.Bad = append(r.Bad, CellPage{x.source.ram.gpa(page * pageSize), written, int64(x.sends.pages[page].last)})
	}
	quiet := func(page int64) {
		r.Quiet++
		if x.sends.since(page, 1) {
			r.Over++
			bad(page, 0)
		}
	}
	first, _ := x.source.ram.offset(c.mapped.Frame * pageSize)
	for page := first / pageSize; page < first/pageSize+int64(c.mapped.Pages); page++ {
		if !written[page] {
			quiet(page)
			continue
		}
		r.Written++
		sent := x.sends.since(page, last)
		switch {
		case c.want == Dirty && sent:
			r.Over += int(x.sends.pages[page].over)
			if differs[page] {
				set(Unfit, "a page was sent after it had been written, and differs: the migration itself is at fault")
			}
		case !sent:
			r.Missed++
			ours[page] = true
			if c.want == Dirty {
				bad(page, last)
			} else if x.sends.since(page, 1) {
				r.Over++
				bad(page, last)
			}
		default: // sent, and must not be
			bad(page, last)
		}
	}
	if c.bounced {
		for j := range c.mapped.DMA {
			start, _ := x.source.ram.offset(c.mapped.DMA[j])
			for page := start / pageSize; page <= (start+int64(c.buffer().length)-1)/pageSize; page++ {
				ours[page] = true // a bounce buffer's contents are of no interest
				quiet(page)
			}
		}
	}
	switch {
	case c.want == Dirty && r.Missed > 0:
		set(Lost, "%d of %d pages that the device wrote were not sent", r.Missed, r.Written)
	case c.want == Missed && r.Missed < r.Written:
		set(Fail, "%d of %d pages were sent though nothing should have dirtied them", r.Written-r.Missed, r.Written)
	case r.Over > 0:
		set(Fail, "%d pages were sent again though nobody wrote them", r.Over)
	}
	return r
}

// minWriters is how many stores and syncs are needed to say something.
const minWriters = 1000

// verdict judges the run.
func (x *matrixTrial) verdict(differing []int64, ours map[int64]bool) {
	r := &x.run
	set := func(verdict, test, why string, args ...any) {
		if gravity[verdict] > gravity[r.Verdict] {
			r.Verdict, r.Killer, r.Why = verdict, test, fmt.Sprintf(why, args...)
		}
	}
	for _, c := range r.Cells {
		if c.Verdict != Pass {
			set(c.Verdict, c.Name, "%s: %s", c.Name, c.Why)
		}
	}
	if w := r.Writers; w != nil {
		switch {
		case w.Stores < minWriters || w.Syncs < minWriters:
			set(Unfit, "concurrent writers", "concurrent writers: %d stores and %d syncs are too few: this machine is very busy", w.Stores, w.Syncs)
		case w.Lost > 0:
			set(Lost, "concurrent writers", "concurrent writers: %d of %d stores of the device were undone by %d syncs", w.Lost, w.Stores, w.Syncs)
		}
	}
	if r.Registers > 0 {
		set(Fail, "registers", "%d pages of the devices' own memory were dirtied", r.Registers)
	}
	if n := r.Counters["faults"]; n > 0 {
		set(Fail, "faults", "the kernel counted %d faults", n)
	}
	others := 0
	for _, page := range differing {
		if !ours[page] {
			others++
		}
	}
	if others > 0 {
		set(Unfit, "others", "%d pages were lost that no device wrote: this QEMU's dirty log is unsound", others)
	}
}
