package qemutest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"patchgen/initramfs/protocol"
)

const pageSize = 4096

// A memory is a guest's RAM: a file without a name, which goes when the last
// process that has it open ends, and its bytes here.
type memory struct {
	file  *os.File
	bytes []byte
	low   int64 // so many of them are below 4 GiB
}

// newMemory makes the RAM of a guest, size bytes of zeros. Of these low are below
// 4 GiB (max-ram-below-4g), or for 0 as many as QEMU puts there.
func newMemory(size, low int64) (*memory, error) {
	if low == 0 && size >= lowLimit {
		low = lowSize
	} else if low == 0 {
		low = size
	}
	fd, err := unix.MemfdCreate("patchgen-guest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "guest memory")
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("a guest's memory of %d MiB: %w", size>>20, err)
	}
	b, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("map a guest's memory of %d MiB: %w", size>>20, err)
	}
	return &memory{f, b, min(low, size)}, nil
}

// fill makes it look used, as that of a machine which has been up for a while: a page
// of zeros costs a migration next to nothing.
func (m *memory) fill() {
	for at := 0; at < len(m.bytes); at += pageSize {
		protocol.Fill(m.bytes[at:at+pageSize], 0, uint64(at/pageSize))
	}
}

func (m *memory) close() {
	unix.Munmap(m.bytes)
	m.file.Close()
}

// q35 leaves a hole below 4 GiB for devices: hw/i386/pc_q35.c, pc_q35_init().
const (
	lowLimit  = 0xb0000000 // RAM of this size or more
	lowSize   = 0x80000000 // has so much below the hole
	aboveHole = 1 << 32
)

// gpa returns the guest-physical address of an offset into the RAM.
func (m *memory) gpa(offset int64) uint64 {
	if offset >= m.low {
		return aboveHole + uint64(offset-m.low)
	}
	return uint64(offset)
}

// offset is the inverse of gpa; false if there is no RAM.
func (m *memory) offset(gpa uint64) (int64, bool) {
	low := uint64(m.low)
	switch {
	case gpa < low:
		return int64(gpa), true
	case gpa >= aboveHole && gpa-aboveHole < uint64(len(m.bytes))-low:
		return int64(gpa - aboveHole + low), true
	}
	return 0, false
}

// An extent is a part of a file, in bytes.
type extent struct{ start, end int64 }

// data returns the extents of the file that are not holes, which read as zeros:
// to read a hole through a mapping would fill it.
func data(f *os.File, size int64) ([]extent, error) {
	var extents []extent
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("lseek: %w", err)
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("lseek: %w", err)
		}
		extents = append(extents, extent{start, min(end, size)})
		at = end
	}
	return extents, nil
}

// both returns what is in a and in b.
func both(a, b []extent) []extent {
	var out []extent
	for len(a) > 0 && len(b) > 0 {
		e := extent{max(a[0].start, b[0].start), min(a[0].end, b[0].end)}
		if e.start < e.end {
			out = append(out, e)
		}
		if a[0].end < b[0].end {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// without returns what is in a and not in b.
func without(a, b []extent) []extent {
	var out []extent
	for _, e := range a {
		for _, cut := range b {
			if cut.end <= e.start || cut.start >= e.end {
				continue
			}
			if cut.start > e.start {
				out = append(out, extent{e.start, cut.start})
			}
			e.start = cut.end
			if e.start >= e.end {
				break
			}
		}
		if e.start < e.end {
			out = append(out, e)
		}
	}
	return out
}

var zeros [pageSize]byte

// compareChunk is compared at once: less than a core's cache holds.
const compareChunk = 256 << 10

// differ returns the numbers of the pages, counted from the start of the RAM,
// in which the two differ, rising. Both are of one size. Neither may be written
// to meanwhile.
func differ(a, b *memory) ([]int64, error) {
	size := int64(len(a.bytes))
	inA, err := data(a.file, size)
	if err != nil {
		return nil, err
	}
	inB, err := data(b.file, size)
	if err != nil {
		return nil, err
	}
	type piece struct {
		extent
		a, b []byte // nil: zeros
	}
	var pieces []piece
	cut := func(extents []extent, a, b []byte) {
		for _, e := range extents {
			for at := e.start; at < e.end; at += compareChunk {
				pieces = append(pieces, piece{extent{at, min(at+compareChunk, e.end)}, a, b})
			}
		}
	}
	cut(both(inA, inB), a.bytes, b.bytes)
	cut(without(inA, inB), a.bytes, nil)
	cut(without(inB, inA), nil, b.bytes)

	var next atomic.Int64
	var mu sync.Mutex
	var pages []int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(pieces) {
					return
				}
				p := pieces[i]
				if p.a != nil && p.b != nil && bytes.Equal(p.a[p.start:p.end], p.b[p.start:p.end]) {
					continue
				}
				for at := p.start; at < p.end; at += pageSize {
					x, y := zeros[:], zeros[:]
					if p.a != nil {
						x = p.a[at : at+pageSize]
					}
					if p.b != nil {
						y = p.b[at : at+pageSize]
					}
					if !bytes.Equal(x, y) {
						mu.Lock()
						pages = append(pages, at/pageSize)
						mu.Unlock()
					}
				}
			}
		})
	}
	workers.Wait()
	slices.Sort(pages)
	return pages, nil
}
