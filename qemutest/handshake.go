package qemutest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"patchgen/initramfs/protocol"
	"patchgen/qemutest/vhostuser"
)

// A HandshakeRun is what became of an experiment with a QEMU that asks the guest to
// mark, before it migrates it. Nothing in the guest is switched by hand.
type HandshakeRun struct {
	Name     string   `json:"name"`
	About    string   `json:"about"` // what must be
	Kernel   string   `json:"kernel"`
	QEMU     string   `json:"qemu"` // its version
	CPUs     int      `json:"cpus"`
	Written  int      `json:"written"` // as of an Outcome
	Missed   int      `json:"missed"`
	Early    bool     `json:"early"`   // a page was sent while marking was off
	WaitMS   int64    `json:"wait_ms"` // from the migration's begin to the first page
	Passes   int64    `json:"passes"`
	Downtime int64    `json:"downtime_ms"`
	History  []string `json:"history"` // of the source: the migration's statuses, the guest's answers, devices gone
	Verdict  string   `json:"verdict"`
	Why      string   `json:"why,omitempty"`
	Invalid  int      `json:"invalid"` // tries that switched over too early
	Seconds  float64  `json:"seconds"`
}

// A handshake is one of the experiments.
type handshake struct {
	name, about string
	kernel      string
	ask         bool     // the bridges have the block
	poll        int      // milliseconds
	cmdline     []string // more of the kernel's
	guests      int      // the source, a destination, and one behind it
	resets      bool
	dies        bool
	try         func(*shaken, context.Context) error
}

// The limits of QEMU's waiting, in milliseconds: one that must not be reached, and one
// that has to be.
const (
	longWait  = 60_000
	shortWait = 1_500
)

// maxPoll is the longest that a guest lets pass between two looks at a block, in
// milliseconds.
const maxPoll = 10_000

var handshakes = []handshake{
	{name: "migrate", about: "asked, answered, copied; the devices leave in the warm-up; off afterwards", kernel: Patched, ask: true, poll: 3000, guests: 2, try: (*shaken).whole},
	{name: "cancel", about: "a cancelled migration stops it, the next asks again", kernel: Patched, ask: true, poll: 100, guests: 2, try: (*shaken).cancelled},
	{name: "back", about: "to another host and back, with a disk that is plugged in there", kernel: Patched, ask: true, poll: 100, guests: 3, try: (*shaken).thereAndBack},
	{name: "suspend", about: "a guest that sleeps is not waited for, and not trusted if it wakes", kernel: Patched, ask: true, poll: 100, guests: 1, try: (*shaken).suspended},
	{name: "reset", about: "a guest that resets itself in the warm-up is not trusted any more", kernel: Patched, ask: true, poll: 100, resets: true, guests: 1, try: (*shaken).reset},
	{name: "refuse", about: "a guest that must not mark says so at once", kernel: Patched, ask: true, poll: 100, cmdline: []string{"dma_page_dirtying=off"}, guests: 1, try: (*shaken).refused},
	{name: "death", about: "a guest that dies when asked is waited for until the limit", kernel: Patched, ask: true, poll: maxPoll, cmdline: []string{"panic=0", "patchgen.provoke=panic@" + protocol.OpQueued}, dies: true, guests: 1, try: (*shaken).died},
	{name: "old guest, fail", about: "without the series there is no answer, and the migration fails", kernel: Unpatched, ask: true, poll: 100, guests: 1, try: (*shaken).unanswered},
	{name: "old guest, unplug", about: "or the devices are unplugged first", kernel: Unpatched, ask: true, poll: 100, guests: 2, try: (*shaken).unplugged},
	{name: "not asked", about: "bridges without the block: all is as before", kernel: Patched, guests: 1, try: (*shaken).unasked},
}

// Handshakes makes the experiments, each with each number of vCPUs, with p.QEMU being
// one that has the series of QEMU. The error is as of Prove.
func (p *Proof) Handshakes(ctx context.Context, report *Report, done func(HandshakeRun)) error {
	reporter := p.stage("hand-shake", len(handshakes)*len(p.CPUs))
	defer reporter.End()
	for _, cpus := range p.CPUs {
		for _, h := range handshakes {
			r, err := p.handshake(ctx, h, cpus)
			if err != nil {
				return err
			}
			report.addHandshake(r)
			if done != nil {
				done(r)
			}
			reporter.Step(int64(len(report.Handshakes)))
		}
	}
	return nil
}

// KillHandshake makes the experiments with a QEMU that is wrong on purpose, with fewest
// vCPUs and until one is not as it must be, and returns how that was seen. In the first
// the guest looks at the block as seldom as it may, so that the whole first pass fits in
// before.
func (p *Proof) KillHandshake(ctx context.Context) (killers []string, err error) {
	for i, h := range handshakes {
		if i == 0 {
			h.poll = maxPoll
		}
		r, err := p.handshake(ctx, h, slices.Min(p.CPUs))
		if err != nil {
			return nil, err
		}
		see := func(format string, args ...any) {
			killers = append(killers, fmt.Sprintf("hand-shake %q: ", h.name)+fmt.Sprintf(format, args...))
		}
		if r.Early {
			see("a page was sent while marking was off")
		}
		if r.Missed > 0 {
			see("%d of %d pages were lost", r.Missed, r.Written)
		}
		if len(killers) == 0 && r.Verdict != Pass {
			see("%s", r.Why)
		}
		if len(killers) > 0 {
			return killers, nil
		}
	}
	return nil, nil
}

func (r *Report) addHandshake(h HandshakeRun) {
	r.Handshakes = append(r.Handshakes, h)
	if r.QEMU == "" { // no other test was made
		r.QEMU = h.QEMU
	}
	r.set(h.Verdict, fmt.Sprintf("hand-shake %q with %s", h.Name, count(h.CPUs, "vCPU")), h.Why)
}

// A wrongError says what is not as it must be in an experiment: a verdict, and no
// fault of the surroundings.
type wrongError struct{ why string }

func (e *wrongError) Error() string { return e.why }

func wrong(format string, args ...any) error { return &wrongError{fmt.Sprintf(format, args...)} }

func (p *Proof) handshake(ctx context.Context, h handshake, cpus int) (r HandshakeRun, err error) {
	begin := time.Now()
	invalid, err := p.valid("hand-shake "+h.name, cpus, func(seed uint64) error {
		r = HandshakeRun{Name: h.name, About: h.about, Kernel: h.kernel, CPUs: cpus, Verdict: Pass}
		o := guestOptions{
			kernel: p.Kernels[h.kernel], cpus: cpus, memory: p.Memory, cmdline: h.cmdline,
			resets: h.resets, dies: h.dies, bridges: &bridges{h.ask, h.poll},
		}
		t := &trial{Proof: p, report: &Report{}, run: Run{Name: h.name, Kernel: h.kernel, Device: Blind}, cpus: cpus, seed: seed}
		o.disk = &vhostuser.Disk{Sectors: uint64(p.Written) / 512, Read: t.sectors}
		return p.pair(ctx, strings.ReplaceAll("hand-shake "+h.name, " ", "-"), o, h.guests, func(ctx context.Context, m *migration) error {
			t.moved = m
			s := &shaken{t, &r}
			if err := s.prepare(ctx); err != nil {
				return err
			}
			r.QEMU = t.report.QEMU
			err := h.try(s, ctx)
			r.History = m.from.all()
			var w *wrongError
			if errors.As(err, &w) {
				// That pages were lost says more.
				if r.Verdict == Pass {
					r.Verdict, r.Why = Fail, w.why
				}
				err = nil
			}
			return err
		})
	})
	r.Invalid, r.Seconds = invalid, time.Since(begin).Seconds()
	return r, err
}

// shaken is one try of an experiment.
type shaken struct {
	*trial
	r *HandshakeRun
}

func (s *shaken) source() *guest { return s.moved.source }

// devices returns the ids of the source's.
func (s *shaken) devices() []string {
	if s.source().card == nil {
		return []string{"disk"}
	}
	return []string{"disk", "card"}
}

// counters reads the kernel's.
func (s *shaken) counters(ctx context.Context, g *guest) (map[string]uint64, error) {
	var c map[string]uint64
	err := g.ask(ctx, protocol.OpCounters, nil, &c)
	return c, err
}

// marking waits until marking is on or off.
func (s *shaken) marking(ctx context.Context, g *guest, on bool) error {
	want := uint64(0)
	if on {
		want = 1
	}
	deadline := time.Now().Add(2*maxPoll*time.Millisecond + s.Limit)
	for {
		c, err := s.counters(ctx, g)
		if err != nil || c["enabled"] == want {
			return err
		}
		if time.Now().After(deadline) {
			return wrong("marking in the %s's guest does not become %t", g.name, on)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A block is what QEMU tells of one, of its qapi/migration.json.
type block struct {
	Path      string `json:"qom-path"`
	Driver    bool
	Streaming bool
	Answered  bool
	Answer    string
}

func (s *shaken) blocks(ctx context.Context) ([]block, error) {
	var blocks []block
	if err := s.source().do(ctx, "query-page-dirtying", nil, &blocks); err != nil {
		return nil, err
	}
	if len(blocks) != 3 {
		return nil, wrong("QEMU tells of %d bridges with the block, want 3", len(blocks))
	}
	return blocks, nil
}

// ready waits until the guest has a driver at each block, or has none.
func (s *shaken) ready(ctx context.Context, driver bool) error {
	deadline := time.Now().Add(maxPoll*time.Millisecond + s.Limit)
	for {
		blocks, err := s.blocks(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(blocks, func(b block) bool { return b.Driver != driver }) {
			return nil
		}
		if time.Now().After(deadline) {
			return wrong("the guest's driver at the blocks is %v, want %t at each", blocks, driver)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// idle has the devices write much while nobody asks for marking, and puts the buffer
// back as it was.
func (s *shaken) idle(ctx context.Context) error {
	g := s.source()
	if err := g.ask(ctx, protocol.OpRead, protocol.ReadArgs{}, nil); err != nil {
		return err
	}
	c, err := s.counters(ctx, g)
	if err != nil {
		return err
	}
	if c["armed"] != 1 || c["enabled"] != 0 || c["pages"] != 0 || c["calls"] != 0 {
		return wrong("before anybody asks, armed is %d, enabled %d, with %d calls and %d pages marked", c["armed"], c["enabled"], c["calls"], c["pages"])
	}
	return g.ask(ctx, protocol.OpStore, protocol.StoreArgs{Seed: s.old()}, nil)
}

// begin starts the migration, and sees to it that no page is sent while marking is
// off. It returns behind the first pass.
func (s *shaken) begin(ctx context.Context) error {
	g := s.source()
	before := len(s.moved.from.happened())
	s.begun = time.Now()
	if err := s.moved.start(ctx, parameters{"page-dirtying-timeout": longWait}); err != nil {
		return err
	}
	asked := false
	for {
		// In this order: a page that was sent before marking is seen to be off.
		sections := g.trace.sections()
		c, err := s.counters(ctx, g)
		if err != nil {
			return err
		}
		if sections > 0 && s.r.WaitMS == 0 {
			s.r.WaitMS = time.Since(s.begun).Milliseconds()
		}
		if c["enabled"] == 1 {
			break
		}
		if sections > 0 {
			s.r.Early = true
			break
		}
		if status, _ := s.moved.from.now(); status == statusFailed {
			return s.failed(ctx)
		}
		asked = true
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	if err := s.moved.hold(ctx, 2); err != nil {
		return err
	}
	if s.r.WaitMS == 0 {
		s.r.WaitMS = time.Since(s.begun).Milliseconds()
	}
	if s.r.Early {
		return nil // go on: what is lost thereby is of interest
	}
	if !asked && s.r.Name == "migrate" {
		return errEarly // nothing was seen
	}
	history := s.moved.from.happened()[before:]
	waits, active := slices.Index(history, statusWaits), slices.Index(history, statusActive)
	if waits < 0 || active < waits {
		return wrong("want the migration to wait, and then to be active; it was %s", strings.Join(history, ", "))
	}
	// The events come at most once a second for each bridge.
	blocks, err := s.blocks(ctx)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		if !b.Answered || b.Answer != "active" {
			return wrong("the migration is active, and %s is not answered: %+v", b.Path, b)
		}
	}
	return nil
}

func (s *shaken) failed(ctx context.Context) error {
	info, err := s.source().migrationInfo(ctx)
	if err != nil {
		return err
	}
	return wrong("the migration failed: %s", info.ErrorDesc)
}

// leave has the devices write, and taken out, and the migration go on to its end at
// the same time: it has to wait until they are gone.
func (s *shaken) leave(ctx context.Context) error {
	g := s.source()
	held, release := s.moved.held(ctx)
	err := s.write(held)
	if err == nil {
		for _, id := range s.devices() {
			if err = g.do(held, "device_del", map[string]string{"id": id}, nil); err != nil {
				break
			}
		}
	}
	release()
	if s.moved.switched() {
		return errEarly
	}
	if err != nil {
		return err
	}
	return s.finish(ctx)
}

// A pciDevice is what we need of qapi/pci.json, PciDeviceInfo.
type pciDevice struct {
	ID     string `json:"qdev_id"`
	Bridge struct {
		Devices []pciDevice
	} `json:"pci_bridge"`
}

// left sees that neither device is there. DEVICE_DELETED
// would not tell: it comes when nothing refers to the device any more.
func (s *shaken) left(ctx context.Context) error {
	var buses []struct{ Devices []pciDevice }
	if err := s.source().do(ctx, "query-pci", nil, &buses); err != nil {
		return err
	}
	var there []string
	var list func([]pciDevice)
	list = func(devices []pciDevice) {
		for _, d := range devices {
			there = append(there, d.ID)
			list(d.Bridge.Devices)
		}
	}
	for _, b := range buses {
		list(b.Devices)
	}
	if !slices.Contains(there, "port1") {
		return wrong("QEMU tells of the devices %v, and of no port1", there)
	}
	for _, id := range s.devices() {
		if slices.Contains(there, id) {
			return wrong("the %s is still there", id)
		}
	}
	return nil
}

// finish lets the migration end, and counts what was lost.
func (s *shaken) finish(ctx context.Context) error {
	g := s.source()
	s.moved.over = s.left
	if err := s.moved.finish(ctx); err != nil {
		return err
	}
	info, err := g.migrationInfo(ctx)
	if err != nil {
		return err
	}
	s.r.Passes, s.r.Downtime = info.RAM.Passes, info.Downtime
	if err := s.stores(nil); err != nil {
		return err
	}
	differing, err := differ(g.ram, s.moved.destination.ram)
	if err != nil {
		return err
	}
	var o Outcome
	s.count(&o, differing)
	o.judge(s.run)
	s.r.Written, s.r.Missed, s.r.Verdict, s.r.Why = o.Written, o.Missed, o.Verdict, o.Why
	if o.Verdict != Pass {
		return nil
	}
	if err := s.ask(ctx, &o); err != nil {
		return err
	}
	if o.Guest.BadPages+o.Guest.BadPackets > 0 {
		return wrong("on the destination the guest sees %d bad pages and %d bad packets", o.Guest.BadPages, o.Guest.BadPackets)
	}
	if s.run.Kernel == Patched {
		return s.marking(ctx, s.moved.destination, false)
	}
	return nil
}

// whole is a migration with all that belongs to it.
func (s *shaken) whole(ctx context.Context) error {
	if err := s.ready(ctx, true); err != nil {
		return err
	}
	if err := s.idle(ctx); err != nil {
		return err
	}
	if err := s.polled(ctx); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.leave(ctx); err != nil {
		return err
	}
	if s.r.Early && s.r.Verdict == Pass {
		return wrong("a page was sent while marking was off")
	}
	return nil
}

// polled returns just after the guest has looked at the blocks, so that it does not
// look again for as long as can be.
func (s *shaken) polled(ctx context.Context) error {
	c, err := s.counters(ctx, s.source())
	if err != nil {
		return err
	}
	before, ok := c["polls"]
	if !ok {
		return wrong("the guest does not tell how often it polls")
	}
	deadline := time.Now().Add(maxPoll*time.Millisecond + s.Limit)
	for c["polls"] == before {
		if time.Now().After(deadline) {
			return wrong("the guest does not look at the blocks")
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		if c, err = s.counters(ctx, s.source()); err != nil {
			return err
		}
	}
	return nil
}

// cancelled cancels a migration to nowhere in its warm-up, and makes another.
func (s *shaken) cancelled(ctx context.Context) error {
	if err := s.ready(ctx, true); err != nil {
		return err
	}
	m := s.moved
	destination := m.destination
	m.destination = nil
	err := s.begin(ctx)
	m.destination = destination
	if err != nil {
		return err
	}
	if err := m.source.do(ctx, "migrate_cancel", nil, nil); err != nil {
		return err
	}
	if err := m.from.wait(ctx, "end of a cancelled migration", func(status string, _ int64) bool { return status == statusCancelled }); err != nil {
		return m.failure(ctx, err)
	}
	if err := s.anew(ctx); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	return s.leave(ctx)
}

// thereAndBack plugs a disk in on the destination, and migrates from there.
func (s *shaken) thereAndBack(ctx context.Context) error {
	if err := s.ready(ctx, true); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.leave(ctx); err != nil || s.r.Verdict != Pass {
		return err
	}
	first := *s.r
	s.moved.source.stop() // nothing more is wanted of it
	s.moved = s.moved.back
	s.moved.from.again()
	g := s.source()
	if err := g.plug(ctx, vhostuser.Disk{Sectors: uint64(s.Written) / 512, Read: s.sectors}); err != nil {
		return err
	}
	if err := g.ask(ctx, protocol.OpStore, protocol.StoreArgs{Seed: s.old()}, nil); err != nil {
		return err
	}
	if err := s.ready(ctx, true); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	err := s.leave(ctx)
	s.r.Written += first.Written
	s.r.Missed += first.Missed
	return err
}

// plug gives a running guest a disk, and returns when the guest has seen it.
func (g *guest) plug(ctx context.Context, d vhostuser.Disk) error {
	var files inherited
	conn, _, err := files.connect()
	if err != nil {
		return err
	}
	err = g.qmp.SendFile(ctx, "disk", files[0])
	files.close()
	if err != nil {
		conn.Close()
		return g.told(ctx, err)
	}
	g.disk = vhostuser.NewDisk(conn, d, g.device("disk"))
	g.serve(ctx, "disk", g.disk)
	chardev := map[string]any{"id": "disk", "backend": map[string]any{"type": "socket", "data": map[string]any{
		"server": false, "addr": map[string]any{"type": "fd", "data": map[string]string{"str": "disk"}},
	}}}
	if err := g.do(ctx, "chardev-add", chardev, nil); err != nil {
		return err
	}
	device := map[string]any{
		"driver": "vhost-user-blk-pci", "id": "disk", "chardev": "disk", "bus": "port1", "num-queues": 1,
		"iommu_platform": true, "disable-legacy": "on",
	}
	if err := g.do(ctx, "device_add", device, nil); err != nil {
		return err
	}
	deadline := time.Now().Add(g.limit)
	for {
		err := g.ask(ctx, protocol.OpRead, protocol.ReadArgs{}, nil)
		var no *protocol.OpError
		if err == nil || !errors.As(err, &no) || time.Now().After(deadline) {
			return err
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// suspended migrates a guest that sleeps, and wakes it before that has ended; and
// then begins once more.
func (s *shaken) suspended(ctx context.Context) error {
	if err := s.ready(ctx, true); err != nil {
		return err
	}
	g, m := s.source(), s.moved
	if err := g.ask(ctx, protocol.OpSuspend, nil, nil); err != nil {
		return err
	}
	if err := s.runs(ctx, "suspended"); err != nil {
		return err
	}
	if err := m.start(ctx, parameters{"page-dirtying-timeout": longWait, "max-bandwidth": laterPasses}); err != nil {
		return err
	}
	err := m.from.wait(ctx, "begin of the migration of a guest that sleeps", func(status string, _ int64) bool { return status == statusActive })
	if err != nil {
		return m.failure(ctx, err)
	}
	if err := g.do(ctx, "system_wakeup", nil, nil); err != nil {
		return err
	}
	if err := s.fails(ctx, "resumed"); err != nil {
		return err
	}
	if err := s.anew(ctx); err != nil {
		return err
	}
	return s.begin(ctx)
}

// anew sees marking off again after a migration to nowhere, before the next.
func (s *shaken) anew(ctx context.Context) error {
	<-s.moved.relayed
	if err := s.marking(ctx, s.source(), false); err != nil {
		return err
	}
	s.moved.from.again()
	s.source().trace.again()
	return nil
}

// runs waits until the guest is in a state of QEMU's.
func (s *shaken) runs(ctx context.Context, state string) error {
	deadline := time.Now().Add(s.Limit)
	for {
		var status struct{ Status string }
		if err := s.source().do(ctx, "query-status", nil, &status); err != nil || status.Status == state {
			return err
		}
		if time.Now().After(deadline) {
			return wrong("the source is %s, want %s", status.Status, state)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// reset resets the guest behind its answer.
func (s *shaken) reset(ctx context.Context) error {
	if err := s.ready(ctx, true); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.source().do(ctx, "system_reset", nil, nil); err != nil {
		return err
	}
	return s.fails(ctx, "reset")
}

// fails waits until the migration has failed, with an error that says this, and sees
// that the guest goes on.
func (s *shaken) fails(ctx context.Context, says string) error {
	err := s.moved.from.wait(ctx, "failure of the migration", func(status string, _ int64) bool { return status == statusCompleted || switchedOver(status, 0) })
	if err == nil {
		return wrong("the migration went on; want it to fail")
	}
	if err != errFailed {
		return err
	}
	info, err := s.source().migrationInfo(ctx)
	if err != nil {
		return err
	}
	if !strings.Contains(info.ErrorDesc, says) {
		return wrong("the migration failed with %q; want it to speak of %q", info.ErrorDesc, says)
	}
	return s.runs(ctx, "running")
}

// refused asks a guest that must not mark.
func (s *shaken) refused(ctx context.Context) error {
	if err := s.ready(ctx, true); err != nil {
		return err
	}
	begin := time.Now()
	if err := s.moved.start(ctx, parameters{"page-dirtying-timeout": longWait}); err != nil {
		return err
	}
	if err := s.fails(ctx, "refuse"); err != nil {
		return err
	}
	if took := time.Since(begin); took >= longWait*time.Millisecond {
		return wrong("it took %v until the migration failed", took)
	}
	return s.unsent()
}

// unsent sees that nothing was sent.
func (s *shaken) unsent() error {
	if n := s.source().trace.sections(); n > 0 {
		return wrong("%d sections of memory were sent to no purpose", n)
	}
	return nil
}

// died has the guest's kernel panic in the wait.
func (s *shaken) died(ctx context.Context) error {
	if err := s.ready(ctx, true); err != nil {
		return err
	}
	if err := s.polled(ctx); err != nil {
		return err
	}
	if err := s.moved.start(ctx, parameters{"page-dirtying-timeout": shortWait}); err != nil {
		return err
	}
	go s.source().ask(ctx, protocol.OpQueued, nil, nil) // of which it dies
	if err := s.fails(ctx, "answer"); err != nil {
		return err
	}
	if _, why := s.source().console.fault(); why == "" {
		return wrong("the guest did not die")
	}
	return s.unsent()
}

// unanswered asks a guest that knows nothing of it.
func (s *shaken) unanswered(ctx context.Context) error {
	if err := s.ready(ctx, false); err != nil {
		return err
	}
	if err := s.moved.start(ctx, parameters{"page-dirtying-timeout": shortWait}); err != nil {
		return err
	}
	if err := s.fails(ctx, "answer"); err != nil {
		return err
	}
	return s.unsent()
}

// unplugged has the devices write before the migration, which takes them out.
func (s *shaken) unplugged(ctx context.Context) error {
	if err := s.ready(ctx, false); err != nil {
		return err
	}
	s.begun = time.Now()
	if err := s.write(ctx); err != nil {
		return err
	}
	if err := s.moved.start(ctx, parameters{"page-dirtying-timeout": 10 * shortWait, "page-dirtying-fallback": "unplug"}); err != nil {
		return err
	}
	for {
		// In this order, as in begin.
		sections := s.source().trace.sections()
		err := s.left(ctx)
		if err == nil {
			break
		}
		if sections > 0 || !errors.As(err, new(*wrongError)) {
			return err
		}
		if status, _ := s.moved.from.now(); status == statusFailed {
			return s.failed(ctx)
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	if err := s.moved.hold(ctx, 2); err != nil {
		return s.moved.failure(ctx, err)
	}
	if history := s.moved.from.happened(); !slices.Contains(history, statusWaits) {
		return wrong("want the migration to wait; it was %s", strings.Join(history, ", "))
	}
	return s.finish(ctx)
}

// unasked begins a migration that asks nobody.
func (s *shaken) unasked(ctx context.Context) error {
	if err := s.moved.begin(ctx); err != nil {
		return err
	}
	c, err := s.counters(ctx, s.source())
	if err != nil {
		return err
	}
	history := s.moved.from.happened()
	if slices.Contains(history, statusWaits) || c["armed"] != 0 || c["enabled"] != 0 {
		return wrong("without a block, armed is %d and enabled %d, and the migration was %s", c["armed"], c["enabled"], strings.Join(history, ", "))
	}
	return nil
}
