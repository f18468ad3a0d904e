package vhostuser

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The guest memory of the tests: two regions that follow one another in guest
// physical addresses and nowhere else, with a guard page on each side in the file.
const (
	regionPages = 32
	regionLen   = regionPages * pageSize
	memoryLen   = 2 * regionLen
	fileLen     = memoryLen + 3*pageSize
	guard       = 0xa5
)

var (
	regionUVA    = [2]uint64{0x7f0000000000, 0x7e0000000000}
	regionOffset = [2]uint64{pageSize, 2*pageSize + regionLen}
)

// Where the driver of the tests has its rings, and buffers behind them.
const (
	queueSize   = 16
	descGPA     = 0x0
	availGPA    = 0x1002 // aligned to 2 only, as the standard permits
	usedGPA     = 0x2000
	queueStride = 0x3000
	bufferGPA   = 0x8000
)

// A front is QEMU and the guest's driver, on the other end of a back-end.
type front struct {
	testing.TB
	conn *net.UnixConn
	back *Backend
	done chan error
	fd   int // of the memory
	file []byte
	log  []byte
}

// limit is how long a test waits for what must come.
const limit = 5 * time.Second

func connections(t testing.TB) (back, front *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = conn.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

func newFront(t testing.TB, make func(*net.UnixConn) *Backend) *front {
	t.Helper()
	back, conn := connections(t)
	f := &front{TB: t, conn: conn, back: make(back), done: newDone()}
	f.fd, f.file = memFile(t, fileLen)
	for i := range f.file {
		f.file[i] = guard
	}
	clear(f.guest(0, regionLen))
	clear(f.guest(regionLen, regionLen))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { f.done <- f.back.Serve(ctx) }()
	t.Cleanup(func() {
		conn.Close()
		cancel()
		<-f.back.served
		for _, i := range []uint64{0, regionOffset[1] - pageSize, fileLen - pageSize} {
			for _, b := range f.file[i : i+pageSize] {
				if b != guard {
					t.Error("a guard page was written")
					break
				}
			}
		}
		unix.Munmap(f.file)
		if f.log != nil {
			unix.Munmap(f.log)
		}
		unix.Close(f.fd)
	})
	return f
}

func newDone() chan error { return make(chan error, 1) }

func memFile(t testing.TB, n int) (int, []byte) {
	t.Helper()
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, int64(n)); err != nil {
		t.Fatal(err)
	}
	p, err := unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	return fd, p
}

// guest returns guest memory, which must lie in one region.
func (f *front) guest(gpa, n uint64) []byte {
	i := gpa / regionLen
	at := regionOffset[i] + gpa%regionLen
	return f.file[at : at+n]
}

func uva(gpa uint64) uint64 { return regionUVA[gpa/regionLen] + gpa%regionLen }

func (f *front) send(r request, flags uint32, payload []byte, fds ...int) {
	f.Helper()
	p := binary.LittleEndian.AppendUint32(nil, uint32(r))
	p = binary.LittleEndian.AppendUint32(p, flags)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(payload)))
	f.write(append(p, payload...), fds...)
}

func (f *front) write(p []byte, fds ...int) {
	f.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := f.conn.WriteMsgUnix(p, oob, nil); err != nil && !errors.Is(err, unix.EPIPE) {
		f.Fatal(err)
	}
}

// ask sends a request that has an answer.
func (f *front) ask(r request, payload []byte, fds ...int) []byte {
	f.Helper()
	f.send(r, version, payload, fds...)
	return f.answer(r)
}

// tell sends a request and awaits the acknowledgement.
func (f *front) tell(r request, payload []byte, fds ...int) {
	f.Helper()
	f.send(r, version|needReply, payload, fds...)
	if p := f.answer(r); len(p) != 8 || binary.LittleEndian.Uint64(p) != 0 {
		f.Fatalf("%v was answered with %x", r, p)
	}
}

func (f *front) answer(r request) []byte {
	f.Helper()
	f.conn.SetReadDeadline(time.Now().Add(limit))
	var header [headerSize]byte
	if _, err := readFull(f.conn, header[:]); err != nil {
		select {
		case end := <-f.done:
			f.Fatalf("no answer to %v: Serve: %v", r, end)
		case <-time.After(limit):
			f.Fatalf("no answer to %v: %v", r, err)
		}
	}
	if got, flags := request(binary.LittleEndian.Uint32(header[0:])), binary.LittleEndian.Uint32(header[4:]); got != r || flags != version|replyFlag {
		f.Fatalf("got an answer to %v with flags %#x, want one to %v", got, flags, r)
	}
	p := make([]byte, binary.LittleEndian.Uint32(header[8:]))
	if _, err := readFull(f.conn, p); err != nil {
		f.Fatal(err)
	}
	return p
}

func readFull(conn *net.UnixConn, p []byte) (int, error) {
	have := 0
	for have < len(p) {
		n, err := conn.Read(p[have:])
		if err != nil {
			return have, err
		}
		have += n
	}
	return have, nil
}

// end awaits the end of Serve.
func (f *front) end() error {
	f.Helper()
	select {
	case err := <-f.done:
		return err
	case <-time.After(limit):
		f.Fatal("Serve does not end")
		return nil
	}
}

func u32s(v ...uint32) (p []byte) {
	for _, v := range v {
		p = binary.LittleEndian.AppendUint32(p, v)
	}
	return p
}

func u64s(v ...uint64) (p []byte) {
	for _, v := range v {
		p = binary.LittleEndian.AppendUint64(p, v)
	}
	return p
}

const plain = version1 | protocolFeatures

func memTable() []byte {
	return append(u32s(2, 0), u64s(
		0, regionLen, regionUVA[0], regionOffset[0],
		regionLen, regionLen, regionUVA[1], regionOffset[1])...)
}

// negotiate does what QEMU does until the device starts.
func (f *front) negotiate() {
	f.Helper()
	if got := binary.LittleEndian.Uint64(f.ask(getFeatures, nil)); got != f.back.device.features()|plain|accessPlatform|logAll {
		f.Fatalf("features %#x", got)
	}
	got := binary.LittleEndian.Uint64(f.ask(getProtocolFeatures, nil))
	f.send(setProtocolFeatures, version, u64s(got))
	f.tell(setOwner, nil)
	f.tell(setFeatures, u64s(plain))
	f.tell(setMemTable, memTable(), f.fd, f.fd)
}

// A driver is the guest's side of one queue.
type driver struct {
	*front
	index      int
	base       uint64 // GPA to which descGPA and so on are added
	next       uint16 // available index
	used       uint16 // used index up to which completions were seen
	kick, call int
}

func eventFD(t testing.TB) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func (d *driver) addr(flags uint32) []byte {
	return append(u32s(uint32(d.index), flags), u64s(uva(d.base+descGPA), uva(d.base+usedGPA), uva(d.base+availGPA), d.base+usedGPA)...)
}

// start starts a queue at the entries that d has reached.
func (f *front) start(index int) *driver {
	f.Helper()
	d := &driver{front: f, index: index, base: uint64(index) * queueStride, kick: eventFD(f), call: eventFD(f)}
	d.restart()
	return d
}

func (d *driver) restart() {
	d.Helper()
	i := uint32(d.index)
	d.tell(setVringNum, u32s(i, queueSize))
	d.tell(setVringBase, u32s(i, uint32(d.next)))
	d.tell(setVringAddr, d.addr(0))
	d.tell(setVringKick, u64s(uint64(i)), d.kick)
	d.tell(setVringCall, u64s(uint64(i)), d.call)
	d.tell(setVringEnable, u32s(i, 1))
}

type buffer struct {
	gpa   uint64
	len   uint32
	write bool
}

func (d *driver) setDesc(i int, gpa uint64, n uint32, flags, next uint16) {
	p := d.guest(d.base+descGPA+16*uint64(i), 16)
	binary.LittleEndian.PutUint64(p, gpa)
	binary.LittleEndian.PutUint32(p[8:], n)
	binary.LittleEndian.PutUint16(p[12:], flags)
	binary.LittleEndian.PutUint16(p[14:], next)
}

// post offers a chain in the descriptors from head on.
func (d *driver) post(head int, buffers ...buffer) {
	for i, b := range buffers {
		var flags uint16
		if b.write {
			flags |= descWrite
		}
		if i < len(buffers)-1 {
			flags |= descNext
		}
		d.setDesc(head+i, b.gpa, b.len, flags, uint16(head+i+1))
	}
	d.offer(uint16(head))
}

// offer puts a head into the available ring, and kicks.
func (d *driver) offer(head uint16) {
	binary.LittleEndian.PutUint16(d.guest(d.base+availGPA+4+2*uint64(d.next%queueSize), 2), head)
	d.next++
	d.setAvail(d.next)
}

func (d *driver) setAvail(index uint16) {
	binary.LittleEndian.PutUint16(d.guest(d.base+availGPA+2, 2), index)
	if err := signal(d.kick); err != nil {
		d.Fatal(err)
	}
}

// completed awaits the next completion, and returns its head and length.
func (d *driver) completed() (head, n uint32) {
	d.Helper()
	end := time.Now().Add(limit)
	for load16(d.guest(d.base+usedGPA, pageSize), 2) == d.used {
		fds := []unix.PollFd{{Fd: int32(d.call), Events: unix.POLLIN}}
		if err := poll(fds, 20); err != nil {
			d.Fatal(err)
		}
		drain(d.call)
		if time.Now().After(end) {
			select {
			case err := <-d.done:
				d.Fatalf("no completion: Serve: %v", err)
			default:
				d.Fatal("no completion")
			}
		}
	}
	p := d.guest(d.base+usedGPA+4+8*uint64(d.used%queueSize), 8)
	d.used++
	return binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:])
}

// stop stops the queue and returns the index that it had reached.
func (d *driver) stop() uint16 {
	d.Helper()
	p := d.ask(getVringBase, u32s(uint32(d.index), 0))
	if len(p) != 8 || binary.LittleEndian.Uint32(p) != uint32(d.index) {
		d.Fatalf("GET_VRING_BASE was answered with %x", p)
	}
	return uint16(binary.LittleEndian.Uint32(p[4:]))
}

const headerGPA, statusGPA = bufferGPA, bufferGPA + 0x800

// request posts a disk request with its header and status in the usual place.
func (d *driver) request(kind uint32, sector uint64, data ...buffer) {
	copy(d.guest(headerGPA, 16), append(u32s(kind, 0), u64s(sector)...))
	d.guest(statusGPA, 1)[0] = 0xee
	chain := append([]buffer{{headerGPA, 16, false}}, data...)
	d.post(0, append(chain, buffer{statusGPA, 1, true})...)
}

// logOn does what QEMU does when a migration starts.
func (f *front) logOn(pages int, drivers ...*driver) {
	f.Helper()
	fd, log := memFile(f, (pages+63)/64*8)
	f.log = log
	defer unix.Close(fd)
	f.ask(setLogBase, u64s(uint64(len(log)), 0), fd)
	f.tell(setFeatures, u64s(plain|logAll))
	for _, d := range drivers {
		f.tell(setVringAddr, d.addr(1))
	}
}

// dirty returns the pages whose bits are set.
func (f *front) dirty() (pages []int) {
	for i := range len(f.log) * 8 {
		if f.log[i/8]>>(i%8)&1 != 0 {
			pages = append(pages, i)
		}
	}
	return pages
}

// pattern is the content of the disk.
func pattern(p []byte, offset int64) {
	for i := range p {
		at := offset + int64(i)
		p[i] = byte(at) ^ byte(at>>9) ^ byte(at>>17) ^ 0x5c
	}
}

const diskSectors = 1 << 20

func newDiskFront(t testing.TB, o Options) *front {
	return newFront(t, func(conn *net.UnixConn) *Backend {
		return NewDisk(conn, Disk{diskSectors, pattern}, o)
	})
}

func newCardFront(t testing.TB, o Options) (*front, *Card) {
	var c *Card
	f := newFront(t, func(conn *net.UnixConn) *Backend {
		c = NewCard(conn, o)
		return c.Backend
	})
	return f, c
}
