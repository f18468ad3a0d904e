package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// A queue is one split virtqueue (virtio 1.2, section 2.7).
type queue struct {
	index          int
	size           int // number of descriptors, a power of 2
	addr           ringAddr
	ring           *ring  // nil until it is mapped, and after each change of what it is mapped by
	next           uint16 // the entry of the available ring to be taken next
	kick, call, er int    // file descriptors, or -1
	enabled        bool
	broken         bool // by its driver; mended when QEMU stops it
}

// A ringAddr is the payload of SET_VRING_ADDR: addresses in QEMU, and the guest
// physical address of the used ring.
type ringAddr struct {
	desc, used, avail uint64
	log               uint64
	logged            bool // VHOST_VRING_F_LOG
}

// A ring is the three parts of a virtqueue as they are mapped here.
type ring struct {
	desc, avail, used span
	usedIndex         uint16 // of the next entry that is returned
}

// Bits of a descriptor's flags, and of the available ring's.
const (
	descNext         = 1
	descWrite        = 2
	availNoInterrupt = 1
)

// maxTransfer is the most bytes that one chain may describe. Linux's largest
// request is a few MB.
const maxTransfer = 16 << 20

// A chain is what one entry of the available ring describes.
type chain struct {
	head     uint16
	readable []span // for the device to read
	writable []span // for it to write; behind readable, as the standard wants
}

func (c *chain) reset(head uint16) {
	c.head, c.readable, c.writable = head, c.readable[:0], c.writable[:0]
}

func length(spans []span) (n int) {
	for _, s := range spans {
		n += len(s.mem)
	}
	return n
}

// mapRing resolves the ring's addresses.
func (q *queue) mapRing(mem memory) (*ring, error) {
	r := &ring{}
	for _, part := range []struct {
		name  string
		to    *span
		uva   uint64
		size  int
		align uint64
	}{
		{"descriptor table", &r.desc, q.addr.desc, 16 * q.size, 16},
		{"available ring", &r.avail, q.addr.avail, 4 + 2*q.size, 2},
		{"used ring", &r.used, q.addr.used, 4 + 8*q.size, 4},
	} {
		var ok bool
		if *part.to, ok = mem.at(part.uva, part.size); !ok {
			return nil, &ProtocolError{setVringAddr.String(), fmt.Errorf("the %s of queue %d, %d bytes at %#x, is in no region", part.name, q.index, part.size, part.uva)}
		}
		if gpa := part.to.gpa; gpa%part.align != 0 {
			return nil, &GuestError{q.index, fmt.Errorf("its %s at GPA %#x is not aligned to %d bytes", part.name, gpa, part.align)}
		}
	}
	r.usedIndex = load16(r.used.mem, 2)
	return r, nil
}

// available returns the number of entries that wait in the available ring.
func (q *queue) available() (int, error) {
	index := load16(q.ring.avail.mem, 2)
	n := index - q.next
	if int(n) > q.size {
		return 0, fmt.Errorf("available index %d is more than %d entries ahead of %d", index, q.size, q.next)
	}
	return int(n), nil
}

// chain reads the entry so many behind the next, which must be available,
// without taking it. The driver may change a descriptor at any time, so each is
// read once.
func (q *queue) chain(mem memory, ahead int, c *chain) error {
	slot := (int(q.next) + ahead) & (q.size - 1)
	head := binary.LittleEndian.Uint16(q.ring.avail.mem[4+2*slot:])
	c.reset(head)
	index, total := head, uint64(0)
	for range q.size {
		if int(index) >= q.size {
			return fmt.Errorf("descriptor %d, there are %d", index, q.size)
		}
		var d [16]byte
		copy(d[:], q.ring.desc.mem[16*int(index):])
		gpa, n := binary.LittleEndian.Uint64(d[0:]), uint64(binary.LittleEndian.Uint32(d[8:]))
		flags := binary.LittleEndian.Uint16(d[12:])
		if flags&^(descNext|descWrite) != 0 {
			return fmt.Errorf("descriptor %d: flags %#x: indirect descriptors are not offered", index, flags)
		}
		if total += n; n == 0 || total > maxTransfer {
			return fmt.Errorf("descriptor %d: %d bytes, %d in this chain: must be more than 0 and at most %d", index, n, total, maxTransfer)
		}
		to := &c.readable
		if flags&descWrite != 0 {
			to = &c.writable
		} else if len(c.writable) > 0 {
			return fmt.Errorf("descriptor %d: to be read, behind one to be written", index)
		}
		var ok bool
		if *to, ok = mem.spans(*to, gpa, n); !ok {
			return fmt.Errorf("descriptor %d: %d bytes at GPA %#x are not all memory", index, n, gpa)
		}
		if flags&descNext == 0 {
			return nil
		}
		index = binary.LittleEndian.Uint16(d[14:])
	}
	return errors.New("a chain is longer than the queue: it loops")
}

// complete takes the next entry and returns it to the driver, with the number
// of bytes that were written into its buffers.
func (s *session) complete(q *queue, c *chain, written uint32) error {
	if err := s.put(q, c, written); err != nil {
		return err
	}
	return s.publish(q)
}

// put is complete, but for telling the driver.
func (s *session) put(q *queue, c *chain, written uint32) error {
	r := q.ring
	slot := 4 + 8*(int(r.usedIndex)&(q.size-1))
	binary.LittleEndian.PutUint32(r.used.mem[slot:], uint32(c.head))
	binary.LittleEndian.PutUint32(r.used.mem[slot+4:], written)
	q.next++
	r.usedIndex++
	return s.wroteRing(q, slot, 8)
}

// publish tells the driver of all that was put.
func (s *session) publish(q *queue) error {
	r := q.ring
	// One store for flags (0: kick always) and index, after all before it. It is
	// also a full barrier between the index and the flags that interrupts reads.
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&r.used.mem[0])), uint32(r.usedIndex)<<16)
	return s.wroteRing(q, 0, 4)
}

// interrupts reports whether the driver wants to hear of completed chains.
func (r *ring) interrupts() bool {
	return load16(r.avail.mem, 0)&availNoInterrupt == 0
}
