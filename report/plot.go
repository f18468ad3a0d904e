package report

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"

	"patchgen/qemutest"
)

// plotColours are of the lines, by rate: light ones and dark ones, which the colour-blind
// can tell apart. Each line has a mark of its own as well.
var plotColours = [2][]string{
	{"#0072b2", "#b85c00", "#00745a", "#a03a78", "#5b5b5b"},
	{"#5ab4f0", "#f0a04b", "#4bc8a5", "#e08cc0", "#b0b0b0"},
}

// Of a plot, in its own units: 1 is a pixel where it is shown 700 wide.
const (
	plotWidth  = 700
	plotHigh   = 210 // of a panel, between its axes
	plotLeft   = 70
	plotRight  = 20
	plotTop    = 64
	plotLabels = 88 // between two panels
)

// A plotPanel is a panel of a plot: figures over a guest's memory.
type plotPanel struct {
	title  string
	figure func(qemutest.WarmUp) qemutest.Spread // in the unit of the title
}

var plotPanels = []plotPanel{
	{"time without the device (s)", func(w qemutest.WarmUp) qemutest.Spread { return scaled(w.WithoutMS, 1e-3) }},
	{"I/O through the device during the migration (MiB)", func(w qemutest.WarmUp) qemutest.Spread { return scaled(w.IOBytes, 1.0/(1<<20)) }},
}

func scaled(s qemutest.Spread, by float64) qemutest.Spread {
	return qemutest.Spread{Median: s.Median * by, Min: s.Min * by, Max: s.Max * by}
}

// Plot draws what a guest does without, and what it can do, while it is migrated: the
// series against unplugging first, as an SVG that stands alone, in light and dark.
// The title's second line is about, such as on what it was measured.
func Plot(about string, all []qemutest.WarmUp) []byte {
	var memories []int64
	var rates []int
	for _, w := range all {
		memories, rates = append(memories, w.Memory), append(rates, w.Rate)
	}
	slices.Sort(memories)
	slices.Sort(rates)
	memories, rates = slices.Compact(memories), slices.Compact(rates)

	legend := plotTop + len(plotPanels)*(plotHigh+plotLabels) + 6
	height := legend + 26*(1+(len(rates)+2)/3) + 8
	var b strings.Builder
	const title = "A device that stays for the first pass, and one that is unplugged first"
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" role="img" aria-labelledby="t d">`+"\n", plotWidth, height, plotWidth)
	fmt.Fprintf(&b, "<title id=\"t\">%s</title>\n<desc id=\"d\">%s</desc>\n%s", title, html.EscapeString(plotInWords(all)), plotStyle())
	fmt.Fprintf(&b, `<rect class="ground" width="%d" height="%d"/>`+"\n", plotWidth, height)
	fmt.Fprintf(&b, `<text class="title" x="16" y="26">%s</text>`+"\n", title)
	fmt.Fprintf(&b, `<text class="soft" x="16" y="46">%s</text>`+"\n", html.EscapeString(about))
	for i, g := range plotPanels {
		g.draw(&b, plotTop+i*(plotHigh+plotLabels)+22, memories, rates, all)
	}
	y := legend
	fmt.Fprintf(&b, `<path class="line" d="M16 %dh36"/><text x="60" y="%d">with the series</text>`+"\n", y, y+5)
	fmt.Fprintf(&b, `<path class="line dashed" d="M244 %dh36"/><text x="288" y="%d">unplugged first</text>`+"\n", y, y+5)
	fmt.Fprintf(&b, `<path class="line" d="M490 %dv16m-4 -16h8m-8 16h8"/><text x="516" y="%d">least to most</text>`+"\n", y-8, y+5)
	for i, rate := range rates {
		x, y := 16+i%3*228, legend+26*(1+i/3)
		fmt.Fprintf(&b, `<g class="%s">`, plotColour(i))
		plotMark(&b, i, float64(x+18), float64(y))
		fmt.Fprintf(&b, `</g><text x="%d" y="%d">%s</text>`+"\n", x+44, y+5, rateName(rate))
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func rateName(rate int) string {
	if rate == 0 {
		return "the CPU dirties nothing"
	}
	return fmt.Sprintf("%d pages/s dirtied", rate)
}

func memoryName(bytes int64) string {
	if bytes%(1<<30) == 0 {
		return fmt.Sprintf("%d GiB", bytes>>30)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}

// describe says the figures in words, for who does not see them.
func plotInWords(all []qemutest.WarmUp) string {
	var parts []string
	for _, w := range all {
		parts = append(parts, fmt.Sprintf("%s, %s of memory, %d pages a second: %.2f s without the device, %.0f MiB of I/O",
			w.Arm, memoryName(w.Memory), w.Rate, w.WithoutMS.Median/1000, w.IOBytes.Median/(1<<20)))
	}
	return strings.Join(parts, "; ")
}

// draw draws the panel with its upper edge at top.
func (g plotPanel) draw(b *strings.Builder, top int, memories []int64, rates []int, all []qemutest.WarmUp) {
	most := 0.0
	for _, w := range all {
		if v := g.figure(w).Max; !math.IsNaN(v) && !math.IsInf(v, 0) {
			most = max(most, v)
		}
	}
	step := gridStep(most)
	steps := max(1, int(math.Ceil(most/step)))
	high := float64(steps) * step
	bottom := float64(top + plotHigh)
	y := func(v float64) float64 { return bottom - min(max(v, 0), high)/high*plotHigh }
	const wide = plotWidth - plotLeft - plotRight
	// Each size has as much room, and in that the rates stand beside each other.
	x := func(memory int64, rate int) float64 {
		i, r := slices.Index(memories, memory), slices.Index(rates, rate)
		return plotLeft + (float64(i)+0.5)/float64(len(memories))*wide + (float64(r)-float64(len(rates)-1)/2)*10
	}
	fmt.Fprintf(b, `<text class="panel" x="16" y="%d">%s</text>`+"\n", top-12, g.title)
	for i := range steps + 1 {
		v := float64(i) * step
		class := "grid"
		if i == 0 {
			class = "axis"
		}
		fmt.Fprintf(b, `<path class="%s" d="M%d %.1fH%d"/><text class="end" x="%d" y="%.1f">%s</text>`+"\n",
			class, plotLeft, y(v), plotWidth-plotRight, plotLeft-8, y(v)+5, strconv.FormatFloat(v, 'f', -1, 64))
	}
	fmt.Fprintf(b, `<path class="axis" d="M%d %dV%.1f"/>`+"\n", plotLeft, top, bottom)
	for _, m := range memories {
		at := x(m, rates[0]) + float64(len(rates)-1)*5
		fmt.Fprintf(b, `<path class="axis" d="M%.1f %.1fv5"/><text class="middle" x="%.1f" y="%.1f">%s</text>`+"\n", at, bottom, at, bottom+20, memoryName(m))
	}
	fmt.Fprintf(b, `<text class="middle soft" x="%d" y="%.1f">the guest's memory</text>`+"\n", plotLeft+wide/2, bottom+38)
	for r, rate := range rates {
		for _, arm := range []string{qemutest.UnplugsFirst, qemutest.SeriesArm} {
			var of []qemutest.WarmUp
			for _, w := range all {
				if w.Arm == arm && w.Rate == rate {
					of = append(of, w)
				}
			}
			slices.SortStableFunc(of, func(a, b qemutest.WarmUp) int {
				return slices.Index(memories, a.Memory) - slices.Index(memories, b.Memory)
			})
			g.line(b, r, arm != qemutest.SeriesArm, of, func(w qemutest.WarmUp, v float64) (float64, float64) { return x(w.Memory, w.Rate), y(v) })
		}
	}
}

// line draws the figures of one arm at one rate.
func (g plotPanel) line(b *strings.Builder, number int, dashed bool, of []qemutest.WarmUp, at func(qemutest.WarmUp, float64) (x, y float64)) {
	class := "line"
	if dashed {
		class = "line dashed"
	}
	fmt.Fprintf(b, `<g class="%s"><path class="%s" d="`, plotColour(number), class)
	for i, w := range of {
		x, y := at(w, g.figure(w).Median)
		fmt.Fprintf(b, "%c%.1f %.1f", "ML"[min(i, 1)], x, y)
	}
	b.WriteString(`"/>`)
	for _, w := range of {
		s := g.figure(w)
		x, low := at(w, s.Min)
		_, high := at(w, s.Max)
		if low-high > 3 {
			fmt.Fprintf(b, `<path class="line" d="M%.1f %.1fV%.1fm-4 0h8M%.1f %.1fh8"/>`, x, low, high, x-4, low)
		}
		x, y := at(w, s.Median)
		plotMark(b, number, x, y)
	}
	b.WriteString("</g>\n")
}

// plotMark is a line's: a disk, a square, a triangle, and so on again.
func plotMark(b *strings.Builder, number int, x, y float64) {
	switch number % 3 {
	case 0:
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="4.5"/>`, x, y)
	case 1:
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="8" height="8"/>`, x-4, y-4)
	default:
		fmt.Fprintf(b, `<path d="M%.1f %.1fl5.5 9.5h-11z"/>`, x, y-6)
	}
}

func plotColour(number int) string { return fmt.Sprintf("c%d", number%len(plotColours[0])) }

// gridStep is a round distance between the lines of an axis that has about five of them.
func gridStep(most float64) float64 {
	if most <= 0 {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(most/5)))
	for _, f := range []float64{1, 2, 5} {
		if most/(base*f) <= 6 {
			return base * f
		}
	}
	return base * 10
}

func plotStyle() string {
	var b strings.Builder
	of := func(lines []string, ink, soft, grid, ground string) {
		fmt.Fprintf(&b, "text{fill:%s}.soft{fill:%s}.ground{fill:%s}.axis{stroke:%s}.grid{stroke:%s}.line{stroke:%s}", ink, soft, ground, soft, grid, ink)
		for i, c := range lines {
			fmt.Fprintf(&b, ".c%d{fill:%s}.c%d .line{stroke:%s}", i, c, i, c)
		}
	}
	b.WriteString("<style>text{font:14px system-ui,sans-serif}.title{font-size:17px;font-weight:600}.panel{font-size:15px;font-weight:600}" +
		".end{text-anchor:end}.middle{text-anchor:middle}.axis,.grid{fill:none;stroke-width:1}.line{fill:none;stroke-width:2}.dashed{stroke-dasharray:7 5}")
	of(plotColours[0], "#1b1f23", "#57606a", "#dfe3e8", "#ffffff")
	b.WriteString("@media(prefers-color-scheme:dark){")
	of(plotColours[1], "#e6edf3", "#9da7b1", "#2a3138", "#0d1117")
	b.WriteString("}</style>\n")
	return b.String()
}
