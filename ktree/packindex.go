package ktree

import (
	"bytes"
	"encoding/binary"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
)

// A packIndex is a pack's index, version 2, read where it lies: go-git's own
// loads all of it, which for linux.git is about a gigabyte of memory. The
// format is that of gitformat-pack(5): a header of 8 bytes, 256 counts of
// the names up to a first byte, then tables of names, CRCs, 4-byte offsets and
// 8-byte offsets, and two checksums.
type packIndex struct {
	file   *os.File
	fanout [256]uint32
	wide   uint32 // entries in the table of 8-byte offsets
}

const (
	indexHead = 8 + 256*4
	indexTail = 2 * 20
	hashSize  = 20
)

// openPackIndex opens an index file and checks its sizes.
func openPackIndex(name string) (_ *packIndex, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var head [indexHead]byte
	if _, err := file.ReadAt(head[:], 0); err != nil || !bytes.HasPrefix(head[:], []byte("\xfftOc\x00\x00\x00\x02")) {
		return nil, &UnsupportedError{name, "is not a pack index of version 2: write it anew with `git repack -a -d`"}
	}
	x := &packIndex{file: file}
	for i := range x.fanout {
		x.fanout[i] = binary.BigEndian.Uint32(head[8+4*i:])
		if i > 0 && x.fanout[i] < x.fanout[i-1] {
			return nil, damaged(name)
		}
	}
	rest := st.Size() - indexHead - indexTail - int64(x.fanout[255])*(hashSize+4+4)
	if rest < 0 || rest%8 != 0 || rest/8 > int64(x.fanout[255]) {
		return nil, damaged(name)
	}
	x.wide = uint32(rest / 8)
	return x, nil
}

func damaged(name string) error {
	return &UnsupportedError{name, "is damaged: see `git fsck`"}
}

// search returns the place of the first name that is not below h.
func (x *packIndex) search(h plumbing.Hash) (uint32, error) {
	low, high := uint32(0), x.fanout[h[0]]
	if h[0] > 0 {
		low = x.fanout[h[0]-1]
	}
	for low < high {
		mid := low + (high-low)/2
		name, err := x.name(mid)
		if err != nil {
			return 0, err
		}
		if bytes.Compare(name[:], h[:]) < 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, nil
}

// name returns the object name at place i.
func (x *packIndex) name(i uint32) (h plumbing.Hash, err error) {
	_, err = x.file.ReadAt(h[:], indexHead+int64(i)*hashSize)
	return h, err
}

// find returns where in the pack the object is; the error is
// plumbing.ErrObjectNotFound if the pack does not have it.
func (x *packIndex) find(h plumbing.Hash) (int64, error) {
	i, err := x.search(h)
	if err != nil {
		return 0, err
	}
	count := int64(x.fanout[255])
	if int64(i) == count {
		return 0, plumbing.ErrObjectNotFound
	}
	if name, err := x.name(i); err != nil || name != h {
		if err == nil {
			err = plumbing.ErrObjectNotFound
		}
		return 0, err
	}
	var b [8]byte
	if _, err := x.file.ReadAt(b[:4], indexHead+count*(hashSize+4)+int64(i)*4); err != nil {
		return 0, err
	}
	short := binary.BigEndian.Uint32(b[:])
	if short>>31 == 0 {
		return int64(short), nil
	}
	place := short &^ (1 << 31)
	if place >= x.wide {
		return 0, damaged(x.file.Name())
	}
	if _, err := x.file.ReadAt(b[:], indexHead+count*(hashSize+4+4)+int64(place)*8); err != nil {
		return 0, err
	}
	offset := binary.BigEndian.Uint64(b[:])
	if offset>>63 != 0 {
		return 0, damaged(x.file.Name())
	}
	return int64(offset), nil
}

// withPrefix returns up to limit names of objects that begin with prefix,
// which is in hex.
func (x *packIndex) withPrefix(prefix string, limit int) ([]plumbing.Hash, error) {
	i, err := x.search(plumbing.NewHash(prefix + "0000000000000000000000000000000000000000"[len(prefix):]))
	if err != nil {
		return nil, err
	}
	var names []plumbing.Hash
	for ; i < x.fanout[255] && len(names) < limit; i++ {
		name, err := x.name(i)
		if err != nil {
			return nil, err
		}
		if name.String()[:len(prefix)] != prefix {
			break
		}
		names = append(names, name)
	}
	return names, nil
}
