package series

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// A Mail is one file of git format-patch.
type Mail struct {
	Name string // of the file, without a folder
	Data []byte
}

// MailOptions say how a series is written as mails.
type MailOptions struct {
	Author  Ident
	SignOff bool   // add the author's Signed-off-by to each patch
	Version int    // of the series; 0 and 1 are not told
	Prefix  string // of the subjects, "" = "PATCH"
	RFC     bool   // put "RFC" before the prefix

	ChangeID  string  // the same for all versions of a series; "" for none
	Changelog string  // what is new in this version, to stand below "---"; "" for nothing
	Previous  []Patch // of the last version, for a range-diff; nil for none
}

// A MissingGitError says that there is no git to run.
type MissingGitError struct{ Err error }

func (e *MissingGitError) Error() string {
	return fmt.Sprintf("patches are written by git, which is not installed (%v): install the package git", e.Err)
}

func (e *MissingGitError) Unwrap() error { return e.Err }

var (
	// The words of git: builtin/log.c, make_cover_letter.
	coverBlurb = []byte("\n\n*** BLURB HERE ***\n")
	commitName = regexp.MustCompile(`^[0-9a-f]{40}$`)
	subjectTag = regexp.MustCompile(`^[!-Z\\^-~]+( [!-Z\\^-~]+)*$`)
)

// Check tells what is wrong with the options, whatever the series.
func (o MailOptions) Check() error {
	if _, err := o.prefix(); err != nil {
		return err
	}
	if strings.ContainsFunc(o.ChangeID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("the change-id %q is not one word of plain ASCII", o.ChangeID)
	}
	if err := checkText(o.Changelog); err != nil {
		return fmt.Errorf("changelog: %w", err)
	}
	_, err := o.Author.signature()
	return err
}

// Mail returns the series as git format-patch writes it: two and more patches
// with a cover letter before them. The base commit, if there is one, is named
// at the end of the first mail. The bytes depend on s, o and the
// version of git, which is the last line of each mail. Without git the error
// is a *MissingGitError.
func (s *Series) Mail(ctx context.Context, o MailOptions) ([]Mail, error) {
	prefix, err := o.prefix()
	if err != nil {
		return nil, err
	}
	if s.BaseCommit != "" && !commitName.MatchString(s.BaseCommit) {
		return nil, fmt.Errorf("the base commit %q is not 40 hex digits", s.BaseCommit)
	}
	who, err := o.Author.signature()
	if err != nil {
		return nil, err
	}
	messages, err := s.messages(who, o.SignOff)
	if err != nil {
		return nil, err
	}

	dir, err := os.MkdirTemp("", "patchgen-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r, err := newScratch(dir, s.Attributes)
	if err != nil {
		return nil, err
	}
	small, parts := s.shrink()
	base, tree, err := small.base(r, who)
	if err != nil {
		return nil, err
	}
	tip, err := small.commit(ctx, r, base, tree, who, messages)
	if err != nil {
		return nil, err
	}

	var title plumbing.Hash
	if len(s.Patches) > 1 {
		if title, err = s.title(r, base, tree, who); err != nil {
			return nil, fmt.Errorf("cover letter: %w", err)
		}
	}
	previous := ""
	if o.Previous != nil {
		if previous, err = commitPrevious(ctx, r, o.Previous, who); err != nil {
			return nil, fmt.Errorf("the version before: %w", err)
		}
	}
	if err := r.flush(); err != nil {
		return nil, err
	}

	args, want := []string{"--subject-prefix=" + prefix}, len(s.Patches)
	if previous != "" {
		// With another factor than 999 git would take a patch that was rewritten for
		// one that was dropped and another that is new.
		args = append(args, "--range-diff="+previous, "--creation-factor=999")
	}
	if o.Version > 1 {
		args = append(args, "-v", strconv.Itoa(o.Version))
		prefix += fmt.Sprintf(" v%d", o.Version)
	}
	if len(s.Patches) > 1 {
		args = append(args, "--cover-letter")
		want++
	}
	mails, err := r.formatPatch(ctx, who, "patches", want, append(args, base.String()+".."+tip.String())...)
	if err != nil {
		return nil, err
	}
	for i := range mails {
		if mails[i].Data, err = restore(mails[i].Data, parts); err != nil {
			return nil, fmt.Errorf("%s: %w", mails[i].Name, err)
		}
	}
	if len(mails) > 1 {
		digits := strconv.Itoa(len(s.Patches))
		texts, err := r.formatPatch(ctx, who, "cover", 1, "--always",
			fmt.Sprintf("--subject-prefix=%s %0*d/%s", prefix, len(digits), 0, digits), base.String()+".."+title.String())
		if err != nil {
			return nil, err
		}
		mails[0].Data, err = cover(mails[0].Data, texts[0].Data, o.Changelog != "")
		if err != nil {
			return nil, fmt.Errorf("cover letter: %w", err)
		}
	}
	return mails, o.complete(&mails[0], s.BaseCommit)
}

// complete puts into the first mail of a series what the whole of it has.
func (o MailOptions) complete(m *Mail, baseCommit string) error {
	text, end := cutSignature(m.Data)
	if o.Changelog != "" {
		// A cover letter has no such line; git begins its summary with the shortlog.
		before, after, found := bytes.Cut(text, []byte("\n---\n"))
		if !found {
			return fmt.Errorf("%s: there is no place for the changelog", m.Name)
		}
		text = fmt.Appendf(nil, "%s\n---\n%s\n\n%s", before, strings.Trim(o.Changelog, "\n"), after)
	}
	if baseCommit != "" || o.ChangeID != "" {
		text = fmt.Appendf(nil, "%s\n", text)
	}
	if baseCommit != "" {
		text = fmt.Appendf(text, "base-commit: %s\n", baseCommit)
	}
	if o.ChangeID != "" {
		text = fmt.Appendf(text, "change-id: %s\n", o.ChangeID)
	}
	m.Data = slices.Concat(text, end)
	return nil
}

// commitPrevious stores the patches of another version of a series, and returns
// them as a range of commits.
func commitPrevious(ctx context.Context, r *scratch, patches []Patch, who object.Signature) (string, error) {
	s := &Series{Name: "before", Patches: patches}
	base, tree, err := s.base(r, who)
	if err != nil {
		return "", err
	}
	messages, err := s.messages(who, false)
	if err != nil {
		return "", err
	}
	tip, err := s.commit(ctx, r, base, tree, who, messages)
	return base.String() + ".." + tip.String(), err
}

// prefix returns the words before the version in the brackets of a subject.
func (o MailOptions) prefix() (string, error) {
	prefix := o.Prefix
	if prefix == "" {
		prefix = "PATCH"
	}
	if !subjectTag.MatchString(prefix) {
		return "", fmt.Errorf("the subject prefix %q is not made of words of plain ASCII without brackets", prefix)
	}
	if o.Version < 0 {
		return "", fmt.Errorf("the series cannot have version %d", o.Version)
	}
	if o.RFC {
		prefix = "RFC " + prefix
	}
	return prefix, nil
}

// title stores an empty commit with the text of the cover letter.
func (s *Series) title(r *scratch, base, tree plumbing.Hash, who object.Signature) (plumbing.Hash, error) {
	m, err := message(s.Title, s.Blurb, "")
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return putCommit(r, tree, base, who, m)
}

// cover returns the cover letter. form is git's, with placeholders: shortlog
// and diffstat are taken from it. The headers and the text are those of title,
// which git wrote for a commit: before 2.44 it does not encode the headers of
// a cover letter. With a line "---" between text and summary, there is a place
// for a changelog, as b4 has it (b4: ez.py, DEFAULT_COVER and get_prep_branch_as_patches).
func cover(form, title []byte, line bool) ([]byte, error) {
	from, _, _ := bytes.Cut(form, []byte("\n"))
	_, summary, found := bytes.Cut(form, coverBlurb)
	_, letter, found2 := bytes.Cut(title, []byte("\n"))
	if !found || !found2 {
		return nil, errors.New("git wrote one of an unknown form")
	}
	letter, _ = cutSignature(letter)
	headers, text, _ := bytes.Cut(letter, []byte("\n\n"))
	if !isASCII(summary) && !bytes.Contains(headers, []byte("\nMIME-Version: ")) {
		headers = fmt.Appendf(nil, "%s\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit", headers)
	}
	if line {
		text = append(bytes.TrimRight(text, "\n"), "\n\n---\n"...)
		summary = bytes.TrimLeft(summary, "\n")
	}
	return fmt.Appendf(nil, "%s\n%s\n\n%s%s", from, headers, text, summary), nil
}

// cutSignature cuts a mail before git's signature, "-- " and the version.
func cutSignature(mail []byte) (text, end []byte) {
	i := max(0, bytes.LastIndex(mail, []byte("\n-- \n"))+1)
	return mail[:i], mail[i:]
}

func isASCII(b []byte) bool {
	return !bytes.ContainsFunc(b, func(r rune) bool { return r >= utf8.RuneSelf })
}

// formatPatch runs git format-patch with its output into the folder out of r,
// and returns the mails that it wrote, of which there must be as many as want.
func (r *scratch) formatPatch(ctx context.Context, who object.Signature, out string, want int, args ...string) ([]Mail, error) {
	if err := runGit(ctx, r.dir, who, append([]string{"format-patch", "-o", out}, args...)...); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(filepath.Join(r.dir, out))
	if err != nil {
		return nil, err
	}
	var mails []Mail
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(r.dir, out, f.Name()))
		if err != nil {
			return nil, err
		}
		mails = append(mails, Mail{f.Name(), data})
	}
	if len(mails) != want {
		return nil, fmt.Errorf("git format-patch wrote %d mails instead of %d", len(mails), want)
	}
	return mails, nil
}

// runGit runs git in the repository gitDir, with no configuration but that
// repository's own.
func runGit(ctx context.Context, gitDir string, who object.Signature, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // on which git removes its locks
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir = gitDir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"GIT_DIR=.",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ATTR_NOSYSTEM=1", "HOME=" + os.DevNull,
		"LC_ALL=C", "TZ=UTC",
		"GIT_COMMITTER_NAME=" + who.Name, "GIT_COMMITTER_EMAIL=" + who.Email,
		fmt.Sprintf("GIT_COMMITTER_DATE=@%d %s", who.When.Unix(), who.When.Format("-0700")),
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return &MissingGitError{err}
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
}

// MBox returns what Mail returned as one mbox file, as git format-patch
// --stdout writes it: with an empty line between patches.
func MBox(mails []Mail) []byte {
	var all []byte
	for i, m := range mails {
		if i > 1 {
			all = append(all, '\n')
		}
		all = append(all, m.Data...)
	}
	return all
}
