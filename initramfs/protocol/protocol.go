// Package protocol is what a host and the agent in its guest say to each other
// over a port of virtio-serial, and the pattern of bytes that both know.
//
// A frame is its length in bytes, as 32 bits in big-endian order, and a JSON
// object of that length. The agent's first frame is a Reply with the ID 0 and a
// Hello. Then the host sends Requests, one after the other, and the agent
// answers each with a Reply of the same ID.
package protocol

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

const (
	// Version is that of all frames.
	Version = 1
	// Port is the name of the virtio-serial port.
	Port = "patchgen.agent"
	// MaxFrame is the length of the longest frame's JSON, in bytes.
	MaxFrame = 1 << 20
)

// A Request tells the agent to do something.
type Request struct {
	Version int
	ID      uint64 // from 1
	Op      string // such as OpTouch
	Args    json.RawMessage
}

// A Reply is what came of a Request.
type Reply struct {
	Version int
	ID      uint64
	Error   string // of an operation that failed, else ""
	Result  json.RawMessage
}

// A FrameError says that what came is not of this protocol.
type FrameError struct {
	Problem string
	Frame   []byte // what there is of the frame without its length, cut to 256 bytes
}

func (e *FrameError) Error() string {
	if len(e.Frame) == 0 {
		return e.Problem
	}
	return fmt.Sprintf("%s: %.64q", e.Problem, e.Frame)
}

func frameErrorf(frame []byte, format string, args ...any) error {
	return &FrameError{fmt.Sprintf(format, args...), frame[:min(len(frame), 256)]}
}

// An OpError is what the agent says of an operation that failed.
type OpError struct {
	Op      string
	Problem string
}

func (e *OpError) Error() string { return fmt.Sprintf("the guest's agent: %s: %s", e.Op, e.Problem) }

// ReadRequest reads a frame with a Request. The error is *FrameError, io.EOF if
// there is no further frame, or the reader's.
func ReadRequest(r io.Reader) (*Request, error) {
	var req Request
	frame, err := readFrame(r, &req)
	if err != nil {
		return nil, err
	}
	return &req, checkVersion(frame, req.Version)
}

// ReadReply is ReadRequest for a Reply.
func ReadReply(r io.Reader) (*Reply, error) {
	var reply Reply
	frame, err := readFrame(r, &reply)
	if err != nil {
		return nil, err
	}
	return &reply, checkVersion(frame, reply.Version)
}

func checkVersion(frame []byte, version int) error {
	if version != Version {
		return frameErrorf(frame, "a frame of version %d of the protocol, want %d", version, Version)
	}
	return nil
}

func readFrame(r io.Reader, v any) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, frameErrorf(head[:], "a frame of %d bytes is longer than %d", n, MaxFrame)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if err := json.Unmarshal(frame, v); err != nil {
		return nil, frameErrorf(frame, "a frame that is no %T: %v", v, err)
	}
	return frame, nil
}

// WriteRequest writes a frame with req, whose Version it sets. A Request that
// is too long is a *FrameError, and nothing of it is written.
func WriteRequest(w io.Writer, req Request) error {
	req.Version = Version
	return writeFrame(w, req)
}

// WriteReply is WriteRequest for a Reply.
func WriteReply(w io.Writer, reply Reply) error {
	reply.Version = Version
	return writeFrame(w, reply)
}

func writeFrame(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(data) > MaxFrame {
		return frameErrorf(nil, "a frame of %d bytes is longer than %d", len(data), MaxFrame)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// A Client is the host's side of a connection. It is for one goroutine.
type Client struct {
	rw io.ReadWriter
	id uint64
}

// NewClient returns a Client that speaks over rw. Its calls block as long as rw
// does: deadlines are rw's.
func NewClient(rw io.ReadWriter) *Client { return &Client{rw: rw} }

// WaitHello waits for the Hello that the agent sends when it starts. A guest
// that has migrated sends no other: ask it by Call(OpHello, nil, &hello).
func (c *Client) WaitHello() (*Hello, error) {
	var h Hello
	if err := c.reply(OpHello, 0, &h); err != nil {
		return nil, err
	}
	return &h, nil
}

// Call has the agent carry out op, and puts its result into result, which is a
// pointer, or nil if there is none. The error is *OpError if the operation
// failed, *FrameError if what the guest says makes no sense, or the
// connection's. After any error but *OpError the Client is of no more use.
func (c *Client) Call(op string, args, result any) error {
	data, err := json.Marshal(args)
	if err != nil {
		return err
	}
	c.id++
	if err := WriteRequest(c.rw, Request{ID: c.id, Op: op, Args: data}); err != nil {
		return fmt.Errorf("ask the guest's agent for %s: %w", op, err)
	}
	return c.reply(op, c.id, result)
}

func (c *Client) reply(op string, id uint64, result any) error {
	reply, err := ReadReply(c.rw)
	if err != nil {
		return fmt.Errorf("wait for the guest's agent to answer %s: %w", op, err)
	}
	switch {
	case reply.ID != id:
		err = frameErrorf(nil, "it answers request %d, not %d", reply.ID, id)
	case reply.Error != "":
		return &OpError{op, reply.Error}
	case result != nil:
		if e := json.Unmarshal(reply.Result, result); e != nil {
			err = frameErrorf(reply.Result, "no %T: %v", result, e)
		}
	}
	if err != nil {
		return fmt.Errorf("the guest's agent on %s: %w", op, err)
	}
	return nil
}
