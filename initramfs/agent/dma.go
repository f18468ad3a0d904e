package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchgen/initramfs/protocol"
)

// What the module takes and gives: qemutest/dmatest/module/dmatest.c.

type dmaCell struct {
	device, mapped, dir, attrs, high, offset, length, entries uint32
	// Filled in.
	id, pages uint32
	frame     uint64
	dma       [protocol.MaxEntries]uint64
}

type dmaReturn struct{ id, how, offset, length uint32 }

type dmaStress struct {
	id, milliseconds uint32
	ranges           [2][2]uint32
	syncs            uint64 // filled in
}

type dmaMeasure struct {
	call, length uint32
	// Filled in.
	khz          uint64
	empty, ticks [protocol.Samples]uint64
}

// The module's numbers are the places of these.
var (
	dmaMaps  = []string{"single", "page", "sg", "phys", "resource", "coherent"}
	dmaHows  = []string{"unmap", "sync", "range", "device"}
	dmaDirs  = []string{"bidi", "to", "from"} // enum dma_data_direction
	dmaCalls = []string{"unmap_page", "sync_single"}
)

const (
	dmaSkipSync = 1 << iota
	dmaStrict
)

// The numbers of its ioctls: include/uapi/asm-generic/ioctl.h.
const (
	ioWrite, ioRead = 1 << 30, 2 << 30
	dmaIocMap       = ioRead | ioWrite | unsafe.Sizeof(dmaCell{})<<16 | 0xd700
	dmaIocReturn    = ioWrite | unsafe.Sizeof(dmaReturn{})<<16 | 0xd701
	dmaIocStress    = ioRead | ioWrite | unsafe.Sizeof(dmaStress{})<<16 | 0xd702
	dmaIocMeasure   = ioRead | ioWrite | unsafe.Sizeof(dmaMeasure{})<<16 | 0xd703
)

// dmaWait is how long the module's device may take to appear.
const dmaWait = 5 * time.Second

func (a *agent) load(args protocol.LoadArgs) (any, error) {
	if a.dma != nil {
		return nil, errors.New("it is loaded already")
	}
	if len(args.Module) == 0 {
		return nil, errors.New("there is nothing to load")
	}
	if err := unix.InitModule(args.Module, ""); err != nil {
		var errno unix.Errno
		errors.As(err, &errno)
		return nil, fmt.Errorf("init_module: %s, %w: the console tells more", unix.ErrnoName(errno), err)
	}
	name := a.path("dev/patchgen-dma")
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err == nil {
			a.dma = f
			return nil, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Since(start) > dmaWait {
			return nil, fmt.Errorf("the module is loaded, but: %w", err)
		}
	}
}

var errNoModule = errors.New("there is no module yet: ask for " + protocol.OpLoad + " first")

// number returns the place of name.
func number(names []string, name string) (uint32, error) {
	i := slices.Index(names, name)
	if i < 0 {
		return 0, fmt.Errorf("%q is none of %q", name, names)
	}
	return uint32(i), nil
}

func (a *agent) ioctl(request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, a.dma.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// newDMACell returns what the module is told of a cell.
func newDMACell(c protocol.Cell) (d dmaCell, err error) {
	d = dmaCell{device: uint32(c.Device), offset: c.Offset, length: c.Length, entries: uint32(c.Entries)}
	if d.mapped, err = number(dmaMaps, c.Map); err != nil {
		return d, fmt.Errorf("how to map: %w", err)
	}
	if d.dir, err = number(dmaDirs, c.Dir); err != nil {
		return d, fmt.Errorf("direction: %w", err)
	}
	if c.SkipSync {
		d.attrs |= dmaSkipSync
	}
	if c.RequireCoherent {
		d.attrs |= dmaStrict
	}
	if c.High {
		d.high = 1
	}
	return d, nil
}

func (a *agent) mapCells(args protocol.MapArgs) (any, error) {
	if a.dma == nil {
		return nil, errNoModule
	}
	r := protocol.MapResult{Cells: make([]protocol.Mapped, len(args.Cells))}
	for i, c := range args.Cells {
		r.Cells[i] = a.mapCell(c)
	}
	return r, nil
}

func (a *agent) mapCell(c protocol.Cell) protocol.Mapped {
	d, err := newDMACell(c)
	if err == nil {
		err = a.ioctl(dmaIocMap, unsafe.Pointer(&d))
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return protocol.Mapped{Error: protocol.NotSupported}
	case err != nil:
		return protocol.Mapped{Error: err.Error()}
	}
	return protocol.Mapped{ID: d.id, Frame: d.frame, Pages: d.pages, DMA: slices.Clone(d.dma[:d.entries])}
}

func (a *agent) giveBack(args protocol.ReturnArgs) (any, error) {
	if a.dma == nil {
		return nil, errNoModule
	}
	for i, r := range args.Returns {
		how, err := number(dmaHows, r.How)
		if err == nil {
			d := dmaReturn{r.ID, how, r.Offset, r.Length}
			err = a.ioctl(dmaIocReturn, unsafe.Pointer(&d))
		}
		if err != nil {
			return nil, fmt.Errorf("cell %d, %d of %d: %s: %w", r.ID, i+1, len(args.Returns), r.How, err)
		}
	}
	return nil, nil
}

func (a *agent) stress(args protocol.StressArgs) (any, error) {
	if a.dma == nil {
		return nil, errNoModule
	}
	d := dmaStress{id: args.ID, milliseconds: uint32(args.Milliseconds), ranges: args.Ranges}
	if err := a.ioctl(dmaIocStress, unsafe.Pointer(&d)); err != nil {
		return nil, fmt.Errorf("cell %d: %w", args.ID, err)
	}
	return protocol.StressResult{Syncs: d.syncs}, nil
}

func (a *agent) measure(args protocol.MeasureArgs) (any, error) {
	if a.dma == nil {
		return nil, errNoModule
	}
	call, err := number(dmaCalls, args.Call)
	if err != nil {
		return nil, err
	}
	d := dmaMeasure{call: call, length: args.Length}
	if err := a.ioctl(dmaIocMeasure, unsafe.Pointer(&d)); err != nil {
		return nil, fmt.Errorf("%s of %d bytes: %w", args.Call, args.Length, err)
	}
	return protocol.MeasureResult{KHz: d.khz, Empty: d.empty[:], Ticks: d.ticks[:]}, nil
}
