package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"patchgen/initramfs/protocol"
)

func TestBeats(t *testing.T) {
	for _, tt := range []struct {
		since             time.Duration
		rate, done, pages int
		want              int
	}{
		{time.Second, 100, 0, 1000, 100},
		{time.Second, 100, 99, 1000, 1},
		{time.Second, 100, 100, 1000, 0},
		{time.Second, 100, 200, 1000, 0},  // a clock that went back
		{time.Hour, 1000, 10, 1000, 1000}, // a guest that was late
	} {
		if got := beats(tt.since, tt.rate, tt.done, tt.pages); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}

// A disk gives the number of a request in each of its bytes, and fails at the end.
type disk struct {
	offsets []int64
	last    int
}

var errGone = errors.New("gone")

func (d *disk) ReadAt(p []byte, offset int64) (int, error) {
	if len(d.offsets) == d.last {
		return 0, errGone
	}
	d.offsets = append(d.offsets, offset)
	for i := range p {
		p[i] = byte(len(d.offsets))
	}
	return len(p), nil
}

var _ io.ReaderAt = (*disk)(nil)

func TestReadOn(t *testing.T) {
	mem := make([]byte, 3*pageSize)
	d := &disk{last: 5}
	if err := readOn(d, mem, protocol.ReaderArgs{Request: 2 * pageSize, Offset: pageSize}); err != errGone {
		t.Error(err)
	}
	if want := []int64{pageSize, 3 * pageSize, pageSize, 3 * pageSize, pageSize}; !slices.Equal(d.offsets, want) {
		t.Errorf("it read at %v, want %v", d.offsets, want)
	}
	if !bytes.Equal(mem, slices.Concat(bytes.Repeat([]byte{5}, 2*pageSize), bytes.Repeat([]byte{4}, pageSize))) {
		t.Error("the memory is not what was read last")
	}
}

func TestReaderRefuses(t *testing.T) {
	a := tree(t, nil)
	_, c := connect(t, a)
	for want, args := range map[string]protocol.ReaderArgs{
		"no multiple":       {Pages: 1, Request: 100},
		"0 bytes":           {Pages: 1},
		"byte -4096":        {Pages: 1, Request: pageSize, Offset: -pageSize},
		"byte 1":            {Pages: 1, Request: pageSize, Offset: 1},
		"no virtio block d": {Pages: 1, Request: pageSize},
	} {
		wantOpError(t, c.Call(protocol.OpReader, args, nil), want)
	}
}

func TestBind(t *testing.T) {
	const folder = "sys/bus/virtio/drivers/virtio_blk/"
	a := tree(t, map[string]string{folder + "unbind": "", folder + "bind": "", folder + "virtio3/x": ""})
	_, c := connect(t, a)
	wantOpError(t, c.Call(protocol.OpBind, protocol.BindArgs{Driver: "virtio_blk"}, nil), "unbound")
	wantOpError(t, c.Call(protocol.OpBind, protocol.BindArgs{Driver: "../virtio_blk"}, nil), "unbound")
	if err := c.Call(protocol.OpUnbind, protocol.UnbindArgs{Driver: "virtio_blk"}, nil); err != nil {
		t.Fatal(err)
	}
	a.back = make(chan struct{}, 1)
	var r protocol.BindResult
	if err := c.Call(protocol.OpBind, protocol.BindArgs{Driver: "virtio_blk"}, &r); err != nil {
		t.Fatal(err)
	}
	bound, err := os.ReadFile(a.path(folder, "bind"))
	if err != nil || string(bound) != "virtio3" || !slices.Equal(r.Devices, []string{"virtio3"}) {
		t.Errorf("%v: %q was bound, and it says %v", err, bound, r.Devices)
	}
	if len(a.back) != 1 {
		t.Error("the reader is not told")
	}
	wantOpError(t, c.Call(protocol.OpBind, protocol.BindArgs{Driver: "virtio_blk"}, nil), "unbound")
}
