package qemutest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"patchgen/initramfs/protocol"
)

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{9, 1}, Spread{5, 1, 9}},
		{[]float64{5, 100, 1}, Spread{5, 1, 100}},
		{[]float64{4, 1, 3, 2}, Spread{2.5, 1, 4}},
	} {
		if got := spread(tt.values); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.values, got, tt.want)
		}
	}
	values := []float64{2, 1}
	if spread(values); values[0] != 2 {
		t.Error("what it is given is sorted")
	}
}

func TestMigrationCost(t *testing.T) {
	lost := Outcome{Written: 9, Missed: 2, bytes: 30, totalMS: 7, Verdict: Lost, Why: "two"}
	c := migrationCost(costRuns[2], []Outcome{{Written: 9, bytes: 10, totalMS: 9, Invalid: 2, Verdict: Pass}, lost})
	if c.Arm != SeriesArm || c.Rounds != 2 || c.Invalid != 2 || c.Verdict != Lost || c.Why != "two" ||
		c.Bytes != (Spread{20, 10, 30}) || c.TotalMS != (Spread{8, 7, 9}) || c.Missed != (Spread{1, 0, 2}) {
		t.Errorf("%+v", c)
	}
	// What was written before the migration is known to the guest alone.
	bad := Outcome{Verdict: Pass, Guest: Guest{BadPackets: 1}}
	for run, want := range map[int]string{3: Lost, 0: Pass} {
		if c := migrationCost(costRuns[run], []Outcome{bad}); c.Verdict != want {
			t.Errorf("%s: %s, want %s", c.Arm, c.Verdict, want)
		}
	}
}

func TestWarmUpCost(t *testing.T) {
	w := warmUpCost(warmUpRuns[0], 1<<28, 5, []warm{
		{outcome: Outcome{Verdict: Pass, Sends: []PassSends{{Zeros: 8}}}, io: 4, without: 1499600 * time.Microsecond},
		{outcome: Outcome{Verdict: Unfit, Why: "so", Invalid: 1, Missed: 1}, io: 6, without: time.Second},
	})
	if w.Arm != SeriesArm || w.Memory != 1<<28 || w.Rate != 5 || w.Rounds != 2 || w.Invalid != 1 || w.Verdict != Unfit || w.Why != "so" ||
		w.IOBytes != (Spread{5, 4, 6}) || w.WithoutMS != (Spread{1250, 1000, 1500}) || w.Zeros != (Spread{4, 0, 8}) || w.Missed.Max != 1 {
		t.Errorf("%+v", w)
	}
}

func TestWarmUpPlan(t *testing.T) {
	good := WarmUpPlan{Memories: []int64{256 << 20}, Rates: []int{0}, Rounds: 1}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*WarmUpPlan){
		"rounds":        func(w *WarmUpPlan) { w.Rounds = 0 },
		"101 rounds":    func(w *WarmUpPlan) { w.Rounds = maxRounds + 1 },
		"no size":       func(w *WarmUpPlan) { w.Memories = nil },
		"of 128 MiB":    func(w *WarmUpPlan) { w.Memories = []int64{128 << 20} },
		"even number":   func(w *WarmUpPlan) { w.Memories = []int64{257 << 20} },
		"no rate":       func(w *WarmUpPlan) { w.Rates = nil },
		"-1 pages":      func(w *WarmUpPlan) { w.Rates = []int{-1} },
		"1048577 pages": func(w *WarmUpPlan) { w.Rates = []int{maxRate + 1} },
	} {
		w := good
		change(&w)
		if err := w.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want it to speak of %q", w, err, want)
		}
	}
}

// TestMeter reads from a disk that is taken away meanwhile.
func TestMeter(t *testing.T) {
	ctx := t.Context()
	m := &meter{seed: 7}
	p := make([]byte, 2*pageSize+512)
	m.read(p, 0) // the kernel, which is not counted
	if n := m.now(); n != 0 {
		t.Errorf("%d bytes were counted of the disk's begin", n)
	}
	if !protocol.Check(p[pageSize:2*pageSize], 7, 1) {
		t.Error("the second page is not the second that was filled")
	}
	m.read(p, readFrom)
	if protocol.Check(p[:pageSize], 7, 0) || !protocol.Check(p[:pageSize], 7, 3) {
		t.Error("what was read before is read again")
	}
	if n := m.now(); n != int64(len(p)) {
		t.Errorf("%d bytes were counted of %d", n, len(p))
	}
	m.left()
	time.Sleep(5 * time.Millisecond)
	m.read(p, 0)
	done := make(chan error)
	go func() { done <- m.wait(ctx, m.now()+1) }()
	time.Sleep(5 * time.Millisecond)
	m.read(p, readFrom)
	if err := <-done; err != nil {
		t.Error(err)
	}
	time.Sleep(50 * time.Millisecond)
	m.read(p, readFrom)
	if d := m.without(); d < 10*time.Millisecond || d >= 50*time.Millisecond {
		t.Errorf("it was away for %v", d)
	}
	late, cancel := context.WithTimeoutCause(ctx, time.Millisecond, errors.New("late"))
	defer cancel()
	if err := m.wait(late, 1<<40); err == nil || err.Error() != "late" {
		t.Errorf("waiting for ever ended with %v", err)
	}
}

func TestOneDisk(t *testing.T) {
	g := &guest{name: "source"}
	if err := one(g, "bound", []string{"virtio1"}); err != nil {
		t.Error(err)
	}
	for _, devices := range [][]string{nil, {"virtio1", "virtio2"}} {
		var e *AgentError
		if err := one(g, "bound", devices); !errors.As(err, &e) {
			t.Errorf("%v: %v, want an AgentError", devices, err)
		}
	}
}
