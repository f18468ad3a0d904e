package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"patchgen/ktree"
	"patchgen/submit/patchmail"
)

// mostScript is how long checkpatch.pl may look at one patch: a hostile one can
// make its expressions run for ever.
const mostScript = 10 * time.Minute

// checkpatch runs the tree's own scripts/checkpatch.pl on each patch. The script
// sees a folder with the files as they are before the patch.
func (c *checker) checkpatch(ctx context.Context, src *source, h *history) error {
	var numbers []int
	for n, m := range c.patches() {
		if m.Diff == nil {
			continue
		}
		if line := unsafeLine(m); line != "" {
			c.note("checkpatch", n, "", fmt.Sprintf("checkpatch.pl was not run, as it hands the names of files to a shell, and here is an odd one: %q", clip(line, 60)), "rename the file")
			continue
		}
		numbers = append(numbers, n)
	}
	if numbers == nil {
		return nil
	}
	dir, err := os.MkdirTemp("", "patchgen-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	jobs := c.o.Jobs
	if jobs <= 0 {
		jobs = runtime.NumCPU()
	}
	jobs = min(jobs, len(numbers))
	roots := make([]*root, jobs)
	for i := range roots {
		roots[i] = &root{dir: filepath.Join(dir, strconv.Itoa(i)), script: checkpatchOf[c.kind], h: h}
		if i == 0 {
			err = roots[0].fill(ctx, src, c.s)
		} else {
			err = linkTree(roots[0].dir, roots[i].dir)
		}
		if err != nil {
			return err
		}
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make([][]Finding, len(numbers))
	var next atomic.Int64
	var wait sync.WaitGroup
	for _, r := range roots {
		wait.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(numbers) {
					return
				}
				n := numbers[i]
				err := r.moveTo(n - 1)
				if err == nil {
					results[i], err = r.checkpatch(ctx, n, c.s.Patches[n-1])
				}
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.tools = append(c.tools, "scripts/checkpatch.pl")
	for _, r := range results {
		c.messages(r)
	}
	return nil
}

// messages adds what checkpatch.pl says about a patch, as a fault unless the
// cover letter or the patch explains it.
func (c *checker) messages(all []Finding) {
	seen := make(map[Finding]bool)
	for _, f := range all {
		if seen[f] {
			continue // the same of another word on the line
		}
		seen[f] = true
		m := c.s.Patches[f.Patch-1]
		if f.Type == "" { // of QEMU, whose maintainers take its warnings for hints
			if f.Fault = strings.HasPrefix(f.Problem, "ERROR"); f.Fault {
				f.Do = "mend it"
			}
			c.add(f)
			continue
		}
		f.Fault = true
		f.Do = "mend it, or say in the cover letter, naming " + f.Type + ", why it is left as it is"
		by := "the cover letter"
		text := m.Below
		if c.s.Cover != nil {
			text = c.s.Cover.Text() + "\n" + text
		} else {
			by = "the text below ---"
		}
		switch {
		case f.Type == "UNKNOWN_COMMIT_ID":
			continue // without a git clone it says so always; commits looks them up
		case f.Type == "COMMIT_LOG_LONG_LINE":
			line := 0
			fmt.Sscanf(f.Where, "line %d of the text", &line)
			if lines := strings.Split(m.Message, "\n"); line >= 1 && line <= len(lines) {
				if utf8.RuneCountInString(lines[line-1]) <= bodyWidth {
					continue // it counts bytes
				}
				if !c.found("body-width", f.Patch) {
					f.Fault, f.Do = false, "nothing, if the line is better kept whole"
				}
			}
		case mentions(text, f.Type):
			f.Fault, f.Do = false, ""
			f.Problem += " (explained in " + by + ")"
		}
		c.add(f)
	}
}

// mentions reports whether a text has the word.
func mentions(text, word string) bool {
	for rest := text; ; {
		i := strings.Index(rest, word)
		if i < 0 {
			return false
		}
		before, after := rest[:i], rest[i+len(word):]
		if !strings.HasSuffix(before, "_") && !strings.HasPrefix(after, "_") {
			return true
		}
		rest = after
	}
}

// A fed is a patch as checkpatch.pl reads it, and where each line stands.
type fed struct {
	text   bytes.Buffer
	places []string
}

func (f *fed) put(line, place string) {
	f.text.WriteString(line)
	f.text.WriteByte('\n')
	f.places = append(f.places, place)
}

var hunkHead = regexp.MustCompile(`^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@`)

// feed writes a patch as git format-patch does, whatever way it was mailed.
func feed(m *patchmail.Mail) *fed {
	f := &fed{}
	f.put("From: "+m.Author.String(), "From")
	f.put("Subject: "+oneLineOf(m.Subject), "Subject")
	f.put("", "Subject")
	for i, line := range strings.Split(m.Message, "\n") {
		f.put(line, fmt.Sprintf("line %d of the text", i+1))
	}
	f.put("---", "---")
	for i, line := range strings.Split(m.Below, "\n") {
		f.put(line, fmt.Sprintf("line %d below ---", i+1))
	}
	diff := m.Diff
	if i := bytes.LastIndex(diff, []byte("\n-- \n")); i >= 0 {
		diff = diff[:i+1]
	}
	name, line, before, after := "", 0, 0, 0
	for text := range strings.Lines(string(diff)) {
		text = strings.TrimSuffix(text, "\n")
		here := name
		switch h := hunkHead.FindStringSubmatch(text); {
		case before > 0 || after > 0:
			here = fmt.Sprintf("%s:%d", name, line)
			if !strings.HasPrefix(text, "+") {
				before--
			}
			if !strings.HasPrefix(text, "-") {
				after--
				line++
			}
		case h != nil:
			before, line, after = 1, number(h[2]), 1
			if h[1] != "" {
				before = number(h[1])
			}
			if h[3] != "" {
				after = number(h[3])
			}
		case strings.HasPrefix(text, "diff --git "), strings.HasPrefix(text, "+++ ") && !strings.HasPrefix(text, "+++ /dev/null"):
			name = text[strings.LastIndexByte(text, ' ')+1:]
			name = strings.TrimPrefix(strings.Split(name, "\t")[0], "b/")
			here = name
		}
		f.put(text, here)
	}
	// What is said of the whole patch stands at the last line.
	f.put("-- ", "")
	f.put("check", "")
	return f
}

func oneLineOf(s string) string { return strings.Join(strings.Fields(s), " ") }

// A checkScript is what a kind of tree has as its scripts/checkpatch.pl.
type checkScript struct {
	options []string
	message *regexp.Regexp // a line of it: number, severity, type, text
	// What makes a tree of that kind (top_of_kernel_tree in checkpatch.pl and
	// get_maintainer.pl), and what they read.
	files, dirs []string
}

var checkpatchOf = map[ktree.Kind]checkScript{
	// As of Linux 6.1 to 7.3.
	ktree.Linux: {
		options: []string{"--strict", "--show-types"},
		message: regexp.MustCompile(`^-:(\d+): (ERROR|WARNING|CHECK):([A-Z0-9_]+): (.*)$`),
		files: []string{
			"COPYING", "CREDITS", "Kbuild", "MAINTAINERS", "Makefile", "README", ".checkpatch.conf", ".get_maintainer.ignore",
			"scripts/checkpatch.pl", "scripts/get_maintainer.pl", "scripts/spelling.txt", "scripts/const_structs.checkpatch",
		},
		dirs: []string{"Documentation", "arch", "include", "drivers", "fs", "init", "ipc", "kernel", "lib", "scripts"},
	},
	// As of QEMU 10.0. It has no types, and its --strict only changes the exit code.
	ktree.QEMU: {
		message: regexp.MustCompile(`^-:(\d+): (ERROR|WARNING):()\s*(.*)$`),
		files:   []string{"COPYING", "MAINTAINERS", "Makefile", "README.rst", "VERSION", "scripts/checkpatch.pl", "scripts/get_maintainer.pl"},
		dirs:    []string{"docs", "linux-user", "system", "scripts"},
	},
}

var (
	nameLine = regexp.MustCompile(`(?m)^(?:\+\+\+\s+(\S+)|diff --git.*?(\S+)$)`)
)

// unsafeLine returns a line of a patch that checkpatch.pl takes for a file's name
// and that a shell would not take for a word, or "".
func unsafeLine(m *patchmail.Mail) string {
	for _, at := range nameLine.FindAllSubmatch(feed(m).text.Bytes(), -1) {
		for _, name := range at[1:] {
			if len(name) > 0 && (!plainPath.Match(name) || name[0] == '-') {
				return string(at[0])
			}
		}
	}
	return ""
}

// checkpatch runs the script in r on one patch.
func (r *root) checkpatch(ctx context.Context, n int, m *patchmail.Mail) ([]Finding, error) {
	in := feed(m)
	ctx, cancel := context.WithTimeoutCause(ctx, mostScript, fmt.Errorf("checkpatch.pl takes more than %v for patch %d", mostScript, n))
	defer cancel()
	// No .git: the script would run git in the clone that it stands in, and hand
	// licenses of the patch to a shell.
	env := append(environment(), "HOME="+r.dir, "GIT_DIR="+filepath.Join(r.dir, "no", "git"))
	args := append([]string{filepath.Join("scripts", "checkpatch.pl"), "--root=.", "--no-summary", "--terse", "--emacs", "--color=never"}, r.script.options...)
	stdout, stderr, err := run(ctx, r.dir, env, in.text.Bytes(), "perl", append(args, "-")...)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return nil, &ktree.MissingToolError{Tool: "perl", Package: "perl"}
	}
	var all []Finding
	for line := range strings.Lines(string(stdout)) {
		at := r.script.message.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if at == nil {
			continue
		}
		where := ""
		if i := number(at[1]); i >= 1 && i <= len(in.places) {
			where = in.places[i-1]
		}
		problem := at[2] + ": " + at[4]
		if at[3] != "" {
			problem = at[2] + " " + at[3] + ": " + at[4]
		}
		all = append(all, Finding{Patch: n, Rule: "checkpatch", Type: at[3], Where: where, Problem: problem})
	}
	// 0 is clean and 1 is not; all else is perl's.
	exit := (*exec.ExitError)(nil)
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1 || all == nil) {
		return nil, fmt.Errorf("scripts/checkpatch.pl, patch %d: %w: %s", n, err, clip(strings.TrimSpace(string(stderr)+string(stdout)), 400))
	}
	return all, nil
}

// A root is a folder that checkpatch.pl takes for a tree. It has what the script looks
// at.
type root struct {
	dir    string
	script checkScript
	h      *history
	at     int // the patch whose files are there as before it
}

// fill makes the folder as the tree is before all patches.
func (r *root) fill(ctx context.Context, src *source, s *patchmail.Series) error {
	for _, d := range r.script.dirs {
		if err := os.MkdirAll(filepath.Join(r.dir, d), 0o777); err != nil {
			return err
		}
	}
	for _, name := range r.script.files {
		f, err := src.file(name)
		if err != nil {
			return err
		}
		if !f.there() && name == "scripts/checkpatch.pl" {
			return &ktree.UnsupportedError{Name: src.tree.Origin(), Problem: "has no scripts/checkpatch.pl: give a whole tree"}
		}
		if f.there() {
			if err := put(r.dir, name, f); err != nil {
				return err
			}
		}
	}
	for name, f := range r.h.base {
		if err := r.put(name, f); err != nil {
			return err
		}
	}
	want := needs(s)
	for _, name := range want.files {
		f, err := src.file(name)
		if err == nil && f.there() {
			err = r.put(name, f)
		}
		if err != nil && ctx.Err() == nil {
			continue // it is no file: then it is nothing to look at
		}
	}
	copyFile := func(name string, data []byte) error {
		if _, err := os.Lstat(filepath.Join(r.dir, name)); err == nil {
			return nil
		}
		return r.put(name, file{mode: 0o100644, data: data})
	}
	if want.headers && src.tree.Kind() == ktree.Linux {
		err := src.walk(ctx, "include", func(name string) bool { return strings.HasSuffix(name, ".h") }, copyFile)
		if err != nil {
			return err
		}
	}
	if want.bindings != nil && src.tree.Kind() == ktree.Linux {
		return src.walk(ctx, "Documentation/devicetree/bindings", func(string) bool { return true }, func(name string, data []byte) error {
			if !slices.ContainsFunc(want.bindings, func(b string) bool { return bytes.Contains(data, []byte(b)) }) {
				return nil
			}
			return copyFile(name, data)
		})
	}
	return nil
}

// put writes a file of the series, but none that would be run or be obeyed: what
// comes in patches is only looked at.
func (r *root) put(name string, f file) error {
	switch {
	case slices.Contains(r.script.files, name) && (strings.HasSuffix(name, ".pl") || name[0] == '.'), strings.HasPrefix(name, "."),
		!plainPath.MatchString(name), f.there() && f.mode != 0o100644 && f.mode != 0o100755:
		return nil
	}
	if f.there() {
		f.mode = 0o100644
	}
	return put(r.dir, name, f)
}

// moveTo has the files be as they are before the patch of this index; it goes
// forward only.
func (r *root) moveTo(i int) error {
	for ; r.at < i; r.at++ {
		for name, f := range r.h.after[r.at] {
			if err := r.put(name, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// A need is what checkpatch.pl looks at beyond the files of the series.
type need struct {
	files    []string // whether they are there, or what they include
	headers  bool     // all of include/, for names in CamelCase that the kernel has
	bindings []string // what those device tree bindings have that are searched
}

var (
	absolute   = regexp.MustCompile(`(?:^|\s)(/\S+)`)
	asmInclude = regexp.MustCompile(`^\s*#\s*include\s*<asm/(.*)\.h>`)
	camelCase  = regexp.MustCompile(`[A-Z][a-z]|[a-z][A-Z]`)
	// Texts, comments, numbers, and the names that the script takes for granted.
	noCode     = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|//.*|/\*.*|^\s*\*.*|\b\d\w*|\b(?:Clear|Set|TestClear|TestSet|)Page[A-Z]\w*`)
	compatible = regexp.MustCompile(`compatible\s*=.*"`)
	quotedWord = regexp.MustCompile(`"([A-Za-z0-9,.+_-]+)"`)
)

func needs(s *patchmail.Series) need {
	var n need
	for _, m := range s.Patches {
		for _, at := range absolute.FindAllStringSubmatch(m.Message, 1000) {
			parts := strings.Split(strings.TrimRight(at[1], ":.,;)"), "/")
			for i := 1; i < len(parts) && i < 20; i++ {
				if name := strings.Join(parts[i:], "/"); inTree(name) {
					n.files = append(n.files, name)
				}
			}
		}
		for _, f := range m.Files {
			for _, h := range f.TextFragments {
				for _, l := range h.Lines {
					if at := asmInclude.FindStringSubmatch(l.Line); at != nil && inTree("include/linux/"+at[1]+".h") {
						n.files = append(n.files, "include/linux/"+at[1]+".h")
					}
				}
			}
		}
		for l := range added(m) {
			switch filepath.Ext(l.path) {
			case ".c", ".h", ".S", ".s", ".rs":
				n.headers = n.headers || camelCase.MatchString(noCode.ReplaceAllString(l.text, ""))
			}
			if compatible.MatchString(l.text) {
				n.bindings = append(n.bindings, "vendor-prefixes.yaml")
				for _, at := range quotedWord.FindAllStringSubmatch(l.text, 100) {
					vendor, _, _ := strings.Cut(at[1], ",")
					n.bindings = append(n.bindings, vendor)
				}
			}
		}
	}
	slices.Sort(n.files)
	n.files = slices.Compact(n.files)
	slices.Sort(n.bindings)
	n.bindings = slices.Compact(n.bindings)
	return n
}

// linkTree makes dir have the files of another folder, which must be replaced and
// not written to from then on.
func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o777)
		}
		return os.Link(name, filepath.Join(to, rel))
	})
}
