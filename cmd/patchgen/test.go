package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"patchgen/initramfs"
	"patchgen/kbuild"
	"patchgen/qemutest"
	"patchgen/series"
)

const testUsage = `patchgen test proves on live migrations that no page is lost which a device has
written.

Usage:
    patchgen test [--tree TREE] [--patches PATH] [flags]

It builds the tree without the series and with it, boots each in QEMU, and
migrates the guest while two vhost-user devices write its memory, a disk
(virtio_blk) and a network card (virtio_net). Blind devices keep no dirty log,
like a device that is passed through; logging ones do. Then it compares the two
memories page by page. Five runs:

    calibration  unpatched  no device, the CPU writes   nothing may be lost
    loss         unpatched  blind devices               pages must be lost
    control      unpatched  logging devices             nothing may be lost
    proof        patched    blind, marking on           nothing may be lost
    bypass       patched    blind, marking off          pages must be lost

Examples:
    $ patchgen test --tree debian:6.12
    $ patchgen test --tree ~/linux --patches out --cpus 2 --json result.json
    $ patchgen test --shell                     a shell in the patched kernel

QEMU must be of version 9.0 or newer for TCG: older ones lose pages by themselves.

Flags:
`

type testFlags struct {
	treeFlags
	patches, variant                string
	qemu, accel                     string
	memory, written                 size
	cpus                            []int
	packets                         int
	limit                           time.Duration
	seed                            uint64
	config, cmdline                 []string
	jsonFile, ktap, junit, consoles string
	shell, force                    bool
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
	f.treeFlags.add(set)
	set.StringVar(&f.patches, "patches", "", "`PATH` of patches (default: the series that emit writes)")
	set.StringVar(&f.variant, "variant", "full", "`VARIANT` of that series")
	set.StringArrayVar(&f.config, "config", nil, "`FILE` with CONFIG_NAME=value lines that are wanted, too; again for more")
	set.StringVar(&f.qemu, "qemu", "qemu-system-x86_64", "`PROGRAM` to run")
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
	set.StringVar(&f.consoles, "consoles", "", "keep the guests' consoles in `DIR` when a run fails (default: in the cache)")
	set.BoolVar(&f.force, "force", false, "overwrite files that patchgen did not write")
	set.BoolVar(&f.shell, "shell", false, "boot the patched kernel and give a shell in it, and test nothing")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			_, err := fmt.Fprint(stdout, testUsage, set.FlagUsages())
			return err
		}
		return &usageError{err, `see "patchgen test --help"`}
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
	if f.tree == "" {
		f.tree = defaultTree()
	}
	return f.run(ctx, stdout, stderr)
}

func (f *testFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	proof := &qemutest.Proof{
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
	files := series.WriteOptions{Force: f.force, Ledger: filepath.Join(cache, "written")}
	for _, file := range []string{f.jsonFile, f.ktap, f.junit} {
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
	report := newReporter(stderr)
	tree, err := f.open(ctx, cache, report)
	if err != nil {
		return err
	}
	defer tree.Close()
	changes, err := changesFor(tree, f.patches, f.variant)
	if err != nil {
		return err
	}
	if err := kbuild.Need(ctx); err != nil {
		return err
	}
	if proof.Initramfs, err = initramfs.Build(ctx, initramfs.Options{Cache: filepath.Join(cache, "initramfs"), Progress: report}); err != nil {
		return err
	}
	unpatched, patched, err := kbuild.Kernels(ctx, tree, changes, kbuild.Options{Cache: cache, Progress: report, Config: config})
	if err != nil {
		return err
	}
	proof.Kernels = map[string]string{qemutest.Unpatched: unpatched.BzImage, qemutest.Patched: patched.BzImage}
	var why string
	if proof.Accel, why, err = qemutest.Accelerator(ctx, f.accel, proof.QEMU, unpatched.BzImage, proof.Initramfs); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "patchgen: Linux %s of %s, seed %d, accelerator %s: %s\n", patched.Release, tree.Origin(), f.seed, proof.Accel, strings.ReplaceAll(why, "\n", " "))
	if f.shell {
		fmt.Fprintln(stderr, "patchgen: Ctrl-A X ends the guest")
		return qemutest.Interactive(ctx, proof.QEMU, proof.Accel, patched.BzImage, proof.Initramfs, initramfs.Shell, f.cmdline, f.cpus[0], int64(f.memory))
	}

	proof.Consoles = f.consoles
	if proof.Consoles == "" {
		proof.Consoles = filepath.Join(cache, "consoles", time.Now().Format("20060102-150405"))
	}
	proof.Progress = report
	table := &runTable{w: stdout}
	proof.Done = func(o qemutest.Outcome) {
		report.clear()
		table.row(o)
	}
	result, err := proof.Prove(ctx)
	if err != nil {
		return err
	}
	if err := f.write(files, result); err != nil {
		return err
	}
	return verdict(stdout, result)
}

// A runTable prints a row for each run when it is over.
type runTable struct {
	w    io.Writer
	rows int
}

const rowFormat = "%-11s  %5v  %-9s  %-7s  %8v  %8v  %8v  %6v  %8v  %s\n"

func (t *runTable) row(o qemutest.Outcome) {
	if t.rows == 0 {
		fmt.Fprintf(t.w, rowFormat, "RUN", "VCPUS", "KERNEL", "DEVICES", "WRITTEN", "MISSED", "RESENT", "PASSES", "DOWNTIME", "VERDICT")
	}
	t.rows++
	verdict := o.Verdict
	if o.Invalid > 0 {
		verdict += fmt.Sprintf(" (%d invalid before)", o.Invalid)
	}
	fmt.Fprintf(t.w, rowFormat, o.Name, o.CPUs, o.Kernel, o.Device, o.Written, o.Missed, o.Resent, o.Passes,
		fmt.Sprintf("%d ms", o.DowntimeMS), verdict)
}

// write writes the files that were asked for.
func (f *testFlags) write(o series.WriteOptions, r *qemutest.Report) error {
	for _, out := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{f.jsonFile, func(w io.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			return enc.Encode(r)
		}},
		{f.ktap, r.WriteKTAP},
		{f.junit, r.WriteJUnit},
	} {
		if out.name == "" {
			continue
		}
		var b strings.Builder
		if err := out.write(&b); err != nil {
			return err
		}
		if err := notWritten(out.name, series.WriteFile(out.name, []byte(b.String()), o)); err != nil {
			return err
		}
	}
	return nil
}

// notWritten returns the error of writing a result with what to do about it.
func notWritten(file string, err error) error {
	if occupied := (*series.OccupiedError)(nil); errors.As(err, &occupied) {
		return &usageError{fmt.Errorf("%s is there already, and not as patchgen wrote it", file), "choose another file, or say --force to overwrite"}
	}
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return &usageError{fmt.Errorf("write %s: %w", file, path.Err), "choose another file, in a folder that is there"}
	}
	return err
}

// maxPages is how many lost pages are printed.
const maxPages = 20

// verdict prints what the runs showed, and returns it as an error if it is not
// what was to be shown.
func verdict(w io.Writer, r *qemutest.Report) error {
	fmt.Fprintln(w)
	if r.Verdict == qemutest.Pass {
		var written, lost int
		for _, o := range r.Runs {
			switch o.Name {
			case "proof":
				written += o.Written
			case "loss":
				lost += o.Missed
			}
		}
		_, err := fmt.Fprintf(w, "With the series none of the %d pages that blind devices wrote was missed; without it %d were.\n", written, lost)
		return err
	}
	for _, o := range r.Runs {
		if o.Verdict == qemutest.Pass || o.Verdict == qemutest.Fail {
			continue
		}
		if len(o.Lost) > 0 {
			fmt.Fprintf(w, "Missed in the %s run with %d vCPUs (address, what, by whom, when):\n", o.Name, o.CPUs)
		}
		for i, p := range o.Lost {
			if i == maxPages {
				fmt.Fprintf(w, "  and %d more; --json FILE has them all\n", len(o.Lost)-i)
				break
			}
			fmt.Fprintf(w, "  %v\n", p)
		}
	}
	return &verdictError{r}
}

// A verdictError is a proof that did not come out as it must.
type verdictError struct{ *qemutest.Report }

func (e *verdictError) Error() string { return e.Verdict + ": " + e.Why }

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
		case qemutest.Fail:
			return exitCheck, "look at the condition around the call of dma_mark_dirty(): it must be false while marking is off", true
		default:
			return exitUnfit, "nothing was shown about the kernels; for TCG take QEMU 9.0 or newer, with --qemu", true
		}
	}
	return explainGuest(err)
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
