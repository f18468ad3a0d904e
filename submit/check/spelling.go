package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"patchgen/ktree"
	"patchgen/submit/patchmail"
)

// needTools returns a *ktree.MissingToolError if a program is missing.
func (c *checker) needTools(tree *ktree.Tree) error {
	if _, err := exec.LookPath("codespell"); err != nil {
		return &ktree.MissingToolError{Tool: "codespell", Package: "codespell"}
	}
	if _, err := exec.LookPath("perl"); err != nil && tree != nil {
		return &ktree.MissingToolError{Tool: "perl", Package: "perl", Hint: "scripts/checkpatch.pl is written in it"}
	}
	return nil
}

var (
	// What is no word: links, addresses, names of files, variables and options.
	noWord     = regexp.MustCompile(`\S+://\S+|\S+@\S+|<[^>\s]+>|\S*/\S+|\\[a-z]`)
	misspelled = regexp.MustCompile(`^(.*):(\d+): (\S+) ==> (.+)$`)
)

// A word is one that codespell does not like.
type word struct {
	n           int
	where, text string
	better      string
}

// spelling runs codespell on what the series adds: subjects, texts and lines of
// files. It uses the dictionary that checkpatch.pl --codespell takes.
func spelling(ctx context.Context, s *patchmail.Series) ([]word, time.Duration, error) {
	begin := time.Now()
	dir, err := os.MkdirTemp("", "patchgen-")
	if err != nil {
		return nil, 0, err
	}
	defer os.RemoveAll(dir)
	places := make(map[string][]spot) // by the name of the file; each line's place
	c := &checker{s: s}
	args := []string{"--builtin", "clear", "--disable-colors", "--quiet-level", "3", "--"}
	for n, m := range c.mails() {
		if m.Err != nil {
			continue
		}
		var lines []string
		var at []spot
		put := func(where, line string) {
			lines = append(lines, strings.Map(func(r rune) rune {
				if isControl(r) || r == '\n' || r == '\r' {
					return ' '
				}
				return r
			}, noWord.ReplaceAllString(strings.ToValidUTF8(line, "_"), " ")))
			at = append(at, spot{where: where})
		}
		put("Subject", m.Subject)
		text := strings.Split(m.Message, "\n")
		if n == 0 {
			text = strings.Split(letterText(m.Message), "\n")
		} else {
			for _, t := range m.Trailers() {
				text[t.Line-1] = "" // names
			}
		}
		for i, line := range text {
			put(fmt.Sprintf("line %d of the text", i+1), line)
		}
		for l := range added(m) {
			put(l.where(), l.text)
		}
		name := fmt.Sprintf("%05d.txt", n)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			return nil, 0, err
		}
		places[name] = at
		args = append(args, name)
	}
	stdout, stderr, err := run(ctx, dir, environment(), nil, "codespell", args...)
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 65 && len(stdout) == 0) {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		return nil, 0, fmt.Errorf("codespell: %w: %s", err, clip(strings.TrimSpace(string(stderr)), 200))
	}
	var words []word
	for line := range strings.Lines(string(stdout)) {
		w := misspelled.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if w == nil {
			continue
		}
		name := filepath.Base(w[1])
		i, err := strconv.Atoi(w[2])
		if at := places[name]; err == nil && i >= 1 && i <= len(at) {
			n, _ := strconv.Atoi(strings.TrimSuffix(name, ".txt"))
			words = append(words, word{n, at[i-1].where, w[3], w[4]})
		}
	}
	return words, time.Since(begin), nil
}

// misspelled adds what codespell found.
func (c *checker) misspelled(words []word) {
	spots := make(map[int][]spot)
	for _, w := range words {
		spots[w.n] = append(spots[w.n], spot{w.where, fmt.Sprintf("%q may be misspelled: %s", w.text, w.better)})
	}
	for n := range len(c.s.Patches) + 1 {
		c.faults("spelling", n, spots[n], "correct it")
	}
	c.tools = append(c.tools, "codespell")
}
