package report

import (
	"patchgen/qemutest"
)

// A class is what became of a page of the guest's RAM. The later in this order, the
// more there is to say of it.
type class byte

const (
	untouched class = iota // it was only ever sent as zeros, or not at all
	once                   // sent in one pass
	resent                 // sent in more than one
	arrived                // a device, or in the calibration the CPU, wrote it, and it was sent in a later pass
	missed                 // and it was not
	classes
)

// names are the classes' in words, and ids those in style sheets and scripts.
var (
	names = [classes]string{"untouched", "sent once", "resent", "written and arrived", "missed"}
	ids   = [classes]string{"untouched", "once", "resent", "arrived", "missed"}
)

// worstFirst is their order in legends.
var worstFirst = [classes]class{missed, arrived, resent, once, untouched}

// classify tells what became of each page.
func classify(p *qemutest.Pages) []class {
	all := make([]class, len(p.Sent))
	for i, passes := range p.Sent {
		switch {
		case !p.Used[i]:
		case passes&(passes-1) == 0:
			all[i] = once
		default:
			all[i] = resent
		}
	}
	for _, w := range p.Writes {
		switch {
		case !w.Counted:
		case w.Missed:
			all[w.Page] = missed
		default:
			all[w.Page] = arrived
		}
	}
	return all
}

func count(all []class) (n [classes]int) {
	for _, c := range all {
		n[c]++
	}
	return n
}
