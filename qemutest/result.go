package qemutest

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"patchgen/qemutest/vhostuser"
)

// What a run's verdict can be.
const (
	Pass = "pass"
	Lost = "lost" // pages were lost that must not be
	Fail = "fail" // the series does what it must not, or its own tests fail
	// Crashed says that the kernel broke while its own tests ran.
	Crashed = "crashed"
	// Unfit says that the run shows a fault of the surroundings, and nothing
	// of the kernels.
	Unfit = "unfit"
)

// An Outcome is what a run showed. Pages are 4 KiB.
type Outcome struct {
	Name   string `json:"name"`
	Kernel string `json:"kernel"`
	Device string `json:"device"`
	CPUs   int    `json:"cpus"`

	Written      int    `json:"written"`       // pages that the devices, or in the calibration the CPU, wrote in the warm-up
	Missed       int    `json:"missed"`        // of these, not sent in a later pass, or not the same on the destination
	Resent       int64  `json:"resent"`        // times that a page was sent again, whoever wrote it
	OverReported int64  `json:"over_reported"` // of these, with the contents that it was sent with before: nobody changed it
	Passes       int64  `json:"passes"`
	DowntimeMS   int64  `json:"downtime_ms"`
	Verdict      string `json:"verdict"`
	Why          string `json:"why,omitempty"` // of a verdict that isn't Pass

	Sends    []PassSends       `json:"sends"` // by pass
	Moments  []Moment          `json:"moments"`
	Pages    *Pages            `json:"-"` // if Proof.Pages asks for it
	Drivers  []Driver          `json:"drivers,omitempty"`
	Guest    Guest             `json:"guest"`
	Others   []uint64          `json:"others,omitempty"` // addresses of pages that differ and that no device wrote, the first 256
	Lost     []Page            `json:"missed_pages,omitempty"`
	Counters map[string]uint64 `json:"counters,omitempty"` // of the kernel's dma_page_dirtying
	Invalid  int               `json:"invalid"`            // tries that switched over too early
	Seconds  float64           `json:"seconds"`

	bytes   int64 // that QEMU says it sent
	totalMS int64 // that the migration took, as QEMU says
	others  int
	stale   int // pages sent after they were written, that differ all the same
}

// A Driver is what a device wrote that this driver of the guest drives.
type Driver struct {
	Name    string `json:"name"`
	Written int    `json:"written"`
	Missed  int    `json:"missed"`
}

// Guest is what the guest itself saw after the migration.
type Guest struct {
	Pages      int `json:"pages"`
	BadPages   int `json:"bad_pages"`
	Packets    int `json:"packets"`
	BadPackets int `json:"bad_packets"`
}

// A Page is one that was lost.
type Page struct {
	GPA    uint64 `json:"gpa"`              // guest-physical address
	Driver string `json:"driver,omitempty"` // of the device that wrote it last; "" for the CPU
	What   string `json:"what"`             // such as "data"
	Source int64  `json:"source"`           // bytes from the disk's begin, the packet's number, or the number of the buffer's page
	AtMS   int64  `json:"at_ms"`            // when, in milliseconds since the migration began
	Pass   int64  `json:"pass"`             // in which it was written
}

func (p Page) String() string {
	who := "the CPU, page"
	switch p.Driver {
	case "virtio_blk":
		who = "the disk, byte"
	case "virtio_net":
		who = "the card, packet"
	}
	return fmt.Sprintf("%#x, %s, written by %s %d in pass %d, %d ms after the migration began", p.GPA, p.What, who, p.Source, p.Pass, p.AtMS)
}

// A store is the last one to a page.
type store struct {
	driver string
	vhostuser.Write
}

// stores notes for each page by its number who wrote to it last.
func (t *trial) stores(buffer []int64) error {
	t.stored = map[int64]store{}
	source := t.moved.source
	if source.disk == nil {
		for i, page := range buffer {
			t.stored[page] = store{"", vhostuser.Write{Source: int64(i), Pass: t.storedIn}}
		}
		return nil
	}
	type device struct {
		driver  string
		backend *vhostuser.Backend
	}
	devices := []device{{"virtio_blk", source.disk}}
	if source.card != nil {
		devices = append(devices, device{"virtio_net", source.card.Backend})
	}
	for _, d := range devices {
		writes, all := d.backend.Writes()
		if !all {
			return &DeviceError{source.name, d.driver, errors.New("it wrote so often that not all of it was noted: have it write less")}
		}
		for _, w := range writes {
			w.At -= t.begun.Sub(source.begun)
			for gpa := w.GPA &^ (pageSize - 1); gpa < w.GPA+uint64(w.Len); gpa += pageSize {
				offset, ok := source.ram.offset(gpa)
				if !ok {
					continue
				}
				page := offset / pageSize
				// The rings are coherent memory, which no driver hands back
				// to the CPU: a page with data in it, too, counts as data.
				if old, ok := t.stored[page]; ok && w.Kind == vhostuser.Ring && old.Kind != vhostuser.Ring {
					continue
				}
				one := w
				if w.Kind == vhostuser.Data && d.driver == "virtio_blk" && gpa > w.GPA {
					one.Source += int64(gpa - w.GPA)
				}
				one.GPA = gpa
				t.stored[page] = store{d.driver, one}
			}
		}
	}
	return nil
}

// missed reports whether what was stored into a page was not sent. Rings are not
// counted: see stores.
func (t *trial) missed(page int64, s store) bool {
	return s.Kind != vhostuser.Ring && !t.moved.sends.since(page, s.Pass)
}

// maxListed is how many pages are listed of those that nobody wrote.
const maxListed = 256

// count holds the pages that differ, rising, and those that were not sent, against
// those that were written.
func (t *trial) count(r *Outcome, differing []int64) {
	drivers := map[string]*Driver{}
	for _, s := range t.stored {
		if s.Kind == vhostuser.Ring {
			continue
		}
		d := drivers[s.driver]
		if d == nil {
			d = &Driver{Name: s.driver}
			drivers[s.driver] = d
		}
		d.Written++
		r.Written++
	}
	for _, page := range differing {
		s, ok := t.stored[page]
		switch {
		case !ok:
			r.others++
			if len(r.Others) < maxListed {
				r.Others = append(r.Others, t.moved.source.ram.gpa(page*pageSize))
			}
		case s.Kind == vhostuser.Ring:
		case t.moved.sends.since(page, s.Pass):
			r.stale++
		}
	}
	for _, page := range slices.Sorted(maps.Keys(t.stored)) {
		if s := t.stored[page]; t.missed(page, s) {
			r.Missed++
			drivers[s.driver].Missed++
			r.Lost = append(r.Lost, Page{t.moved.source.ram.gpa(page * pageSize), s.driver, s.Kind.String(), s.Source, s.At.Milliseconds(), s.Pass})
		}
	}
	for _, name := range []string{"virtio_blk", "virtio_net"} {
		if d := drivers[name]; d != nil {
			r.Drivers = append(r.Drivers, *d)
		}
	}
}

// judge sets the verdict.
func (r *Outcome) judge(run Run) {
	r.Verdict = Pass
	set := func(verdict, why string, args ...any) { r.Verdict, r.Why = verdict, fmt.Sprintf(why, args...) }
	switch {
	case run.Device == None && r.Missed+r.others > 0:
		set(Unfit, "this QEMU's dirty log is unsound: %d pages that only the CPU wrote were lost", r.Missed+r.others)
	case r.stale > 0:
		set(Unfit, "%d pages were sent after they had been written, and differ: the migration itself is at fault", r.stale)
	case r.others > 0:
		set(Unfit, "%d pages were lost that no device wrote: this QEMU's dirty log is unsound", r.others)
	case run.Device == Logging && r.Missed > 0:
		set(Unfit, "%d pages were lost though the devices logged them: the loss has another cause than the missing log", r.Missed)
	case !run.Loses && r.Missed > 0:
		set(Lost, "%d of %d pages that the devices wrote were lost", r.Missed, r.Written)
	case run.Loses:
		for _, d := range r.Drivers {
			if d.Missed > 0 {
				continue
			}
			if run.Kernel == Unpatched {
				set(Unfit, "no page of %s was lost: the experiment does not see the fault", d.Name)
			} else {
				set(Fail, "no page of %s was lost though marking was off: off is not off", d.Name)
			}
		}
	}
}
