package qemubuild

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type stages []string

func (s *stages) Stage(name string, total int64, unit string) {
	*s = append(*s, fmt.Sprintf("%s of %d %s", name, total, unit))
}
func (s *stages) Step(done int64) { *s = append(*s, fmt.Sprint(done)) }
func (s *stages) End()            { *s = append(*s, "end") }

// ninja's steps become fewer as it goes on, and begin anew after meson was run.
func TestProgress(t *testing.T) {
	var told stages
	tr := newTranscript("compile QEMU", &told)
	for _, line := range []string{"[0/1] Regenerating build files", "The Meson build system", "[1/100] a", "[2/90] b", "[90/90] c"} {
		tr.line(line)
	}
	tr.end()
	want := stages{"compile QEMU of 1 steps", "0", "end", "compile QEMU of 100 steps", "1", "12", "100", "end"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

func TestWhy(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines []string
		what  string
		want  []string
	}{
		{"configure", []string{"checking", "", "ERROR: meson setup failed", "see the log"}, "", []string{"ERROR: meson setup failed", "see the log"}},
		{"first failure alone", []string{
			"[1/3] a", "FAILED: [code=1] a.o", "gcc a.c", "../src/a.c:1:1: error: x", "[2/3] b", "FAILED: b.o", "../src/b.c:1:1: error: y",
		}, "a.o", []string{"a.c:1:1: error: x"}},
		{"nothing tells", []string{"one", "two"}, "", []string{"one", "two"}},
	} {
		tr := newTranscript("x", &stages{})
		for _, line := range test.lines {
			tr.line(line)
		}
		if diff := cmp.Diff(test.want, tr.why()); diff != "" || tr.failed != test.what {
			t.Errorf("%s: %q %s", test.name, tr.failed, diff)
		}
	}
}
