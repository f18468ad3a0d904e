package kbuild

import (
	"context"
	"os/exec"
	"strings"

	"patchgen/workshop"
)

// A MissingError names what a build needs and this machine has not.
type MissingError = workshop.MissingError

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
	e.Commands(packages, buildTools...)
	e.Commands(packages, commands...)
	if _, err := exec.LookPath("gcc"); err == nil {
		// objtool, which every x86 build runs, is linked with libelf.
		cmd := exec.CommandContext(ctx, "gcc", "-E", "-x", "c", "-o", "/dev/null", "-")
		cmd.Stdin = strings.NewReader("#include <gelf.h>\n")
		if cmd.Run() != nil && ctx.Err() == nil {
			e.Add("gelf.h", "libelf-dev")
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return e.Err()
}
