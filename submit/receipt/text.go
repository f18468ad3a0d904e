package receipt

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"text/tabwriter"

	"patchgen/ktree"
	"patchgen/qemutest"
)

// Testing is the receipt as the part of a cover letter that tells how the series
// was tested, and what it costs: paragraphs, list items and tables, not wrapped, no
// newline at the end. It is "" where nothing was done, or not all of it went well.
func (r *Receipt) Testing() string {
	var items []string
	if b := r.Build; b != nil {
		if !b.clean() {
			return ""
		}
		items = append(items, b.sentence())
	}
	for _, t := range r.Tests {
		if t.Verdict != qemutest.Pass {
			return ""
		}
		items = append(items, t.sentences()...)
	}
	var parts []string
	if items != nil {
		parts = append(parts, "Tested, with these very patches:", " - "+strings.Join(items, "\n - "))
	}
	for i := range r.Benches {
		parts = append(parts, r.Benches[i].paragraphs(false)...)
	}
	return strings.Join(parts, "\n\n")
}

// clean reports whether each patch compiles and brings no warning.
func (b *Build) clean() bool {
	for _, p := range b.Patches {
		for _, c := range p.Builds() {
			if c.Error != "" || c.Lost != "" || len(c.New) > 0 {
				return false
			}
		}
	}
	return true
}

// Builds returns those that there are.
func (p PatchBuild) Builds() []*Compiled {
	return slices.DeleteFunc([]*Compiled{p.Off, p.On}, func(c *Compiled) bool { return c == nil })
}

func (b *Build) sentence() string {
	options := ""
	if slices.ContainsFunc(b.Patches, func(p PatchBuild) bool { return p.On != nil }) {
		options = ", the new options off and on"
	}
	with := ""
	if b.Sparse != "" {
		with = ", W=1 and sparse"
	}
	return fmt.Sprintf("Compiled after each patch: %s of %s, with %s%s%s: no new warning.", list(b.Folders), b.Origin, b.Compiler, with, options)
}

// sentences tells one test of a tree.
func (t *Test) sentences() []string {
	qemu, _, _ := strings.Cut(t.QEMU, " (") // the package's version is in the receipt
	where := fmt.Sprintf("%s (%s) in QEMU %s, %s", t.Kernel, t.Tree, qemu, t.Accelerator)
	var all []string
	if len(t.KUnit) > 0 {
		passed, skipped, cpus := 0, 0, []string{}
		for _, k := range t.KUnit {
			passed, skipped, cpus = passed+k.Passed, skipped+k.Skipped, append(cpus, fmt.Sprint(k.CPUs))
		}
		all = append(all, fmt.Sprintf("KUnit on %s, with %s vCPUs: %d cases passed, 0 failed, %d skipped.", where, and(cpus), passed, skipped))
	}
	written, missed, unmarked, migrations := 0, 0, 0, 0
	for _, r := range t.Runs {
		migrations++
		switch r.Name {
		case "proof":
			written, missed = written+r.Written, missed+r.Missed
		case "loss":
			unmarked += r.Missed
		}
	}
	if migrations > 0 {
		all = append(all, fmt.Sprintf("%d live migrations of %s, seed %d: of the %d pages that devices wrote without a dirty log %d were missed with marking on; without the series %d were.",
			migrations, where, t.Seed, written, missed, unmarked))
	}
	written, missed = 0, 0
	quiet, over := 0, 0
	for _, m := range t.Matrix {
		if m.Want == qemutest.Dirty {
			written, missed = written+m.Written, missed+m.Missed
		}
		quiet, over = quiet+m.Quiet, over+m.OverReported
	}
	if len(t.Matrix) > 0 {
		s := fmt.Sprintf("Each call of the DMA API in each direction, on %s: %d of %d pages written by a device were missed, %d of %d others were sent again.", where, missed, written, over, quiet)
		var stores, lost uint64
		for _, w := range t.Writers {
			stores, lost = stores+w.Stores, lost+w.Lost
		}
		if stores > 0 {
			s += fmt.Sprintf(" Of %d stores of a device to a page that the CPU synced at the same time %d were undone.", stores, lost)
		}
		all = append(all, s)
	}
	if len(t.Handshakes) > 0 {
		written, missed := 0, 0
		for _, h := range t.Handshakes {
			written, missed = written+h.Written, missed+h.Missed
		}
		all = append(all, fmt.Sprintf("%d migrations on %s (%s), %s, by a QEMU %s that asks the guest for marking: of the %d pages that devices wrote without a dirty log %d were missed.",
			len(t.Handshakes), t.Kernel, t.Tree, t.Accelerator, t.Handshakes[0].QEMU, written, missed))
	}
	return all
}

func and(items []string) string {
	if len(items) < 2 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:len(items)-1], ", ") + " and " + items[len(items)-1]
}

// list names folders without the slash at their ends.
func list(folders []string) string {
	var names []string
	for _, f := range folders {
		names = append(names, path.Clean(f))
	}
	return and(names)
}

// Text is the whole receipt for a person.
func (r *Receipt) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Receipt of %d patches, by %s\n", len(r.Patches), r.Tool)
	if t := r.Templates; t != nil {
		fmt.Fprintf(&b, "\nRendered from templates/%s, variant %s, digest %.12s, for a tree of the generation %s.\n", t.Series, t.Variant, t.Digest, t.Generation)
	}
	if t := r.Tree; t != nil {
		fmt.Fprintf(&b, "For %s %s, %s%s.\n", cmp.Or(t.Kind, ktree.Linux.String()), t.Release, t.Origin, prefixed(", commit ", t.Commit))
	}
	b.WriteString("\nPATCHES\n")
	for i, p := range r.Patches {
		fmt.Fprintf(&b, "%2d  %s\n    patch-id %s\n    sha256   %s\n", i+1, p.Title, p.PatchID, p.SHA256)
		for _, e := range p.Edits {
			fmt.Fprintf(&b, "    %s:%d%s: %s\n", e.File, e.Line, prefixed(" in ", e.Function), e.How)
		}
	}
	if r.Build != nil {
		r.Build.text(&b)
	}
	for i := range r.Tests {
		r.Tests[i].text(&b)
	}
	for i := range r.Benches {
		r.Benches[i].text(&b)
	}
	return b.String()
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func (b *Build) text(w *strings.Builder) {
	with, options := "", [2]string{"", ""}
	if b.Sparse != "" {
		with, options = ", W=1 C=1", [2]string{"  options off", "  options on "}
	}
	fmt.Fprintf(w, "\nCOMPILED  %s, %s%s: %s of %s\n", b.Time.Format("2006-01-02 15:04:05Z"), b.Compiler, with, list(b.Folders), b.Origin)
	for i, p := range b.Patches {
		for j, c := range p.Builds() {
			result := fmt.Sprintf("%d new warnings, %d gone", len(c.New), len(c.Gone))
			if c.Error != "" {
				result = "does not compile: " + c.Error
			}
			if c.Lost != "" {
				result += "; " + c.Lost
			}
			fmt.Fprintf(w, "%2d%s  %s\n", i+1, options[j], result)
			for _, warning := range c.New {
				fmt.Fprintf(w, "      new: %s\n", warning)
			}
			for _, f := range c.Left {
				fmt.Fprintf(w, "      not compiled: %s\n", f)
			}
		}
	}
}

func (t *Test) text(w *strings.Builder) {
	fmt.Fprintf(w, "\nTESTED  %s on %s, Linux %s, by %s\n", t.Time.Format("2006-01-02 15:04:05Z"), t.Tree, t.Kernel, t.Tool)
	fmt.Fprintf(w, "QEMU %s, accelerator %s, seed %d, %d MiB of guest memory, %s, config sha256 %s\n", t.QEMU, t.Accelerator, t.Seed, t.Memory>>20, t.Compiler, t.Config)
	fmt.Fprintf(w, "verdict: %s%s\n", t.Verdict, prefixed(": ", t.Why))
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(t.KUnit) > 0 {
		fmt.Fprint(table, "\nKUNIT\tVCPUS\tPASSED\tSKIPPED\tFAILED\tVERDICT\n")
	}
	for _, k := range t.KUnit {
		fmt.Fprintf(table, "all suites\t%d\t%d\t%d\t%d\t%s\n", k.CPUs, k.Passed, k.Skipped, k.Failed, k.Verdict)
	}
	table.Flush()
	if len(t.Runs) > 0 {
		fmt.Fprint(table, "\nRUN\tVCPUS\tKERNEL\tDEVICES\tWRITTEN\tMISSED\tRESENT\tOVER\tPASSES\tDOWNTIME\tVERDICT\n")
	}
	for _, r := range t.Runs {
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d ms\t%s\n", r.Name, r.CPUs, r.Kernel, r.Device, r.Written, r.Missed, r.Resent, r.OverReported, r.Passes, r.DowntimeMS, r.Verdict)
	}
	table.Flush()
	if len(t.Levels) > 0 {
		fmt.Fprint(table, "\nBOOT PARAMETER\tARMED\tENABLED\tVERDICT\n")
	}
	for _, l := range t.Levels {
		fmt.Fprintf(table, "%s\t%t\t%t\t%s\n", cmp.Or(l.Parameter, "none"), l.Armed, l.Enabled, l.Verdict)
	}
	table.Flush()
	if len(t.Matrix) > 0 {
		fmt.Fprint(table, "\nTAKEN BACK BY\tDIRECTION\tMUST BE\tCELLS\tWRITTEN\tMISSED\tQUIET\tOVER\tVERDICT\n")
	}
	for _, r := range t.Matrix {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", r.API, r.Direction, r.Want, r.Cells, r.Written, r.Missed, r.Quiet, r.OverReported, r.Verdict)
	}
	table.Flush()
	for _, s := range t.Writers {
		fmt.Fprintf(w, "concurrent writers, %d vCPUs: %d of %d stores of the device were undone by %d syncs of the same page\n", s.CPUs, s.Lost, s.Stores, s.Syncs)
	}
	if len(t.Handshakes) > 0 {
		fmt.Fprint(table, "\nHAND-SHAKE\tVCPUS\tQEMU\tWRITTEN\tMISSED\tWAITED\tDOWNTIME\tVERDICT\n")
	}
	for _, h := range t.Handshakes {
		fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%d\t%d ms\t%d ms\t%s\n", h.Name, h.CPUs, h.QEMU, h.Written, h.Missed, h.WaitMS, h.DowntimeMS, h.Verdict)
	}
	table.Flush()
}
