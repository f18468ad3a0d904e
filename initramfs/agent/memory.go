package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchgen/initramfs/protocol"
)

const pageSize = protocol.PageSize

// newMemory returns locked anonymous memory in small pages, all of which are there.
func newMemory(pages int) ([]byte, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, err
	}
	// More than the guest has would have the kernel kill its first process.
	free := uint64(info.Freeram) * uint64(info.Unit) / pageSize
	if pages < 1 || uint64(pages) > free/8*7 {
		return nil, fmt.Errorf("%d pages of %d bytes: there are %d free, of which one eighth must stay", pages, pageSize, free)
	}
	mem, err := unix.Mmap(-1, 0, pages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d pages: %w", pages, err)
	}
	// EINVAL comes from a kernel that has no huge pages.
	if err = unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = unix.Mlock(mem)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %d pages: %w", pages, err), unix.Munmap(mem))
	}
	return mem, nil
}

func (a *agent) touch(args protocol.TouchArgs) (any, error) {
	if a.buffer != nil {
		return nil, errors.New("there is a buffer already")
	}
	mem, err := newMemory(args.Pages)
	if err != nil {
		return nil, err
	}
	a.buffer = mem
	return a.store(protocol.StoreArgs{Seed: args.Seed})
}

var errNoBuffer = errors.New("there is no buffer yet: ask for " + protocol.OpTouch + " first")

func (a *agent) store(args protocol.StoreArgs) (any, error) {
	if a.buffer == nil {
		return nil, errNoBuffer
	}
	for i := range len(a.buffer) / pageSize {
		protocol.Fill(page(a.buffer, i), args.Seed, uint64(i))
	}
	return nil, nil
}

func page(mem []byte, i int) []byte { return mem[i*pageSize:][:pageSize] }

func (a *agent) heartbeat(args protocol.HeartbeatArgs) (any, error) {
	if a.heart != nil {
		return nil, errors.New("it beats already")
	}
	mem, err := newMemory(args.Pages)
	if err != nil {
		return nil, err
	}
	a.heart = mem
	for i := range args.Pages { // no page is full of zeros, which cost a migration nothing
		binary.LittleEndian.PutUint64(page(mem, i), ^uint64(0))
	}
	begin := time.Now()
	thread(func() {
		for n := 0; ; {
			due := args.Pages
			if args.Rate > 0 {
				due = beats(time.Since(begin), args.Rate, n, args.Pages)
			}
			for range due {
				binary.LittleEndian.PutUint64(page(mem, n%args.Pages), uint64(n)+1)
				n++
			}
			unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
		}
	})
	return nil, nil
}

// beats returns how many pages are to be written now, after so many, that it be the
// rate in pages a second: at most each of them once.
func beats(since time.Duration, rate, done, pages int) int {
	return max(0, min(int(since.Seconds()*float64(rate))-done, pages))
}

func (a *agent) verify(args protocol.VerifyArgs) (any, error) {
	if a.buffer == nil {
		return nil, errNoBuffer
	}
	r := protocol.VerifyResult{Pages: len(a.buffer) / pageSize}
	for i := range r.Pages {
		p := page(a.buffer, i)
		if protocol.Check(p, args.Seed, uint64(i)) {
			continue
		}
		r.Bad++
		if len(r.BadList) < protocol.Reported {
			r.BadList = append(r.BadList, protocol.BadPage{Index: uint64(i), Looks: protocol.Looks(p, args.Seed, args.Old, uint64(i))})
		}
	}
	return r, nil
}

func (a *agent) read(args protocol.ReadArgs) (any, error) {
	if a.buffer == nil {
		return nil, errNoBuffer
	}
	request := args.Request
	if request == 0 {
		request = 1 << 20
	}
	if request < 0 || request%pageSize != 0 {
		return nil, fmt.Errorf("a request of %d bytes is no multiple of %d", request, pageSize)
	}
	f, name, err := a.openDisk()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := protocol.ReadResult{Device: name}
	for r.Bytes < int64(len(a.buffer)) {
		rest := a.buffer[r.Bytes:]
		n, err := io.ReadFull(f, rest[:min(request, len(rest))])
		r.Bytes += int64(n)
		if err != nil {
			return nil, fmt.Errorf("after %d bytes of %d: %w", r.Bytes, len(a.buffer), err)
		}
	}
	return r, nil
}

func (a *agent) addresses() (any, error) {
	buffer, err := locate(a.buffer)
	if err != nil {
		return nil, err
	}
	heart, err := locate(a.heart)
	return protocol.AddressesResult{Buffer: buffer, Heartbeat: heart}, err
}

// locate returns where the pages of mem are in physical memory.
func locate(mem []byte) ([]protocol.Run, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, fmt.Errorf("%w: the kernel needs CONFIG_PROC_PAGE_MONITOR", err)
	}
	defer f.Close()
	entries := make([]byte, len(mem)/pageSize*8)
	first := int64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) / pageSize
	if _, err := f.ReadAt(entries, first*8); err != nil {
		return nil, err
	}
	return parsePagemap(entries)
}

// Bits of an entry of /proc/PID/pagemap: Documentation/admin-guide/mm/pagemap.rst.
const (
	pagemapFrame   = 1<<55 - 1
	pagemapPresent = 1 << 63
)

// parsePagemap returns where the pages are of which these are the entries.
func parsePagemap(entries []byte) ([]protocol.Run, error) {
	var runs []protocol.Run
	for i := 0; i+8 <= len(entries); i += 8 {
		e := binary.NativeEndian.Uint64(entries[i:])
		frame := e & pagemapFrame
		switch {
		case e&pagemapPresent == 0:
			return nil, fmt.Errorf("page %d is not in memory", i/8)
		case frame == 0: // as it reads without CAP_SYS_ADMIN
			return nil, fmt.Errorf("the kernel hides where page %d is", i/8)
		}
		if n := len(runs); n > 0 && runs[n-1][0]+runs[n-1][1] == frame {
			runs[n-1][1]++
		} else {
			runs = append(runs, protocol.Run{frame, 1})
		}
	}
	return runs, nil
}
