package report

import (
	"math/rand/v2"

	"patchgen/qemutest"
)

// sample returns what a run of name could have shown of a small guest: 4 MiB, half of
// it above 4 GiB. The disk writes some of it, and every fourth page of that is missed
// where pages are.
func sample(name string) qemutest.Outcome {
	const pages = 1024
	p := &qemutest.Pages{Memory: pages * pageSize, Low: pages / 2 * pageSize, Sent: make([]uint32, pages), Used: make([]bool, pages)}
	for i := range pages {
		p.Sent[i] = 1
		p.Used[i] = i < 100 || i >= 500
		if i%10 == 0 && i < 100 {
			p.Sent[i] = 0b1010
		}
	}
	o := qemutest.Outcome{
		Name: name, Kernel: qemutest.Unpatched, Device: qemutest.Blind, CPUs: 1, Passes: 4, DowntimeMS: 40, Resent: 10, OverReported: 3, Verdict: qemutest.Pass,
		Sends: []qemutest.PassSends{
			{Pages: pages, Zeros: 400, BeginMS: 5}, {Pages: 10, Resent: 10, OverReported: 3, BeginMS: 700}, {BeginMS: 900}, {Pages: 10, Resent: 10, BeginMS: 905},
		},
		Moments: []qemutest.Moment{
			{What: qemutest.PassesBegin, AtMS: 701}, {What: qemutest.WorkBegins, AtMS: 701}, {What: qemutest.WorkEnds, AtMS: 800}, {What: qemutest.Unplugged, AtMS: 850},
			{What: qemutest.LetGo, AtMS: 851}, {What: qemutest.Stopped, AtMS: 904}, {What: qemutest.Completed, AtMS: 944},
		},
		Guest: qemutest.Guest{Pages: 100}, Pages: p,
	}
	if name == "proof" {
		o.Kernel = qemutest.Patched
	}
	d := qemutest.Driver{Name: "virtio_blk"}
	for i := range 100 {
		w := qemutest.Written{Page: int64(450 + i), Driver: "virtio_blk", What: "data", Source: int64(i) * pageSize, AtMS: 710 + int64(i/8), Pass: 2, Counted: true}
		w.Missed = name == "loss" && i%4 == 0
		p.Used[w.Page] = true
		p.Sent[w.Page] = 1
		if !w.Missed {
			p.Sent[w.Page] |= 1 << 3
		}
		d.Written++
		if w.Missed {
			d.Missed++
			o.Lost = append(o.Lost, qemutest.Page{GPA: p.GPA(w.Page), Driver: w.Driver, What: w.What, Source: w.Source, AtMS: w.AtMS, Pass: w.Pass})
		}
		p.Writes = append(p.Writes, w)
	}
	p.Writes = append(p.Writes, qemutest.Written{Page: 600, Driver: "virtio_blk", What: "ring", Source: -1, AtMS: 790, Pass: 2})
	o.Written, o.Missed, o.Drivers = d.Written, d.Missed, []qemutest.Driver{d}
	return o
}

func sampleReport() *qemutest.Report {
	return &qemutest.Report{
		Verdict: qemutest.Pass, Tree: "debian:6.12", Accelerator: "tcg", QEMU: "10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)", Kernel: "6.12.118",
		Seed: 7, Memory: 1024 * pageSize, Runs: []qemutest.Outcome{sample("loss"), sample("proof")}, Seconds: 12.3,
		Mutants: []qemutest.Mutant{{Name: "no-sync", About: "a sync does not mark", Killers: []string{"KUnit", "matrix"}}},
	}
}

var sampleCommand = []string{"patchgen", "test", "--tree", "debian:6.12", "--append", "'a  --b'", "--seed", "7"}

// random returns pages of any kind.
func random(r *rand.Rand, pages int) *qemutest.Pages {
	p := &qemutest.Pages{Memory: int64(pages) * pageSize, Low: int64(pages/2) * pageSize, Sent: make([]uint32, pages), Used: make([]bool, pages)}
	drivers := []string{"", "virtio_blk", "virtio_net"}
	for i := 0; i < pages; {
		end := min(pages, i+1+r.IntN(40))
		mask, used := r.Uint32N(8), r.IntN(2) == 0
		if r.IntN(20) == 0 {
			mask = r.Uint32()
		}
		writes, driver, counted := r.IntN(3) == 0, drivers[r.IntN(3)], r.IntN(4) > 0
		source, step, ms, pass := r.Int64N(1<<40), r.Int64N(9000)-4000, r.Int64N(5000), r.Int64N(40)
		for ; i < end; i++ {
			p.Sent[i], p.Used[i] = mask, used
			if writes {
				p.Writes = append(p.Writes, qemutest.Written{
					Page: int64(i), Driver: driver, What: "data", Source: source, AtMS: ms, Pass: pass, Counted: counted, Missed: counted && r.IntN(9) == 0,
				})
				source += step
			}
		}
	}
	return p
}
