package qemutest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"patchgen/initramfs/protocol"
)

// RFC is the kernel with the variant "rfc", in which marking is always on.
const RFC = "rfc"

// A State is a kernel, and what it does when it gets a buffer back from a device.
type State struct {
	Name      string
	Kernel    string // Unpatched, Patched or RFC
	Parameter string // that it is booted with
	armed, on bool   // what must come of that
}

// States are those that calls are measured in. The first is what the others are held
// against.
var States = []State{
	{Name: "without", Kernel: Unpatched},
	{Name: "off", Kernel: Patched, Parameter: "dma_page_dirtying=off"},
	{Name: "armed", Kernel: Patched, Parameter: armed, armed: true},
	{Name: "on", Kernel: Patched, Parameter: "dma_page_dirtying=on", armed: true, on: true},
	{Name: "rfc", Kernel: RFC},
}

// measuredCalls are those of the DMA API that are measured, by the protocol's names.
var measuredCalls = []struct{ name, asked string }{
	{"dma_unmap_page", "unmap_page"},
	{"dma_sync_single_for_cpu", "sync_single"},
}

// measuredLengths are the buffers', in bytes.
var measuredLengths = []int{64, 4 << 10, 64 << 10, 1 << 20}

// A CallCost is how many instructions one call of the DMA API takes, for a buffer that
// the device writes (DMA_FROM_DEVICE), in one piece and not bounced: from before its
// arguments are set until it has returned.
type CallCost struct {
	State        string `json:"state"` // of States
	Call         string `json:"call"`  // such as dma_unmap_page
	Bytes        int    `json:"bytes"` // of the buffer
	Instructions uint64 `json:"instructions"`
	// Most is another number only where the calls varied, and Instructions is then
	// the least.
	Most uint64 `json:"most"`
}

// Varied reports whether not all calls took as many.
func (c CallCost) Varied() bool { return c.Most != c.Instructions }

// A CallTime is how long such a call takes, in nanoseconds.
type CallTime struct {
	State  string  `json:"state"`
	Call   string  `json:"call"`
	Bytes  int     `json:"bytes"`
	Calls  int     `json:"calls"` // that were measured
	Median float64 `json:"median"`
	Low    float64 `json:"low"`  // 5 % of them took less
	High   float64 `json:"high"` // 5 % took more
}

// Instructions measures the calls in each of States of which p has a kernel, with the
// modules by kernel. QEMU translates the instructions and counts them (-icount), and its
// guest's time stamp counter goes on by perInstruction with each. It returns QEMU's
// version, too.
// The error is *RunError, or the context's cause.
func (p *Proof) Instructions(ctx context.Context, modules map[string][]byte) (costs []CallCost, version string, err error) {
	q := *p
	q.Accel = "tcg"
	// With sleep=off the clock does not wait for the host's while nobody runs.
	q.QEMUArgs = append(slices.Clone(p.QEMUArgs), "-icount", fmt.Sprintf("shift=%d,sleep=off", icountShift))
	version, err = q.measureAll(ctx, "count instructions", modules, 1, func(s State, call string, bytes int, m []protocol.MeasureResult) error {
		c, err := instructionsOf(m)
		c.State, c.Call, c.Bytes = s.Name, call, bytes
		costs = append(costs, c)
		return err
	})
	return costs, version, err
}

// An instruction takes 1 << icountShift ns of the guest's clock, and as many ticks of its
// time stamp counter. With 1 ns it would spend most of the boot in loops that wait.
const (
	icountShift    = 3
	perInstruction = 1 << icountShift
)

// Times is Instructions for the time that they take, which means something with KVM
// only.
func (p *Proof) Times(ctx context.Context, modules map[string][]byte) (times []CallTime, err error) {
	_, err = p.measureAll(ctx, "time calls", modules, timedRounds, func(s State, call string, bytes int, m []protocol.MeasureResult) error {
		c, err := timesOf(m)
		c.State, c.Call, c.Bytes = s.Name, call, bytes
		times = append(times, c)
		return err
	})
	return times, err
}

// timedRounds is how often the guest is asked to time some calls.
const timedRounds = 64

// measureAll boots each kernel in each state, and has its guest measure each call with
// each length so many times. What take refuses is the guest's fault.
func (p *Proof) measureAll(ctx context.Context, stage string, modules map[string][]byte, rounds int, take func(s State, call string, bytes int, m []protocol.MeasureResult) error) (version string, err error) {
	reporter := p.stage(stage, len(States))
	defer reporter.End()
	for i, s := range States {
		if p.Kernels[s.Kernel] == "" {
			continue
		}
		// As in the matrix: there is memory above 4 GiB, and none of it is bounced.
		o := guestOptions{kernel: p.Kernels[s.Kernel], cpus: 1, memory: matrixMemory, pci: true}
		if s.Parameter != "" {
			o.cmdline = []string{s.Parameter}
		}
		err := p.pair(ctx, "bench "+s.Name, o, 1, func(ctx context.Context, m *migration) error {
			version = m.source.qmp.Version.String()
			return m.source.measure(ctx, s, modules[s.Kernel], rounds, take)
		})
		if err != nil {
			return version, err
		}
		reporter.Step(int64(i + 1))
	}
	return version, nil
}

// measure has a guest that was started for it measure all calls.
func (g *guest) measure(ctx context.Context, s State, module []byte, rounds int, take func(State, string, int, []protocol.MeasureResult) error) error {
	if _, err := g.hello(ctx); err != nil {
		return err
	}
	if err := g.ask(ctx, protocol.OpLoad, protocol.LoadArgs{Module: module}, nil); err != nil {
		return err
	}
	before, err := g.marks(ctx, s)
	if err != nil {
		return err
	}
	want := uint64(0) // pages marked at least
	for _, call := range measuredCalls {
		for _, n := range measuredLengths {
			var all []protocol.MeasureResult
			for range rounds {
				var m protocol.MeasureResult
				if err := g.ask(ctx, protocol.OpMeasure, protocol.MeasureArgs{Call: call.asked, Length: uint32(n)}, &m); err != nil {
					return err
				}
				all = append(all, m)
				want += uint64(protocol.Samples * max(1, n/pageSize))
			}
			if err := take(s, call.name, n, all); err != nil {
				return &AgentError{g.name, fmt.Errorf("%s of %d bytes, %s: %w", call.name, n, s.Name, err)}
			}
		}
	}
	after, err := g.marks(ctx, s)
	if err == nil && (s.on && after-before < want || !s.on && after != before) {
		err = &AgentError{g.name, fmt.Errorf("%s: %d pages were marked meanwhile, where %d were given back", s.Name, after-before, want)}
	}
	return err
}

// marks returns how many pages the kernel has marked, as far as it counts them, and
// checks that it is in the state.
func (g *guest) marks(ctx context.Context, s State) (uint64, error) {
	if s.Kernel != Patched {
		return 0, nil
	}
	var counters map[string]uint64
	if err := g.ask(ctx, protocol.OpCounters, nil, &counters); err != nil {
		return 0, err
	}
	if is, on := counters["armed"] == 1, counters["enabled"] == 1; is != s.armed || on != s.on {
		return 0, &AgentError{g.name, fmt.Errorf("booted with %s it is armed %t, enabled %t", s.Parameter, is, on)}
	}
	return counters["pages"], nil
}

// maxTicks bounds what a guest may say that a call took.
const maxTicks = 1 << 40

// checkSamples returns what is wrong with what a guest measured.
func checkSamples(m protocol.MeasureResult) error {
	if len(m.Empty) != protocol.Samples || len(m.Ticks) != protocol.Samples {
		return fmt.Errorf("%d and %d samples, want %d", len(m.Empty), len(m.Ticks), protocol.Samples)
	}
	if most := max(slices.Max(m.Empty), slices.Max(m.Ticks)); most > maxTicks {
		return fmt.Errorf("a call of %d ticks", most)
	}
	return nil
}

// instructionsOf returns the instructions that calls took beyond a call of nothing.
func instructionsOf(all []protocol.MeasureResult) (c CallCost, err error) {
	for i, m := range all {
		if err := checkSamples(m); err != nil {
			return c, err
		}
		for _, t := range slices.Concat(m.Empty, m.Ticks) {
			if t%perInstruction != 0 {
				return c, fmt.Errorf("a call of %d ticks, which are no whole instructions of %d: QEMU does not count them as -icount says", t, perInstruction)
			}
		}
		least, most := slices.Min(m.Ticks), slices.Max(m.Ticks)
		if least < slices.Max(m.Empty) {
			return c, fmt.Errorf("a call of %d ticks, and one that does nothing of %d", least, slices.Max(m.Empty))
		}
		least, most = (least-slices.Max(m.Empty))/perInstruction, (most-slices.Min(m.Empty))/perInstruction
		if i == 0 {
			c.Instructions, c.Most = least, most
		}
		c.Instructions, c.Most = min(c.Instructions, least), max(c.Most, most)
	}
	return c, nil
}

// timesOf returns how long calls took beyond the median of a call of nothing.
func timesOf(all []protocol.MeasureResult) (c CallTime, err error) {
	var empty, took []float64 // nanoseconds
	for _, m := range all {
		if err := checkSamples(m); err != nil {
			return c, err
		}
		// From 100 MHz to 100 GHz. The kernel may come to know it better meanwhile.
		if m.KHz < 1e5 || m.KHz > 1e8 {
			return c, fmt.Errorf("a time stamp counter with %d kHz", m.KHz)
		}
		for i := range m.Ticks {
			empty = append(empty, float64(m.Empty[i])*1e6/float64(m.KHz))
			took = append(took, float64(m.Ticks[i])*1e6/float64(m.KHz))
		}
	}
	if len(took) == 0 {
		return c, errors.New("no sample")
	}
	slices.Sort(empty)
	slices.Sort(took)
	nothing := empty[len(empty)/2]
	at := func(part float64) float64 {
		return max(0, took[int(part*float64(len(took)-1))]-nothing)
	}
	return CallTime{Calls: len(took), Median: at(0.5), Low: at(0.05), High: at(0.95)}, nil
}

// PerPage returns how many instructions each further page of a buffer takes in a state,
// and whether it is known: from one of a page to the longest.
func PerPage(costs []CallCost, state, call string) (float64, bool) {
	of := slices.DeleteFunc(slices.Clone(costs), func(c CallCost) bool { return c.State != state || c.Call != call || c.Bytes < pageSize })
	if len(of) < 2 {
		return 0, false
	}
	slices.SortFunc(of, func(a, b CallCost) int { return cmp.Compare(a.Bytes, b.Bytes) })
	first, last := of[0], of[len(of)-1]
	return (float64(last.Instructions) - float64(first.Instructions)) / float64((last.Bytes-first.Bytes)/pageSize), last.Bytes > first.Bytes
}
