package vhostuser

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
)

// A Card is a network card. What the guest transmits is dropped. Its address is
// the one that QEMU's virtio-net-pci was given (mac=).
//
// It has mergeable buffers. Linux sizes them by the frames that come, and of one
// that fills its buffers it copies the first bytes elsewhere and leaves the rest in
// the pages that the device wrote (drivers/net/virtio_net.c, page_to_skb). Where
// there is room behind a frame, or without mergeable buffers, it would put the end
// of its own structure there, struct skb_shared_info, and so dirty those pages
// itself.
type Card struct {
	*Backend

	mu      sync.Mutex
	pending []*frame
	number  int64 // of frames delivered
}

type frame struct {
	data []byte
	done chan struct{} // closed when the guest has it
}

// virtio 1.2, section 5.1.
const (
	netReceive    = 0 // queues
	netTransmit   = 1
	netHeader     = 12 // bytes of struct virtio_net_hdr_v1
	netNumBuffers = 10 // where the number of buffers stands in it

	netMergeable = 1 << 15 // VIRTIO_NET_F_MRG_RXBUF
)

// The lengths of an Ethernet frame without its checksum. The longest fits into a
// page, with its header.
const (
	minFrame = 14
	maxFrame = pageSize - netHeader
)

// NewCard returns a network card whose QEMU is at the other end of conn. QEMU's
// -netdev vhost-user takes a chardev with a path only, not fd= ("does not
// support FD passing", chardev/char-socket.c): conn comes from a listener.
func NewCard(conn *net.UnixConn, o Options) *Card {
	c := &Card{}
	c.Backend = newBackend(conn, c, o)
	return c
}

// Send puts an Ethernet frame of 14 to 4084 bytes into the guest's receive
// queue. It returns when the guest has it, with an error when ctx ends first or
// Serve has returned. Until the guest gives a buffer, it waits; so it does if the
// guest broke the queue. Frames are numbered from 0 in the order of delivery.
func (c *Card) Send(ctx context.Context, data []byte) error {
	if len(data) < minFrame || len(data) > maxFrame {
		return fmt.Errorf("a frame of %d bytes: must be %d to %d", len(data), minFrame, maxFrame)
	}
	f := &frame{slices.Clone(data), make(chan struct{})}
	c.mu.Lock()
	c.pending = append(c.pending, f)
	c.mu.Unlock()
	c.wake()

	var err error
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.served:
		err = errServed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.pending, f)
	if i < 0 {
		return nil
	}
	c.pending = slices.Delete(c.pending, i, i+1)
	return fmt.Errorf("send a frame to the guest: %w", err)
}

func (*Card) queues() int      { return 2 }
func (*Card) features() uint64 { return netMergeable }
func (*Card) config() []byte   { return nil }

func (c *Card) wants(queue int) bool {
	if queue == netTransmit {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) > 0
}

func (c *Card) serve(s *session, q *queue, ch *chain) (bool, error) {
	if q.index == netTransmit {
		return true, s.complete(q, ch, 0)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 {
		return false, nil
	}
	f := c.pending[0]
	chains, err := gather(s, q, ch, netHeader+len(f.data))
	if chains == nil || err != nil {
		return false, err
	}
	header := make([]byte, netHeader)
	binary.LittleEndian.PutUint16(header[netNumBuffers:], uint16(len(chains)))
	if _, err := s.store(ch.writable, header, Header, c.number); err != nil {
		return false, err
	}
	rest := f.data
	for i, ch := range chains {
		to, written := ch.writable, 0
		if i == 0 {
			to, written = skip(to, netHeader), netHeader
		}
		n, err := s.store(to, rest, Data, c.number)
		if err != nil {
			return false, err
		}
		rest, written = rest[n:], written+n
		if err := s.put(q, ch, uint32(written)); err != nil {
			return false, err
		}
	}
	// The driver must not see some of the buffers without the others.
	if err := s.publish(q); err != nil {
		return false, err
	}
	c.number++
	c.pending = slices.Delete(c.pending, 0, 1)
	close(f.done)
	return true, nil
}

// gather returns as many chains as have room for n bytes, of which c is the
// first, without taking them; nil if the driver has to give more.
func gather(s *session, q *queue, c *chain, n int) ([]*chain, error) {
	if length(c.writable) < netHeader {
		return nil, fmt.Errorf("a receive buffer of %d bytes for a header of %d", length(c.writable), netHeader)
	}
	chains, room := []*chain{c}, length(c.writable)
	for room < n {
		available, err := q.available()
		if err != nil {
			return nil, err
		}
		if len(chains) == available {
			if available == q.size {
				return nil, fmt.Errorf("all %d receive buffers together have %d bytes, a frame needs %d", q.size, room, n)
			}
			return nil, nil
		}
		next := &chain{}
		if err := q.chain(s.mem, len(chains), next); err != nil {
			return nil, err
		}
		chains, room = append(chains, next), room+length(next.writable)
	}
	return chains, nil
}

// skip returns what is behind the first n bytes.
func skip(spans []span, n int) []span {
	for i, s := range spans {
		if n < len(s.mem) {
			rest := slices.Clone(spans[i:])
			rest[0] = span{s.gpa + uint64(n), s.mem[n:]}
			return rest
		}
		n -= len(s.mem)
	}
	return nil
}
