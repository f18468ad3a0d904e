package receipt

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"patchgen/qemutest"
)

const mebi = 1 << 20

// number is v in a unit.
func number(v, unit float64, digits int) string {
	if v/unit >= 10 {
		digits = min(digits, 1) // three in all are enough
	}
	return strconv.FormatFloat(v/unit, 'f', digits, 64)
}

// bounds are those of a spread in a unit, "" if they are one.
func bounds(s qemutest.Spread, unit float64, digits int) string {
	low, high := number(s.Min, unit, digits), number(s.Max, unit, digits)
	if low == high {
		return ""
	}
	return low + "-" + high
}

// A figure is one of a migration, and how it is shown.
type figure[T any] struct {
	name   string
	unit   float64
	digits int
	of     func(T) qemutest.Spread
}

var migrationFigures = []figure[qemutest.MigrationCost]{
	{"sent, MiB", mebi, 0, func(c qemutest.MigrationCost) qemutest.Spread { return c.Bytes }},
	{"passes", 1, 0, func(c qemutest.MigrationCost) qemutest.Spread { return c.Passes }},
	{"total, ms", 1, 0, func(c qemutest.MigrationCost) qemutest.Spread { return c.TotalMS }},
	{"downtime, ms", 1, 0, func(c qemutest.MigrationCost) qemutest.Spread { return c.DowntimeMS }},
	{"pages written", 1, 0, func(c qemutest.MigrationCost) qemutest.Spread { return c.Written }},
	{"missed", 1, 0, func(c qemutest.MigrationCost) qemutest.Spread { return c.Missed }},
	{"resent", 1, 0, func(c qemutest.MigrationCost) qemutest.Spread { return c.Resent }},
	{"over-reported", 1, 0, func(c qemutest.MigrationCost) qemutest.Spread { return c.OverReported }},
}

// migrations has a column for each kind of migration: medians, and, if they are asked
// for, bounds below them.
func (b *Bench) migrations(spread bool) string {
	if len(b.Migrations) == 0 {
		return ""
	}
	var rows [][]string
	add := func(name string, text func(qemutest.MigrationCost) string) {
		row := []string{name}
		for _, c := range b.Migrations {
			row = append(row, text(c))
		}
		rows = append(rows, row)
	}
	add("", func(c qemutest.MigrationCost) string { return strings.ToUpper(c.Arm) })
	add("devices", func(c qemutest.MigrationCost) string { return c.Device })
	for _, f := range migrationFigures {
		add(f.name, func(c qemutest.MigrationCost) string { return number(f.of(c).Median, f.unit, f.digits) })
		varies := func(c qemutest.MigrationCost) bool { return bounds(f.of(c), f.unit, f.digits) != "" }
		if spread && slices.ContainsFunc(b.Migrations, varies) {
			add("", func(c qemutest.MigrationCost) string { return cmp.Or(bounds(f.of(c), f.unit, f.digits), "=") })
		}
	}
	return columns(rows)
}

// lossy says what it is worth that a migration which loses pages costs less, "" where
// none does.
func (b *Bench) lossy() string {
	for _, c := range b.Migrations {
		if c.Arm == qemutest.NoSeries && c.Missed.Min > 0 {
			return "Without the series pages are lost: what that migration costs buys a guest that is damaged."
		}
	}
	return ""
}

// columns puts the first column to the left, and the others to the right. A text
// with an empty one behind it, but for the first column, is the heading of both.
func columns(rows [][]string) string {
	heads := func(row []string, i int) bool { return i > 0 && i+1 < len(row) && row[i] != "" && row[i+1] == "" }
	var widths []int
	for _, row := range rows {
		for i, text := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if !heads(row, i) {
				widths[i] = max(widths[i], len(text))
			}
		}
	}
	for _, row := range rows {
		for i, text := range row {
			if heads(row, i) {
				widths[i+1] = max(widths[i+1], len(text)-widths[i]-2)
			}
		}
	}
	var all strings.Builder
	for _, row := range rows {
		line := fmt.Sprintf("  %-*s", widths[0], row[0])
		for i := 1; i < len(row); i++ {
			if heads(row, i) {
				line += fmt.Sprintf("  %*s", widths[i]+2+widths[i+1], row[i])
				i++
				continue
			}
			line += fmt.Sprintf("  %*s", widths[i], row[i])
		}
		all.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return all.String()
}

// warmUpTables are as many figures as fit into a mail's width, of the series and of
// unplugging first side by side.
var warmUpTables = [][]figure[qemutest.WarmUp]{
	{
		{"WITHOUT DISK, s", 1000, 2, func(w qemutest.WarmUp) qemutest.Spread { return w.WithoutMS }},
		{"I/O, MiB", mebi, 0, func(w qemutest.WarmUp) qemutest.Spread { return w.IOBytes }},
		{"MISSED", 1, 0, func(w qemutest.WarmUp) qemutest.Spread { return w.Missed }},
	}, {
		{"TOTAL, s", 1000, 1, func(w qemutest.WarmUp) qemutest.Spread { return w.TotalMS }},
		{"DOWNTIME, ms", 1, 0, func(w qemutest.WarmUp) qemutest.Spread { return w.DowntimeMS }},
		{"SENT, MiB", mebi, 0, func(w qemutest.WarmUp) qemutest.Spread { return w.Bytes }},
	},
}

// A warmUpPair is the same guest with the series, and unplugged first.
type warmUpPair [2]qemutest.WarmUp

// warmUpPairs are those of which there is both.
func (b *Bench) warmUpPairs() []warmUpPair {
	var pairs []warmUpPair
	for _, s := range b.WarmUps {
		i := slices.IndexFunc(b.WarmUps, func(w qemutest.WarmUp) bool {
			return w.Arm == qemutest.UnplugsFirst && w.Memory == s.Memory && w.Rate == s.Rate
		})
		if s.Arm == qemutest.SeriesArm && i >= 0 {
			pairs = append(pairs, warmUpPair{s, b.WarmUps[i]})
		}
	}
	return pairs
}

// warmUps has a row for each size of memory and rate of dirtying: medians, and, if they
// are asked for, bounds below them.
func (b *Bench) warmUps(spread bool) string {
	pairs := b.warmUpPairs()
	if len(pairs) == 0 {
		return ""
	}
	var tables []string
	for _, figures := range warmUpTables {
		rows := [][]string{{"", ""}, {"MEMORY", "PAGES/s"}}
		for _, f := range figures {
			rows[0] = append(rows[0], f.name, "")
			rows[1] = append(rows[1], "series", "unplug")
		}
		for _, pair := range pairs {
			medians, around, varies := []string{memory(pair[0].Memory), strconv.Itoa(pair[0].Rate)}, []string{"", ""}, false
			for _, f := range figures {
				for _, w := range pair {
					s := f.of(w)
					medians = append(medians, number(s.Median, f.unit, f.digits))
					limits := bounds(s, f.unit, f.digits)
					around = append(around, cmp.Or(limits, "="))
					varies = varies || limits != ""
				}
			}
			rows = append(rows, medians)
			if spread && varies {
				rows = append(rows, around)
			}
		}
		tables = append(tables, columns(rows))
	}
	return strings.Join(tables, "\n")
}

// memory is a size as QEMU's -m takes it.
func memory(bytes int64) string {
	if bytes%(1<<30) == 0 {
		return fmt.Sprintf("%dG", bytes>>30)
	}
	return fmt.Sprintf("%dM", bytes>>20)
}

// longer says for how much longer a guest lacks its disk that is unplugged first, ""
// if that was not measured.
func (b *Bench) longer() string {
	least, most := math.Inf(1), 0.0
	for _, pair := range b.warmUpPairs() {
		if pair[0].WithoutMS.Median > 0 {
			by := pair[1].WithoutMS.Median / pair[0].WithoutMS.Median
			least, most = min(least, by), max(most, by)
		}
	}
	if most == 0 {
		return ""
	}
	return fmt.Sprintf("Unplugged first, the guest lacks its disk for %.1f to %.1f times as long.", least, most)
}

// rounds is how many.
func rounds(n int) string {
	if n == 1 {
		return "1 round"
	}
	return fmt.Sprintf("%d rounds", n)
}
