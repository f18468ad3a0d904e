package kconfig

import (
	"strings"
	"testing"
)

func TestClip(t *testing.T) {
	for s, want := range map[string]string{
		"":                               "",
		"PCI":                            "PCI",
		"a\x1b[2Jb\xff\n":                "a\ufffd[2Jb\ufffd\ufffd",
		strings.Repeat("€", 50):          strings.Repeat("€", 50),
		strings.Repeat("€", 51):          strings.Repeat("€", 49) + "…",
		strings.Repeat("\U00010348", 99): strings.Repeat("\U00010348", 49) + "…",
	} {
		if got := clip(s); got != want {
			t.Errorf("clip(%q) = %q, want %q", s, got, want)
		}
	}
}
