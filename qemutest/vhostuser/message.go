package vhostuser

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// A request is the kind of a message (vhost-user.rst, "Front-end message types").
type request uint32

const (
	getFeatures         request = 1
	setFeatures         request = 2
	setOwner            request = 3
	resetOwner          request = 4
	setMemTable         request = 5
	setLogBase          request = 6
	setLogFD            request = 7
	setVringNum         request = 8
	setVringAddr        request = 9
	setVringBase        request = 10
	getVringBase        request = 11
	setVringKick        request = 12
	setVringCall        request = 13
	setVringErr         request = 14
	getProtocolFeatures request = 15
	setProtocolFeatures request = 16
	setVringEnable      request = 18
	setBackendReqFD     request = 21
	getConfig           request = 24
	setConfig           request = 25
)

// Also those that are not offered: an error names them.
var requestNames = [...]string{
	1: "GET_FEATURES", "SET_FEATURES", "SET_OWNER", "RESET_OWNER", "SET_MEM_TABLE",
	"SET_LOG_BASE", "SET_LOG_FD", "SET_VRING_NUM", "SET_VRING_ADDR", "SET_VRING_BASE",
	"GET_VRING_BASE", "SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ERR",
	"GET_PROTOCOL_FEATURES", "SET_PROTOCOL_FEATURES", "GET_QUEUE_NUM", "SET_VRING_ENABLE",
	"SEND_RARP", "NET_SET_MTU", "SET_BACKEND_REQ_FD", "IOTLB_MSG", "SET_VRING_ENDIAN",
	"GET_CONFIG", "SET_CONFIG", "CREATE_CRYPTO_SESSION", "CLOSE_CRYPTO_SESSION",
	"POSTCOPY_ADVISE", "POSTCOPY_LISTEN", "POSTCOPY_END", "GET_INFLIGHT_FD",
	"SET_INFLIGHT_FD", "GPU_SET_SOCKET", "RESET_DEVICE", "VRING_KICK", "GET_MAX_MEM_SLOTS",
	"ADD_MEM_REG", "REM_MEM_REG", "SET_STATUS", "GET_STATUS", "GET_SHARED_OBJECT",
	"SET_DEVICE_STATE_FD", "CHECK_DEVICE_STATE",
}

func (r request) String() string {
	if r > 0 && int(r) < len(requestNames) {
		return requestNames[r]
	}
	return fmt.Sprintf("message %d", uint32(r))
}

// Bits of the header's flags.
const (
	versionMask  = 3
	version      = 1
	replyFlag    = 1 << 2
	needReply    = 1 << 3
	headerSize   = 12
	configHeader = 12
	maxConfig    = 256 // bytes of configuration space, VHOST_USER_MAX_CONFIG_SIZE
	maxRegions   = 8   // VHOST_MEMORY_BASELINE_NREGIONS; also the most descriptors of a message
	regionSize   = 32
	maxPayload   = configHeader + maxConfig
)

// A shape is what a request must bring.
type shape struct {
	size int // of the payload in bytes; -1 if its content tells
	fds  int // -1 if the payload tells
}

var shapes = map[request]shape{
	getFeatures:         {0, 0},
	setFeatures:         {8, 0},
	setOwner:            {0, 0},
	resetOwner:          {0, 0},
	setMemTable:         {-1, -1},
	setLogBase:          {16, 1},
	setLogFD:            {0, 1},
	setVringNum:         {8, 0},
	setVringAddr:        {40, 0},
	setVringBase:        {8, 0},
	getVringBase:        {8, 0},
	setVringKick:        {8, -1},
	setVringCall:        {8, -1},
	setVringErr:         {8, -1},
	getProtocolFeatures: {0, 0},
	setProtocolFeatures: {8, 0},
	setVringEnable:      {8, 0},
	setBackendReqFD:     {0, 1},
	getConfig:           {-1, 0},
	setConfig:           {-1, 0},
}

type message struct {
	request   request
	needReply bool
	payload   []byte
	fds       []int // who takes one puts -1 in its place
	lost      bool  // there were more than maxRegions
}

func (m *message) u32(offset int) uint32 { return binary.LittleEndian.Uint32(m.payload[offset:]) }
func (m *message) u64(offset int) uint64 { return binary.LittleEndian.Uint64(m.payload[offset:]) }

// take hands over the i-th file descriptor.
func (m *message) take(i int) int {
	fd := m.fds[i]
	m.fds[i] = -1
	return fd
}

// close closes the descriptors that nobody took.
func (m *message) close() {
	for i, fd := range m.fds {
		closeFD(fd)
		m.fds[i] = -1
	}
}

// closeFD closes fd unless it is negative.
func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

var errStopped = errors.New("the context ended")

// receive reads one message of the right shape. It returns io.EOF if QEMU
// closed the connection before it, and errStopped if ctx ended. Its caller
// closes the message, also when there is an error.
func (s *session) receive(ctx context.Context, m *message) error {
	var header [headerSize]byte
	if err := s.read(ctx, m, header[:], true); err != nil {
		return err
	}
	m.request = request(binary.LittleEndian.Uint32(header[0:]))
	flags := binary.LittleEndian.Uint32(header[4:])
	size := binary.LittleEndian.Uint32(header[8:])
	m.needReply = flags&needReply != 0
	if flags&^needReply != version {
		return m.wrong("flags %#x, want version 1 and no reply", flags)
	}
	if size > maxPayload {
		return m.wrong("payload of %d bytes, at most %d are expected", size, maxPayload)
	}
	m.payload = make([]byte, size)
	if err := s.read(ctx, m, m.payload, false); err != nil {
		return err
	}
	shape, ok := shapes[m.request]
	switch {
	case m.lost:
		return m.wrong("more than %d file descriptors", maxRegions)
	case !ok:
		return m.wrong("not offered by this back-end")
	case shape.size >= 0 && len(m.payload) != shape.size:
		return m.wrong("payload of %d bytes, want %d", len(m.payload), shape.size)
	case shape.fds >= 0 && len(m.fds) != shape.fds:
		return m.wrong("%d file descriptors, want %d", len(m.fds), shape.fds)
	}
	return nil
}

func (m *message) wrong(format string, args ...any) error {
	return &ProtocolError{m.request.String(), fmt.Errorf(format, args...)}
}

// read fills p, and adds the file descriptors that come with it to m.
func (s *session) read(ctx context.Context, m *message, p []byte, first bool) error {
	for have := 0; have < len(p); {
		// CmsgSpace is exact here: of more descriptors the kernel passes none
		// on, and says so.
		oob := make([]byte, unix.CmsgSpace(4*maxRegions))
		n, oobn, flags, _, err := unix.Recvmsg(s.conn, p[have:], oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if err := s.wait(ctx); err != nil {
				return err
			}
			continue
		case err == unix.ECONNRESET || err == nil && n == 0:
			if first && have == 0 {
				return io.EOF
			}
			return m.wrong("the connection ends within the message")
		case err != nil:
			return fmt.Errorf("receive from QEMU: %w", err)
		}
		if err := m.addFDs(oob[:oobn]); err != nil {
			return err
		}
		m.lost = m.lost || flags&unix.MSG_CTRUNC != 0 || len(m.fds) > maxRegions
		have += n
	}
	return nil
}

func (m *message) addFDs(oob []byte) error {
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return m.wrong("control message: %w", err)
	}
	for _, c := range controls {
		if c.Header.Level != unix.SOL_SOCKET || c.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&c)
		if err != nil {
			return m.wrong("control message: %w", err)
		}
		m.fds = append(m.fds, fds...)
	}
	return nil
}

// wait waits for more of a message that has begun.
func (s *session) wait(ctx context.Context) error {
	fds := []unix.PollFd{{Fd: int32(s.conn), Events: unix.POLLIN}, {Fd: int32(s.wake), Events: unix.POLLIN}}
	if err := poll(fds, -1); err != nil {
		return err
	}
	if fds[1].Revents != 0 {
		drain(s.wake)
	}
	if ctx.Err() != nil {
		return errStopped
	}
	return nil
}

// reply answers m. The answers are small and QEMU waits for each: if one does
// not fit into the socket, QEMU does not read them.
func (s *session) reply(m *message, payload []byte) error {
	p := make([]byte, headerSize, headerSize+len(payload))
	binary.LittleEndian.PutUint32(p[0:], uint32(m.request))
	binary.LittleEndian.PutUint32(p[4:], version|replyFlag)
	binary.LittleEndian.PutUint32(p[8:], uint32(len(payload)))
	p = append(p, payload...)
	for {
		n, err := unix.SendmsgN(s.conn, p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EPIPE || err == unix.ECONNRESET:
			return io.EOF
		case err == unix.EAGAIN || err == nil && n < len(p):
			return m.wrong("the answers are not read")
		case err != nil:
			return fmt.Errorf("answer QEMU: %w", err)
		}
		return nil
	}
}

func (s *session) reply64(m *message, v uint64) error {
	return s.reply(m, binary.LittleEndian.AppendUint64(nil, v))
}

// poll is poll(2), with a timeout in milliseconds.
func poll(fds []unix.PollFd, timeout int) error {
	for {
		_, err := unix.Poll(fds, timeout)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		return nil
	}
}

// drain resets a nonblocking eventfd to 0.
func drain(fd int) error {
	var p [8]byte
	for {
		n, err := unix.Read(fd, p[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN: // QEMU itself has read it
			return nil
		case err != nil:
			return err
		case n != len(p):
			return errNotEventFD
		}
		return nil
	}
}

// signal adds 1 to a nonblocking eventfd. It is no error if that is saturated:
// then its reader has not seen the last signal yet.
func signal(fd int) error {
	one := [8]byte{1}
	for {
		n, err := unix.Write(fd, one[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return nil
		case err != nil:
			return err
		case n != len(one):
			return errNotEventFD
		}
		return nil
	}
}

var errNotEventFD = errors.New("the file descriptor is no eventfd")
