package report

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"html"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"patchgen/qemutest"
)

var update = flag.Bool("update", false, "write the files of testdata anew")

func files(t *testing.T, reports ...*qemutest.Report) map[string][]byte {
	t.Helper()
	all, err := Files(reports, sampleCommand)
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string][]byte)
	for _, f := range all {
		if byName[f.Name] != nil || f.Name != filepath.Base(f.Name) {
			t.Errorf("file %q", f.Name)
		}
		byName[f.Name] = f.Data
		if strings.HasSuffix(f.Name, ".svg") {
			parseXML(t, f.Name, f.Data)
		}
	}
	return byName
}

// TestGolden compares with what is in testdata, which is there to be looked at.
func TestGolden(t *testing.T) {
	all := files(t, sampleReport())
	for _, name := range []string{"report.txt", "loss-and-cure.svg"} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, all[name], 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(all[name])); d != "" {
			t.Errorf("%s (-want, +got; go test ./report -update writes it anew):\n%s", path, d)
		}
	}
	want := []string{"index.html", "report.txt", "loss-and-cure.svg", "run-1-loss.svg", "run-1-proof.svg"}
	for _, name := range want {
		if len(all[name]) == 0 {
			t.Errorf("there is no %s", name)
		}
	}
	if len(all) != len(want) {
		t.Errorf("%d files, want %d", len(all), len(want))
	}
	if command := html.EscapeString(strings.Join(sampleCommand, " ")); !strings.Contains(string(all["index.html"]), "<code>"+command+"</code>") {
		t.Errorf("index.html does not have the command %s", command)
	}
}

func TestClassify(t *testing.T) {
	p := &qemutest.Pages{
		Sent: []uint32{0, 1, 1, 0b11, 0b11, 1, 0b11, 1 << 31, 0b11},
		Used: []bool{false, false, true, true, false, true, true, true, true},
		Writes: []qemutest.Written{
			{Page: 5, Counted: true, Missed: true}, {Page: 6, Counted: true}, {Page: 8},
		},
	}
	want := []class{untouched, untouched, once, resent, untouched, missed, arrived, once, resent}
	if d := cmp.Diff(want, classify(p)); d != "" {
		t.Error(d)
	}
}

// TestDraw holds a picture's cells against the pages that they stand for.
func TestDraw(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, pages := range []int{1, 2, 3, 255, 1024, 32768, 65536, 65537, 300_000, 1 << 20} {
		all := make([]class, pages)
		for i := 0; i < pages; {
			c := class(r.IntN(int(arrived) + 1))
			for end := min(pages, i+r.IntN(100)+1); i < end; i++ {
				all[i] = c
			}
		}
		lonely := r.IntN(pages)
		all[lonely] = missed
		pic := draw(all)
		if len(pic.cells) > maxCells || pic.stretches(nil) > maxStretches || pages <= 1024 && pic.side != 1 {
			t.Errorf("%d pages: %d cells of %d pages, %d stretches", pages, len(pic.cells), pic.side*pic.side, pic.stretches(nil))
		}
		columns := pic.columns * pic.side
		if columns&(columns-1) != 0 {
			t.Errorf("%d pages: %d in a row", pages, columns)
		}
		most := make([]class, len(pic.cells))
		for i, c := range all {
			y, x := i/columns/pic.side, i%columns/pic.side
			most[y*pic.columns+x] = max(most[y*pic.columns+x], c)
		}
		if d := cmp.Diff(most, pic.cells); d != "" {
			t.Errorf("%d pages: %s", pages, d)
		}
		if pic.counts[missed] != 1 {
			t.Errorf("%d pages: counts %v", pages, pic.counts)
		}
		if d := cmp.Diff(pic.cells, cellsOf(t, pic.inline("a < b"))); d != "" {
			t.Errorf("%d pages, as SVG: %s", pages, d)
		}
	}
}

// cellsOf reads the cells back from SVG: lines of one unit's thickness, from left to
// right.
func cellsOf(t *testing.T, svg string) []class {
	t.Helper()
	var doc struct {
		Box  string `xml:"viewBox,attr"`
		Path []struct {
			Class string `xml:"class,attr"`
			D     string `xml:"d,attr"`
		} `xml:"path"`
	}
	if err := xml.Unmarshal([]byte(svg), &doc); err != nil {
		t.Fatal(err)
	}
	var columns, rows, none int
	if _, err := fmt.Sscan(doc.Box, &none, &none, &columns, &rows); err != nil {
		t.Fatal(err)
	}
	cells := make([]class, columns*rows)
	for _, p := range doc.Path {
		c := class(0)
		for ids[c] != p.Class {
			c++
		}
		var x, y float64
		r := strings.NewReader(p.D)
		for {
			command, err := r.ReadByte()
			if err == io.EOF {
				break
			}
			var a, b float64
			switch command {
			case 'M', 'm':
				fmt.Fscan(r, &a, &b)
				if command == 'M' {
					x, y = 0, 0
				}
				x, y = x+a, y+b
			case 'h':
				fmt.Fscan(r, &a)
				for range int(a) {
					cells[int(math.Floor(y))*columns+int(x)] = c
					x++
				}
			default:
				t.Fatalf("path has %q", command)
			}
		}
	}
	return cells
}

// TestEncode reads back what the script gets, by other code than the script's.
func TestEncode(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := random(r, 1+r.IntN(30_000))
		all := classify(p)
		data, err := json.Marshal(encode(p, all))
		if err != nil {
			t.Fatal(err)
		}
		checkEncoded(t, data, p, all)
	}
	checkEncoded(t, []byte(`{"pages":0,"low":0,"states":[],"runs":"","writers":[],"writes":""}`), &qemutest.Pages{}, nil)
}

func checkEncoded(t *testing.T, data []byte, p *qemutest.Pages, all []class) {
	t.Helper()
	var e struct {
		Pages   int
		Low     int64
		States  [][]uint32
		Runs    []byte
		Writers []string
		Writes  []byte
	}
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	if e.Pages != len(p.Sent) || e.Low != p.Low/4096 {
		t.Fatalf("%d pages, %d low ones", e.Pages, e.Low)
	}
	page := 0
	for r := bytes.NewReader(e.Runs); r.Len() > 0; {
		state, n := e.States[unsigned(t, r)], unsigned(t, r)
		for range n {
			if state[0] != uint32(all[page]) || state[1] != p.Sent[page] {
				t.Fatalf("page %d is %v, want %d and %#x", page, state, all[page], p.Sent[page])
			}
			page++
		}
	}
	if page != e.Pages {
		t.Fatalf("states of %d pages, want %d", page, e.Pages)
	}
	var got []qemutest.Written
	var who []string
	var at, source, ms, pass int64
	for r := bytes.NewReader(e.Writes); r.Len() > 0; {
		at += int64(unsigned(t, r))
		n, writer := unsigned(t, r), e.Writers[unsigned(t, r)]
		source += signed(t, r)
		ms += signed(t, r)
		pass += signed(t, r)
		step := signed(t, r)
		for i := range int64(n) {
			got = append(got, qemutest.Written{Page: at, Source: source + i*step, AtMS: ms, Pass: pass})
			who = append(who, writer)
			at++
		}
	}
	if len(got) != len(p.Writes) {
		t.Fatalf("%d writes, want %d", len(got), len(p.Writes))
	}
	for i, want := range p.Writes {
		if who[i] != writer(want) {
			t.Fatalf("page %d was written by %q, want %q", want.Page, who[i], writer(want))
		}
		want.Driver, want.What, want.Counted, want.Missed = "", "", false, false
		if got[i] != want {
			t.Fatalf("write %+v, want %+v", got[i], want)
		}
	}
}

func unsigned(t *testing.T, r *bytes.Reader) uint64 {
	v, err := binary.ReadUvarint(r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func signed(t *testing.T, r *bytes.Reader) int64 {
	v, err := binary.ReadVarint(r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSize bounds the files: of a guest as the proof has them, of a large one, and of
// the worst that there can be.
func TestSize(t *testing.T) {
	for _, pages := range []int{1 << 16, 1 << 20} {
		worst := &qemutest.Pages{Memory: int64(pages) * pageSize, Low: int64(pages) * pageSize, Sent: make([]uint32, pages), Used: make([]bool, pages)}
		for i := range pages {
			worst.Sent[i], worst.Used[i] = uint32(i%2*2+1), true
		}
		for _, p := range []*qemutest.Pages{random(rand.New(rand.NewPCG(4, 5)), pages), worst} {
			r := sampleReport()
			for i := range r.Runs {
				r.Runs[i].Pages = p
			}
			for name, data := range files(t, r) {
				if strings.HasSuffix(name, ".svg") && len(data) >= 300_000 {
					t.Errorf("of %d pages, %s has %d bytes", pages, name, len(data))
				}
			}
		}
	}
}

// TestHostile has strings from outside with what means something to HTML, SVG or a
// terminal.
func TestHostile(t *testing.T) {
	const evil = "</script><script>alert(1)</script>\"'<img src=x onerror=alert(1)>\x1b[31m\u202e"
	r := sampleReport()
	r.Tree, r.Kernel, r.QEMU, r.Accelerator = evil, evil, evil, evil
	r.Mutants[0].Killers = []string{evil}
	r.Matrix = []qemutest.MatrixRun{{Cells: []qemutest.CellResult{{API: evil, Direction: evil, Want: evil, Verdict: evil, Why: evil}}}}
	r.Levels = []qemutest.LevelRun{{Parameter: evil, Why: evil}}
	r.KUnit = []qemutest.KUnitRun{{Why: evil, Verdict: evil}}
	r.Handshakes = []qemutest.HandshakeRun{{Name: evil, About: evil, Why: evil}}
	for i := range r.Runs {
		r.Runs[i].Why, r.Runs[i].Verdict = evil, evil
		r.Runs[i].Moments = append(r.Runs[i].Moments, qemutest.Moment{What: evil})
		r.Runs[i].Drivers[0].Name = evil
		r.Runs[i].Pages.Writes[0].Driver, r.Runs[i].Pages.Writes[0].What = "virtio_blk", evil
	}
	for _, verdict := range []string{qemutest.Pass, evil} {
		r.Verdict, r.Why = verdict, evil
		all := files(t, r, r)
		index := string(all["index.html"])
		// A script for each picture, and the page's own.
		if n := strings.Count(index, "<script"); n != 5 {
			t.Errorf("%d scripts, want 5", n)
		}
		if strings.Contains(index, "<img src=x") || strings.Contains(index, "<script>alert") {
			t.Error("strings from outside are not escaped")
		}
		for _, c := range string(all["report.txt"]) {
			if c != '\n' && !unicode.IsPrint(c) {
				t.Fatalf("report.txt has %U", c)
			}
		}
	}
}

func TestNothingFound(t *testing.T) {
	calibrated := sampleReport()
	calibrated.Runs = []qemutest.Outcome{sample("calibration")}
	calibrated.Runs[0].Verdict, calibrated.Runs[0].Why = qemutest.Unfit, "this QEMU's dirty log is unsound: 4 pages that only the CPU wrote were lost"
	calibrated.Verdict, calibrated.Why = qemutest.Unfit, "calibration run with 1 vCPU: "+calibrated.Runs[0].Why
	unknown := sampleReport()
	unknown.Runs[0].Pages, unknown.Runs[1].Pages = nil, nil
	for _, test := range []struct {
		name     string
		report   *qemutest.Report
		headline string
		files    int
	}{
		{"empty", &qemutest.Report{Verdict: qemutest.Pass}, "All that was tested passed.", 2},
		{"unfit", calibrated, "Not proved (unfit): calibration run with 1 vCPU: this QEMU", 3},
		{"without pages", unknown, "With the series none of the 100 pages", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := files(t, test.report)
			if len(all) != test.files {
				t.Errorf("%d files, want %d", len(all), test.files)
			}
			_, after, _ := strings.Cut(string(all["index.html"]), "<h1 ")
			_, after, _ = strings.Cut(after, ">")
			after = strings.ReplaceAll(after, "&#39;", "'")
			if !strings.HasPrefix(after, test.headline) {
				t.Errorf("headline %.80q, want %q", after, test.headline)
			}
			text := strings.Join(strings.Fields(string(all["report.txt"])), " ")
			if !strings.HasPrefix(text, test.headline) {
				t.Errorf("report.txt is\n%s", all["report.txt"])
			}
		})
	}
}

func TestSeveralTrees(t *testing.T) {
	good, bad := sampleReport(), sampleReport()
	bad.Tree, bad.Verdict, bad.Why = "debian:6.1", qemutest.Lost, "proof run with 1 vCPU: 3 pages were lost."
	all := files(t, good, bad)
	for _, name := range []string{"tree-1-loss-and-cure.svg", "tree-2-loss-and-cure.svg", "tree-2-run-1-proof.svg"} {
		if all[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	if index := string(all["index.html"]); !strings.Contains(index, "debian:6.1: Not proved (lost): proof run with 1 vCPU: 3 pages were lost.</h1>") {
		t.Errorf("the headline is not of the gravest verdict")
	}
	if verdict, sentence := headline([]*qemutest.Report{good, good}); verdict != qemutest.Pass || !strings.HasPrefix(sentence, "On 2 trees: with the series none of the 200 pages") {
		t.Errorf("headline %q", sentence)
	}
}

// TestText looks at the width, and has the command back.
func TestText(t *testing.T) {
	r := sampleReport()
	command := []string{"patchgen", "test"}
	for i := range 20 {
		command = append(command, "--config", fmt.Sprintf("'a b' %d/x", i))
	}
	text := string(plain([]*qemutest.Report{r, r}, command))
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > width {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	_, again, _ := strings.Cut(text, "Again:\n  ")
	if got := strings.ReplaceAll(again, " \\\n    ", " "); got != strings.Join(command, " ")+"\n" {
		t.Errorf("command %q", got)
	}
}

func TestTimeLine(t *testing.T) {
	o := sample("loss")
	line := newTimeLine(o)
	if line.EndMS != 944 || len(line.Passes) != 4 || len(line.Marks) != len(o.Moments) || line.Down.Class == "" {
		t.Errorf("time line %+v", line)
	}
	for i, m := range line.Marks {
		for _, other := range line.Marks[:i] {
			if other.Level == m.Level && m.Left-other.Left < 5.9 {
				t.Errorf("marks %+v and %+v cover each other", other, m)
			}
		}
	}
	if newTimeLine(qemutest.Outcome{}) != nil {
		t.Error("a run without sends has a time line")
	}
	// What a guest or a broken clock could make of it.
	o.Moments[0].AtMS, o.Pages.Writes[0].AtMS, o.Sends[1].BeginMS = -5, -1<<60, 1<<40
	newTimeLine(o)
	o.Moments, o.Sends = nil, []qemutest.PassSends{{}}
	newTimeLine(o)
}

// TestColours says that the classes are told apart by lightness alone, and that text
// has the contrast of WCAG's AA.
func TestColours(t *testing.T) {
	for name, theme := range map[string]theme{"light": light, "dark": dark} {
		for c := once; c < classes; c++ {
			if r := contrast(t, theme.cells[c-1], theme.cells[c]); r < 1.3 {
				t.Errorf("%s: %s and %s have a contrast of %.2f", name, ids[c-1], ids[c], r)
			}
		}
		if r := contrast(t, theme.cells[arrived], theme.cells[missed]); r < 1.5 {
			t.Errorf("%s: arrived and missed have a contrast of %.2f", name, r)
		}
		for _, ink := range []string{theme.ink, theme.soft, theme.good, theme.bad} {
			if r := contrast(t, ink, theme.ground); r < 4.5 {
				t.Errorf("%s: text in %s has a contrast of %.2f", name, ink, r)
			}
		}
		for _, c := range []class{arrived, missed} {
			if r := contrast(t, theme.cells[c], theme.cells[untouched]); r < 3 {
				t.Errorf("%s: %s on untouched has a contrast of %.2f", name, ids[c], r)
			}
		}
	}
}

// contrast is as WCAG 2 defines it.
func contrast(t *testing.T, a, b string) float64 {
	luminance := func(colour string) float64 {
		var rgb [3]uint8
		if _, err := fmt.Sscanf(colour, "#%02x%02x%02x", &rgb[0], &rgb[1], &rgb[2]); err != nil {
			t.Fatalf("%s: %v", colour, err)
		}
		sum := 0.0
		for i, part := range []float64{0.2126, 0.7152, 0.0722} {
			v := float64(rgb[i]) / 255
			if v <= 0.04045 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += part * v
		}
		return sum
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// TestSelfContained says that the page names nothing else.
func TestSelfContained(t *testing.T) {
	index := string(files(t, sampleReport())["index.html"])
	for _, s := range []string{"http://", "https://", "src=\"//", "url(", "@import"} {
		if strings.Contains(index, s) {
			t.Errorf("index.html has %s", s)
		}
	}
	for rest := index; ; {
		_, after, ok := strings.Cut(rest, `src="`)
		if !ok {
			break
		}
		link, _, _ := strings.Cut(after, `"`)
		data, ok := strings.CutPrefix(link, "data:image/png;base64,")
		if _, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(data, "&#43;", "+")); !ok || err != nil {
			t.Errorf("index.html asks for %.60s", link)
		}
		rest = after
	}
}

func parseXML(t *testing.T, name string, data []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}
