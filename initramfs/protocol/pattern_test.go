package protocol

import (
	"encoding/binary"
	"math"
	"math/bits"
	"testing"
)

func filled(seed, index uint64) []byte {
	p := make([]byte, PageSize)
	Fill(p, seed, index)
	return p
}

// TestWordsDiffer looks for a word that stands in two places of all the pages
// of several seeds: with 64 random bits there should be none.
func TestWordsDiffer(t *testing.T) {
	seen := make(map[uint64][2]uint64)
	for _, seed := range []uint64{0, 1, 2, 1 << 63, math.MaxUint64, 0x5eed} {
		for index := range uint64(200) {
			p := filled(seed, index)
			for i := 0; i < PageSize; i += 8 {
				word := binary.LittleEndian.Uint64(p[i:])
				if at, ok := seen[word]; ok {
					t.Fatalf("word %#x is in page %d of seed %#x and in page %d of seed %#x", word, index, seed, at[1], at[0])
				}
				seen[word] = [2]uint64{seed, index}
			}
		}
	}
}

// TestBits holds the number of differing bits between neighbouring pages, and
// of those set at each place of a word, against the binomial distribution.
func TestBits(t *testing.T) {
	const pages = 2000
	n := float64(pages * PageSize * 8)
	var differ int
	var set [64]int
	before := filled(1, 0)
	for index := uint64(1); index <= pages; index++ {
		p := filled(1, index)
		for i := 0; i < PageSize; i += 8 {
			a, b := binary.LittleEndian.Uint64(before[i:]), binary.LittleEndian.Uint64(p[i:])
			differ += bits.OnesCount64(a ^ b)
			for bit := range set {
				set[bit] += int(b >> bit & 1)
			}
		}
		before = p
	}
	if z := (float64(differ) - n/2) / math.Sqrt(n/4); math.Abs(z) > 5 {
		t.Errorf("%d of %.0f bits differ between neighbouring pages: %.1f standard deviations off", differ, n, z)
	}
	for bit, k := range set {
		if z := (float64(k) - n/128) / math.Sqrt(n/256); math.Abs(z) > 5 {
			t.Errorf("bit %d is set %d times: %.1f standard deviations off", bit, k, z)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 9, 1392, PageSize} {
		p := make([]byte, size)
		Fill(p, 3, 4)
		if !Check(p, 3, 4) {
			t.Errorf("%d bytes as they were filled are called bad", size)
		}
		for i := range p {
			p[i] ^= 0x10
			if Check(p, 3, 4) {
				t.Errorf("%d bytes with byte %d changed are called good", size, i)
			}
			p[i] ^= 0x10
		}
	}
	if p := filled(3, 4); Check(p, 3, 5) || Check(p, 4, 4) {
		t.Error("the page of another index or seed is called good")
	}
}

func TestLooks(t *testing.T) {
	torn := filled(1, 9)
	copy(torn, filled(2, 9)[:2048])
	for want, p := range map[string][]byte{
		Stale: filled(1, 9),
		Zero:  make([]byte, PageSize),
		Torn:  torn,
		Other: filled(2, 10),
	} {
		if got := Looks(p, 2, 1, 9); got != want {
			t.Errorf("it looks %s, want %s", got, want)
		}
	}
}

func BenchmarkFill(b *testing.B) {
	p := make([]byte, PageSize)
	b.SetBytes(PageSize)
	for i := range b.N {
		Fill(p, 1, uint64(i))
	}
}

func BenchmarkCheck(b *testing.B) {
	p := filled(1, 2)
	b.SetBytes(PageSize)
	for range b.N {
		if !Check(p, 1, 2) {
			b.Fatal("bad")
		}
	}
}
