//go:build kernel

package kerneltest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
)

// The object with the hooks, and the key that they ask.
const (
	hooks = "kernel/dma/direct.o"
	key   = "dma_mark_dirty_active"
)

// nops looks into the built object whether a hook costs one instruction while marking
// is off: there is a NOP in its place, to be patched.
func nops(t *testing.T, output string) {
	places, err := keyed(filepath.Join(output, hooks), key)
	if err != nil {
		t.Fatal(err)
	}
	// One in each of sync_single, sync_sg and what inlines them.
	if len(places) < 2 {
		t.Errorf("%s: %d places are switched by %s", hooks, len(places), key)
	}
	for _, p := range places {
		if err := isNOP(p.code); err != nil {
			t.Errorf("%s: %s+%#x: %v", hooks, p.section, p.offset, err)
		}
	}
	t.Logf("%d hooks in %s, each a NOP", len(places), hooks)
}

// The NOPs of 2 and 5 bytes that the kernel patches: arch/x86/include/asm/nops.h. Up
// to 5.13 the compiler emits another one of 5 bytes, and it is changed at boot
// (arch/x86/include/asm/jump_label.h, STATIC_KEY_INIT_NOP).
var nopCodes = [][]byte{
	{0x66, 0x90},
	{0x0f, 0x1f, 0x44, 0x00, 0x00},
	{0x3e, 0x8d, 0x74, 0x26, 0x00},
}

func isNOP(code []byte) error {
	for _, nop := range nopCodes {
		if bytes.HasPrefix(code, nop) {
			return nil
		}
	}
	return fmt.Errorf("no NOP but % x", code[:min(5, len(code))])
}

// A place is code that a static key switches.
type place struct {
	section string
	offset  uint64
	code    []byte
}

// keyed returns the places in an object that a static key switches, from its
// __jump_table (include/linux/jump_label.h, struct jump_entry: code, target and key,
// each relative to itself).
func keyed(file, key string) ([]place, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".rela__jump_table")
	if section == nil {
		return nil, errors.New(file + " has no jump table")
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	const entry = 16 // bytes
	type rela struct {
		Offset, Info uint64
		Addend       int64
	}
	code := make(map[uint64]rela) // by the entry's number
	of := make(map[uint64]bool)   // entries of the key
	r := bytes.NewReader(data)
	for r.Len() > 0 {
		var one rela
		if err := binary.Read(r, f.ByteOrder, &one); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		switch one.Offset % entry {
		case 0:
			code[one.Offset/entry] = one
		case 8:
			n := elf.R_SYM64(one.Info)
			if n == 0 || int(n) > len(symbols) {
				return nil, fmt.Errorf("%s: symbol %d of %d", file, n, len(symbols))
			}
			of[one.Offset/entry] = symbols[n-1].Name == key
		}
	}
	var places []place
	for i, mine := range of {
		if !mine {
			continue
		}
		symbol := symbols[elf.R_SYM64(code[i].Info)-1]
		text := f.Sections[symbol.Section]
		body, err := text.Data()
		if err != nil {
			return nil, err
		}
		offset := symbol.Value + uint64(code[i].Addend)
		if offset >= uint64(len(body)) {
			return nil, fmt.Errorf("%s: place %#x is outside of %s", file, offset, text.Name)
		}
		places = append(places, place{text.Name, offset, body[offset:]})
	}
	return places, nil
}
