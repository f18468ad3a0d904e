package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"patchgen/kbuild"
	"patchgen/ktree"
	"patchgen/qemubuild"
	"patchgen/series"
	"patchgen/submit/check"
	"patchgen/submit/patchmail"
	"patchgen/submit/receipt"
	"patchgen/submit/send"
)

const checkUsage = `patchgen check says what a maintainer or a bot would object to in a series.

Usage:
    patchgen check PATH [--tree TREE] [--build] [flags]

PATH is the home of a series, a folder of *.patch files, or an mbox; patchgen need
not have written it. It is applied patch by patch to the tree, which is only read,
and looked at by the tree's own checkpatch.pl and by codespell. One line is one
finding; a note is what may be as it is.

With --build, what the patches touch is compiled after each of them, for Linux with
the new options off and on, and with sparse: a new warning is a fault. That goes into
the receipt of the series.

Examples:
    $ patchgen check dirty --build
    $ patchgen check out --tree ~/linux@v6.12
    $ patchgen check out --tree debian:qemu
    $ patchgen check dirty --reflected ~/Mail/inbox     what came back, byte for byte
    $ patchgen check --rules                            what is asked for, and by whom

Flags:
`

type checkFlags struct {
	treeFlags
	build, noScripts, asJSON, rules, schema, force bool
	receipt, reflected                             string
}

func checkMails(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := checkFlags{}
	set := pflag.NewFlagSet("check", pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	f.treeFlags.add(set)
	set.BoolVar(&f.build, "build", false, "compile after each patch")
	set.BoolVar(&f.noScripts, "no-scripts", false, "run neither checkpatch.pl nor codespell")
	set.StringVar(&f.receipt, "receipt", "", "the receipt `FILE` of these patches (default: of the home, if they are in one)")
	set.StringVar(&f.reflected, "reflected", "", "compare what send --reflect sent with what came back: an mbox, a Maildir, or the `FILE` of one mail")
	set.BoolVar(&f.rules, "rules", false, "list the rules and where each was read, and check nothing")
	set.BoolVar(&f.schema, "receipt-schema", false, "print the JSON schema of receipts, and check nothing")
	set.BoolVar(&f.asJSON, "json", false, "print the findings as JSON")
	set.BoolVar(&f.force, "force", false, "overwrite files that patchgen did not write")
	if done, err := parse(set, checkUsage, args, stdout); done {
		return err
	}
	switch {
	case f.schema:
		_, err := stdout.Write(receipt.Schema)
		return err
	case f.rules:
		return printRules(stdout)
	case set.NArg() != 1:
		return &usageError{fmt.Errorf("check takes one PATH, and got %d", set.NArg()), `see "patchgen check --help"`}
	}
	p, err := locate(set.Arg(0), f.receipt)
	if err != nil {
		return err
	}
	if f.reflected != "" {
		return f.compare(p, stdout)
	}
	if _, err := os.Stat(f.receipt); f.receipt != "" && !f.build && err != nil {
		return &usageError{fmt.Errorf("the receipt: %w", err), "patchgen test --patches and check --build write one"}
	}
	if f.build && p.receipt == "" {
		fmt.Fprintln(stderr, "patchgen: note: what --build shows is kept nowhere, as there is no --receipt and no home")
	}
	if f.tree == "" && p.home != nil {
		f.tree = p.home.Tree
	}
	f.tree = cmp.Or(f.tree, defaultTree())
	return f.run(ctx, p, stdout, stderr)
}

func (f *checkFlags) run(ctx context.Context, p place, stdout, stderr io.Writer) error {
	s, err := patchmail.ReadAny(p.mails)
	if err != nil {
		return &usageError{err, "check takes the home of a series, a folder of *.patch files, or an mbox"}
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	report := newReporter(stderr)
	tree, err := f.open(ctx, cache, report)
	if err != nil {
		return err
	}
	defer tree.Close()
	result, err := check.Check(ctx, tree, s, check.Options{NoScripts: f.noScripts, Progress: report})
	if err != nil {
		return err
	}
	var unbuilt error
	if f.build && result.Stats.Applied < result.Stats.Patches {
		unbuilt = fmt.Errorf("the series does not apply to %v %s", tree.Kind(), tree.Release())
	} else if f.build {
		built, err := f.compile(ctx, tree, p, s, report, stderr)
		var apply *series.ApplyError // git am takes more, such as symbolic links
		if err != nil && !errors.As(err, &apply) {
			return err
		}
		if unbuilt = err; err == nil {
			result.Findings = append(result.Findings, check.Built(s, built)...)
		}
	}
	if !f.build || unbuilt != nil { // else the receipt has just been written
		if err := holds(ctx, p, s); err != nil {
			var stale *receipt.StaleError
			if !errors.As(err, &stale) {
				return err
			}
			result.Findings = append(result.Findings, check.Stale(err))
		}
	}
	report.clear()
	if f.asJSON {
		err = printJSON(stdout, result)
	} else {
		err = printFindings(stdout, result.Findings)
	}
	if err != nil {
		return err
	}
	faults := result.Faults()
	fmt.Fprintf(stderr, "patchgen: %s on %v %s, %d applied by git am; %s, %s; %s, of that %s by %s\n",
		count(result.Stats.Patches, "patch"), tree.Kind(), tree.Release(), result.Stats.Applied, count(faults, "fault"), count(len(result.Findings)-faults, "note"),
		seconds(result.Stats.Took), seconds(result.Stats.Scripts), cmp.Or(strings.Join(result.Stats.Tools, ", "), "no program"))
	if faults > 0 || unbuilt != nil {
		return &faultsError{faults, unbuilt}
	}
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// A faultsError says that a check found something, and why nothing was built
// though it was asked for.
type faultsError struct {
	n       int
	unbuilt error
}

func (e *faultsError) Error() string {
	if e.n == 0 { // only for what was not built
		return fmt.Sprintf("nothing was built, as %v", e.unbuilt)
	}
	s := fmt.Sprintf("there %s in the series", areFaults(e.n))
	if e.unbuilt != nil {
		s += fmt.Sprintf("; nothing was built, as %v", e.unbuilt)
	}
	return s
}

// compile compiles after each patch, and notes what that showed in the receipt.
func (f *checkFlags) compile(ctx context.Context, tree *ktree.Tree, p place, s *patchmail.Series, report *reporter, stderr io.Writer) (*receipt.Build, error) {
	cache, err := buildCache()
	if err != nil {
		return nil, err
	}
	var mails []series.Mail
	for _, m := range s.Patches {
		mails = append(mails, series.Mail{Name: m.Name, Data: m.Raw})
	}
	steps, err := series.Steps(tree, mails)
	if err != nil {
		return nil, err
	}
	var kept *receipt.Receipt
	files := writeOptions(cache, f.force)
	if p.receipt != "" {
		if err := notWritten(p.receipt, series.CheckFile(p.receipt, files)); err != nil {
			return nil, err
		}
		if kept, err = receiptOf(ctx, p.receipt, mails, stderr); err != nil {
			return nil, err
		}
	}
	var built *receipt.Build
	if tree.Kind() == ktree.QEMU {
		checked, err := qemubuild.CheckPatches(ctx, tree, steps, qemubuild.Options{Cache: cache, Progress: report})
		if err != nil {
			return nil, err
		}
		built = receipt.NewBuildOfQEMU(checked, tree.Origin(), time.Now())
	} else {
		checked, err := kbuild.CheckPatches(ctx, tree, steps, kbuild.Options{Cache: cache, Progress: report})
		if err != nil {
			return nil, err
		}
		built = receipt.NewBuild(checked, tree.Origin(), time.Now())
	}
	if kept != nil {
		kept.Build = built
		if err := writeReceipt(kept, p.receipt, files); err != nil {
			return nil, err
		}
	}
	return built, nil
}

// compare holds what came back against what was sent to oneself.
func (f *checkFlags) compare(p place, stdout io.Writer) error {
	messages, err := send.Load(p.reflected())
	if errors.Is(err, os.ErrNotExist) {
		return &usageError{fmt.Errorf("nothing of %s was reflected", p.mails), "send it to yourself first, with patchgen send --reflect"}
	}
	if err != nil {
		return err
	}
	c, err := send.Compare(f.reflected, messages)
	if err != nil {
		return &usageError{err: err}
	}
	for _, id := range c.Missing {
		fmt.Fprintf(stdout, "%s did not come back\n", id)
	}
	for _, d := range c.Differences {
		fmt.Fprintln(stdout, d)
	}
	fmt.Fprintf(stdout, "%d of %d mails came back byte for byte\n", len(c.Same), len(messages))
	if n := len(c.Missing) + len(c.Differences); n > 0 {
		return &reflectedError{n}
	}
	return nil
}

// A reflectedError says that a mail did not come back as it was sent.
type reflectedError struct{ n int }

func (e *reflectedError) Error() string {
	return fmt.Sprintf("what came back is not as it was sent, in %s", count(e.n, "place"))
}

func printFindings(w io.Writer, findings []check.Finding) error {
	if len(findings) == 0 {
		_, err := fmt.Fprintln(w, "nothing to object to")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "PATCH\tKIND\tRULE\tWHERE\tWHAT, AND WHAT TO DO")
	for _, x := range findings {
		patch, kind, text := "-", "note", x.Problem
		if x.Patch > 0 {
			patch = fmt.Sprint(x.Patch)
		}
		if x.Fault {
			kind = "FAULT"
		}
		if x.Do != "" {
			text += ": " + x.Do
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", patch, kind, x.Rule, x.Where, oneLine.Replace(text))
	}
	return t.Flush()
}

// oneLine keeps a table's row one line, whatever a patch or a compiler says.
var oneLine = strings.NewReplacer("\n", " ", "\r", " ", "\t", " ", "\x1b", "?")

func printRules(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "RULE\tWHAT IS ASKED FOR\tSOURCE FOR LINUX\tFOR QEMU")
	for _, r := range check.Rules() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.ID, r.What, r.Source, cmp.Or(r.QEMU, "not asked for"))
	}
	return t.Flush()
}

// explainCheck tells the exit code of an error of checking.
func explainCheck(err error) (code int, hint string, ok bool) {
	var (
		faults    *faultsError
		reflected *reflectedError
	)
	switch {
	case errors.As(err, &faults):
		return exitCheck, "", true
	case errors.As(err, &reflected):
		return exitCheck, "find out who changes mails on the way, before a list gets them", true
	}
	return 0, "", false
}
