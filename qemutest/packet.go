package qemutest

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"patchgen/initramfs/protocol"
)

const (
	// payload is what a packet carries. With its headers it nearly fills a page,
	// as it must to stay as the device wrote it: see vhostuser.Card. The guest's
	// MTU is of what it sends.
	payload = 4000 - etherLen - ipLen - udpLen

	etherLen, ipLen, udpLen = 14, 20, 8
)

// frame returns the Ethernet frame with datagram number n for the guest: its
// number, and the pattern. UDP's checksum is 0, none, so that the kernel hands
// over what is damaged, too.
func frame(seed, n uint64) []byte {
	f := make([]byte, etherLen+ipLen+udpLen+payload)
	mac, _ := net.ParseMAC(cardMAC)
	copy(f, mac)
	copy(f[6:], []byte{0x52, 0x54, 0, 0, 0, 2})
	be := binary.BigEndian
	be.PutUint16(f[12:], 0x0800)

	ip := f[etherLen:]
	ip[0] = 0x45 // version 4, 5 words
	be.PutUint16(ip[2:], ipLen+udpLen+payload)
	ip[8], ip[9] = 64, 17 // time to live, UDP
	guest := netip.MustParseAddr(protocol.GuestAddress)
	copy(ip[12:], guest.Prev().AsSlice())
	copy(ip[16:], guest.AsSlice())
	var sum uint32
	for i := 0; i < ipLen; i += 2 {
		sum += uint32(be.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	be.PutUint16(ip[10:], ^uint16(sum&0xffff+sum>>16))

	udp := ip[ipLen:]
	be.PutUint16(udp, protocol.GuestPort)
	be.PutUint16(udp[2:], protocol.GuestPort)
	be.PutUint16(udp[4:], udpLen+payload)
	binary.LittleEndian.PutUint64(udp[udpLen:], n)
	protocol.Fill(udp[udpLen+8:], seed, n)
	return f
}

// window is how many packets are on their way at most: as many as the guest's
// driver has buffers for by default, and no more than the guest's backlog takes.
const window = 128

// send has the card send the packets, and returns when all of them wait in the
// guest's socket.
func (t *trial) send(ctx context.Context) error {
	source := t.moved.source
	limited, cancel := context.WithTimeoutCause(ctx, t.Limit, &TimeError{"room in the network card's receive queue", t.Limit})
	defer cancel()
	for n := range t.Packets {
		if err := source.card.Send(limited, frame(t.packetSeed(), uint64(n))); err != nil {
			if limited.Err() != nil {
				return context.Cause(limited)
			}
			return &DeviceError{source.name, "card", err}
		}
		if (n+1)%window == 0 || n+1 == t.Packets {
			if err := t.arrived(ctx, uint64(n+1)); err != nil {
				return err
			}
		}
	}
	return nil
}

// arrived waits until n packets are in the guest's socket.
func (t *trial) arrived(ctx context.Context, n uint64) error {
	limited, cancel := context.WithTimeoutCause(ctx, t.Limit, &TimeError{"packets of the card in the guest's socket", t.Limit})
	defer cancel()
	for {
		var q protocol.QueuedResult
		if err := t.moved.source.ask(limited, protocol.OpQueued, nil, &q); err != nil {
			return err
		}
		if q.Drops > 0 {
			return &AgentError{t.moved.source.name, fmt.Errorf("its kernel dropped %d of the card's packets", q.Drops)}
		}
		if q.Received >= n {
			return nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-limited.Done():
			return context.Cause(limited)
		}
	}
}
