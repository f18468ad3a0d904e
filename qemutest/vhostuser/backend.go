package vhostuser

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say how a back-end behaves.
type Options struct {
	// Logging makes it set the bits of QEMU's dirty log. Without it, it offers
	// the log, as QEMU migrates nothing else, and sets none: like a device that
	// is passed through without dirty tracking.
	Logging bool
	// Pass, if not nil, tells in which pass of the migration a store was made. It is
	// called by the goroutine of Serve, after the store.
	Pass func() int64
	// Broken, if not nil, is told when the guest breaks a queue, by the goroutine
	// of Serve, once.
	Broken func(*GuestError)
}

// A Backend is a device on one connection to QEMU.
type Backend struct {
	conn    *net.UnixConn
	device  device
	options Options
	served  chan struct{} // closed when Serve returns

	mu       sync.Mutex
	started  bool
	wakeFD   int // eventfd that ends a poll, -1 unless Serve runs
	writes   []Write
	overflow bool
	logging  bool
	changed  chan struct{} // closed when logging changes
}

// A device is what the two kinds of back-end differ in.
type device interface {
	queues() int
	features() uint64 // those of its own
	config() []byte   // nil if QEMU has it
	// wants reports whether the device has a use for a buffer of the queue.
	wants(queue int) bool
	// serve does what a chain asks for and completes it, or says that it did
	// not. An error that is no *ProtocolError is the guest's.
	serve(*session, *queue, *chain) (bool, error)
}

// NewDisk returns a disk whose QEMU is at the other end of conn.
func NewDisk(conn *net.UnixConn, d Disk, o Options) *Backend {
	return newBackend(conn, &d, o)
}

func newBackend(conn *net.UnixConn, d device, o Options) *Backend {
	return &Backend{conn: conn, device: d, options: o, served: make(chan struct{}), wakeFD: -1, changed: make(chan struct{})}
}

// Feature bits: VHOST_F_LOG_ALL, VHOST_USER_F_PROTOCOL_FEATURES and those of
// virtio 1.2, section 6.
const (
	logAll           = 1 << 26
	protocolFeatures = 1 << 30
	version1         = 1 << 32
	accessPlatform   = 1 << 33
)

// Protocol features of vhost-user.rst. QEMU wants REPLY_ACK and BACKEND_REQ for
// a device with ACCESS_PLATFORM, and LOG_SHMFD to migrate it.
const (
	protoLogShmFD   = 1 << 1
	protoReplyAck   = 1 << 3
	protoBackendReq = 1 << 5
	protoConfig     = 1 << 9
)

// batch is the number of chains after which messages are looked for.
const batch = 64

var errServed = errors.New("the back-end has ended")

// A session is what Serve has in hand. One goroutine does it all, messages and
// queues: so a queue that QEMU stops has nothing in flight.
type session struct {
	*Backend
	conn     int
	wake     int
	start    time.Time
	features uint64 // accepted
	protocol uint64
	mem      memory
	log      dirtyLog
	queues   []*queue
	channel  int // to QEMU (SET_BACKEND_REQ_FD), or -1; nothing is said on it
	chain    chain
	broken   error // the first *GuestError
}

// Serve is the device until QEMU closes the connection or ctx ends, and may be
// called once. It closes the connection. The error is a *ProtocolError, or the
// system's. After a *GuestError the queue stands still, QEMU is still answered,
// and Serve returns the error in the end.
func (b *Backend) Serve(ctx context.Context) (err error) {
	s, err := b.begin()
	if err != nil {
		return err
	}
	defer s.end()
	defer context.AfterFunc(ctx, b.wake)()

	// A file of QEMU's that shrinks under its mapping is a SIGBUS.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer s.recoverFault(&err)
	switch err := s.loop(ctx); err {
	case io.EOF, errStopped:
		return s.broken
	default:
		return err
	}
}

func (b *Backend) begin() (*session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started {
		return nil, errors.New("vhostuser: Serve may be called once")
	}
	b.started = true
	s := &session{Backend: b, conn: -1, wake: -1, channel: -1, start: time.Now()}
	for i := range b.device.queues() {
		s.queues = append(s.queues, &queue{index: i, kick: -1, call: -1, er: -1})
	}
	// A descriptor of our own: that of a net.Conn belongs to Go's poller.
	raw, err := b.conn.SyscallConn()
	if err == nil {
		var dup error
		err = raw.Control(func(fd uintptr) {
			s.conn, dup = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		})
		err = errors.Join(err, dup)
	}
	b.conn.Close()
	if err == nil {
		s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	}
	if err != nil {
		closeFD(s.conn)
		close(b.served)
		return nil, fmt.Errorf("vhostuser: take the connection: %w", err)
	}
	b.wakeFD = s.wake
	return s, nil
}

func (s *session) end() {
	for _, q := range s.queues {
		closeFD(q.kick)
		closeFD(q.call)
		closeFD(q.er)
	}
	s.mem.unmap()
	s.setLog(nil)
	closeFD(s.channel)
	closeFD(s.conn)
	s.setLogging(false)

	s.mu.Lock()
	s.wakeFD = -1
	s.mu.Unlock()
	closeFD(s.wake)
	close(s.served)
}

// wake makes the session look around.
func (b *Backend) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wakeFD >= 0 {
		signal(b.wakeFD)
	}
}

// recoverFault turns a fault in what QEMU shares into an error.
func (s *session) recoverFault(err *error) {
	v := recover()
	if v == nil {
		return
	}
	if fault, ok := v.(interface {
		runtime.Error
		Addr() uintptr
	}); ok {
		for _, r := range s.mem {
			if contains(r.mem, fault.Addr()) {
				*err = &ProtocolError{setMemTable.String(), fmt.Errorf("the region at GPA %#x has gone: its file is shorter now", r.gpa)}
				return
			}
		}
		if contains(s.log, fault.Addr()) {
			*err = &ProtocolError{setLogBase.String(), errors.New("the log has gone: its file is shorter now")}
			return
		}
	}
	panic(v)
}

// loop returns io.EOF when QEMU has gone, errStopped when ctx has ended.
func (s *session) loop(ctx context.Context) error {
	fds := make([]unix.PollFd, 0, 2+len(s.queues))
	kicked := make([]*queue, 0, len(s.queues))
	for {
		// A kick says that a queue has something new, but a queue that was started
		// again, or on the destination of a migration, has something without one.
		timeout := -1
		for _, q := range s.queues {
			more, err := s.run(q)
			if err != nil {
				return err
			}
			if more {
				timeout = 0
			}
		}
		fds = append(fds[:0], unix.PollFd{Fd: int32(s.conn), Events: unix.POLLIN}, unix.PollFd{Fd: int32(s.wake), Events: unix.POLLIN})
		kicked = kicked[:0]
		for _, q := range s.queues {
			// A kick of a queue that may not run yet stays in its eventfd.
			if s.ready(q) {
				fds = append(fds, unix.PollFd{Fd: int32(q.kick), Events: unix.POLLIN})
				kicked = append(kicked, q)
			}
		}
		if err := poll(fds, timeout); err != nil {
			return err
		}
		if fds[1].Revents != 0 {
			drain(s.wake)
		}
		if ctx.Err() != nil {
			return errStopped
		}
		for i, q := range kicked {
			if fds[2+i].Revents != 0 {
				if err := drain(q.kick); err != nil {
					return &ProtocolError{setVringKick.String(), fmt.Errorf("queue %d: %w", q.index, err)}
				}
			}
		}
		if fds[0].Revents != 0 {
			if err := s.handleNext(ctx); err != nil {
				return err
			}
		}
	}
}

func (s *session) logging() bool { return s.features&logAll != 0 }

// ready reports whether a queue may run. Where the log is to be kept, it waits
// for that.
func (s *session) ready(q *queue) bool {
	return q.enabled && q.kick >= 0 && q.size > 0 && q.addr != (ringAddr{}) && !q.broken &&
		(!s.logging() || !s.options.Logging || s.log != nil)
}

// run serves up to batch chains, and reports whether there may be more.
func (s *session) run(q *queue) (more bool, err error) {
	if !s.ready(q) {
		return false, nil
	}
	n, err := s.serve(q)
	if n > 0 && q.call >= 0 && q.ring.interrupts() {
		if err := signal(q.call); err != nil {
			return false, &ProtocolError{setVringCall.String(), fmt.Errorf("queue %d: %w", q.index, err)}
		}
	}
	var protocol *ProtocolError
	if errors.As(err, &protocol) {
		return false, err
	}
	if err != nil {
		q.broken = true
		guest := &GuestError{}
		if !errors.As(err, &guest) {
			guest = &GuestError{q.index, err}
		}
		if s.broken == nil {
			s.broken = guest
			if s.options.Broken != nil {
				s.options.Broken(guest)
			}
		}
		if q.er >= 0 {
			if err := signal(q.er); err != nil {
				return false, &ProtocolError{setVringErr.String(), fmt.Errorf("queue %d: %w", q.index, err)}
			}
		}
		return false, nil
	}
	return n == batch, nil
}

func (s *session) serve(q *queue) (done int, err error) {
	if q.ring == nil {
		if q.ring, err = q.mapRing(s.mem); err != nil {
			return 0, err
		}
	}
	for done < batch && s.device.wants(q.index) {
		if n, err := q.available(); n == 0 {
			return done, err
		}
		if err := q.chain(s.mem, 0, &s.chain); err != nil {
			return done, err
		}
		ok, err := s.device.serve(s, q, &s.chain)
		if !ok {
			return done, err
		}
		done++
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// handleNext receives one message and does what it says.
func (s *session) handleNext(ctx context.Context) error {
	var m message
	defer m.close()
	if err := s.receive(ctx, &m); err != nil {
		return err
	}
	replied, err := s.handle(&m)
	if err != nil || replied || !m.needReply || s.protocol&protoReplyAck == 0 {
		return err
	}
	return s.reply64(&m, 0)
}

func (s *session) offered() uint64 {
	return s.device.features() | logAll | protocolFeatures | version1 | accessPlatform
}

func (s *session) offeredProtocol() uint64 {
	p := uint64(protoLogShmFD | protoReplyAck | protoBackendReq)
	if s.device.config() != nil {
		p |= protoConfig
	}
	return p
}

// handle reports whether it has replied.
func (s *session) handle(m *message) (replied bool, err error) {
	switch m.request {
	case getFeatures:
		return true, s.reply64(m, s.offered())
	case setFeatures:
		return false, s.setFeatures(m)
	case getProtocolFeatures:
		return true, s.reply64(m, s.offeredProtocol())
	case setProtocolFeatures:
		if extra := m.u64(0) &^ s.offeredProtocol(); extra != 0 {
			return false, m.wrong("%#x were not offered", extra)
		}
		s.protocol = m.u64(0)
		return false, nil
	case setOwner, setLogFD:
		// There is one owner, and nothing to say on the log's eventfd.
		return false, nil
	case resetOwner:
		for _, q := range s.queues {
			q.enabled = false
		}
		return false, nil
	case setBackendReqFD:
		if s.protocol&protoBackendReq == 0 {
			return false, m.wrong("BACKEND_REQ was not accepted")
		}
		closeFD(s.channel)
		s.channel = m.take(0)
		return false, nil
	case setMemTable:
		mem, err := mapRegions(m)
		if err != nil {
			return false, err
		}
		for _, q := range s.queues {
			q.ring = nil
		}
		s.mem.unmap()
		s.mem = mem
		return false, nil
	case setLogBase:
		return true, s.setLogBase(m)
	case getConfig, setConfig:
		return true, s.configure(m)
	case setVringKick, setVringCall, setVringErr:
		return false, s.setVringFD(m)
	default:
		return s.setVring(m)
	}
}

func (s *session) setFeatures(m *message) error {
	features := m.u64(0)
	if extra := features &^ s.offered(); extra != 0 {
		return m.wrong("%#x were not offered", extra)
	}
	if features&accessPlatform != 0 {
		return m.wrong("ACCESS_PLATFORM: a virtual IOMMU is not supported, start QEMU without")
	}
	if features&version1 == 0 {
		return m.wrong("no VERSION_1: start QEMU with disable-legacy=on")
	}
	s.features = features
	if features&protocolFeatures == 0 {
		for _, q := range s.queues {
			q.enabled = true
		}
	}
	if !s.logging() {
		s.setLog(nil)
	}
	s.setLogging(s.logging())
	return nil
}

// setLog changes to another log, or to none.
func (s *session) setLog(l dirtyLog) {
	if s.log != nil {
		unix.Munmap(s.log)
	}
	s.log = l
}

// setLogBase replies in any case: QEMU waits for it (vhost_user_set_log_base).
func (s *session) setLogBase(m *message) error {
	if s.protocol&protoLogShmFD == 0 {
		return m.wrong("LOG_SHMFD was not accepted")
	}
	size, offset := m.u64(0), m.u64(8)
	if size%8 != 0 {
		return m.wrong("%d bytes, want whole words of 8", size)
	}
	log, err := mapFile(m.fds[0], offset, size)
	if err != nil {
		return m.wrong("%w", err)
	}
	s.setLog(log)
	return s.reply64(m, 0)
}

// configure answers GET_CONFIG and SET_CONFIG: offset, size, flags, and as many
// bytes as size says. Nothing can be set.
func (s *session) configure(m *message) error {
	if s.protocol&protoConfig == 0 {
		return m.wrong("CONFIG was not accepted")
	}
	if len(m.payload) < configHeader {
		return m.wrong("payload of %d bytes, want at least %d", len(m.payload), configHeader)
	}
	offset, size := uint64(m.u32(0)), uint64(m.u32(4))
	if offset+size > maxConfig || uint64(len(m.payload)) != configHeader+size {
		return m.wrong("payload of %d bytes for %d at %d of a space of %d", len(m.payload), size, offset, maxConfig)
	}
	if m.request == setConfig {
		if m.needReply && s.protocol&protoReplyAck != 0 {
			return s.reply64(m, 1)
		}
		return nil
	}
	copy(m.payload[configHeader:], s.device.config()[offset:])
	return s.reply(m, m.payload)
}

// queue returns the queue that a message names.
func (s *session) queue(m *message, index uint32) (*queue, error) {
	if int64(index) >= int64(len(s.queues)) {
		return nil, m.wrong("queue %d, there are %d", index, len(s.queues))
	}
	return s.queues[index], nil
}

// setVringFD takes an eventfd: the low byte is the queue, bit 8 says that there
// is none.
func (s *session) setVringFD(m *message) error {
	const noFD = 1 << 8
	v := m.u64(0)
	if v&^(noFD|0xff) != 0 {
		return m.wrong("payload %#x, only the low 9 bits have a meaning", v)
	}
	q, err := s.queue(m, uint32(v&0xff))
	if err != nil {
		return err
	}
	want := 1
	if v&noFD != 0 {
		want = 0
	}
	if len(m.fds) != want {
		return m.wrong("%d file descriptors, want %d", len(m.fds), want)
	}
	to := map[request]*int{setVringKick: &q.kick, setVringCall: &q.call, setVringErr: &q.er}[m.request]
	fd := -1
	if want == 1 {
		// QEMU's are (event_notifier_init), and their flags are shared with it: to
		// set it here would be no help, as QEMU could take it back.
		flags, err := unix.FcntlInt(uintptr(m.fds[0]), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			return m.wrong("the file descriptor is no nonblocking eventfd")
		}
		fd = m.take(0)
	} else if m.request == setVringKick {
		return m.wrong("queue %d without an eventfd: polling is not supported", q.index)
	}
	closeFD(*to)
	*to = fd
	return nil
}

// setVring does those whose payload begins with the index of a queue.
func (s *session) setVring(m *message) (replied bool, err error) {
	q, err := s.queue(m, m.u32(0))
	if err != nil {
		return false, err
	}
	v := m.u32(4)
	switch m.request {
	case setVringNum:
		if v == 0 || v > 1<<15 || v&(v-1) != 0 {
			return false, m.wrong("queue %d: size %d is no power of 2 up to 32768", q.index, v)
		}
		q.size, q.ring = int(v), nil
	case setVringAddr:
		if v > 1 {
			return false, m.wrong("queue %d: flags %#x", q.index, v)
		}
		q.addr = ringAddr{m.u64(8), m.u64(16), m.u64(24), m.u64(32), v == 1}
		q.ring = nil
	case setVringBase:
		if v > 0xffff {
			return false, m.wrong("queue %d: index %d has more than 16 bits", q.index, v)
		}
		q.next = uint16(v)
	case setVringEnable:
		if v > 1 {
			return false, m.wrong("queue %d: %d is neither on nor off", q.index, v)
		}
		q.enabled = v == 1
	case getVringBase:
		closeFD(q.kick)
		q.kick, q.ring, q.broken = -1, nil, false
		return true, s.reply(m, binary.LittleEndian.AppendUint32(m.payload[:4:4], uint32(q.next)))
	}
	return false, nil
}
