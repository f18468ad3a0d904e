package vhostuser

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const pageSize = 4096 // of the guest, and of the dirty log (VHOST_LOG_PAGE)

// A region is a piece of guest memory that QEMU handed over.
type region struct {
	gpa uint64 // guest physical address
	uva uint64 // address in QEMU
	mem []byte // mapped here
}

// A span is a piece of guest memory as it is mapped here.
type span struct {
	gpa uint64
	mem []byte
}

// A memory is all regions, by ascending guest physical address. They don't
// overlap.
type memory []region

// mapRegions maps what SET_MEM_TABLE describes.
func mapRegions(m *message) (mem memory, err error) {
	if len(m.payload) < 8 {
		return nil, m.wrong("payload of %d bytes, want at least 8", len(m.payload))
	}
	n := m.u32(0)
	if n > maxRegions {
		return nil, m.wrong("%d regions, at most %d are possible", n, maxRegions)
	}
	if want := 8 + int(n)*regionSize; len(m.payload) != want {
		return nil, m.wrong("payload of %d bytes, want %d for %d regions", len(m.payload), want, n)
	}
	if len(m.fds) != int(n) {
		return nil, m.wrong("%d file descriptors for %d regions", len(m.fds), n)
	}
	defer func() {
		if err != nil {
			mem.unmap()
			mem = nil
		}
	}()
	for i := range int(n) {
		at := 8 + i*regionSize
		gpa, size, uva, offset := m.u64(at), m.u64(at+8), m.u64(at+16), m.u64(at+24)
		if size == 0 || (gpa|size|uva)%pageSize != 0 || gpa+size < gpa || uva+size < uva {
			return mem, m.wrong("region %d: GPA %#x, %#x bytes, address %#x: not whole pages, or beyond the end", i, gpa, size, uva)
		}
		for _, r := range mem {
			if gpa < r.gpa+uint64(len(r.mem)) && r.gpa < gpa+size || uva < r.uva+uint64(len(r.mem)) && r.uva < uva+size {
				return mem, m.wrong("region %d at GPA %#x, address %#x overlaps that at GPA %#x, address %#x", i, gpa, uva, r.gpa, r.uva)
			}
		}
		p, err := mapFile(m.fds[i], offset, size)
		if err != nil {
			return mem, m.wrong("region %d at GPA %#x: %w", i, gpa, err)
		}
		mem = append(mem, region{gpa, uva, p})
	}
	slices.SortFunc(mem, func(a, b region) int {
		if a.gpa < b.gpa {
			return -1
		}
		return 1
	})
	return mem, nil
}

// mapFile maps a part of a file, all of which must exist: to touch what lies
// beyond its end is a SIGBUS.
func mapFile(fd int, offset, size uint64) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("fstat: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, errors.New("the file descriptor is no file in memory")
	case size == 0 || size > math.MaxInt || offset%pageSize != 0:
		return nil, fmt.Errorf("cannot map %#x bytes at %#x: not whole pages", size, offset)
	case offset > uint64(st.Size) || size > uint64(st.Size)-offset:
		return nil, fmt.Errorf("%#x bytes at %#x reach beyond the file of %#x bytes", size, offset, st.Size)
	}
	p, err := unix.Mmap(fd, int64(offset), int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return p, nil
}

func (mem memory) unmap() {
	for _, r := range mem {
		unix.Munmap(r.mem)
	}
}

// spans appends the n bytes at a guest physical address, which may lie in
// several regions that follow one another. It reports whether all are memory.
func (mem memory) spans(to []span, gpa uint64, n uint64) ([]span, bool) {
	for _, r := range mem {
		if n == 0 {
			break
		}
		if gpa < r.gpa || gpa-r.gpa >= uint64(len(r.mem)) {
			continue
		}
		p := r.mem[gpa-r.gpa:]
		p = p[:min(n, uint64(len(p)))]
		p = p[:len(p):len(p)]
		to = append(to, span{gpa, p})
		gpa += uint64(len(p))
		n -= uint64(len(p))
	}
	return to, n == 0
}

// at returns the n bytes at an address in QEMU, which must lie in one region:
// nobody splits a ring.
func (mem memory) at(uva uint64, n int) (span, bool) {
	for _, r := range mem {
		if off := uva - r.uva; uva >= r.uva && off <= uint64(len(r.mem)) && uint64(n) <= uint64(len(r.mem))-off {
			return span{r.gpa + off, r.mem[off : off+uint64(n) : off+uint64(n)]}, true
		}
	}
	return span{}, false
}

// contains reports whether an address of this process lies in p.
func contains(p []byte, addr uintptr) bool {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	return addr >= start && addr-start < uintptr(len(p))
}

// A dirtyLog is the bitmap that QEMU shares, a bit for each page of 4096 bytes.
type dirtyLog []byte

// mark sets the bits of the n bytes at a guest physical address. The bits must
// be set after the bytes are written: QEMU clears a bit before it reads the page.
func (l dirtyLog) mark(gpa, n uint64) error {
	last := (gpa + n - 1) / pageSize
	if n == 0 || gpa+n-1 < gpa || last/8 >= uint64(len(l)) {
		return fmt.Errorf("the log of %d bytes has no bit for %#x bytes at %#x", len(l), n, gpa)
	}
	for page := gpa / pageSize; page <= last; page++ {
		word := (*uint32)(unsafe.Pointer(&l[page/32*4]))
		atomic.OrUint32(word, 1<<(page%32))
	}
	return nil
}

// load16 reads the uint16 at offset of p, which both must be even, before all
// that is read later. The aligned word around it is in the same page.
func load16(p []byte, offset int) uint16 {
	addr := unsafe.Pointer(&p[offset : offset+2][0])
	odd := uintptr(addr) & 2
	word := atomic.LoadUint32((*uint32)(unsafe.Add(addr, -int(odd))))
	return uint16(word >> (8 * odd))
}
