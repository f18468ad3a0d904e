package ktree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

const (
	maxObject = 64 << 20 // bytes of the largest git object that is read
	// maxChain is the longest chain of deltas that git writes: MAX_DEPTH in
	// builtin/pack-objects.c.
	maxChain = 4095
)

var (
	errObjectSize = fmt.Errorf("it is over %d MiB", maxObject>>20)
	errDeltaChain = errors.New("it is an endless chain of deltas")
)

// A pack is a packfile and its index, opened when first asked for something.
type pack struct {
	name  string // path without .pack and .idx
	index *packIndex
	file  *os.File
}

// open opens the index.
func (p *pack) open() (err error) {
	if p.index == nil {
		p.index, err = openPackIndex(p.name + ".idx")
	}
	return err
}

func (p *pack) close() error {
	var errs []error
	if p.index != nil {
		errs = append(errs, p.index.file.Close())
	}
	if p.file != nil {
		errs = append(errs, p.file.Close())
	}
	return errors.Join(errs...)
}

// read returns the object at an offset. packfile.Packfile would recurse
// through a chain of deltas with all of its objects in memory; here the
// deltas are collected first, and applied from the base up.
func (p *pack) read(offset int64) (plumbing.ObjectType, []byte, error) {
	if p.file == nil {
		f, err := os.Open(p.name + ".pack")
		if err != nil {
			return 0, nil, err
		}
		p.file = f
	}
	scanner := packfile.NewScanner(p.file)
	var deltas [][]byte
	size := 0 // of the deltas
	for range maxChain + 1 {
		h, err := scanner.SeekObjectHeader(offset)
		if err != nil {
			return 0, nil, err
		}
		if h.Length < 0 || h.Length > int64(maxObject-size) {
			return 0, nil, errObjectSize
		}
		size += int(h.Length)
		var b bytes.Buffer
		b.Grow(int(h.Length))
		if _, _, err := scanner.NextObject(&b); err != nil {
			return 0, nil, err
		}
		switch h.Type {
		case plumbing.OFSDeltaObject:
			offset = h.OffsetReference
		case plumbing.REFDeltaObject:
			if offset, err = p.index.find(h.Reference); err != nil {
				return 0, nil, err
			}
		case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
			data, err := applyDeltas(b.Bytes(), deltas)
			return h.Type, data, err
		default:
			return 0, nil, errDamaged
		}
		deltas = append(deltas, b.Bytes())
	}
	return 0, nil, errDeltaChain
}

// applyDeltas applies deltas to data, the last one first.
func applyDeltas(data []byte, deltas [][]byte) (_ []byte, err error) {
	for i := len(deltas) - 1; i >= 0; i-- {
		// A delta begins with the sizes of source and target
		// (gitformat-pack(5), deltified representation).
		_, n := binary.Uvarint(deltas[i])
		if n <= 0 {
			return nil, errDamaged
		}
		if target, _ := binary.Uvarint(deltas[i][n:]); target > maxObject {
			return nil, errObjectSize
		}
		if data, err = packfile.PatchDelta(data, deltas[i]); err != nil {
			return nil, err
		}
	}
	return data, nil
}
