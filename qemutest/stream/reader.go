// Package stream reads QEMU's live-migration stream as it passes by.
//
// It follows the guest's memory page by page, in the order in which QEMU sends
// it, up to the first device. The format is the one that migration/savevm.c and
// migration/ram.c write, version 3, RAM version 4; it has no other description.
// Pages are those of x86, 4096 bytes. Left out, and refused with the name of the
// capability that asks for it, are multifd, xbzrle, compression, postcopy,
// mapped-ram and x-ignore-shared; and left out is what other handlers than RAM
// send while the guest runs, because nothing in the stream says how long that is.
//
// The stream is not trusted: what is wrong in it ends in an [Error], and what is
// kept of it is a page and the names of its blocks.
package stream

import (
	"encoding/binary"
	"fmt"
	"strings"
)

const (
	pageSize  = 4096
	maxBlocks = 256 // a q35 machine has about ten
)

// The header (migration/savevm.h).
const (
	magic   = 0x5145564d // QEVM
	version = 3
)

// An item is what the stream consists of, by its first byte (migration/savevm.h,
// QEMU_VM_*).
type item byte

const (
	itemStart         item = 0x01
	itemPart          item = 0x02
	itemEnd           item = 0x03
	itemFull          item = 0x04
	itemSubsection    item = 0x05
	itemConfiguration item = 0x07
	itemCommand       item = 0x08
	itemFooter        item = 0x7e
)

// RAM's section version (migration/ram.c, ram_load).
const ramVersion = 4

// Flags in the low bits of a word (migration/ram.h, RAM_SAVE_FLAG_*). But for
// flagContinue, a word has one of them (migration/ram.c, ram_load_precopy).
const (
	flagFull     = 0x001
	flagZero     = 0x002
	flagMemSize  = 0x004
	flagPage     = 0x008
	flagEOS      = 0x010
	flagContinue = 0x020
	flagXBZRLE   = 0x040
	flagHook     = 0x080
	flagCompress = 0x100
	flagMultifd  = 0x200
	flagMask     = pageSize - 1
)

// foreign tells what flags mean that the reader does not understand.
var foreign = []struct {
	flag    uint64
	meaning string
}{
	{flagXBZRLE, `a page compressed by XBZRLE: switch the migration capability "xbzrle" off`},
	{flagHook, "a request of RDMA: migrate over a file descriptor or a socket"},
	{flagCompress, `a compressed page: switch the migration capability "compress" off`},
	{flagMultifd, `pages that go over other connections: switch the migration capability "multifd" off`},
	{flagFull, "flag 0x1, unused since 2009"},
}

// Commands that change what follows (migration/savevm.c, enum qemu_vm_cmd).
var foreignCommands = map[uint16]struct{ name, capability string }{
	3:  {"POSTCOPY_ADVISE", "postcopy-ram"},
	4:  {"POSTCOPY_LISTEN", "postcopy-ram"},
	5:  {"POSTCOPY_RUN", "postcopy-ram"},
	6:  {"POSTCOPY_RAM_DISCARD", "postcopy-ram"},
	7:  {"PACKAGED", "postcopy-ram"},
	8:  {"ENABLE_COLO", "x-colo"},
	9:  {"POSTCOPY_RESUME", "postcopy-ram"},
	10: {"RECV_BITMAP", "postcopy-ram"},
}

// A Page is one guest page as it was sent.
type Page struct {
	Block  int    // index into [Reader.Blocks]
	Offset int64  // bytes from the begin of the block, a multiple of 4096
	Data   []byte // 4096 bytes, valid during the call only; nil if the page was sent as one byte
	Fill   byte   // that byte, which the whole page consists of; QEMU sends none but 0 so
}

// A Block is a piece of guest memory: a RAMBlock of QEMU, such as "pc.ram".
type Block struct {
	Name string
	Size int64 // bytes, a multiple of 4096
}

// Options say what the reader expects and whom it tells.
type Options struct {
	MaxRAM int64 // bytes of all blocks together; more is an error

	// Section, if not nil, is called at each section that carries pages, which is
	// each of RAM but the first, after its header and before its pages. QEMU has
	// the last one when the guest stands still. An error ends the reading.
	Section func(last bool) error

	// Page, if not nil, is called for each page, in the stream's order. An error
	// ends the reading.
	Page func(Page) error
}

// A Reader reads a stream that is written to it.
type Reader struct {
	options Options
	blocks  []Block
	index   map[string]int // of a block, by its name

	// step is given the next need bytes of the stream, when skip bytes have gone
	// by. It is nil when nothing is read any more.
	step func(*Reader, []byte) error
	need int
	skip int64
	part []byte // of the next need bytes, those that came in an earlier Write
	room [pageSize]byte

	offset int64 // bytes of the stream before those that step gets next
	err    error
	done   bool

	item, before item   // the one being read, and the one before it
	begun        bool   // RAM's first section has begun
	ended        bool   // RAM's last section has
	id           uint32 // RAM's
	listed       bool   // the blocks are known

	section  uint32 // the id of the section being read
	left     int64  // bytes of the blocks still to be listed
	name     string // of the block being listed
	word     uint64 // the last one
	wordAt   int64  // its place in the stream
	block    int    // the last one named
	hasBlock bool
}

// NewReader returns a Reader at the begin of a stream.
func NewReader(o Options) *Reader {
	r := &Reader{options: o, index: make(map[string]int)}
	r.part = r.room[:0]
	r.expect(8, (*Reader).header)
	return r
}

// Blocks returns the blocks of the guest's memory in the order in which the
// stream lists them. They are known before Section is called first.
func (r *Reader) Blocks() []Block { return r.blocks }

// Done reports whether all of the memory has been read: the first device's
// section has begun. What follows is not looked at.
func (r *Reader) Done() bool { return r.done }

// Write reads on. However a stream is cut into pieces, it reads the same. The
// error is *Error, or what Section or Page returned; each Write after it returns
// it too; the number returned is that of the bytes taken before it was seen.
func (r *Reader) Write(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	all := len(p)
	for r.step != nil {
		if r.skip > 0 {
			n := min(r.skip, int64(len(p)))
			r.skip -= n
			r.offset += n
			p = p[n:]
			if r.skip > 0 {
				break
			}
		}
		had, next := len(r.part), p
		if had == 0 && len(p) >= r.need {
			next, p = p[:r.need], p[r.need:]
		} else {
			n := min(r.need-had, len(p))
			r.part = append(r.part, p[:n]...)
			p = p[n:]
			if len(r.part) < r.need {
				break
			}
			next, r.part = r.part, r.room[:0]
		}
		step, n := r.step, len(next)
		r.step = nil
		if r.err = step(r, next); r.err != nil {
			r.step = nil
			return all - len(p) - (n - had), r.err
		}
		r.offset += int64(n)
	}
	if r.done {
		r.offset += int64(len(p))
	}
	return all, nil
}

// Close says that the stream has ended. The error is that of the last Write, or
// an *Error if memory or a device should have followed.
func (r *Reader) Close() error {
	if r.err == nil && !r.done {
		r.step = nil
		r.offset += int64(len(r.part))
		r.err = r.wrong("the stream ends before the first device")
	}
	return r.err
}

// expect has step called with the next n bytes, 1 to 4096.
func (r *Reader) expect(n int, step func(*Reader, []byte) error) { r.need, r.step = n, step }

// wrong is about what step was given.
func (r *Reader) wrong(format string, args ...any) error {
	return wrongAt(r.offset, format, args...)
}

func wrongAt(offset int64, format string, args ...any) error {
	return &Error{offset, fmt.Sprintf(format, args...)}
}

func (r *Reader) header(p []byte) error {
	if m := binary.BigEndian.Uint32(p); m != magic {
		return r.wrong("it begins with %#08x, want %#08x: this is no migration of QEMU's", m, magic)
	}
	if v := binary.BigEndian.Uint32(p[4:]); v != version {
		return r.wrong("format version %d, want %d", v, version)
	}
	r.expect(1, (*Reader).nextItem)
	return nil
}

func (r *Reader) nextItem(p []byte) error {
	r.before, r.item = r.item, item(p[0])
	switch r.item {
	case itemConfiguration:
		// qemu_savevm_state_header() writes it, or nothing.
		if r.before != 0 {
			return r.wrong("a configuration amid the stream")
		}
		r.expect(4, (*Reader).configuration)
	case itemStart, itemPart, itemEnd:
		r.expect(4, (*Reader).sectionID)
	case itemFull:
		if r.ended {
			r.done = true
			return nil
		}
		// A device with early_setup, such as virtio-mem: how long it is, is not said.
		r.expect(4, (*Reader).sectionID)
	case itemFooter:
		// Without the property send-section-footer of "migration" there is none.
		if r.before != itemStart && r.before != itemPart && r.before != itemEnd {
			return r.wrong("the footer of no section")
		}
		r.expect(4, (*Reader).footer)
	case itemCommand:
		r.expect(4, (*Reader).command)
	default:
		if r.item == itemSubsection && r.before == itemConfiguration {
			return r.wrong(`the configuration lists capabilities or the machine's UUID: switch the migration capabilities "x-ignore-shared", "mapped-ram" and "validate-uuid" off`)
		}
		return r.wrong("item %#02x, which is unknown before the first device", byte(r.item))
	}
	return nil
}

// configuration is vmstate_configuration of migration/savevm.c: the machine's
// name, which may be followed by subsections.
func (r *Reader) configuration(p []byte) error {
	r.skip = int64(binary.BigEndian.Uint32(p))
	r.expect(1, (*Reader).nextItem)
	return nil
}

func (r *Reader) command(p []byte) error {
	if c, ok := foreignCommands[binary.BigEndian.Uint16(p)]; ok {
		return r.wrong("command %s: switch the migration capability %q off", c.name, c.capability)
	}
	r.skip = int64(binary.BigEndian.Uint16(p[2:]))
	r.expect(1, (*Reader).nextItem)
	return nil
}

// sectionID is the begin of what save_section_header() in migration/savevm.c
// writes.
func (r *Reader) sectionID(p []byte) error {
	id := binary.BigEndian.Uint32(p)
	r.section = id
	if r.item == itemStart || r.item == itemFull {
		r.expect(1, (*Reader).sectionNameLength)
		return nil
	}
	switch {
	case !r.begun:
		return r.wrong("more of section %d, which has not begun", id)
	case id != r.id:
		return r.wrong("more of section %d, want %d, which is the RAM", id, r.id)
	case r.ended:
		return r.wrong("more of section %d, which has ended", id)
	}
	r.ended = r.item == itemEnd
	if r.options.Section != nil {
		if err := r.options.Section(r.ended); err != nil {
			return err
		}
	}
	r.expect(8, (*Reader).nextWord)
	return nil
}

func (r *Reader) sectionNameLength(p []byte) error {
	if p[0] == 0 {
		return r.wrong("section %d has no name", r.section)
	}
	r.expect(int(p[0]), (*Reader).sectionName)
	return nil
}

func (r *Reader) sectionName(p []byte) error {
	switch {
	case r.item == itemFull:
		return r.wrong("device %q comes before all of the RAM", p)
	case string(p) != "ram":
		return r.wrong("section %q: only RAM may be sent while the guest runs", p)
	case r.begun:
		return r.wrong("a second section %q", p)
	}
	r.begun, r.id = true, r.section
	r.expect(8, (*Reader).sectionVersion)
	return nil
}

func (r *Reader) sectionVersion(p []byte) error {
	// The first word is the handler's instance, which tells it from others of its name.
	if v := binary.BigEndian.Uint32(p[4:]); v != ramVersion {
		return r.wrong("RAM version %d, want %d", v, ramVersion)
	}
	r.expect(8, (*Reader).nextWord)
	return nil
}

func (r *Reader) footer(p []byte) error {
	if id := binary.BigEndian.Uint32(p); id != r.section {
		return r.wrong("the footer of section %d, want %d", id, r.section)
	}
	r.expect(1, (*Reader).nextItem)
	return nil
}

// nextWord takes what the rest of RAM's section consists of: an address with
// flags. ram_save_setup() writes the memory's size and the end, save_page_header()
// those of pages.
func (r *Reader) nextWord(p []byte) error {
	r.word, r.wordAt = binary.BigEndian.Uint64(p), r.offset
	switch flags := r.word & flagMask; flags {
	case flagZero | flagContinue, flagPage | flagContinue:
		if !r.hasBlock {
			return r.wrong("a page of the block before, and there is none")
		}
		return r.locate()
	case flagZero, flagPage:
		if r.item == itemStart {
			return r.wrong("a page in RAM's first section")
		}
		r.expect(1, (*Reader).blockLength)
	case flagMemSize:
		return r.memSize()
	case flagEOS:
		if !r.listed {
			return r.wrong("RAM's first section does not list its blocks")
		}
		r.expect(1, (*Reader).nextItem)
	default:
		var means []string
		for _, f := range foreign {
			if flags&f.flag != 0 {
				means = append(means, f.meaning)
			}
		}
		if len(means) == 0 {
			return r.wrong("flags %#x", flags)
		}
		return r.wrong("%s", strings.Join(means, "; "))
	}
	return nil
}

func (r *Reader) memSize() error {
	total := r.word &^ flagMask
	if r.item != itemStart || r.listed {
		return r.wrong("a second list of the RAM's blocks")
	}
	if r.options.MaxRAM < 0 || total > uint64(r.options.MaxRAM) {
		return r.wrong("%d bytes of RAM, at most %d are expected", total, r.options.MaxRAM)
	}
	r.left = int64(total)
	r.nextBlock()
	return nil
}

// nextBlock goes on with the list, which ends when the sizes have used up the
// total (migration/ram.c, parse_ramblocks).
func (r *Reader) nextBlock() {
	if r.left > 0 {
		r.expect(1, (*Reader).listLength)
		return
	}
	r.listed = true
	r.expect(8, (*Reader).nextWord)
}

func (r *Reader) listLength(p []byte) error {
	if len(r.blocks) == maxBlocks {
		return r.wrong("more than %d blocks", maxBlocks)
	}
	if p[0] == 0 {
		return r.wrong("block %d has no name", len(r.blocks))
	}
	r.expect(int(p[0]), (*Reader).listName)
	return nil
}

func (r *Reader) listName(p []byte) error {
	if _, ok := r.index[string(p)]; ok {
		return r.wrong("a second block %q", p)
	}
	r.name = string(p)
	r.expect(8, (*Reader).listSize)
	return nil
}

func (r *Reader) listSize(p []byte) error {
	size := binary.BigEndian.Uint64(p)
	if size%pageSize != 0 {
		return r.wrong("block %q has %d bytes, want a multiple of %d", r.name, size, pageSize)
	}
	if size > uint64(r.left) {
		return r.wrong("block %q has %d bytes, and %d are left of all", r.name, size, r.left)
	}
	r.left -= int64(size)
	r.index[r.name] = len(r.blocks)
	r.blocks = append(r.blocks, Block{r.name, int64(size)})
	r.nextBlock()
	return nil
}

func (r *Reader) blockLength(p []byte) error {
	if p[0] == 0 {
		return r.wrong("a page of a block without name")
	}
	r.expect(int(p[0]), (*Reader).blockName)
	return nil
}

func (r *Reader) blockName(p []byte) error {
	i, ok := r.index[string(p)]
	if !ok {
		return r.wrong("a page of block %q, which is not in the list", p)
	}
	r.block, r.hasBlock = i, true
	return r.locate()
}

// locate checks the page's address, and goes on to what it holds.
func (r *Reader) locate() error {
	b := &r.blocks[r.block]
	if at := r.word &^ flagMask; at >= uint64(b.Size) {
		return wrongAt(r.wordAt, "a page at %#x of block %q, which has %#x bytes", at, b.Name, b.Size)
	}
	if r.word&flagPage != 0 {
		r.expect(pageSize, (*Reader).page)
	} else {
		r.expect(1, (*Reader).fill)
	}
	return nil
}

func (r *Reader) page(p []byte) error { return r.give(p, 0) }

func (r *Reader) fill(p []byte) error { return r.give(nil, p[0]) }

func (r *Reader) give(data []byte, fill byte) error {
	r.expect(8, (*Reader).nextWord)
	if r.options.Page == nil {
		return nil
	}
	return r.options.Page(Page{r.block, int64(r.word &^ flagMask), data, fill})
}
