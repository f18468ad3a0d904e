package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"patchgen/qemutest"
)

// A timeLine is a run's, from the migration's begin to its end. Places are in percent
// of the width; shapes are stretched to whatever width there is, and words are not.
type timeLine struct {
	EndMS    int64
	About    string // for who does not see it
	Passes   []bar
	Writes   []bar
	BucketMS string // what a bar of Writes stands for; "" if it is not known what was written when
	Down     bar
	Ticks    []tick
	Marks    []mark
	Levels   int // of marks
}

// A bar stands on the ground of its lane. All is in percent.
type bar struct {
	Class                    string
	Left, Top, Width, Height string
	Label                    string // "" where there is no room
	Middle                   float64
}

type tick struct {
	Left float64
	Text string
}

// A mark is a moment, numbered as in the list below. Marks close by are on levels of
// their own.
type mark struct {
	Left   float64
	Number int
	Level  int
	What   string
	AtMS   int64
}

// buckets is how many bars the writes have.
const buckets = 120

// newTimeLine returns nil if it is not known what was sent.
func newTimeLine(o qemutest.Outcome) *timeLine {
	if len(o.Sends) == 0 {
		return nil
	}
	t := &timeLine{EndMS: 1}
	for _, m := range o.Moments {
		t.EndMS = max(t.EndMS, m.AtMS)
	}
	for _, s := range o.Sends {
		t.EndMS = max(t.EndMS, s.BeginMS)
	}
	t.About = fmt.Sprintf("Time line of %s in %d ms; the list and the table below have its figures.", numbered(len(o.Sends), "pass", "passes"), t.EndMS)
	t.passes(o)
	t.writes(o)
	t.moments(o)
	return t
}

func (t *timeLine) at(ms int64) float64 {
	return float64(min(max(ms, 0), t.EndMS)) / float64(t.EndMS) * 100
}

func newBar(class string, from, to, height float64) bar {
	number := func(f float64) string { return fmt.Sprintf("%.2f", f) }
	to = max(to, from+.2) // to be seen
	return bar{Class: class, Left: number(from), Width: number(to - from), Top: number(100 - height), Height: number(height), Middle: tenth((from + to) / 2)}
}

func tenth(f float64) float64 { return math.Round(f*10) / 10 }

// passes has a bar for each, as high as contents were sent in it.
func (t *timeLine) passes(o qemutest.Outcome) {
	most := int64(1)
	for _, s := range o.Sends {
		most = max(most, s.Pages-s.Zeros)
	}
	for i, s := range o.Sends {
		to := t.EndMS
		if i+1 < len(o.Sends) {
			to = o.Sends[i+1].BeginMS
		}
		class := once
		if i > 0 {
			class = resent
		}
		b := newBar(ids[class], t.at(s.BeginMS), t.at(to), float64(s.Pages-s.Zeros)/float64(most)*100)
		if t.at(to)-t.at(s.BeginMS) > 4 {
			b.Label = fmt.Sprint(i + 1)
		}
		t.Passes = append(t.Passes, b)
	}
}

// writes has a bar for each stretch of time, as high as pages were written last then.
func (t *timeLine) writes(o qemutest.Outcome) {
	if o.Pages == nil || o.Device == qemutest.None {
		return
	}
	var all, lost [buckets]int
	most := 1
	for _, w := range o.Pages.Writes {
		if !w.Counted {
			continue
		}
		i := min(max(w.AtMS, 0)*buckets/t.EndMS, buckets-1)
		all[i]++
		if w.Missed {
			lost[i]++
		}
		most = max(most, all[i])
	}
	t.BucketMS = fmt.Sprint(tenth(float64(t.EndMS) / buckets))
	for i := range all {
		from, to := float64(i)*100/buckets, float64(i+1)*100/buckets
		for _, part := range []struct {
			class
			n int
		}{{arrived, all[i]}, {missed, lost[i]}} {
			if part.n > 0 {
				t.Writes = append(t.Writes, newBar(ids[part.class], from, to, max(2, float64(part.n)/float64(most)*100)))
			}
		}
	}
}

func (t *timeLine) moments(o qemutest.Outcome) {
	const room = 6 // percent, for a number
	moments := slices.Clone(o.Moments)
	slices.SortStableFunc(moments, func(a, b qemutest.Moment) int { return cmp.Compare(a.AtMS, b.AtMS) })
	var last []float64 // by level
	at := make(map[string]int64)
	for i, m := range moments {
		at[m.What] = m.AtMS
		left := t.at(m.AtMS)
		level := slices.IndexFunc(last, func(l float64) bool { return left-l >= room })
		if level < 0 {
			level = len(last)
			last = append(last, 0)
		}
		last[level] = left
		t.Marks = append(t.Marks, mark{tenth(left), i + 1, level, m.What, m.AtMS})
	}
	t.Levels = len(last)
	if stopped, ok := at[qemutest.Stopped]; ok {
		if completed, ok := at[qemutest.Completed]; ok {
			t.Down = newBar("down", t.at(stopped), t.at(completed), 100)
		}
	}
	// Some five ticks at round times.
	step := int64(1)
	for i := 0; t.EndMS/step > 5; i++ {
		step = int64([]float64{2, 5, 10}[i%3] * math.Pow10(i/3))
	}
	for ms := int64(0); ms <= t.EndMS; ms += step {
		t.Ticks = append(t.Ticks, tick{tenth(t.at(ms)), fmt.Sprint(ms)})
	}
}
