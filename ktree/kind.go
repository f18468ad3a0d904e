package ktree

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// A Kind is what a tree is the source of.
type Kind int

const (
	Linux Kind = iota
	QEMU
)

// String returns the kind's name for people.
func (k Kind) String() string {
	if k == QEMU {
		return "QEMU"
	}
	return "Linux"
}

// UnmarshalText takes what String returns, in any case.
func (k *Kind) UnmarshalText(text []byte) error {
	for _, kind := range []Kind{Linux, QEMU} {
		if strings.EqualFold(string(text), kind.String()) {
			*k = kind
			return nil
		}
	}
	return fmt.Errorf("no tree is of %q: want Linux or QEMU", text)
}

// A root is what the top of a source tree tells.
type root struct {
	kind    Kind
	release Release
	told    string // the file that tells the release
}

// checkRoot finds out what tree is in src. The error is a *noTreeError if it is
// none.
func checkRoot(src source) (root, error) {
	// A kernel has neither: what has both is QEMU's, or was meant to be.
	if src.has("VERSION") && src.isDir("qapi") {
		return qemuRoot(src)
	}
	data, err := src.readFile("Makefile")
	if errors.Is(err, fs.ErrNotExist) {
		return root{}, &noTreeError{"kernel", "it has no Makefile"}
	}
	if err != nil {
		return root{}, err
	}
	release, ok := parseRelease(data)
	switch {
	case !ok:
		return root{}, &noTreeError{"kernel", "its Makefile sets no VERSION and PATCHLEVEL"}
	case !src.has("Kconfig"):
		return root{}, &noTreeError{"kernel", "it has no Kconfig"}
	case !src.isDir("kernel"):
		return root{}, &noTreeError{"kernel", "it has no folder kernel/"}
	}
	return root{Linux, release, "Makefile"}, nil
}

func qemuRoot(src source) (root, error) {
	data, err := src.readFile("VERSION")
	if err != nil {
		return root{}, err
	}
	release, ok := parseVersion(string(data))
	switch {
	case !ok:
		return root{}, &noTreeError{"QEMU", "its VERSION is no number such as 10.0.2"}
	case !src.isDir("hw/pci"):
		return root{}, &noTreeError{"QEMU", "it has no folder hw/pci/"}
	}
	return root{QEMU, release, "VERSION"}, nil
}

// A noTreeError says why a tree is not of the kind that it looks most like.
type noTreeError struct{ kind, why string }

func (e *noTreeError) Error() string { return "is no " + e.kind + " tree: " + e.why }

var qemuVersionRE = regexp.MustCompile(`^([0-9]+)\.([0-9]+)\.([0-9]+)([-+][0-9A-Za-z.+~-]*)?$`)

// parseVersion reads QEMU's VERSION: one line, such as "10.0.2". Between releases
// it is 10.0.50, and 10.0.90 and up before one.
func parseVersion(file string) (r Release, ok bool) {
	m := qemuVersionRE.FindStringSubmatch(strings.TrimSpace(file))
	if m == nil || len(m[4]) > 64 {
		return r, false
	}
	var okVersion, okPatch, okSub bool
	r.Version, okVersion = number(m[1])
	r.Patchlevel, okPatch = number(m[2])
	r.Sublevel, okSub = number(m[3])
	r.Extra = m[4]
	return r, okVersion && okPatch && okSub
}
