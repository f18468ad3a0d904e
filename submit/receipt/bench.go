package receipt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"patchgen/qemutest"
)

// A Bench is what patchgen bench measured on one tree.
type Bench struct {
	Time     time.Time `json:"time"` // when it was done
	Tool     string    `json:"tool"`
	Tree     string    `json:"tree"`
	Kernel   string    `json:"kernel"`        // release
	Config   string    `json:"config_sha256"` // of the kernel with the series
	Compiler string    `json:"compiler"`
	QEMU     string    `json:"qemu,omitempty"` // "" if it was not run

	Instructions []qemutest.CallCost `json:"instructions,omitempty"`
	Nanoseconds  []qemutest.CallTime `json:"nanoseconds,omitempty"`
	Sizes        []Size              `json:"sizes,omitempty"`

	// Of migrations and warm-ups.
	Accelerator string                   `json:"accelerator,omitempty"`
	Seed        uint64                   `json:"seed,omitempty"`
	Memory      int64                    `json:"memory,omitempty"` // of a guest of migrations, bytes
	Migrations  []qemutest.MigrationCost `json:"migrations,omitempty"`
	WarmUps     []qemutest.WarmUp        `json:"warm_ups,omitempty"`
}

// A Size is that of a kernel in memory in bytes, as size(1) sorts it.
type Size struct {
	Kernel string `json:"kernel"` // "without" the series; with its option "off" or "on"; "rfc"
	Text   int64  `json:"text"`
	Data   int64  `json:"data"`
	BSS    int64  `json:"bss"`
}

// AddBench adds what was measured, in the place of what was measured of the same sort
// on the same tree.
func (r *Receipt) AddBench(b Bench) {
	b.Time, b.Tree = b.Time.UTC().Truncate(time.Second), public(b.Tree)
	r.Benches = slices.DeleteFunc(r.Benches, func(old Bench) bool { return old.Tree == b.Tree && old.without(&b).empty() })
	for i := range r.Benches {
		if r.Benches[i].Tree == b.Tree {
			r.Benches[i] = r.Benches[i].without(&b)
		}
	}
	r.Benches = append(r.Benches, b)
}

// without leaves out what was measured anew.
func (b Bench) without(anew *Bench) Bench {
	if len(anew.Instructions) > 0 {
		b.Instructions, b.Nanoseconds = nil, nil
	}
	if len(anew.Sizes) > 0 {
		b.Sizes = nil
	}
	if len(anew.Migrations) > 0 {
		b.Migrations = nil
	}
	if len(anew.WarmUps) > 0 {
		b.WarmUps = nil
	}
	return b
}

func (b Bench) empty() bool {
	return len(b.Instructions)+len(b.Nanoseconds)+len(b.Sizes)+len(b.Migrations)+len(b.WarmUps) == 0
}

// words say what the names of states and kernels mean.
var words = map[string]string{
	"without": "without the series", "off": "off", "armed": "armed, idle", "on": "on", "rfc": "rfc, always on",
}

func wordsOf(name string) string { return cmp.Or(words[name], name) }

// Tables are the figures as text, in paragraphs that are indented.
func (b *Bench) Tables() string {
	var all []string
	add := func(table string) {
		if table != "" {
			all = append(all, strings.TrimRight(table, "\n"))
		}
	}
	add(b.instructions())
	add(b.nanoseconds())
	add(b.sizes())
	add(b.migrations(true))
	add(b.lossy())
	add(b.warmUps(true))
	add(b.longer())
	return strings.Join(all, "\n\n")
}

// A sheet has a row for each state, below the name of the call, and a column for each
// length.
type sheet struct {
	calls, states []string
	lengths       []int
}

func (s *sheet) add(call, state string, bytes int) {
	s.calls, s.states, s.lengths = with(s.calls, call), with(s.states, state), with(s.lengths, bytes)
}

func with[T comparable](all []T, one T) []T {
	if slices.Contains(all, one) {
		return all
	}
	return append(all, one)
}

// These are columns; together with two before them they are 72.
const nameWidth, figureWidth, lastWidth = 24, 9, 10

// right is text at the right of a column, apart from what is before it.
func right(width int, text string) string { return fmt.Sprintf(" %*s", width-1, text) }

func (s *sheet) String(cell func(call, state string, bytes int) string, last func(call, state string) string, lastHead string) string {
	var b strings.Builder
	for i, call := range s.calls {
		head := fmt.Sprintf("  %-*s", nameWidth, call)
		if i == 0 {
			for _, n := range s.lengths {
				head += right(figureWidth, length(n))
			}
			head += right(lastWidth, lastHead)
		}
		b.WriteString(strings.TrimRight(head, " ") + "\n")
		for _, state := range s.states {
			line := fmt.Sprintf("    %-*s", nameWidth-2, wordsOf(state))
			for _, n := range s.lengths {
				line += right(figureWidth, cell(call, state, n))
			}
			line += right(lastWidth, last(call, state))
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	return b.String()
}

// length is a buffer's in words.
func length(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

func (b *Bench) instructions() string {
	var s sheet
	for _, c := range b.Instructions {
		s.add(c.Call, c.State, c.Bytes)
	}
	return s.String(func(call, state string, n int) string {
		for _, c := range b.Instructions {
			if c.Call == call && c.State == state && c.Bytes == n {
				if c.Varied() {
					return fmt.Sprintf("%d-%d", c.Instructions, c.Most)
				}
				return fmt.Sprint(c.Instructions)
			}
		}
		return "-"
	}, func(call, state string) string {
		per, ok := qemutest.PerPage(b.Instructions, state, call)
		if !ok {
			return "-"
		}
		return strings.TrimSuffix(fmt.Sprintf("%.1f", per), ".0")
	}, "a page")
}

func (b *Bench) nanoseconds() string {
	var s sheet
	for _, c := range b.Nanoseconds {
		s.add(c.Call, c.State, c.Bytes)
	}
	return s.String(func(call, state string, n int) string {
		for _, c := range b.Nanoseconds {
			if c.Call == call && c.State == state && c.Bytes == n {
				return fmt.Sprintf("%.0f", c.Median)
			}
		}
		return "-"
	}, func(call, state string) string {
		// The spread of the longest.
		for _, c := range slices.Backward(b.Nanoseconds) {
			if c.Call == call && c.State == state && c.Median > 0 {
				return fmt.Sprintf("-%.0f/+%.0f%%", 100*(1-c.Low/c.Median), 100*(c.High/c.Median-1))
			}
		}
		return "-"
	}, "spread")
}

func (b *Bench) sizes() string {
	if len(b.Sizes) == 0 {
		return ""
	}
	var w strings.Builder
	fmt.Fprintf(&w, "  %-*s%12s%12s%12s\n", nameWidth+1, "kernel, bytes", "text", "data", "bss")
	for _, s := range b.Sizes {
		name := wordsOf(s.Kernel)
		if s.Kernel == "off" || s.Kernel == "on" {
			name = "option " + s.Kernel
		}
		fmt.Fprintf(&w, "    %-*s%12d%12d%12d\n", nameWidth-1, name, s.Text, s.Data, s.BSS)
	}
	return w.String()
}

// paragraphs are the tables with what they are of: the whole of them, or what goes into
// a cover letter, at most 72 columns wide.
func (b *Bench) paragraphs(whole bool) []string {
	qemu, _, _ := strings.Cut(b.QEMU, " (")
	var all []string
	add := func(head, table string) {
		if table != "" {
			all = append(all, head, strings.TrimRight(table, "\n"))
		}
	}
	say := func(sentence string) {
		if sentence != "" {
			all = append(all, sentence)
		}
	}
	spread := ""
	if !whole {
		spread = "; how much they vary is in the receipt"
	}
	where := fmt.Sprintf("on %s (%s) in QEMU %s, %s, seed %d", b.Kernel, b.Tree, qemu, b.Accelerator, b.Seed)
	add(fmt.Sprintf("What one call costs on %s (%s), %s: instructions for a buffer that a device has written, which is not bounced, as QEMU %s counts them (-icount); and what each further page adds.",
		b.Kernel, b.Tree, b.Compiler, qemu), b.instructions())
	add("The same in nanoseconds, on KVM: medians, and by how much the longest calls differ from theirs, but for the 5 % at each end.", b.nanoseconds())
	add(fmt.Sprintf("The size of vmlinux, %s (%s), %s:", b.Kernel, b.Tree, b.Compiler), b.sizes())
	if len(b.Migrations) > 0 {
		add(fmt.Sprintf("What a migration of a guest of %d MiB costs, %s: medians of %s%s. Blind devices leave no trace in the dirty log, as those that are passed through.",
			b.Memory>>20, where, rounds(b.Migrations[0].Rounds), spread), b.migrations(whole))
		say(b.lossy())
	}
	if len(b.WarmUps) > 0 {
		add(fmt.Sprintf("A guest that reads from a blind disk while it is migrated, %s: with the series the disk stays for the first pass, else it is unplugged first. Medians of %s, for sizes of memory and rates at which the CPU dirties it%s.",
			where, rounds(b.WarmUps[0].Rounds), spread), b.warmUps(whole))
		say(b.longer())
	}
	return all
}

func (b *Bench) text(w *strings.Builder) {
	fmt.Fprintf(w, "\nMEASURED  %s on %s, Linux %s, by %s\n", b.Time.Format("2006-01-02 15:04:05Z"), b.Tree, b.Kernel, b.Tool)
	fmt.Fprintf(w, "%s%s, config sha256 %s\n", prefixed("QEMU ", b.QEMU), prefixed(", ", b.Compiler), b.Config)
	for _, p := range b.paragraphs(true) {
		fmt.Fprintf(w, "\n%s\n", p)
	}
}
