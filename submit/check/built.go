package check

import (
	"fmt"
	"slices"
	"strings"

	"patchgen/submit/patchmail"
	"patchgen/submit/receipt"
)

// Built returns what compiling after each patch of s has to say.
func Built(s *patchmail.Series, b *receipt.Build) []Finding {
	var all []Finding
	for i, p := range b.Patches[:min(len(b.Patches), len(s.Patches))] {
		add := func(rule, where, problem, do string, fault bool) {
			all = append(all, Finding{Patch: i + 1, File: s.Patches[i].Name, Rule: rule, Where: where, Problem: problem, Do: do, Fault: fault})
		}
		builds := p.Builds()
		for _, c := range builds {
			with := "with the new options off"
			if c == p.On {
				with = "with the new options on"
			}
			if c.Error != "" {
				add("build", with, "the tree does not compile after this patch: "+c.Error, "", true)
			}
			if c.Lost != "" {
				add("survival", with, c.Lost, "see what the option depends on", true)
			}
			for _, w := range c.New {
				file, text, found := strings.Cut(w, ": ")
				if !found {
					file, text = "", w
				}
				add("warnings", file, fmt.Sprintf("%s, %s", text, with), "", true)
			}
		}
		for _, file := range builds[0].Left {
			if !slices.ContainsFunc(builds, func(c *receipt.Compiled) bool { return !slices.Contains(c.Left, file) }) {
				add("compiled", file, "was not compiled: its options are off in this configuration", "", false)
			}
		}
	}
	return all
}

// Stale is the finding of a receipt that is of other patches.
func Stale(err error) Finding {
	return Finding{Rule: "receipt", Problem: err.Error(), Do: "test again with patchgen test --patches and check --build, or remove the receipt", Fault: true}
}
