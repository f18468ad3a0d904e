package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"patchgen/qemutest"
	"patchgen/report"
	"patchgen/submit/receipt"
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
	b.result.Memory = p.Memory
	b.section(migrationTest, fmt.Sprintf("MIGRATION of a guest of %d MiB, %s, rounds: %d; medians, and least to most", p.Memory>>20, p.Accel, b.rounds))
	part := receipt.Bench{Migrations: costs}
	fmt.Fprintf(b.stdout, "%s\n\n%s\n\n", part.Tables(), varies(p.Accel))
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
	b.section(warmUpTest, fmt.Sprintf("WARM-UP, %s, rounds: %d; medians, and least to most", p.Accel, b.rounds))
	part := receipt.Bench{WarmUps: all}
	fmt.Fprintf(b.stdout, "%s\n\n%s\n\n", part.Tables(), varies(p.Accel))
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
	return report.Plot(fmt.Sprintf("Linux %s, QEMU %s, %s, medians of %d", b.result.Kernel, shortVersion(b.result.QEMU), b.result.Accelerator, b.rounds), b.result.WarmUps)
}

// shortVersion is QEMU's without what its distributor calls it.
func shortVersion(version string) string {
	short, _, _ := strings.Cut(version, " ")
	return short
}

func varies(accel string) string {
	return fmt.Sprintf("Whether pages are missed does not vary. Times, I/O and what is sent\nagain do, with this machine and its load: %s on %d cores.", accel, runtime.NumCPU())
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
