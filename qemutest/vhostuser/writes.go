package vhostuser

import (
	"context"
	"slices"
	"time"
)

// A Kind is what a device wrote.
type Kind uint8

const (
	Data   Kind = iota // content of the disk, or a frame
	Status             // the last byte of a disk request
	Header             // in front of a frame
	Ring               // the used ring
)

func (k Kind) String() string {
	return [...]string{"data", "status", "header", "ring"}[k]
}

// NoSource is the Source of what comes neither from the disk nor from a frame.
const NoSource int64 = -1

// A Write is one store to guest memory.
type Write struct {
	GPA    uint64 // guest physical address
	Len    int    // in bytes
	Kind   Kind
	Source int64         // where on the disk in bytes, of a Status that of its request; or the number of the frame
	At     time.Duration // since Serve began
	Pass   int64         // of the migration, as Options.Pass told
}

// maxWrites is the most that are kept, 48 bytes each.
const maxWrites = 1 << 20

// Writes returns what was stored to guest memory while dirty logging was on, in
// order, and whether that is all: after a million it stops. A Write that
// continues the one before it, in memory and in its source, is joined to it.
func (b *Backend) Writes() (writes []Write, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.writes), !b.overflow
}

// WaitLogging waits until QEMU has dirty logging switched on, or off. The error
// is the context's, or that Serve has returned.
func (b *Backend) WaitLogging(ctx context.Context, on bool) error {
	for {
		b.mu.Lock()
		logging, changed := b.logging, b.changed
		b.mu.Unlock()
		if logging == on {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-b.served:
			return errServed
		}
	}
}

func (b *Backend) setLogging(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.logging != on {
		b.logging = on
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// store copies p to the beginning of to, which has room for it.
func (s *session) store(to []span, p []byte, kind Kind, source int64) (written int, err error) {
	for _, t := range to {
		n := copy(t.mem, p)
		if n == 0 {
			break
		}
		if err := s.wrote(t.gpa, n, kind, source); err != nil {
			return written, err
		}
		p = p[n:]
		written += n
	}
	return written, nil
}

// wrote accounts for n bytes that have been written.
func (s *session) wrote(gpa uint64, n int, kind Kind, source int64) error {
	if !s.logging() {
		return nil
	}
	s.record(Write{gpa, n, kind, source, time.Since(s.start), s.pass()})
	return s.mark(gpa, n)
}

// wroteRing is wrote for a part of the used ring, which has an address of its
// own in the log.
func (s *session) wroteRing(q *queue, offset, n int) error {
	if !s.logging() {
		return nil
	}
	s.record(Write{q.ring.used.gpa + uint64(offset), n, Ring, NoSource, time.Since(s.start), s.pass()})
	if !q.addr.logged {
		return nil
	}
	return s.mark(q.addr.log+uint64(offset), n)
}

func (s *session) mark(gpa uint64, n int) error {
	if !s.options.Logging {
		return nil
	}
	if err := s.log.mark(gpa, uint64(n)); err != nil {
		return &ProtocolError{setLogBase.String(), err}
	}
	return nil
}

func (b *Backend) pass() int64 {
	if b.options.Pass == nil {
		return 0
	}
	return b.options.Pass()
}

func (b *Backend) record(w Write) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := len(b.writes) - 1; i >= 0 && b.writes[i].joins(w) {
		b.writes[i].Len += w.Len
		return
	}
	if len(b.writes) == maxWrites {
		b.overflow = true
		return
	}
	b.writes = append(b.writes, w)
}

func (w Write) joins(next Write) bool {
	return w.Kind == Data && next.Kind == Data && w.Source >= 0 && w.Pass == next.Pass &&
		w.GPA+uint64(w.Len) == next.GPA && w.Source+int64(w.Len) == next.Source
}
