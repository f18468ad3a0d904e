package report

import (
	"bytes"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/png"
	"strings"
)

// A picture has so many cells at most, each of a page or of a square of several, and so
// many stretches of cells that are alike: two of them in one SVG stay below 300 kB.
const (
	maxCells     = 1 << 16
	maxStretches = 16_000
)

// A picture is a guest's memory in cells, row by row from address 0.
type picture struct {
	cells   []class
	columns int
	side    int // of the square of pages that a cell stands for
	counts  [classes]int
}

// grid returns how many columns and rows of pages a memory has: a power of two of
// columns, so that each row begins at a round address.
func grid(pages int) (columns, rows int) {
	for columns = 1; columns*columns < pages; {
		columns *= 2
	}
	return columns, max(1, (pages+columns-1)/columns)
}

// draw makes the picture. A cell of several pages is as the one of which there is most
// to say.
func draw(all []class) picture {
	columns, rows := grid(len(all))
	for side := 1; ; side *= 2 {
		pic := picture{columns: (columns + side - 1) / side, side: side}
		high := (rows + side - 1) / side
		if pic.columns*high > maxCells {
			continue
		}
		pic.cells = make([]class, pic.columns*high)
		for i, c := range all {
			cell := &pic.cells[i/columns/side*pic.columns+i%columns/side]
			*cell = max(*cell, c)
		}
		if pic.stretches(nil) <= maxStretches {
			pic.counts = count(all)
			return pic
		}
	}
}

// stretches counts those of cells that are alike and stand in one row, and calls each
// with them if it is not nil. What is untouched is the ground, and none.
func (p *picture) stretches(each func(c class, x, y, n int)) (all int) {
	for i := 0; i < len(p.cells); {
		c, x, y, n := p.cells[i], i%p.columns, i/p.columns, 1
		for x+n < p.columns && p.cells[i+n] == c {
			n++
		}
		if c != untouched {
			all++
			if each != nil {
				each(c, x, y, n)
			}
		}
		i += n
	}
	return all
}

func (p *picture) rows() int { return len(p.cells) / p.columns }

// scale says what a cell is.
func (p *picture) scale() string {
	if p.side == 1 {
		return "each cell is a page of 4 KiB"
	}
	return fmt.Sprintf("each cell is %d pages of 4 KiB, shown as the worst of them", p.side*p.side)
}

// said says in words what is in the picture.
func (p *picture) said() string {
	var parts []string
	for _, c := range worstFirst {
		parts = append(parts, fmt.Sprintf("%d %s", p.counts[c], names[c]))
	}
	return strings.Join(parts, ", ")
}

// strokes writes the cells as lines as thick as a cell, those of a class in one path.
func (p *picture) strokes(b *strings.Builder) {
	var d [classes]strings.Builder
	var ends [classes][2]int // where each path is
	p.stretches(func(c class, x, y, n int) {
		if d[c].Len() == 0 {
			fmt.Fprintf(&d[c], "M%d %d.5", x, y)
		} else {
			fmt.Fprintf(&d[c], "m%d %d", x-ends[c][0], y-ends[c][1])
		}
		fmt.Fprintf(&d[c], "h%d", n)
		ends[c] = [2]int{x + n, y}
	})
	fmt.Fprintf(b, `<rect class="untouched" width="%d" height="%d"/>`, p.columns, p.rows())
	for c := once; c < classes; c++ {
		if d[c].Len() > 0 {
			fmt.Fprintf(b, `<path class="%s" d="%s"/>`, ids[c], d[c].String())
		}
	}
}

// inline is the picture as a part of the page, whose style sheet colours it.
func (p *picture) inline(label string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="cells" viewBox="0 0 %d %d" role="img" aria-label="%s">`, p.columns, p.rows(), html.EscapeString(label))
	p.strokes(&b)
	b.WriteString("</svg>")
	return b.String()
}

// A panel is a picture with words over and under it.
type panel struct {
	picture
	title, under string
}

// panels draws pictures side by side, as an image that stands alone.
func panels(title string, all ...panel) []byte {
	const (
		size, gap, margin, line = 384, 24, 16, 24
		letter                  = 8 // as wide as one can be taken to be, whatever the font
	)
	width := 2*margin + len(all)*size + (len(all)-1)*gap
	var b strings.Builder
	y := margin + 16
	write := func(class string, x int, s string) {
		fmt.Fprintf(&b, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, html.EscapeString(s))
	}
	write("title", margin, title)
	y += line + 4
	var said []string
	var seen [classes]bool
	high := 0
	for i, p := range all {
		x := margin + i*(size+gap)
		write("name", x, p.title)
		h := max(1, size*p.rows()/p.columns)
		high = max(high, h)
		fmt.Fprintf(&b, `<svg class="cells" x="%d" y="%d" width="%d" height="%d" viewBox="0 0 %d %d">`, x, y+8, size, h, p.columns, p.rows())
		p.strokes(&b)
		b.WriteString("</svg>\n")
		for c, n := range p.counts {
			seen[c] = seen[c] || n > 0
		}
		said = append(said, p.title+": "+p.said())
	}
	y += 8 + high + line
	for i, p := range all {
		write("soft", margin+i*(size+gap), p.under)
	}
	y += line + 6
	x := margin
	for _, c := range worstFirst {
		if !seen[c] {
			continue
		}
		need := 20 + letter*len(names[c])
		if x > margin && x+need > width-margin {
			x, y = margin, y+line
		}
		fmt.Fprintf(&b, `<rect class="%s key" x="%d" y="%d" width="13" height="13"/>`, ids[c], x, y-12)
		write("name", x+20, names[c])
		x += need + 16
	}
	var pic strings.Builder
	fmt.Fprintf(&pic, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="t d">`+"\n", width, y+margin, width, y+margin)
	fmt.Fprintf(&pic, "<title id=\"t\">%s</title><desc id=\"d\">%s</desc>\n", html.EscapeString(title), html.EscapeString(strings.Join(said, ". ")))
	pic.WriteString("<style>text{font:14px system-ui,sans-serif}.title{font-size:16px;font-weight:600}.key{stroke:#8b949e;stroke-width:.5}" + cellStyle +
		alone(light) + "@media(prefers-color-scheme:dark){" + alone(dark) + "}</style>\n")
	fmt.Fprintf(&pic, `<rect class="ground" width="%d" height="%d"/>`+"\n", width, y+margin)
	return []byte(pic.String() + b.String() + "</svg>\n")
}

// png returns the picture with a pixel for each cell, for where no script runs. What
// is untouched is left to the ground.
func (p *picture) png() ([]byte, error) {
	colours := color.Palette{color.Transparent}
	for c := once; c < classes; c++ {
		var r, g, b uint8
		if _, err := fmt.Sscanf(light.cells[c], "#%02x%02x%02x", &r, &g, &b); err != nil {
			return nil, err
		}
		colours = append(colours, color.NRGBA{r, g, b, 255})
	}
	img := image.NewPaletted(image.Rect(0, 0, p.columns, p.rows()), colours)
	for i, c := range p.cells {
		img.Pix[i/p.columns*img.Stride+i%p.columns] = uint8(c)
	}
	var b bytes.Buffer
	err := png.Encode(&b, img)
	return b.Bytes(), err
}
