package series

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/edit"
	"patchgen/templates"
)

// The mutants that the places see in the stand-in for a tree, and by which. Those
// are what cannot be seen at run time, and some more.
var seenByPlaces = map[string]string{
	"no-sync-single-hook":               "dma-direct-inline sync-single",
	"no-sync-sg-hook":                   "dma-direct sync-sg",
	"no-skip-cpu-sync-hook":             "dma-direct-inline unmap unmap-slot",
	"no-xen-unmap-hook":                 "xen-unmap",
	"no-xen-sync-hook":                  "xen xen-sync",
	"sync-single-before-bounce-copy":    "sync-single",
	"sync-sg-before-bounce-copy":        "sync-sg",
	"sync-sg-before-invalidation":       "sync-sg",
	"skip-cpu-sync-behind-slot-release": "unmap-slot",
	"sync-for-device-marks":             "sync-single-for-device",
	"slots-marked":                      "bounce-slot",
	"peer-memory-marked":                "peer-memory",
	"private-memory-marked":             "private-memory",
	"noncoherent-marked":                "noncoherent",
	"no-setup-need-sync":                "setup-need-sync",
	"setup-need-sync-by-key":            "setup-need-sync",
	"no-direct-need-sync":               "need-sync",
}

func TestMisplaced(t *testing.T) {
	tree := standIn(t, nil)
	set, changes, all := mutants(t, tree)
	broken, err := Misplaced(tree, set, "full", changes)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Errorf("the series itself: %v", b)
	}
	for _, m := range all {
		broken, err := Misplaced(tree, set, "full", m.Changes)
		if err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		var names []string
		for _, b := range broken {
			names = append(names, b.Place)
		}
		if diff := cmp.Diff(seenByPlaces[m.Name], strings.Join(names, " ")); diff != "" {
			t.Errorf("%s (-want +got)\n%s%v", m.Name, diff, broken)
		}
		if m.Static && broken == nil {
			t.Errorf("%s can be seen by nobody", m.Name)
		}
	}
}

// A series that leaves a file as it is, which the rules are about, breaks them.
func TestMisplacedNoFile(t *testing.T) {
	tree := standIn(t, nil)
	set, changes, _ := mutants(t, tree)
	var less []Change
	for _, c := range changes {
		if c.Path != "drivers/xen/swiotlb-xen.c" {
			less = append(less, c)
		}
	}
	broken, err := Misplaced(tree, set, "full", less)
	if err != nil {
		t.Fatal(err)
	}
	if len(broken) == 0 || broken[0].Place != "xen" {
		t.Errorf("got %v, want what is said of Xen", broken)
	}
	for _, b := range broken {
		if b.File != "drivers/xen/swiotlb-xen.c" || !strings.Contains(b.Problem, "does not call dma_mark_dirty()") {
			t.Errorf("%v", b)
		}
	}
}

func TestBreaches(t *testing.T) {
	const file = "f.c"
	for _, tt := range []struct {
		name  string
		place templates.Place
		src   string
		want  []string // without the place's name
	}{
		{"behind", templates.Place{Function: "f", Behind: []string{"sync"}}, "sync(); mark();", nil},
		{"not behind", templates.Place{Function: "f", Behind: []string{"sync"}}, "mark(); sync();", []string{"f.c:1: f() calls mark() before sync()"}},
		{"one is not behind", templates.Place{Function: "f", Behind: []string{"sync"}}, "mark(); sync(); mark();", []string{"f.c:1: f() calls mark() before sync()"}},
		{"nothing to be behind", templates.Place{Function: "f", Behind: []string{"sync"}}, "mark();", nil},
		{"only a comment", templates.Place{Function: "f", Behind: []string{"sync"}}, "sync(); mark(); /* sync(); */", nil},
		{"before", templates.Place{Function: "f", Before: []string{"unmap"}}, "mark(); unmap();", nil},
		{"not reached", templates.Place{Function: "f", Before: []string{"return"}}, "if (x) return; mark();", []string{"f.c:1: f() has a return before it calls mark()"}},
		{"reached", templates.Place{Function: "f", Before: []string{"return"}}, "if (x) y(); mark(); return 0;", nil},
		{"not before", templates.Place{Function: "f", Before: []string{"unmap"}}, "mark(); unmap(); mark();", []string{"f.c:1: f() calls mark() behind unmap()"}},
		{"not at all", templates.Place{Function: "f"}, "/* mark(); */ x = mark;", []string{"f.c:1: f() does not call mark()"}},
		{"too often", templates.Place{Function: "f", Count: 1}, "mark(); mark();", []string{"f.c:1: f() calls mark() 2 times, want 1"}},
		{"often enough", templates.Place{Function: "f", Count: 2}, "mark(); mark();", nil},
		{"never", templates.Place{Function: "f", Never: true}, "mark();", []string{"f.c:1: f() calls mark()"}},
		{"never, and not", templates.Place{Function: "f", Never: true}, "sync();", nil},
		{"never, in what is not there", templates.Place{Function: "g", Never: true}, "mark();", nil},
		{"no such function", templates.Place{Function: "g"}, "mark();", []string{"f.c: the series leaves no g() in it"}},
		{"callers", templates.Place{Callers: []string{"sync"}}, "sync(); mark();\n}\nvoid g(void)\n{\n\tsync();", []string{"f.c:5: g() does not call mark()"}},
		{"no callers", templates.Place{Callers: []string{"sync", "unmap"}}, "mark();", []string{"f.c: the series leaves no function in it that calls sync() or unmap()"}},
	} {
		functions, err := edit.Functions(file, []byte("void f(void)\n{\n"+tt.src+"\n}\n"))
		if err != nil {
			t.Fatal(err)
		}
		tt.place.Name, tt.place.About, tt.place.File, tt.place.Call = "p", "a", file, "mark"
		var got []string
		for _, b := range breaches(tt.place, functions) {
			got = append(got, strings.TrimSuffix(b.String(), " (p: a)"))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
}
