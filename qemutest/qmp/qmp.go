// Package qmp talks to a QEMU process by its QEMU Machine Protocol.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxLine is the longest message taken from QEMU, in bytes. The longest that
// patchgen asks for, query-migrate's, has less than 2 KiB.
const maxLine = 1 << 20

// An Error is QEMU's answer to a command that it refuses or that failed:
// docs/interop/qmp-spec.rst, "Error".
type Error struct {
	Command string
	Class   string // such as "GenericError"; "CommandNotFound" in an old QEMU
	Desc    string
}

func (e *Error) Error() string { return fmt.Sprintf("QEMU refuses %s: %s", e.Command, e.Desc) }

// A ProtocolError says that what came is no QMP.
type ProtocolError struct {
	Problem string
	Err     error // nil if there is nothing more to say
}

func (e *ProtocolError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("QMP: %s: %v", e.Problem, e.Err)
	}
	return "QMP: " + e.Problem
}

func (e *ProtocolError) Unwrap() error { return e.Err }

// ErrClosed is the error of a command to a QEMU that has closed the connection.
var ErrClosed = errors.New("QMP: QEMU has closed the connection")

// An Event is what QEMU tells unasked: qapi/migration.json, qapi/run-state.json.
type Event struct {
	Name string
	Time time.Time
	Data json.RawMessage
}

// A Client is a connection to QEMU. Its methods may be called from several
// goroutines; QEMU takes one command after the other.
type Client struct {
	Version Version

	conn    *net.UnixConn
	handle  func(Event)
	turn    chan struct{} // holds a token while no command is under way
	answers chan answer
	done    chan struct{} // closed when the reader has ended
	once    sync.Once
	err     error // why it has; set before done is closed
	lastID  uint64
}

// A Version is that of QEMU, such as 10.0.2.
type Version struct {
	Major, Minor, Micro int
	Package             string // the distributor's name for it, may be empty
}

func (v Version) String() string {
	s := fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro)
	if v.Package != "" {
		s += " (" + v.Package + ")"
	}
	return s
}

// AtLeast reports whether v is this version or a later one.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

type answer struct {
	ID     uint64
	Return json.RawMessage
	Error  *struct{ Class, Desc string }
}

// New takes QEMU's greeting and negotiates. handle, if not nil, is called with
// each event, one after the other and in QEMU's order; it must not wait for a
// command. The Client owns conn from now on.
func New(ctx context.Context, conn *net.UnixConn, handle func(Event)) (*Client, error) {
	c := &Client{
		conn: conn, handle: handle,
		turn:    make(chan struct{}, 1),
		answers: make(chan answer, 1),
		done:    make(chan struct{}),
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	greeting, err := readGreeting(lines)
	stop()
	if err != nil {
		conn.Close()
		return nil, errors.Join(context.Cause(ctx), err)
	}
	conn.SetReadDeadline(time.Time{})
	c.Version = greeting
	c.turn <- struct{}{}
	go c.read(lines)
	if err := c.Do(ctx, "qmp_capabilities", nil, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func readGreeting(lines *bufio.Scanner) (Version, error) {
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return Version{}, &ProtocolError{"no greeting", err}
		}
		return Version{}, ErrClosed
	}
	var g struct {
		QMP *struct {
			Version struct {
				QEMU    struct{ Major, Minor, Micro int }
				Package string
			}
		}
	}
	if err := json.Unmarshal(lines.Bytes(), &g); err != nil {
		return Version{}, &ProtocolError{"the greeting is not JSON", err}
	}
	if g.QMP == nil {
		return Version{}, &ProtocolError{fmt.Sprintf("not a greeting: %.100q", lines.Bytes()), nil}
	}
	v := g.QMP.Version
	return Version{v.QEMU.Major, v.QEMU.Minor, v.QEMU.Micro, v.Package}, nil
}

// A message is an answer or an event.
type message struct {
	answer
	Event     string
	Timestamp struct{ Seconds, Microseconds int64 }
	Data      json.RawMessage
}

// parse takes one line. A message is an event if its Event is set, else it is
// an answer.
func parse(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return m, &ProtocolError{fmt.Sprintf("not a message: %.100q", line), err}
	}
	if m.Event == "" && m.Return == nil && m.Error == nil {
		return m, &ProtocolError{fmt.Sprintf("neither an answer nor an event: %.100q", line), nil}
	}
	return m, nil
}

func (c *Client) read(lines *bufio.Scanner) {
	err := ErrClosed
	defer func() {
		c.err = err
		close(c.done)
	}()
	for lines.Scan() {
		m, fault := parse(lines.Bytes())
		if fault != nil {
			err = fault
			return
		}
		if m.Event != "" {
			if c.handle != nil {
				t := time.Unix(m.Timestamp.Seconds, 0).Add(time.Duration(m.Timestamp.Microseconds) * time.Microsecond)
				c.handle(Event{m.Event, t, append(json.RawMessage(nil), m.Data...)})
			}
			continue
		}
		m.Return = append(json.RawMessage(nil), m.Return...)
		select {
		case c.answers <- m.answer:
		default:
			err = &ProtocolError{"an answer to nothing", nil}
			return
		}
	}
	// A reset is how the end of a killed process shows on a socket pair.
	if e := lines.Err(); e != nil && !errors.Is(e, net.ErrClosed) && !errors.Is(e, unix.ECONNRESET) {
		err = &ProtocolError{"read", e}
	}
}

// Do runs a command. args and reply may be nil; else they are what
// encoding/json takes. The error is *Error if QEMU refuses, ErrClosed if it is
// gone, *ProtocolError, or the context's cause; after the last two no further
// command can be run.
func (c *Client) Do(ctx context.Context, command string, args, reply any) error {
	return c.do(ctx, command, args, reply, nil)
}

// SendFile gives the file to QEMU under a name, for a URI such as "fd:NAME":
// getfd in qapi/misc.json. The caller keeps the file and may close it.
func (c *Client) SendFile(ctx context.Context, name string, f *os.File) error {
	return c.do(ctx, "getfd", map[string]string{"fdname": name}, nil, unix.UnixRights(int(f.Fd())))
}

func (c *Client) do(ctx context.Context, command string, args, reply any, rights []byte) error {
	select {
	case <-c.turn:
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.lastID++
	id := c.lastID
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id})
	if err != nil {
		c.turn <- struct{}{}
		return fmt.Errorf("QMP: arguments of %s: %w", command, err)
	}
	stop := context.AfterFunc(ctx, func() { c.conn.SetWriteDeadline(time.Unix(1, 0)) })
	_, _, err = c.conn.WriteMsgUnix(append(line, '\n'), rights, nil)
	stop()
	if err != nil {
		c.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return ErrClosed
	}
	var a answer
	select {
	case a = <-c.answers:
	case <-c.done:
		// The answer may have come just before the end.
		select {
		case a = <-c.answers:
		default:
			return c.err
		}
	case <-ctx.Done():
		// The answer would be taken for that of the next command.
		c.Close()
		return context.Cause(ctx)
	}
	if a.ID != id {
		c.Close()
		return &ProtocolError{fmt.Sprintf("an answer to command %d, want one to %d", a.ID, id), nil}
	}
	c.turn <- struct{}{}
	if a.Error != nil {
		return &Error{command, a.Error.Class, a.Error.Desc}
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(a.Return, reply); err != nil {
		return &ProtocolError{"what " + command + " returns", err}
	}
	return nil
}

// Close closes the connection and waits until the last event is handled.
func (c *Client) Close() {
	c.once.Do(func() { c.conn.Close() })
	<-c.done
}
