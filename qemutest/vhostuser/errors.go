package vhostuser

import "fmt"

// A ProtocolError says that QEMU sent a wrong message, or that the memory
// behind one has gone. The connection is closed on it.
type ProtocolError struct {
	Request string // the message's name in vhost-user.rst, such as "SET_MEM_TABLE"
	Err     error
}

func (e *ProtocolError) Error() string { return fmt.Sprintf("vhost-user %s: %v", e.Request, e.Err) }

func (e *ProtocolError) Unwrap() error { return e.Err }

// A GuestError says that the guest's driver broke the rules of a virtqueue.
type GuestError struct {
	Queue int // its index
	Err   error
}

func (e *GuestError) Error() string { return fmt.Sprintf("virtqueue %d: %v", e.Queue, e.Err) }

func (e *GuestError) Unwrap() error { return e.Err }
