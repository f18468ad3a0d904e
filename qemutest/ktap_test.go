package qemutest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func leaf(name string, s Status) Test { return Test{Name: name, Status: s} }

func TestParseKTAP(t *testing.T) {
	for _, test := range []struct {
		name, console string
		want          KTAP
	}{
		{"one test", "KTAP version 1\n1..1\nok 1 a\n", KTAP{Tests: []Test{leaf("a", Passed)}}},
		{"nested, as ktap.rst has it", `
KTAP version 1
1..2
  KTAP version 1
  1..2
    KTAP version 1
    1..2
    not ok 1 test_1
    ok 2 test_2
  not ok 1 test_3
  ok 2 test_4 # SKIP
not ok 1 example_test_1
ok 2 example_test_2
`, KTAP{Tests: []Test{
			{Name: "example_test_1", Status: Failed, Tests: []Test{
				{Name: "test_3", Status: Failed, Tests: []Test{leaf("test_1", Failed), leaf("test_2", Passed)}},
				{Name: "test_4", Status: Skipped, Note: "SKIP"},
			}},
			leaf("example_test_2", Passed),
		}}},
		{"printk's prefixes and carriage returns", "[    0.100000] KTAP version 1\r\n[    0.200000][    T1] 1..1\r\n<6>[   10.200000]     # Subtest: s\r\n" +
			"[    0.300000]     1..1\r\n[    0.400000]     ok 1 a\r\n[    0.500000] ok 1 s\r\n",
			KTAP{Tests: []Test{{Name: "s", Tests: []Test{leaf("a", Passed)}}}}},
		{"subtests without a version line", "TAP version 14\n1..1\n    # Subtest: s\n    1..1\n    ok 1 - a\nok 1 - s\n",
			KTAP{Tests: []Test{{Name: "s", Tests: []Test{leaf("a", Passed)}}}}},
		{"no plan", "KTAP version 1\nok 1 a\nok 2 b\n", KTAP{Tests: []Test{leaf("a", Passed), leaf("b", Passed)}}},
		{"parameters, which have no plan in 6.1", "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..1\n        KTAP version 1\n        # Subtest: a\n" +
			"        ok 1 p\n        not ok 2 q\n    # a: pass:1 fail:1\n    not ok 1 a\nnot ok 1 s\n",
			KTAP{Tests: []Test{{Name: "s", Status: Failed, Tests: []Test{{Name: "a", Status: Failed, Tests: []Test{leaf("p", Passed), leaf("q", Failed)}}}}}}},
		{"diagnostics", "KTAP version 1\n1..1\n# a: EXPECTATION FAILED at x.c:1\nanything\nnot ok 1 a # rcode=1\n",
			KTAP{Tests: []Test{{Name: "a", Status: Failed, Note: "rcode=1", Log: []string{"# a: EXPECTATION FAILED at x.c:1", "anything"}}}}},
		{"unsupported directive", "KTAP version 1\n1..1\nnot ok 1 a # XFAIL for now\n",
			KTAP{Tests: []Test{{Name: "a", Status: Failed, Note: "XFAIL for now"}}}},
		{"two documents", "KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..1\nok 1 b\n", KTAP{Tests: []Test{leaf("a", Passed), leaf("b", Passed)}}},
		{"a parent that says ok", "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 a\nok 1 s\n",
			KTAP{Tests: []Test{{Name: "s", Status: Failed, Tests: []Test{leaf("a", Failed)}}}}},

		// What must never pass:
		{"none", "Linux version 6\nok 1 a\n", KTAP{Problems: []string{"the console has no KTAP output"}}},
		{"crash within a suite", "KTAP version 1\n1..2\n    # Subtest: s\n    1..3\n    ok 1 a\nBUG: kernel NULL pointer\n", KTAP{Tests: []Test{
			{Name: "s", Status: Missing, Note: "begun, but its result is missing", Tests: []Test{leaf("a", Passed), {Status: Missing, Note: "results 2 to 3 are missing"}}},
			{Status: Missing, Note: "result 2 is missing"},
		}}},
		{"crash before the suite's own line", "KTAP version 1\n1..1\n    # Subtest: s\n    1..1\n    ok 1 a\n", KTAP{Tests: []Test{
			{Name: "s", Status: Missing, Note: "begun, but its result is missing", Tests: []Test{leaf("a", Passed)}},
		}}},
		{"a result lost in the middle", "KTAP version 1\n1..3\nok 1 a\nok 3 c\n", KTAP{Tests: []Test{
			leaf("a", Passed), {Status: Missing, Note: "result 2 is missing"}, leaf("c", Passed)}}},
		{"a suite's line lost", "KTAP version 1\n1..2\n    # Subtest: s\n    1..1\n    ok 1 a\n    # Subtest: t\n    1..1\n    ok 1 b\nok 2 t\n", KTAP{Tests: []Test{
			{Name: "s", Status: Missing, Note: "begun, but its result is missing", Tests: []Test{leaf("a", Passed)}},
			{Name: "t", Tests: []Test{leaf("b", Passed)}}}}},
		{"a subtest missing under a parent that says ok", "KTAP version 1\n1..1\n  KTAP version 1\n  1..2\n  ok 1 a\nok 1 s\n", KTAP{Tests: []Test{
			{Name: "s", Status: Missing, Tests: []Test{leaf("a", Passed), {Status: Missing, Note: "result 2 is missing"}}}}}},
		{"more than planned", "KTAP version 1\n1..1\nok 1 a\nok 2 b\n",
			KTAP{Tests: []Test{leaf("a", Passed), leaf("b", Passed)}, Problems: []string{"2 results where 1 were planned"}}},
		{"out of order", "KTAP version 1\nok 1 a\nok 1 b\n",
			KTAP{Tests: []Test{leaf("a", Passed), leaf("b", Passed)}, Problems: []string{`result 1 "b" comes out of order, 2 was due`}}},
		{"bail out", "KTAP version 1\n1..1\nBail out! no memory\n",
			KTAP{Tests: []Test{{Status: Missing, Note: "result 1 is missing"}}, Problems: []string{"bail out: no memory"}}},
		{"nothing in it", "KTAP version 1\n", KTAP{Tests: []Test{{Status: Missing, Note: "no tests"}}}},
		{"none planned", "KTAP version 1\n1..0\n", KTAP{Tests: []Test{{Status: Missing, Note: "no tests"}}}},
		{"huge numbers", "KTAP version 1\n1..1000000000\nok 99999999999999999999 a\n", KTAP{
			Tests:    []Test{{Status: Missing, Note: "results 1 to 1000000000 are missing"}},
			Problems: []string{`line "ok 99999999999999999999 a": a number that can't be`}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ParseKTAP([]byte(test.console))
			opts := []cmp.Option{cmpopts.EquateEmpty(), cmp.FilterPath(func(p cmp.Path) bool {
				return p.Last().String() == ".Log" && test.name != "diagnostics"
			}, cmp.Ignore())}
			if diff := cmp.Diff(test.want, got, opts...); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A suite cut short anywhere is not one that passed.
func TestEveryPrefixFails(t *testing.T) {
	console := "KTAP version 1\n1..2\n    KTAP version 1\n    # Subtest: s\n    1..2\n    ok 1 a\n        ok 1 p\n    ok 2 b\nok 1 s\nok 2 t\n"
	if err := ParseKTAP([]byte(console)).AllPassed("s"); err != nil {
		t.Fatal(err)
	}
	end := strings.Index(console, "ok 1 s")
	for i := range end {
		if ParseKTAP([]byte(console[:i])).AllPassed("s") == nil {
			t.Errorf("%q passes", console[:i])
		}
	}
}

func TestAllPassed(t *testing.T) {
	const head = "KTAP version 1\n1..1\n    # Subtest: s\n    1..2\n    ok 1 a\n"
	for _, test := range []struct{ console, want string }{
		{"    ok 2 b\nok 1 s\n", ""},
		{"    ok 2 b # SKIP no time\nok 1 s\n", "s/b: skipped SKIP no time"},
		{"    # b: EXPECTATION FAILED\n    not ok 2 b\nnot ok 1 s\n", "s/b: failed\n\t    # b: EXPECTATION FAILED\ns: failed"},
		{"", "s/: missing result 2 is missing\ns: missing begun, but its result is missing"},
		{"    ok 2 b\nok 1 s\nBail out!\n", "bail out: "},
	} {
		got := ""
		if err := ParseKTAP([]byte(head + test.console)).AllPassed("s"); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q: %s", test.console, diff)
		}
	}
	skipped := ParseKTAP([]byte(head + "    ok 2 b # SKIP one CPU\nok 1 s\n"))
	if err := skipped.AllPassed("s", "s/b"); err != nil {
		t.Error(err)
	}
	if skipped.AllPassed("s", "s/a") == nil {
		t.Error("s/b was skipped")
	}
	failed := ParseKTAP([]byte(head + "    not ok 2 b\nnot ok 1 s\n"))
	if failed.AllPassed("s", "s/b") == nil {
		t.Error("s/b failed")
	}
	if err := ParseKTAP([]byte(head)).AllPassed("u"); err == nil || err.Error() != `no result of test "u"` {
		t.Errorf("got %v", err)
	}
}

// The console of Linux 6.12.117 with CONFIG_KUNIT_EXAMPLE_TEST.
func TestRealConsole(t *testing.T) {
	console, err := os.ReadFile(filepath.Join("testdata", "console", "kunit-6.12.txt"))
	if err != nil {
		t.Fatal(err)
	}
	k := ParseKTAP(console)
	if k.Problems != nil {
		t.Error(k.Problems)
	}
	counts := map[Status]int{}
	for _, suite := range k.Tests {
		for _, test := range suite.All() {
			if test.Tests == nil {
				counts[test.Status]++
			}
		}
	}
	// "# Totals: pass:1 fail:0 skip:0" and "# Totals: pass:8 fail:0 skip:4", say the suites.
	if diff := cmp.Diff(map[Status]int{Passed: 9, Skipped: 4}, counts); diff != "" {
		t.Error(diff)
	}
	if err := k.AllPassed("example_init"); err != nil {
		t.Error(err)
	}
	if k.AllPassed("example") == nil {
		t.Error("a suite with skipped tests counts as passed")
	}
}

func FuzzParseKTAP(f *testing.F) {
	console, err := os.ReadFile(filepath.Join("testdata", "console", "kunit-6.12.txt"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(console)
	f.Add([]byte("KTAP version 1\n1..2\n    # Subtest: s\n    1..3\n    ok 1 a\n  ok 1 x\n ok 2 y\nok 1 s\n"))
	f.Fuzz(func(t *testing.T, console []byte) {
		k := ParseKTAP(console)
		if len(k.Tests) == 0 && len(k.Problems) == 0 {
			t.Error("neither tests nor problems")
		}
		n := 0
		for _, top := range k.Tests {
			for range top.All() {
				n++
			}
		}
		// Each test stands for a line of its own, but for one that is missing.
		if lines := bytes.Count(console, []byte("\n")) + 1; n > 2*lines+maxDepth {
			t.Errorf("%d tests from %d lines", n, lines)
		}
	})
}
