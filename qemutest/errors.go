package qemutest

import (
	"fmt"
	"strings"
	"time"
)

// A CrashError says that a guest's kernel broke, or ended when it should not.
type CrashError struct {
	Guest string // "source" or "destination"; "" of one alone
	End   End    // Exited: it powered off or reset itself
	Why   string // the console's line that tells, if there is one
}

func (e *CrashError) Error() string {
	s := "the guest "
	if e.Guest != "" {
		s = "the " + e.Guest + " guest "
	}
	switch e.End {
	case Exited:
		return s + "powered off or reset itself"
	default:
		return s + e.End.String() + ": " + e.Why
	}
}

// An AgentError says that what the guest's agent sent makes no sense, or that
// it gave up.
type AgentError struct {
	Guest string
	Err   error
}

func (e *AgentError) Error() string { return fmt.Sprintf("the %s guest: %v", e.Guest, e.Err) }
func (e *AgentError) Unwrap() error { return e.Err }

// A TimeError says that something did not come in its time.
type TimeError struct {
	What  string // reads on from "no": "answer to read from the source guest's agent"
	Limit time.Duration
}

func (e *TimeError) Error() string { return fmt.Sprintf("no %s within %v", e.What, e.Limit) }

// A QEMUError says that QEMU did not start, ended when it should not, or
// refuses what is asked of it.
type QEMUError struct {
	What      string // such as "the source's QEMU ended by itself"
	Err       error
	Complaint string // what it printed to standard error, cut
}

func (e *QEMUError) Error() string {
	s := e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if c := strings.TrimSpace(e.Complaint); c != "" {
		s += ": " + c
	}
	return s
}

func (e *QEMUError) Unwrap() error { return e.Err }

// A DeviceError says that one of the two vhost-user devices of a guest broke
// off: its driver or QEMU spoke nonsense to it.
type DeviceError struct {
	Guest  string
	Device string // "disk" or "card"
	Err    error
}

func (e *DeviceError) Error() string {
	return fmt.Sprintf("the %s guest's %s: %v", e.Guest, e.Device, e.Err)
}

func (e *DeviceError) Unwrap() error { return e.Err }
