package stream

import "fmt"

// An Error says that the stream is none that the reader understands, or that it
// ended too early.
type Error struct {
	Offset  int64 // bytes from the begin of the stream to what is wrong in it
	Problem string
}

func (e *Error) Error() string {
	return fmt.Sprintf("migration stream at byte %d: %s", e.Offset, e.Problem)
}
