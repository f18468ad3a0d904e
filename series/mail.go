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
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
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
	Tool    string // last paragraph of the cover's text: what made the series; "" = none
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
	// Where the signature of a mail begins, if it is the last such line.
	signature = []byte("-- \n")
	commitName = regexp.MustCompile(`^[0-9a-f]{40}$`)
	subjectTag = regexp.MustCompile(`^[!-Z\\^-~]+( [!-Z\\^-~]+)*$`)
)

// Mail returns the series as git format-patch writes it: of two and more
// patches with a cover letter before them. The bytes depend on s, o and the
// version of git, which is the last line of each mail. Without git the error
// is a *MissingGitError.
func (s *Series) Mail(ctx context.Context, o MailOptions) ([]Mail, error) {
	prefix := o.Prefix
	if prefix == "" {
		prefix = "PATCH"
	}
	if !subjectTag.MatchString(prefix) {
		return nil, fmt.Errorf("the subject prefix %q is not made of words of plain ASCII without brackets", prefix)
	}
	if o.RFC {
		prefix = "RFC " + prefix
	}
	if o.Version < 0 {
		return nil, fmt.Errorf("the series cannot have version %d", o.Version)
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
	base, tree, err := s.base(r, who)
	if err != nil {
		return nil, err
	}
	tip, err := s.commit(r, base, tree, who, messages)
	if err != nil {
		return nil, err
	}

	args := []string{"-o", "out", "--subject-prefix=" + prefix}
	if o.Version > 1 {
		args = append(args, "-v", strconv.Itoa(o.Version))
		prefix += fmt.Sprintf(" v%d", o.Version)
	}
	if len(s.Patches) > 1 {
		args = append(args, "--cover-letter")
	}
	mails, err := r.formatPatch(ctx, append(args, base.String()+".."+tip.String())...)
	if err != nil {
		return nil, err
	}
	if len(mails) > 1 {
		if mails[0].Data, err = s.cover(ctx, r, mails[0].Data, base, tree, who, prefix, o.Tool); err != nil {
			return nil, fmt.Errorf("cover letter: %w", err)
		}
	}
	if s.BaseCommit != "" {
		text, end := cutSignature(mails[0].Data)
		mails[0].Data = fmt.Appendf(nil, "%s\nbase-commit: %s\n%s", text, s.BaseCommit, end)
	}
	return mails, nil
}

// cover returns the cover letter, of which git has written a form with
// placeholders. Shortlog and diffstat are taken from that. The headers and the
// text are those that git writes for a commit with such an author and message:
// before 2.44 it does not encode the headers of a cover letter.
func (s *Series) cover(ctx context.Context, r *scratch, form []byte, base, tree plumbing.Hash, who object.Signature, prefix, tool string) ([]byte, error) {
	m, err := message(s.Title, s.Blurb+"\n\n"+tool, "")
	if err != nil {
		return nil, err
	}
	commit, err := putCommit(r, tree, base, who, m)
	if err != nil {
		return nil, err
	}
	digits := strconv.Itoa(len(s.Patches))
	mails, err := r.formatPatch(ctx, "--always", "-o", "cover",
		fmt.Sprintf("--subject-prefix=%s %0*d/%s", prefix, len(digits), 0, digits), base.String()+".."+commit.String())
	if err != nil {
		return nil, err
	}
	from, _, _ := bytes.Cut(form, []byte("\n"))
	_, summary, found := bytes.Cut(form, coverBlurb)
	_, letter, found2 := bytes.Cut(mails[0].Data, []byte("\n"))
	if !found || !found2 {
		return nil, errors.New("git wrote one of an unknown form")
	}
	letter, _ = cutSignature(letter)
	headers, text, _ := bytes.Cut(letter, []byte("\n\n"))
	if !isASCII(summary) && !bytes.Contains(headers, []byte("\nMIME-Version: ")) {
		headers = append(headers, "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit"...)
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

// formatPatch runs git format-patch, whose arguments must begin with an option
// -o, and returns what it wrote.
func (r *scratch) formatPatch(ctx context.Context, args ...string) ([]Mail, error) {
