package check

import (
	"testing"
	"time"

	"patchgen/series"
	"patchgen/submit/patchmail"
)

// FuzzCheck puts any two mails to what needs no tree, and to what reads them for
// the programs of the tree.
func FuzzCheck(f *testing.F) {
	w := standIn(f)
	for _, g := range goodOnes[:len(goodOnes)-1] { // the last is too large to vary
		mails := g.spec().mails(w)
		f.Add(mails[0].Data, mails[len(mails)-1].Data)
	}
	good := goodSpec().mails(w)
	for _, b := range brokenOnes {
		if b.mails != nil && b.spec == nil {
			mails := b.make(f, w, good)
			f.Add(mails[0].Data, mails[len(mails)-1].Data)
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s, err := patchmail.ParseAny([]series.Mail{{Name: "a", Data: a}, {Name: "b", Data: b}})
		if err != nil {
			return
		}
		begin := time.Now()
		r, err := Check(t.Context(), nil, s, Options{Now: now, NoScripts: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Findings {
			if _, ok := place[f.Rule]; !ok || f.Patch < 0 || f.Patch > len(s.Patches) || f.Problem != oneLine(f.Problem) {
				t.Errorf("%+v", f)
			}
		}
		needs(s)
		for _, m := range s.Patches {
			if m.Err != nil {
				continue
			}
			if in := feed(m); len(in.places) != countLines(in.text.Bytes()) {
				t.Errorf("%d places of %d lines", len(in.places), countLines(in.text.Bytes()))
			}
			unsafeLine(m)
			touched(m)
			h := &history{base: make(map[string]file), after: make([]map[string]file, len(s.Patches))}
			strict(h, 0, m)
			for l := range added(m) {
				entries([]byte(l.text))
			}
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("it took %v for %d bytes", took, len(a)+len(b))
		}
	})
}

func countLines(text []byte) int {
	n := 0
	for _, c := range text {
		if c == '\n' {
			n++
		}
	}
	return n
}
