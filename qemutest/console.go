package qemutest

import (
	"bytes"
	"regexp"
)

// How a kernel says that it is broken: kernel/panic.c, lib/bug.c,
// arch/x86/kernel/dumpstack.c and traps.c, lib/ubsan.c, kernel/hung_task.c,
// kernel/rcu/tree_stall.h.
var (
	panicLine = consoleLine(`Kernel panic - not syncing`)
	oopsLine  = consoleLine(`BUG: |Oops|kernel BUG at |general protection fault|[a-z].*: [0-9a-f]{4} \[#\d+\]`)
	faultLine = consoleLine(`BUG: |Oops|kernel BUG at |general protection fault|[a-z].*: [0-9a-f]{4} \[#\d+\]` +
		`|Kernel panic - not syncing|WARNING: |UBSAN: |INFO: task |rcu: INFO: `)
)

// consoleLine matches a line of the console that begins so, behind printk's prefix.
func consoleLine(begin string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^(?:<\d+>)?(?:\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? )?((?:` + begin + `)[^\r\n]*)`)
}

func firstLine(re *regexp.Regexp, console []byte) string {
	if m := re.FindSubmatch(console); m != nil {
		return string(m[1])
	}
	return ""
}

// Faults returns the lines of a console with which the kernel reports a warning,
// a bug, an oops, a panic or a stall, without printk's prefix.
func Faults(console []byte) []string {
	var lines []string
	for _, m := range faultLine.FindAllSubmatch(console, -1) {
		lines = append(lines, string(bytes.TrimSpace(m[1])))
	}
	return lines
}
