package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestAgain: the command of a report has what was said, and what was left to chance.
func TestAgain(t *testing.T) {
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	set.StringArray("tree", nil, "")
	set.StringSlice("tests", nil, "")
	set.StringArray("append", nil, "")
	set.IntSlice("cpus", []int{1, 2}, "")
	set.Bool("mutants", false, "")
	set.Bool("shell", false, "")
	set.Int("packets", 3, "")
	set.String("json", "", "")
	set.Uint64("seed", 0, "")
	if err := set.Parse(strings.Split("--json=x --append=it's|--a --append= --tests=kunit,proof --cpus=4 --mutants --shell=false", " ")); err != nil {
		t.Fatal(err)
	}
	f := testFlags{trees: []string{"debian:6.12", "/home/a b"}, seed: 7}
	const want = `patchgen test --tree debian:6.12 --tree '/home/a b' --append 'it'\''s|--a' --append '' --cpus 4 --mutants --tests kunit,proof --seed 7`
	if got := strings.Join(f.again(set), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
