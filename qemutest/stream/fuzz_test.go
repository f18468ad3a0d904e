package stream

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// FuzzReader holds that a stream reads the same however it is cut, and that what is
// told of it stays within its bounds.
func FuzzReader(f *testing.F) {
	stream, done := sample()
	f.Add(stream, uint64(1))
	f.Add(stream[:done-1], uint64(2))
	for i, b := range bad {
		e := new(encoder)
		b.write(e)
		f.Add(e.b, uint64(i))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		type result struct {
			told   log
			blocks []Block
			done   bool
			err    error
		}
		read := func(next func() int) (res result) {
			o := res.told.options()
			told := o.Page
			var r *Reader
			o.Page = func(p Page) error {
				blocks := r.Blocks()
				if p.Block < 0 || p.Block >= len(blocks) {
					t.Fatalf("a page of block %d, there are %d", p.Block, len(blocks))
				}
				if p.Offset < 0 || p.Offset%pageSize != 0 || p.Offset+pageSize > blocks[p.Block].Size {
					t.Fatalf("a page at %#x of a block of %#x bytes", p.Offset, blocks[p.Block].Size)
				}
				if p.Data != nil && len(p.Data) != pageSize {
					t.Fatalf("a page of %d bytes", len(p.Data))
				}
				return told(p)
			}
			r = NewReader(o)
			res.err = feed(r, stream, next)
			if closed := r.Close(); res.err == nil {
				res.err = closed
			} else if closed != res.err {
				t.Fatalf("Close says %v, Write %v", closed, res.err)
			}
			res.blocks, res.done = r.Blocks(), r.Done()
			return res
		}
		a, b := read(whole(stream)), read(pieces(rand.New(rand.NewPCG(seed, 0))))
		if !slices.Equal(a.told, b.told) {
			t.Errorf("it tells\n%s\nand cut\n%s", strings.Join(a.told, "\n"), strings.Join(b.told, "\n"))
		}
		if !slices.Equal(a.blocks, b.blocks) || a.done != b.done {
			t.Errorf("blocks %v, done %t; cut %v, %t", a.blocks, a.done, b.blocks, b.done)
		}
		if (a.err == nil) != (b.err == nil) || a.err != nil && a.err.Error() != b.err.Error() {
			t.Errorf("%v; cut %v", a.err, b.err)
		}
		if a.done != (a.err == nil) {
			t.Errorf("done %t: %v", a.done, a.err)
		}
		if e := (*Error)(nil); a.err != nil && (!errors.As(a.err, &e) || e.Offset < 0 || e.Offset > int64(len(stream))) {
			t.Errorf("%T of %d bytes: %v", a.err, len(stream), a.err)
		}
		sum := int64(0)
		for _, b := range a.blocks {
			if b.Size < 0 {
				t.Errorf("block %q has %d bytes", b.Name, b.Size)
			}
			sum += b.Size
		}
		if sum > maxRAM || len(a.blocks) > maxBlocks {
			t.Errorf("%d blocks of %d bytes", len(a.blocks), sum)
		}
	})
}
