package kbuild

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/progress"
)

func read(t *testing.T, name string) *transcript {
	t.Helper()
	log, err := os.ReadFile(filepath.Join("testdata", "log", name))
	if err != nil {
		t.Fatal(err)
	}
	tr := newTranscript("/src/linux/", io.Discard, progress.Nop{})
	// In pieces, as a pipe brings it.
	for len(log) > 0 {
		n := min(len(log), 100)
		if _, err := tr.Write(log[:n]); err != nil {
			t.Fatal(err)
		}
		log = log[n:]
	}
	return tr
}

// The logs are those of Linux trees with a faulty function put into
// kernel/dma/direct.c, built by gcc 12.2 with W=1 C=1.
func TestWarnings(t *testing.T) {
	const file = "kernel/dma/direct.c"
	gcc := []Warning{
		{file, "dereference of noderef expression"},
		{file, "no previous prototype for ‘marked’ [-Wmissing-prototypes]"},
		{file, "symbol 'marked' was not declared. Should it be static?"},
		{file, "unused variable ‘unused’ [-Wunused-variable]"},
	}
	for _, test := range []struct {
		log   string
		doc   []Warning
		steps int64
	}{
		{"warn-6.12.txt", []Warning{
			{file, "Excess function parameter 'a' description in 'marked'"},
			{file, "Function parameter or struct member 'b' not described in 'marked'"},
			{file, "Function parameter or struct member 'p' not described in 'marked'"},
		}, 6},
		{"warn-7.3.txt", []Warning{
			{file, "Excess function parameter 'a' description in 'marked'"},
			{file, "function parameter 'b' not described in 'marked'"},
			{file, "function parameter 'p' not described in 'marked'"},
		}, 4},
	} {
		t.Run(test.log, func(t *testing.T) {
			tr := read(t, test.log)
			got := tr.set()
			want := append(append([]Warning{}, gcc...), test.doc...)
			if fresh := New(want, got); fresh != nil {
				t.Errorf("not expected: %v", fresh)
			}
			if fresh := New(got, want); fresh != nil {
				t.Errorf("not found: %v", fresh)
			}
			if tr.steps != test.steps {
				t.Errorf("%d steps, want %d", tr.steps, test.steps)
			}
			if diff := cmp.Diff(got, union(map[string][]Warning{"": tr.units["kernel/dma/direct.o"]})); diff != "" {
				t.Errorf("not all are of one object: %s", diff)
			}
		})
	}
}

func TestParseWarning(t *testing.T) {
	for _, test := range []struct {
		line string
		want Warning
		ok   bool
	}{
		{"kernel/a.c:1:2: error: bad type", Warning{"kernel/a.c", "error: bad type"}, true},
		{"vmlinux.o: warning: objtool: do_it+0x12: unreachable", Warning{"vmlinux.o", "do_it…: unreachable"}, true},
		{"kernel/a.o: warning: objtool: f() falls through", Warning{"kernel/a.o", "f() falls through"}, true},
		{"WARNING: modpost: vmlinux: section mismatch in reference: a (section: .text)", Warning{"", "vmlinux: section mismatch in reference: a (section: .text)"}, true},
		{"lib/Kconfig:7:warning: ignoring unsupported character '@'", Warning{"lib/Kconfig", "ignoring unsupported character '@'"}, true},
		{"WARNING: unmet direct dependencies detected for SWIOTLB", Warning{"", "unmet direct dependencies detected for SWIOTLB"}, true},
		{"ld: warning: x.o: missing .note.GNU-stack section", Warning{"", "x.o: missing .note.GNU-stack section"}, true},
		{"  696 | int marked(int b)", Warning{}, false},
		{"In file included from a.c:1:", Warning{}, false},
		{"", Warning{}, false},
	} {
		got, ok := parseWarning(test.line)
		if got != test.want || ok != test.ok {
			t.Errorf("%q: got %+v, %t", test.line, got, ok)
		}
	}
}

func TestTellingLines(t *testing.T) {
	got := strings.Join(read(t, "err-6.12.txt").why(), "\n")
	want := `kernel/dma/direct.c:702:28: error: expected ‘;’ at end of input
  702 | int broken(void) { return 1
      |                            ^
      |                            ;
kernel/dma/direct.c:702:1: error: expected declaration or statement at end of input
  702 | int broken(void) { return 1
      | ^~~`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNothingTold(t *testing.T) {
	tr := newTranscript("/", io.Discard, progress.Nop{})
	tr.Write([]byte("one\ntwo"))
	tr.End()
	if diff := cmp.Diff([]string{"one", "two"}, tr.why()); diff != "" {
		t.Error(diff)
	}
}

func FuzzTranscript(f *testing.F) {
	for _, name := range []string{"warn-6.12.txt", "warn-7.3.txt", "err-6.12.txt"} {
		log, err := os.ReadFile(filepath.Join("testdata", "log", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(log)
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		tr := newTranscript("/src/linux/", io.Discard, progress.Nop{})
		if n, err := tr.Write(log); n != len(log) || err != nil {
			t.Fatal(n, err)
		}
		tr.End()
		if len(tr.why()) > maxTelling {
			t.Error("unbounded")
		}
		for _, w := range tr.set() {
			if w.Text != "" && bytes.ContainsAny([]byte(w.String()), "\n") {
				t.Errorf("%q", w)
			}
		}
	})
}
