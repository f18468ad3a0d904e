package report

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"strings"

	"patchgen/qemutest"
)

// A File is one of a report's, to be written into one folder.
type File struct {
	Name string
	Data []byte
}

// Files returns the files of a report on one tree or more:
//
//   - index.html: all of it, for a browser. It asks for nothing else.
//   - report.txt: the same in short, 72 columns wide, for a cover letter.
//   - loss-and-cure.svg: the memory of a guest without the series and with it.
//   - run-N-NAME.svg: that of each run with N vCPUs.
//
// Of several trees the names of pictures begin with "tree-", the tree's number and
// another "-". Without runs there are no pictures. The command is how to make the tests
// again, its words quoted for a shell.
func Files(reports []*qemutest.Report, command []string) ([]File, error) {
	p := page{Command: strings.Join(command, " "), Several: len(reports) > 1, Style: template.CSS(styles()), Script: template.JS(script)}
	p.Verdict, p.Headline = headline(reports)
	var pictures []File
	for i, r := range reports {
		prefix := ""
		if p.Several {
			prefix = fmt.Sprintf("tree-%d-", i+1)
		}
		t, files, err := newTree(r, prefix)
		if err != nil {
			return nil, err
		}
		if !p.Several {
			t.Sentences = t.Sentences[1:] // it is the headline
		}
		p.Trees = append(p.Trees, t)
		pictures = append(pictures, files...)
	}
	var b bytes.Buffer
	if err := index.Execute(&b, p); err != nil {
		return nil, err
	}
	return append([]File{{"index.html", b.Bytes()}, {"report.txt", plain(reports, command)}}, pictures...), nil
}

var (
	//go:embed index.html
	indexText string
	//go:embed style.css
	styleSheet string
	//go:embed script.js
	script string

	index = template.Must(template.New("index").Funcs(template.FuncMap{
		"join": func(s []string) string { return strings.Join(s, "; ") },
		"or": func(s, other string) string {
			if s == "" {
				return other
			}
			return s
		},
		"class": verdictClass,
	}).Parse(indexText))
)

func verdictClass(verdict string) string {
	if verdict == qemutest.Pass {
		return "good"
	}
	return "bad"
}

// page is what index.html shows.
type page struct {
	Headline, Verdict string
	Command           string
	Several           bool
	Trees             []tree
	Style             template.CSS
	Script            template.JS
}

type tree struct {
	*qemutest.Report
	ID        string
	RanOn     string
	Took      string
	Sentences []string
	Hero      []hero // loss and cure, none if there are not both
	HeroCPUs  string
	HeroScale string
	Runs      []run
	Rows      []qemutest.Row
	Sum       qemutest.Sum
}

// A hero is one of the pictures that are seen first.
type hero struct {
	Title   string
	Picture template.HTML
	Written int
	Missed  int
}

type run struct {
	qemutest.Outcome
	ID, Title, About string
	Picture          template.URL // PNG, "" if it is not known what became of each page
	Columns, Rows    int          // of the picture
	Across, Down     int          // pages
	Scale, RowSize   string
	Said             string // what is in the picture
	Legend           []entry
	JSON             template.JS // encoded
	Line             *timeLine
	Passed           []pass
}

type entry struct {
	ID, Name string
	Count    int
}

// A pass is one of the table.
type pass struct {
	qemutest.PassSends
	Number, EndMS int64
	MiB           string // of contents
}

func newTree(r *qemutest.Report, prefix string) (tree, []File, error) {
	t := tree{
		Report: r, ID: prefix + "tree", RanOn: ranOn(r), Took: fmt.Sprintf("%.0f s", r.Seconds),
		Sentences: Sentences(r), Rows: qemutest.Rows(r.Matrix), Sum: r.Sum(),
	}
	var files []File
	var loss, cure *panel
	var cpus int
	for _, o := range r.Runs {
		one := run{
			Outcome: o, ID: fmt.Sprintf("%srun-%d-%s", prefix, o.CPUs, o.Name), Title: o.Name + ", " + numbered(o.CPUs, "vCPU", "vCPUs"), About: about[o.Name],
			Line: newTimeLine(o), Passed: passes(o),
		}
		if o.Pages != nil {
			pic, err := one.draw(o.Pages)
			if err != nil {
				return t, nil, err
			}
			p := panel{pic, one.Title, fmt.Sprintf("%d pages written, %d missed", o.Written, o.Missed)}
			files = append(files, File{one.ID + ".svg", panels("Guest memory, "+pic.scale(), p)})
			// Of the first number of vCPUs.
			switch {
			case o.Name == "loss" && loss == nil:
				p.title = "Without the series"
				loss = &p
				t.Hero = append(t.Hero, hero{p.title, template.HTML(pic.inline(p.title + ": " + pic.said())), o.Written, o.Missed})
			case o.Name == "proof" && cure == nil:
				p.title = "With the series, marking on"
				cure, cpus = &p, o.CPUs
				t.Hero = append(t.Hero, hero{p.title, template.HTML(pic.inline(p.title + ": " + pic.said())), o.Written, o.Missed})
			}
		}
		t.Runs = append(t.Runs, one)
	}
	if loss == nil || cure == nil {
		t.Hero = nil
	} else {
		t.HeroScale = cure.scale()
		t.HeroCPUs = numbered(cpus, "vCPU", "vCPUs")
		files = append(files, File{prefix + "loss-and-cure.svg", panels("A guest's memory after its live migration: "+cure.scale(), *loss, *cure)})
	}
	return t, files, nil
}

// draw adds what became of each page.
func (r *run) draw(p *qemutest.Pages) (picture, error) {
	all := classify(p)
	pic := draw(all)
	data, err := pic.png()
	if err != nil {
		return pic, err
	}
	r.Picture = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(data))
	r.Columns, r.Rows = pic.columns, pic.rows()
	r.Across, r.Down = grid(len(all))
	r.Scale, r.RowSize, r.Said = pic.scale(), bytesOf(int64(r.Across)*pageSize), pic.said()
	for _, c := range worstFirst {
		r.Legend = append(r.Legend, entry{ids[c], names[c], pic.counts[c]})
	}
	encoded, err := json.Marshal(encode(p, all)) // which escapes what would end a script
	r.JSON = template.JS(encoded)
	return pic, err
}

// bytesOf tells a size that is a power of two.
func bytesOf(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// about says what each run is for.
var about = map[string]string{
	"calibration": "No device: the CPU writes. Nothing may be missed, so that QEMU's dirty log is sound.",
	"loss":        "The kernel as it is, and devices that leave no dirty log. Pages must be missed: the fault is there, and is seen.",
	"control":     "The kernel as it is, and devices that keep the log. Nothing may be missed: it was the missing log.",
	"proof":       "With the series and marking on, and devices that leave no log. Nothing may be missed.",
	"bypass":      "With the series and marking off. Pages must be missed: off is off, and it was the marking.",
}

func numbered(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

func passes(o qemutest.Outcome) (all []pass) {
	for i, s := range o.Sends {
		p := pass{PassSends: s, Number: int64(i) + 1, MiB: fmt.Sprintf("%.1f", float64((s.Pages-s.Zeros)*pageSize)/(1<<20))}
		if i+1 < len(o.Sends) {
			p.EndMS = o.Sends[i+1].BeginMS
		} else if n := len(o.Moments); n > 0 {
			p.EndMS = max(s.BeginMS, o.Moments[n-1].AtMS)
		}
		all = append(all, p)
	}
	return all
}

// Sentences say in plain words what the tests of a tree showed; the first one is the
// verdict.
func Sentences(r *qemutest.Report) []string {
	if r.Verdict != qemutest.Pass {
		return []string{notProved(r)}
	}
	s := r.Sum()
	all := s.Sentences()
	if n := len(r.Mutants); n > 0 {
		all = append(all, fmt.Sprintf("Each of %d series that were made wrong on purpose was seen.", n))
	}
	if len(all) == 0 {
		return []string{"All that was tested passed."}
	}
	return all
}

func notProved(r *qemutest.Report) string {
	return fmt.Sprintf("Not proved (%s): %s.", r.Verdict, strings.TrimSuffix(r.Why, "."))
}

// headline is the verdict on all trees.
func headline(reports []*qemutest.Report) (verdict, sentence string) {
	var sum qemutest.Sum
	verdict = qemutest.Pass
	for _, r := range reports {
		sum = sum.Plus(r.Sum())
		if qemutest.Graver(r.Verdict, verdict) {
			verdict, sentence = r.Verdict, notProved(r)
			if len(reports) > 1 {
				sentence = r.Tree + ": " + sentence
			}
		}
	}
	if verdict != qemutest.Pass {
		return verdict, sentence
	}
	if len(reports) == 1 {
		return verdict, Sentences(reports[0])[0]
	}
	if all := sum.Sentences(); len(all) > 0 {
		return verdict, fmt.Sprintf("On %d trees: %s", len(reports), strings.ToLower(all[0][:1])+all[0][1:])
	}
	return verdict, "All that was tested passed."
}
