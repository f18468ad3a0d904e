package stream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

func TestRelay(t *testing.T) {
	good, done := sample()
	good = append(good, make([]byte, 3*chunk)...)
	spoiled := bytes.Clone(good)
	spoiled[done-100] ^= 0x40 // in a page
	broken := bytes.Clone(good)
	broken[done-7] = 0x40 // the last section's end
	for name, test := range map[string]struct {
		stream []byte
		at     int64 // of the error, -1 if there is none
	}{
		"good":      {good, -1},
		"spoiled":   {spoiled, -1},
		"broken":    {broken, int64(done) - 14},
		"truncated": {good[:done-1], int64(done) - 1},
		"nothing":   {nil, 0},
		"other":     {[]byte("GET / HTTP/1.1\r\n\r\n"), 0},
	} {
		for i, src := range []io.Reader{
			bytes.NewReader(test.stream),
			iotest.OneByteReader(bytes.NewReader(test.stream)),
			iotest.DataErrReader(bytes.NewReader(test.stream)),
			&cutReader{test.stream, pieces(rand.New(rand.NewPCG(5, 6)))},
		} {
			var dst bytes.Buffer
			err := Relay(&dst, src, NewReader(Options{MaxRAM: maxRAM}))
			if !bytes.Equal(dst.Bytes(), test.stream) {
				t.Errorf("%s, %d: %d bytes arrive that are not the %d sent", name, i, dst.Len(), len(test.stream))
			}
			e := (*Error)(nil)
			if test.at < 0 && err != nil || test.at >= 0 && (!errors.As(err, &e) || e.Offset != test.at) {
				t.Errorf("%s, %d: %v, want one at %d", name, i, err, test.at)
			}
		}
	}
}

type cutReader struct {
	left []byte
	next func() int
}

func (c *cutReader) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.left[:min(c.next(), len(c.left))])
	c.left = c.left[n:]
	return n, nil
}

func TestRelayWhoseEndsFail(t *testing.T) {
	stream, done := sample()
	fault := errors.New("fault")
	for name, n := range map[string]int{"before the device": done - 1, "after it": len(stream)} {
		src := io.MultiReader(bytes.NewReader(stream[:n]), iotest.ErrReader(fault))
		if err := Relay(io.Discard, src, NewReader(Options{MaxRAM: maxRAM})); err == nil || !errors.Is(err, fault) {
			t.Errorf("the source fails %s: %v", name, err)
		}
	}
	for name, dst := range map[string]io.Writer{
		"error": failingWriter{fault}, "short": failingWriter{nil},
	} {
		err := Relay(dst, bytes.NewReader(stream), NewReader(Options{MaxRAM: maxRAM}))
		if want := map[string]error{"error": fault, "short": io.ErrShortWrite}[name]; err == nil || !errors.Is(err, want) {
			t.Errorf("the destination fails, %s: %v", name, err)
		}
	}
	err := Relay(failingWriter{fault}, bytes.NewReader(make([]byte, 8)), NewReader(Options{MaxRAM: maxRAM}))
	if e := (*Error)(nil); !errors.Is(err, fault) || !errors.As(err, &e) {
		t.Errorf("both fail: %v", err)
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write(p []byte) (int, error) { return len(p) / 2, f.err }

func pair(tb testing.TB) (a, b net.Conn) {
	tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		if conns[i], err = net.FileConn(f); err != nil {
			tb.Fatal(err)
		}
		f.Close()
		tb.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

// BenchmarkRelay copies from socket to socket; that without a reader is there to
// compare with.
func BenchmarkRelay(b *testing.B) {
	const pages = 4096
	setup, section := pass(pages)
	for name, relay := range map[string]func(dst io.Writer, src io.Reader) error{
		"reader": func(dst io.Writer, src io.Reader) error {
			seen, err := relay(dst, src, NewReader(Options{MaxRAM: pages * pageSize, Page: func(Page) error { return nil }}))
			return errors.Join(seen, err)
		},
		"copy": func(dst io.Writer, src io.Reader) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, chunk))
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			source, src := pair(b)
			dst, destination := pair(b)
			relayed, drained := make(chan error, 1), make(chan int64, 1)
			go func() {
				err := relay(dst, src)
				dst.Close()
				relayed <- err
			}()
			go func() {
				n, _ := io.CopyBuffer(io.Discard, struct{ io.Reader }{destination}, make([]byte, chunk))
				drained <- n
			}()
			source.Write(setup)
			b.SetBytes(int64(len(section)))
			n := int64(len(setup))
			for b.Loop() {
				if _, err := source.Write(section); err != nil {
					b.Fatal(err)
				}
				n += int64(len(section))
			}
			source.Close()
			if err := <-relayed; err != nil {
				b.Fatal(err)
			}
			if got := <-drained; got != n {
				b.Fatalf("%d bytes arrive, want %d", got, n)
			}
		})
	}
}
