package qemutest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"patchgen/initramfs/protocol"
	"patchgen/qemutest/vhostuser"
)

// What a migration costs is compared between these.
const (
	NoSeries     = "no series"
	LoggingArm   = "logging"
	SeriesArm    = "series"
	UnplugsFirst = "unplug first"
)

// costRuns are the arms of Migrations. Blind devices without the series lose pages:
// what they cost is what the others are held against.
var costRuns = []Run{
	{Name: NoSeries, Kernel: Unpatched, Device: Blind, Loses: true},
	{Name: LoggingArm, Kernel: Unpatched, Device: Logging},
	{Name: SeriesArm, Kernel: Patched, Device: Blind, Marking: true},
	{Name: UnplugsFirst, Kernel: Unpatched, Device: Blind, Before: true},
}

// warmUpRuns are the arms of WarmUps.
var warmUpRuns = []Run{
	{Name: SeriesArm, Kernel: Patched, Device: Blind, Marking: true},
	{Name: UnplugsFirst, Kernel: Unpatched, Device: Blind, Before: true},
}

// A Spread is a figure of several rounds.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spread returns the median, which of an even number is the mean of the two in the
// middle, and the bounds; of nothing it is zero.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return Spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}
}

// over is the spread of a figure of each.
func over[T any](all []T, figure func(T) float64) Spread {
	values := make([]float64, len(all))
	for i, one := range all {
		values[i] = figure(one)
	}
	return spread(values)
}

// A MigrationCost is what migrations of one sort cost. Pages are 4 KiB.
type MigrationCost struct {
	Arm          string `json:"arm"`
	Kernel       string `json:"kernel"`
	Device       string `json:"device"`
	Rounds       int    `json:"rounds"`
	Bytes        Spread `json:"bytes"` // sent
	Passes       Spread `json:"passes"`
	DowntimeMS   Spread `json:"downtime_ms"`
	TotalMS      Spread `json:"total_ms"`
	Written      Spread `json:"written"` // as in Outcome, as are the next three
	Missed       Spread `json:"missed"`
	Resent       Spread `json:"resent"`
	OverReported Spread `json:"over_reported"`
	Invalid      int    `json:"invalid"` // tries that switched over too early
	Verdict      string `json:"verdict"` // the gravest
	Why          string `json:"why,omitempty"`
}

// maxRounds is how often a benchmark is made at most.
const maxRounds = 100

// Migrations measures what a migration costs: without the series, with devices that
// log, with the series, and where the devices are unplugged first. All arms of a round
// are made before the next round, with the same seed and the first number of vCPUs. The
// migration is that of the proof, held in its second pass until the devices have written:
// with "unplug first" they have done so before it, and there is nothing to wait for.
//
// It also returns the version of QEMU. The error is *RunError, or the context's cause.
func (p *Proof) Migrations(ctx context.Context, rounds int) ([]MigrationCost, string, error) {
	if rounds < 1 || rounds > maxRounds {
		return nil, "", fmt.Errorf("%d rounds: want 1 to %d", rounds, maxRounds)
	}
	var report Report
	reporter := p.stage("weigh migrations", rounds*len(costRuns))
	defer reporter.End()
	of := make([][]Outcome, len(costRuns))
	for round := range rounds {
		for i, run := range costRuns {
			o, err := p.run(ctx, &report, run, p.CPUs[0])
			if err != nil {
				return nil, "", err
			}
			of[i] = append(of[i], o)
			reporter.Step(int64(round*len(costRuns) + i + 1))
		}
	}
	var all []MigrationCost
	for i, run := range costRuns {
		all = append(all, migrationCost(run, of[i]))
	}
	return all, report.QEMU, nil
}

func migrationCost(run Run, of []Outcome) MigrationCost {
	figure := func(f func(Outcome) int64) Spread {
		return over(of, func(o Outcome) float64 { return float64(f(o)) })
	}
	c := MigrationCost{
		Arm: run.Name, Kernel: run.Kernel, Device: run.Device, Rounds: len(of), Verdict: Pass,
		Bytes:        figure(func(o Outcome) int64 { return o.bytes }),
		Passes:       figure(func(o Outcome) int64 { return o.Passes }),
		DowntimeMS:   figure(func(o Outcome) int64 { return o.DowntimeMS }),
		TotalMS:      figure(func(o Outcome) int64 { return o.totalMS }),
		Written:      figure(func(o Outcome) int64 { return int64(o.Written) }),
		Missed:       figure(func(o Outcome) int64 { return int64(o.Missed) }),
		Resent:       figure(func(o Outcome) int64 { return o.Resent }),
		OverReported: figure(func(o Outcome) int64 { return o.OverReported }),
	}
	for _, o := range of {
		c.Invalid += o.Invalid
		verdict, why := o.Verdict, o.Why
		// The devices have written before, so only the guest knows what arrived.
		if run.Before && verdict == Pass && o.Guest.BadPages+o.Guest.BadPackets > 0 {
			verdict, why = Lost, fmt.Sprintf("on the destination %d pages and %d packets are not what the devices wrote before the migration", o.Guest.BadPages, o.Guest.BadPackets)
		}
		if Graver(verdict, c.Verdict) {
			c.Verdict, c.Why = verdict, why
		}
	}
	return c
}

// A WarmUpPlan says which migrations WarmUps makes.
type WarmUpPlan struct {
	Memories []int64 // of a guest, bytes
	Rates    []int   // at which the guest's CPU dirties pages, pages a second
	Rounds   int
}

// What a warm-up is like: an ordinary migration over a line of its own.
const (
	lineBandwidth = 100 << 20 // bytes a second, in all passes
	lineDowntime  = 300       // milliseconds

	// The guest reads into so many pages in turn. They are more than QEMU may
	// send at once at that bandwidth: see heartbeat.
	readPages   = 4096
	readRequest = 64 << 10
	// readFrom is where on the disk the guest reads, in bytes. Before it is what the
	// kernel itself looks at when it finds a disk.
	readFrom = 1 << 20

	// dirtyPart of a guest's memory is what its CPU dirties, in turn.
	dirtyPart = 4

	maxRate = 1 << 20
)

// Check returns what is wrong with the plan.
func (w WarmUpPlan) Check() error {
	const mib = 1 << 20
	switch {
	case w.Rounds < 1 || w.Rounds > maxRounds:
		return fmt.Errorf("%d rounds: want 1 to %d", w.Rounds, maxRounds)
	case len(w.Memories) == 0:
		return errors.New("no size of a guest's memory is given")
	case len(w.Rates) == 0:
		return errors.New("no rate of dirtied pages is given")
	}
	for _, m := range w.Memories {
		// A kernel and an initramfs take up some 96 MiB.
		if m < 192*mib || m%(2*mib) != 0 {
			return fmt.Errorf("memory of %d MiB: want an even number of MiB, at least 192", m/mib)
		}
	}
	for _, r := range w.Rates {
		if r < 0 || r > maxRate {
			return fmt.Errorf("%d pages a second: want 0 to %d", r, maxRate)
		}
	}
	return nil
}

// A WarmUp is what became of a guest that reads from a disk all the time while it is
// migrated. Times are by this machine's clock, but for those that QEMU tells.
type WarmUp struct {
	Arm     string `json:"arm"`    // SeriesArm or UnplugsFirst
	Memory  int64  `json:"memory"` // of the guest, bytes
	Rate    int    `json:"rate"`   // at which its CPU dirtied pages, pages a second
	Rounds  int    `json:"rounds"`
	IOBytes Spread `json:"io_bytes"` // read from the begin of the migration to its end
	// WithoutMS is from the last read before the disk is taken away to the first
	// on the destination.
	WithoutMS   Spread `json:"without_ms"`
	FirstPassMS Spread `json:"first_pass_ms"`
	TotalMS     Spread `json:"total_ms"`    // QEMU's
	DowntimeMS  Spread `json:"downtime_ms"` // QEMU's
	Passes      Spread `json:"passes"`
	Bytes       Spread `json:"bytes"`   // sent
	Zeros       Spread `json:"zeros"`   // of the first pass's pages, those full of one byte
	Written     Spread `json:"written"` // pages that the disk wrote in the warm-up
	Missed      Spread `json:"missed"`  // of these, not sent in a later pass
	Invalid     int    `json:"invalid"` // tries that switched over too early
	Verdict     string `json:"verdict"` // the gravest
	Why         string `json:"why,omitempty"`
}

// WarmUps measures what a guest can do in the warm-up of a migration, and how long it
// has to do without its disk, when that stays for the first pass and is marked, against
// when it is unplugged first. The arms of a round are made in turn.
//
// It also returns the version of QEMU. The error is *RunError, or the context's cause.
func (p *Proof) WarmUps(ctx context.Context, plan WarmUpPlan) ([]WarmUp, string, error) {
	if err := plan.Check(); err != nil {
		return nil, "", err
	}
	var report Report
	type key struct{ memory, rate, arm int }
	of := make(map[key][]warm)
	total, made := plan.Rounds*len(plan.Memories)*len(plan.Rates)*len(warmUpRuns), 0
	reporter := p.stage("weigh warm-ups", total)
	defer reporter.End()
	for range plan.Rounds {
		for m, memory := range plan.Memories {
			for r, rate := range plan.Rates {
				for a, run := range warmUpRuns {
					w, err := p.warmUp(ctx, &report, run, memory, rate)
					if err != nil {
						return nil, "", err
					}
					of[key{m, r, a}] = append(of[key{m, r, a}], w)
					made++
					reporter.Step(int64(made))
				}
			}
		}
	}
	var all []WarmUp
	for m, memory := range plan.Memories {
		for r, rate := range plan.Rates {
			for a, run := range warmUpRuns {
				all = append(all, warmUpCost(run, memory, rate, of[key{m, r, a}]))
			}
		}
	}
	return all, report.QEMU, nil
}

// A warm is one try of a WarmUp.
type warm struct {
	outcome            Outcome
	io                 int64
	without, firstPass time.Duration
}

func warmUpCost(run Run, memory int64, rate int, of []warm) WarmUp {
	figure := func(f func(warm) float64) Spread { return over(of, f) }
	outcome := func(f func(Outcome) int64) Spread {
		return over(of, func(w warm) float64 { return float64(f(w.outcome)) })
	}
	milliseconds := func(d time.Duration) float64 { return math.Round(d.Seconds() * 1000) }
	c := WarmUp{
		Arm: run.Name, Memory: memory, Rate: rate, Rounds: len(of), Verdict: Pass,
		IOBytes:     figure(func(w warm) float64 { return float64(w.io) }),
		WithoutMS:   figure(func(w warm) float64 { return milliseconds(w.without) }),
		FirstPassMS: figure(func(w warm) float64 { return milliseconds(w.firstPass) }),
		TotalMS:     outcome(func(o Outcome) int64 { return o.totalMS }),
		DowntimeMS:  outcome(func(o Outcome) int64 { return o.DowntimeMS }),
		Passes:      outcome(func(o Outcome) int64 { return o.Passes }),
		Bytes:       outcome(func(o Outcome) int64 { return o.bytes }),
		Zeros: outcome(func(o Outcome) int64 {
			if len(o.Sends) == 0 {
				return 0
			}
			return o.Sends[0].Zeros
		}),
		Written: outcome(func(o Outcome) int64 { return int64(o.Written) }),
		Missed:  outcome(func(o Outcome) int64 { return int64(o.Missed) }),
	}
	for _, w := range of {
		c.Invalid += w.outcome.Invalid
		if Graver(w.outcome.Verdict, c.Verdict) {
			c.Verdict, c.Why = w.outcome.Verdict, w.outcome.Why
		}
	}
	return c
}

// A meter is a disk that knows how much was read of it, and when. What it holds is new
// at each read, so that no page looks like the one that was there before.
type meter struct {
	seed uint64

	mu    sync.Mutex
	pages uint64        // filled so far
	bytes int64         // read by the guest's reader
	last  time.Time     // when it read last
	next  chan struct{} // closed when it reads; nil if nobody waits
	gone  bool          // it has been taken away
	since time.Time     // when it was read last before that
	first time.Time     // when it was read first after it
}

func (m *meter) read(p []byte, offset int64) {
	m.mu.Lock()
	number := m.pages
	m.pages += uint64(len(p)+pageSize-1) / pageSize
	m.mu.Unlock()
	for rest := p; len(rest) > 0; number++ {
		n := min(len(rest), pageSize)
		protocol.Fill(rest[:n], m.seed, number)
		rest = rest[n:]
	}
	if offset < readFrom {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes += int64(len(p))
	if m.last = time.Now(); m.gone && m.first.IsZero() {
		m.first = m.last
	}
	if m.next != nil {
		close(m.next)
		m.next = nil
	}
}

func (m *meter) now() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// left notes that the disk has been taken away.
func (m *meter) left() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone, m.first, m.since = true, time.Time{}, m.last
}

// without returns how long it was not read while it was away.
func (m *meter) without() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.first.Sub(m.since)
}

// wait returns when so many bytes were read.
func (m *meter) wait(ctx context.Context, bytes int64) error {
	for {
		m.mu.Lock()
		if m.bytes >= bytes {
			m.mu.Unlock()
			return nil
		}
		if m.next == nil {
			m.next = make(chan struct{})
		}
		next := m.next
		m.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// warmUp makes a migration until it is valid.
func (p *Proof) warmUp(ctx context.Context, report *Report, run Run, memory int64, rate int) (w warm, err error) {
	q := *p
	q.Memory = memory
	cpus := p.CPUs[0]
	begin := time.Now()
	invalid, err := q.valid(run.Name, cpus, func(seed uint64) error {
		disk := &meter{seed: seed}
		o := guestOptions{
			kernel: q.Kernels[run.Kernel], cpus: cpus, memory: memory, full: true,
			disk: &vhostuser.Disk{Sectors: (readFrom + readPages*pageSize) / 512, Read: disk.read},
		}
		if run.Kernel == Patched {
			o.cmdline = []string{armed}
		}
		return q.pair(ctx, run.Name, o, 2, func(ctx context.Context, m *migration) (err error) {
			x := &warming{trial: &trial{Proof: &q, report: report, run: run, cpus: cpus, seed: seed, moved: m}, disk: disk, rate: rate}
			w, err = x.migrate(ctx)
			return err
		})
	})
	w.outcome.Invalid, w.outcome.Seconds = invalid, time.Since(begin).Seconds()
	return w, err
}

// A warming is a trial whose guest reads all the time.
type warming struct {
	*trial
	disk *meter
	rate int
}

const (
	blockDriver   = "virtio_blk"
	networkDriver = "virtio_net"
)

func (x *warming) migrate(ctx context.Context) (warm, error) {
	w := warm{outcome: Outcome{Name: x.run.Name, Kernel: x.run.Kernel, Device: x.run.Device, CPUs: x.cpus}}
	m, r := x.moved, &w.outcome
	source, destination := m.source, m.destination
	if err := x.ready(ctx); err != nil {
		return w, err
	}
	if x.run.Before {
		if err := x.unplug(ctx); err != nil {
			return w, err
		}
		x.disk.left()
	}
	before := x.disk.now()
	x.begun = time.Now()
	if err := m.start(ctx, parameters{"max-bandwidth": lineBandwidth}); err != nil {
		return w, err
	}
	if !x.run.Before {
		// The disk leaves when the bulk of the memory is copied. It could not stay
		// much longer: a device that writes all the time makes a migration converge
		// as little as a CPU that does, and what is passed through has to be gone when
		// the guest is stopped. Until it is, next to nothing is sent, or QEMU might
		// find nothing dirty and switch over: that counts against the series.
		if err := m.hold(ctx, 2); err != nil {
			return w, err
		}
		held, release := m.held(ctx)
		err := x.unplug(held)
		release()
		if err != nil {
			return w, cmp.Or(x.early(), err)
		}
		x.disk.left()
	}
	p := parameters{"downtime-limit": lineDowntime, "max-bandwidth": lineBandwidth}
	if source.qmp.Version.AtLeast(8, 2) {
		p["avail-switchover-bandwidth"] = lineBandwidth
	}
	if err := m.set(ctx, p); err != nil {
		return w, err
	}
	if err := m.complete(ctx); err != nil {
		return w, err
	}
	after := x.disk.now()
	w.io = after - before
	if err := destination.do(ctx, "cont", nil, nil); err != nil {
		return w, err
	}
	if err := x.plug(ctx, destination, after); err != nil {
		return w, err
	}
	w.without = x.disk.without()

	if err := m.read(ctx); err != nil {
		return w, err
	}
	info, err := source.migrationInfo(ctx)
	if err != nil {
		return w, err
	}
	r.Passes, r.DowntimeMS, r.bytes, r.totalMS = info.RAM.Passes, info.Downtime, info.RAM.Transferred, info.TotalTime
	r.Resent, r.OverReported = m.sends.again()
	r.Sends = m.sends.passes
	if passes := source.trace.begun(); len(passes) > 1 {
		w.firstPass = passes[1].Sub(passes[0])
	}
	if err := x.stores(nil); err != nil {
		return w, err
	}
	// The destination runs already, so the memories cannot be compared: what was
	// missed is known from the stream alone.
	x.count(r, nil)
	r.judge(x.run)
	return w, nil
}

// early returns errEarly if the migration has switched over.
func (x *warming) early() error {
	if x.moved.switched() {
		return errEarly
	}
	return nil
}

// ready waits for the source's guest, and until it reads and dirties as it will go on.
func (x *warming) ready(ctx context.Context) error {
	source := x.moved.source
	if _, err := source.hello(ctx); err != nil {
		return err
	}
	x.report.QEMU = source.qmp.Version.String()
	// The card has nothing to do here.
	if err := source.ask(ctx, protocol.OpUnbind, protocol.UnbindArgs{Driver: networkDriver}, nil); err != nil {
		return err
	}
	if x.run.Marking {
		if err := source.ask(ctx, protocol.OpMarking, protocol.MarkingArgs{On: true}, nil); err != nil {
			return err
		}
	}
	if x.rate > 0 {
		beat := protocol.HeartbeatArgs{Pages: int(x.Memory / dirtyPart / pageSize), Rate: x.rate}
		if err := source.ask(ctx, protocol.OpHeartbeat, beat, nil); err != nil {
			return err
		}
	}
	read := protocol.ReaderArgs{Pages: readPages, Request: readRequest, Offset: readFrom}
	if err := source.ask(ctx, protocol.OpReader, read, nil); err != nil {
		return err
	}
	return x.reads(ctx, source, 2*readPages*pageSize)
}

// reads waits until so many bytes were read of the disk.
func (x *warming) reads(ctx context.Context, g *guest, bytes int64) error {
	limited, cancel := context.WithTimeoutCause(ctx, x.Limit, &TimeError{"read from the disk by the " + g.name + "'s guest", x.Limit})
	defer cancel()
	return x.disk.wait(limited, bytes)
}

func (x *warming) unplug(ctx context.Context) error {
	source := x.moved.source
	var r protocol.UnbindResult
	if err := source.ask(ctx, protocol.OpUnbind, protocol.UnbindArgs{Driver: blockDriver}, &r); err != nil {
		return err
	}
	return one(source, "unbound", r.Devices)
}

// plug binds the disk again and returns when the guest has read from it; before, so
// many bytes were read.
func (x *warming) plug(ctx context.Context, g *guest, before int64) error {
	var r protocol.BindResult
	if err := g.ask(ctx, protocol.OpBind, protocol.BindArgs{Driver: blockDriver}, &r); err != nil {
		return err
	}
	if err := one(g, "bound", r.Devices); err != nil {
		return err
	}
	return x.reads(ctx, g, before+1)
}

// one holds what a guest says that it did to devices against what there is: one disk.
func one(g *guest, what string, devices []string) error {
	if len(devices) != 1 {
		return &AgentError{g.name, fmt.Errorf("it has %s %d disks, and there is one", what, len(devices))}
	}
	return nil
}
