package ktree

import (
	"strings"
	"testing"
)

func TestParseRelease(t *testing.T) {
	for _, test := range []struct{ name, makefile, want string }{
		{"stable", makefile, "6.12.117"},
		{"candidate", "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 0\nEXTRAVERSION = -rc4\n", "7.3.0-rc4"},
		{"old", "VERSION = 4\nPATCHLEVEL = 4\nSUBLEVEL = 302\nEXTRAVERSION =\n", "4.4.302"},
		{"vendor", "VERSION=5\nPATCHLEVEL:=4\nSUBLEVEL = 47 # ours\nEXTRAVERSION = -perf+\n", "5.4.47-perf+"},
		{"first counts", "VERSION = 6\nPATCHLEVEL = 1\nVERSION = 7\n", "6.1.0"},
		{"hostile extra", "VERSION = 6\nPATCHLEVEL = 1\nEXTRAVERSION = $(shell id)\n", "6.1.0"},
		{"hostile sublevel", "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 99999999999999999999\n", "6.1.0"},
		{"dos", "VERSION = 6\r\nPATCHLEVEL = 1\r\n", "6.1.0"},
		{"empty", "", ""},
		{"no patchlevel", "VERSION = 6\n", ""},
		{"no number", "VERSION = $(x)\nPATCHLEVEL = 1\n", ""},
		{"negative", "VERSION = -6\nPATCHLEVEL = 1\n", ""},
		{"too far down", strings.Repeat("\n", 100) + "VERSION = 6\nPATCHLEVEL = 1\n", ""},
		{"long lines", "VERSION = 6 " + strings.Repeat("#", 300) + "\nPATCHLEVEL = 1\n", ""},
	} {
		r, ok := parseRelease([]byte(test.makefile))
		if ok != (test.want != "") || ok && r.String() != test.want {
			t.Errorf("%s: %v, %v, want %q", test.name, r, ok, test.want)
		}
	}
}

func FuzzMakefile(f *testing.F) {
	f.Add([]byte(makefile))
	f.Add([]byte("VERSION := 6#\nPATCHLEVEL=\x00\n=\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, ok := parseRelease(data)
		if !ok {
			return
		}
		if r.Version < 0 || r.Patchlevel < 0 || r.Sublevel < 0 || len(r.String()) > 100 || strings.ContainsAny(r.String(), " \n/$") {
			t.Errorf("release %q", r)
		}
	})
}
