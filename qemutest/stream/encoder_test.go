package stream

import (
	"encoding/binary"
	"math/rand/v2"
)

// An encoder writes a stream as QEMU does.
type encoder struct {
	b     []byte
	block string // the last one named
	at    int64  // where an error is expected
}

func (e *encoder) u8(v byte)     { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16)  { e.b = binary.BigEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32)  { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64)  { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *encoder) raw(p ...byte) { e.b = append(e.b, p...) }

func (e *encoder) name(s string) {
	e.u8(byte(len(s)))
	e.raw([]byte(s)...)
}

// mark says that what comes next is wrong.
func (e *encoder) mark() { e.at = int64(len(e.b)) }

func (e *encoder) header() {
	e.u32(magic)
	e.u32(version)
}

func (e *encoder) configuration(machine string) {
	e.u8(byte(itemConfiguration))
	e.u32(uint32(len(machine)))
	e.raw([]byte(machine)...)
}

func (e *encoder) section(kind item, id uint32) {
	e.u8(byte(kind))
	e.u32(id)
}

func (e *encoder) full(kind item, id uint32, name string, version uint32) {
	e.section(kind, id)
	e.name(name)
	e.u32(0)
	e.u32(version)
}

func (e *encoder) blocks(blocks ...Block) {
	var total uint64
	for _, b := range blocks {
		total += uint64(b.Size)
	}
	e.u64(total | flagMemSize)
	for _, b := range blocks {
		e.name(b.Name)
		e.u64(uint64(b.Size))
	}
}

// word begins a page.
func (e *encoder) word(block string, at, flag uint64) {
	if block == e.block {
		e.u64(at | flag | flagContinue)
		return
	}
	e.u64(at | flag)
	e.name(block)
	e.block = block
}

func (e *encoder) page(block string, at uint64, data []byte) {
	e.word(block, at, flagPage)
	e.raw(data...)
}

func (e *encoder) zero(block string, at uint64) {
	e.word(block, at, flagZero)
	e.u8(0)
}

func (e *encoder) eos() { e.u64(flagEOS) }

func (e *encoder) footer(id uint32) { e.section(itemFooter, id) }

func (e *encoder) command(c uint16, args ...byte) {
	e.u8(byte(itemCommand))
	e.u16(c)
	e.u16(uint16(len(args)))
	e.raw(args...)
}

var twoBlocks = []Block{{"pc.ram", 16 * pageSize}, {"pc.bios", 2 * pageSize}}

const ramID = 3

// setup writes all up to the first section that has pages.
func (e *encoder) setup(blocks ...Block) {
	e.header()
	e.configuration("pc-q35-10.0")
	e.full(itemStart, ramID, "ram", ramVersion)
	e.blocks(blocks...)
	e.eos()
	e.footer(ramID)
}

func (e *encoder) device() {
	e.full(itemFull, 7, "timer", 2)
	e.raw([]byte("what no reader understands\x08\x01")...)
}

func noise(r *rand.Rand) []byte {
	p := make([]byte, pageSize)
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
	return p
}

// sample is a stream with all that is understood. It returns too how long it is up
// to the first device's section, with the byte by which that is known.
func sample() (stream []byte, done int) {
	r := rand.New(rand.NewPCG(1, 2))
	e := new(encoder)
	e.setup(twoBlocks...)
	e.command(1)
	e.command(2, 0, 0, 0, 1)
	e.section(itemPart, ramID)
	for i := range uint64(4) {
		e.page("pc.ram", i*pageSize, noise(r))
		e.zero("pc.ram", (8+i)*pageSize)
	}
	e.eos()
	e.footer(ramID)
	e.section(itemPart, ramID)
	e.page("pc.ram", 15*pageSize, noise(r)) // the block is that of the section before
	e.page("pc.bios", pageSize, noise(r))
	e.zero("pc.bios", 0)
	e.eos()
	e.footer(ramID)
	e.section(itemPart, ramID) // without pages and without footer
	e.eos()
	e.command(11)
	e.section(itemEnd, ramID)
	e.zero("pc.ram", 0)
	e.word("pc.ram", pageSize, flagZero)
	e.u8(0x5a)
	e.page("pc.ram", 2*pageSize, noise(r))
	e.eos()
	e.footer(ramID)
	done = len(e.b) + 1
	e.device()
	return e.b, done
}
