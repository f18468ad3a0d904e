package qemutest

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Report is what the tests of one tree showed.
type Report struct {
	Verdict     string `json:"verdict"` // the gravest of all
	Why         string `json:"why,omitempty"`
	Tree        string `json:"tree"` // where it comes from
	Accelerator string `json:"accelerator"`
	QEMU        string `json:"qemu"`   // its version
	Kernel      string `json:"kernel"` // release that the guest tells
	Seed        uint64 `json:"seed"`
	Memory      int64  `json:"memory"` // of a guest of the proof, bytes

	KUnit   []KUnitRun  `json:"kunit,omitempty"`
	Runs    []Outcome   `json:"runs"`
	Levels  []LevelRun  `json:"levels,omitempty"`
	Matrix  []MatrixRun `json:"matrix,omitempty"`
	Mutants []Mutant    `json:"mutants,omitempty"`
	// Handshakes are with a QEMU that asks the guest.
	Handshakes []HandshakeRun `json:"handshakes,omitempty"`
	Seconds    float64        `json:"seconds"` // that all took

	begun time.Time
}

// A Sum is the figures of a report in short.
type Sum struct {
	Passed, Failed            int // cases of the suite, with all numbers of vCPUs
	Written, Missed, Unmarked int // pages in the proof, and those missed without the series
	CellsWritten, CellsMissed int // pages in the matrix that must be sent again
	CellsQuiet, CellsOver     int // those that must not, and over-reported ones
	Stores, StoresLost        uint64
	Shaken, ShakenWritten     int // experiments with the hand-shake that passed, and pages in them
	Killed                    int // mutants
}

// Plus adds two sums.
func (s Sum) Plus(o Sum) Sum {
	return Sum{
		s.Passed + o.Passed, s.Failed + o.Failed, s.Written + o.Written, s.Missed + o.Missed, s.Unmarked + o.Unmarked,
		s.CellsWritten + o.CellsWritten, s.CellsMissed + o.CellsMissed, s.CellsQuiet + o.CellsQuiet, s.CellsOver + o.CellsOver,
		s.Stores + o.Stores, s.StoresLost + o.StoresLost, s.Shaken + o.Shaken, s.ShakenWritten + o.ShakenWritten, s.Killed + o.Killed,
	}
}

// Sum sums the report up.
func (r *Report) Sum() (s Sum) {
	for _, k := range r.KUnit {
		s.Passed += k.Passed
		s.Failed += k.Failed
	}
	for _, o := range r.Runs {
		switch o.Name {
		case "proof":
			s.Written += o.Written
			s.Missed += o.Missed
		case "loss":
			s.Unmarked += o.Missed
		}
	}
	for _, m := range r.Matrix {
		for _, c := range m.Cells {
			if c.Want == Dirty {
				s.CellsWritten += c.Written
				s.CellsMissed += c.Missed
			}
			s.CellsQuiet += c.Quiet
			s.CellsOver += c.Over
		}
		if m.Writers != nil {
			s.Stores += m.Writers.Stores
			s.StoresLost += m.Writers.Lost
		}
	}
	for _, h := range r.Handshakes {
		if h.Verdict == Pass {
			s.Shaken++
			s.ShakenWritten += h.Written
		}
	}
	for _, m := range r.Mutants {
		if m.Verdict() == Pass {
			s.Killed++
		}
	}
	return s
}

// Sentences say in plain words what a passed test showed. The proof, if it was made,
// comes first.
func (s Sum) Sentences() []string {
	var all []string
	say := func(made bool, format string, args ...any) {
		if made {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	say(s.Written > 0, "With the series none of the %d pages that blind devices wrote was missed; without it %d were.", s.Written, s.Unmarked)
	say(s.CellsWritten > 0, "Of %d pages written through each call of the DMA API none was missed, and of %d others %d were sent again.", s.CellsWritten, s.CellsQuiet, s.CellsOver)
	say(s.Shaken > 0, "In each of %d experiments with the hand-shake all was as it must be; of %d pages written in a warm-up none was missed.", s.Shaken, s.ShakenWritten)
	say(s.Passed > 0, "All %d cases of the series' own suites passed.", s.Passed)
	return all
}

// gravity is the order of the verdicts.
var gravity = map[string]int{Pass: 0, Fail: 1, Lost: 2, Crashed: 3, Unfit: 4}

// Graver reports whether verdict a is graver than b.
func Graver(a, b string) bool { return gravity[a] > gravity[b] }

func (r *Report) set(verdict, what, why string) {
	if Graver(verdict, r.Verdict) {
		r.Verdict, r.Why = verdict, what+": "+why
	}
}

// NewReport returns the report of a tree before it was tested.
func NewReport(p *Proof, tree, release string) *Report {
	return &Report{Verdict: Pass, Tree: tree, Accelerator: p.Accel, Kernel: release, Seed: p.Seed, Memory: p.Memory, begun: time.Now()}
}

// End notes how long it took.
func (r *Report) End() { r.Seconds = time.Since(r.begun).Seconds() }

func (r *Report) add(o Outcome) {
	r.Runs = append(r.Runs, o)
	r.set(o.Verdict, fmt.Sprintf("%s run with %s", o.Name, count(o.CPUs, "vCPU")), o.Why)
}

// AddMutant adds what became of a mutant.
func (r *Report) AddMutant(m Mutant) {
	r.Mutants = append(r.Mutants, m)
	r.set(m.Verdict(), "mutant "+m.Name, m.Why())
}

func (m *MatrixRun) name() string {
	name := "matrix with " + count(m.CPUs, "vCPU")
	if m.Bounced {
		name += ", all bounced"
	}
	return name
}

// A Row is what all runs of the matrix showed of one call in one direction.
type Row struct {
	API       string
	Direction string
	Want      string // Dirty, Clean or Missed
	Cells     int
	Written   int // pages
	Missed    int
	Quiet     int
	Over      int
	Verdict   string
	Why       string // of the first cell that isn't Pass
	Bad       []string
}

// Rows sums up the runs of the matrix, in the order of their cells.
func Rows(runs []MatrixRun) []Row {
	var rows []Row
	at := make(map[[3]string]int)
	for _, run := range runs {
		for _, c := range run.Cells {
			api := c.API
			if !c.Marking {
				api = anyOff
			}
			switch {
			case c.Length == 0:
				api += ", 0 bytes"
			case c.Bounced && c.Direction != "TO_DEVICE" && (!c.Marking || c.Want == Clean):
				api += ", bounced"
			}
			key := [3]string{api, c.Direction, c.Want}
			i, ok := at[key]
			if !ok {
				i = len(rows)
				at[key] = i
				rows = append(rows, Row{API: api, Direction: c.Direction, Want: c.Want, Verdict: Pass})
			}
			row := &rows[i]
			row.Cells++
			row.Written += c.Written
			row.Missed += c.Missed
			row.Quiet += c.Quiet
			row.Over += c.Over
			if Graver(c.Verdict, row.Verdict) {
				row.Verdict, row.Why = c.Verdict, fmt.Sprintf("%s: %s", c.Name, c.Why)
				row.Bad = nil
				for _, p := range c.Bad {
					row.Bad = append(row.Bad, p.String())
				}
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Compare(rank(a), rank(b))
	})
	return rows
}

// anyOff is the row of what comes back while marking is off, by whichever call.
const anyOff = "any of these, marking off"

// rank puts behind the calls what they do not do.
func rank(r Row) int {
	if strings.HasPrefix(r.API, anyOff) {
		return 1
	}
	return 0
}

// A suite is a group of checks, for the formats of CI systems.
type suite struct {
	name   string
	checks []check
}

type check struct {
	name    string
	verdict string // "" if it was not made
	why     string
	figures string
	details []string // of one that failed
	seconds float64
}

// suites returns all that was tested.
func (r *Report) suites() []suite {
	var suites []suite
	for _, k := range r.KUnit {
		suites = append(suites, suite{fmt.Sprintf("kunit_%d_vcpus", k.CPUs), []check{{
			name: "all suites", verdict: k.Verdict, why: k.Why, seconds: k.Seconds,
			figures: fmt.Sprintf("%d passed, %d skipped, %d failed", k.Passed, k.Skipped, k.Failed),
		}}})
	}
	for i := 0; i < len(r.Runs); i += len(Runs) {
		group := r.Runs[i:min(i+len(Runs), len(r.Runs))]
		s := suite{name: fmt.Sprintf("migration_%d_vcpus", group[0].CPUs)}
		for j, run := range Runs {
			c := check{name: run.Name, why: "a run before it says that the surroundings are unfit"}
			if j < len(group) {
				o := group[j]
				c = check{name: run.Name, verdict: o.Verdict, why: o.Why, figures: o.figures(), seconds: o.Seconds}
				for _, p := range o.Lost {
					if o.Verdict != Pass {
						c.details = append(c.details, p.String())
					}
				}
			}
			s.checks = append(s.checks, c)
		}
		suites = append(suites, s)
	}
	if r.Levels != nil {
		s := suite{name: "levels"}
		for _, l := range r.Levels {
			s.checks = append(s.checks, check{
				name: cmp.Or(l.Parameter, "no parameter"), verdict: l.Verdict, why: l.Why,
				figures: fmt.Sprintf("armed %t, enabled %t, %d pages marked", l.Armed, l.Enabled, l.Marked),
			})
		}
		suites = append(suites, s)
	}
	for _, m := range r.Matrix {
		s := suite{name: fmt.Sprintf("matrix_%d_vcpus", m.CPUs)}
		if m.Bounced {
			s.name += "_bounced"
		}
		for _, row := range Rows([]MatrixRun{m}) {
			s.checks = append(s.checks, check{
				name: row.API + ", " + row.Direction, verdict: row.Verdict, why: row.Why, details: row.Bad,
				figures: fmt.Sprintf("%d cells, %d pages written, %d missed, %d quiet, %d over-reported", row.Cells, row.Written, row.Missed, row.Quiet, row.Over),
			})
		}
		run := check{name: "the run as a whole", verdict: m.Verdict, why: m.Why, seconds: m.Seconds}
		if w := m.Writers; w != nil {
			run.figures = fmt.Sprintf("%d of %d stores lost by concurrent syncs", w.Lost, w.Stores)
		}
		s.checks = append(s.checks, run)
		suites = append(suites, s)
	}
	for i, h := range r.Handshakes {
		if i == 0 || h.CPUs != r.Handshakes[i-1].CPUs {
			suites = append(suites, suite{name: fmt.Sprintf("handshake_%d_vcpus", h.CPUs)})
		}
		s := &suites[len(suites)-1]
		s.checks = append(s.checks, check{
			name: h.Name, verdict: h.Verdict, why: h.Why, seconds: h.Seconds,
			figures: fmt.Sprintf("%d pages written, %d missed, first page after %d ms, %d passes, %d ms down: %s", h.Written, h.Missed, h.WaitMS, h.Passes, h.Downtime, strings.Join(h.History, ", ")),
		})
	}
	if r.Mutants != nil {
		s := suite{name: "mutants"}
		for _, m := range r.Mutants {
			s.checks = append(s.checks, check{name: m.Name, verdict: m.Verdict(), why: m.Why(), figures: strings.Join(m.Killers, "; "), seconds: m.Seconds})
		}
		suites = append(suites, s)
	}
	return suites
}

// maxDetails is how many lines a failed check has in KTAP.
const maxDetails = 20

// all returns the suites of all reports; those of several trees are named for them.
func all(reports []*Report) []suite {
	var suites []suite
	for _, r := range reports {
		for _, s := range r.suites() {
			if len(reports) > 1 {
				s.name = r.Tree + "." + s.name
			}
			suites = append(suites, s)
		}
	}
	return suites
}

// WriteKTAP writes reports as Documentation/dev-tools/ktap.rst wants it: a test for
// each group of checks, and in it one for each check, those that were not made being
// skipped.
func WriteKTAP(w io.Writer, reports []*Report) error {
	var b strings.Builder
	suites := all(reports)
	fmt.Fprintf(&b, "KTAP version 1\n1..%d\n", len(suites))
	for i, s := range suites {
		fmt.Fprintf(&b, "    KTAP version 1\n    1..%d\n", len(s.checks))
		ok := "ok"
		for j, c := range s.checks {
			if c.verdict == "" {
				fmt.Fprintf(&b, "    ok %d %s # SKIP %s\n", j+1, c.name, c.why)
				continue
			}
			if c.figures != "" {
				fmt.Fprintf(&b, "    # %s\n", c.figures)
			}
			state := "ok"
			if c.verdict != Pass {
				state, ok = "not ok", "not ok"
				fmt.Fprintf(&b, "    # %s: %s\n", c.verdict, c.why)
				for _, d := range c.details[:min(len(c.details), maxDetails)] {
					fmt.Fprintf(&b, "    # %s\n", d)
				}
			}
			fmt.Fprintf(&b, "    %s %d %s\n", state, j+1, c.name)
		}
		fmt.Fprintf(&b, "%s %d %s\n", ok, i+1, s.name)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (o *Outcome) figures() string {
	return fmt.Sprintf("%s kernel, device %s: %d pages written, %d missed, %d resent, %d over-reported, %d passes, %d ms down",
		o.Kernel, o.Device, o.Written, o.Missed, o.Resent, o.OverReported, o.Passes, o.DowntimeMS)
}

// WriteJUnit writes reports in the XML that CI systems take for JUnit's.
func WriteJUnit(w io.Writer, reports []*Report) error {
	type failure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Name    string    `xml:"name,attr"`
		Class   string    `xml:"classname,attr"`
		Time    string    `xml:"time,attr"`
		Failure *failure  `xml:"failure,omitempty"`
		Error   *failure  `xml:"error,omitempty"`
		Skipped *struct{} `xml:"skipped,omitempty"`
		Out     string    `xml:"system-out"`
	}
	type testsuite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	var doc struct {
		XMLName xml.Name    `xml:"testsuites"`
		Suites  []testsuite `xml:"testsuite"`
	}
	for _, from := range all(reports) {
		s := testsuite{Name: "patchgen." + from.name, Tests: len(from.checks)}
		var total float64
		for _, k := range from.checks {
			c := testcase{Name: k.name, Class: s.Name, Time: fmt.Sprintf("%.3f", k.seconds), Out: k.figures}
			total += k.seconds
			var details strings.Builder
			for _, d := range k.details {
				fmt.Fprintln(&details, d)
			}
			switch f := (failure{k.why, k.verdict, details.String()}); k.verdict {
			case Lost, Fail:
				c.Failure = &f
				s.Failures++
			case Unfit, Crashed:
				c.Error = &f
				s.Errors++
			case "":
				c.Skipped = &struct{}{}
				s.Skipped++
			}
			s.Cases = append(s.Cases, c)
		}
		s.Time = fmt.Sprintf("%.3f", total)
		doc.Suites = append(doc.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
