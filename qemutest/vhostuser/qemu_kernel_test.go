//go:build kernel

package vhostuser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const qemu = "qemu-system-x86_64"

// ends returns a connection for a back-end, and the end for QEMU.
func ends(t *testing.T) (*net.UnixConn, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "back-end")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn), os.NewFile(uintptr(fds[1]), "QEMU")
}

// boot runs QEMU with peers as descriptors 3 and up, and returns its exit code
// and what it said.
func boot(ctx context.Context, t *testing.T, peers []*os.File, args ...string) (int, string) {
	t.Helper()
	path, err := exec.LookPath(qemu)
	if err != nil {
		t.Fatalf("%v: install the package qemu-system-x86", err)
	}
	cmd := exec.CommandContext(ctx, path, append([]string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35,memory-backend=ram", "-accel", "tcg", "-cpu", "max",
		"-object", "memory-backend-memfd,id=ram,size=256M,share=on", "-m", "256",
		"-device", "pcie-root-port,id=rp0,chassis=1", "-device", "pcie-root-port,id=rp1,chassis=2",
	}, args...)...)
	cmd.ExtraFiles = peers
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	for _, p := range peers {
		p.Close()
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v: %s", qemu, err, out.Bytes())
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func serve(ctx context.Context, serve func(context.Context) error) chan error {
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	return done
}

var blk = []string{"-chardev", "socket,id=vu0,fd=3", "-device",
	"vhost-user-blk-pci,chardev=vu0,bus=rp0,iommu_platform=on,disable-legacy=on,num-queues=1,bootindex=1"}

// SeaBIOS boots from the disk: its first sector has the second read, and ends
// QEMU with a byte of that.
func TestSeaBIOS(t *testing.T) {
	code := []byte{
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xb4, 0x42, // mov ah, 0x42: extended read
		0xbe, 0x20, 0x7c, // mov si, 0x7c20: the packet below
		0xcd, 0x13, // int 0x13
		0x72, 0x05, // jc over the next two
		0xa0, 0x7b, 0x80, // mov al, [0x807b]
		0xe6, 0xf4, // out 0xf4, al
		0xf4, 0xeb, 0xfd, // hlt, for ever
	}
	packet := []byte{16, 0, 1, 0, 0x00, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0} // sector 1 to 0x8000
	sector := make([]byte, sectorSize)
	copy(sector, code)
	copy(sector[0x20:], packet)
	copy(sector[510:], "\x55\xaa")

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, peer := ends(t)
	read := map[int64]int{}
	b := NewDisk(conn, Disk{Sectors: 2048, Read: func(p []byte, offset int64) {
		read[offset] += len(p)
		for i := range p {
			p[i] = 0x11
			if at := offset + int64(i); at < sectorSize {
				p[i] = sector[at]
			} else if at == sectorSize+0x7b {
				p[i] = 42
			}
		}
	}}, Options{})
	done := serve(ctx, b.Serve)
	exit, said := boot(ctx, t, []*os.File{peer}, append(blk, "-device", "isa-debug-exit,iobase=0xf4,iosize=1")...)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if exit != 42<<1|1 {
		t.Errorf("QEMU ended with %d, want %d: %s", exit, 42<<1|1, said)
	}
	if want := (map[int64]int{0: 512, 512: 512}); fmt.Sprint(read) != fmt.Sprint(want) {
		t.Errorf("read %v, want %v", read, want)
	}
}
