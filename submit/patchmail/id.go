package patchmail

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"patchgen/series"
)

// An ID names a patch by its contents.
type ID struct {
	// PatchID is what git patch-id --stable says, 40 hex digits: the same for
	// the same change at other lines and in other white space. "" without a diff.
	PatchID string `json:"patch_id"`
	// SHA256 is of all that the patch says, 64 hex digits: of its mail without what
	// another day or another way of sending changes.
	SHA256 string `json:"sha256"`
}

// IDs returns the IDs of the mails, in their order. The error is a
// *series.MissingGitError if there is no git.
func IDs(ctx context.Context, mails []*Mail) ([]ID, error) {
	var in bytes.Buffer
	for i, m := range mails {
		// git tells which is which by the name of the commit, and ends a patch there.
		fmt.Fprintf(&in, "From %040x Mon Sep 17 00:00:00 2001\n\n%s\n", i+1, m.Diff)
	}
	cmd := exec.CommandContext(ctx, "git", "patch-id", "--stable")
	cmd.Env = append(os.Environ(), "GIT_DIR="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, &series.MissingGitError{Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("git patch-id: %w", err)
	}
	ids := make([]ID, len(mails))
	for line := range strings.Lines(string(out)) {
		var id string
		var n int
		if _, err := fmt.Sscanf(line, "%40s %x", &id, &n); err != nil || n < 1 || n > len(ids) {
			return nil, fmt.Errorf("git patch-id printed %q", line)
		}
		ids[n-1].PatchID = id
	}
	for i, m := range mails {
		ids[i].SHA256 = m.digest()
	}
	return ids, nil
}

// digest covers the author, the subject with its tags, and the text down to
// git's version: not the date, the name of the commit, nor the headers of a
// sent mail.
func (m *Mail) digest() string {
	h := sha256.New()
	text := m.Text()
	diff := m.Diff
	if i := bytes.LastIndex(diff, []byte("\n-- \n")); i >= 0 {
		diff = diff[:i+1]
	}
	fmt.Fprintf(h, "%q %q\n%q\n%q\n%q", m.Author.Name, m.Author.Address, m.Subject, text, bytes.TrimRight(diff, "\n"))
	return fmt.Sprintf("%x", h.Sum(nil))
}
