package stream

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const maxRAM = 1 << 20

// A log is what a reader told.
type log []string

func (l *log) options() Options {
	return Options{
		MaxRAM: maxRAM,
		Section: func(last bool) error {
			*l = append(*l, fmt.Sprintf("section %t", last))
			return nil
		},
		Page: func(p Page) error {
			what := fmt.Sprintf("fill %#x", p.Fill)
			if p.Data != nil {
				what = fmt.Sprintf("%d bytes %#x", len(p.Data), crc32.ChecksumIEEE(p.Data))
			}
			*l = append(*l, fmt.Sprintf("%d/%#x %s", p.Block, p.Offset, what))
			return nil
		},
	}
}

// feed writes the stream in pieces whose sizes next gives.
func feed(r *Reader, stream []byte, next func() int) error {
	for len(stream) > 0 {
		n := min(next(), len(stream))
		if m, err := r.Write(stream[:n]); err != nil {
			return err
		} else if m != n {
			return fmt.Errorf("it takes %d of %d bytes", m, n)
		}
		stream = stream[n:]
	}
	return nil
}

func whole(stream []byte) func() int { return func() int { return max(len(stream), 1) } }

func one() int { return 1 }

// pieces gives sizes around those of what the stream consists of.
func pieces(r *rand.Rand) func() int {
	return func() int {
		switch r.IntN(3) {
		case 0:
			return r.IntN(10)
		case 1:
			return 1 + r.IntN(300)
		}
		return 1 + r.IntN(2*pageSize)
	}
}

func TestReader(t *testing.T) {
	stream, done := sample()
	var l log
	r := NewReader(l.options())
	if n, err := r.Write(stream[:done-1]); err != nil || n != done-1 || r.Done() {
		t.Fatalf("it takes %d bytes, done %t: %v", n, r.Done(), err)
	}
	if err := feed(r, stream[done-1:], one); err != nil || !r.Done() {
		t.Fatalf("done %t: %v", r.Done(), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if !slices.Equal(r.Blocks(), twoBlocks) {
		t.Errorf("blocks %v, want %v", r.Blocks(), twoBlocks)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	data := func() string { return fmt.Sprintf("4096 bytes %#x", crc32.ChecksumIEEE(noise(rnd))) }
	want := log{
		"section false",
		"0/0x0 " + data(), "0/0x8000 fill 0x0",
		"0/0x1000 " + data(), "0/0x9000 fill 0x0",
		"0/0x2000 " + data(), "0/0xa000 fill 0x0",
		"0/0x3000 " + data(), "0/0xb000 fill 0x0",
		"section false",
		"0/0xf000 " + data(), "1/0x1000 " + data(), "1/0x0 fill 0x0",
		"section false",
		"section true",
		"0/0x0 fill 0x0", "0/0x1000 fill 0x5a", "0/0x2000 " + data(),
	}
	if !slices.Equal(l, want) {
		t.Errorf("it tells\n%s\nwant\n%s", strings.Join(l, "\n"), strings.Join(want, "\n"))
	}

	for i := range 200 {
		next := one
		if i > 0 {
			next = pieces(rand.New(rand.NewPCG(uint64(i), 0)))
		}
		var cut log
		r := NewReader(cut.options())
		if err := errors.Join(feed(r, stream, next), r.Close()); err != nil {
			t.Fatalf("split %d: %v", i, err)
		}
		if !slices.Equal(cut, l) {
			t.Fatalf("split %d tells\n%s", i, strings.Join(cut, "\n"))
		}
	}
}

// A stream without configuration, commands and footers is one of an old machine type.
func TestBareStream(t *testing.T) {
	e := new(encoder)
	e.header()
	e.full(itemStart, 0, "ram", ramVersion)
	e.blocks(twoBlocks...)
	e.eos()
	e.section(itemEnd, 0)
	e.zero("pc.bios", 0)
	e.eos()
	e.u8(byte(itemFull))
	var l log
	r := NewReader(l.options())
	if err := errors.Join(feed(r, e.b, one), r.Close()); err != nil {
		t.Error(err)
	}
	if want := (log{"section true", "1/0x0 fill 0x0"}); !slices.Equal(l, want) {
		t.Errorf("it tells %q, want %q", l, want)
	}
	if err := feed(NewReader(Options{MaxRAM: maxRAM}), e.b, whole(e.b)); err != nil {
		t.Errorf("without callbacks: %v", err)
	}
}

// Pages that lie whole in what is written are not copied, and nothing is allocated
// for any.
func TestPagesAreNotCopied(t *testing.T) {
	e := new(encoder)
	e.setup(twoBlocks...)
	e.section(itemPart, ramID)
	from := len(e.b)
	e.page("pc.ram", 0, make([]byte, pageSize))
	e.page("pc.bios", 0, make([]byte, pageSize))
	var data []byte
	r := NewReader(Options{MaxRAM: maxRAM, Page: func(p Page) error { data = p.Data; return nil }})
	if _, err := r.Write(e.b); err != nil {
		t.Fatal(err)
	}
	if &data[0] != &e.b[len(e.b)-pageSize] {
		t.Error("the page is a copy")
	}
	pages := e.b[from:]
	if n := testing.AllocsPerRun(100, func() {
		r.Write(pages[:100])
		r.Write(pages[100:])
	}); n != 0 || r.err != nil {
		t.Errorf("%v allocations: %v", n, r.err)
	}
}

func TestTruncated(t *testing.T) {
	stream, done := sample()
	for n := range len(stream) + 1 {
		r := NewReader(Options{MaxRAM: maxRAM})
		if err := feed(r, stream[:n], whole(stream)); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		err := r.Close()
		if again := r.Close(); again != err {
			t.Fatalf("%d bytes: Close says %v, then %v", n, err, again)
		}
		if n >= done {
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			continue
		}
		if e := (*Error)(nil); !errors.As(err, &e) || e.Offset != int64(n) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if _, err := r.Write(stream[n:]); err == nil {
			t.Fatalf("%d bytes: it is written to when it is closed", n)
		}
	}
}

// bad has streams that are wrong from the mark on.
var bad = []struct {
	name    string
	write   func(e *encoder)
	problem string
}{
	{"magic", func(e *encoder) { e.u32(magic + 1); e.u32(version) },
		"it begins with 0x5145564e, want 0x5145564d: this is no migration of QEMU's"},
	{"version", func(e *encoder) { e.u32(magic); e.u32(2) }, "format version 2, want 3"},
	{"item", func(e *encoder) { e.header(); e.mark(); e.u8(0x33) }, "item 0x33, which is unknown before the first device"},
	{"end of file", func(e *encoder) { e.setup(twoBlocks...); e.mark(); e.u8(0) }, "item 0x00, which is unknown before the first device"},
	{"second configuration", func(e *encoder) {
		e.header()
		e.configuration("a")
		e.mark()
		e.configuration("b")
	}, "a configuration amid the stream"},
	{"late configuration", func(e *encoder) { e.setup(twoBlocks...); e.mark(); e.configuration("b") }, "a configuration amid the stream"},
	{"capabilities", func(e *encoder) { e.header(); e.configuration("pc"); e.mark(); e.u8(5); e.name("configuration/uuid") },
		`the configuration lists capabilities or the machine's UUID: switch the migration capabilities "x-ignore-shared", "mapped-ram" and "validate-uuid" off`},
	{"subsection", func(e *encoder) { e.setup(twoBlocks...); e.mark(); e.u8(5) }, "item 0x05, which is unknown before the first device"},
	{"postcopy", func(e *encoder) { e.header(); e.u8(8); e.mark(); e.u16(3); e.u16(16) },
		`command POSTCOPY_ADVISE: switch the migration capability "postcopy-ram" off`},
	{"package", func(e *encoder) { e.setup(twoBlocks...); e.u8(8); e.mark(); e.u16(7); e.u16(4) },
		`command PACKAGED: switch the migration capability "postcopy-ram" off`},
	{"colo", func(e *encoder) { e.header(); e.u8(8); e.mark(); e.u16(8); e.u16(0) },
		`command ENABLE_COLO: switch the migration capability "x-colo" off`},

	{"other section", func(e *encoder) {
		e.setup(twoBlocks...)
		e.section(itemStart, 5)
		e.u8(12)
		e.mark()
		e.raw([]byte("dirty-bitmap")...)
	}, `section "dirty-bitmap": only RAM may be sent while the guest runs`},
	{"nameless section", func(e *encoder) { e.header(); e.section(itemStart, 5); e.mark(); e.u8(0) }, "section 5 has no name"},
	{"second ram", func(e *encoder) {
		e.setup(twoBlocks...)
		e.section(itemStart, 5)
		e.u8(3)
		e.mark()
		e.raw([]byte("ram")...)
	},
		`a second section "ram"`},
	{"ram version", func(e *encoder) {
		e.header()
		e.section(itemStart, 5)
		e.name("ram")
		e.mark()
		e.u32(0)
		e.u32(3)
	},
		"RAM version 3, want 4"},
	{"early device", func(e *encoder) { e.header(); e.section(itemFull, 1); e.u8(5); e.mark(); e.raw([]byte("timer")...) },
		`device "timer" comes before all of the RAM`},
	{"device before the last section", func(e *encoder) {
		e.setup(twoBlocks...)
		e.section(itemPart, ramID)
		e.eos()
		e.section(itemFull, 1)
		e.u8(5)
		e.mark()
		e.raw([]byte("timer")...)
	}, `device "timer" comes before all of the RAM`},
	{"part first", func(e *encoder) { e.header(); e.u8(2); e.mark(); e.u32(ramID) }, "more of section 3, which has not begun"},
	{"part of another", func(e *encoder) { e.setup(twoBlocks...); e.u8(2); e.mark(); e.u32(9) },
		"more of section 9, want 3, which is the RAM"},
	{"part after end", func(e *encoder) {
		e.setup(twoBlocks...)
		e.section(itemEnd, ramID)
		e.eos()
		e.u8(2)
		e.mark()
		e.u32(ramID)
	}, "more of section 3, which has ended"},
	{"footer", func(e *encoder) {
		e.setup(twoBlocks...)
		e.section(itemPart, ramID)
		e.eos()
		e.u8(0x7e)
		e.mark()
		e.u32(4)
	},
		"the footer of section 4, want 3"},
	{"second footer", func(e *encoder) { e.setup(twoBlocks...); e.mark(); e.footer(ramID) }, "the footer of no section"},

	{"no list", func(e *encoder) { e.header(); e.full(itemStart, ramID, "ram", 4); e.mark(); e.eos() },
		"RAM's first section does not list its blocks"},
	{"two lists", func(e *encoder) {
		e.header()
		e.full(itemStart, ramID, "ram", 4)
		e.blocks(twoBlocks...)
		e.mark()
		e.blocks(twoBlocks...)
	}, "a second list of the RAM's blocks"},
	{"late list", func(e *encoder) { e.setup(twoBlocks...); e.section(itemPart, ramID); e.mark(); e.blocks(twoBlocks...) },
		"a second list of the RAM's blocks"},
	{"too much", func(e *encoder) {
		e.header()
		e.full(itemStart, ramID, "ram", 4)
		e.mark()
		e.u64(maxRAM + pageSize | flagMemSize)
	}, "1052672 bytes of RAM, at most 1048576 are expected"},
	{"far too much", func(e *encoder) {
		e.header()
		e.full(itemStart, ramID, "ram", 4)
		e.mark()
		e.u64(^uint64(0)&^0xfff | flagMemSize)
	},
		"18446744073709547520 bytes of RAM, at most 1048576 are expected"},
	{"more than all", func(e *encoder) { list(e, 2*pageSize, "a", 3*pageSize) }, `block "a" has 12288 bytes, and 8192 are left of all`},
	{"far more than all", func(e *encoder) { list(e, 2*pageSize, "a", 1<<63) },
		`block "a" has 9223372036854775808 bytes, and 8192 are left of all`},
	{"odd size", func(e *encoder) { list(e, 2*pageSize, "a", 100) }, `block "a" has 100 bytes, want a multiple of 4096`},
	{"nameless block", func(e *encoder) {
		e.header()
		e.full(itemStart, ramID, "ram", 4)
		e.u64(pageSize | flagMemSize)
		e.mark()
		e.u8(0)
	}, "block 0 has no name"},
	{"block twice", func(e *encoder) {
		e.header()
		e.full(itemStart, ramID, "ram", 4)
		e.u64(2*pageSize | flagMemSize)
		e.name("a")
		e.u64(pageSize)
		e.u8(1)
		e.mark()
		e.raw('a')
	}, `a second block "a"`},
	{"many blocks", func(e *encoder) {
		e.header()
		e.full(itemStart, ramID, "ram", 4)
		e.u64(pageSize | flagMemSize)
		for i := range maxBlocks {
			e.name(fmt.Sprint(i))
			e.u64(0)
		}
		e.mark()
		e.name("x")
	}, "more than 256 blocks"},

	{"outside", func(e *encoder) { part(e); e.mark(); e.zero("pc.bios", 2*pageSize) }, `a page at 0x2000 of block "pc.bios", which has 0x2000 bytes`},
	{"far outside", func(e *encoder) { part(e); e.mark(); e.page("pc.ram", ^uint64(0)&^0xfff, nil) },
		`a page at 0xfffffffffffff000 of block "pc.ram", which has 0x10000 bytes`},
	{"outside again", func(e *encoder) { part(e); e.zero("pc.bios", 0); e.mark(); e.zero("pc.bios", 1<<63) },
		`a page at 0x8000000000000000 of block "pc.bios", which has 0x2000 bytes`},
	{"unknown block", func(e *encoder) { part(e); e.u64(flagPage); e.u8(1); e.mark(); e.raw('x') }, `a page of block "x", which is not in the list`},
	{"page of no block", func(e *encoder) { part(e); e.u64(flagPage); e.mark(); e.u8(0) }, "a page of a block without name"},
	{"no block before", func(e *encoder) { part(e); e.mark(); e.u64(flagZero | flagContinue) }, "a page of the block before, and there is none"},
	{"page in the first section", func(e *encoder) {
		e.header()
		e.full(itemStart, ramID, "ram", 4)
		e.blocks(twoBlocks...)
		e.mark()
		e.zero("pc.ram", 0)
	}, "a page in RAM's first section"},
	{"flags 0", func(e *encoder) { part(e); e.mark(); e.u64(pageSize) }, "flags 0x0"},
	{"two flags", func(e *encoder) { part(e); e.mark(); e.u64(flagZero | flagPage) }, "flags 0xa"},
	{"unknown flag", func(e *encoder) { part(e); e.mark(); e.u64(0x800) }, "flags 0x800"},
	{"xbzrle", func(e *encoder) { part(e); e.mark(); e.u64(flagXBZRLE | flagContinue) },
		`a page compressed by XBZRLE: switch the migration capability "xbzrle" off`},
	{"compress", func(e *encoder) { part(e); e.mark(); e.u64(flagCompress) },
		`a compressed page: switch the migration capability "compress" off`},
	{"rdma", func(e *encoder) { part(e); e.mark(); e.u64(flagHook) }, "a request of RDMA: migrate over a file descriptor or a socket"},
	{"multifd", func(e *encoder) {
		e.header()
		e.full(itemStart, ramID, "ram", 4)
		e.blocks(twoBlocks...)
		e.mark()
		e.u64(flagMultifd)
	}, `pages that go over other connections: switch the migration capability "multifd" off`},
}

// list writes a list of one block, up to the mark before its size.
func list(e *encoder, total uint64, name string, size uint64) {
	e.header()
	e.full(itemStart, ramID, "ram", 4)
	e.u64(total | flagMemSize)
	e.name(name)
	e.mark()
	e.u64(size)
}

func part(e *encoder) {
	e.setup(twoBlocks...)
	e.section(itemPart, ramID)
}

func TestBad(t *testing.T) {
	for _, test := range bad {
		t.Run(test.name, func(t *testing.T) {
			e := new(encoder)
			test.write(e)
			stream := append(e.b, make([]byte, 2*pageSize)...)
			want := Error{e.at, test.problem}
			for name, next := range map[string]func() int{"whole": whole(stream), "byte by byte": one} {
				r := NewReader(Options{MaxRAM: maxRAM})
				err := feed(r, stream, next)
				got, ok := err.(*Error)
				if !ok || *got != want {
					t.Fatalf("%s: %v, want %v", name, err, &want)
				}
				if _, again := r.Write([]byte{0}); again != err {
					t.Errorf("%s: then %v", name, again)
				}
				if closed := r.Close(); closed != err {
					t.Errorf("%s: Close says %v", name, closed)
				}
			}
			if n, _ := NewReader(Options{MaxRAM: maxRAM}).Write(stream); int64(n) < e.at || n == len(stream) {
				t.Errorf("it takes %d bytes of %d, those up to %d are right", n, len(stream), e.at)
			}
		})
	}
}

func TestCallbackFails(t *testing.T) {
	stream, _ := sample()
	fault := errors.New("fault")
	for name, o := range map[string]Options{
		"page":    {MaxRAM: maxRAM, Page: func(Page) error { return fault }},
		"section": {MaxRAM: maxRAM, Section: func(last bool) error { return map[bool]error{true: fault}[last] }},
	} {
		for _, next := range []func() int{whole(stream), one} {
			r := NewReader(o)
			if err := feed(r, stream, next); err != fault {
				t.Errorf("%s: Write says %v", name, err)
			}
			if err := r.Close(); err != fault {
				t.Errorf("%s: Close says %v", name, err)
			}
		}
	}
}

// pass is a section of RAM with pages of which one in four is zero.
func pass(pages int) (setup, section []byte) {
	r := rand.New(rand.NewPCG(3, 4))
	e := new(encoder)
	e.setup(Block{"pc.ram", int64(pages) * pageSize})
	setup, e.b = e.b, nil
	e.section(itemPart, ramID)
	data := noise(r)
	for i := range uint64(pages) {
		if i%4 == 3 {
			e.zero("pc.ram", i*pageSize)
		} else {
			e.page("pc.ram", i*pageSize, data)
		}
	}
	e.eos()
	e.footer(ramID)
	return setup, e.b
}

func BenchmarkReader(b *testing.B) {
	const pages = 4096
	setup, section := pass(pages)
	got := 0
	r := NewReader(Options{MaxRAM: pages * pageSize, Page: func(p Page) error { got += len(p.Data); return nil }})
	if _, err := r.Write(setup); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(section)))
	b.ReportAllocs()
	for b.Loop() {
		for at := 0; at < len(section); at += chunk {
			if _, err := r.Write(section[at:min(at+chunk, len(section))]); err != nil {
				b.Fatal(err)
			}
		}
	}
	if got != b.N*pages*3/4*pageSize {
		b.Fatalf("%d bytes of pages", got)
	}
}
