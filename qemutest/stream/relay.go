package stream

import (
	"errors"
	"io"
)

// chunk is how much Relay takes at once, in bytes: 64 pages and more.
const chunk = 256 << 10

// Relay copies src to dst until src ends, byte for byte, and has r see it first.
// What r does not understand does not stop the copying: a migration must not end
// because somebody looks at it. When src has ended, r is closed. The error is r's,
// or that of the copying, or both.
func Relay(dst io.Writer, src io.Reader, r *Reader) error {
	seen, err := relay(dst, src, r)
	if err != nil {
		return errors.Join(err, seen)
	}
	return r.Close()
}

// relay returns what the reader and what the copying ended with.
func relay(dst io.Writer, src io.Reader, r *Reader) (seen, err error) {
	buffer := make([]byte, chunk)
	for seen == nil && !r.Done() {
		n, err := src.Read(buffer)
		if n > 0 {
			_, seen = r.Write(buffer[:n])
			if m, err := dst.Write(buffer[:n]); err != nil {
				return seen, err
			} else if m < n {
				return seen, io.ErrShortWrite
			}
		}
		if err == io.EOF {
			return seen, nil
		}
		if err != nil {
			return seen, err
		}
	}
	_, err = io.Copy(dst, src)
	return seen, err
}
