package vhostuser

import (
	"encoding/binary"
	"errors"
)

const sectorSize = 512

// A Disk is the content of a read-only disk. Its queue-size in QEMU must be at
// least 128, which is the default.
type Disk struct {
	// Sectors is the size in units of 512 bytes.
	Sectors uint64
	// Read fills p, which is guest memory, with the content at offset, both in
	// bytes and whole sectors or parts of them. It must not keep p.
	Read func(p []byte, offset int64)
}

// virtio 1.2, section 5.2.
const (
	blkSegMax   = 1 << 2
	blkReadOnly = 1 << 5
	blkFlush    = 1 << 9

	blkIn    = 0
	blkOut   = 1
	blkFlsh  = 4
	blkGetID = 8

	blkOK    = 0
	blkIOErr = 1
	blkUnsup = 2

	segMax = 126 // a queue of 128 without the header and the status
)

// blkID is what the guest sees as the disk's serial number.
var blkID = [20]byte([]byte("vhostuser\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))

func (*Disk) queues() int      { return 1 }
func (*Disk) features() uint64 { return blkSegMax | blkReadOnly | blkFlush }
func (*Disk) wants(int) bool   { return true }

func (d *Disk) config() []byte {
	p := make([]byte, maxConfig)
	binary.LittleEndian.PutUint64(p[0:], d.Sectors)
	binary.LittleEndian.PutUint32(p[12:], segMax)
	binary.LittleEndian.PutUint16(p[34:], 1) // queues
	return p
}

// serve does one request: a header of 16 bytes to read, data, a byte of status
// to write. How they are cut into descriptors is the driver's choice.
func (d *Disk) serve(s *session, q *queue, c *chain) (bool, error) {
	var header [16]byte
	got := 0
	for _, r := range c.readable {
		got += copy(header[got:], r.mem)
	}
	if got < len(header) || len(c.writable) == 0 {
		return false, errors.New("a disk request without a header of 16 bytes to read and a status to write")
	}
	sector := binary.LittleEndian.Uint64(header[8:])

	data := c.writable
	end := &data[len(data)-1]
	n := len(end.mem) - 1
	status := span{end.gpa + uint64(n), end.mem[n:]}
	if end.mem = end.mem[:n]; n == 0 {
		data = data[:len(data)-1]
	}

	code, source, written := byte(blkUnsup), NoSource, 0
	var err error
	switch binary.LittleEndian.Uint32(header[0:]) {
	case blkIn:
		total := uint64(length(data))
		if code = blkIOErr; total%sectorSize == 0 && sector <= d.Sectors && total/sectorSize <= d.Sectors-sector {
			code, source = blkOK, int64(sector*sectorSize)
			written, err = d.read(s, data, source)
		}
	case blkGetID:
		code = blkOK
		written, err = s.store(data, blkID[:min(len(blkID), length(data))], Data, NoSource)
	case blkFlsh:
		code = blkOK
	case blkOut:
		code = blkIOErr
	}
	if err != nil {
		return false, err
	}
	if _, err := s.store([]span{status}, []byte{code}, Status, source); err != nil {
		return false, err
	}
	return true, s.complete(q, c, uint32(written+1))
}

func (d *Disk) read(s *session, to []span, offset int64) (written int, err error) {
	for _, p := range to {
		d.Read(p.mem, offset)
		if err := s.wrote(p.gpa, len(p.mem), Data, offset); err != nil {
			return written, err
		}
		offset += int64(len(p.mem))
		written += len(p.mem)
	}
	return written, nil
}
