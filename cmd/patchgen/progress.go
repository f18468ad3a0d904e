package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"patchgen/progress"
)

const (
	liveEvery  = 100 * time.Millisecond
	plainEvery = 10 * time.Second
)

var _ progress.Reporter = (*reporter)(nil)

// newReporter shows progress on w: one live line if that is a terminal, else
// plain lines, one every few seconds.
func newReporter(w io.Writer) *reporter {
	r := &reporter{w: w, every: plainEvery, now: time.Now}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		r.live, r.every = true, liveEvery
	}
	return r
}

type reporter struct {
	w     io.Writer
	live  bool
	every time.Duration
	now   func() time.Time

	name, unit  string
	total, done int64
	start, last time.Time
	said        bool // something of this stage was printed
}

func (r *reporter) Stage(name string, total int64, unit string) {
	r.name, r.total, r.unit = name, total, unit
	r.done, r.said = 0, false
	r.start = r.now()
	r.last = r.start
	if !r.live {
		fmt.Fprintf(r.w, "%s\n", name)
	}
}

func (r *reporter) Step(done int64) {
	r.done = done
	now := r.now()
	if now.Sub(r.last) < r.every {
		return
	}
	r.last, r.said = now, true
	if r.live {
		fmt.Fprintf(r.w, "\r\x1b[K%s", r.line(now))
	} else {
		fmt.Fprintln(r.w, r.line(now))
	}
}

// clear takes the live line away, for something else to be printed. The next
// Step brings it back.
func (r *reporter) clear() {
	if r.live {
		if r.said {
			fmt.Fprint(r.w, "\r\x1b[K")
		}
		r.last = time.Time{}
	}
}

func (r *reporter) End() {
	r.clear()
	if r.said {
		fmt.Fprintf(r.w, "%s: done in %s\n", r.name, r.now().Sub(r.start).Round(time.Second))
	}
}

// line is the state of the stage: counts and an estimate, as far as known.
func (r *reporter) line(now time.Time) string {
	s := r.name + "  "
	if r.total <= 0 {
		return s + r.count(r.done) + "  " + now.Sub(r.start).Round(time.Second).String()
	}
	done := min(max(r.done, 0), r.total)
	number, _, _ := strings.Cut(r.count(r.done), " ")
	s += fmt.Sprintf("%s of %s  %d%%", number, r.count(r.total), 100*done/r.total)
	if done > 0 {
		spent := now.Sub(r.start)
		left := time.Duration(float64(spent) / float64(done) * float64(r.total-done))
		s += fmt.Sprintf("  %s left", left.Round(time.Second))
	}
	return s
}

func (r *reporter) count(n int64) string {
	if r.unit == "bytes" {
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d %s", n, r.unit)
}
