package report

import (
	"fmt"
	"strings"
)

// A theme is the colours of all that is shown. Each class stands out more from the
// ground than the one before it, without its hue as well: in grey print, and to the
// colour-blind.
type theme struct {
	cells                              [classes]string
	ink, soft, ground, line, good, bad string
}

var (
	light = theme{
		[classes]string{"#eef1f3", "#ccd5dc", "#a3afb9", "#1f9385", "#b92b08"},
		"#1b1f23", "#57606a", "#ffffff", "#d0d7de", "#00695c", "#b92b08",
	}
	dark = theme{
		[classes]string{"#1b2228", "#33404a", "#54626e", "#2b8f84", "#ff8a5a"},
		"#e6edf3", "#9da7b1", "#0d1117", "#3a424b", "#4db6ac", "#ff8a5a",
	}
)

// cellStyle has lines a little thicker than a cell, which leave no seam between rows at
// whatever size.
const cellStyle = ".cells path{fill:none;stroke-width:1.1;shape-rendering:crispEdges}"

// alone is the style sheet of a picture that stands alone. Not all that shows SVG knows
// variables.
func alone(t theme) string {
	var b strings.Builder
	fmt.Fprintf(&b, "text{fill:%s}.soft{fill:%s}.ground{fill:%s}", t.ink, t.soft, t.ground)
	for c, colour := range t.cells {
		fmt.Fprintf(&b, ".%[1]s{fill:%[2]s}.cells path.%[1]s{stroke:%[2]s}", ids[c], colour)
	}
	return b.String()
}

// styles are the page's: the themes as variables, what has a class's colour, and
// style.css.
func styles() string {
	of := func(t theme) string {
		var b strings.Builder
		for c, colour := range t.cells {
			fmt.Fprintf(&b, "--%s:%s;", ids[c], colour)
		}
		fmt.Fprintf(&b, "--ink:%s;--soft:%s;--ground:%s;--line:%s;--good:%s;--bad:%s", t.ink, t.soft, t.ground, t.line, t.good, t.bad)
		return ":root{" + b.String() + "}"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n@media screen and (prefers-color-scheme:dark){%s}\n%s", of(light), of(dark), cellStyle)
	for _, id := range ids {
		fmt.Fprintf(&b, ".%[1]s{fill:var(--%[1]s);background:var(--%[1]s)}.cells path.%[1]s{stroke:var(--%[1]s)}", id)
	}
	return b.String() + "\n" + styleSheet
}
