package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"patchgen/qemutest"
	"patchgen/report"
)

// Of these the other tests of bench know nothing.
const (
	migrationTest = "migration"
	warmUpTest    = "warmup"
)

// costUsage is of migration and warmup.
const costUsage = `migration: what is sent, how long it takes and what is lost, for guests with blind
devices without the series, with devices that log, with the series, and with devices
that are unplugged first. It is the migration of patchgen test, held in its second pass
until the devices have written; those that are unplugged first have done so before.

warmup: a guest reads from a blind disk all the time and its CPU dirties memory, and it
is migrated at 100 MiB/s with 300 ms of downtime allowed. With the series the disk stays
for the first pass; else it is unplugged before the migration. Measured are the I/O
through it and the time that the guest is without it.

All kinds of a round are made before the next round. What is lost does not vary; times
and I/O do, with the machine and its load.
`

// costFlags are those of migration and warmup.
type costFlags struct {
	rounds   int
	memories sizes
	rates    []int
	seed     uint64
	seeded   bool // seed is given
	plot     string
}

// sizes are a flag's values, separated by commas.
type sizes []int64

func (s *sizes) String() string {
	var names []string
	for _, bytes := range *s {
		one := size(bytes)
		names = append(names, one.String())
	}
	return strings.Join(names, ",")
}

func (s *sizes) Type() string { return "sizes" }

func (s *sizes) Set(text string) error {
	var all sizes
	for name := range strings.SplitSeq(text, ",") {
		var one size
		if err := one.Set(name); err != nil {
			return err
		}
		all = append(all, int64(one))
	}
	*s = all
	return nil
}

func (f *costFlags) add(set *pflag.FlagSet) {
	f.memories = sizes{256 << 20, 512 << 20, 1 << 30}
	set.IntVar(&f.rounds, "rounds", 3, "`NUMBER` of rounds of migration and warmup")
	set.Var(&f.memories, "memories", "`SIZES` of the guests' memory in warmup, separated by commas")
	set.IntSliceVar(&f.rates, "rates", []int{0, 2000, 8000}, "`NUMBERS` of pages that the CPU dirties in a second in warmup, separated by commas")
	set.Uint64Var(&f.seed, "seed", 0, "`NUMBER` that the patterns of migration and warmup come from (default: random, and printed)")
	set.StringVar(&f.plot, "plot", "", "draw warmup as an SVG to `FILE`")
}

// check completes the flags, and returns what is wrong with them.
func (f *costFlags) check(set *pflag.FlagSet, tests []string) error {
	if f.seeded = set.Changed("seed"); !f.seeded {
		f.seed = rand.Uint64()
	}
	if err := f.plan().Check(); err != nil {
		return &usageError{err, `see "patchgen bench --help"`}
	}
	if f.plot != "" && !slices.Contains(tests, warmUpTest) {
		return usagef("--plot %s is of %s, which is not among --tests", f.plot, warmUpTest)
	}
	return nil
}

func (f *costFlags) plan() qemutest.WarmUpPlan {
	return qemutest.WarmUpPlan{Memories: f.memories, Rates: f.rates, Rounds: f.rounds}
}

// words are the flags for the tests, to make them again.
func (f *costFlags) words(tests []string) []string {
	migrates, warms := slices.Contains(tests, migrationTest), slices.Contains(tests, warmUpTest)
	if !migrates && !warms {
		return nil
	}
	words := []string{"--rounds", strconv.Itoa(f.rounds), "--seed", strconv.FormatUint(f.seed, 10)}
	if warms {
		var rates []string
		for _, r := range f.rates {
			rates = append(rates, strconv.Itoa(r))
		}
		words = append(words, "--memories", f.memories.String(), "--rates", strings.Join(rates, ","))
	}
	return words
}

// A costResult is what migration and warmup found.
type costResult struct {
	Accelerator string                   `json:"accelerator,omitempty"` // of migration and warmup
	Seed        uint64                   `json:"seed,omitempty"`        // of these
	Migrations  []qemutest.MigrationCost `json:"migrations,omitempty"`
	WarmUps     []qemutest.WarmUp        `json:"warm_ups,omitempty"`
}

// accelerated is what the guests of migration and warmup are made with.
func (b *bencher) accelerated(ctx context.Context) (qemutest.Proof, error) {
	p := b.proof
	accel, _, err := qemutest.Accelerator(ctx, b.accel, p.QEMU, p.Kernels[qemutest.Unpatched], p.Initramfs)
	p.Accel, p.Seed = accel, b.seed
	b.result.Accelerator, b.result.Seed = accel, b.seed
	return p, err
}

// migration weighs migrations.
func (b *bencher) migration(ctx context.Context) error {
	p, err := b.accelerated(ctx)
	if err != nil {
		return err
	}
	costs, version, err := p.Migrations(ctx, b.rounds)
	if err != nil {
		return err
	}
	b.result.Migrations, b.result.QEMU = costs, version
	for _, c := range costs {
		b.judge(c.Arm, c.Verdict, c.Why)
	}
	b.section(migrationTest, fmt.Sprintf("MIGRATION of a guest of %d MiB, %s, %s: medians, and least to most", p.Memory>>20, p.Accel, rounds(b.rounds)))
	printMigrations(b.stdout, costs)
	fmt.Fprintf(b.stdout, "\n%s\n\n", varies(p.Accel))
	return nil
}

// warmUp weighs what a guest can do in the warm-up.
func (b *bencher) warmUp(ctx context.Context) error {
	p, err := b.accelerated(ctx)
	if err != nil {
		return err
	}
	all, version, err := p.WarmUps(ctx, b.plan())
	if err != nil {
		return err
	}
	b.result.WarmUps, b.result.QEMU = all, version
	for _, w := range all {
		b.judge(w.Arm, w.Verdict, w.Why)
	}
	b.section(warmUpTest, fmt.Sprintf("WARM-UP, %s, %s: medians, and least to most", p.Accel, rounds(b.rounds)))
	printWarmUps(b.stdout, all)
	fmt.Fprintf(b.stdout, "\n%s\n\n", varies(p.Accel))
	return nil
}

// judge keeps the gravest verdict.
func (b *bencher) judge(arm, verdict, why string) {
	if qemutest.Graver(verdict, b.result.Verdict) {
		b.result.Verdict, b.result.Why = verdict, arm+": "+why
	}
}

// drawing is the plot of the warm-ups.
func (b *bencher) drawing() []byte {
	return report.Plot(fmt.Sprintf("Linux %s, QEMU %s, %s, %s: medians", b.result.Kernel, shortVersion(b.result.QEMU), b.result.Accelerator, rounds(b.rounds)), b.result.WarmUps)
}

// shortVersion is QEMU's without what its distributor calls it.
func shortVersion(version string) string {
	short, _, _ := strings.Cut(version, " ")
	return short
}

func rounds(n int) string {
	if n == 1 {
		return "1 round"
	}
	return fmt.Sprintf("%d rounds", n)
}

func varies(accel string) string {
	return fmt.Sprintf("Whether pages are missed does not vary. Times, I/O and what is sent\nagain do, with this machine and its load: %s on %d cores.", accel, runtime.NumCPU())
}

// bounds are those of a spread in a unit, "" if they are one.
func bounds(s qemutest.Spread, unit float64, digits int) string {
	low, high := number(s.Min, unit, digits), number(s.Max, unit, digits)
	if low == high {
		return ""
	}
	return low + "-" + high
}

func number(v, unit float64, digits int) string {
	if v/unit >= 10 {
		digits = min(digits, 1) // three in all are enough
	}
	return strconv.FormatFloat(v/unit, 'f', digits, 64)
}

const mebi = 1 << 20

// printMigrations prints a column for each kind of migration.
func printMigrations(w io.Writer, costs []qemutest.MigrationCost) {
	var rows [][]string
	add := func(name string, text func(qemutest.MigrationCost) string) {
		row := []string{name}
		for _, c := range costs {
			row = append(row, text(c))
		}
		rows = append(rows, row)
	}
	add("", func(c qemutest.MigrationCost) string { return strings.ToUpper(c.Arm) })
	add("devices", func(c qemutest.MigrationCost) string { return c.Device })
	for _, f := range []struct {
		name   string
		unit   float64
		figure func(qemutest.MigrationCost) qemutest.Spread
	}{
		{"sent, MiB", mebi, func(c qemutest.MigrationCost) qemutest.Spread { return c.Bytes }},
		{"passes", 1, func(c qemutest.MigrationCost) qemutest.Spread { return c.Passes }},
		{"total, ms", 1, func(c qemutest.MigrationCost) qemutest.Spread { return c.TotalMS }},
		{"downtime, ms", 1, func(c qemutest.MigrationCost) qemutest.Spread { return c.DowntimeMS }},
		{"pages written", 1, func(c qemutest.MigrationCost) qemutest.Spread { return c.Written }},
		{"missed", 1, func(c qemutest.MigrationCost) qemutest.Spread { return c.Missed }},
		{"resent", 1, func(c qemutest.MigrationCost) qemutest.Spread { return c.Resent }},
		{"over-reported", 1, func(c qemutest.MigrationCost) qemutest.Spread { return c.OverReported }},
	} {
		add(f.name, func(c qemutest.MigrationCost) string { return number(f.figure(c).Median, f.unit, 0) })
		if slices.ContainsFunc(costs, func(c qemutest.MigrationCost) bool { return bounds(f.figure(c), f.unit, 0) != "" }) {
			add("", func(c qemutest.MigrationCost) string { return cmp.Or(bounds(f.figure(c), f.unit, 0), "=") })
		}
	}
	printColumns(w, rows)
	for _, c := range costs {
		if c.Arm == qemutest.NoSeries && c.Missed.Min > 0 {
			fmt.Fprintf(w, "\nWithout the series pages are lost: what that migration costs buys a\nguest that is damaged.\n")
		}
	}
}

// printColumns prints the first column to the left, and the others to the right. A text
// with an empty one behind it, but for the first column, is the heading of both.
func printColumns(w io.Writer, rows [][]string) {
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
	for _, row := range rows {
		line := fmt.Sprintf("%-*s", widths[0], row[0])
		for i := 1; i < len(row); i++ {
			if heads(row, i) {
				line += fmt.Sprintf("  %*s", widths[i]+2+widths[i+1], row[i])
				i++
				continue
			}
			line += fmt.Sprintf("  %*s", widths[i], row[i])
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// A column of warm-ups is a figure of the series and of unplugging first, side by side.
type warmUpColumn struct {
	name   string
	unit   float64
	digits int
	figure func(qemutest.WarmUp) qemutest.Spread
}

// warmUpTables are as many columns as fit into a mail's width.
var warmUpTables = [][]warmUpColumn{
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

// printWarmUps prints a row for each size and rate of which there is both the series
// and unplugging first.
func printWarmUps(w io.Writer, all []qemutest.WarmUp) {
	var pairs [][2]qemutest.WarmUp
	least, most := math.Inf(1), 0.0
	for _, s := range all {
		i := slices.IndexFunc(all, func(w qemutest.WarmUp) bool {
			return w.Arm == qemutest.UnplugsFirst && w.Memory == s.Memory && w.Rate == s.Rate
		})
		if s.Arm != qemutest.SeriesArm || i < 0 {
			continue
		}
		pairs = append(pairs, [2]qemutest.WarmUp{s, all[i]})
		if s.WithoutMS.Median > 0 {
			by := all[i].WithoutMS.Median / s.WithoutMS.Median
			least, most = min(least, by), max(most, by)
		}
	}
	for _, columns := range warmUpTables {
		rows := [][]string{{"", ""}, {"MEMORY", "PAGES/s"}}
		for _, c := range columns {
			rows[0] = append(rows[0], c.name, "")
			rows[1] = append(rows[1], "series", "unplug")
		}
		for _, pair := range pairs {
			memory := size(pair[0].Memory)
			medians, around, vary := []string{memory.String(), strconv.Itoa(pair[0].Rate)}, []string{"", ""}, false
			for _, c := range columns {
				for _, w := range pair {
					s := c.figure(w)
					medians = append(medians, number(s.Median, c.unit, c.digits))
					b := bounds(s, c.unit, c.digits)
					around = append(around, cmp.Or(b, "="))
					vary = vary || b != ""
				}
			}
			rows = append(rows, medians)
			if vary {
				rows = append(rows, around)
			}
		}
		printColumns(w, rows)
		fmt.Fprintln(w)
	}
	if most > 0 {
		fmt.Fprintf(w, "Unplugged first, the guest lacks its disk for %.1f to %.1f times as long.\n", least, most)
	}
}

// A weighError is a migration that was weighed and did not come out as it must.
type weighError struct{ verdict, why string }

func (e *weighError) Error() string { return e.why }

// explainCost tells the exit code of an error of migration and warmup.
func explainCost(err error) (code int, hint string, ok bool) {
	weighed := (*weighError)(nil)
	if !errors.As(err, &weighed) {
		return 0, "", false
	}
	if weighed.verdict == qemutest.Lost {
		return exitLost, `"patchgen test" says which pages, and where to look`, true
	}
	return exitUnfit, `nothing was shown about the series: see what "patchgen test" says of this QEMU`, true
}
