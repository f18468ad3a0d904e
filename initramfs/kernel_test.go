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

// TestBoot has the agent do everything in a guest, whose kernel, a bzImage, is
// PATCHGEN_KERNEL.
func TestBoot(t *testing.T) {
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
	listener, err := net.Listen("unix", in("agent"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	cmd := exec.Command(qemu, "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none",
		"-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", image,
		"-append", "console=ttyS0 panic=-1 quiet patchgen.provoke=poweroff@marking rdinit="+Agent,
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,path="+in("agent"),
		"-device", "virtserialport,chardev=agent,name="+protocol.Port,
		"-drive", "if=none,id=disk,format=raw,file="+in("disk"), "-device", "virtio-blk-pci,drive=disk",
		"-netdev", "dgram,id=net,local.type=unix,local.path="+in("guest")+",remote.type=unix,remote.path="+in("host"),
		"-device", "virtio-net-pci,netdev=net,mac=52:54:00:12:34:56",
	)
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("console:\n%s", console.Bytes())
		}
	}()
	limit := start.Add(time.Minute)
	listener.(*net.UnixListener).SetDeadline(limit)
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(limit)
	c := protocol.NewClient(conn)
	hello, err := c.WaitHello()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("hello after %v: %+v", time.Since(start), hello)

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
	for q.Received < packets && time.Now().Before(limit) && !t.Failed() {
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
	if err := cmd.Wait(); err != nil {
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
