package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"patchgen/initramfs/protocol"
)

// The names and numbers are those of the module, and the sizes those of its
// structs: they are in the numbers of its ioctls.
func TestDMAModule(t *testing.T) {
	source, err := os.ReadFile("../../qemutest/dmatest/module/dmatest.c")
	if err != nil {
		t.Fatal(err)
	}
	enum := func(name string) (names []string) {
		_, body, _ := strings.Cut(string(source), "enum "+name+" {")
		body, _, _ = strings.Cut(body, "};")
		for _, m := range regexp.MustCompile(`(?m)^\tDMATEST_(\w+)`).FindAllStringSubmatch(body, -1) {
			names = append(names, strings.ToLower(m[1]))
		}
		return names
	}
	if d := cmp.Diff(append(dmaMaps, "maps"), enum("dmatest_map")); d != "" {
		t.Errorf("how to map differs:\n%s", d)
	}
	if d := cmp.Diff(dmaHows, enum("dmatest_how")); d != "" {
		t.Errorf("how to return differs:\n%s", d)
	}
	if d := cmp.Diff(append(dmaCalls, "calls"), enum("dmatest_call")); d != "" {
		t.Errorf("what to measure differs:\n%s", d)
	}
	for _, text := range []string{
		"#define DMATEST_SAMPLES\t\t16\n", "_IOWR(0xd7, 3, struct dmatest_measure)",
		"#define DMATEST_SKIP_SYNC\tBIT(0)\t", "#define DMATEST_STRICT\t\tBIT(1)\t", "#define DMATEST_ENTRIES\t\t4\n",
		"_IOWR(0xd7, 0, struct dmatest_cell)", "_IOW(0xd7, 1, struct dmatest_return)", "_IOWR(0xd7, 2, struct dmatest_stress)",
	} {
		if !strings.Contains(string(source), text) {
			t.Errorf("the module does not have %q", text)
		}
	}
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"map", dmaIocMap, 0xc050d700}, {"return", dmaIocReturn, 0x4010d701}, {"stress", dmaIocStress, 0xc020d702},
		{"measure", dmaIocMeasure, 0xc110d703}, {"khz", unsafe.Offsetof(dmaMeasure{}.khz), 8}, {"ticks", unsafe.Offsetof(dmaMeasure{}.ticks), 144},
		{"id", unsafe.Offsetof(dmaCell{}.id), 32}, {"frame", unsafe.Offsetof(dmaCell{}.frame), 40}, {"dma", unsafe.Offsetof(dmaCell{}.dma), 48},
		{"ranges", unsafe.Offsetof(dmaStress{}.ranges), 8}, {"syncs", unsafe.Offsetof(dmaStress{}.syncs), 24},
	} {
		if c.got != c.want {
			t.Errorf("%s is %#x, want %#x", c.name, c.got, c.want)
		}
	}
}

func TestNewDMACell(t *testing.T) {
	got, err := newDMACell(protocol.Cell{Device: 1, Map: "phys", Dir: "from", SkipSync: true, RequireCoherent: true, High: true, Offset: 5, Length: 6, Entries: 1})
	want := dmaCell{device: 1, mapped: 3, dir: 2, attrs: 3, high: 1, offset: 5, length: 6, entries: 1}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, c := range []protocol.Cell{{Map: "dance", Dir: "to"}, {Map: "sg", Dir: ""}} {
		if _, err := newDMACell(c); err == nil || !strings.Contains(err.Error(), "is none of") {
			t.Errorf("%+v: the error is %v", c, err)
		}
	}
}

func TestDMAErrors(t *testing.T) {
	a := newAgent("/")
	_, c := connect(t, a)
	wantOpError(t, c.Call(protocol.OpLoad, protocol.LoadArgs{}, nil), "nothing to load")
	for op, args := range map[string]any{
		protocol.OpMap: protocol.MapArgs{}, protocol.OpReturn: protocol.ReturnArgs{}, protocol.OpStress: protocol.StressArgs{},
		protocol.OpMeasure: protocol.MeasureArgs{},
	} {
		wantOpError(t, c.Call(op, args, nil), "no module yet")
	}

	// A device that knows nothing of it.
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	a.dma = null
	wantOpError(t, c.Call(protocol.OpLoad, protocol.LoadArgs{Module: []byte{1}}, nil), "already")
	var r protocol.MapResult
	if err := c.Call(protocol.OpMap, protocol.MapArgs{Cells: []protocol.Cell{{Map: "dance"}, {Map: "sg", Dir: "to"}}}, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Cells) != 2 || !strings.Contains(r.Cells[0].Error, `"dance"`) || !strings.Contains(r.Cells[1].Error, "inappropriate ioctl") {
		t.Errorf("it says %+v", r)
	}
	wantOpError(t, c.Call(protocol.OpReturn, protocol.ReturnArgs{Returns: []protocol.Return{{ID: 7, How: "sync"}}}, nil), "cell 7, 1 of 1: sync: inappropriate ioctl")
	wantOpError(t, c.Call(protocol.OpReturn, protocol.ReturnArgs{Returns: []protocol.Return{{ID: 7, How: "lend"}}}, nil), `"lend" is none of`)
	wantOpError(t, c.Call(protocol.OpStress, protocol.StressArgs{ID: 7}, nil), "cell 7: inappropriate ioctl")
	wantOpError(t, c.Call(protocol.OpMeasure, protocol.MeasureArgs{Call: "sync_single", Length: 64}, nil), "sync_single of 64 bytes: inappropriate ioctl")
	wantOpError(t, c.Call(protocol.OpMeasure, protocol.MeasureArgs{Call: "dance"}, nil), `"dance" is none of`)
}
