package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func frame(s string) string {
	return string([]byte{byte(len(s) >> 24), byte(len(s) >> 16), byte(len(s) >> 8), byte(len(s))}) + s
}

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	want := Request{Version: Version, ID: 7, Op: OpTouch, Args: json.RawMessage(`{"Pages":3,"Seed":18446744073709551615}`)}
	if err := WriteRequest(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRequest(&b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&want, got); d != "" {
		t.Errorf("request differs:\n%s", d)
	}
	if _, err := ReadRequest(&b); err != io.EOF {
		t.Errorf("behind the last frame the error is %v, want io.EOF", err)
	}
}

func TestReadNonsense(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"too long", "\x00\x10\x00\x01{}", "longer than 1048576"},
		{"text", "login: root", "longer than"},
		{"no JSON", frame("hello"), "hello"},
		{"two values", frame(`{"Version":1}{"Version":1}`), "after top-level value"},
		{"no object", frame(`[1]`), "no *protocol.Reply"},
		{"nothing", frame(""), "no *protocol.Reply"},
		{"wrong type", frame(`{"Version":1,"ID":-1}`), "no *protocol.Reply"},
		{"version", frame(`{"Version":2,"ID":1}`), "version 2"},
		{"no version", frame(`{"ID":1}`), "version 0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ReadReply(strings.NewReader(test.in))
			var e *FrameError
			if !errors.As(err, &e) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want a FrameError with %q", err, test.want)
			}
		})
	}
	for _, in := range []string{"\x00", "\x00\x00\x00\x09", frame(`{"Version":1}`)[:9]} {
		if _, err := ReadReply(strings.NewReader(in)); err != io.ErrUnexpectedEOF {
			t.Errorf("of %q the error is %v, want io.ErrUnexpectedEOF", in, err)
		}
	}
}

func TestWriteTooLong(t *testing.T) {
	var b bytes.Buffer
	err := WriteReply(&b, Reply{Error: strings.Repeat("x", MaxFrame)})
	var e *FrameError
	if !errors.As(err, &e) || b.Len() != 0 {
		t.Errorf("the error is %v with %d bytes written, want a FrameError and none", err, b.Len())
	}
}

// guest answers each request with the next of replies.
func guest(t *testing.T, replies ...string) *Client {
	host, guest := net.Pipe()
	t.Cleanup(func() { host.Close() })
	go func() {
		defer guest.Close()
		for _, r := range replies {
			if _, err := ReadRequest(guest); err != nil {
				return
			}
			io.WriteString(guest, r)
		}
	}()
	return NewClient(host)
}

func TestCall(t *testing.T) {
	c := guest(t,
		frame(`{"Version":1,"ID":1,"Result":{"Pages":5,"Bad":1,"BadList":[{"Index":3,"Looks":"stale"}]}}`),
		frame(`{"Version":1,"ID":2,"Error":"no memory"}`),
		frame(`{"Version":1,"ID":3}`),
		frame(`{"Version":1,"ID":3}`),
	)
	var v VerifyResult
	if err := c.Call(OpVerify, VerifyArgs{1, 2}, &v); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(VerifyResult{5, 1, []BadPage{{3, Stale}}}, v); d != "" {
		t.Errorf("result differs:\n%s", d)
	}
	var failed *OpError
	if err := c.Call(OpTouch, TouchArgs{1, 2}, nil); !errors.As(err, &failed) || *failed != (OpError{OpTouch, "no memory"}) {
		t.Errorf("the error is %v, want an OpError", err)
	}
	if err := c.Call(OpStore, StoreArgs{1}, nil); err != nil {
		t.Error(err)
	}
	var nonsense *FrameError
	if err := c.Call(OpStore, StoreArgs{1}, nil); !errors.As(err, &nonsense) || !strings.Contains(err.Error(), "answers request 3, not 4") {
		t.Errorf("the error is %v, want a FrameError about the ID", err)
	}
	if err := c.Call(OpStore, StoreArgs{1}, nil); err == nil {
		t.Error("no error of a guest that is gone")
	}
}

func TestCallWithoutResult(t *testing.T) {
	c := guest(t, frame(`{"Version":1,"ID":1}`))
	var nonsense *FrameError
	if err := c.Call(OpHello, nil, new(Hello)); !errors.As(err, &nonsense) {
		t.Errorf("the error is %v, want a FrameError", err)
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add([]byte(frame(`{"Version":1,"ID":1,"Result":[1]}`)))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte(frame(`null`)))
	f.Fuzz(func(t *testing.T, in []byte) {
		reply, err := ReadReply(bytes.NewReader(in))
		if err != nil {
			var e *FrameError
			if !errors.As(err, &e) && err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Fatalf("the error is %v", err)
			}
			return
		}
		var b bytes.Buffer
		if err := WriteReply(&b, *reply); err != nil {
			return // it can be longer than what it was read from
		}
		again, err := ReadReply(&b)
		if err != nil {
			t.Fatalf("%+v does not come back: %v", reply, err)
		}
		if again.ID != reply.ID || again.Error != reply.Error {
			t.Fatalf("%+v comes back as %+v", reply, again)
		}
	})
}
