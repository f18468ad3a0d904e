package main

import (
	"strings"
	"testing"
)

func TestCostFlags(t *testing.T) {
	f := costFlags{rounds: 2, memories: sizes{256 << 20, 1 << 30}, rates: []int{0, 8000}, seed: 5}
	for want, tests := range map[string][]string{
		"":                    {"size"},
		"--rounds 2 --seed 5": {migrationTest},
		"--rounds 2 --seed 5 --memories 256M,1G --rates 0,8000": {warmUpTest, "size"},
	} {
		if got := strings.Join(f.words(tests), " "); got != want {
			t.Errorf("%v: %q, want %q", tests, got, want)
		}
	}
	var s sizes
	if err := s.Set("256M,1G"); err != nil || s.String() != "256M,1G" {
		t.Errorf("%v: %v", &s, err)
	}
	if err := s.Set("256M,,1G"); err == nil {
		t.Error("no size is a size")
	}
}
