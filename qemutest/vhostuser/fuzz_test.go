package vhostuser

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FuzzMessages feeds the back-end bytes for messages. The first two bytes of a
// chunk say how long it is and what descriptors come with it. Two goroutines
// cover never quite the same twice, so -fuzzminimizetime 10x spares much time.
func FuzzMessages(f *testing.F) {
	frame := func(r request, fds byte, payload []byte) []byte {
		p := append(u32s(uint32(r), version|needReply, uint32(len(payload))), payload...)
		return append([]byte{fds, byte(len(p))}, p...)
	}
	features := frame(setFeatures, 0, u64s(plain))
	protocol := frame(setProtocolFeatures, 0, u64s(protoConfig|protoLogShmFD|protoReplyAck|protoBackendReq))
	var start []byte
	for _, p := range [][]byte{
		protocol, features, frame(setMemTable, 2, memTable()),
		frame(setVringNum, 0, u32s(0, queueSize)), frame(setVringBase, 0, u32s(0, 0)),
		frame(setVringAddr, 0, append(u32s(0, 1), u64s(uva(descGPA), uva(usedGPA), uva(availGPA), usedGPA)...)),
		frame(setVringKick, 5, u64s(0)), frame(setVringCall, 5, u64s(0)), frame(setVringEnable, 0, u32s(0, 1)),
	} {
		start = append(start, p...)
	}
	f.Add(start)
	f.Add(append(start, frame(getVringBase, 0, u32s(0, 0))...))
	f.Add(append(start, frame(setLogBase, 1, u64s(pageSize, 0))...))
	f.Add(append(start, frame(getConfig, 0, append(u32s(0, 8, 0), 0, 0, 0, 0, 0, 0, 0, 0))...))
	f.Add(append(features, frame(getFeatures, 0, nil)...))
	f.Add([]byte{9, 12, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		fr := newDiskFront(t, Options{Logging: true})
		event := eventFD(t)
		signal(event)
		read := make(chan struct{})
		go func() { // QEMU reads the answers
			defer close(read)
			var p [4096]byte
			for {
				if _, err := fr.conn.Read(p[:]); err != nil {
					return
				}
			}
		}()
		for len(data) > 2 {
			fds := []int{fr.fd, fr.fd, fr.fd, event, event}
			switch n := int(data[0] % 12); {
			case n < 3:
				fds = fds[:n]
			case n < 6:
				fds = fds[3:4]
			default:
				fds = append(fds, fds...)[:n-2]
			}
			n := min(int(data[1])+int(data[0]/12), len(data)-2)
			if n > 0 {
				fr.write(data[2:2+n], fds...)
			}
			data = data[2+n:]
		}
		fr.conn.CloseWrite()
		err := fr.end()
		fr.conn.Close()
		<-read
		checkError(t, err)
	})
}

// checkError holds that an error is the peer's, none of the system's.
func checkError(t *testing.T, err error) {
	t.Helper()
	var protocol *ProtocolError
	var guest *GuestError
	if err != nil && !errors.As(err, &protocol) && !errors.As(err, &guest) {
		t.Errorf("%T: %v", err, err)
	}
}

// FuzzRing runs the queues over guest memory that begins with data, and
// repeats: rings, descriptors and buffers are whatever stands there.
func FuzzRing(f *testing.F) {
	seed := make([]byte, 3*pageSize)
	for i, d := range []struct {
		gpa         uint64
		len         uint32
		flags, next uint16
	}{{pageSize + 0x800, 16, descNext, 1}, {0xa000, 1024, descNext | descWrite, 2}, {0xb000, 1, descWrite, 0}} {
		p := seed[16*i:]
		binary.LittleEndian.PutUint64(p, d.gpa)
		binary.LittleEndian.PutUint32(p[8:], d.len)
		binary.LittleEndian.PutUint16(p[12:], d.flags)
		binary.LittleEndian.PutUint16(p[14:], d.next)
	}
	seed[availGPA+2] = 3
	f.Add(seed, uint16(0), false)
	f.Add(seed, uint16(0), true)
	f.Add([]byte("\x00\x00\x02\x00\x00\x00\x00\x00\x00\x02\x00\x00\x02\x00\x01\x00"), uint16(0x1fc), false)
	f.Fuzz(func(t *testing.T, data []byte, next uint16, card bool) {
		fd, file := memFile(t, fileLen)
		defer unix.Close(fd)
		defer unix.Munmap(file)
		for at := 0; len(data) > 0 && at < len(file); at += len(data) {
			copy(file[at:], data)
		}
		guards := []int{0, int(regionOffset[1]) - pageSize, fileLen - pageSize}
		for _, g := range guards {
			for i := range pageSize {
				file[g+i] = guard
			}
		}
		b := NewDisk(nil, Disk{diskSectors, pattern}, Options{Logging: true})
		if card {
			c := NewCard(nil, Options{Logging: true})
			for range 3 {
				c.pending = append(c.pending, &frame{make([]byte, 60), make(chan struct{})})
			}
			b = c.Backend
		}
		s := &session{Backend: b, features: plain | logAll, start: time.Now(), log: make(dirtyLog, 64)}
		mem, err := mapRegions(&message{payload: memTable(), fds: []int{fd, fd}})
		if err != nil {
			t.Fatal(err)
		}
		defer mem.unmap()
		s.mem = mem
		for i := range b.device.queues() {
			q := &queue{index: i, size: queueSize, next: next, kick: 1 << 20, call: -1, er: -1, enabled: true,
				addr: ringAddr{uva(descGPA), uva(usedGPA), uva(availGPA), usedGPA, true}}
			for more := true; more; {
				if more, err = s.run(q); err != nil {
					t.Fatal(err) // the guest can't cause a *ProtocolError
				}
			}
		}
		for _, g := range guards {
			for i := range pageSize {
				if file[g+i] != guard {
					t.Fatalf("guard page at %#x was written", g)
				}
			}
		}
		checkError(t, s.broken)
	})
}
