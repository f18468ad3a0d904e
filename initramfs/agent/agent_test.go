package main

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"patchgen/initramfs/protocol"
)

// tree writes files into a folder that stands in for the guest's root.
func tree(t *testing.T, files map[string]string) *agent {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return newAgent(root)
}

// connect has a serve one end of a socket, and returns the other.
func connect(t *testing.T, a *agent) (host *port, c *protocol.Client) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// A port that is gone ends serve; one whose host is gone does not.
	guest := &port{fds[1]}
	host = &port{fds[0]}
	go a.serve(guest, false)
	t.Cleanup(func() { unix.Shutdown(fds[0], unix.SHUT_RDWR) })
	return host, protocol.NewClient(host)
}

func wantOpError(t *testing.T, err error, text string) {
	t.Helper()
	var e *protocol.OpError
	if !errors.As(err, &e) || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v, want an OpError with %q", err, text)
	}
}

func TestBuffer(t *testing.T) {
	a := newAgent("/")
	_, c := connect(t, a)
	const pages = 8
	var v protocol.VerifyResult
	wantOpError(t, c.Call(protocol.OpVerify, protocol.VerifyArgs{}, &v), "no buffer")
	wantOpError(t, c.Call(protocol.OpTouch, protocol.TouchArgs{Pages: 0}, nil), "0 pages")
	wantOpError(t, c.Call(protocol.OpTouch, protocol.TouchArgs{Pages: 1 << 60}, nil), "free")
	if err := c.Call(protocol.OpTouch, protocol.TouchArgs{Pages: pages, Seed: 1}, nil); err != nil {
		t.Fatal(err)
	}
	wantOpError(t, c.Call(protocol.OpTouch, protocol.TouchArgs{Pages: pages, Seed: 1}, nil), "already")
	verify := func(seed, old uint64, bad ...protocol.BadPage) {
		t.Helper()
		var v protocol.VerifyResult
		if err := c.Call(protocol.OpVerify, protocol.VerifyArgs{Seed: seed, Old: old}, &v); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(protocol.VerifyResult{Pages: pages, Bad: len(bad), BadList: bad}, v); d != "" {
			t.Errorf("verify %d: differs:\n%s", seed, d)
		}
	}
	verify(1, 0)
	if err := c.Call(protocol.OpStore, protocol.StoreArgs{Seed: 2}, nil); err != nil {
		t.Fatal(err)
	}
	protocol.Fill(page(a.buffer, 3), 1, 3)
	a.buffer[5*pageSize+100]++
	clear(page(a.buffer, 7))
	verify(2, 1, protocol.BadPage{Index: 3, Looks: protocol.Stale}, protocol.BadPage{Index: 5, Looks: protocol.Torn}, protocol.BadPage{Index: 7, Looks: protocol.Zero})
}

func TestHeartbeat(t *testing.T) {
	a := newAgent("/")
	if _, err := a.heartbeat(protocol.HeartbeatArgs{Pages: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.heartbeat(protocol.HeartbeatArgs{Pages: 2}); err == nil {
		t.Error("a second heartbeat is no error")
	}
}

func TestServe(t *testing.T) {
	host, c := connect(t, newAgent("/"))
	wantOpError(t, c.Call("dance", nil, nil), `no operation "dance"`)
	wantOpError(t, c.Call(protocol.OpTouch, []int{1}, nil), "its arguments")
	wantOpError(t, c.Call(protocol.OpTouch, map[string]int{"Pages": -1}, nil), "-1 pages")
	var h protocol.Hello
	if err := c.Call(protocol.OpHello, nil, &h); err != nil {
		t.Fatal(err)
	}
	if h.Kernel == "" || h.CPUs < 1 || h.BootMS < 1 {
		t.Errorf("it says %+v", h)
	}

	// A frame that makes no sense is answered, and the next is served.
	if _, err := host.Write([]byte("\x00\x00\x00\x02hi")); err != nil {
		t.Fatal(err)
	}
	r, err := protocol.ReadReply(host)
	if err != nil || r.ID != 0 || !strings.Contains(r.Error, "hi") {
		t.Errorf("it says %+v, %v", r, err)
	}
	if err := c.Call(protocol.OpHello, nil, &h); err != nil {
		t.Fatal(err)
	}
}

func TestPanicIsAnError(t *testing.T) {
	ops["break"] = none(func(*agent) (any, error) { return []int{}[len(os.Args)], nil })
	ops["long"] = none(func(*agent) (any, error) { return strings.Repeat("x", protocol.MaxFrame), nil })
	t.Cleanup(func() { delete(ops, "break"); delete(ops, "long") })
	_, c := connect(t, newAgent("/"))
	wantOpError(t, c.Call("break", nil, nil), "index out of range")
	wantOpError(t, c.Call("long", nil, nil), "longer than")
}

func TestFindPort(t *testing.T) {
	a := tree(t, map[string]string{
		"sys/class/virtio-ports/vport1p0/name": "console\n",
		"sys/class/virtio-ports/vport1p1/name": protocol.Port + "\n",
		"sys/class/virtio-ports/vport1p2/dev":  "",
	})
	if got, err := a.findPort(); err != nil || got != a.path("dev/vport1p1") {
		t.Errorf("it finds %q, %v", got, err)
	}
	if got, err := newAgent(t.TempDir()).findPort(); err != nil || got != "" {
		t.Errorf("it finds %q, %v where there is none", got, err)
	}
}

func TestParsePagemap(t *testing.T) {
	entries := func(frames ...uint64) []byte {
		var b []byte
		for _, f := range frames {
			b = binary.NativeEndian.AppendUint64(b, f)
		}
		return b
	}
	const present, dirty = 1 << 63, 1 << 55
	got, err := parsePagemap(entries(present|9, present|dirty|10, present|11, present|5, present|4, present|1<<40))
	if d := cmp.Diff([]protocol.Run{{9, 3}, {5, 1}, {4, 1}, {1 << 40, 1}}, got); err != nil || d != "" {
		t.Errorf("%v, differs:\n%s", err, d)
	}
	for want, e := range map[string][]byte{
		"page 1 is not in memory": entries(present|9, 10),
		"hides where page 0":      entries(present),
		"page 2 is not in memory": entries(present|9, present|10, 0),
	} {
		if _, err := parsePagemap(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
	}
}

const udpTable = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops             
   17: 0100007F:12B7 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0000000000000000 0             
  187: 00000000:12B8 00000000:0000 07 00000000:00000A00 00:00000000 00000000     0        0 13 2 0000000000000000 7             
`

func TestParseUDP(t *testing.T) {
	got, err := parseUDP(udpTable, 0x12b8)
	if d := cmp.Diff(&protocol.QueuedResult{Bytes: 0xa00, Drops: 7}, got); err != nil || d != "" {
		t.Errorf("%v, differs:\n%s", err, d)
	}
	for name, table := range map[string]string{
		"no socket": udpTable, "empty": "",
		"queue": strings.ReplaceAll(udpTable, ":12B8", ":0050") + strings.Replace(udpTable, "00000A00", "0000G", 1),
	} {
		if got, err := parseUDP(table, 0x12b9); err == nil {
			t.Errorf("%s: it finds %+v", name, got)
		}
	}
	if _, err := parseUDP(strings.Replace(udpTable, "00000A00", "G", 1), 0x12b8); err == nil {
		t.Error("a queue of G bytes is no error")
	}
}

func TestDrain(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	a := newAgent("/")
	if _, err := a.drain(protocol.DrainArgs{}); err == nil {
		t.Error("no error without a socket")
	}
	a.socket = fds[1]
	send := func(index, made uint64) {
		b := make([]byte, 1400)
		binary.LittleEndian.PutUint64(b, index)
		protocol.Fill(b[8:], 5, made)
		if err := unix.Send(fds[0], b, 0); err != nil {
			t.Fatal(err)
		}
	}
	send(0, 0)
	send(2, 2)
	send(2, 2)
	send(1, 7)
	send(9, 9)
	if err := unix.Send(fds[0], []byte("short"), 0); err != nil {
		t.Fatal(err)
	}
	got, err := a.drain(protocol.DrainArgs{Seed: 5, Expect: 4})
	if err != nil {
		t.Fatal(err)
	}
	want := protocol.DrainResult{Count: 6, Bad: 3, BadList: []uint64{1, 9, 0}, Duplicates: 1, Missing: 2}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("differs:\n%s", d)
	}
	if _, err := a.drain(protocol.DrainArgs{Expect: 1 << 40}); err == nil {
		t.Error("2^40 datagrams are no error")
	}
}

func TestUnbind(t *testing.T) {
	a := tree(t, map[string]string{
		"sys/bus/virtio/drivers/virtio_blk/unbind":             "",
		"sys/bus/virtio/drivers/virtio_blk/virtio2/device":     "",
		"sys/bus/virtio/drivers/virtio_net/unbind":             "",
		"sys/bus/virtio/drivers/virtio_console/unbind":         "",
		"sys/bus/virtio/drivers/virtio_console/virtio1/device": "",
	})
	got, err := a.unbind(protocol.UnbindArgs{Driver: "virtio_blk"})
	if d := cmp.Diff(protocol.UnbindResult{Devices: []string{"virtio2"}}, got); err != nil || d != "" {
		t.Errorf("%v, differs:\n%s", err, d)
	}
	if s, err := a.readLine("sys/bus/virtio/drivers/virtio_blk/unbind"); err != nil || s != "virtio2" {
		t.Errorf("unbind was told %q, %v", s, err)
	}
	for _, driver := range []string{"virtio_net", "virtio_console", "", ".", "..", "../virtio_blk", "nothing"} {
		if _, err := a.unbind(protocol.UnbindArgs{Driver: driver}); err == nil {
			t.Errorf("%q is unbound", driver)
		}
	}
}

func TestMarking(t *testing.T) {
	a := tree(t, map[string]string{
		debugFolder + "/enabled": "0\n",
		debugFolder + "/pages":   "123456789012\n",
	})
	if _, err := a.marking(protocol.MarkingArgs{On: true}); err != nil {
		t.Fatal(err)
	}
	got, err := a.counters()
	if d := cmp.Diff(map[string]uint64{"enabled": 1, "pages": 123456789012}, got); err != nil || d != "" {
		t.Errorf("%v, differs:\n%s", err, d)
	}
	a = newAgent(t.TempDir())
	if _, err := a.marking(protocol.MarkingArgs{}); err == nil || !strings.Contains(err.Error(), "has no dma_page_dirtying") {
		t.Errorf("the error is %v", err)
	}
	if _, err := a.counters(); err == nil || !strings.Contains(err.Error(), "has no dma_page_dirtying") {
		t.Errorf("the error is %v", err)
	}
}

func TestProvoke(t *testing.T) {
	p := parseProvoke("quiet patchgen.provoke=nonsense@verify panic=-1\n")
	if p != (provocation{"nonsense", "verify"}) {
		t.Fatalf("it reads %+v", p)
	}
	var b strings.Builder
	p.at(protocol.OpTouch, &b)
	provocation{}.at("", &b)
	if b.Len() != 0 {
		t.Errorf("it writes %q at another operation", b.String())
	}
	p.at(protocol.OpVerify, &b)
	if r, err := protocol.ReadReply(strings.NewReader(b.String())); err != nil || r.ID == 0 {
		t.Errorf("it writes %+v, %v", r, err)
	}
	b.Reset()
	provocation{"garbage", "verify"}.at(protocol.OpVerify, &b)
	var nonsense *protocol.FrameError
	if _, err := protocol.ReadReply(strings.NewReader(b.String())); !errors.As(err, &nonsense) {
		t.Errorf("garbage gives %v", err)
	}
}
