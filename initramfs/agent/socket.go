package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"patchgen/initramfs/protocol"
)

const (
	arphrdEther = "1"       // include/uapi/linux/if_arp.h
	room        = 256 << 20 // asked for; the kernel doubles it
)

// ethernet returns the name of the first ethernet interface.
func (a *agent) ethernet() (string, error) {
	kinds, err := filepath.Glob(a.path("sys/class/net/*/type"))
	if err != nil {
		return "", err
	}
	for _, k := range kinds {
		if s, err := os.ReadFile(k); err == nil && strings.TrimSpace(string(s)) == arphrdEther {
			return filepath.Base(filepath.Dir(k)), nil
		}
	}
	return "", errors.New("there is no ethernet interface")
}

func (a *agent) listen() (any, error) {
	if a.socket >= 0 {
		return nil, errors.New("there is a socket already")
	}
	name, err := a.ethernet()
	if err != nil {
		return nil, err
	}
	// All of the memory that there is may be full of datagrams. Without
	// CONFIG_PROC_SYSCTL the limit stays at a quarter of it: net/ipv4/udp.c,
	// udp_init.
	if err := poke(a.path("proc/sys/net/ipv4/udp_mem"), "1000000000 1000000000 1000000000"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r, err := configure(fd, name)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	if r.MAC, err = a.readLine("sys/class/net", name, "address"); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	a.socket, a.nic = fd, name
	return r, nil
}

// configure brings up the interface, and makes fd a socket with much room.
func configure(fd int, name string) (*protocol.ListenResult, error) {
	fault := func(what string, err error) (*protocol.ListenResult, error) {
		return nil, fmt.Errorf("%s: %s: %w", name, what, err)
	}
	address := netip.MustParseAddr(protocol.GuestAddress).As4()
	for _, set := range []struct {
		what string
		req  uint
		addr [4]byte
	}{
		{"set its address", unix.SIOCSIFADDR, address},
		{"set its netmask", unix.SIOCSIFNETMASK, [4]byte{255, 255, 255, 0}},
	} {
		ifr, err := unix.NewIfreq(name)
		if err == nil {
			err = ifr.SetInet4Addr(set.addr[:])
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, set.req, ifr)
		}
		if err != nil {
			return fault(set.what, err)
		}
	}
	// The room must be there before the first datagram.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room); err != nil {
		return fault("make room for datagrams", err)
	}
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return fault("make room for datagrams", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: protocol.GuestPort}); err != nil {
		return fault("bind a socket", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return fault("bring it up", err)
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fault("bring it up", err)
	}
	return &protocol.ListenResult{
		Interface: name, Address: protocol.GuestAddress, Port: protocol.GuestPort, Room: int64(got),
	}, nil
}

var errNoSocket = errors.New("there is no socket yet: ask for " + protocol.OpListen + " first")

func (a *agent) queued() (any, error) {
	if a.socket < 0 {
		return nil, errNoSocket
	}
	data, err := os.ReadFile(a.path("proc/net/udp"))
	if err != nil {
		return nil, err
	}
	r, err := parseUDP(string(data), protocol.GuestPort)
	if err != nil {
		return nil, err
	}
	// The interface is gone when its driver is unbound.
	if s, err := a.readLine("sys/class/net", a.nic, "statistics/rx_packets"); err == nil {
		if r.Received, err = strconv.ParseUint(s, 10, 64); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// parseUDP finds the socket with this port in /proc/net/udp: net/ipv4/udp.c, udp4_format_sock.
func parseUDP(table string, port uint64) (*protocol.QueuedResult, error) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line) // sl local rem st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops
		if len(f) != 13 {
			continue
		}
		_, local, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(local, 16, 16); err != nil || n != port {
			continue
		}
		_, rx, _ := strings.Cut(f[4], ":")
		bytes, err := strconv.ParseUint(rx, 16, 64)
		if err != nil {
			return nil, err
		}
		drops, err := strconv.ParseUint(f[12], 10, 64)
		if err != nil {
			return nil, err
		}
		return &protocol.QueuedResult{Bytes: bytes, Drops: drops}, nil
	}
	return nil, fmt.Errorf("/proc/net/udp has no socket of port %d", port)
}

// maxExpect is how many datagrams can be told apart.
const maxExpect = 1 << 24

func (a *agent) drain(args protocol.DrainArgs) (any, error) {
	if a.socket < 0 {
		return nil, errNoSocket
	}
	if args.Expect > maxExpect {
		return nil, fmt.Errorf("%d datagrams are more than %d", args.Expect, maxExpect)
	}
	r := protocol.DrainResult{Missing: args.Expect}
	seen := make([]bool, args.Expect)
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(a.socket, buf, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			return r, nil
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("after %d datagrams: %w", r.Count, err)
		}
		r.Count++
		var index uint64
		sound := n > 8
		if sound {
			index = binary.LittleEndian.Uint64(buf)
			sound = index < args.Expect && protocol.Check(buf[8:n], args.Seed, index)
		}
		switch {
		case !sound:
			r.Bad++
			if len(r.BadList) < protocol.Reported {
				r.BadList = append(r.BadList, index)
			}
		case seen[index]:
			r.Duplicates++
		default:
			seen[index] = true
			r.Missing--
		}
	}
}
