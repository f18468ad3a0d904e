package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/pflag"

	"patchgen/qemutest"
	"patchgen/report"
	"patchgen/series"
)

// A runTable prints a row for each run of the proof when it is over.
type runTable struct {
	w    io.Writer
	rows int
}

const rowFormat = "%-11s  %5v  %-9s  %-7s  %8v  %8v  %8v  %8v  %6v  %8v  %s\n"

func (t *runTable) row(o qemutest.Outcome) {
	if t.rows == 0 {
		fmt.Fprintf(t.w, rowFormat, "RUN", "VCPUS", "KERNEL", "DEVICES", "WRITTEN", "MISSED", "RESENT", "OVER", "PASSES", "DOWNTIME", "VERDICT")
	}
	t.rows++
	fmt.Fprintf(t.w, rowFormat, o.Name, o.CPUs, o.Kernel, o.Device, o.Written, o.Missed, o.Resent, o.OverReported, o.Passes,
		fmt.Sprintf("%d ms", o.DowntimeMS), o.Verdict+invalid(o.Invalid))
}

// A handshakeTable prints a row for each experiment with the hand-shake.
type handshakeTable struct {
	w    io.Writer
	rows int
}

const handshakeFormat = "%-17s  %5v  %-9s  %8v  %8v  %8v  %8v  %s\n"

func (t *handshakeTable) row(h qemutest.HandshakeRun) {
	if t.rows == 0 {
		fmt.Fprintf(t.w, "\n"+handshakeFormat, "HAND-SHAKE", "VCPUS", "KERNEL", "WRITTEN", "MISSED", "WAITED", "DOWNTIME", "VERDICT")
	}
	t.rows++
	of := func(made bool, format string, v any) string {
		if !made {
			return "-"
		}
		return fmt.Sprintf(format, v)
	}
	migrated := h.Written > 0
	fmt.Fprintf(t.w, handshakeFormat, h.Name, h.CPUs, h.Kernel, of(migrated, "%d", h.Written), of(migrated, "%d", h.Missed),
		of(h.WaitMS > 0, "%d ms", h.WaitMS), of(migrated, "%d ms", h.Downtime), h.Verdict+invalid(h.Invalid))
}

func invalid(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d invalid before)", n)
}

func printKUnit(w io.Writer, runs []qemutest.KUnitRun) {
	if len(runs) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "KUNIT\tVCPUS\tPASSED\tSKIPPED\tFAILED\tVERDICT")
	for _, r := range runs {
		fmt.Fprintf(t, "all suites\t%d\t%d\t%d\t%d\t%s\n", r.CPUs, r.Passed, r.Skipped, r.Failed, r.Verdict)
	}
	t.Flush()
	fmt.Fprintln(w)
}

// printMatrix prints what all runs of the matrix showed together.
func printMatrix(w io.Writer, levels []qemutest.LevelRun, runs []qemutest.MatrixRun) {
	if len(runs) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "BOOT PARAMETER\tARMED\tENABLED\tVERDICT")
	for _, l := range levels {
		fmt.Fprintf(t, "%s\t%t\t%t\t%s\n", cmp.Or(l.Parameter, "none"), l.Armed, l.Enabled, l.Verdict)
	}
	t.Flush()
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "TAKEN BACK BY\tDIRECTION\tMUST BE\tCELLS\tWRITTEN\tMISSED\tQUIET\tOVER\tVERDICT")
	for _, r := range qemutest.Rows(runs) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", r.API, r.Direction, r.Want, r.Cells, r.Written, r.Missed, r.Quiet, r.Over, r.Verdict)
	}
	t.Flush()
	for _, r := range runs {
		if r.Writers == nil {
			continue
		}
		fmt.Fprintf(w, "concurrent writers, %d vCPUs: %d of %d stores of the device were undone by %d syncs of the same page\n",
			r.CPUs, r.Writers.Lost, r.Writers.Stores, r.Writers.Syncs)
	}
}

func printMutants(w io.Writer, mutants []qemutest.Mutant) {
	if len(mutants) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "MUTANT\tKILLED BY")
	for _, m := range mutants {
		killers := strings.Join(m.Killers, "; ")
		if killers == "" {
			killers = "nobody: " + m.About
		}
		fmt.Fprintf(t, "%s\t%s\n", m.Name, killers)
	}
	t.Flush()
}

// printSummary prints a row for each tree.
func printSummary(w io.Writer, results []*qemutest.Report) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "TREE\tLINUX\tKUNIT\tPROOF: MISSED\tMATRIX: MISSED\tOVER\tSTORES LOST\tHAND-SHAKE\tMUTANTS KILLED\tTIME\tVERDICT")
	of := func(made bool, n, all int) string {
		if !made {
			return "-"
		}
		return fmt.Sprintf("%d of %d", n, all)
	}
	for _, r := range results {
		s := r.Sum()
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Tree, r.Kernel,
			of(r.KUnit != nil, s.Passed, s.Passed+s.Failed),
			of(r.Runs != nil, s.Missed, s.Written),
			of(r.Matrix != nil, s.CellsMissed, s.CellsWritten),
			of(r.Matrix != nil, s.CellsOver, s.CellsQuiet),
			of(r.Matrix != nil, int(s.StoresLost), int(s.Stores)),
			of(r.Handshakes != nil, s.Shaken, len(r.Handshakes)),
			of(r.Mutants != nil, s.Killed, len(r.Mutants)),
			time.Duration(r.Seconds*float64(time.Second)).Round(time.Second), r.Verdict)
	}
	t.Flush()
}

// write writes the files that were asked for.
func (f *testFlags) write(o series.WriteOptions, results []*qemutest.Report) error {
	for _, out := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{f.jsonFile, func(w io.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			if len(results) == 1 {
				return enc.Encode(results[0])
			}
			return enc.Encode(struct {
				Verdict string             `json:"verdict"`
				Trees   []*qemutest.Report `json:"trees"`
			}{gravest(results).Verdict, results})
		}},
		{f.ktap, func(w io.Writer) error { return qemutest.WriteKTAP(w, results) }},
		{f.junit, func(w io.Writer) error { return qemutest.WriteJUnit(w, results) }},
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

// show writes the report.
func (f *testFlags) show(o series.WriteOptions, results []*qemutest.Report) error {
	made, err := report.Files(results, f.command)
	if err != nil {
		return err
	}
	var files []series.Mail
	for _, file := range made {
		files = append(files, series.Mail{Name: file.Name, Data: file.Data})
	}
	return reportNotWritten(f.report, series.Write(f.report, files, o))
}

// again is the command that makes the same tests, in words for a shell: what was said,
// and of the rest the tree and the seed.
func (f *testFlags) again(set *pflag.FlagSet) []string {
	words := []string{"patchgen", "test"}
	add := func(name, value string) { words = append(words, "--"+name, quote(value)) }
	for _, tree := range f.trees {
		add("tree", tree)
	}
	set.Visit(func(flag *pflag.Flag) {
		switch flag.Name {
		case "tree", "refresh", "seed", "receipt", "json", "ktap", "junit", "report", "consoles", "force":
			return
		}
		switch v := flag.Value.(type) {
		case pflag.SliceValue:
			if flag.Value.Type() != "stringArray" {
				add(flag.Name, strings.Join(v.GetSlice(), ","))
				return
			}
			for _, one := range v.GetSlice() {
				add(flag.Name, one)
			}
		default:
			switch value := flag.Value.String(); {
			case flag.Value.Type() != "bool":
				add(flag.Name, value)
			case value == "true":
				words = append(words, "--"+flag.Name)
			}
		}
	})
	add("seed", strconv.FormatUint(f.seed, 10))
	return words
}

// quote has a shell take it as one word.
func quote(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("%+,-./:=@_~", r) && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// otherFolder is what to do about a file in the way of a folder's.
const otherFolder = "choose another folder; or say --force, which writes over files of the same names and leaves others"

// reportNotWritten is notWritten of the report's folder.
func reportNotWritten(dir string, err error) error {
	if occupied := (*series.OccupiedError)(nil); errors.As(err, &occupied) {
		return &usageError{fmt.Errorf("--report %s: %w", dir, err), otherFolder}
	}
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return &usageError{fmt.Errorf("--report %s: %w", dir, path.Err), "choose another folder"}
	}
	return err
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

// folderNotWritten is notWritten of a folder given with -o.
func folderNotWritten(dir string, err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return &usageError{fmt.Errorf("write %s: %w", dir, err), "choose another folder"}
	}
	return err
}

// printJSON prints what a command found, for programs and for people.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// count is "1 patch" or "2 patches".
func count(n int, unit string) string {
	switch {
	case n == 1:
		return "1 " + unit
	case strings.HasSuffix(unit, "ch"):
		unit += "e"
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// gravest returns the report with the gravest verdict.
func gravest(results []*qemutest.Report) *qemutest.Report {
	worst := results[0]
	for _, r := range results[1:] {
		if qemutest.Graver(r.Verdict, worst.Verdict) {
			worst = r
		}
	}
	return worst
}

// maxPages is how many lost pages are printed.
const maxPages = 20

// verdict prints what the tests showed, and returns it as an error if it is not
// what was to be shown.
func verdict(w io.Writer, results []*qemutest.Report) error {
	worst := gravest(results)
	fmt.Fprintln(w)
	if worst.Verdict == qemutest.Pass {
		var s qemutest.Sum
		for _, r := range results {
			s = s.Plus(r.Sum())
		}
		for _, sentence := range s.Sentences() {
			fmt.Fprintln(w, sentence)
		}
		return nil
	}
	for _, r := range results {
		printBad(w, r)
	}
	return &verdictError{worst}
}

// printBad prints the pages that were lost, and those that were sent for nothing.
func printBad(w io.Writer, r *qemutest.Report) {
	list := func(head string, pages []string) {
		if len(pages) > 0 {
			fmt.Fprintln(w, head)
		}
		for i, p := range pages {
			if i == maxPages {
				fmt.Fprintf(w, "  and %d more; --json FILE has them all\n", len(pages)-i)
				break
			}
			fmt.Fprintf(w, "  %s\n", p)
		}
	}
	for _, o := range r.Runs {
		if o.Verdict == qemutest.Pass || o.Verdict == qemutest.Fail {
			continue
		}
		var pages []string
		for _, p := range o.Lost {
			pages = append(pages, p.String())
		}
		list(fmt.Sprintf("Missed in the %s run with %d vCPUs (address, what, by whom, when):", o.Name, o.CPUs), pages)
	}
	for _, h := range r.Handshakes {
		if h.Verdict != qemutest.Pass {
			fmt.Fprintf(w, "Hand-shake %q with %d vCPUs (must be: %s): %s\n", h.Name, h.CPUs, h.About, h.Why)
		}
	}
	for _, row := range qemutest.Rows(r.Matrix) {
		if row.Verdict != qemutest.Pass {
			list(row.Why+":", row.Bad)
		}
	}
	for _, k := range r.KUnit {
		if k.Verdict != qemutest.Pass {
			fmt.Fprintf(w, "KUnit with %d vCPUs: %s\n", k.CPUs, k.Why)
		}
	}
}
