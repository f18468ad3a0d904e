package qemutest

import (
	"fmt"
	"hash/maphash"
	"strings"

	"patchgen/qemutest/stream"
)

// A sends is what a migration's stream had of the guest's memory: the hypervisor's
// dirty log as it acted on it. Its reader calls it.
type sends struct {
	trace  *trace
	reader *stream.Reader
	seed   maphash.Seed

	block   int   // of the guest's RAM in the stream, -1 before it is known
	section int   // the next one's number
	pass    int64 // of the section under way
	pages   []sent
	passes  []PassSends
	total   int64            // pages of whatever block
	touched map[string]int64 // pages of other blocks that were sent after the first pass, by the block's name
}

// A sent is what is known of a page that was sent.
type sent struct {
	sum  uint64 // of its contents
	last uint32 // pass in which it was sent last, 0 before it was
	over uint32 // times that it was sent with the contents that it was sent with before
	in   uint32 // all passes in which it was sent, as in Pages.Sent
	used bool   // it was sent with contents, and not only as zeros
}

// PassSends are the pages of the guest's RAM that were sent in a pass.
type PassSends struct {
	Pages        int64 `json:"pages"`
	Zeros        int64 `json:"zeros"`         // of these, full of one byte, which alone was sent
	Resent       int64 `json:"resent"`        // of the pages, sent before
	OverReported int64 `json:"over_reported"` // of these, with the contents that they were sent with before
	BeginMS      int64 `json:"begin_ms"`      // of the pass, since the migration began
}

// firmware is how much memory QEMU may send besides the guest's RAM: ROMs and that
// of devices.
const firmware = 256 << 20

// newSends reads the stream of a guest with so many bytes of RAM.
func newSends(t *trace, memory int64) *sends {
	s := &sends{
		trace: t, seed: maphash.MakeSeed(), block: -1,
		pages: make([]sent, memory/pageSize), touched: make(map[string]int64),
	}
	s.reader = stream.NewReader(stream.Options{MaxRAM: memory + firmware, Section: s.begin, Page: s.page})
	return s
}

// begin is called when a section of RAM begins.
func (s *sends) begin(last bool) (err error) {
	if s.block < 0 {
		for i, b := range s.reader.Blocks() {
			if b.Name == ramBlock || strings.HasSuffix(b.Name, "/"+ramBlock) {
				s.block = i
			}
		}
		if s.block < 0 {
			return fmt.Errorf("there is no block %q among %v", ramBlock, s.reader.Blocks())
		}
		if size := s.reader.Blocks()[s.block].Size; size != int64(len(s.pages))*pageSize {
			return fmt.Errorf("block %q has %d bytes, want %d", ramBlock, size, len(s.pages)*pageSize)
		}
	}
	s.pass, err = s.trace.section(s.section, last)
	s.section++
	for int64(len(s.passes)) < s.pass {
		s.passes = append(s.passes, PassSends{})
	}
	return err
}

func (s *sends) page(p stream.Page) error {
	s.total++
	if p.Block != s.block {
		if s.pass > 1 {
			s.touched[s.reader.Blocks()[p.Block].Name]++
		}
		return nil
	}
	var sum uint64
	if p.Data != nil {
		sum = maphash.Bytes(s.seed, p.Data)
	} else {
		sum = uint64(p.Fill)
	}
	page, now := &s.pages[p.Offset/pageSize], &s.passes[s.pass-1]
	now.Pages++
	if p.Data == nil {
		now.Zeros++
	} else {
		page.used = true
	}
	page.in |= 1 << min(s.pass-1, LastBit)
	if page.last != 0 {
		now.Resent++
		if page.sum == sum {
			now.OverReported++
			page.over++
		}
	}
	page.sum, page.last = sum, uint32(s.pass)
	return nil
}

// since reports whether the page was sent in a pass after this one.
func (s *sends) since(page, pass int64) bool { return int64(s.pages[page].last) > pass }

// again returns how many pages were sent again, and how many of these had not
// changed.
func (s *sends) again() (resent, over int64) {
	for _, p := range s.passes {
		resent += p.Resent
		over += p.OverReported
	}
	return resent, over
}
