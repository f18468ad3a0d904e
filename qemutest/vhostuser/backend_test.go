package vhostuser

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDisk(t *testing.T) {
	f := newDiskFront(t, Options{})
	f.negotiate()
	config := f.ask(getConfig, append(u32s(0, 60, 0), make([]byte, 60)...))
	if got := binary.LittleEndian.Uint64(config[configHeader:]); got != diskSectors || len(config) != configHeader+60 {
		t.Errorf("%d sectors in a configuration of %d bytes", got, len(config))
	}
	d := f.start(0)
	content := func(offset int64, n int) []byte {
		p := make([]byte, n)
		pattern(p, offset)
		return p
	}
	blank := bytes.Repeat([]byte{0xee}, 4096)
	for _, test := range []struct {
		name         string
		kind         uint32
		sector       uint64
		gpa          uint64
		len          uint32
		write        bool
		status       byte
		want         []byte
		acrossRegion bool
	}{
		{"read", blkIn, 7, 0xa000, 4096, true, blkOK, content(7*512, 4096), false},
		{"unaligned", blkIn, 1 << 18, 0xa123, 512, true, blkOK, content(1<<27, 512), false},
		{"two regions", blkIn, 9, regionLen - 512, 1024, true, blkOK, content(9*512, 1024), true},
		{"last", blkIn, diskSectors - 1, 0xa000, 512, true, blkOK, content((diskSectors-1)*512, 512), false},
		{"beyond", blkIn, diskSectors, 0xa000, 512, true, blkIOErr, blank[:512], false},
		{"half beyond", blkIn, diskSectors - 1, 0xa000, 1024, true, blkIOErr, blank[:1024], false},
		{"far beyond", blkIn, 1<<55 + 1, 0xa000, 512, true, blkIOErr, blank[:512], false},
		{"no sector", blkIn, 0, 0xa000, 100, true, blkIOErr, blank[:100], false},
		{"write", blkOut, 0, 0xa000, 512, false, blkIOErr, blank[:512], false},
		{"flush", blkFlsh, 0, 0xa000, 512, true, blkOK, blank[:512], false},
		{"name", blkGetID, 0, 0xa000, 20, true, blkOK, blkID[:], false},
		{"short name", blkGetID, 0, 0xa000, 4, true, blkOK, blkID[:4], false},
		{"discard", 11, 0, 0xa000, 512, true, blkUnsup, blank[:512], false},
	} {
		t.Run(test.name, func(t *testing.T) {
			first := test.len
			if test.acrossRegion {
				first = uint32(regionLen - test.gpa)
			}
			copy(f.guest(test.gpa, uint64(first)), blank)
			d.request(test.kind, test.sector, buffer{test.gpa, test.len, test.write})
			_, n := d.completed()
			got := slices.Clone(f.guest(test.gpa, uint64(first)))
			if test.acrossRegion {
				got = append(got, f.guest(regionLen, uint64(test.len-first))...)
			}
			if !bytes.Equal(got, test.want) {
				t.Errorf("the data is %x…", got[:min(len(got), 32)])
			}
			if status := f.guest(statusGPA, 1)[0]; status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			want := uint32(1)
			if test.status == blkOK && test.kind != blkFlsh {
				want += test.len
			}
			if n != want {
				t.Errorf("%d bytes are said to be written, want %d", n, want)
			}
		})
	}
	f.conn.Close()
	if err := f.end(); err != nil {
		t.Error(err)
	}
	if writes, all := f.back.Writes(); len(writes) != 0 || !all {
		t.Errorf("%d writes are noted without logging", len(writes))
	}
}

// A request is the same however the driver cuts it into descriptors.
func TestDiskLayouts(t *testing.T) {
	f := newDiskFront(t, Options{})
	f.negotiate()
	d := f.start(0)
	want := make([]byte, 1024)
	pattern(want, 512)
	for _, cut := range []struct{ head, tail []buffer }{
		{[]buffer{{headerGPA, 16, false}}, []buffer{{0xa000, 1025, true}}},
		{[]buffer{{headerGPA, 3, false}, {headerGPA + 3, 13, false}}, []buffer{{0xa000, 5, true}, {0xa005, 1019, true}, {0xa400, 1, true}}},
		{[]buffer{{headerGPA, 20, false}}, []buffer{{0xa000, 1024, true}, {0xa400, 1, true}}},
	} {
		clear(f.guest(0xa000, 4096))
		f.guest(0xa400, 1)[0] = 0xee
		copy(f.guest(headerGPA, 16), append(u32s(blkIn, 0), u64s(1)...))
		d.post(2, append(cut.head, cut.tail...)...)
		if head, n := d.completed(); head != 2 || n != 1025 {
			t.Errorf("%v: head %d, %d bytes", cut, head, n)
		}
		if !bytes.Equal(f.guest(0xa000, 1024), want) || f.guest(0xa400, 1)[0] != blkOK {
			t.Errorf("%v: wrong data", cut)
		}
	}
}

func TestCard(t *testing.T) {
	f, c := newCardFront(t, Options{})
	f.negotiate()
	rx, tx := f.start(netReceive), f.start(netTransmit)
	frames := [][]byte{bytes.Repeat([]byte{1}, minFrame), bytes.Repeat([]byte{2}, maxFrame), bytes.Repeat([]byte{3}, 100)}

	// A buffer that waits, one in two pieces, and one that comes later.
	rx.post(0, buffer{0xa000, 1600, true})
	rx.post(4, buffer{0xb000, 20, true}, buffer{0xc000, 4096, true})
	sent := make(chan error)
	go func() {
		for _, p := range frames {
			sent <- c.Send(t.Context(), p)
		}
	}()
	check := func(got, frame []byte) {
		t.Helper()
		header := make([]byte, netHeader)
		header[netNumBuffers] = 1
		if !bytes.Equal(got, append(header, frame...)) {
			t.Errorf("received %x", got)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if head, n := rx.completed(); head != 0 || n != netHeader+minFrame {
		t.Errorf("head %d, %d bytes", head, n)
	}
	check(f.guest(0xa000, netHeader+minFrame), frames[0])
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if head, n := rx.completed(); head != 4 || n != netHeader+maxFrame {
		t.Errorf("head %d, %d bytes", head, n)
	}
	check(append(slices.Clone(f.guest(0xb000, 20)), f.guest(0xc000, netHeader+maxFrame-20)...), frames[1])
	select {
	case err := <-sent:
		t.Fatalf("sent without a buffer: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	rx.post(8, buffer{0xd000, 1600, true})
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	rx.completed()
	check(f.guest(0xd000, netHeader+100), frames[2])

	tx.post(0, buffer{0xa000, 112, false})
	if head, n := tx.completed(); head != 0 || n != 0 {
		t.Errorf("transmitted: head %d, %d bytes", head, n)
	}

	for _, n := range []int{0, minFrame - 1, maxFrame + 1} {
		if err := c.Send(t.Context(), make([]byte, n)); err == nil {
			t.Errorf("sent a frame of %d bytes", n)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Send(ctx, frames[0]); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
	// What was given up must not come later.
	rx.post(0, buffer{0xa000, 1600, true})
	if err := c.Send(t.Context(), frames[2]); err != nil {
		t.Error(err)
	}
	if _, n := rx.completed(); n != netHeader+100 {
		t.Errorf("%d bytes", n)
	}
	f.conn.Close()
	if err := f.end(); err != nil {
		t.Error(err)
	}
	if err := c.Send(t.Context(), frames[0]); !errors.Is(err, errServed) {
		t.Errorf("got %v, want errServed", err)
	}
}

func TestLogging(t *testing.T) {
	for _, logging := range []bool{true, false} {
		t.Run(fmt.Sprint("logging ", logging), func(t *testing.T) {
			f := newDiskFront(t, Options{Logging: logging})
			f.negotiate()
			d := f.start(0)
			read := func() {
				d.request(blkIn, 8, buffer{0xbe00, 1024, true}, buffer{regionLen - 512, 2048, true})
				d.completed()
			}
			read()
			if f.back.isLogging() {
				t.Error("logging before it was switched on")
			}
			f.logOn(2*regionPages, d)
			if err := f.back.WaitLogging(t.Context(), true); err != nil {
				t.Error(err)
			}
			read()
			want := []int{2, statusGPA / pageSize, 0xb, 0xc, regionPages - 1, regionPages}
			if !logging {
				want = nil
			}
			slices.Sort(want)
			// The bits are set before the used ring is seen, but those of the ring itself
			// after it: an answer comes behind both.
			f.tell(setOwner, nil)
			if got := f.dirty(); !slices.Equal(got, want) {
				t.Errorf("dirty pages %v, want %v", got, want)
			}
			writes, all := f.back.Writes()
			for i, w := range writes {
				if w.At <= 0 || i > 0 && w.At < writes[i-1].At {
					t.Errorf("%d at %v", i, w.At)
				}
				writes[i].At = 0
			}
			entry := uint64(4 + 8*(d.used-1))
			if wanted := []Write{
				{0xbe00, 1024, Data, 8 * 512, 0, 0},
				{regionLen - 512, 2048, Data, 10 * 512, 0, 0},
				{statusGPA, 1, Status, 8 * 512, 0, 0},
				{usedGPA + entry, 8, Ring, NoSource, 0, 0},
				{usedGPA, 4, Ring, NoSource, 0, 0},
			}; !slices.Equal(writes, wanted) || !all {
				t.Errorf("writes %v, want %v", writes, wanted)
			}

			// Without its flag the ring is not logged.
			clear(f.log)
			f.tell(setVringAddr, d.addr(0))
			read()
			f.tell(setOwner, nil)
			if got := f.dirty(); logging && slices.Contains(got, 2) {
				t.Errorf("dirty pages %v: the ring is logged", got)
			}
			clear(f.log)
			f.tell(setFeatures, u64s(plain))
			read()
			f.tell(setOwner, nil)
			if got := f.dirty(); got != nil {
				t.Errorf("dirty pages %v without logging", got)
			}
			if err := f.back.WaitLogging(t.Context(), false); err != nil {
				t.Error(err)
			}
			if writes, _ := f.back.Writes(); len(writes) != 10 {
				t.Errorf("%d writes, want 10", len(writes))
			}
		})
	}
}

func TestCardLogging(t *testing.T) {
	f, c := newCardFront(t, Options{Logging: true})
	f.negotiate()
	rx := f.start(netReceive)
	f.logOn(2*regionPages, rx)
	for range 2 {
		rx.post(0, buffer{0xaff8, 1600, true})
		if err := c.Send(t.Context(), make([]byte, 60)); err != nil {
			t.Fatal(err)
		}
		rx.completed()
	}
	f.tell(setOwner, nil)
	if got, want := f.dirty(), []int{2, 0xa, 0xb}; !slices.Equal(got, want) {
		t.Errorf("dirty pages %v, want %v", got, want)
	}
	writes, _ := c.Writes()
	for i := range writes {
		writes[i].At = 0
	}
	if want := []Write{
		{0xaff8, 12, Header, 0, 0, 0}, {0xb004, 60, Data, 0, 0, 0}, {usedGPA + 4, 8, Ring, NoSource, 0, 0}, {usedGPA, 4, Ring, NoSource, 0, 0},
		{0xaff8, 12, Header, 1, 0, 0}, {0xb004, 60, Data, 1, 0, 0}, {usedGPA + 12, 8, Ring, NoSource, 0, 0}, {usedGPA, 4, Ring, NoSource, 0, 0},
	}; !slices.Equal(writes, want) {
		t.Errorf("writes %v, want %v", writes, want)
	}
}

// With logging on and no log yet, a logging device holds still.
func TestLoggingWaitsForLog(t *testing.T) {
	f := newDiskFront(t, Options{Logging: true})
	f.negotiate()
	f.tell(setFeatures, u64s(plain|logAll))
	d := f.start(0)
	f.tell(setVringAddr, d.addr(1))
	d.request(blkIn, 0, buffer{0xa000, 512, true})
	f.tell(setOwner, nil)
	f.tell(setOwner, nil)
	if got := d.guest(usedGPA+2, 1)[0]; got != 0 {
		t.Error("it ran without a log")
	}
	f.logOn(2*regionPages, d)
	d.completed()
	f.tell(setOwner, nil)
	if got, want := f.dirty(), []int{2, 8, 0xa}; !slices.Equal(got, want) {
		t.Errorf("dirty pages %v, want %v", got, want)
	}
	// QEMU's log is gone when logging ends: it is not written again.
	clear(f.log)
	f.tell(setFeatures, u64s(plain))
	f.tell(setFeatures, u64s(plain|logAll))
	d.request(blkIn, 0, buffer{0xa000, 512, true})
	f.tell(setOwner, nil)
	f.tell(setOwner, nil)
	if got := load16(f.guest(usedGPA, 4), 2); got != d.used || f.dirty() != nil {
		t.Errorf("it ran with the old log: %v", f.dirty())
	}
}

// SeaBIOS drives the device first, then Linux, with other memory.
func TestRestart(t *testing.T) {
	f := newDiskFront(t, Options{})
	f.negotiate()
	d := f.start(0)
	for range 3 * queueSize {
		d.request(blkIn, 0, buffer{0xa000, 512, true})
		d.completed()
	}
	if got := d.stop(); got != 3*queueSize {
		t.Errorf("stopped at %d, want %d", got, 3*queueSize)
	}
	// What is offered now must wait.
	d.request(blkIn, 1, buffer{0xa000, 512, true})
	f.tell(setOwner, nil)
	if got := load16(f.guest(usedGPA, pageSize), 2); got != d.used {
		t.Error("it ran after it was stopped")
	}
	d.next--
	f.tell(setVringEnable, u32s(0, 0))
	f.tell(setMemTable, memTable(), f.fd, f.fd)
	drain(d.kick)
	d.restart()
	d.next++
	// It runs without another kick.
	if _, n := d.completed(); n != 513 {
		t.Errorf("%d bytes", n)
	}
	// A kick while it is disabled is not lost.
	f.tell(setVringEnable, u32s(0, 0))
	d.request(blkIn, 1, buffer{0xa000, 512, true})
	f.tell(setOwner, nil)
	if got := load16(f.guest(usedGPA, pageSize), 2); got != d.used {
		t.Error("it ran while it was disabled")
	}
	f.tell(setVringEnable, u32s(0, 1))
	d.completed()
	// A new memory table while it runs.
	f.tell(setMemTable, memTable(), f.fd, f.fd)
	d.request(blkIn, 1, buffer{0xa000, 512, true})
	d.completed()
	// A new driver, that begins at 0.
	d.stop()
	clear(f.guest(0, 3*pageSize))
	d.next, d.used = 0, 0
	d.restart()
	d.request(blkIn, 1, buffer{0xa000, 512, true})
	d.completed()
}

func TestInterrupt(t *testing.T) {
	f := newDiskFront(t, Options{})
	f.negotiate()
	d := f.start(0)
	d.request(blkFlsh, 0)
	call := []unix.PollFd{{Fd: int32(d.call), Events: unix.POLLIN}}
	if err := poll(call, int(limit.Milliseconds())); err != nil || call[0].Revents != unix.POLLIN {
		t.Fatalf("no interrupt: %v", err)
	}
	drain(d.call)

	d.guest(availGPA, 1)[0] = availNoInterrupt
	d.request(blkFlsh, 0)
	f.tell(setOwner, nil)
	f.tell(setOwner, nil)
	var p [8]byte
	if _, err := unix.Read(d.call, p[:]); err != unix.EAGAIN || load16(f.guest(usedGPA, 4), 2) != 2 {
		t.Errorf("interrupted, or not done: %v", err)
	}
}

func TestContext(t *testing.T) {
	for _, half := range []bool{false, true} {
		back, conn := connections(t)
		defer conn.Close()
		if half {
			conn.Write([]byte{1, 0, 0})
		}
		ctx, cancel := context.WithCancel(t.Context())
		b := NewDisk(back, Disk{1, pattern}, Options{})
		done := newDone()
		go func() { done <- b.Serve(ctx) }()
		time.Sleep(5 * time.Millisecond)
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(limit):
			t.Fatal("Serve does not end with its context")
		}
		if err := b.Serve(t.Context()); err == nil {
			t.Error("Serve ran twice")
		}
		if err := b.WaitLogging(t.Context(), true); !errors.Is(err, errServed) {
			t.Errorf("WaitLogging: %v", err)
		}
	}
}

func TestWritesBounded(t *testing.T) {
	b := NewDisk(nil, Disk{}, Options{})
	for i := range maxWrites + 1 {
		b.record(Write{GPA: uint64(i) * 8192, Len: 1})
	}
	if writes, all := b.Writes(); len(writes) != maxWrites || all {
		t.Errorf("%d writes, all %v", len(writes), all)
	}
}

// held counts descriptors, shared mappings of memfds, and goroutines.
func held(t *testing.T) [3]int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return [3]int{len(fds), strings.Count(string(maps), "memfd:guest"), runtime.NumGoroutine()}
}

// settled is what is held when the goroutines of the tests before have ended: when it
// has been the same for a while.
func settled(t *testing.T) [3]int {
	t.Helper()
	now, since := held(t), time.Now()
	for time.Since(since) < 200*time.Millisecond {
		time.Sleep(time.Millisecond)
		if next := held(t); next != now {
			now, since = next, time.Now()
		}
	}
	return now
}

func TestNoLeak(t *testing.T) {
	before := settled(t)
	for _, end := range []func(f *front){
		func(f *front) { f.conn.Close() },
		func(f *front) { f.send(setMemTable, version, memTable(), f.fd) },
		func(f *front) { f.send(request(99), version, nil, f.fd, f.fd, f.fd) },
		func(f *front) { f.send(setLogBase, version, u64s(1<<40, 0), f.fd) },
		func(f *front) { f.write([]byte{1, 0, 0}, f.fd); f.conn.Close() },
		func(f *front) { f.send(setFeatures, version, u64s(1<<40), slices.Repeat([]int{f.fd}, 50)...) },
	} {
		t.Run("", func(t *testing.T) {
			f := newDiskFront(t, Options{Logging: true})
			f.negotiate()
			d := f.start(0)
			d.restart()
			f.tell(setBackendReqFD, nil, d.kick)
			f.tell(setBackendReqFD, nil, d.kick)
			f.tell(setVringErr, u64s(0), d.call)
			f.tell(setVringCall, u64s(1<<8))
			f.tell(setLogFD, nil, d.call)
			f.tell(setMemTable, memTable(), f.fd, f.fd)
			f.logOn(2*regionPages, d)
			end(f)
			f.end()
		})
	}
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		after := held(t)
		if after == before {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("descriptors, mappings, goroutines: %v before, %v after", before, after)
		}
	}
}

// Disk reads with a content that costs nothing but the copy: one chain at a
// time, with a kick and an interrupt each, and as many as the queue has room for.
func BenchmarkDisk(b *testing.B) {
	content := make([]byte, 1<<16)
	for _, test := range []struct {
		name  string
		len   uint32
		depth int
	}{{"4K", 4096, 1}, {"64K", 65536, 1}, {"64K of 5", 65536, 5}} {
		b.Run(test.name, func(b *testing.B) {
			f := newFront(b, func(conn *net.UnixConn) *Backend {
				return NewDisk(conn, Disk{diskSectors, func(p []byte, _ int64) { copy(p, content) }}, Options{})
			})
			f.negotiate()
			d := f.start(0)
			b.SetBytes(int64(test.len) * int64(test.depth))
			copy(d.guest(headerGPA, 16), make([]byte, 16))
			for b.Loop() {
				for i := range test.depth {
					d.post(3*i, buffer{headerGPA, 16, false}, buffer{0xa000, test.len, true}, buffer{statusGPA, 1, true})
				}
				for range test.depth {
					d.completed()
				}
			}
		})
	}
}

// TestMergedFrame: a frame that needs three buffers comes when there are three,
// all at once.
func TestMergedFrame(t *testing.T) {
	f, c := newCardFront(t, Options{})
	f.negotiate()
	rx := f.start(netReceive)
	frame := make([]byte, 300)
	for i := range frame {
		frame[i] = byte(i)
	}
	rx.post(0, buffer{0xa000, 100, true})
	rx.post(1, buffer{0xb000, 100, true})
	sent := make(chan error, 1)
	go func() { sent <- c.Send(t.Context(), frame) }()
	select {
	case err := <-sent:
		t.Fatalf("sent with room for 200 bytes: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if load16(f.guest(usedGPA, 4), 2) != 0 {
		t.Error("some of the buffers are returned before the others")
	}
	rx.post(2, buffer{0xc000, 1000, true})
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint32{100, 100, 112} {
		if head, n := rx.completed(); head != uint32(i) || n != want {
			t.Errorf("head %d, %d bytes; want %d, %d", head, n, i, want)
		}
	}
	header := make([]byte, netHeader)
	header[netNumBuffers] = 3
	got := slices.Concat(f.guest(0xa000, 100), f.guest(0xb000, 100), f.guest(0xc000, 112))
	if !bytes.Equal(got, append(header, frame...)) {
		t.Errorf("received %x", got)
	}
}

func (b *Backend) isLogging() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.logging
}
