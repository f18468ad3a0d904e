package qemutest

import (
	"slices"
	"strings"
	"testing"

	"patchgen/initramfs/protocol"
)

// samples repeats a value.
func samples(v uint64) []uint64 { return slices.Repeat([]uint64{v}, protocol.Samples) }

func TestInstructionsOf(t *testing.T) {
	varied := samples(240)
	varied[3] = 264
	odd := samples(240)
	odd[15]++
	type results = []protocol.MeasureResult
	for _, test := range []struct {
		name        string
		m           results
		least, most uint64
		want        string // error
	}{
		{"exact", results{{Empty: samples(72), Ticks: samples(240)}}, 21, 21, ""},
		{"one is another", results{{Empty: samples(72), Ticks: varied}}, 21, 24, ""},
		{"nothing varies", results{{Empty: varied, Ticks: samples(320)}}, 7, 10, ""},
		{"another round", results{{Empty: samples(72), Ticks: samples(240)}, {Empty: samples(72), Ticks: samples(256)}}, 21, 23, ""},
		{"no samples", results{{}}, 0, 0, "0 and 0 samples, want 16"},
		{"too few", results{{Empty: samples(72)[1:], Ticks: samples(240)}}, 0, 0, "15 and 16 samples"},
		{"too many", results{{Empty: samples(72), Ticks: append(samples(240), 240)}}, 0, 0, "16 and 17 samples"},
		{"less than nothing", results{{Empty: samples(248), Ticks: varied}}, 0, 0, "a call of 240 ticks, and one that does nothing of 248"},
		{"far too much", results{{Empty: samples(72), Ticks: samples(1 << 63)}}, 0, 0, "a call of 9223372036854775808 ticks"},
		{"a part of an instruction", results{{Empty: samples(72), Ticks: odd}}, 0, 0, "a call of 241 ticks, which are no whole instructions"},
	} {
		c, err := instructionsOf(test.m)
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: the error is %v, want %q", test.name, err, test.want)
			}
			continue
		}
		if err != nil || c.Instructions != test.least || c.Most != test.most || c.Varied() != (test.least != test.most) {
			t.Errorf("%s: %+v, %v, want %d to %d", test.name, c, err, test.least, test.most)
		}
	}
}

func TestTimesOf(t *testing.T) {
	m := protocol.MeasureResult{KHz: 2_000_000, Empty: samples(20), Ticks: samples(120)}
	c, err := timesOf([]protocol.MeasureResult{m, m})
	if err != nil || c.Calls != 32 || c.Median != 50 || c.Low != 50 || c.High != 50 {
		t.Errorf("%+v, %v", c, err)
	}
	m.Ticks = nil
	for i := range uint64(protocol.Samples) {
		m.Ticks = append(m.Ticks, 10*(i+1))
	}
	slices.Reverse(m.Ticks)
	// Less than nothing is noise, and no time.
	if c, err := timesOf([]protocol.MeasureResult{m}); err != nil || c.Low != 0 || c.Median != 30 || c.High != 65 {
		t.Errorf("%+v, %v", c, err)
	}
	for khz, want := range map[uint64]string{0: "0 kHz", 1 << 60: "kHz"} {
		m.KHz = khz
		if _, err := timesOf([]protocol.MeasureResult{m}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d kHz: %v", khz, err)
		}
	}
	if _, err := timesOf(nil); err == nil {
		t.Error("nothing was timed, and there is a time")
	}
}

// FuzzMeasured: whatever a guest says that it measured is refused, or makes sense.
func FuzzMeasured(f *testing.F) {
	f.Add(uint64(1e6), uint64(72), uint64(240), 16, 16)
	f.Add(uint64(0), uint64(1<<63), uint64(0), 0, 17)
	f.Fuzz(func(t *testing.T, khz, empty, ticks uint64, n, k int) {
		if n < 0 || n > 100 || k < 0 || k > 100 {
			return
		}
		m := protocol.MeasureResult{KHz: khz, Empty: slices.Repeat([]uint64{empty}, n), Ticks: slices.Repeat([]uint64{ticks}, k)}
		if c, err := instructionsOf([]protocol.MeasureResult{m}); err == nil && (c.Instructions > c.Most || c.Most > maxTicks || c.Instructions*perInstruction+empty != ticks) {
			t.Errorf("%+v", c)
		}
		if c, err := timesOf([]protocol.MeasureResult{m}); err == nil && (c.Low < 0 || c.Low > c.Median || c.Median > c.High) {
			t.Errorf("%+v", c)
		}
	})
}

func TestPerPage(t *testing.T) {
	costs := []CallCost{
		{"on", "a", 64, 90, 90}, {"on", "a", 1 << 20, 100 + 255*7, 0}, {"on", "a", 4096, 100, 100}, {"on", "b", 4096, 5, 5}, {"off", "a", 1 << 20, 3, 3},
	}
	if n, ok := PerPage(costs, "on", "a"); !ok || n != 7 {
		t.Errorf("%v, %t, want 7", n, ok)
	}
	for _, call := range []string{"b", "c"} {
		if n, ok := PerPage(costs, "on", call); ok {
			t.Errorf("%s: %v from less than two lengths", call, n)
		}
	}
}
