//go:build kernel

package kerneltest

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A finding is what checkpatch.pl says of a patch.
type finding struct {
	patch int    // counted from 1
	file  string // that the patch changes; for a finding about the message its last one, or ""
	kind  string // such as "FILE_PATH_CHANGES"
	text  string
}

var findingLine = regexp.MustCompile(`^(?:(\S+):\d+: )?(?:ERROR|WARNING|CHECK):([A-Z0-9_]+): (.*)$`)

// checkpatch has the tree's own checkpatch.pl read the patches. Whatever it
// finds, the cover letter must name with its type and its file or patch.
func (s *series) checkpatch(t *testing.T) {
	for i, file := range s.patches {
		findings, err := s.findings(t, i+1, file)
		if err != nil {
			t.Error(err)
		}
		for _, f := range findings {
			where := fmt.Sprintf("%d/%d %s: %s: %s", f.patch, len(s.patches), f.file, f.kind, f.text)
			if s.explained(f) {
				t.Log("explained by the cover letter: ", where)
			} else {
				t.Error(where)
			}
		}
	}
}

func (w *work) findings(t *testing.T, number int, patch string) ([]finding, error) {
	cmd := w.command(t, w.src(), nil, "perl", "scripts/checkpatch.pl",
		"--strict", "--terse", "--showfile", "--show-types", "--no-summary", "--color=never", patch)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	// Exit code 1 stands for findings.
	if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1 && len(out) > 0) {
		return nil, fmt.Errorf("checkpatch.pl %s: %v\n%s%s", patch, err, out, stderr.Bytes())
	}
	var findings []finding
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if m := findingLine.FindStringSubmatch(line); m != nil {
			findings = append(findings, finding{number, m[1], m[2], m[3]})
		} else if line != "" && !strings.HasPrefix(line, "total: ") {
			return nil, fmt.Errorf("checkpatch.pl %s prints %q", patch, line)
		}
	}
	if err != nil && findings == nil {
		return nil, fmt.Errorf("checkpatch.pl %s: %v\n%s%s", patch, err, out, stderr.Bytes())
	}
	return findings, nil
}

var word = regexp.MustCompile(`[\w./-]+`)

// explained tells if a paragraph or list item of the cover letter names the
// finding's type, and the patch as N/M or the file.
func (s *series) explained(f finding) bool {
	var item []string
	named := func() bool {
		where := slices.Contains(item, fmt.Sprintf("%d/%d", f.patch, len(s.patches))) ||
			f.file != "" && (slices.Contains(item, f.file) || slices.Contains(item, path.Base(f.file)))
		return where && slices.Contains(item, f.kind)
	}
	for line := range strings.Lines(s.cover) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "- ") {
			if named() {
				return true
			}
			item = nil
		}
		for _, w := range word.FindAllString(line, -1) {
			item = append(item, strings.TrimRight(w, "."))
		}
	}
	return named()
}
