package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"patchgen/initramfs/protocol"
)

// openDisk opens the first virtio block device, and returns its name.
func (a *agent) openDisk() (f *os.File, name string, err error) {
	devices, err := filepath.Glob(a.path("sys/block/vd*"))
	if err != nil {
		return nil, "", err
	}
	if len(devices) == 0 {
		return nil, "", errors.New("there is no virtio block device")
	}
	name = filepath.Base(devices[0])
	f, err = os.OpenFile(a.path("dev", name), os.O_RDONLY|unix.O_DIRECT, 0)
	return f, name, err
}

// thread runs f in a thread of its own. While that sleeps in the kernel it holds one
// of Go's processors for a while: let it have its own.
func thread(f func()) {
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	go func() {
		runtime.LockOSThread()
		f()
	}()
}

func (a *agent) reader(args protocol.ReaderArgs) (any, error) {
	switch {
	case a.back != nil:
		return nil, errors.New("it reads already")
	case args.Request < pageSize || args.Request%pageSize != 0:
		return nil, fmt.Errorf("a request of %d bytes is no multiple of %d", args.Request, pageSize)
	case args.Offset < 0 || args.Offset%pageSize != 0:
		return nil, fmt.Errorf("byte %d of the disk is no multiple of %d", args.Offset, pageSize)
	}
	f, _, err := a.openDisk()
	if err != nil {
		return nil, err
	}
	mem, err := newMemory(args.Pages)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	a.back = make(chan struct{}, 1)
	thread(func() {
		for {
			// That the device was unbound is how it should end.
			fmt.Fprintln(os.Stderr, "patchgen agent: the reader waits for a device:", readOn(f, mem, args))
			f.Close()
			<-a.back
			var err error
			if f, _, err = a.openDisk(); err != nil {
				fmt.Fprintln(os.Stderr, "patchgen agent: the reader cannot go on:", err)
				return
			}
		}
	})
	return nil, nil
}

// readOn reads until it fails.
func readOn(f io.ReaderAt, mem []byte, args protocol.ReaderArgs) error {
	for {
		for at := 0; at < len(mem); at += args.Request {
			part := mem[at:min(at+args.Request, len(mem))]
			if _, err := f.ReadAt(part, args.Offset+int64(at)); err != nil {
				return err
			}
		}
	}
}

func (a *agent) bind(args protocol.BindArgs) (any, error) {
	devices := a.unbound[args.Driver]
	if len(devices) == 0 {
		return nil, fmt.Errorf("no device of %q was unbound", args.Driver)
	}
	var r protocol.BindResult
	for _, name := range slices.Clone(devices) {
		if err := poke(a.path("sys/bus/virtio/drivers", args.Driver, "bind"), name); err != nil {
			return nil, err
		}
		a.unbound[args.Driver] = a.unbound[args.Driver][1:]
		r.Devices = append(r.Devices, name)
	}
	// The reader looks whether the device that it lacks is back.
	if a.back != nil {
		select {
		case a.back <- struct{}{}:
		default:
		}
	}
	return r, nil
}
