// Package receipt is what is known of a series: how it was made, compiled and
// tested. A receipt is bound to the patches: it is void as soon as one of them is
// another. It tells what was done and nothing else.
package receipt

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"patchgen/ktree"
	"patchgen/qemutest"
	"patchgen/series"
	"patchgen/submit/patchmail"
)

// Schema is the JSON schema of a receipt (draft 2020-12).
//
//go:embed schema.json
var Schema []byte

const (
	format  = 1        // of what is written here
	maxFile = 64 << 20 // bytes of a receipt
)

// A Receipt is all that is known of a series.
type Receipt struct {
	Format    int        `json:"receipt"`
	Tool      string     `json:"tool"` // program and version
	Templates *Templates `json:"templates,omitempty"`
	Tree      *Tree      `json:"tree,omitempty"`
	Patches   []Patch    `json:"patches"`
	Build     *Build     `json:"build,omitempty"`
	Tests     []Test     `json:"tests,omitempty"`
	Benches   []Bench    `json:"benches,omitempty"`
}

// Templates is what a series was rendered from.
type Templates struct {
	Series     string `json:"series"`
	Variant    string `json:"variant"`
	Digest     string `json:"digest"`     // of all their files, hex
	Generation string `json:"generation"` // of the tree
}

// A Tree is what a series is for.
type Tree struct {
	Kind    string `json:"kind,omitempty"` // "QEMU"; "" for Linux
	Origin  string `json:"origin"`
	Release string `json:"release"`
	Commit  string `json:"commit,omitempty"`
}

// A Patch is one of the series, and how each of its edits found its place.
type Patch struct {
	Title string `json:"title"`
	patchmail.ID
	Edits []Edit `json:"edits,omitempty"`
}

// An Edit is one place of a patch.
type Edit struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Function string `json:"function,omitempty"`
	How      string `json:"how"`
}

// A Build is what compiling after each patch showed.
type Build struct {
	Time     time.Time    `json:"time"`
	Origin   string       `json:"origin"` // of the tree
	Compiler string       `json:"compiler"`
	Sparse   string       `json:"sparse"`  // its version; "" where it was not run, as for QEMU
	Folders  []string     `json:"folders"` // that were compiled, each whole; of QEMU the program
	Patches  []PatchBuild `json:"patches"`
}

// A PatchBuild is what compiling after one patch showed, with the series' options
// off and on. On is nil if there are none yet.
type PatchBuild struct {
	Off *Compiled `json:"off"`
	On  *Compiled `json:"on,omitempty"`
}

// Compiled is the change in warnings of one configuration (W=1, sparse,
// kernel-doc).
type Compiled struct {
	Config   string   `json:"config_sha256,omitempty"`
	Compiled []string `json:"compiled"`               // of the files that the patch touches
	Left     []string `json:"not_compiled,omitempty"` // those that this configuration leaves out
	New      []string `json:"new_warnings"`
	Gone     []string `json:"gone_warnings"`
	Lost     string   `json:"lost,omitempty"`  // options that could not be switched on, and why
	Error    string   `json:"error,omitempty"` // why it does not compile
}

// A Test is one run of patchgen test on one tree.
type Test struct {
	Time        time.Time           `json:"time"` // when it was done
	Tool        string              `json:"tool"`
	Tree        string              `json:"tree"`
	Kernel      string              `json:"kernel"` // release
	Config      string              `json:"config_sha256"`
	Compiler    string              `json:"compiler"`
	QEMU        string              `json:"qemu"`
	Accelerator string              `json:"accelerator"`
	Seed        uint64              `json:"seed"`
	Memory      int64               `json:"memory"`
	Verdict     string              `json:"verdict"`
	Why         string              `json:"why,omitempty"`
	KUnit       []KUnit             `json:"kunit,omitempty"`
	Runs        []Run               `json:"runs,omitempty"`
	Levels      []qemutest.LevelRun `json:"levels,omitempty"`
	Matrix      []Row               `json:"matrix,omitempty"`
	Writers     []Writers           `json:"writers,omitempty"`
	Handshakes  []Handshake         `json:"handshakes,omitempty"`
	Seconds     float64             `json:"seconds"`
}

// KUnit is the series' own suite with one number of vCPUs.
type KUnit struct {
	CPUs    int    `json:"cpus"`
	Passed  int    `json:"passed"`
	Skipped int    `json:"skipped"`
	Failed  int    `json:"failed"`
	Verdict string `json:"verdict"`
}

// A Run is a live migration: qemutest.Outcome in short. Figures are pages.
type Run struct {
	Name         string `json:"name"`
	Kernel       string `json:"kernel"`
	Device       string `json:"device"`
	CPUs         int    `json:"cpus"`
	Written      int    `json:"written"`
	Missed       int    `json:"missed"`
	Resent       int64  `json:"resent"`
	OverReported int64  `json:"over_reported"`
	Passes       int64  `json:"passes"`
	DowntimeMS   int64  `json:"downtime_ms"`
	Verdict      string `json:"verdict"`
}

// A Row is one call of the DMA API in one direction: qemutest.Row. Figures are
// pages, but for the cells.
type Row struct {
	API          string `json:"api"`
	Direction    string `json:"direction"`
	Want         string `json:"must_be"`
	Cells        int    `json:"cells"`
	Written      int    `json:"written"`
	Missed       int    `json:"missed"`
	Quiet        int    `json:"quiet"`
	OverReported int    `json:"over_reported"`
	Verdict      string `json:"verdict"`
}

// Writers are stores of a device to a page that the CPU syncs at the same time.
type Writers struct {
	CPUs   int    `json:"cpus"`
	Stores uint64 `json:"stores"`
	Lost   uint64 `json:"lost"`
	Syncs  uint64 `json:"syncs"`
}

// A Handshake is an experiment with a QEMU that asks the guest for marking:
// qemutest.HandshakeRun in short. Figures are pages.
type Handshake struct {
	Name       string `json:"name"`
	QEMU       string `json:"qemu"` // its version
	CPUs       int    `json:"cpus"`
	Written    int    `json:"written"`
	Missed     int    `json:"missed"`
	WaitMS     int64  `json:"wait_ms"` // for the guest's answer
	DowntimeMS int64  `json:"downtime_ms"`
	Verdict    string `json:"verdict"`
}

// New returns a receipt of the patches in which nothing stands yet.
func New(tool string, patches []*patchmail.Mail, ids []patchmail.ID) *Receipt {
	r := &Receipt{Format: format, Tool: tool}
	for i, m := range patches {
		r.Patches = append(r.Patches, Patch{Title: m.Title, ID: ids[i]})
	}
	return r
}

// A StaleError says that a receipt is not of these patches.
type StaleError struct {
	Changed []string // what is another, for people
}

func (e *StaleError) Error() string {
	return "the receipt no longer holds: " + strings.Join(e.Changed, "; ")
}

// Holds returns nil if the receipt is of these patches, byte for byte, else a
// *StaleError.
func (r *Receipt) Holds(patches []*patchmail.Mail, ids []patchmail.ID) error {
	var e StaleError
	if len(patches) != len(r.Patches) {
		e.Changed = append(e.Changed, fmt.Sprintf("it is of %d patches, and there are %d", len(r.Patches), len(patches)))
	}
	for i, p := range r.Patches[:min(len(patches), len(r.Patches))] {
		switch {
		case p.ID == ids[i]:
		case p.PatchID == ids[i].PatchID:
			e.Changed = append(e.Changed, fmt.Sprintf("patch %d, %q, is another in its text or white space", i+1, patches[i].Title))
		default:
			e.Changed = append(e.Changed, fmt.Sprintf("patch %d, %q, changes other lines", i+1, patches[i].Title))
		}
	}
	if e.Changed == nil {
		return nil
	}
	return &e
}

// SetSeries notes how the series was made.
func (r *Receipt) SetSeries(s *series.Series, t Templates) {
	r.Templates = &t
	r.Tree = &Tree{Origin: public(s.Origin), Release: s.Release, Commit: s.BaseCommit}
	if s.Kind != ktree.Linux {
		r.Tree.Kind = s.Kind.String()
	}
	for i, p := range s.Patches[:min(len(s.Patches), len(r.Patches))] {
		r.Patches[i].Edits = nil
		for _, e := range p.Edits {
			r.Patches[i].Edits = append(r.Patches[i].Edits, Edit{e.File, e.Line, e.Function, e.How})
		}
	}
}

// A Host is what a test was made with, besides what its report says.
type Host struct {
	Tool     string // program and version
	Config   string // SHA-256 of the patched kernel's configuration
	Compiler string // as the kernel's configuration names it
}

// AddTest adds what patchgen test showed. What an earlier test showed of the same
// tree is left where it was not made anew; of one that failed all is, until all of it
// is made anew.
func (r *Receipt) AddTest(report *qemutest.Report, h Host, now time.Time) {
	t := Test{
		Time: now.UTC().Truncate(time.Second), Tool: h.Tool, Tree: public(report.Tree), Kernel: report.Kernel, Config: h.Config, Compiler: h.Compiler,
		QEMU: report.QEMU, Accelerator: report.Accelerator, Seed: report.Seed, Memory: report.Memory,
		Verdict: report.Verdict, Why: report.Why, Levels: report.Levels, Seconds: report.Seconds,
	}
	for _, k := range report.KUnit {
		t.KUnit = append(t.KUnit, KUnit{k.CPUs, k.Passed, k.Skipped, k.Failed, k.Verdict})
	}
	for _, o := range report.Runs {
		t.Runs = append(t.Runs, Run{o.Name, o.Kernel, o.Device, o.CPUs, o.Written, o.Missed, o.Resent, o.OverReported, o.Passes, o.DowntimeMS, o.Verdict})
	}
	for _, row := range qemutest.Rows(report.Matrix) {
		t.Matrix = append(t.Matrix, Row{row.API, row.Direction, row.Want, row.Cells, row.Written, row.Missed, row.Quiet, row.Over, row.Verdict})
	}
	for _, m := range report.Matrix {
		if w := m.Writers; w != nil {
			t.Writers = append(t.Writers, Writers{m.CPUs, w.Stores, w.Lost, w.Syncs})
		}
	}
	for _, h := range report.Handshakes {
		t.Handshakes = append(t.Handshakes, Handshake{h.Name, h.QEMU, h.CPUs, h.Written, h.Missed, h.WaitMS, h.Downtime, h.Verdict})
	}
	var tests []Test
	for _, old := range r.Tests {
		if old.Tree != t.Tree || !old.outdone(&t) {
			tests = append(tests, old)
		}
	}
	r.Tests = append(tests, t)
}

// outdone takes out what a newer test of the same tree made anew, and reports whether
// nothing is left.
func (t *Test) outdone(newer *Test) bool {
	rest := *t
	if newer.KUnit != nil {
		rest.KUnit = nil
	}
	if newer.Runs != nil {
		rest.Runs = nil
	}
	if newer.Matrix != nil {
		rest.Levels, rest.Matrix, rest.Writers = nil, nil, nil
	}
	if newer.Handshakes != nil {
		rest.Handshakes = nil
	}
	if rest.KUnit == nil && rest.Runs == nil && rest.Levels == nil && rest.Matrix == nil && rest.Handshakes == nil {
		return true
	}
	if t.Verdict == qemutest.Pass {
		*t = rest
	}
	return false
}

// public is a tree for others: where it lies on a disk is nobody's business.
func public(tree string) string {
	return filepath.Base(tree)
}

// Read reads a receipt. The error wraps fs.ErrNotExist if there is none.
func Read(file string) (*Receipt, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("%s is no receipt: it is no file of at most %d MiB", file, maxFile>>20)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s is no receipt that patchgen wrote: %w; move it away, and check --build and test write a new one", file, err)
	}
	return r, nil
}

var (
	sha1   = regexp.MustCompile(`^[0-9a-f]{40}$`)
	sha256 = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func parse(data []byte) (*Receipt, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	r := &Receipt{}
	if err := d.Decode(r); err != nil {
		return nil, err
	}
	if r.Format != format {
		return nil, fmt.Errorf("it has the format %d, and this patchgen reads %d", r.Format, format)
	}
	if len(r.Patches) == 0 {
		return nil, errors.New("it has no patches")
	}
	for _, p := range r.Patches {
		if !sha1.MatchString(p.PatchID) || !sha256.MatchString(p.SHA256) {
			return nil, fmt.Errorf("the IDs of the patch %q are none", p.Title)
		}
	}
	if r.Build != nil && len(r.Build.Patches) != len(r.Patches) {
		return nil, fmt.Errorf("it has %d patches, and builds of %d", len(r.Patches), len(r.Build.Patches))
	}
	return r, nil
}

// JSON is the receipt as a file.
func (r *Receipt) JSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	err := e.Encode(r)
	return b.Bytes(), err
}
