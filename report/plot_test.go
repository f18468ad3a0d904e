package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"patchgen/qemutest"
)

// warmUps are figures such as were measured.
func warmUps() []qemutest.WarmUp {
	var all []qemutest.WarmUp
	of := func(v float64) qemutest.Spread { return qemutest.Spread{Median: v, Min: v * 0.9, Max: v * 1.1} }
	for i, memory := range []int64{256 << 20, 512 << 20, 1 << 30} {
		for j, rate := range []int{0, 2000, 8000} {
			copied := float64(int(2600)<<i) * (1 + 0.15*float64(j))
			all = append(all,
				qemutest.WarmUp{Arm: qemutest.SeriesArm, Memory: memory, Rate: rate, WithoutMS: of(400 + 100*float64(j)), IOBytes: of(copied * 1.5e5)},
				qemutest.WarmUp{Arm: qemutest.UnplugsFirst, Memory: memory, Rate: rate, WithoutMS: of(copied + 300)})
		}
	}
	return all
}

// elements reads an SVG whole, and returns how many elements of each name it has, and
// what text.
func elements(t *testing.T, data []byte) (map[string]int, string) {
	t.Helper()
	names, text := make(map[string]int), ""
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return names, text
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			names[e.Name.Local]++
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("%s has %s=%q", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		case xml.CharData:
			text += string(e) + "\n"
		}
	}
}

func TestPlot(t *testing.T) {
	data := Plot(`QEMU <10> & "TCG"`, warmUps())
	names, text := elements(t, data)
	// Two panels with two arms at each rate, a mark for each size, and the legend's.
	if names["g"] != 2*2*3+3 || names["circle"] != 2*2*3+1 || names["style"] != 1 {
		t.Errorf("elements %v", names)
	}
	for _, want := range []string{
		`QEMU <10> & "TCG"`, "time without the device (s)", "I/O through the device during the migration (MiB)", "the guest's memory",
		"256 MiB", "1 GiB", "with the series", "unplugged first", "8000 pages/s dirtied", "prefers-color-scheme:dark",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in it", want)
		}
	}
	if bytes.Contains(data, []byte("http")) && bytes.Count(data, []byte("http")) != 1 {
		t.Error("it refers to something outside")
	}
	if !bytes.Equal(data, Plot(`QEMU <10> & "TCG"`, warmUps())) {
		t.Error("the same figures give another picture")
	}
}

// TestPlotOdd draws what there may be, too: one arm, one size, nothing but zeros, and
// what is no number.
func TestPlotOdd(t *testing.T) {
	nan := qemutest.Spread{Median: math.NaN(), Min: math.Inf(-1), Max: math.Inf(1)}
	for name, all := range map[string][]qemutest.WarmUp{
		"nothing": nil,
		"one":     {{Arm: qemutest.SeriesArm, Memory: 256 << 20}},
		"no such": {{Arm: "<another>", Memory: 1, Rate: -1, WithoutMS: nan, IOBytes: nan}},
		"many":    append(warmUps(), qemutest.WarmUp{Arm: qemutest.SeriesArm, Rate: 1 << 60}, qemutest.WarmUp{Arm: qemutest.SeriesArm, Rate: 7}, qemutest.WarmUp{Arm: qemutest.SeriesArm, Rate: 8}),
	} {
		t.Run(name, func(t *testing.T) { elements(t, Plot("", all)) })
	}
}

func TestGridStep(t *testing.T) {
	for most, want := range map[float64]float64{0: 1, -1: 1, 1: 0.2, 5: 1, 6: 1, 7: 2, 13: 5, 1500: 500, 0.003: 0.0005} {
		if got := gridStep(most); math.Abs(got-want) > want/1e6 {
			t.Errorf("up to %v: a tick each %v, want %v", most, got, want)
		}
	}
}
