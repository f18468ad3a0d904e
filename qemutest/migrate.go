package qemutest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"patchgen/qemutest/qmp"
	"patchgen/qemutest/stream"
)

// A migration is held open in its warm-up until release: migration/migration.c,
// migration_iteration_run() switches over when what is pending fits into the
// downtime limit at the bandwidth that it is told of.
const (
	// One page in a millisecond: then it switches over only when nothing is
	// dirty, which the heartbeat prevents. A limit of 0 would not do: QEMU then
	// goes by an estimate of what is pending, and leaves pages behind.
	holdDowntime  = 1        // milliseconds
	holdBandwidth = 4 << 20  // bytes a second, taken for the switch-over's
	laterPasses   = 64 << 10 // bytes a second: a pass with the heartbeat's pages takes minutes

	// heartbeat is how many pages the guest's CPU dirties all the time. QEMU
	// may send a tenth of a second's bytes at once (migration/migration.h,
	// BUFFER_DELAY): what remains of that after the first pass must not do for
	// the second, or there could be a third before the CPU has had its turn,
	// with nothing dirty.
	heartbeat = 4096
	firstPass = 8 * heartbeat * pageSize // bytes a second

	releaseDowntime  = 2000    // milliseconds
	releaseBandwidth = 1 << 40 // bytes a second

	migrationLimit = 2 * time.Minute // of each phase
)

// Of qapi/migration.json, MigrationStatus.
const (
	statusWaits      = "wait-page-dirtying" // for the guest's answer
	statusActive     = "active"
	statusCancelled  = "cancelled"
	statusSwitchover = "pre-switchover" // all but the rest is sent, and the guest is stopped
	statusCompleted  = "completed"
	statusFailed     = "failed"
)

// A watch keeps what QEMU's events tell of a migration.
type watch struct {
	mu      sync.Mutex
	status  string
	pass    int64
	history []string             // what happened, the oldest first: statuses, and events with what they are about
	begun   int                  // what is before belongs to migrations that have ended
	times   map[string]time.Time // when the migration came into a status, last
	changed chan struct{}        // closed and made anew at each change
}

func newWatch() *watch {
	return &watch{changed: make(chan struct{}), times: make(map[string]time.Time)}
}

func (w *watch) event(e qmp.Event) {
	var d struct {
		Status, Device, Answer string
		Path                   string `json:"qom-path"`
		Pass                   int64
	}
	if json.Unmarshal(e.Data, &d) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	happened := ""
	switch e.Name {
	case "MIGRATION":
		w.status, happened = d.Status, d.Status
		if len(w.times) < maxHistory {
			w.times[d.Status] = time.Now()
		}
	case "MIGRATION_PASS":
		w.pass = d.Pass
	case "DEVICE_DELETED":
		if d.Device == "" { // a part of a device
			return
		}
		happened = gone + d.Device
	case "PAGE_DIRTYING_ANSWER":
		happened = answered + d.Answer
	default:
		return
	}
	if happened != "" && len(w.history) < maxHistory {
		w.history = append(w.history, happened)
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// Of a watch's history.
const (
	gone       = "gone: "     // and a device's id
	answered   = "answered: " // and what the guest did
	maxHistory = 1000
)

// happened returns the history of the migration so far.
func (w *watch) happened() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.history[w.begun:])
}

// when returns when the migration came into a status; false if it did not.
func (w *watch) when(status string) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.times[status]
	return at, ok
}

// all returns the history with that of the migrations before.
func (w *watch) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.history)
}

// again puts a migration that has ended behind it, before the next.
func (w *watch) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status, w.pass, w.begun = "", 0, len(w.history)
}

func (w *watch) now() (status string, pass int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status, w.pass
}

// wait is until with a limit. what reads on from "no".
func (w *watch) wait(ctx context.Context, what string, done func(status string, pass int64) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, migrationLimit, &TimeError{what, migrationLimit})
	defer cancel()
	return w.until(ctx, done)
}

// until returns when done says so. The error is errFailed or the context's cause.
func (w *watch) until(ctx context.Context, done func(status string, pass int64) bool) error {
	for {
		w.mu.Lock()
		status, pass, changed := w.status, w.pass, w.changed
		w.mu.Unlock()
		if done(status, pass) {
			return nil
		}
		if status == statusFailed {
			return errFailed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

var errFailed = errors.New("migration failed")

// A migration is one from source to destination.
type migration struct {
	source, destination *guest // no destination: what the source sends goes nowhere
	from, to            *watch
	sends               *sends
	relayed             chan error                  // gets what the relay of the stream ended with, once
	over                func(context.Context) error // is called when the source has been stopped to switch over, if not nil
	back                *migration                  // the one after this, from its destination
}

type parameters map[string]any

func (m *migration) set(ctx context.Context, p parameters) error {
	return m.source.do(ctx, "migrate-set-parameters", p, nil)
}

// connect gives both QEMUs a connection to us, and has what the source says told to
// the destination as it is.
func (m *migration) connect(ctx context.Context) error {
	var ends [2]*net.UnixConn
	defer func() {
		for _, c := range ends {
			if c != nil {
				c.Close()
			}
		}
	}()
	for i, g := range []*guest{m.source, m.destination} {
		if g == nil {
			continue
		}
		var files inherited
		conn, _, err := files.connect()
		if err != nil {
			return err
		}
		ends[i] = conn
		err = g.qmp.SendFile(ctx, "migration", files[0])
		files.close()
		if err != nil {
			return g.told(ctx, err)
		}
	}
	m.sends = newSends(m.source.trace, int64(len(m.source.ram.bytes)))
	m.relayed = make(chan error, 1)
	from, to := ends[0], ends[1]
	ends = [2]*net.UnixConn{}
	// It ends with the source's QEMU, which closes its end of the connection.
	if to == nil {
		go func() {
			_, err := io.Copy(io.Discard, from)
			from.Close()
			m.relayed <- err
		}()
		return nil
	}
	go func() {
		err := stream.Relay(to, from, m.sends.reader)
		from.Close()
		to.Close()
		m.relayed <- err
	}()
	return nil
}

// begin starts the migration and returns when the first pass is over.
func (m *migration) begin(ctx context.Context) error {
	if err := m.start(ctx, nil); err != nil {
		return err
	}
	return m.hold(ctx, 2)
}

// start starts the migration, with further parameters.
func (m *migration) start(ctx context.Context, more parameters) error {
	if err := m.connect(ctx); err != nil {
		return err
	}
	for _, g := range []*guest{m.source, m.destination} {
		if g == nil {
			continue
		}
		capabilities := []map[string]any{{"capability": "events", "state": true}}
		if g == m.source {
			capabilities = append(capabilities, map[string]any{"capability": "pause-before-switchover", "state": true})
		}
		if err := g.do(ctx, "migrate-set-capabilities", map[string]any{"capabilities": capabilities}, nil); err != nil {
			return err
		}
	}
	p := parameters{"downtime-limit": holdDowntime, "max-bandwidth": firstPass}
	maps.Copy(p, more)
	if err := m.set(ctx, p); err != nil {
		return err
	}
	if m.source.qmp.Version.AtLeast(8, 2) {
		if err := m.set(ctx, parameters{"avail-switchover-bandwidth": holdBandwidth}); err != nil {
			return err
		}
	}
	uri := map[string]string{"uri": "fd:migration"}
	if m.destination != nil {
		if err := m.destination.do(ctx, "migrate-incoming", uri, nil); err != nil {
			return err
		}
	}
	return m.source.do(ctx, "migrate", uri, nil)
}

// advance lets the migration go on to a later pass and holds it there.
func (m *migration) advance(ctx context.Context, pass int64) error {
	if err := m.set(ctx, parameters{"max-bandwidth": firstPass}); err != nil {
		return err
	}
	return m.hold(ctx, pass)
}

// hold slows the migration down as soon as the pass has begun. Passes count from 1.
func (m *migration) hold(ctx context.Context, pass int64) error {
	err := m.from.wait(ctx, fmt.Sprintf("pass %d of the migration", pass), func(status string, now int64) bool {
		return now >= pass || status == statusSwitchover
	})
	if err != nil {
		return m.failure(ctx, err)
	}
	return m.set(ctx, parameters{"max-bandwidth": laterPasses})
}

// switched reports whether QEMU has stopped the source to switch over.
func (m *migration) switched() bool {
	return switchedOver(m.from.now())
}

func switchedOver(status string, _ int64) bool { return status == statusSwitchover }

// errEarly says that a run is invalid.
var errEarly = errors.New("the migration switched over too early")

// held returns a context that ends with errEarly when QEMU stops the source to
// switch over: nothing in it would answer any more. release frees it.
func (m *migration) held(ctx context.Context) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		if m.from.until(ctx, switchedOver) == nil {
			cancel(errEarly)
		}
	}()
	return ctx, func() { cancel(nil) }
}

// finish lets the migration go on to its end. Both guests are stopped then.
func (m *migration) finish(ctx context.Context) error {
	p := parameters{"downtime-limit": releaseDowntime, "max-bandwidth": int64(releaseBandwidth)}
	if m.source.qmp.Version.AtLeast(8, 2) {
		p["avail-switchover-bandwidth"] = int64(releaseBandwidth)
	}
	if err := m.set(ctx, p); err != nil {
		return err
	}
	if err := m.complete(ctx); err != nil {
		return err
	}
	return m.read(ctx)
}

// complete has a migration that may switch over do so when it comes to that, and
// returns when it is at its end.
func (m *migration) complete(ctx context.Context) error {
	err := m.from.wait(ctx, "switch-over of the migration", switchedOver)
	if err != nil {
		return m.failure(ctx, err)
	}
	if m.over != nil {
		if err := m.over(ctx); err != nil {
			return err
		}
	}
	if err := m.source.do(ctx, "migrate-continue", map[string]string{"state": statusSwitchover}, nil); err != nil {
		return err
	}
	completed := func(status string, _ int64) bool { return status == statusCompleted }
	for _, w := range []*watch{m.from, m.to} {
		if err := w.wait(ctx, "end of the migration", completed); err != nil {
			return m.failure(ctx, err)
		}
	}
	return nil
}

// read waits until all of the stream has been read, and holds what was read against
// what QEMU says that it sent.
func (m *migration) read(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, qemuLimit, &TimeError{"end of the migration's stream", qemuLimit})
	defer cancel()
	select {
	case err := <-m.relayed:
		if err != nil {
			return &QEMUError{What: "the source's QEMU: its migration stream", Err: err}
		}
	case <-limited.Done():
		return context.Cause(limited)
	}
	info, err := m.source.migrationInfo(ctx)
	if err != nil {
		return err
	}
	if sent := info.RAM.Normal + info.RAM.Duplicate; sent != m.sends.total {
		return &QEMUError{What: "the source's QEMU", Err: fmt.Errorf("it says that it sent %d pages, and its stream has %d", sent, m.sends.total)}
	}
	return nil
}

// failure adds to errFailed what QEMU says.
func (m *migration) failure(ctx context.Context, err error) error {
	if err != errFailed {
		return err
	}
	// That a guest or its QEMU has ended is heard a moment later.
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(2 * afterwards):
	}
	for _, g := range []*guest{m.source, m.destination} {
		if g == nil {
			continue
		}
		info, e := g.migrationInfo(ctx)
		if e != nil {
			return e
		}
		if info.ErrorDesc != "" {
			return &QEMUError{What: "the " + g.name + "'s QEMU: " + err.Error(), Complaint: info.ErrorDesc}
		}
	}
	return &QEMUError{What: "QEMU does not say why", Err: err}
}

// migrationInfo is what we need of qapi/migration.json, MigrationInfo.
type migrationInfo struct {
	Downtime  int64  // milliseconds
	TotalTime int64  `json:"total-time"` // milliseconds
	ErrorDesc string `json:"error-desc"`
	RAM       struct {
		Total       int64 // bytes
		Transferred int64 // bytes
		Normal      int64 // pages sent with their contents
		Duplicate   int64 // pages sent as zeros
		Passes      int64 `json:"dirty-sync-count"`
	}
}

func (g *guest) migrationInfo(ctx context.Context) (migrationInfo, error) {
	var info migrationInfo
	err := g.do(ctx, "query-migrate", nil, &info)
	return info, err
}
