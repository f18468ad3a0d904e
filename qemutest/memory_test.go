package qemutest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testMemory(t testing.TB, size int64) *memory {
	t.Helper()
	m, err := newMemory(size, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	return m
}

func (m *memory) put(t testing.TB, page, offset int64, b byte) {
	t.Helper()
	if _, err := m.file.WriteAt([]byte{b}, page*pageSize+offset); err != nil {
		t.Fatal(err)
	}
}

func TestDiffer(t *testing.T) {
	const pages = 1024
	a, b := testMemory(t, pages*pageSize), testMemory(t, pages*pageSize)
	if got, err := differ(a, b); err != nil || got != nil {
		t.Fatalf("two empty memories: %v, %v", got, err)
	}
	for p := int64(100); p < 300; p++ {
		a.put(t, p, p, byte(p))
		b.put(t, p, p, byte(p))
	}
	a.put(t, 0, 0, 1)            // first byte; a hole in b
	b.put(t, pages-1, 4095, 1)   // last byte; a hole in a
	a.put(t, 150, 4095, 7)       // last byte of a page that both have
	b.put(t, 151, 0, 7)          // first byte of one
	a.put(t, 500, 10, 0)         // zeros in a, a hole in b
	a.put(t, 600, 10, 5)         // the same in both,
	b.put(t, 600, 10, 5)         // alone between holes
	b.put(t, 64, 0, 9)           // at an edge of what is compared at once
	a.put(t, pages/2+64, 17, 33) // in a only
	got, err := differ(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{0, 64, 150, 151, pages/2 + 64, pages - 1}, got); diff != "" {
		t.Error(diff)
	}
}

// TestDifferRandom holds the comparison against the plain one.
func TestDifferRandom(t *testing.T) {
	const pages = 700
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	a, b := testMemory(t, pages*pageSize), testMemory(t, pages*pageSize)
	contents := [2][pages][pageSize]byte{}
	for range 2000 {
		which, page, offset, value := r.IntN(2), r.Int64N(pages), r.Int64N(pageSize), byte(r.IntN(4))
		for i, m := range []*memory{a, b} {
			if i == which || r.IntN(20) > 0 {
				m.put(t, page, offset, value)
				contents[i][page][offset] = value
			}
		}
	}
	var want []int64
	for p := range contents[0] {
		if contents[0][p] != contents[1][p] {
			want = append(want, int64(p))
		}
	}
	got, err := differ(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAddresses(t *testing.T) {
	for _, test := range []struct {
		size   int64
		offset int64
		gpa    uint64
	}{
		{256 << 20, 0, 0},
		{256 << 20, 256<<20 - 1, 256<<20 - 1},
		{0xafff_f000, 0xafff_efff, 0xafff_efff},
		{0xb000_0000, 0x7fff_ffff, 0x7fff_ffff},
		{0xb000_0000, 0x8000_0000, 0x1_0000_0000},
		{6 << 30, 6<<30 - 1, 8<<30 - 1},
	} {
		m := testMemory(t, test.size)
		if got := m.gpa(test.offset); got != test.gpa {
			t.Errorf("%#x: offset %#x is at %#x, want %#x", test.size, test.offset, got, test.gpa)
		}
		if got, ok := m.offset(test.gpa); !ok || got != test.offset {
			t.Errorf("%#x: %#x is at offset %#x, %t, want %#x", test.size, test.gpa, got, ok, test.offset)
		}
		for _, gpa := range []uint64{m.gpa(test.size-1) + 1, 0xfff0_0000, 1 << 63, ^uint64(0)} {
			if got, ok := m.offset(gpa); ok {
				t.Errorf("%#x: %#x, where there is no RAM, is at offset %#x", test.size, gpa, got)
			}
		}
	}
}

func TestExtents(t *testing.T) {
	a := []extent{{0, 10}, {20, 30}, {40, 50}}
	b := []extent{{5, 25}, {26, 27}, {45, 60}}
	if got, want := both(a, b), []extent{{5, 10}, {20, 25}, {26, 27}, {45, 50}}; !slices.Equal(got, want) {
		t.Errorf("both: %v, want %v", got, want)
	}
	if got, want := without(a, b), []extent{{0, 5}, {25, 26}, {27, 30}, {40, 45}}; !slices.Equal(got, want) {
		t.Errorf("without: %v, want %v", got, want)
	}
	if got, want := without(b, a), []extent{{10, 20}, {50, 60}}; !slices.Equal(got, want) {
		t.Errorf("without: %v, want %v", got, want)
	}
}

func BenchmarkDiffer(b *testing.B) {
	for _, lost := range []int{0, 8192} {
		b.Run(fmt.Sprintf("lost=%d", lost), func(b *testing.B) {
			const size = 1 << 30
			x, y := testMemory(b, size), testMemory(b, size)
			page := make([]byte, pageSize)
			for i := range int64(size / pageSize) {
				page[i%pageSize]++
				for _, m := range []*memory{x, y} {
					if _, err := m.file.WriteAt(page, i*pageSize); err != nil {
						b.Fatal(err)
					}
				}
			}
			for i := range lost {
				y.put(b, int64(i)*7, 0, 255)
			}
			b.SetBytes(2 * size)
			for b.Loop() {
				if got, err := differ(x, y); err != nil || len(got) != lost {
					b.Fatalf("%d pages differ, %v", len(got), err)
				}
			}
		})
	}
	// What the memory gives: as much is searched on each core for what is not there.
	b.Run("read", func(b *testing.B) {
		const size = 1 << 30
		all := bytes.Repeat([]byte{1}, 2*size)
		b.SetBytes(2 * size)
		for b.Loop() {
			var parts sync.WaitGroup
			for part := range slices.Chunk(all, len(all)/runtime.GOMAXPROCS(0)) {
				parts.Go(func() {
					if bytes.IndexByte(part, 2) >= 0 {
						b.Error("found what is not there")
					}
				})
			}
			parts.Wait()
		}
	})
}
