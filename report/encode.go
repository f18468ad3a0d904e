package report

import (
	"encoding/base64"
	"encoding/binary"
	"slices"

	"patchgen/qemutest"
)

const pageSize = 4096

// encoded are a run's pages for the script in the page. Numbers in base64 are varints
// as of encoding/binary.
type encoded struct {
	Pages   int         `json:"pages"`
	Low     int64       `json:"low"`     // pages below 4 GiB
	States  [][2]uint32 `json:"states"`  // what a page can be: class, and passes as in qemutest.Pages.Sent
	Runs    string      `json:"runs"`    // base64 of pairs: a state's index, and how many pages in a row have it
	Writers []string    `json:"writers"` // who writes what
	Writes  string      `json:"writes"`  // base64, of stretches of written pages; see encodeWrites
}

func encode(p *qemutest.Pages, all []class) encoded {
	e := encoded{Pages: len(all), Low: p.Low / pageSize, States: [][2]uint32{}, Writers: []string{}}
	states := make(map[[2]uint32]int)
	var b []byte
	for i := 0; i < len(all); {
		state := [2]uint32{uint32(all[i]), p.Sent[i]}
		end := i + 1
		for end < len(all) && all[end] == all[i] && p.Sent[end] == p.Sent[i] {
			end++
		}
		n, ok := states[state]
		if !ok {
			n = len(e.States)
			states[state] = n
			e.States = append(e.States, state)
		}
		b = binary.AppendUvarint(b, uint64(n))
		b = binary.AppendUvarint(b, uint64(end-i))
		i = end
	}
	e.Runs = base64.StdEncoding.EncodeToString(b)
	e.encodeWrites(p.Writes)
	return e
}

// encodeWrites encodes the last stores by page. A stretch is of pages in a row that one
// writer wrote at one time in one pass, each from a source as much further than the one
// before. It is: pages since the last stretch's end, how many, the writer's index, and
// with signs: source and milliseconds and pass, as differences to those of the last
// stretch's first page, and the step of the source.
func (e *encoded) encodeWrites(writes []qemutest.Written) {
	var b []byte
	var last qemutest.Written
	end := int64(0)
	for i := 0; i < len(writes); {
		w := writes[i]
		n, step := 1, int64(0)
		for ; i+n < len(writes); n++ {
			next := writes[i+n]
			if n == 1 {
				step = next.Source - w.Source
			}
			next.Page, next.Source = next.Page-int64(n), next.Source-int64(n)*step
			if next != w {
				break
			}
		}
		if n == 1 {
			step = 0
		}
		who := writer(w)
		index := slices.Index(e.Writers, who)
		if index < 0 {
			index = len(e.Writers)
			e.Writers = append(e.Writers, who)
		}
		b = binary.AppendUvarint(b, uint64(w.Page-end))
		b = binary.AppendUvarint(b, uint64(n))
		b = binary.AppendUvarint(b, uint64(index))
		b = binary.AppendVarint(b, w.Source-last.Source)
		b = binary.AppendVarint(b, w.AtMS-last.AtMS)
		b = binary.AppendVarint(b, w.Pass-last.Pass)
		b = binary.AppendVarint(b, step)
		last, end = w, w.Page+int64(n)
		i += n
	}
	e.Writes = base64.StdEncoding.EncodeToString(b)
}

// writer says who wrote what, so that the source can follow.
func writer(w qemutest.Written) string {
	switch {
	case !w.Counted:
		return "a device's ring, which is coherent memory and not counted"
	case w.Driver == "virtio_blk":
		return "the disk, " + w.What + " from its byte"
	case w.Driver == "virtio_net":
		return "the network card, " + w.What + " of packet"
	}
	return "the CPU, page of its buffer"
}
