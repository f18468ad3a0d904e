package qemutest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"patchgen/initramfs/protocol"
	"patchgen/progress"
	"patchgen/qemutest/vhostuser"
)

// What a run boots, and with which devices.
const (
	Unpatched = "unpatched"
	Patched   = "patched"

	None    = "none"
	Blind   = "blind"
	Logging = "logging"
)

// A Run is one of the experiments: a live migration of a fresh guest.
type Run struct {
	Name    string
	Kernel  string // Unpatched or Patched
	Device  string // None (the CPU writes instead), Blind or Logging
	Marking bool   // is switched on
	Loses   bool   // must lose pages
	Before  bool   // the devices write and are gone before the migration, and not in it
}

// Runs are the experiments of a proof, in their order. What one shows is what
// the next relies on.
var Runs = []Run{
	{Name: "calibration", Kernel: Unpatched, Device: None},         // QEMU's dirty log sees what the CPU writes
	{Name: "loss", Kernel: Unpatched, Device: Blind, Loses: true},  // the fault is seen where it is
	{Name: "control", Kernel: Unpatched, Device: Logging},          // and comes of the missing log and nothing else
	{Name: "proof", Kernel: Patched, Device: Blind, Marking: true}, // marking mends it
	{Name: "bypass", Kernel: Patched, Device: Blind, Loses: true},  // and nothing but marking
}

// A Proof is what to prove it with.
type Proof struct {
	QEMU      string            // file name, or that of a command
	QEMUArgs  []string          // more arguments of it
	Accel     string            // "tcg" or "kvm"
	Kernels   map[string]string // by Unpatched and Patched, the file names of bzImages
	Initramfs string            // file name
	Module    []byte            // package dmatest's, built for the patched kernel; for Matrix
	Suites    []string          // of KUnit, all that the patched kernel has to run; for KUnit and Kill
	Cmdline   []string          // more of the kernels' command lines
	CPUs      []int             // each run is made with each of these
	Memory    int64             // of a guest, bytes
	Written   int64             // by the disk, bytes, a multiple of pageSize
	Packets   int               // sent by the card
	Limit     time.Duration     // of a guest's boot, and of each answer of its agent
	Seed      uint64            // of the patterns
	Pages     bool              // keep for each run what became of each page
	Consoles  string            // folder where consoles go when a run fails; "" keeps none
	Progress  progress.Reporter // nil tells nobody
	Done      func(Outcome)     // is called with each run's result, if not nil
}

// maxInvalid is how often a run that switched over too early is begun again.
const maxInvalid = 4

// A RunError is an error in a run, with what was kept of it.
type RunError struct {
	Run      string
	CPUs     int
	Err      error
	Consoles []string // file names
}

func (e *RunError) Error() string {
	return fmt.Sprintf("%s run with %s: %v", e.Run, count(e.CPUs, "vCPU"), e.Err)
}

func (e *RunError) Unwrap() error { return e.Err }

// An InvalidError says that a migration could not be held in its warm-up, time
// and again.
type InvalidError struct{ Times int }

func (e *InvalidError) Error() string {
	return fmt.Sprintf("the migration switched over before the work was done, %d times: this machine is too busy, or QEMU's dirty log misses what the guest's CPU writes", e.Times)
}

func count(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// Check returns what is wrong with the options.
func (p *Proof) Check() error {
	const mib = 1 << 20
	// A kernel, an initramfs and a heartbeat take up some 96 MiB.
	need := p.Written + 2*int64(p.Packets)*pageSize + 96*mib
	switch {
	case p.Memory < 128*mib || p.Memory%(2*mib) != 0:
		return fmt.Errorf("memory of %d MiB: want an even number of MiB, at least 128", p.Memory/mib)
	case p.Written < pageSize || p.Written%pageSize != 0:
		return fmt.Errorf("%d bytes to write: want whole pages of %d bytes", p.Written, pageSize)
	case p.Packets < 0:
		return fmt.Errorf("%d packets: want none or more", p.Packets)
	case p.Limit <= 0:
		return fmt.Errorf("a limit of %v: want a time in which something can be done, such as 1m", p.Limit)
	case p.Memory < need:
		return fmt.Errorf("memory of %d MiB is too little for what is to be written: want %d MiB", p.Memory/mib, (need+mib-1)/mib)
	}
	if len(p.CPUs) == 0 {
		return errors.New("no number of vCPUs is given")
	}
	for _, n := range p.CPUs {
		if n < 1 || n > 8 {
			return fmt.Errorf("%d vCPUs: want 1 to 8", n)
		}
	}
	return nil
}

// stage begins a stage of so many runs.
func (p *Proof) stage(name string, runs int) progress.Reporter {
	if p.Progress == nil {
		return progress.Nop{}
	}
	p.Progress.Stage(name, int64(runs), "runs")
	return p.Progress
}

// Prove makes the runs, each with each number of vCPUs. It stops at the first
// after which the others would show nothing. The error is *RunError, or the
// context's cause.
func (p *Proof) Prove(ctx context.Context, report *Report) error {
	reporter := p.stage("migrate", len(Runs)*len(p.CPUs))
	defer reporter.End()
	for _, cpus := range p.CPUs {
		for _, run := range Runs {
			o, err := p.run(ctx, report, run, cpus)
			if err != nil {
				return err
			}
			report.add(o)
			if p.Done != nil {
				p.Done(o)
			}
			reporter.Step(int64(len(report.Runs)))
			if o.Verdict == Unfit {
				return nil
			}
		}
	}
	return nil
}

// run makes a run until it is valid.
func (p *Proof) run(ctx context.Context, report *Report, run Run, cpus int) (r Outcome, err error) {
	begin := time.Now()
	invalid, err := p.valid(run.Name, cpus, func(seed uint64) error {
		o := guestOptions{kernel: p.Kernels[run.Kernel], cpus: cpus, memory: p.Memory, logging: run.Device == Logging}
		if run.Kernel == Patched {
			o.cmdline = []string{armed}
		}
		t := &trial{Proof: p, report: report, run: run, cpus: cpus, seed: seed}
		if run.Device != None {
			o.disk = &vhostuser.Disk{Sectors: uint64(p.Written) / 512, Read: t.sectors}
		}
		return p.pair(ctx, run.Name, o, 2, func(ctx context.Context, m *migration) (err error) {
			t.moved = m
			r, err = t.migrate(ctx)
			return err
		})
	})
	r.Invalid, r.Seconds = invalid, time.Since(begin).Seconds()
	return r, err
}

// armed has the kernel ask its drivers for the calls that mark.
const armed = "dma_page_dirtying=armed"

// valid tries until the migration does not switch over too early, and returns how
// often it did.
func (p *Proof) valid(name string, cpus int, try func(seed uint64) error) (invalid int, err error) {
	for ; invalid <= maxInvalid; invalid++ {
		if err := try(p.Seed + uint64(invalid)); err != errEarly {
			return invalid, err
		}
	}
	return invalid, &RunError{Run: name, CPUs: cpus, Err: &InvalidError{invalid}}
}

// pair starts as many guests as are wanted, the source, the destination, and one to
// migrate to from there, makes the experiment with them, and leaves nothing of them
// behind. The error is errEarly, *RunError or the context's cause.
func (p *Proof) pair(parent context.Context, name string, o guestOptions, guests int, experiment func(context.Context, *migration) error) (err error) {
	ctx, fail := context.WithCancelCause(parent)
	var started []*guest
	defer func() {
		var consoles []string
		if err != nil && err != errEarly && parent.Err() == nil {
			consoles = p.keep(name, o.cpus, started)
		}
		fail(nil)
		for _, g := range started {
			g.stop()
			g.free()
		}
		if err != nil && err != errEarly {
			if parent.Err() != nil {
				err = context.Cause(parent)
			} else {
				err = &RunError{name, o.cpus, err, consoles}
			}
		}
	}()
	o.qemu, o.accel, o.initramfs, o.limit = p.QEMU, p.Accel, p.Initramfs, p.Limit
	o.cmdline = append(slices.Clone(p.Cmdline), o.cmdline...)
	o.more = p.QEMUArgs
	m := &migration{from: newWatch(), to: newWatch()}
	m.back = &migration{from: m.to, to: newWatch()}
	for _, end := range []struct {
		name  string
		watch *watch
		guest **guest
	}{{"source", m.from, &m.source}, {"destination", m.to, &m.destination}, {"home", m.back.to, &m.back.destination}}[:guests] {
		o.name, o.incoming, o.events = end.name, end.name != "source", end.watch.event
		if o.incoming && o.bridges != nil {
			o.disk = nil // by the time that the guest arrives, they are gone
		}
		g, err := startGuest(ctx, fail, o)
		if err != nil {
			return err
		}
		started = append(started, g)
		*end.guest = g
	}
	m.back.source = m.destination
	return experiment(ctx, m)
}

// A trial is one try of a run.
type trial struct {
	*Proof
	report   *Report
	run      Run
	cpus     int
	seed     uint64 // of what is written
	moved    *migration
	begun    time.Time // of the migration
	moments  []Moment
	stored   map[int64]store
	storedIn int64 // the pass in which the CPU did
}

// old is the seed of what is in the buffer before.
func (t *trial) old() uint64 { return ^t.seed }

// sectors is what the disk holds: page i of it is the pattern's page i.
func (t *trial) sectors(p []byte, offset int64) {
	var page [pageSize]byte
	for len(p) > 0 {
		protocol.Fill(page[:], t.seed, uint64(offset/pageSize))
		n := copy(p, page[offset%pageSize:])
		p, offset = p[n:], offset+int64(n)
	}
}

// packetSeed is the seed of what the card sends, which the disk does not hold.
func (t *trial) packetSeed() uint64 { return t.seed ^ 1<<63 }

func (t *trial) pages() int { return int(t.Written / pageSize) }

// prepare waits for the source's guest and has it begin what goes on all the time.
func (t *trial) prepare(ctx context.Context) error {
	source := t.moved.source
	hello, err := source.hello(ctx)
	if err != nil {
		return err
	}
	t.report.QEMU, t.report.Kernel = source.qmp.Version.String(), hello.Kernel
	if err := source.ask(ctx, protocol.OpTouch, protocol.TouchArgs{Pages: t.pages(), Seed: t.old()}, nil); err != nil {
		return err
	}
	if t.run.Device != None {
		if err := source.ask(ctx, protocol.OpListen, nil, nil); err != nil {
			return err
		}
	}
	return source.ask(ctx, protocol.OpHeartbeat, protocol.HeartbeatArgs{Pages: heartbeat}, nil)
}

// migrate is the experiment, from the boot to the verdict.
func (t *trial) migrate(ctx context.Context) (Outcome, error) {
	source, destination := t.moved.source, t.moved.destination
	r := Outcome{Name: t.run.Name, Kernel: t.run.Kernel, Device: t.run.Device, CPUs: t.cpus}
	if err := t.prepare(ctx); err != nil {
		return r, err
	}
	var addresses protocol.AddressesResult
	if err := source.ask(ctx, protocol.OpAddresses, nil, &addresses); err != nil {
		return r, err
	}
	buffer, err := t.numbers(addresses.Buffer, t.pages())
	if err != nil {
		return r, &AgentError{source.name, err}
	}
	// Before the first pass: a page that went before and was written after
	// must be marked.
	if t.run.Marking {
		if err := source.ask(ctx, protocol.OpMarking, protocol.MarkingArgs{On: true}, nil); err != nil {
			return r, err
		}
	}
	if t.run.Before {
		if err := t.work(ctx, &r); err != nil {
			return r, err
		}
	}
	t.begun, t.moments = time.Now(), nil
	if err := t.moved.begin(ctx); err != nil {
		return r, err
	}
	t.moment(PassesBegin)
	if !t.run.Before {
		if err := t.logged(ctx); err != nil {
			return r, err
		}
		held, release := t.moved.held(ctx)
		t.moment(WorkBegins)
		err = t.work(held, &r)
		release()
	}
	// Where the dirty log is unsound, a migration that switched over early is
	// what shows it: the calibration goes on.
	early := t.moved.switched()
	if early && t.run.Device != None {
		return r, errEarly
	}
	if err != nil && !early {
		return r, err
	}
	t.moment(LetGo)
	if err := t.moved.finish(ctx); err != nil {
		return r, err
	}
	for status, what := range map[string]string{statusSwitchover: Stopped, statusCompleted: Completed} {
		if at, ok := t.moved.from.when(status); ok {
			t.at(what, at)
		}
	}
	slices.SortStableFunc(t.moments, func(a, b Moment) int { return cmp.Compare(a.AtMS, b.AtMS) })
	info, err := source.migrationInfo(ctx)
	if err != nil {
		return r, err
	}
	r.Passes, r.DowntimeMS = info.RAM.Passes, info.Downtime
	r.bytes, r.totalMS = info.RAM.Transferred, info.TotalTime
	r.Resent, r.OverReported = t.moved.sends.again()
	r.Sends, r.Moments = t.moved.sends.passes, t.moments
	for i, at := range source.trace.begun() {
		if i < len(r.Sends) {
			r.Sends[i].BeginMS = max(0, at.Sub(t.begun).Milliseconds())
		}
	}

	if err := t.stores(buffer); err != nil {
		return r, err
	}
	differing, err := differ(source.ram, destination.ram)
	if err != nil {
		return r, err
	}
	t.count(&r, differing)
	if t.Pages {
		r.Pages = t.remember()
	}
	r.judge(t.run)
	switch {
	case r.Verdict == Unfit:
		// What the destination got may be no kernel that runs.
		return r, nil
	case early:
		return r, errEarly
	}
	return r, t.ask(ctx, &r)
}

// logged waits until the devices have heard of QEMU's dirty log: what they write
// from then on is what they are asked about.
func (t *trial) logged(ctx context.Context) error {
	source := t.moved.source
	if source.disk == nil {
		return nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, qemuLimit, &TimeError{"dirty log from the source's QEMU for its devices", qemuLimit})
	defer cancel()
	for _, b := range []*vhostuser.Backend{source.disk, source.card.Backend} {
		if err := b.WaitLogging(limited, true); err != nil {
			return source.told(limited, err)
		}
	}
	return nil
}

// work has the pages written in the warm-up, and takes the devices away.
func (t *trial) work(ctx context.Context, r *Outcome) error {
	source := t.moved.source
	if t.run.Device == None {
		err := source.ask(ctx, protocol.OpStore, protocol.StoreArgs{Seed: t.seed}, nil)
		t.storedIn = source.trace.pass()
		t.moment(WorkEnds)
		return err
	}
	if err := t.write(ctx); err != nil {
		return err
	}
	t.moment(WorkEnds)
	for _, driver := range []string{"virtio_blk", "virtio_net"} {
		if err := source.ask(ctx, protocol.OpUnbind, protocol.UnbindArgs{Driver: driver}, nil); err != nil {
			return err
		}
	}
	t.moment(Unplugged)
	if t.run.Kernel == Patched {
		return source.ask(ctx, protocol.OpCounters, nil, &r.Counters)
	}
	return nil
}

// write has the devices write.
func (t *trial) write(ctx context.Context) error {
	source := t.moved.source
	if err := source.ask(ctx, protocol.OpRead, protocol.ReadArgs{}, nil); err != nil {
		return err
	}
	if source.card != nil {
		if err := t.send(ctx); err != nil {
			return err
		}
	}
	// What a device wrote must be there, or there is nothing to lose.
	var v protocol.VerifyResult
	if err := source.ask(ctx, protocol.OpVerify, protocol.VerifyArgs{Seed: t.seed, Old: t.old()}, &v); err != nil {
		return err
	}
	if v.Bad != 0 {
		return &AgentError{source.name, fmt.Errorf("%d of %d pages are not what the disk wrote, before the migration", v.Bad, v.Pages)}
	}
	return nil
}

// ask has the destination's guest itself look at what it got.
func (t *trial) ask(ctx context.Context, r *Outcome) error {
	destination := t.moved.destination
	if err := destination.do(ctx, "cont", nil, nil); err != nil {
		return err
	}
	var v protocol.VerifyResult
	if err := destination.ask(ctx, protocol.OpVerify, protocol.VerifyArgs{Seed: t.seed, Old: t.old()}, &v); err != nil {
		return err
	}
	r.Guest.Pages, r.Guest.BadPages = v.Pages, v.Bad
	if t.moved.source.card == nil {
		return nil
	}
	var d protocol.DrainResult
	if err := destination.ask(ctx, protocol.OpDrain, protocol.DrainArgs{Seed: t.packetSeed(), Expect: uint64(t.Packets)}, &d); err != nil {
		return err
	}
	r.Guest.Packets, r.Guest.BadPackets = t.Packets, int(d.Missing)
	return nil
}

// numbers returns the numbers of n pages of the guest's RAM, in their order.
func (t *trial) numbers(runs []protocol.Run, n int) ([]int64, error) {
	var pages []int64
	for _, run := range runs {
		for i := range run[1] {
			if len(pages) == n {
				return nil, fmt.Errorf("it tells the addresses of more than %d pages", n)
			}
			if run[0]+i > 1<<40 {
				return nil, fmt.Errorf("a page at frame %#x", run[0]+i)
			}
			offset, ok := t.moved.source.ram.offset((run[0] + i) * pageSize)
			if !ok {
				return nil, fmt.Errorf("a page at frame %#x, where there is no memory", run[0]+i)
			}
			pages = append(pages, offset/pageSize)
		}
	}
	if len(pages) != n {
		return nil, fmt.Errorf("it tells the addresses of %d pages, want %d", len(pages), n)
	}
	return pages, nil
}

// keep writes the guests' consoles and returns the names of the files.
func (p *Proof) keep(run string, cpus int, guests []*guest) []string {
	var names []string
	for _, g := range guests {
		if name := p.keepText(fmt.Sprintf("%s-%d-%s.log", run, cpus, g.name), g.console.Bytes()); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// keepText writes what a guest printed and returns the name of the file, "" if there
// is none.
func (p *Proof) keepText(name string, text []byte) string {
	if p.Consoles == "" || len(bytes.TrimSpace(text)) == 0 || os.MkdirAll(p.Consoles, 0o777) != nil {
		return ""
	}
	name = filepath.Join(p.Consoles, name)
	if os.WriteFile(name, text, 0o666) != nil {
		return ""
	}
	return name
}
