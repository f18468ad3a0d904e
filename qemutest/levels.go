package qemutest

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"patchgen/initramfs/protocol"
)

// A LevelRun is what a boot parameter made of marking.
type LevelRun struct {
	Parameter string `json:"parameter"` // dma_page_dirtying=..., "" for none
	CPUs      int    `json:"cpus"`
	Armed     bool   `json:"armed"`
	Enabled   bool   `json:"enabled"`
	Marked    uint64 `json:"marked"` // pages, of which there is no need while nothing is on; 0 if KUnit ran its suite before
	Verdict   string `json:"verdict"`
	Why       string `json:"why,omitempty"`
}

// levels are the boot parameters, and what must come of each.
var levels = []struct {
	parameter      string
	armed, enabled bool
}{
	{"", false, false},
	{"dma_page_dirtying=off", false, false},
	{"dma_page_dirtying=auto", false, false}, // there is no bridge that asks
	{armed, true, false},
	{"dma_page_dirtying=on", true, true},
}

// Levels boots the patched kernel with each level and looks at what it is then. The
// error is as of Prove.
func (p *Proof) Levels(ctx context.Context, report *Report) error {
	reporter := p.stage("levels", len(levels))
	defer reporter.End()
	cpus := slices.Max(p.CPUs)
	for i := range levels {
		r, err := p.level(ctx, cpus, i)
		if err != nil {
			return err
		}
		report.Levels = append(report.Levels, r)
		report.set(r.Verdict, "level", r.Why)
		reporter.Step(int64(i + 1))
	}
	return nil
}

func (p *Proof) level(parent context.Context, cpus, i int) (r LevelRun, err error) {
	ctx, fail := context.WithCancelCause(parent)
	defer fail(nil)
	o := guestOptions{
		name: "source", qemu: p.QEMU, accel: p.Accel, kernel: p.Kernels[Patched], initramfs: p.Initramfs,
		cpus: cpus, memory: p.Memory, limit: p.Limit, cmdline: slices.Clone(p.Cmdline),
	}
	want := levels[i]
	r = LevelRun{Parameter: want.parameter, CPUs: cpus, Verdict: Pass}
	if want.parameter != "" {
		o.cmdline = append(o.cmdline, want.parameter)
	}
	g, err := startGuest(ctx, fail, o)
	if err != nil {
		return r, &RunError{Run: "level", CPUs: cpus, Err: err}
	}
	defer func() {
		var consoles []string
		if err != nil && parent.Err() == nil {
			consoles = p.keep("level", cpus, []*guest{g})
		}
		g.stop()
		g.free()
		if err != nil && parent.Err() == nil {
			err = &RunError{"level", cpus, err, consoles}
		}
	}()
	if _, err := g.hello(ctx); err != nil {
		return r, err
	}
	var counters map[string]uint64
	if err := g.ask(ctx, protocol.OpCounters, nil, &counters); err != nil {
		return r, err
	}
	r.Armed, r.Enabled, r.Marked = counters["armed"] == 1, counters["enabled"] == 1, counters["pages"]
	if bytes.Contains(g.console.Bytes(), []byte("# Subtest: "+kunitSuite)) {
		// Before 5.19 KUnit asks nobody, and what is counted is the suite's.
		r.Marked = 0
	}
	if r.Armed != want.armed || r.Enabled != want.enabled || r.Marked > 0 && !want.enabled {
		name := r.Parameter
		if name == "" {
			name = "no parameter"
		}
		r.Verdict = Fail
		r.Why = fmt.Sprintf("with %s it is armed %t, enabled %t, %d pages marked; want armed %t, enabled %t",
			name, r.Armed, r.Enabled, r.Marked, want.armed, want.enabled)
	}
	return r, nil
}
