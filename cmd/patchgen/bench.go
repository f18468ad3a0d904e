package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"patchgen/edit"
	"patchgen/initramfs"
	"patchgen/kbuild"
	"patchgen/kconfig"
	"patchgen/ktree"
	"patchgen/qemutest"
	"patchgen/qemutest/dmatest"
	"patchgen/series"
	"patchgen/submit/receipt"
)

const benchUsage = `patchgen bench measures what the series costs, and prints tables for a cover letter.

Usage:
    patchgen bench [--tree TREE] [--patches PATH] [flags]

It compiles the tree without the series and with it; for instructions and size also
with its option off, and with the variant rfc, which is always on. The suite of the
series is off in all. Then it measures all of these, or those of --tests:

instructions: of one dma_unmap_page() and one dma_sync_single_for_cpu() of 64 bytes,
4 KiB, 64 KiB and 1 MiB that a device has written and that are not bounced, without the
series; with dma_page_dirtying=off, armed and on; and with rfc. QEMU counts them
(-icount), so the figures are exact, and the same at each run and on each machine, for
one tree, configuration and compiler. Where KVM works, there are nanoseconds, too, with
their spread, which are of this machine.

size: text, data and bss of these kernels. With the option off there must be as much
text as without the series.

Write-protect faults in the first round after a clear of the log are not measured.

` + costUsage + `
Examples:
    $ patchgen bench --tree debian:6.12
    $ patchgen bench --tree ~/linux --patches out --json cost.json
    $ patchgen bench --tree debian:6.12 --tests warmup --memories 256M,1G --plot warmup.svg

Flags:
`

const (
	instructionTest = "instructions"
	sizeTest        = "size"
)

// A benchTest is one of those that --tests names.
type benchTest struct {
	name string
	run  func(*bencher, context.Context) error
}

var benchTests = []benchTest{
	{instructionTest, (*bencher).instructions},
	{sizeTest, (*bencher).size},
	{migrationTest, (*bencher).migration},
	{warmUpTest, (*bencher).warmUp},
}

type benchFlags struct {
	treeFlags
	costFlags
	tests              []string
	patches, receipt   string
	qemu, accel        string
	limit              time.Duration
	config             []string
	jsonFile, consoles string
	force              bool
}

// A benchResult is what was measured.
type benchResult struct {
	Verdict string `json:"verdict"`
	Why     string `json:"why,omitempty"`
	Command string `json:"command"` // that measures it once more
	receipt.Bench
	Seconds float64 `json:"seconds"`
}

// A bencher measures one tree.
type bencher struct {
	*benchFlags
	proof          qemutest.Proof // with the kernels by qemutest.Unpatched, Patched and RFC
	modules        map[string][]byte
	built          []builtKernel
	cache          string
	tree           *ktree.Tree
	report         *reporter
	stdout, stderr io.Writer
	result         benchResult
}

// A builtKernel is one of those that are measured.
type builtKernel struct {
	name   string // as receipt.Size has it
	guest  string // as qemutest.Proof has it, "" for one that is not booted
	kernel kbuild.Kernel
}

func bench(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := &benchFlags{}
	var names []string
	for _, t := range benchTests {
		names = append(names, t.name)
	}
	set := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	f.treeFlags.add(set)
	set.StringSliceVar(&f.tests, "tests", names, "`NAMES` of what to measure, separated by commas")
	set.StringVar(&f.patches, "patches", "", "`PATH` of patches, or the home of a series (default: the series that emit writes)")
	set.StringVar(&f.receipt, "receipt", "", "note the result in the receipt `FILE` of these patches (default: of the home, if they are in one)")
	set.StringArrayVar(&f.config, "config", nil, "`FILE` with CONFIG_NAME=value lines that are wanted, too; again for more")
	set.StringVar(&f.qemu, "qemu", "qemu-system-x86_64", "`PROGRAM` to run")
	set.StringVar(&f.accel, "accel", "auto", "`NAME`: kvm, tcg, or auto, which is kvm if this kernel boots on it")
	set.DurationVar(&f.limit, "limit", time.Minute, "`TIME` that a guest may take to boot, and for each thing it is to do")
	f.costFlags.add(set)
	set.StringVar(&f.jsonFile, "json", "", "write the result as JSON to `FILE`")
	set.StringVar(&f.consoles, "consoles", "", "keep the guests' consoles in `DIR` when a run fails (default: in the cache)")
	set.BoolVar(&f.force, "force", false, "overwrite files that patchgen did not write")
	if done, err := parse(set, benchUsage, args, stdout); done {
		return err
	}
	if set.NArg() > 0 {
		return &usageError{fmt.Errorf("bench takes no argument %q", set.Arg(0)), "the tree is given with --tree, patches with --patches"}
	}
	if f.accel != "auto" && f.accel != "kvm" && f.accel != "tcg" {
		return usagef("--accel %s: want auto, kvm or tcg", f.accel)
	}
	if len(f.tests) == 0 {
		return usagef("--tests: want some of %s", strings.Join(names, ","))
	}
	for _, name := range f.tests {
		if !slices.Contains(names, name) {
			return usagef("--tests %s: want some of %s", name, strings.Join(names, ","))
		}
	}
	if err := f.costFlags.check(set, f.tests); err != nil {
		return err
	}
	if f.limit <= 0 {
		return usagef("--limit %v: want a time in which something can be done, such as 1m", f.limit)
	}
	if f.patches == "" && f.receipt != "" {
		return &usageError{errors.New("--receipt is of patches, and there are none"), "name them with --patches"}
	}
	if f.patches != "" {
		at, err := locate(f.patches, f.receipt)
		if err != nil {
			return err
		}
		f.patches, f.receipt = at.mails, at.receipt
	}
	if f.treeFlags.tree == "" {
		f.treeFlags.tree = defaultTree()
	}
	return f.run(ctx, stdout, stderr)
}

func (f *benchFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	begin := time.Now()
	qemu, err := exec.LookPath(f.qemu)
	if err != nil {
		return &qemutest.MissingQEMUError{Err: err}
	}
	config, err := readFragments(f.config)
	if err != nil {
		return err
	}
	cache, err := buildCache()
	if err != nil {
		return err
	}
	files := writeOptions(cache, f.force)
	for _, file := range []string{f.jsonFile, f.receipt, f.plot} {
		if file == "" {
			continue
		}
		if err := notWritten(file, series.CheckFile(file, files)); err != nil {
			return err
		}
	}
	if st, err := os.Stat(f.consoles); err == nil && !st.IsDir() {
		return usagef("--consoles %s: that is no folder", f.consoles)
	}
	b := &bencher{benchFlags: f, cache: cache, report: newReporter(stderr), stdout: stdout, stderr: stderr}
	b.proof = qemutest.Proof{
		QEMU: qemu, CPUs: []int{1}, Memory: 256 << 20, Written: 32 << 20, Packets: 1024, Limit: f.limit, Progress: b.report,
		Consoles: cmp.Or(f.consoles, filepath.Join(cache, "consoles", begin.Format("20060102-150405"))),
	}
	var kept *receipt.Receipt
	if f.receipt != "" {
		mails, err := series.ReadPatches(f.patches)
		if err != nil {
			return &usageError{err, "--patches takes a folder of *.patch files, or an mbox"}
		}
		if kept, err = receiptOf(ctx, f.receipt, mails, stderr); err != nil {
			return err
		}
	}
	if b.tree, err = f.open(ctx, cache, b.report); err != nil {
		return err
	}
	defer b.tree.Close()
	if err := b.build(ctx, config); err != nil {
		return err
	}
	b.result.Verdict, b.result.Command = qemutest.Pass, f.again(f.tests)
	b.result.Time, b.result.Tool, b.result.Tree = time.Now(), tool, f.treeFlags.tree
	for _, t := range benchTests {
		if !slices.Contains(f.tests, t.name) {
			continue
		}
		if err := t.run(b, ctx); err != nil {
			return err
		}
	}
	b.result.Seconds = time.Since(begin).Seconds()
	if f.jsonFile != "" {
		var out strings.Builder
		if err := printJSON(&out, &b.result); err != nil {
			return err
		}
		if err := notWritten(f.jsonFile, series.WriteFile(f.jsonFile, []byte(out.String()), files)); err != nil {
			return err
		}
	}
	if f.plot != "" {
		if err := notWritten(f.plot, series.WriteFile(f.plot, b.drawing(), files)); err != nil {
			return err
		}
	}
	switch b.result.Verdict {
	case qemutest.Pass:
	case qemutest.Fail:
		return &costError{b.result.Why}
	default:
		return &weighError{b.result.Verdict, b.result.Why}
	}
	if kept != nil {
		kept.AddBench(b.result.Bench)
		return writeReceipt(kept, f.receipt, files)
	}
	return nil
}

// again is the command that makes these tests once more.
func (f *benchFlags) again(tests []string) string {
	words := []string{"patchgen", "bench", "--tree", quote(f.treeFlags.tree), "--tests", strings.Join(tests, ",")}
	if f.patches != "" {
		words = append(words, "--patches", quote(f.patches))
	}
	for _, c := range f.config {
		words = append(words, "--config", quote(c))
	}
	return strings.Join(append(words, f.costFlags.words(tests)...), " ")
}

// A costError says that the series costs what it must not.
type costError struct{ why string }

func (e *costError) Error() string { return e.why }

func explainBench(err error) (code int, hint string, ok bool) {
	if cost := (*costError)(nil); errors.As(err, &cost) {
		return exitCheck, "what is compiled in must stand behind the option: compare the objects with objdump -d", true
	}
	return explainCost(err)
}

// dirtying is the option of the series.
const dirtying = "SWIOTLB_PAGE_DIRTYING"

// build compiles the kernels.
func (b *bencher) build(ctx context.Context, config kconfig.Config) error {
	changes, err := changesFor(b.tree, b.patches, "full")
	if err != nil {
		return err
	}
	if !slices.Contains(series.Symbols(changes), dirtying) {
		return &usageError{fmt.Errorf("these patches add no CONFIG_%s, and there is nothing to measure", dirtying), "--patches takes what patchgen emit wrote"}
	}
	on := []string{dirtying}
	versions := []kbuild.Version{{}, {Changes: changes, On: on}}
	b.built = []builtKernel{{name: "without", guest: qemutest.Unpatched}, {name: "on", guest: qemutest.Patched}}
	// Migrations need no more than these.
	if slices.Contains(b.tests, instructionTest) || slices.Contains(b.tests, sizeTest) {
		versions = append(versions, kbuild.Version{Changes: changes})
		b.built = append(b.built, builtKernel{name: "off"})
		_, rfc, err := rendered(b.tree, "rfc")
		if noPlace := (*edit.Error)(nil); errors.As(err, &noPlace) {
			fmt.Fprintf(b.stderr, "patchgen: note: the variant rfc is left out: %v\n", err)
		} else if err != nil {
			return err
		} else {
			versions = append(versions, kbuild.Version{Changes: rfc.Changes(), On: on})
			b.built = append(b.built, builtKernel{name: "rfc", guest: qemutest.RFC})
		}
	}
	if err := kbuild.Need(ctx); err != nil {
		return err
	}
	if b.proof.Initramfs, err = initramfs.Build(ctx, initramfs.Options{Cache: filepath.Join(b.cache, "initramfs"), Progress: b.report}); err != nil {
		return err
	}
	kernels, err := kbuild.Versions(ctx, b.tree, versions, kbuild.Options{Cache: b.cache, Progress: b.report, Config: config, Module: dmatest.Files()})
	if err != nil {
		return err
	}
	b.proof.Kernels, b.modules = make(map[string]string), make(map[string][]byte)
	for i, k := range kernels {
		b.built[i].kernel = k
		if guest := b.built[i].guest; guest != "" {
			b.proof.Kernels[guest] = k.BzImage
			if b.modules[guest], err = os.ReadFile(k.Module); err != nil {
				return err
			}
		}
	}
	return b.describe(b.built[1].kernel)
}

// describe notes what the kernel with the series is.
func (b *bencher) describe(k kbuild.Kernel) error {
	data, err := os.ReadFile(k.Config)
	if err != nil {
		return err
	}
	config, err := kconfig.ParseConfig(k.Config, data)
	if err != nil {
		return err
	}
	b.result.Kernel, b.result.Config = k.Release, fmt.Sprintf("%x", sha256.Sum256(data))
	b.result.Compiler = strings.Trim(config["CC_VERSION_TEXT"], `"`)
	fmt.Fprintf(b.stderr, "patchgen: Linux %s of %s, compiled by %s\n", k.Release, b.tree.Origin(), b.result.Compiler)
	return nil
}

// section prints the heading of a test's tables, and the command that makes them.
func (b *bencher) section(name, title string) {
	b.report.clear()
	fmt.Fprintf(b.stdout, "%s\n$ %s\n\n", title, b.again([]string{name}))
}

// instructions counts what a call takes, and times it where KVM works.
func (b *bencher) instructions(ctx context.Context) error {
	costs, version, err := b.proof.Instructions(ctx, b.modules)
	if err != nil {
		return err
	}
	b.result.Instructions, b.result.QEMU = costs, version
	b.section("instructions", "INSTRUCTIONS of one call, for a buffer that a device has written (DMA_FROM_DEVICE)")
	part := receipt.Bench{Instructions: costs}
	fmt.Fprintf(b.stdout, "%s\n\n", part.Tables())
	if varied := slices.DeleteFunc(slices.Clone(costs), func(c qemutest.CallCost) bool { return !c.Varied() }); len(varied) > 0 {
		fmt.Fprintf(b.stdout, "%d of the %d figures varied: the calls that were counted did not all take as many.\n", len(varied), len(costs))
	} else {
		fmt.Fprintln(b.stdout, "Nothing varies: each call took as many each time, and does at each run, for this tree, configuration and compiler.")
	}
	for _, s := range costSentences(costs) {
		fmt.Fprintln(b.stdout, s)
	}
	accel, why, err := qemutest.Accelerator(ctx, b.accel, b.proof.QEMU, b.proof.Kernels[qemutest.Unpatched], b.proof.Initramfs)
	if err != nil {
		return err
	}
	if accel != "kvm" {
		fmt.Fprintf(b.stdout, "Nanoseconds are left out, as they take KVM: %s.\n\n", strings.ReplaceAll(why, "\n", " "))
		return nil
	}
	timed := b.proof
	timed.Accel = accel
	if b.result.Nanoseconds, err = timed.Times(ctx, b.modules); err != nil {
		return err
	}
	b.report.clear()
	part = receipt.Bench{Nanoseconds: b.result.Nanoseconds}
	fmt.Fprintf(b.stdout, "\nNANOSECONDS of the same on KVM: medians, and by how much the longest calls differ from\ntheirs, but for the 5 %% at each end. They vary with the machine and its load.\n\n%s\n\n", part.Tables())
	return nil
}

// costSentences say what the instructions mean, from the figures.
func costSentences(costs []qemutest.CallCost) []string {
	// more is what a state takes beyond another, for each length.
	more := func(call, state, than string) (least, most int64, ok bool) {
		of := make(map[int]uint64)
		for _, c := range costs {
			if c.Call == call && c.State == than {
				of[c.Bytes] = c.Instructions
			}
		}
		for _, c := range costs {
			base, there := of[c.Bytes]
			if c.Call != call || c.State != state || !there {
				continue
			}
			n := int64(c.Instructions) - int64(base)
			if !ok {
				least, most, ok = n, n, true
			}
			least, most = min(least, n), max(most, n)
		}
		return least, most, ok
	}
	var all, names []string
	for _, c := range costs {
		if !slices.Contains(names, c.Call) {
			names = append(names, c.Call)
		}
	}
	for _, call := range names {
		var parts []string
		for _, state := range []string{"off", "armed"} {
			if least, most, ok := more(call, state, "without"); ok {
				parts = append(parts, fmt.Sprintf("%s %s", state, span(least, most)))
			}
		}
		if per, ok := qemutest.PerPage(costs, "on", call); ok {
			parts = append(parts, fmt.Sprintf("on %.1f for each further page", per))
		}
		if parts != nil {
			all = append(all, fmt.Sprintf("%s takes, beyond what it does without the series: %s.", call, strings.Join(parts, ", ")))
		}
	}
	return all
}

func span(least, most int64) string {
	if least == most {
		return fmt.Sprintf("%+d", least)
	}
	return fmt.Sprintf("%+d to %+d", least, most)
}

// size compares the kernels' sizes.
func (b *bencher) size(context.Context) error {
	sizes := make(map[string]receipt.Size)
	for _, k := range b.built {
		s := k.kernel.Sizes
		if s.Text == 0 {
			return fmt.Errorf("the size of %s is not beside it: remove its folder, and it is built anew", k.kernel.BzImage)
		}
		sizes[k.name] = receipt.Size{Kernel: k.name, Text: s.Text, Data: s.Data, BSS: s.BSS}
	}
	for _, name := range []string{"without", "off", "on", "rfc"} {
		if s, ok := sizes[name]; ok {
			b.result.Sizes = append(b.result.Sizes, s)
		}
	}
	b.section("size", "SIZE of vmlinux")
	part := receipt.Bench{Sizes: b.result.Sizes}
	fmt.Fprintf(b.stdout, "%s\n\n", part.Tables())
	without, off, on := sizes["without"], sizes["off"], sizes["on"]
	fmt.Fprintf(b.stdout, "On, there is %+d text, %+d data and %+d bss. Nothing varies, for this tree, configuration and compiler.\n\n",
		on.Text-without.Text, on.Data-without.Data, on.BSS-without.BSS)
	if off.Text != without.Text {
		b.judge("size", qemutest.Fail, fmt.Sprintf("with CONFIG_%s off the kernel has %d bytes of text, and without the series %d", dirtying, off.Text, without.Text))
	}
	return nil
}
