package qemutest

import (
	"bytes"
	"testing"

	"patchgen/qemutest/stream"
)

// As QEMU 10.0.2 prints it, but for the complaint.
const traced = `migration_bitmap_sync_start 
savevm_section_start ram, section_id 1
qemu: something is wrong
savevm_section_start ram, section_id 1
migration_bitmap_sync_start 
savevm_section_start ram, section_id 1
migration_bitmap_sync_start 
savevm_section_start timer, section_id 0
`

func TestTrace(t *testing.T) {
	for size := range len(traced) {
		var rest bytes.Buffer
		tr := newTrace(&rest)
		for p := []byte(traced); len(p) > 0; p = p[min(size+1, len(p)):] {
			tr.Write(p[:min(size+1, len(p))])
		}
		if rest.String() != "qemu: something is wrong\n" || tr.pass() != 3 {
			t.Fatalf("in pieces of %d: %d passes, the rest is %q", size+1, tr.pass(), &rest)
		}
		// The last section looks at the dirty log itself.
		for n, want := range []int64{1, 1, 3} {
			if pass, err := tr.section(n, n == 2); err != nil || pass != want {
				t.Fatalf("section %d: pass %d, %v; want %d", n, pass, err, want)
			}
		}
	}
}

// TestTraceWaits: a section's pass is waited for, as the line may be behind.
func TestTraceWaits(t *testing.T) {
	tr := newTrace(&bytes.Buffer{})
	go tr.Write([]byte(traced))
	if pass, err := tr.section(2, true); err != nil || pass != 3 {
		t.Errorf("pass %d, %v", pass, err)
	}
}

func TestTraceUnbounded(t *testing.T) {
	tr := newTrace(&bytes.Buffer{})
	for range 1000 {
		tr.Write(bytes.Repeat([]byte("x"), 1000))
		if len(tr.partial) > 8192 {
			t.Fatalf("%d bytes are kept", len(tr.partial))
		}
	}
}

func TestSends(t *testing.T) {
	s := newSends(newTrace(&bytes.Buffer{}), 4*pageSize)
	s.block = 0
	data := func(b byte) []byte { return bytes.Repeat([]byte{b}, pageSize) }
	for _, p := range []struct {
		pass int64
		page stream.Page
	}{
		{1, stream.Page{Offset: 0, Data: data(1)}},
		{1, stream.Page{Offset: pageSize}},
		{1, stream.Page{Offset: 2 * pageSize, Data: data(3)}},
		{2, stream.Page{Offset: 0, Data: data(2)}}, // changed
		{2, stream.Page{Offset: pageSize}},         // zeros, as before
		{4, stream.Page{Offset: 0, Data: data(2)}}, // as before
	} {
		s.pass = p.pass
		for int64(len(s.passes)) < s.pass {
			s.passes = append(s.passes, PassSends{})
		}
		if err := s.page(p.page); err != nil {
			t.Fatal(err)
		}
	}
	if resent, over := s.again(); resent != 3 || over != 2 || s.total != 6 {
		t.Errorf("%d of %d pages resent, %d over-reported", resent, s.total, over)
	}
	for page, want := range []uint32{4, 2, 1, 0} {
		if got := s.pages[page].last; got != want {
			t.Errorf("page %d was sent in pass %d last, want %d", page, got, want)
		}
	}
	if !s.since(0, 3) || s.since(0, 4) {
		t.Error("since")
	}
}

func BenchmarkSends(b *testing.B) {
	s := newSends(newTrace(&bytes.Buffer{}), 64<<20)
	s.block, s.pass, s.passes = 0, 1, make([]PassSends, 1)
	page := bytes.Repeat([]byte("page"), pageSize/4)
	b.SetBytes(pageSize)
	for i := range int64(b.N) {
		s.page(stream.Page{Offset: i % (64 << 20 / pageSize) * pageSize, Data: page})
	}
}
