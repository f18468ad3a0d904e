package vhostuser

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProtocolErrors(t *testing.T) {
	region := func(gpa, size, uva, offset uint64) []byte {
		return append(u32s(1, 0), u64s(gpa, size, uva, offset)...)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	const page, top = pageSize, 1<<64 - pageSize
	for _, test := range []struct {
		name    string
		request request
		flags   uint32
		payload []byte
		fds     int // copies of the memory's; -1 is /dev/null
		want    string
	}{
		{"version", getFeatures, 2, nil, 0, "flags 0x2"},
		{"a reply", getFeatures, version | replyFlag, nil, 0, "flags 0x5"},
		{"flags", getFeatures, version | 1<<20, nil, 0, "flags 0x100001"},
		{"no request", 0, version, nil, 0, "message 0: not offered"},
		{"unknown", 4711, version, nil, 0, "message 4711: not offered"},
		{"not offered", 17, version, nil, 0, "GET_QUEUE_NUM: not offered"},
		{"status", 39, version, u64s(0), 0, "SET_STATUS: not offered"},
		{"short", setFeatures, version, u32s(1), 0, "payload of 4 bytes, want 8"},
		{"long", getFeatures, version, u32s(1), 0, "payload of 4 bytes, want 0"},
		{"huge", getFeatures, version, make([]byte, maxPayload+1), 0, "at most 268"},
		{"a descriptor", getFeatures, version, nil, 1, "1 file descriptors, want 0"},
		{"descriptors", setMemTable, version, memTable(), 9, "more than 8"},
		{"features", setFeatures, version, u64s(plain | 1<<63), 0, "0x8000000000000000 were not offered"},
		{"IOMMU", setFeatures, version, u64s(plain | accessPlatform), 0, "virtual IOMMU"},
		{"legacy", setFeatures, version, u64s(protocolFeatures), 0, "VERSION_1"},
		{"protocol features", setProtocolFeatures, version, u64s(1), 0, "0x1 were not offered"},
		{"regions cut", setMemTable, version, u32s(1), 1, "want at least 8"},
		{"regions", setMemTable, version, u32s(9, 0), 8, "9 regions"},
		{"regions", setMemTable, version, u32s(1<<32-1, 0), 8, "4294967295 regions"},
		{"region missing", setMemTable, version, u32s(1, 0), 1, "want 40 for 1 regions"},
		{"region without file", setMemTable, version, memTable(), 1, "1 file descriptors for 2"},
		{"region empty", setMemTable, version, region(0, 0, 0, 0), 1, "not whole pages"},
		{"region odd", setMemTable, version, region(8, page, 0, 0), 1, "not whole pages"},
		{"region odd", setMemTable, version, region(0, page+8, 0, 0), 1, "not whole pages"},
		{"region odd", setMemTable, version, region(0, page, 8, 0), 1, "not whole pages"},
		{"offset odd", setMemTable, version, region(0, page, 0, 8), 1, "not whole pages"},
		{"region overflow", setMemTable, version, region(top, 2*page, 0, 0), 1, "beyond the end"},
		{"region overflow", setMemTable, version, region(0, 2*page, top, 0), 1, "beyond the end"},
		{"region beyond", setMemTable, version, region(0, fileLen+page, 0, 0), 1, "beyond the file"},
		{"region beyond", setMemTable, version, region(0, page, 0, fileLen), 1, "beyond the file"},
		{"region beyond", setMemTable, version, region(0, page, 0, top), 1, "beyond the file"},
		{"region beyond", setMemTable, version, region(0, 1<<62, 0, 0), 1, "beyond the file"},
		{"region huge", setMemTable, version, region(0, top, 0, 0), 1, "cannot map"},
		{"region of what", setMemTable, version, region(0, page, 0, 0), -1, "no file"},
		{"region overlap", setMemTable, version, append(u32s(2, 0), u64s(0, 2*page, 0, 0, page, page, 2*page, 0)...), 2, "overlaps"},
		{"region overlap", setMemTable, version, append(u32s(2, 0), u64s(0, 2*page, 0, 0, 2*page, page, page, 0)...), 2, "overlaps"},
		{"log without file", setLogBase, version, u64s(8, 0), 0, "0 file descriptors, want 1"},
		{"log empty", setLogBase, version, u64s(0, 0), 1, "not whole pages"},
		{"log odd", setLogBase, version, u64s(12, 0), 1, "whole words"},
		{"log odd", setLogBase, version, u64s(8, 8), 1, "not whole pages"},
		{"log beyond", setLogBase, version, u64s(page, fileLen), 1, "beyond the file"},
		{"log overflow", setLogBase, version, u64s(page, top), 1, "beyond the file"},
		{"log of what", setLogBase, version, u64s(page, 0), -1, "no file"},
		{"config cut", getConfig, version, u32s(0), 0, "want at least 12"},
		{"config missing", getConfig, version, u32s(0, 8, 0), 0, "for 8 at 0"},
		{"config beyond", getConfig, version, append(u32s(249, 8, 0), 0, 0, 0, 0, 0, 0, 0, 0), 0, "for 8 at 249"},
		{"config overflow", getConfig, version, append(u32s(1<<32-1, 8, 0), 0, 0, 0, 0, 0, 0, 0, 0), 0, "for 8 at 4294967295"},
		{"queue", setVringNum, version, u32s(1, 16), 0, "queue 1, there are 1"},
		{"queue", getVringBase, version, u32s(1<<32-1, 0), 0, "queue 4294967295"},
		{"queue of eventfd", setVringCall, version, u64s(5), 1, "queue 5"},
		{"queue size", setVringNum, version, u32s(0, 0), 0, "power of 2"},
		{"queue size", setVringNum, version, u32s(0, 12), 0, "power of 2"},
		{"queue size", setVringNum, version, u32s(0, 1<<16), 0, "power of 2"},
		{"queue index", setVringBase, version, u32s(0, 1<<16), 0, "16 bits"},
		{"queue flags", setVringAddr, version, append(u32s(0, 2), u64s(0, 0, 0, 0)...), 0, "flags 0x2"},
		{"enable", setVringEnable, version, u32s(0, 2), 0, "neither"},
		{"kick without", setVringKick, version, u64s(0), 0, "0 file descriptors, want 1"},
		{"kick by polling", setVringKick, version, u64s(1 << 8), 0, "polling"},
		{"kick too much", setVringKick, version, u64s(1 << 8), 1, "1 file descriptors, want 0"},
		{"kick bits", setVringKick, version, u64s(1 << 9), 1, "low 9 bits"},
		{"kick of a file", setVringKick, version, u64s(0), 1, "no nonblocking"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newDiskFront(t, Options{})
			f.negotiate()
			fds := make([]int, max(test.fds, 0))
			for i := range fds {
				fds[i] = f.fd
			}
			if test.fds < 0 {
				fds = []int{int(null.Fd())}
			}
			f.send(test.request, test.flags, test.payload, fds...)
			f.wantProtocolError(test.request, test.want)
		})
	}
}

func (f *front) wantProtocolError(r request, want string) {
	f.Helper()
	err := f.end()
	var protocol *ProtocolError
	if !errors.As(err, &protocol) || protocol.Request != r.String() || !strings.Contains(err.Error(), want) {
		f.Errorf("got %v, want a *ProtocolError of %v: %s", err, r, want)
	}
}

func TestNotAccepted(t *testing.T) {
	for _, test := range []struct {
		request request
		payload []byte
		fds     int
	}{
		{setLogBase, u64s(pageSize, 0), 1}, {setBackendReqFD, nil, 1}, {getConfig, u32s(0, 0, 0), 0},
	} {
		f := newDiskFront(t, Options{})
		f.send(test.request, version, test.payload, []int{f.fd}[:test.fds]...)
		f.wantProtocolError(test.request, "was not accepted")
	}
	f, _ := newCardFront(t, Options{})
	f.send(setProtocolFeatures, version, u64s(protoConfig))
	f.wantProtocolError(setProtocolFeatures, "not offered")
}

func TestCutMessage(t *testing.T) {
	f := newDiskFront(t, Options{})
	f.negotiate()
	f.write(u32s(uint32(setFeatures), version, 8, 0))
	f.conn.Close()
	f.wantProtocolError(setFeatures, "the connection ends within the message")
}

// A message may come in pieces.
func TestPieces(t *testing.T) {
	f := newDiskFront(t, Options{})
	for _, b := range u32s(uint32(getFeatures), version, 0) {
		f.write([]byte{b})
		time.Sleep(time.Millisecond)
	}
	f.answer(getFeatures)
}

func TestSetConfig(t *testing.T) {
	f := newDiskFront(t, Options{})
	f.negotiate()
	f.send(setConfig, version|needReply, append(u32s(0, 1, 0), 1))
	if got := f.answer(setConfig); binary.LittleEndian.Uint64(got) == 0 {
		t.Error("the configuration could be set")
	}
}

func TestUnreadAnswers(t *testing.T) {
	f := newDiskFront(t, Options{})
	f.conn.SetWriteDeadline(time.Now().Add(limit))
	for {
		_, err := f.conn.Write(u32s(uint32(getFeatures), version, 0))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the back-end waits for QEMU to read")
		}
		if err != nil {
			break
		}
	}
	f.wantProtocolError(getFeatures, "answers are not read")
}

func TestRingErrors(t *testing.T) {
	ok := buffer{headerGPA, 16, false}
	for _, test := range []struct {
		name string
		do   func(d *driver)
		want string
	}{
		{"index", func(d *driver) { d.setAvail(queueSize + 1) }, "more than 16 entries ahead"},
		{"index backwards", func(d *driver) { d.setAvail(0xffff) }, "more than 16 entries ahead"},
		{"head", func(d *driver) { d.offer(queueSize) }, "descriptor 16, there are 16"},
		{"next", func(d *driver) { d.setDesc(0, headerGPA, 16, descNext, 0xffff); d.offer(0) }, "descriptor 65535"},
		{"loop of one", func(d *driver) { d.setDesc(0, headerGPA, 16, descNext, 0); d.offer(0) }, "loops"},
		{"loop", func(d *driver) {
			d.setDesc(0, headerGPA, 16, descNext, 1)
			d.setDesc(1, headerGPA, 16, descNext, 0)
			d.offer(0)
		}, "loops"},
		{"indirect", func(d *driver) { d.setDesc(0, headerGPA, 16, 4, 0); d.offer(0) }, "indirect"},
		{"empty", func(d *driver) { d.post(0, buffer{headerGPA, 0, false}) }, "more than 0"},
		{"huge", func(d *driver) { d.post(0, buffer{headerGPA, 1<<32 - 1, false}) }, "at most"},
		{"hole", func(d *driver) { d.post(0, buffer{memoryLen, 16, false}) }, "not all memory"},
		{"over the end", func(d *driver) { d.post(0, buffer{memoryLen - 8, 16, false}) }, "not all memory"},
		{"overflow", func(d *driver) { d.post(0, buffer{1<<64 - 8, 16, false}) }, "not all memory"},
		{"written before read", func(d *driver) { d.post(0, ok, buffer{statusGPA, 1, true}, ok) }, "behind one to be written"},
		{"no status", func(d *driver) { d.post(0, ok, buffer{0xa000, 512, false}) }, "status to write"},
		{"no header", func(d *driver) { d.post(0, buffer{statusGPA, 1, true}) }, "header of 16 bytes"},
		{"short header", func(d *driver) { d.post(0, buffer{headerGPA, 15, false}, buffer{statusGPA, 1, true}) }, "header of 16 bytes"},
		{"misaligned", func(d *driver) {
			d.tell(setVringAddr, append(u32s(0, 0), u64s(uva(8), uva(usedGPA), uva(availGPA), usedGPA)...))
		}, "not aligned to 16"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newDiskFront(t, Options{})
			f.negotiate()
			d := f.start(0)
			broken := eventFD(t)
			f.tell(setVringErr, u64s(0), broken)
			test.do(d)
			if err := poll([]unix.PollFd{{Fd: int32(broken), Events: unix.POLLIN}}, int(limit.Milliseconds())); err != nil {
				t.Fatal(err)
			}
			if err := drain(broken); err != nil {
				t.Error(err)
			}
			// QEMU is still answered, the queue is not.
			f.tell(setOwner, nil)
			d.request(blkFlsh, 0)
			f.tell(setOwner, nil)
			if load16(f.guest(usedGPA, 4), 2) != 0 {
				t.Error("the broken queue goes on")
			}
			// A new driver can have it.
			if got := d.stop(); got != 0 {
				t.Errorf("stopped at %d", got)
			}
			clear(f.guest(0, 3*pageSize))
			d.next = 0
			d.restart()
			d.request(blkFlsh, 0)
			d.completed()
			f.conn.Close()
			var guest *GuestError
			if err := f.end(); !errors.As(err, &guest) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a *GuestError: %s", err, test.want)
			}
		})
	}
}

func TestShortReceiveBuffer(t *testing.T) {
	broken := make(chan *GuestError, 1)
	f, c := newCardFront(t, Options{Broken: func(e *GuestError) { broken <- e }})
	f.negotiate()
	rx := f.start(netReceive)
	rx.post(0, buffer{0xa000, netHeader - 1, true})
	sent := make(chan error)
	go func() { sent <- c.Send(t.Context(), make([]byte, 60)) }()
	if e := <-broken; e.Queue != netReceive {
		t.Errorf("told of %v", e)
	}
	f.conn.Close()
	var guest *GuestError
	if err := f.end(); !errors.As(err, &guest) || guest.Queue != netReceive || !strings.Contains(err.Error(), "buffer of 11 bytes") {
		t.Errorf("got %v", err)
	}
	if err := <-sent; !errors.Is(err, errServed) {
		t.Errorf("Send: %v", err)
	}
}

func TestRingOutside(t *testing.T) {
	for _, uva := range []uint64{0, regionUVA[0] + regionLen - 16, regionUVA[1] + regionLen, 1<<64 - 16} {
		f := newDiskFront(t, Options{})
		f.negotiate()
		f.start(0)
		f.send(setVringAddr, version, append(u32s(0, 0), u64s(uva, regionUVA[0]+usedGPA, regionUVA[0]+availGPA, usedGPA)...))
		f.wantProtocolError(setVringAddr, "is in no region")
	}
}

func TestLogTooSmall(t *testing.T) {
	f := newDiskFront(t, Options{Logging: true})
	f.negotiate()
	d := f.start(0)
	fd, log := memFile(t, pageSize)
	defer unix.Close(fd)
	defer unix.Munmap(log)
	f.ask(setLogBase, u64s(8, 0), fd)
	f.tell(setFeatures, u64s(plain|logAll))
	f.tell(setVringAddr, append(u32s(0, 1), u64s(uva(descGPA), uva(usedGPA), uva(availGPA), 1<<64-4)...))
	d.request(blkFlsh, 0)
	f.wantProtocolError(setLogBase, "has no bit")
}

// A kick that can be read and is no eventfd.
func TestKickOfPipe(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	f := newDiskFront(t, Options{})
	f.negotiate()
	d := f.start(0)
	unix.Write(p[1], []byte("kick"))
	f.send(setVringKick, version, u64s(uint64(d.index)), p[0])
	f.wantProtocolError(setVringKick, "no eventfd")
	unix.Close(p[0])
	unix.Close(p[1])
}

func TestTruncatedMemory(t *testing.T) {
	f := newDiskFront(t, Options{})
	f.negotiate()
	d := f.start(0)
	fd, file := memFile(t, 2*pageSize)
	defer unix.Close(fd)
	defer unix.Munmap(file)
	table := append(u32s(3, 0), memTable()[8:]...)
	table = append(table, u64s(1<<30, 2*pageSize, 1<<30, 0)...)
	f.tell(setMemTable, table, f.fd, f.fd, fd)
	if err := unix.Ftruncate(fd, pageSize); err != nil {
		t.Fatal(err)
	}
	d.request(blkIn, 0, buffer{1 << 30, 2 * pageSize, true})
	f.wantProtocolError(setMemTable, "has gone")
}

func TestTruncatedLog(t *testing.T) {
	f := newDiskFront(t, Options{Logging: true})
	f.negotiate()
	d := f.start(0)
	fd, file := memFile(t, pageSize)
	defer unix.Close(fd)
	defer unix.Munmap(file)
	f.ask(setLogBase, u64s(pageSize, 0), fd)
	f.tell(setFeatures, u64s(plain|logAll))
	if err := unix.Ftruncate(fd, 0); err != nil {
		t.Fatal(err)
	}
	d.request(blkFlsh, 0)
	f.wantProtocolError(setLogBase, "has gone")
}
