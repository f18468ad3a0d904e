package qemutest

import (
	"fmt"

	"patchgen/initramfs/protocol"
)

// A way is how a driver gives memory to a device and takes it back: a row of the
// matrix.
type way struct {
	mapped string // protocol.Cell.Map
	back   string // protocol.Return.How, "" if it is never taken back
	name   string // the calls in C
	skip   bool   // DMA_ATTR_SKIP_CPU_SYNC
	strict bool   // DMA_ATTR_REQUIRE_COHERENT
}

// ways are all calls that hand memory back to the CPU. What a tree does not have,
// its module says.
var ways = []way{
	{mapped: "single", back: "unmap", name: "dma_unmap_single"},
	{mapped: "page", back: "unmap", name: "dma_unmap_page"},
	{mapped: "sg", back: "unmap", name: "dma_unmap_sg"},
	{mapped: "phys", back: "unmap", name: "dma_unmap_phys"},
	{mapped: "single", back: "unmap", name: "dma_unmap_single, SKIP_CPU_SYNC", skip: true},
	{mapped: "page", back: "unmap", name: "dma_unmap_page, SKIP_CPU_SYNC", skip: true},
	{mapped: "sg", back: "unmap", name: "dma_unmap_sg, SKIP_CPU_SYNC", skip: true},
	{mapped: "phys", back: "unmap", name: "dma_unmap_phys, SKIP_CPU_SYNC", skip: true},
	{mapped: "single", back: "unmap", name: "dma_unmap_single, REQUIRE_COHERENT", strict: true},
	{mapped: "sg", back: "unmap", name: "dma_unmap_sg, REQUIRE_COHERENT", strict: true},
	{mapped: "single", back: "sync", name: "dma_sync_single_for_cpu"},
	{mapped: "page", back: "sync", name: "dma_sync_single_for_cpu of a page"},
	{mapped: "phys", back: "sync", name: "dma_sync_single_for_cpu of dma_map_phys"},
	{mapped: "single", back: "range", name: "dma_sync_single_range_for_cpu"},
	{mapped: "sg", back: "sync", name: "dma_sync_sg_for_cpu"},
}

// Those by which nothing comes back: what the series documents as its limits, and
// what it must keep its hands off.
var (
	kept      = way{mapped: "single", name: "stays mapped"}
	forDevice = way{mapped: "single", back: "device", name: "dma_sync_single_for_device"}
	ring      = way{mapped: "coherent", name: "dma_alloc_coherent"}
	registers = way{mapped: "resource", back: "unmap", name: "dma_unmap_resource"}
	synced    = way{mapped: "resource", back: "sync", name: "dma_sync_single_for_cpu of registers"}
)

// Directions, as protocol.Cell.Dir and as in C.
var directions = []struct{ dir, name string }{
	{"from", "FROM_DEVICE"}, {"bidi", "BIDIRECTIONAL"}, {"to", "TO_DEVICE"},
}

// A span is a part of a buffer's pages: bytes from the begin of its first page, and
// how many.
type span struct{ offset, length uint32 }

// spans are around the edges of pages, and of several of them.
var spans = []span{
	{0, 1}, {0, pageSize}, {pageSize - 1, 1}, {pageSize - 1, 2}, {1, pageSize}, {0, pageSize + 1},
	{100, 60}, {pageSize / 2, pageSize / 2}, {64, 1514}, {0, 64 << 10}, {3, 32*pageSize - 6},
}

// fewSpans are for what varies by something else.
var fewSpans = []span{{64, 1514}, {pageSize - 1, 2}, {8, 3 * pageSize}}

// large is of several MB; no bounce buffer takes as much.
var large = span{0x234, 3 << 20}

// maxBounced is what a bounce buffer takes: include/linux/swiotlb.h, IO_TLB_SEGSIZE
// slots of IO_TLB_SIZE bytes.
const maxBounced = 128 << 11

// sgEntries is how many buffers a scatterlist has.
const sgEntries = 3

// What is expected of the pages that the device wrote.
const (
	Dirty  = "dirty"  // they are sent again
	Clean  = "clean"  // there are none: the device only reads, or has no memory of the guest's
	Missed = "missed" // they are not: marking is off, or the limits of the series have it so
)

// A cell is one buffer, or a scatterlist of them, mapped for a device.
type cell struct {
	way
	dir, dirName string
	span         // of each buffer, or of the part that is synced
	high         bool
	device       int  // 0: 64 address bits, 1: 32
	off          bool // marking is off when it comes back
	bounced      bool // it is not the buffer's memory that the device gets
	want         string

	mapped protocol.Mapped
	rounds []int64  // the passes in which the device wrote it and it came back
	data   [][]byte // what it wrote last, by buffer
}

// entries returns how many buffers there are.
func (c *cell) entries() int {
	if c.way.mapped == "sg" {
		return sgEntries
	}
	return 1
}

// buffer returns what is mapped: of a part that is synced, the pages around it.
func (c *cell) buffer() span {
	if c.back != "range" {
		return c.span
	}
	return span{0, (c.offset+c.length+pageSize-1)/pageSize*pageSize + pageSize}
}

// ask returns what the agent is asked for.
func (c *cell) ask() protocol.Cell {
	b := c.buffer()
	return protocol.Cell{
		Device: c.device, Map: c.way.mapped, Dir: c.dir, SkipSync: c.skip, RequireCoherent: c.strict, High: c.high,
		Offset: b.offset, Length: b.length, Entries: c.entries(),
	}
}

// takeBack returns with what the agent takes it back.
func (c *cell) takeBack() protocol.Return {
	r := protocol.Return{ID: c.mapped.ID, How: c.back}
	if c.back == "range" {
		r.Offset, r.Length = c.offset, c.length
	}
	return r
}

// stays reports whether the memory is the device's after it came back, too.
func (c *cell) stays() bool { return c.back == "sync" || c.back == "range" }

// writes reports whether the device writes it.
func (c *cell) writes() bool { return c.dir != "to" && c.way.mapped != "resource" }

// cells returns the matrix. Of a kernel with swiotlb=force all is bounced.
func cells(forced bool) []*cell {
	var all []*cell
	add := func(c cell) {
		c.bounced = c.way.mapped != "resource" && c.way.mapped != "coherent" && (forced || c.high && c.device == 1)
		for _, d := range directions {
			if d.dir == c.dir {
				c.dirName = d.name
			}
		}
		if forced && c.way.mapped == "resource" {
			return // newer trees (7.3 does, 6.12 does not) refuse what cannot be bounced
		}
		if c.bounced && (c.strict || c.back == "device" || c.buffer().length > maxBounced) {
			return // it cannot be mapped, or the copy to the bounce buffer dirties that
		}
		switch {
		case !c.writes() || c.length == 0, c.bounced && c.skip:
			// What is in a bounce buffer is given up without a copy.
			c.want = Clean
		case c.bounced && c.back != "":
			c.want = Dirty // by the copy, whether marking is on or off
		case c.off || c.back == "" || c.back == "device":
			c.want = Missed
		default:
			c.want = Dirty
		}
		all = append(all, &c)
	}
	for _, w := range ways {
		for _, d := range directions {
			for _, s := range spans {
				add(cell{way: w, dir: d.dir, span: s})
			}
			for _, s := range fewSpans {
				add(cell{way: w, dir: d.dir, span: s, high: true})
				add(cell{way: w, dir: d.dir, span: s, high: true, device: 1})
			}
			add(cell{way: w, dir: d.dir, span: fewSpans[0], off: true})
		}
	}
	for _, i := range []int{0, 3, 10} {
		add(cell{way: ways[i], dir: "from", span: large})
	}
	for _, d := range directions {
		add(cell{way: ways[13], dir: d.dir, span: span{100, 0}})
		for _, s := range fewSpans {
			add(cell{way: kept, dir: d.dir, span: s})
			add(cell{way: forDevice, dir: d.dir, span: s})
		}
	}
	add(cell{way: ring, dir: "bidi", span: span{0, 2 * pageSize}})
	add(cell{way: registers, dir: "bidi", span: span{0, pageSize}})
	add(cell{way: synced, dir: "bidi", span: span{0, pageSize}})
	return all
}

// String tells a cell from all others.
func (c *cell) String() string {
	s := fmt.Sprintf("%s, %s, %d bytes at %d of a page", c.name, c.dirName, c.length, c.offset)
	if c.high {
		s += ", above 4 GiB"
	}
	if c.device == 1 {
		s += ", 32-bit device"
	}
	if c.bounced {
		s += ", bounced"
	}
	if c.off {
		s += ", marking off"
	}
	return s
}
