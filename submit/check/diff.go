package check

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"patchgen/kconfig"
	"patchgen/submit/patchmail"
)

var errNotDir error = syscall.ENOTDIR

var (
	// What a shell takes as it is.
	plainPath  = regexp.MustCompile(`^[A-Za-z0-9_+,.@/=~-]+$`)
	script     = regexp.MustCompile(`(^|/)scripts/|\.(py|pl|awk|sh|rb|bash|exp|tcl|cocci)$`)
	shortStat  = regexp.MustCompile(`(?m)^ (\d+) files? changed(?:, (\d+) insertions?\(\+\))?(?:, (\d+) deletions?\(-\))?$`)
	binaryName = regexp.MustCompile(`(?m)^Binary files .* differ$`)
)

// diff looks at a patch's diff, wherever it applies.
func (c *checker) diff(n int, m *patchmail.Mail) {
	if m.Diff == nil {
		c.fault("empty", n, "", "there is no diff, and git am stops there", "drop it, or write it again: git format-patch --always makes such")
		return
	}
	add, del := 0, 0
	var odd, left []spot
	for _, f := range m.Files {
		name := cmpOr(f.NewName, f.OldName)
		for _, name := range []string{f.OldName, f.NewName} {
			if name != "" && (!plainPath.MatchString(name) || strings.HasPrefix(name, "-") || !inTree(name)) {
				odd = append(odd, spot{name, "this is no name for a file of a source tree"})
				break
			}
		}
		if backupFile.MatchString(f.NewName) && !f.IsDelete {
			left = append(left, spot{f.NewName, "this looks like what an editor or a merge left"})
		}
		if f.NewMode&0o111 != 0 && f.NewMode&0o170000 == 0o100000 && f.OldMode&0o111 == 0 && !script.MatchString(name) && !shebang(f) {
			c.fault("mode", n, name, "the file is made executable", "chmod -x, and amend the commit")
		}
		if f.IsBinary && !f.IsDelete {
			c.fault("binary", n, name, "the file is binary, which no one can review in a mail", "leave it out, or make it from a text at build time")
		}
		for _, h := range f.TextFragments {
			add, del = add+int(h.LinesAdded), del+int(h.LinesDeleted)
		}
	}
	if m.DiffError != nil && binaryName.Match(m.Diff) {
		c.fault("binary", n, "", "a file is binary, and its contents are not in the mail", "leave it out, or use git format-patch --binary")
	}
	c.faults("path", n, odd, "rename the file")
	c.faults("leftover", n, left, "take it out of the commit")

	var spots []spot
	for l := range added(m) {
		problem := ""
		switch {
		case toDo.MatchString(l.text):
			problem = "something is to be done"
		case aTemplate.MatchString(l.text):
			problem = "a template was not filled in"
		case conflict.MatchString(l.text):
			problem = "a conflict was not resolved"
		default:
			continue
		}
		spots = append(spots, spot{l.where(), fmt.Sprintf("%s: %q", problem, clip(strings.TrimSpace(l.text), 60))})
	}
	c.faults("leftover", n, spots, "do it, or take the line out")

	if stats := shortStat.FindAllStringSubmatch(m.Below, -1); stats != nil && m.DiffError == nil {
		s := stats[len(stats)-1]
		files, plus, minus := number(s[1]), number(s[2]), number(s[3])
		if !binary(m) && (files != len(m.Files) || plus != add || minus != del) {
			c.fault("diffstat", n, "below ---", fmt.Sprintf("it says %d files, +%d -%d, but the diff has %d files, +%d -%d", files, plus, minus, len(m.Files), add, del),
				"write the patch again with git format-patch")
		}
	}
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func binary(m *patchmail.Mail) bool {
	for _, f := range m.Files {
		if f.IsBinary {
			return true
		}
	}
	return false
}

// shebang reports whether the diff shows the first line of a script.
func shebang(f *gitdiff.File) bool {
	for _, h := range f.TextFragments {
		if h.NewPosition > 1 {
			break
		}
		for _, l := range h.Lines {
			if l.New() {
				return strings.HasPrefix(l.Line, "#!")
			}
		}
	}
	return false
}

// kconfig looks at the Kconfig files as each patch leaves them.
func (c *checker) kconfig(h *history) {
	for i, after := range h.after {
		for name, now := range after {
			if !isKconfig(name) || !now.there() {
				continue
			}
			before := h.at(i, name)
			if _, err := kconfig.Parse(name, now.data); err != nil {
				if _, was := kconfig.Parse(name, before.data); was == nil || !before.there() {
					c.fault("kconfig", i+1, name, "it can no longer be parsed: "+err.Error(), "run make olddefconfig after each patch")
				}
				continue
			}
			old := make(map[string]bool)
			for _, e := range entries(before.data) {
				old[e.symbol] = true
			}
			for _, e := range entries(now.data) {
				if old[e.symbol] {
					continue
				}
				where := fmt.Sprintf("%s:%d", name, e.line)
				if e.prompt && e.help == 0 {
					c.fault("kconfig", i+1, where, fmt.Sprintf("%s can be switched on, but has no help text", e.symbol), "say what it does, and who should say Y")
				}
				if e.prompt && e.on {
					c.note("kconfig", i+1, where, fmt.Sprintf("%s is on by default, which few new options merit", e.symbol), "leave out \"default y\", or say in the text why")
				}
			}
		}
	}
}

func isKconfig(name string) bool {
	base := name[strings.LastIndexByte(name, '/')+1:]
	return strings.HasPrefix(base, "Kconfig") && !strings.HasSuffix(base, ".rst")
}

// An option is an entry of a Kconfig file.
type option struct {
	symbol     string
	line       int
	prompt, on bool
	help       int // lines
}

var (
	anEntry  = regexp.MustCompile(`^\s*(?:menu)?config\s+(\w+)\s*$`)
	aPrompt  = regexp.MustCompile(`^\s+(?:(?:bool|boolean|tristate|string|hex|int|prompt)\s+["'])`)
	itIsOn   = regexp.MustCompile(`^\s+default\s+[ym]\s*$`)
	helpHead = regexp.MustCompile(`^(\s+)(?:help|---help---)\s*$`)
	another  = regexp.MustCompile(`^\s*(?:(?:menu)?config|choice|endchoice|comment|menu|endmenu|if|endif|source|mainmenu)\b`)
)

// entries returns the options of a file that kconfig.Parse took.
func entries(src []byte) []option {
	var all []option
	n, in, help := 0, false, false
	for line := range bytes.Lines(src) {
		n++
		text := strings.TrimRight(string(line), "\n")
		indented := strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\t")
		if help && (indented || strings.TrimSpace(text) == "") && !anEntry.MatchString(text) {
			if strings.TrimSpace(text) != "" {
				all[len(all)-1].help++
			}
			continue
		}
		help = false
		if e := anEntry.FindStringSubmatch(text); e != nil {
			all, in = append(all, option{symbol: e[1], line: n}), true
			continue
		}
		if another.MatchString(text) {
			in = false
		}
		if !in {
			continue
		}
		o := &all[len(all)-1]
		o.prompt = o.prompt || aPrompt.MatchString(text)
		o.on = o.on || itIsOn.MatchString(text)
		help = helpHead.MatchString(text)
	}
	return all
}
