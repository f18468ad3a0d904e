package protocol

import "encoding/binary"

// PageSize is the size of a page, in bytes.
const PageSize = 4096

// Multipliers of Sebastiano Vigna's splitmix64, https://prng.di.unimi.it/splitmix64.c.
const (
	gamma = 0x9e3779b97f4a7c15
	mul1  = 0xbf58476d1ce4e5b9
	mul2  = 0x94d049bb133111eb
)

// mix maps the 64-bit words to themselves, one to one.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * mul1
	x = (x ^ x>>27) * mul2
	return x ^ x>>31
}

// start is where the stream of a page begins. With one of its arguments fixed
// it is one to one.
func start(seed, index uint64) uint64 { return mix(mix(seed+gamma) + index*gamma) }

// Fill writes the pattern of page index under seed, or as much of it as page
// holds. It looks random, and every aligned 8 bytes of it differ from those at
// the same place of the page of another index under this seed, and of this
// index under another seed.
func Fill(page []byte, seed, index uint64) {
	x := start(seed, index)
	for len(page) >= 8 {
		x += gamma
		binary.LittleEndian.PutUint64(page, mix(x))
		page = page[8:]
	}
	if len(page) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], mix(x+gamma))
		copy(page, last[:])
	}
}

// Check reports whether page is as Fill makes it.
func Check(page []byte, seed, index uint64) bool {
	x := start(seed, index)
	for len(page) >= 8 {
		x += gamma
		if binary.LittleEndian.Uint64(page) != mix(x) {
			return false
		}
		page = page[8:]
	}
	if len(page) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], mix(x+gamma))
		return string(page) == string(last[:len(page)])
	}
	return true
}

// Looks says what a page looks like that should be as Fill(page, seed, index)
// makes it, but isn't, and was made by the seed old before.
func Looks(page []byte, seed, old, index uint64) string {
	if Check(page, old, index) {
		return Stale
	}
	zero, matches := true, 0
	x := start(seed, index)
	for ; len(page) >= 8; page = page[8:] {
		x += gamma
		word := binary.LittleEndian.Uint64(page)
		zero = zero && word == 0
		if word == mix(x) {
			matches++
		}
	}
	switch {
	case zero:
		return Zero
	case matches > 0:
		return Torn
	}
	return Other
}
