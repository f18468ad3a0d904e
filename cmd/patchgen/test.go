package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"patchgen/initramfs"
	"patchgen/kbuild"
	"patchgen/kconfig"
	"patchgen/ktree"
	"patchgen/qemubuild"
	"patchgen/qemutest"
	"patchgen/qemutest/dmatest"
	"patchgen/series"
	"patchgen/submit/receipt"
	"patchgen/templates"
)

const testUsage = `patchgen test proves on live migrations that no page is lost which a device has
written.

Usage:
    patchgen test [--tree TREE]... [--patches PATH] [flags]

It builds the tree without the series and with it, boots each in QEMU, and makes
three tests, or those of --tests:

kunit: the suites that the series brings along.

proof: the guest is migrated while two vhost-user devices write its memory, a disk
(virtio_blk) and a network card (virtio_net). Blind devices keep no dirty log,
like a device that is passed through; logging ones do. Then the stream is held
against what was written, and the two memories are compared. Five runs:

    calibration  unpatched  no device, the CPU writes   nothing may be lost
    loss         unpatched  blind devices               pages must be lost
    control      unpatched  logging devices             nothing may be lost
    proof        patched    blind, marking on           nothing may be lost
    bypass       patched    blind, marking off          pages must be lost

matrix: a module in the guest maps memory for a PCI device by each call of the DMA
API, in each direction, around the edges of pages, above 4 GiB, bounced and not.
It is written to as that device would, and taken back. What the device wrote must
be sent again, and nothing else may. A page that the CPU syncs while the device
writes it must lose no store. And what the boot parameter dma_page_dirtying= says must be so.

handshake, which is made only if it is named: a QEMU with the series
qemu-page-dirtying is built too, which asks the guest to mark before it migrates it.
Nothing is switched by hand, and the devices are unplugged in the warm-up. Also what
must happen when the guest sleeps, resets itself, refuses, dies or knows nothing of
it, and that a QEMU which does not wait for the answer loses pages.

With --mutants, wrong series are made on purpose, compiled, and put to kunit and
matrix, or those of QEMU to handshake: each must be seen.

Examples:
    $ patchgen test --tree debian:6.12
    $ patchgen test --tree debian:6.1 --tree debian:6.12 --tree debian:7.3 --mutants
    $ patchgen test --tree ~/linux --patches out --cpus 2 --json result.json
    $ patchgen test --tree debian:6.12 --tests handshake
    $ patchgen test --shell                     a shell in the patched kernel

QEMU must be of version 9.0 or newer for TCG: older ones lose pages by themselves.

Flags:
`

type testFlags struct {
	trees                                   []string
	refresh                                 bool
	tests                                   []string
	mutants                                 bool
	mutant                                  []string
	patches, variant, receipt               string
	qemu, accel, qemuTree                   string
	memory, written                         size
	cpus                                    []int
	packets                                 int
	limit                                   time.Duration
	seed                                    uint64
	config, cmdline                         []string
	jsonFile, ktap, junit, report, consoles string
	shell, force                            bool
	command                                 []string // that makes the same tests again
}

// A size is a flag's value in bytes, such as 256M.
type size int64

func (s *size) String() string {
	if *s%(1<<30) == 0 {
		return fmt.Sprintf("%dG", *s>>30)
	}
	return fmt.Sprintf("%dM", *s>>20)
}

func (s *size) Type() string { return "size" }

func (s *size) Set(text string) error {
	units := map[string]uint{"K": 10, "M": 20, "G": 30}
	number, unit := text, ""
	if text != "" {
		number, unit = text[:len(text)-1], text[len(text)-1:]
	}
	n, err := strconv.ParseUint(number, 10, 20)
	if shift, ok := units[unit]; ok && err == nil {
		*s = size(n << shift)
		return nil
	}
	return errors.New("want a number and K, M or G")
}

func test(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := testFlags{memory: 256 << 20, written: 32 << 20}
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	set.StringArrayVar(&f.trees, "tree", nil, treeUsage+"; again for more, and one table")
	set.BoolVar(&f.refresh, "refresh", false, refreshUsage)
	set.StringSliceVar(&f.tests, "tests", usualTests, "`NAMES` of the tests to make, separated by commas")
	set.BoolVar(&f.mutants, "mutants", false, "have the tests see wrong series, too")
	set.StringSliceVar(&f.mutant, "mutant", nil, "`NAMES` of those to see alone, separated by commas; QEMU's begin with "+qemuMutant)
	set.StringVar(&f.patches, "patches", "", "`PATH` of patches, or the home of a series (default: the series that emit writes)")
	set.StringVar(&f.variant, "variant", "full", "`VARIANT` of that series")
	set.StringVar(&f.receipt, "receipt", "", "note the result in the receipt `FILE` of these patches (default: of the home, if they are in one)")
	set.StringArrayVar(&f.config, "config", nil, "`FILE` with CONFIG_NAME=value lines that are wanted, too; again for more")
	set.StringVar(&f.qemu, "qemu", "qemu-system-x86_64", "`PROGRAM` to run")
	set.StringVar(&f.qemuTree, "qemu-tree", "debian:qemu", "`TREE` of QEMU that handshake is made with: a folder, git clone, tarball, or debian:qemu")
	set.StringVar(&f.accel, "accel", "auto", "`NAME`: kvm, tcg, or auto, which is kvm if this kernel boots on it")
	set.IntSliceVar(&f.cpus, "cpus", []int{1, 2}, "`NUMBERS` of vCPUs, separated by commas; all runs are made with each")
	set.Var(&f.memory, "memory", "`SIZE` of a guest's memory")
	set.Var(&f.written, "written", "`SIZE` of what the disk writes in each run")
	set.IntVar(&f.packets, "packets", 1024, "`NUMBER` of packets that the network card writes in each run")
	set.DurationVar(&f.limit, "limit", time.Minute, "`TIME` that a guest may take to boot, and for each thing it is to do")
	set.Uint64Var(&f.seed, "seed", 0, "`NUMBER` that the patterns come from (default: random, and printed)")
	set.StringArrayVar(&f.cmdline, "append", nil, "`ARGS` for the kernels' command line; again for more")
	set.StringVar(&f.jsonFile, "json", "", "write the result as JSON to `FILE`")
	set.StringVar(&f.ktap, "ktap", "", "write it as KTAP to `FILE`")
	set.StringVar(&f.junit, "junit", "", "write it as JUnit's XML to `FILE`")
	set.StringVar(&f.report, "report", "", "write it as a page for a browser to `DIR`, with pictures and a text for a cover letter")
	set.StringVar(&f.consoles, "consoles", "", "keep the guests' consoles in `DIR` when a run fails (default: in the cache)")
	set.BoolVar(&f.force, "force", false, "overwrite files that patchgen did not write")
	set.BoolVar(&f.shell, "shell", false, "boot the patched kernel and give a shell in it, and test nothing")
	if done, err := parse(set, testUsage, args, stdout); done {
		return err
	}
	if set.NArg() > 0 {
		return &usageError{fmt.Errorf("test takes no argument %q", set.Arg(0)), "the tree is given with --tree, patches with --patches"}
	}
	if f.accel != "auto" && f.accel != "kvm" && f.accel != "tcg" {
		return usagef("--accel %s: want auto, kvm or tcg", f.accel)
	}
	if !set.Changed("seed") {
		f.seed = rand.Uint64()
	}
	for _, name := range f.tests {
		if !slices.Contains(allTests, name) {
			return usagef("--tests %s: want some of %s", name, strings.Join(allTests, ","))
		}
	}
	f.mutants = f.mutants || f.mutant != nil
	if f.patches == "" {
		set, err := templates.Load("dma-mark-dirty")
		if err != nil {
			return err
		}
		v, err := set.Variant(f.variant)
		if err != nil {
			return &usageError{err: err}
		}
		if !v.Switch {
			return &usageError{fmt.Errorf("--variant %s cannot be tested: marking has no switch there, and the tests need it on and off", f.variant), "it is compiled by patchgen build, and by check --build"}
		}
	}
	for _, name := range f.mutant {
		if strings.HasPrefix(name, qemuMutant) && !slices.Contains(f.tests, handshakeTest) {
			return &usageError{fmt.Errorf("--mutant %s is of QEMU, and no test is made with it", name), "add --tests handshake"}
		}
	}
	if f.mutants && f.patches != "" {
		return &usageError{errors.New("--mutants are of the series that emit writes, and --patches gives another"), "leave out one of them"}
	}
	if f.receipt != "" && f.patches == "" {
		return &usageError{fmt.Errorf("--receipt %s is of patches, and none are given", f.receipt), "write them with patchgen emit, and name them with --patches"}
	}
	if f.patches != "" {
		p, err := locate(f.patches, f.receipt)
		if err != nil {
			return err
		}
		if p.home != nil && len(f.trees) == 0 {
			f.trees = []string{p.home.Tree}
		}
		f.patches, f.receipt = p.mails, p.receipt
	}
	if len(f.trees) == 0 {
		f.trees = []string{defaultTree()}
	}
	f.command = f.again(set)
	return f.run(ctx, stdout, stderr)
}

// The tests, as --tests names them.
const (
	kunitTest     = "kunit"
	proofTest     = "proof"
	matrixTest    = "matrix"
	handshakeTest = "handshake"
)

var (
	usualTests = []string{kunitTest, proofTest, matrixTest}
	allTests   = append(slices.Clone(usualTests), handshakeTest)
)

func (f *testFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	proof := qemutest.Proof{
		Cmdline: f.cmdline, CPUs: f.cpus, Memory: int64(f.memory), Written: int64(f.written), Packets: f.packets, Limit: f.limit, Seed: f.seed,
	}
	// What can be wrong is said before an hour of work.
	if err := proof.Check(); err != nil {
		return &usageError{err, `see "patchgen test --help"`}
	}
	var err error
	if proof.QEMU, err = exec.LookPath(f.qemu); err != nil {
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
	for _, file := range []string{f.jsonFile, f.ktap, f.junit, f.receipt} {
		if file == "" {
			continue
		}
		if err := notWritten(file, series.CheckFile(file, files)); err != nil {
			return err
		}
	}
	if f.report != "" {
		if err := reportNotWritten(f.report, series.CheckDir(f.report, files)); err != nil {
			return err
		}
	}
	if st, err := os.Stat(f.consoles); err == nil && !st.IsDir() {
		return usagef("--consoles %s: that is no folder", f.consoles)
	}
	proof.Consoles = f.consoles
	if proof.Consoles == "" {
		proof.Consoles = filepath.Join(cache, "consoles", time.Now().Format("20060102-150405"))
	}
	proof.Pages = f.report != ""
	report := newReporter(stderr)
	proof.Progress = report
	t := &tester{testFlags: f, proof: proof, cache: cache, config: config, report: report, stdout: stdout, stderr: stderr}
	if f.receipt != "" && !f.shell {
		mails, err := series.ReadPatches(f.patches)
		if err != nil {
			return &usageError{err, "--patches takes a folder of *.patch files, or an mbox"}
		}
		if t.kept, err = receiptOf(ctx, f.receipt, mails, stderr); err != nil {
			return err
		}
	}
	var results []*qemutest.Report
	for _, spec := range f.trees {
		r, err := t.tree(ctx, spec)
		if err != nil || r == nil {
			return err
		}
		results = append(results, r)
	}
	if err := f.write(files, results); err != nil {
		return err
	}
	if f.report != "" {
		if err := f.show(files, results); err != nil {
			return err
		}
	}
	if t.kept != nil {
		if err := writeReceipt(t.kept, f.receipt, files); err != nil {
			return err
		}
	}
	if len(results) > 1 {
		printSummary(stdout, results)
	}
	return verdict(stdout, results)
}

// A tester tests trees, one after the other.
type tester struct {
	*testFlags
	proof          qemutest.Proof // what is the same for all
	cache          string
	config         kconfig.Config
	report         *reporter
	stdout, stderr io.Writer
	misplaced      map[string][]string // by mutant, the places that are wrong in it
	kept           *receipt.Receipt    // of the patches, nil if there is to be none
}

// tree tests one tree, and returns nil where there is only a shell to be given.
func (t *tester) tree(ctx context.Context, spec string) (*qemutest.Report, error) {
	flags := treeFlags{spec, t.refresh}
	tree, err := flags.open(ctx, t.cache, t.report)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	t.misplaced = make(map[string][]string)
	changes, mutants, err := t.changes(tree)
	if err != nil {
		return nil, err
	}
	if err := kbuild.Need(ctx); err != nil {
		return nil, err
	}
	p := t.proof
	for _, symbol := range series.Symbols(changes) {
		if suite, ok := qemutest.KUnitSuites[symbol]; ok {
			p.Suites = append(p.Suites, suite)
		}
	}
	if p.Initramfs, err = initramfs.Build(ctx, initramfs.Options{Cache: filepath.Join(t.cache, "initramfs"), Progress: t.report}); err != nil {
		return nil, err
	}
	o := kbuild.Options{Cache: t.cache, Progress: t.report, Config: t.config}
	if !t.shell && (t.mutants || slices.Contains(t.tests, matrixTest)) {
		o.Module = dmatest.Files()
	}
	unpatched, patched, err := kbuild.Kernels(ctx, tree, changes, o)
	if err != nil {
		return nil, err
	}
	p.Kernels = map[string]string{qemutest.Unpatched: unpatched.BzImage, qemutest.Patched: patched.BzImage}
	if patched.Module != "" {
		if p.Module, err = os.ReadFile(patched.Module); err != nil {
			return nil, err
		}
	}
	var why string
	if p.Accel, why, err = qemutest.Accelerator(ctx, t.accel, p.QEMU, unpatched.BzImage, p.Initramfs); err != nil {
		return nil, err
	}
	fmt.Fprintf(t.stderr, "patchgen: Linux %s of %s, seed %d, accelerator %s: %s\n", patched.Release, tree.Origin(), t.seed, p.Accel, strings.ReplaceAll(why, "\n", " "))
	if t.shell {
		fmt.Fprintln(t.stderr, "patchgen: Ctrl-A X ends the guest")
		return nil, qemutest.Interactive(ctx, p.QEMU, p.Accel, patched.BzImage, p.Initramfs, initramfs.Shell, t.cmdline, t.cpus[0], int64(t.memory))
	}
	r := qemutest.NewReport(&p, spec, patched.Release)
	if err := t.make(ctx, &p, r, changes); err != nil {
		return nil, err
	}
	if len(mutants) > 0 && r.Verdict == qemutest.Pass && (slices.Contains(t.tests, kunitTest) || slices.Contains(t.tests, matrixTest)) {
		err = t.kill(ctx, &p, r, tree, mutants, o)
	}
	r.End()
	if err == nil && t.kept != nil {
		err = t.keep(r, patched)
	}
	return r, err
}

// keep notes a result in the receipt.
func (t *tester) keep(r *qemutest.Report, patched kbuild.Kernel) error {
	data, err := os.ReadFile(patched.Config)
	if err != nil {
		return err
	}
	config, err := kconfig.ParseConfig(patched.Config, data)
	if err != nil {
		return err
	}
	// Kconfig notes what it found (scripts/Kconfig.include, init/Kconfig).
	compiler := strings.Trim(config["CC_VERSION_TEXT"], `"`)
	t.kept.AddTest(r, receipt.Host{Tool: tool, Config: fmt.Sprintf("%x", sha256.Sum256(data)), Compiler: compiler}, time.Now())
	return nil
}

// changes returns what is to be tested, and made wrong.
func (t *tester) changes(tree *ktree.Tree) ([]series.Change, []series.Mutant, error) {
	if !t.mutants {
		changes, err := changesFor(tree, t.patches, t.variant)
		return changes, nil, err
	}
	set, s, err := rendered(tree, t.variant)
	if err != nil {
		return nil, nil, err
	}
	changes := s.Changes()
	mutants, err := series.Mutants(tree, set, changes)
	if err != nil {
		return nil, nil, err
	}
	if t.mutant != nil {
		for _, name := range t.mutant {
			if strings.HasPrefix(name, qemuMutant) {
				continue // shake has these
			}
			if !slices.ContainsFunc(mutants, func(m series.Mutant) bool { return m.Name == name }) {
				return nil, nil, usagef("--mutant %s: there is none of that name for this tree; templates/%s/mutants.toml has them", name, set.Name)
			}
		}
		mutants = slices.DeleteFunc(mutants, func(m series.Mutant) bool { return !slices.Contains(t.mutant, m.Name) })
	}
	for _, m := range append(slices.Clone(mutants), series.Mutant{Name: "the series itself", Changes: changes}) {
		places, err := series.Misplaced(tree, set, t.variant, m.Changes)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		for _, p := range places {
			t.misplaced[m.Name] = append(t.misplaced[m.Name], "place "+p.Place)
		}
	}
	if why := t.misplaced["the series itself"]; why != nil {
		return nil, nil, fmt.Errorf("the series itself: %s", strings.Join(why, "; "))
	}
	return changes, mutants, nil
}

// make makes the tests.
func (t *tester) make(ctx context.Context, p *qemutest.Proof, r *qemutest.Report, changes []series.Change) error {
	detail := t.stdout
	if len(t.trees) > 1 {
		detail = io.Discard
	}
	if slices.Contains(t.tests, kunitTest) {
		if p.Suites == nil {
			fmt.Fprintf(t.stderr, "patchgen: these patches have no KUnit suite: they add none of CONFIG_%s\n", strings.Join(slices.Sorted(maps.Keys(qemutest.KUnitSuites)), ", CONFIG_"))
		} else if err := p.KUnit(ctx, r); err != nil {
			return err
		}
		printKUnit(detail, r.KUnit)
	}
	if slices.Contains(t.tests, proofTest) {
		table := &runTable{w: detail}
		p.Done = func(o qemutest.Outcome) {
			t.report.clear()
			table.row(o)
		}
		if err := p.Prove(ctx, r); err != nil {
			return err
		}
	}
	if slices.Contains(t.tests, matrixTest) && r.Verdict != qemutest.Unfit {
		if err := p.Levels(ctx, r); err != nil {
			return err
		}
		if err := p.Matrix(ctx, r); err != nil {
			return err
		}
		printMatrix(detail, r.Levels, r.Matrix)
	}
	if slices.Contains(t.tests, handshakeTest) && r.Verdict != qemutest.Unfit {
		return t.shake(ctx, p, r, detail)
	}
	return nil
}

const (
	qemuMutant = "qemu:"         // is before the names of QEMU's mutants
	impatient  = "does-not-wait" // is the one that has to be seen each time
)

// shake builds QEMU with its series and makes the experiments with it, and has one
// that is wrong on purpose seen.
func (t *tester) shake(ctx context.Context, p *qemutest.Proof, r *qemutest.Report, detail io.Writer) error {
	flags := treeFlags{t.qemuTree, t.refresh}
	tree, err := flags.open(ctx, t.cache, t.report)
	if err != nil {
		return err
	}
	defer tree.Close()
	set, err := templates.Load(qemuSeries)
	if err != nil {
		return err
	}
	s, err := series.Render(tree, set, "full", series.RenderOptions{Tool: tool})
	if err != nil {
		return err
	}
	mutants, err := series.Mutants(tree, set, s.Changes())
	if err != nil {
		return err
	}
	for _, name := range t.mutant {
		if name, ok := strings.CutPrefix(name, qemuMutant); ok && !slices.ContainsFunc(mutants, func(m series.Mutant) bool { return m.Name == name }) {
			return usagef("--mutant %s%s: there is none of that name for this QEMU; templates/%s/mutants.toml has them", qemuMutant, name, set.Name)
		}
	}
	o := qemubuild.Options{Cache: t.cache, Progress: t.report}
	built, err := qemubuild.Build(ctx, tree, s.Changes(), o)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.stderr, "patchgen: QEMU %s of %s with %s\n", built.Version, tree.Origin(), qemuSeries)
	q := *p
	q.QEMU, q.QEMUArgs = built.Binary, built.Args()
	table := &handshakeTable{w: detail}
	err = q.Handshakes(ctx, r, func(h qemutest.HandshakeRun) {
		t.report.clear()
		table.row(h)
	})
	if err != nil || r.Verdict != qemutest.Pass {
		return err
	}
	q.Consoles, q.Progress = "", nil
	for _, m := range mutants {
		name := qemuMutant + m.Name
		if m.Name != impatient && (!t.mutants || t.mutant != nil && !slices.Contains(t.mutant, name)) {
			continue
		}
		begin := time.Now()
		result := qemutest.Mutant{Name: name, About: m.About}
		built, err := qemubuild.Build(ctx, tree, m.Changes, o)
		if err != nil {
			return fmt.Errorf("mutant %s of QEMU: %w", m.Name, err)
		}
		if m.Name != impatient {
			// The series' own tests see most of them, and sooner.
			checked := o
			checked.Check = true
			var failed *qemubuild.Error
			if _, err := qemubuild.Build(ctx, tree, m.Changes, checked); errors.As(err, &failed) {
				result.Killers = []string{"qtest " + failed.What}
			} else if err != nil {
				return fmt.Errorf("mutant %s of QEMU: %w", m.Name, err)
			}
		}
		if result.Killers == nil {
			q.QEMU, q.QEMUArgs = built.Binary, built.Args()
			if result.Killers, err = q.KillHandshake(ctx); err != nil {
				return fmt.Errorf("mutant %s of QEMU: %w", m.Name, err)
			}
		}
		result.Seconds = time.Since(begin).Seconds()
		r.AddMutant(result)
	}
	t.report.clear()
	printMutants(detail, r.Mutants)
	return nil
}

// kill compiles each wrong series and has the tests see it.
func (t *tester) kill(ctx context.Context, p *qemutest.Proof, r *qemutest.Report, tree *ktree.Tree, mutants []series.Mutant, o kbuild.Options) error {
	q := *p
	q.Consoles = "" // a mutant's failure is no news
	q.Progress = nil
	o.Progress, o.Module = nil, nil // the module of the series is theirs, too
	t.report.Stage("kill mutants", int64(len(mutants)), "mutants")
	defer t.report.End()
	for i, m := range mutants {
		begin := time.Now()
		_, kernel, err := kbuild.Kernels(ctx, tree, m.Changes, o)
		if err != nil {
			return fmt.Errorf("mutant %s: %w", m.Name, err)
		}
		q.Kernels = map[string]string{qemutest.Patched: kernel.BzImage}
		result := qemutest.Mutant{Name: m.Name, About: m.About, Killers: t.misplaced[m.Name]}
		if !m.Static {
			// A place would see it, too, and is no test of the kernel.
			if result.Killers, err = q.Kill(ctx); err != nil {
				return fmt.Errorf("mutant %s: %w", m.Name, err)
			}
		}
		result.Seconds = time.Since(begin).Seconds()
		r.AddMutant(result)
		t.report.Step(int64(i + 1))
	}
	if len(t.trees) == 1 {
		t.report.clear()
		printMutants(t.stdout, r.Mutants)
	}
	return nil
}

// A verdictError is a proof that did not come out as it must.
type verdictError struct{ *qemutest.Report }

func (e *verdictError) Error() string { return e.Tree + ": " + e.Verdict + ": " + e.Why }

// explainTest tells the exit code of an error of testing, and what to do.
func explainTest(err error) (code int, hint string, ok bool) {
	var run *qemutest.RunError
	if errors.As(err, &run) {
		code, hint, ok = explainGuest(err)
		if len(run.Consoles) > 0 {
			if hint != "" {
				hint += "; "
			}
			hint += "what the guests printed is in " + strings.Join(run.Consoles, " and ")
		}
		return code, hint, ok
	}
	var v *verdictError
	if errors.As(err, &v) {
		switch v.Verdict {
		case qemutest.Lost:
			return exitLost, firstLook(v.Report), true
		case qemutest.Crashed:
			return exitCrash, keptIn(v.Report), true
		case qemutest.Fail:
			return exitCheck, secondLook(v.Report), true
		default:
			return exitUnfit, "nothing was shown about the kernels; for TCG take QEMU 9.0 or newer, with --qemu", true
		}
	}
	return explainGuest(err)
}

// secondLook says where to look when a check failed.
func secondLook(r *qemutest.Report) string {
	for _, o := range r.Runs {
		if o.Verdict == qemutest.Fail {
			return "look at the condition around the call of dma_mark_dirty(): it must be false while marking is off"
		}
	}
	return keptIn(r)
}

// keptIn names the consoles of suites that failed.
func keptIn(r *qemutest.Report) string {
	var names []string
	for _, k := range r.KUnit {
		if k.Console != "" {
			names = append(names, k.Console)
		}
	}
	if names == nil {
		return ""
	}
	return "what the guests printed is in " + strings.Join(names, " and ")
}

// firstLook says where to look when pages were lost.
func firstLook(r *qemutest.Report) string {
	// What a driver loses when nothing is marked: not all that it got, as the
	// guest writes to some of these pages, too.
	unmarked := make(map[string]int)
	for _, o := range r.Runs {
		for _, d := range o.Drivers {
			if o.Name == "loss" {
				unmarked[d.Name] = d.Missed
			}
		}
		if o.Verdict != qemutest.Lost {
			continue
		}
		if o.Counters["calls"] == 0 {
			return "marking was on and did nothing: look whether the hooks are there"
		}
		var as []string
		for _, d := range o.Drivers {
			if d.Missed > unmarked[d.Name]*3/4 {
				as = append(as, d.Name)
			}
		}
		switch {
		case len(as) == len(o.Drivers) && o.Counters["pages"] >= uint64(o.Missed):
			return fmt.Sprintf("%d pages were counted as marked, and all are lost: look whether arch_dma_mark_dirty() stores", o.Counters["pages"])
		case len(as) > 0:
			return strings.Join(as, " and ") + " lost about as much as without the series: look at the hook on its way, unmap or sync"
		}
		return fmt.Sprintf("%d pages were marked and %d missed: look at the bounds of the loop over pages", o.Counters["pages"], o.Missed)
	}
	return ""
}

func explainGuest(err error) (code int, hint string, ok bool) {
	var (
		noQEMU  *qemutest.MissingQEMUError
		noKVM   *qemutest.NoKVMError
		invalid *qemutest.InvalidError
		gone    *qemutest.QEMUError
		crash   *qemutest.CrashError
		agent   *qemutest.AgentError
		device  *qemutest.DeviceError
		late    *qemutest.TimeError
	)
	switch {
	case errors.As(err, &noQEMU):
		return exitUnfit, "", true
	case errors.As(err, &noKVM):
		return exitUnfit, "say --accel tcg, or auto", true
	case errors.As(err, &invalid):
		return exitUnfit, "for TCG take QEMU 9.0 or newer, and a machine with an idle core for each vCPU", true
	case errors.As(err, &gone):
		return exitUnfit, "", true
	case errors.As(err, &late):
		return exitTime, "the guest hangs, or this machine is very busy", true
	case errors.As(err, &crash):
		return exitCrash, "", true
	case errors.As(err, &agent), errors.As(err, &device):
		return exitCrash, "", true
	}
	return 0, "", false
}
