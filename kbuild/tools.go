package kbuild

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// A MissingError names what a build needs and this machine has not.
type MissingError struct {
	Tools    []string // commands and C headers, such as "flex" and "gelf.h"
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

// Which Debian package has a command, where it isn't one of the same name.
var packages = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86",
	"ld":                 "binutils",
	"strip":              "binutils",
}

// What every kernel build calls, says Documentation/process/changes.rst, as far
// as QEMUConfig makes use of it.
var buildTools = []string{"gcc", "ld", "make", "flex", "bison", "bc", "perl"}

// Need returns nil if all of these commands can be run and the headers that a
// kernel build needs are there, else a *MissingError.
func Need(ctx context.Context, commands ...string) error {
	var e MissingError
	for _, c := range append(slices.Clone(buildTools), commands...) {
		if _, err := exec.LookPath(c); err != nil {
			p, ok := packages[c]
			if !ok {
				p = c
			}
			e.Tools, e.Packages = append(e.Tools, c), append(e.Packages, p)
		}
	}
	if _, err := exec.LookPath("gcc"); err == nil {
		// objtool, which every x86 build runs, is linked with libelf.
		cmd := exec.CommandContext(ctx, "gcc", "-E", "-x", "c", "-o", "/dev/null", "-")
		cmd.Stdin = strings.NewReader("#include <gelf.h>\n")
		if cmd.Run() != nil && ctx.Err() == nil {
			e.Tools, e.Packages = append(e.Tools, "gelf.h"), append(e.Packages, "libelf-dev")
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if e.Tools == nil {
		return nil
	}
	slices.Sort(e.Packages)
	e.Packages = slices.Compact(e.Packages)
	return &e
}
