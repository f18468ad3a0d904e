package qemutest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"patchgen/initramfs/protocol"
)

// stressTime is how long the CPU syncs a page that a device writes.
const stressTime = time.Second

// writers has the guest sync the two halves of a page in turn, as a driver does with
// buffers of half a page, while the device keeps writing both. No store of the
// device's may be undone. The byte that marking stores to is the first of a half: a
// driver may well look there whether the device has written yet.
func (x *matrixTrial) writers(ctx context.Context) error {
	source := x.source
	c := &cell{way: way{mapped: "page", back: "sync", name: "concurrent writers"}, dir: "bidi", span: span{0, pageSize}}
	var r protocol.MapResult
	if err := source.ask(ctx, protocol.OpMap, protocol.MapArgs{Cells: []protocol.Cell{c.ask()}}, &r); err != nil {
		return err
	}
	if len(r.Cells) != 1 {
		return &AgentError{source.name, fmt.Errorf("it mapped %d cells of 1", len(r.Cells))}
	}
	c.mapped = r.Cells[0]
	if err := x.check(c); err != nil {
		return &AgentError{source.name, err}
	}
	if err := source.ask(ctx, protocol.OpMarking, protocol.MarkingArgs{On: true}, nil); err != nil {
		return err
	}
	offset, _ := source.ram.offset(c.mapped.DMA[0]) // checked
	d := &counting{page: source.ram.bytes[offset : offset+pageSize], done: make(chan struct{})}
	go d.run()
	var s protocol.StressResult
	err := source.ask(ctx, protocol.OpStress, protocol.StressArgs{
		ID: c.mapped.ID, Milliseconds: int(stressTime.Milliseconds()),
		Ranges: [2][2]uint32{{0, pageSize / 2}, {pageSize / 2, pageSize / 2}},
	}, &s)
	d.stop.Store(true)
	<-d.done
	if err != nil {
		return err
	}
	x.run.Writers = &Writers{Stores: d.stores, Lost: d.lost, Syncs: s.Syncs}
	return source.ask(ctx, protocol.OpMarking, protocol.MarkingArgs{On: false}, nil)
}

// counting is a device that counts in words of a page, and looks whether what it
// stored stays there until it stores again.
type counting struct {
	page         []byte
	stop         atomic.Bool
	done         chan struct{}
	stores, lost uint64
}

// counted are the words: the first and the last of each half of a page.
var counted = [...]int{0, pageSize/2 - 4, pageSize / 2, pageSize - 4}

func (d *counting) run() {
	defer close(d.done)
	var words [len(counted)]*uint32
	for i, at := range counted {
		words[i] = (*uint32)(unsafe.Pointer(&d.page[at]))
		atomic.StoreUint32(words[i], 0)
	}
	for n := uint32(1); !d.stop.Load(); n++ {
		for _, w := range words {
			atomic.StoreUint32(w, n)
		}
		// From the mark's load to its store it takes a moment.
		for range 50 {
			if d.stop.Load() {
				break
			}
		}
		for _, w := range words {
			if atomic.LoadUint32(w) != n {
				d.lost++
			}
		}
		d.stores += uint64(len(words))
	}
}
