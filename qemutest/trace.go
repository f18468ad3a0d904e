package qemutest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// traceArgs have QEMU say on standard error where in its stream it looks at the
// dirty log. Nothing in the stream itself tells: the search for dirty pages goes on
// in a pass from where it stood in the one before (migration/ram.c,
// ram_find_and_save_block), and the event MIGRATION_PASS comes by another way.
// Both lines are of the thread that writes the stream, each before what it speaks of:
// migration/savevm.c, qemu_savevm_state_iterate, and migration/ram.c,
// migration_bitmap_sync.
var traceArgs = []string{"-trace", sectionLine, "-trace", syncLine}

const (
	sectionLine = "savevm_section_start" // a further section of a handler; its name follows
	syncLine    = "migration_bitmap_sync_start"
)

// traceLimit is how long a line of the trace may be behind the stream. It was
// written first, and waits in a pipe.
const traceLimit = 10 * time.Second

// errNoTrace says that QEMU does not trace.
var errNoTrace = errors.New("its trace does not tell of the stream's sections: it needs QEMU's trace backend \"log\", with which QEMU is built by default")

// A trace reads what a source's QEMU prints on standard error: where its passes
// begin, and what is none of the trace's.
type trace struct {
	rest io.Writer // gets the lines that are not the trace's

	mu      sync.Mutex
	partial []byte
	passes  int64         // begun
	times   []time.Time   // when each did
	starts  []int64       // for each of RAM's sections, how many passes had begun before it
	changed chan struct{} // closed and made anew at each line of the trace
}

func newTrace(rest io.Writer) *trace {
	return &trace{rest: rest, changed: make(chan struct{})}
}

func (t *trace) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partial = append(t.partial, p...)
	for {
		i := bytes.IndexByte(t.partial, '\n')
		if i < 0 && len(t.partial) < 4096 {
			return len(p), nil
		}
		if i < 0 {
			i = len(t.partial) - 1
		}
		t.line(t.partial[:i+1])
		t.partial = t.partial[i+1:]
	}
}

func (t *trace) line(line []byte) {
	name, rest, _ := bytes.Cut(bytes.TrimRight(line, "\n"), []byte(" "))
	switch string(name) {
	case syncLine:
		t.passes++
		if len(t.times) < maxPasses {
			t.times = append(t.times, time.Now())
		}
	case sectionLine:
		if !bytes.HasPrefix(rest, []byte("ram,")) {
			return
		}
		t.starts = append(t.starts, t.passes)
	default:
		t.rest.Write(line)
		return
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// pass returns how many passes have begun.
func (t *trace) pass() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.passes
}

// maxPasses is of how many passes it is noted when they began.
const maxPasses = 10000

// begun returns when each pass began, as far as that was noted.
func (t *trace) begun() []time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.times)
}

// sections returns how many sections with pages of RAM have begun.
func (t *trace) sections() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.starts)
}

// again forgets a migration that has ended, before the next.
func (t *trace) again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passes, t.times, t.starts = 0, nil, nil
}

// section returns the pass that the pages of RAM's section n are of, from 0. The
// last section looks at the dirty log itself before its pages, once more
// (ram_save_complete).
func (t *trace) section(n int, last bool) (pass int64, err error) {
	timeout := time.NewTimer(traceLimit)
	defer timeout.Stop()
	for {
		t.mu.Lock()
		begun, passes, changed := int64(-1), t.passes, t.changed
		if n < len(t.starts) {
			begun = t.starts[n]
		}
		t.mu.Unlock()
		switch {
		case begun >= 0 && !last:
			return begun, nil
		case begun >= 0 && passes > begun:
			return begun + 1, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return 0, fmt.Errorf("section %d of the memory: %w", n, errNoTrace)
		}
	}
}
