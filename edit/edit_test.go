package edit

import (
	"bytes"
	"fmt"
	"testing"
)

// FuzzApply checks that an edit puts its text in one place and changes nothing
// else, and that it is never made twice.
func FuzzApply(f *testing.F) {
	f.Add([]byte(in("\tint i;\n\n\t/* a */\n\tsync(dev, x);\n\treturn 0;\n")), "f", "", "sync(dev, x);", "", mark, 0)
	f.Add([]byte(in("\tif (a) {\n\t\tsync(dev, x);\n\t}\n")), "f", "if (a)", "sync(dev, x);", "", mark, 1)
	f.Add([]byte(in("#if A\n\tif (a)\n#endif\n\t\tb();\n\tsync(dev, x);\n")), "f", "", "sync(dev, x);", "", mark, 2)
	f.Add([]byte(maintainers), "", "", "F: kernel/dma/", "DMA-BUF FRAMEWORK", "F:\tkernel/dma/dirty.c\n", 1)
	f.Add([]byte(attributes), "", "", "Use this attribute with\nca...", "", "Use it.\n", 2)
	for _, src := range hostile(60) {
		f.Add([]byte(src), "f", "", "sync(dev, x);", "", mark, 1)
	}
	f.Fuzz(func(t *testing.T, src []byte, function, inside, landmark, section, text string, put int) {
		e := Edit{File: "f.c", Function: function, Section: section, Landmark: []string{landmark}, Put: Put(put), Text: text}
		if inside != "" {
			e.Inside = []string{inside}
		}
		input := bytes.Clone(src)
		out, place, err := e.Apply(src)
		if !bytes.Equal(src, input) {
			t.Fatal("Apply changed its input")
		}
		if err != nil {
			if fail := err.(*Error); out != nil || fail.Kind == "" || fail.Problem == "" || fail.Line < 0 || fail.Line > lineOf(src, len(src)) {
				t.Fatalf("output %q, error %#v", out, fail)
			}
			return
		}
		if n := lineOf(src, len(src)); place.Line < 1 || place.Line > n || len([]rune(place.How)) > 100 {
			t.Fatalf("%+v of %d lines", place, n)
		}
		if e.Put == Replace {
			// What is left of the input on both sides is whole lines.
			before := 0
			for before < len(src) && before < len(out) && src[before] == out[before] {
				before++
			}
			found := false
			for pos := lineStart(src, before); ; pos = lineStart(src, pos-1) {
				after := len(src) - (len(out) - pos - len(text))
				if bytes.HasPrefix(out[pos:], []byte(text)) && after >= pos && after <= len(src) && bytes.Equal(out[pos+len(text):], src[after:]) &&
					(after == len(src) || after > 0 && src[after-1] == '\n') {
					found = true
				}
				if found || pos == 0 {
					break
				}
			}
			if !found {
				t.Fatalf("from %q to %q", src, out)
			}
		} else {
			found := false
			for pos := 0; pos <= len(src) && !found; pos++ {
				found = (pos == 0 || src[pos-1] == '\n') && string(out) == string(src[:pos])+text+string(src[pos:])
			}
			if !found {
				t.Fatalf("from %q to %q", src, out)
			}
		}
		if e.Put == Replace || foldText(text) == "" {
			return
		}
		if twice, _, err := e.Apply(out); err == nil {
			t.Fatalf("from %q to %q and to %q", src, out, twice)
		}
	})
}

// cFile is a C file of about n bytes with the function sync_last() at its end.
func cFile(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `
/*
 * Make the buffer of a mapping consistent for the CPU.
 */
void sync_%d(struct device *dev, dma_addr_t addr, size_t size,
		enum dma_data_direction dir)
{
	phys_addr_t paddr = dma_to_phys(dev, addr);

#ifdef CONFIG_FLUSH
	if (!coherent(dev)) {
		flush(paddr, size, dir); /* the lines of it */
		flush_all("%%s {\n", '{');
	}
#endif
	if (unlikely(is_bounced(dev, paddr)))
		bounce(dev, paddr, size, dir, %d);
}
EXPORT_SYMBOL(sync_%d);
`, i, i, i)
	}
	b.WriteString("\nvoid sync_last(struct device *dev)\n{\n\tsync(dev, 0);\n}\n")
	return b.Bytes()
}

func BenchmarkApplyC(b *testing.B) {
	src := cFile(100_000)
	e := Edit{Function: "sync_last", Landmark: []string{"sync(dev, 0);"}, Put: After, Text: mark}
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := e.Apply(src); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyLines(b *testing.B) {
	var text bytes.Buffer
	for i := 0; text.Len() < 700_000; i++ {
		fmt.Fprintf(&text, "DRIVER OF DEVICE %d\nM:\tA Person <person%d@example.org>\nL:\tlist@example.org\nS:\tMaintained\nF:\tDocumentation/driver-%d.rst\nF:\tdrivers/driver-%d/\n\n", i, i, i, i)
	}
	text.WriteString(maintainers)
	src := bytes.ReplaceAll(text.Bytes(), []byte("==="), nil)
	e := Edit{File: "MAINTAINERS", Section: "DMA MAPPING HELPERS", Landmark: []string{"F: kernel/dma/"}, Put: After, Text: "F:\tkernel/dma/dirty.c\n"}
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := e.Apply(src); err != nil {
			b.Fatal(err)
		}
	}
}
