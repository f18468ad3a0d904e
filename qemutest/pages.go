package qemutest

import (
	"maps"
	"slices"
	"time"

	"patchgen/qemutest/vhostuser"
)

// Pages are what became of each page of a guest's RAM in a run, for pictures of it.
// Pages are told by their numbers, from 0 in the order of the RAM.
type Pages struct {
	Memory int64    // bytes of RAM
	Low    int64    // of these, below 4 GiB of guest-physical addresses; the rest begins there
	Sent   []uint32 // by page, bit n is set if it was sent in pass n+1, the last bit if in that or a later one
	Used   []bool   // by page, whether it was once sent with contents, and not only as zeros
	Writes []Written
}

// LastBit is that of Pages.Sent which stands for its pass and all later ones.
const LastBit = 31

// A Written is the last store to a page of Pages.
type Written struct {
	Page    int64
	Driver  string // of the device; "" for the CPU
	What    string // such as "data"
	Source  int64  // as in Page
	AtMS    int64  // since the migration began
	Pass    int64  // in which it was written
	Counted bool   // it is one of Outcome.Written; the devices' rings are not, see trial.stores
	Missed  bool   // it is one of Outcome.Missed
}

// GPA returns the guest-physical address of a page.
func (p *Pages) GPA(page int64) uint64 {
	return (&memory{low: p.Low}).gpa(page * pageSize)
}

// A Moment is when something happened in a run.
type Moment struct {
	What string `json:"what"`
	AtMS int64  `json:"at_ms"` // since the migration began
}

// What happens in a run, in this order.
const (
	PassesBegin = "first pass is over"
	WorkBegins  = "writing begins"
	WorkEnds    = "writing ends"
	Unplugged   = "devices are gone"
	LetGo       = "migration is let go"
	Stopped     = "source is stopped"
	Completed   = "migration is complete"
)

// moment notes that something happens now.
func (t *trial) moment(what string) { t.at(what, time.Now()) }

func (t *trial) at(what string, at time.Time) {
	t.moments = append(t.moments, Moment{what, at.Sub(t.begun).Milliseconds()})
}

// remember returns what became of each page, from what was sent and stored.
func (t *trial) remember() *Pages {
	ram, sends := t.moved.source.ram, t.moved.sends
	p := &Pages{Memory: int64(len(ram.bytes)), Low: ram.low, Sent: make([]uint32, len(sends.pages)), Used: make([]bool, len(sends.pages))}
	for i, page := range sends.pages {
		p.Sent[i], p.Used[i] = page.in, page.used
	}
	for _, page := range slices.Sorted(maps.Keys(t.stored)) {
		s := t.stored[page]
		p.Writes = append(p.Writes, Written{
			page, s.driver, s.Kind.String(), s.Source, s.At.Milliseconds(), s.Pass, s.Kind != vhostuser.Ring, t.missed(page, s),
		})
	}
	return p
}
