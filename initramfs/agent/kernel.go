package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"patchgen/initramfs/protocol"
)

func (a *agent) unbind(args protocol.UnbindArgs) (any, error) {
	if args.Driver != filepath.Base(args.Driver) || !filepath.IsLocal(args.Driver) || args.Driver == "." {
		return nil, fmt.Errorf("%q is no name of a driver", args.Driver)
	}
	if args.Driver == "virtio_console" {
		return nil, errors.New("virtio_console is what the agent speaks through")
	}
	driver := a.path("sys/bus/virtio/drivers", args.Driver)
	devices, err := filepath.Glob(filepath.Join(driver, "virtio[0-9]*"))
	if err != nil {
		return nil, err
	}
	if len(devices) == 0 {
		return nil, fmt.Errorf("the driver %s has no device", args.Driver)
	}
	var r protocol.UnbindResult
	for _, d := range devices {
		name := filepath.Base(d)
		if err := poke(filepath.Join(driver, "unbind"), name); err != nil {
			return nil, err
		}
		a.unbound[args.Driver] = append(a.unbound[args.Driver], name)
		r.Devices = append(r.Devices, name)
	}
	return r, nil
}

// suspend answers before the machine sleeps: it would not afterwards.
func (a *agent) suspend() (any, error) {
	states, err := a.readLine("sys/power", "mem_sleep")
	if err != nil {
		return nil, fmt.Errorf("this kernel cannot suspend: %w", err)
	}
	if !strings.Contains(states, "deep") {
		return nil, fmt.Errorf("this machine cannot suspend to RAM: /sys/power/mem_sleep has %q", states)
	}
	if err := poke(a.path("sys/power/mem_sleep"), "deep"); err != nil {
		return nil, err
	}
	go func() {
		time.Sleep(100 * time.Millisecond)
		if err := poke(a.path("sys/power/state"), "mem"); err != nil {
			fmt.Fprintln(os.Stderr, "patchgen agent: suspend:", err)
		}
	}()
	return nil, nil
}

const debugFolder = "sys/kernel/debug/dma_page_dirtying"

func (a *agent) marking(args protocol.MarkingArgs) (any, error) {
	value := "0"
	if args.On {
		value = "1"
	}
	err := poke(a.path(debugFolder, "enabled"), value)
	return nil, withoutDirtying(err)
}

func (a *agent) counters() (any, error) {
	files, err := os.ReadDir(a.path(debugFolder))
	if err != nil {
		return nil, withoutDirtying(err)
	}
	counters := make(map[string]uint64)
	for _, f := range files {
		if f.Name() == "blocks" { // text for people
			continue
		}
		s, err := a.readLine(debugFolder, f.Name())
		if err != nil {
			return nil, err
		}
		if counters[f.Name()], err = strconv.ParseUint(s, 0, 64); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return counters, nil
}

// withoutDirtying explains why the debugfs folder isn't there.
func withoutDirtying(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("this kernel has no dma_page_dirtying: %w", err)
	}
	return err
}
