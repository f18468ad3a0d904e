package workshop

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// A MissingError names what a build needs and this machine has not.
type MissingError struct {
	Tools    []string // commands, C headers and the like, such as "flex" and "gelf.h"
	Packages []string // the Debian packages that have them, sorted
}

func (e *MissingError) Error() string {
	verb, noun := "is", "package"
	if len(e.Tools) > 1 {
		verb = "are"
	}
	if len(e.Packages) > 1 {
		noun = "packages"
	}
	return fmt.Sprintf("%s %s missing: install the %s %s",
		strings.Join(e.Tools, ", "), verb, noun, strings.Join(e.Packages, " "))
}

// Commands adds those of the commands that are not installed. packages has the Debian
// package of a command where it is not one of the same name.
func (e *MissingError) Commands(packages map[string]string, commands ...string) {
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			p, ok := packages[c]
			if !ok {
				p = c
			}
			e.Add(c, p)
		}
	}
}

// Add adds a thing that is missing.
func (e *MissingError) Add(tool, pkg string) {
	e.Tools = append(e.Tools, tool)
	if i, there := slices.BinarySearch(e.Packages, pkg); !there {
		e.Packages = slices.Insert(e.Packages, i, pkg)
	}
}

// Err returns e, or nil if nothing is missing.
func (e *MissingError) Err() error {
	if e.Tools == nil {
		return nil
	}
	return e
}
