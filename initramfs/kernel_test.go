//go:build kernel

package initramfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/u-root/mkuimage/cpio"

	"patchgen/initramfs/protocol"
)

func buildIn(t *testing.T, dir string) string {
	t.Helper()
	t.Chdir(dir)
	image, err := Build(context.Background(), Options{Cache: "cache"})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// TestBuild builds the image in two places, the second of them in a foreign
// module of a git clone, with settings that must not matter.
func TestBuild(t *testing.T) {
	first := buildIn(t, t.TempDir())
	other := filepath.Join(t.TempDir(), "a place")
	if err := os.Mkdir(other, 0o777); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("git", "init", other).CombinedOutput(); err != nil {
		t.Fatalf("git: %v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(other, "go.mod"), []byte("module other\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOFLAGS", "-mod=vendor -race")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("GOOS", "plan9")
	defer syscall.Umask(syscall.Umask(0o077))
	second := buildIn(t, other)

	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(a) != sha256.Sum256(b) || filepath.Base(first) != filepath.Base(second) {
		t.Errorf("%s and %s differ", first, second)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(second), "*")); len(left) != 1 {
		t.Errorf("the cache holds %q", left)
	}

	archive, err := cpio.ArchiveFromReader(cpio.Newc.Reader(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin/agent", "bbin/bb", "init", "bin/sh", "bbin/ls", "bbin/dmesg", "dev/console"} {
		if _, ok := archive.Files[name]; !ok {
			t.Errorf("%s is not in the image", name)
		}
	}

	start := time.Now()
	if again := buildIn(t, other); again != second || time.Since(start) > 5*time.Second {
		t.Errorf("the image is built again: %s, in %v", again, time.Since(start))
	}
}

func TestBuildIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	cache := t.TempDir()
	start := time.Now()
	if _, err := Build(ctx, Options{Cache: cache}); err != context.DeadlineExceeded || time.Since(start) > 10*time.Second {
		t.Errorf("the error is %v after %v", err, time.Since(start))
	}
	if left, _ := os.ReadDir(cache); len(left) != 0 {
		t.Errorf("it leaves %v", left)
	}
}

// A guest is a QEMU whose agent the test speaks with.
type guest struct {
	*protocol.Client
	hello *protocol.Hello
	limit time.Time // of all that is said
	wait  func() error
}

// boot boots PATCHGEN_KERNEL, a bzImage, with more arguments of the kernel and of QEMU.
func boot(t *testing.T, machine, cmdline string, args ...string) *guest {
	t.Helper()
	kernel := os.Getenv("PATCHGEN_KERNEL")
	if kernel == "" {
		t.Fatal("PATCHGEN_KERNEL names no kernel: give it a bzImage that patchgen build made")
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatalf("%v: install the package qemu-system-x86", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	image, err := Build(context.Background(), Options{Cache: filepath.Join(cache, "patchgen", "initramfs")})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	cmd := exec.Command(qemu, append([]string{
		"-machine", machine, "-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none",
		"-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", image,
		"-append", "console=ttyS0 panic=-1 quiet rdinit=" + Agent + " " + cmdline,
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,path=" + socket,
		"-device", "virtserialport,chardev=agent,name=" + protocol.Port,
	}, args...)...)
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("console:\n%s", console.Bytes())
		}
	})
	limit := start.Add(time.Minute)
	listener.(*net.UnixListener).SetDeadline(limit)
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(limit)
	g := &guest{Client: protocol.NewClient(conn), limit: limit, wait: cmd.Wait}
	if g.hello, err = g.WaitHello(); err != nil {
		t.Fatal(err)
	}
	t.Logf("hello after %v: %+v", time.Since(start), g.hello)
	return g
}

// TestBoot has the agent do everything in a guest, but for what the module does.
func TestBoot(t *testing.T) {
	const pages, packets, seed, old = 4096, 1000, 42, 41
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	disk := make([]byte, pages*protocol.PageSize)
	for i := range uint64(pages) {
		protocol.Fill(disk[i*protocol.PageSize:][:protocol.PageSize], seed, i)
	}
	disk[7*protocol.PageSize]++
	if err := os.WriteFile(in("disk"), disk, 0o666); err != nil {
		t.Fatal(err)
	}
	wire, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: in("host"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()

	c := boot(t, "q35", "patchgen.provoke=poweroff@marking", "-m", "256",
		"-drive", "if=none,id=disk,format=raw,file="+in("disk"), "-device", "virtio-blk-pci,drive=disk",
		"-netdev", "dgram,id=net,local.type=unix,local.path="+in("guest")+",remote.type=unix,remote.path="+in("host"),
		"-device", "virtio-net-pci,netdev=net,mac=52:54:00:12:34:56",
	)
	call := func(op string, args, result any) {
		t.Helper()
		if err := c.Call(op, args, result); err != nil {
			t.Error(err)
		}
	}
	call(protocol.OpTouch, protocol.TouchArgs{Pages: pages, Seed: old}, nil)
	call(protocol.OpHeartbeat, protocol.HeartbeatArgs{Pages: 256}, nil)
	var v protocol.VerifyResult
	if call(protocol.OpVerify, protocol.VerifyArgs{Seed: old}, &v); v.Bad != 0 || v.Pages != pages {
		t.Errorf("after touch: %+v", v)
	}
	var at protocol.AddressesResult
	call(protocol.OpAddresses, nil, &at)
	for name, runs := range map[string][]protocol.Run{"buffer": at.Buffer, "heartbeat": at.Heartbeat} {
		want := map[string]uint64{"buffer": pages, "heartbeat": 256}[name]
		var sum uint64
		for _, r := range runs {
			sum += r[1]
		}
		if t.Logf("%s: %d runs", name, len(runs)); sum != want {
			t.Errorf("%s: %d pages have an address, want %d", name, sum, want)
		}
	}
	var r protocol.ReadResult
	if call(protocol.OpRead, protocol.ReadArgs{}, &r); r != (protocol.ReadResult{Device: "vda", Bytes: int64(len(disk))}) {
		t.Errorf("read: %+v", r)
	}
	v = protocol.VerifyResult{}
	call(protocol.OpVerify, protocol.VerifyArgs{Seed: seed, Old: old}, &v)
	if v.Bad != 1 || !slices.Equal(v.BadList, []protocol.BadPage{{Index: 7, Looks: protocol.Torn}}) {
		t.Errorf("after read: %+v", v)
	}

	var l protocol.ListenResult
	call(protocol.OpListen, nil, &l)
	t.Logf("listen: %+v", l)
	mac, err := net.ParseMAC(l.MAC)
	if err != nil {
		t.Fatal(err)
	}
	guest := &net.UnixAddr{Name: in("guest"), Net: "unixgram"}
	for i := range uint64(packets) {
		if _, err := wire.WriteToUnix(datagram(mac, seed, i), guest); err != nil {
			t.Fatal(err)
		}
	}
	var q protocol.QueuedResult
	for q.Received < packets && time.Now().Before(c.limit) && !t.Failed() {
		call(protocol.OpQueued, nil, &q)
	}
	t.Logf("queued: %+v", q)
	var u protocol.UnbindResult
	call(protocol.OpUnbind, protocol.UnbindArgs{Driver: "virtio_net"}, &u)
	call(protocol.OpUnbind, protocol.UnbindArgs{Driver: "virtio_blk"}, &u)
	if err := c.Call(protocol.OpUnbind, protocol.UnbindArgs{Driver: "virtio_blk"}, nil); err == nil {
		t.Error("virtio_blk is unbound twice")
	}
	var d protocol.DrainResult
	if call(protocol.OpDrain, protocol.DrainArgs{Seed: seed, Expect: packets}, &d); d.Count != packets || d.Bad+d.Duplicates+d.Missing != 0 {
		t.Errorf("drain: %+v", d)
	}

	var counters map[string]uint64
	if err := c.Call(protocol.OpCounters, nil, &counters); err != nil && !strings.Contains(err.Error(), "has no dma_page_dirtying") {
		t.Error(err)
	}
	t.Logf("counters: %v", counters)

	// It powers off, as the command line says.
	if err := c.Call(protocol.OpMarking, protocol.MarkingArgs{}, nil); !errors.Is(err, io.EOF) {
		t.Errorf("the error is %v, want io.EOF", err)
	}
	if err := c.wait(); err != nil {
		t.Errorf("qemu: %v", err)
	}
}

// datagram returns a frame of ethernet with a datagram for the agent.
func datagram(to net.HardwareAddr, seed, index uint64) []byte {
	const size = 1400
	b := append(slices.Clone([]byte(to)), 0x52, 0x54, 0, 0, 0, 1, 8, 0)
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 2, 3, 10, 0, 2, 2}
	binary.BigEndian.PutUint16(ip[2:], 20+8+size)
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	b = append(b, ip...)
	b = binary.BigEndian.AppendUint16(b, 1000)
	b = binary.BigEndian.AppendUint16(b, protocol.GuestPort)
	b = binary.BigEndian.AppendUint16(b, 8+size)
	b = append(b, 0, 0) // no checksum
	b = binary.LittleEndian.AppendUint64(b, index)
	rest := make([]byte, size-8)
	protocol.Fill(rest, seed, index)
	return append(b, rest...)
}

// TestDMA has the module, PATCHGEN_MODULE, map memory in each way for two devices
// of PATCHGEN_KERNEL, which is to be a patched one, and take it back.
func TestDMA(t *testing.T) {
	file := os.Getenv("PATCHGEN_MODULE")
	if file == "" {
		t.Fatal("PATCHGEN_MODULE names no module: give it the .ko that was compiled for PATCHGEN_KERNEL")
	}
	module, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("direct", func(t *testing.T) { testDMA(t, module, false) })
	t.Run("bounced", func(t *testing.T) { testDMA(t, module, true) })
}

func testDMA(t *testing.T, module []byte, forced bool) {
	cmdline := "dma_page_dirtying=on"
	if forced {
		cmdline += " swiotlb=force"
	}
	c := boot(t, "q35,max-ram-below-4g=256M", cmdline, "-m", "512",
		"-object", "memory-backend-ram,id=m0,size=64K,share=on", "-device", "ivshmem-plain,memdev=m0,master=on",
		"-object", "memory-backend-ram,id=m1,size=64K,share=on", "-device", "ivshmem-plain,memdev=m1,master=on",
	)
	call := func(op string, args, result any) {
		t.Helper()
		if err := c.Call(op, args, result); err != nil {
			t.Error(err)
		}
	}
	fails := func(want, op string, args any) {
		t.Helper()
		if err := c.Call(op, args, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", op, err, want)
		}
	}
	mapOne := func(cell protocol.Cell) protocol.Mapped {
		t.Helper()
		var r protocol.MapResult
		if call(protocol.OpMap, protocol.MapArgs{Cells: []protocol.Cell{cell}}, &r); len(r.Cells) != 1 {
			t.Fatalf("%d cells", len(r.Cells))
		}
		return r.Cells[0]
	}
	counters := func() map[string]uint64 {
		t.Helper()
		var m map[string]uint64
		call(protocol.OpCounters, nil, &m)
		return m
	}
	giveBack := func(returns ...protocol.Return) {
		t.Helper()
		call(protocol.OpReturn, protocol.ReturnArgs{Returns: returns}, nil)
	}

	fails("ENOEXEC", protocol.OpLoad, protocol.LoadArgs{Module: []byte("no module")})
	fails("no module yet", protocol.OpMap, protocol.MapArgs{})
	call(protocol.OpLoad, protocol.LoadArgs{Module: module}, nil)
	fails("already", protocol.OpLoad, protocol.LoadArgs{Module: module})
	if t.Failed() {
		return
	}

	const above = 1 << 20 // the frame at 4 GiB
	for _, want := range []struct {
		protocol.Cell
		error string
		pages uint64 // that are marked
	}{
		{Cell: protocol.Cell{Map: "single", Dir: "from", Offset: 4000, Length: 200}, pages: 2},
		{Cell: protocol.Cell{Map: "single", Dir: "to", Offset: 4000, Length: 200}},
		{Cell: protocol.Cell{Map: "single", Dir: "from", SkipSync: true, Offset: 8, Length: 4096}, pages: 2},
		{Cell: protocol.Cell{Map: "single", Dir: "from", RequireCoherent: true, Length: 1}, pages: 1},
		{Cell: protocol.Cell{Map: "page", Dir: "bidi", High: true, Length: 3 * 4096}, pages: 3},
		{Cell: protocol.Cell{Map: "page", Dir: "bidi", High: true, Length: 3 * 4096, Device: 1}, pages: 3},
		{Cell: protocol.Cell{Map: "sg", Dir: "from", Offset: 64, Length: 1514, Entries: 3}, pages: 3},
		{Cell: protocol.Cell{Map: "sg", Dir: "from", Offset: 64, Length: 5000, Entries: 4, High: true, Device: 1}, pages: 8},
		{Cell: protocol.Cell{Map: "phys", Dir: "from", Length: 64 << 10}, pages: 16},
		{Cell: protocol.Cell{Map: "single", Dir: "from", Offset: 0x234, Length: 3 << 20}, pages: 769},
		{Cell: protocol.Cell{Map: "resource", Dir: "bidi", Length: 4096}},
		{Cell: protocol.Cell{Map: "coherent", Dir: "bidi", Length: 8192}},
		{Cell: protocol.Cell{Map: "single", Dir: "from", Device: 2, Length: 1}, error: "invalid argument"},
		{Cell: protocol.Cell{Map: "single", Dir: "from", Device: -1, Length: 1}, error: "invalid argument"},
		{Cell: protocol.Cell{Map: "single", Dir: "from", Length: 1, Entries: 2}, error: "invalid argument"},
		{Cell: protocol.Cell{Map: "sg", Dir: "from", Length: 1, Entries: 5}, error: "invalid argument"},
		{Cell: protocol.Cell{Map: "sg", Dir: "from", Length: 2 << 20, Entries: 2}, error: "invalid argument"},
		{Cell: protocol.Cell{Map: "single", Dir: "from"}, error: "invalid argument"},
		{Cell: protocol.Cell{Map: "single", Dir: "from", Length: 5 << 20}, error: "invalid argument"},
		{Cell: protocol.Cell{Map: "page", Dir: "from", Offset: 4096, Length: 1}, error: "invalid argument"},
		{Cell: protocol.Cell{Map: "coherent", Dir: "from", Offset: 1, Length: 1}, error: "invalid argument"},
		{Cell: protocol.Cell{Map: "resource", Dir: "from", Offset: 1, Length: 64 << 10}, error: "invalid argument"},
		{Cell: protocol.Cell{Map: "dance", Dir: "from", Length: 1}, error: `"dance" is none of`},
		{Cell: protocol.Cell{Map: "page", Dir: "up", Length: 1}, error: `"up" is none of`},
	} {
		cell := want.Cell
		cell.Entries = max(cell.Entries, 1)
		m := mapOne(cell)
		switch {
		case want.error != "":
			if !strings.Contains(m.Error, want.error) {
				t.Errorf("%+v: the error is %q, want %q", cell, m.Error, want.error)
			}
			continue
		case m.Error == protocol.NotSupported && (cell.Map == "phys" || cell.RequireCoherent):
			t.Logf("%s, RequireCoherent %t: not supported", cell.Map, cell.RequireCoherent)
			continue
		// No bounce buffer is as large; these must not have one, and newer kernels
		// (7.3 does, 6.12 does not) then refuse registers, too.
		case m.Error == "input/output error" && forced && (cell.Length > 256<<10 || cell.RequireCoherent || cell.Map == "resource"):
			t.Logf("%+v: %s", cell, m.Error)
			continue
		case m.Error != "":
			t.Errorf("%+v: %s", cell, m.Error)
			continue
		}
		memory := cell.Map != "resource" && cell.Map != "coherent"
		bounced := memory && (forced || cell.High && cell.Device == 1)
		if len(m.DMA) != cell.Entries || m.ID == 0 || memory && (m.Frame >= above) != cell.High {
			t.Errorf("%+v: %+v", cell, m)
		}
		n := (uint64(cell.Offset)+uint64(cell.Length)+protocol.PageSize-1)/protocol.PageSize + 1
		if memory && uint64(m.Pages) != 1+n*uint64(cell.Entries) {
			t.Errorf("%+v: %d pages", cell, m.Pages)
		}
		for i, address := range m.DMA {
			at := (m.Frame+1+uint64(i)*n)*protocol.PageSize + uint64(cell.Offset)
			if memory && (address != at) != bounced {
				t.Errorf("%+v: buffer %d at %#x has the address %#x", cell, i, at, address)
			}
		}
		before := counters()
		if memory {
			giveBack(protocol.Return{ID: m.ID, How: "device"}, protocol.Return{ID: m.ID, How: "sync"})
		} else if cell.Map == "resource" {
			giveBack(protocol.Return{ID: m.ID, How: "sync"})
		}
		synced := counters()
		giveBack(protocol.Return{ID: m.ID, How: "unmap"})
		after := counters()
		marked, pages := synced["pages"]-before["pages"], after["pages"]-synced["pages"]
		t.Logf("%s %s skip %t high %t device %d, %d bytes at %d: %d pages marked by sync, %d by unmap", cell.Map, cell.Dir, cell.SkipSync, cell.High, cell.Device, cell.Length, cell.Offset, marked, pages)
		if bounced {
			want.pages = 0
		}
		if marked != want.pages || pages != want.pages {
			t.Errorf("%+v: %d pages marked by sync, %d by unmap, want %d", cell, marked, pages, want.pages)
		}
		fails("no such file", protocol.OpReturn, protocol.ReturnArgs{Returns: []protocol.Return{{ID: m.ID, How: "unmap"}}})
	}

	m := mapOne(protocol.Cell{Map: "page", Dir: "bidi", Length: 2 * 4096, Entries: 1})
	giveBack(protocol.Return{ID: m.ID, How: "range", Offset: 8192}, protocol.Return{ID: m.ID, How: "range", Offset: 1, Length: 8191})
	for _, r := range []protocol.Return{
		{ID: m.ID, How: "range", Offset: 8193}, {ID: m.ID, How: "range", Offset: 1, Length: 8192},
		{ID: m.ID, How: "range", Offset: 2, Length: 1<<32 - 1}, {ID: m.ID, How: "sync", Length: 1}, {ID: m.ID, How: "unmap", Offset: 1},
	} {
		fails("invalid argument", protocol.OpReturn, protocol.ReturnArgs{Returns: []protocol.Return{r}})
	}
	fails(`"lend" is none of`, protocol.OpReturn, protocol.ReturnArgs{Returns: []protocol.Return{{ID: m.ID, How: "lend"}}})
	var s protocol.StressResult
	if call(protocol.OpStress, protocol.StressArgs{ID: m.ID, Milliseconds: 200, Ranges: [2][2]uint32{{0, 2048}, {2048, 2048}}}, &s); s.Syncs == 0 {
		t.Error("no syncs")
	}
	t.Logf("%d syncs in 200 ms", s.Syncs)
	fails("invalid argument", protocol.OpStress, protocol.StressArgs{ID: m.ID, Milliseconds: 1, Ranges: [2][2]uint32{{0, 1}, {8192, 1}}})
	fails("invalid argument", protocol.OpStress, protocol.StressArgs{ID: m.ID, Milliseconds: 60001})
	fails("no such file", protocol.OpStress, protocol.StressArgs{ID: 1 << 31})

	// Many at once, as the matrix asks.
	cells := make([]protocol.Cell, 400)
	for i := range cells {
		cells[i] = protocol.Cell{Map: "sg", Dir: "from", Offset: 64, Length: 1514, Entries: 4, High: i%2 == 0}
	}
	var many protocol.MapResult
	start := time.Now()
	call(protocol.OpMap, protocol.MapArgs{Cells: cells}, &many)
	var back []protocol.Return
	for _, m := range many.Cells {
		if m.Error != "" {
			t.Fatal(m.Error)
		}
		back = append(back, protocol.Return{ID: m.ID, How: "unmap"})
	}
	giveBack(back...)
	t.Logf("%d cells mapped and unmapped in %v", len(cells), time.Since(start))
	t.Logf("counters: %v", counters())
}
