package ktree

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// A Release is a version of Linux or QEMU, as its tree has it.
type Release struct {
	Version, Patchlevel, Sublevel int
	Extra                         string // of Linux EXTRAVERSION, such as "-rc1"; mostly ""
}

// String returns what `make kernelversion` prints, such as "6.12.117", or what
// QEMU's VERSION has.
func (r Release) String() string {
	return fmt.Sprintf("%d.%d.%d%s", r.Version, r.Patchlevel, r.Sublevel, r.Extra)
}

// parseRelease reads the assignments in the first 100 lines of the kernel's
// top Makefile. ok is false without a VERSION and a PATCHLEVEL.
func parseRelease(makefile []byte) (r Release, ok bool) {
	set := map[string]string{}
	for range 100 {
		var line []byte
		line, makefile, _ = bytes.Cut(makefile, []byte("\n"))
		if len(line) > 200 {
			continue
		}
		text, _, _ := strings.Cut(string(line), "#")
		name, value, isSet := strings.Cut(text, "=")
		if !isSet {
			continue
		}
		name = strings.TrimSpace(strings.TrimRight(name, ":"))
		if _, again := set[name]; !again {
			set[name] = strings.TrimSpace(value)
		}
	}
	var okVersion, okPatch bool
	r.Version, okVersion = number(set["VERSION"])
	r.Patchlevel, okPatch = number(set["PATCHLEVEL"])
	r.Sublevel, _ = number(set["SUBLEVEL"])
	if isExtra(set["EXTRAVERSION"]) {
		r.Extra = set["EXTRAVERSION"]
	}
	return r, okVersion && okPatch
}

func number(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 24)
	if err != nil {
		return 0, false
	}
	return int(n), true
}

// isExtra reports whether s can stand in a kernel's release string.
func isExtra(s string) bool {
	for _, c := range []byte(s) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("-+._~", c) >= 0) {
			return false
		}
	}
	return len(s) <= 64
}
