package qemutest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// A Report is what a proof showed.
type Report struct {
	Verdict     string `json:"verdict"` // the gravest of the runs
	Why         string `json:"why,omitempty"`
	Accelerator string `json:"accelerator"`
	QEMU        string `json:"qemu"`   // its version
	Kernel      string `json:"kernel"` // release that the guest tells
	Seed        uint64 `json:"seed"`
	Memory      int64  `json:"memory"` // of a guest, bytes

	Runs []Outcome `json:"runs"`
}

// gravity is the order of the verdicts.
var gravity = map[string]int{Pass: 0, Fail: 1, Lost: 2, Unfit: 3}

func (r *Report) add(o Outcome) {
	r.Runs = append(r.Runs, o)
	if gravity[o.Verdict] > gravity[r.Verdict] {
		r.Verdict = o.Verdict
		r.Why = fmt.Sprintf("%s run with %s: %s", o.Name, count(o.CPUs, "vCPU"), o.Why)
	}
}

// byCPUs returns the runs in groups of the same number of vCPUs.
func (r *Report) byCPUs() [][]Outcome {
	var groups [][]Outcome
	for i, o := range r.Runs {
		if i == 0 || o.CPUs != r.Runs[i-1].CPUs {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], o)
	}
	return groups
}

// WriteKTAP writes the report as Documentation/dev-tools/ktap.rst wants it: a
// test for each number of vCPUs, and in it one for each run, those that were
// not made being skipped.
func (r *Report) WriteKTAP(w io.Writer) error {
	var b strings.Builder
	groups := r.byCPUs()
	fmt.Fprintf(&b, "KTAP version 1\n1..%d\n", len(groups))
	for i, group := range groups {
		fmt.Fprintf(&b, "    KTAP version 1\n    1..%d\n", len(Runs))
		ok := "ok"
		for j, run := range Runs {
			if j >= len(group) {
				fmt.Fprintf(&b, "    ok %d %s # SKIP a run before it says that the surroundings are unfit\n", j+1, run.Name)
				continue
			}
			o := group[j]
			fmt.Fprintf(&b, "    # %s\n", o.figures())
			state := "ok"
			if o.Verdict != Pass {
				state, ok = "not ok", "not ok"
				fmt.Fprintf(&b, "    # %s: %s\n", o.Verdict, o.Why)
				for _, p := range o.Lost[:min(len(o.Lost), 20)] {
					fmt.Fprintf(&b, "    # missed %v\n", p)
				}
			}
			fmt.Fprintf(&b, "    %s %d %s\n", state, j+1, run.Name)
		}
		fmt.Fprintf(&b, "%s %d migration_%d_vcpus\n", ok, i+1, group[0].CPUs)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (o *Outcome) figures() string {
	return fmt.Sprintf("%s kernel, device %s: %d pages written, %d missed, %d resent, %d passes, %d ms down",
		o.Kernel, o.Device, o.Written, o.Missed, o.Resent, o.Passes, o.DowntimeMS)
}

// WriteJUnit writes the report in the XML that CI systems take for JUnit's.
func (r *Report) WriteJUnit(w io.Writer) error {
	type failure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Time    string   `xml:"time,attr"`
		Failure *failure `xml:"failure,omitempty"`
		Error   *failure `xml:"error,omitempty"`
		Out     string   `xml:"system-out"`
	}
	type testsuite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	var doc struct {
		XMLName xml.Name    `xml:"testsuites"`
		Suites  []testsuite `xml:"testsuite"`
	}
	for _, group := range r.byCPUs() {
		s := testsuite{Name: fmt.Sprintf("patchgen.migration.%d-vcpus", group[0].CPUs), Tests: len(group)}
		var total float64
		for _, o := range group {
			c := testcase{Name: o.Name, Class: s.Name, Time: fmt.Sprintf("%.3f", o.Seconds), Out: o.figures()}
			total += o.Seconds
			var pages strings.Builder
			for _, p := range o.Lost {
				fmt.Fprintln(&pages, p)
			}
			switch f := (failure{o.Why, o.Verdict, pages.String()}); o.Verdict {
			case Lost, Fail:
				c.Failure = &f
				s.Failures++
			case Unfit:
				c.Error = &f
				s.Errors++
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
