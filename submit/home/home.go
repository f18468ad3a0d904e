// Package home is the folder in which a series lives from its first version to
// its last: what it is, whom it goes to, and what was sent.
//
//	patchgen.toml     written once, then a person's own
//	v2/               the mails of a version
//	v2.receipt.json   how it was tested
//	v2.sending/       what of it has gone out; sent/v2 when it is all
//	sent/v1/          a version that was sent: its mails, and what the server said
package home

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"patchgen/series"
	"patchgen/submit/patchmail"
)

// File is the name of the file that makes a folder a home.
const File = "patchgen.toml"

const maxFile = 1 << 20 // bytes of File

// A Home is what stands in patchgen.toml.
type Home struct {
	Dir string `toml:"-"` // the folder

	Series   string   `toml:"series"`
	Variant  string   `toml:"variant"`
	Tree     string   `toml:"tree"`
	Author   string   `toml:"author"` // "Name <address>"; "" is whom git knows
	SignOff  bool     `toml:"signoff"`
	Prefix   string   `toml:"prefix"`
	RFC      bool     `toml:"rfc"`
	ChangeID string   `toml:"change-id"`
	To       []string `toml:"to"`
	Cc       []string `toml:"cc"`

	Changelog map[string]string `toml:"changelog"` // by "v2" and so on
}

// A FileError says what is wrong with a patchgen.toml.
type FileError struct {
	File    string // its path
	Problem string // with what to do about it
}

func (e *FileError) Error() string { return e.File + ": " + e.Problem }

var (
	changeID = regexp.MustCompile(`^[0-9]{8}-[A-Za-z0-9.-]+-[0-9a-f]{12}$`)
	oneOf    = regexp.MustCompile(`^v([1-9][0-9]{0,3})$`)
)

// Open reads the home in a folder. The error wraps fs.ErrNotExist if the folder
// is none, and is a *FileError if its file is not to be understood.
func Open(dir string) (*Home, error) {
	name := filepath.Join(dir, File)
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, &FileError{name, fmt.Sprintf("is no file of at most %d bytes", maxFile)}
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	h, err := parse(data)
	if err != nil {
		return nil, &FileError{name, err.Error()}
	}
	h.Dir = dir
	return h, nil
}

func parse(data []byte) (*Home, error) {
	h := &Home{Series: "dma-mark-dirty", Variant: "full", Prefix: "PATCH"}
	if !utf8.Valid(data) {
		return nil, errors.New("is not UTF-8")
	}
	meta, err := toml.Decode(string(data), h)
	if err != nil {
		var at toml.ParseError
		if errors.As(err, &at) {
			return nil, fmt.Errorf("line %d: %s", at.Position.Line, at.Message)
		}
		return nil, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("there is no setting %q: see the comments of a new one, which patchgen emit --home writes", unknown[0].String())
	}
	if !changeID.MatchString(h.ChangeID) {
		return nil, fmt.Errorf("change-id %q is not YYYYMMDD-NAME-<12 hex digits>: give the one that the first version was sent with, or make a new home", h.ChangeID)
	}
	if h.Author != "" {
		if a, err := mail.ParseAddress(h.Author); err != nil || a.Name == "" {
			return nil, fmt.Errorf("author = %q: want \"Name <address>\"", h.Author)
		}
	}
	for key, list := range map[string][]string{"to": h.To, "cc": h.Cc} {
		for _, a := range list {
			if _, err := mail.ParseAddress(a); err != nil {
				return nil, fmt.Errorf("%s = %q: want \"Name <address>\" or \"address\"", key, a)
			}
		}
	}
	for version, text := range h.Changelog {
		if !oneOf.MatchString(version) || version == "v1" {
			return nil, fmt.Errorf("[changelog] %q: want v2, v3 and so on", version)
		}
		if err := checkLog(text); err != nil {
			return nil, fmt.Errorf("[changelog] %s: %w", version, err)
		}
	}
	return h, nil
}

// checkLog refuses what would end the text before a diff, or reach into headers.
func checkLog(text string) error {
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "diff -") || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "-- ") || strings.HasPrefix(line, "@@ ") ||
			strings.HasPrefix(line, "Index: ") || strings.HasPrefix(line, "From ") {
			return fmt.Errorf("line %d, %q, looks like a part of a patch: reword it or indent it", i+1, line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return fmt.Errorf("line %d has a control character", i+1)
		}
	}
	return nil
}

var fresh = template.Must(template.New(File).Funcs(template.FuncMap{"q": strconv.Quote}).Parse(
	`# The home of a patch series. patchgen emit, check, test and send read this
# file and never change it.

series = {{q .Series}}
variant = {{q .Variant}}

# The tree that it is for.
tree = {{q .Tree}}

# Who it is from; without it, whom git knows.
{{if .Author}}author = {{q .Author}}{{else}}# author = "Name <address>"{{end}}
# Add the author's Signed-off-by: see "Developer's Certificate of Origin" in
# Documentation/process/submitting-patches.rst.
signoff = {{.SignOff}}

# [PATCH v2 3/6], [RFC PATCH 0/3], [PATCH net-next].
prefix = {{q .Prefix}}
rfc = {{.RFC}}

# Whoever gets it besides those that the tree's get_maintainer.pl names.
to = []
cc = []

# The same in all versions, so that b4 and others know them as one series.
change-id = {{q .ChangeID}}

# What is new in each version; without it, none is written.
[changelog]
# v2 = """
# - what was changed, and who had asked for it
# """
`))

// Create makes dir a home, which is not one yet, with a new change-id.
func Create(dir string, h Home, now time.Time) (*Home, error) {
	var random [6]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	h.Dir = dir
	h.ChangeID = fmt.Sprintf("%s-%s-%s", now.Format("20060102"), h.Series, hex.EncodeToString(random[:]))
	var text bytes.Buffer
	if err := fresh.Execute(&text, h); err != nil {
		return nil, err
	}
	if _, err := parse(text.Bytes()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(dir, "."+File+"-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text.Bytes())
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return nil, err
	}
	// Unlike a rename, this never replaces a file.
	if err := os.Link(tmp.Name(), filepath.Join(dir, File)); err != nil {
		return nil, err
	}
	return &h, nil
}

// Of finds the home that a path is in: the home itself, or the mails of a version
// of it. Version is 0 for the home itself. The error wraps fs.ErrNotExist if the
// path is in none.
func Of(path string) (h *Home, version int, err error) {
	if h, err := Open(path); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return h, 0, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, 0, err
	}
	m := oneOf.FindStringSubmatch(filepath.Base(path))
	if m == nil {
		return nil, 0, &fs.PathError{Op: "find the home of", Path: path, Err: fs.ErrNotExist}
	}
	version, _ = strconv.Atoi(m[1])
	h, err = Open(filepath.Dir(path))
	return h, version, err
}

// Next is the version that is worked on: the one behind the last that was sent.
func (h *Home) Next() (int, error) {
	last, err := h.LastSent()
	return last + 1, err
}

// LastSent is the last version that was sent, 0 if none was.
func (h *Home) LastSent() (int, error) {
	entries, err := os.ReadDir(filepath.Join(h.Dir, "sent"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	last := 0
	for _, e := range entries {
		if m := oneOf.FindStringSubmatch(e.Name()); m != nil {
			n, _ := strconv.Atoi(m[1])
			last = max(last, n)
		}
	}
	return last, nil
}

// Mails is the folder of a version's mails.
func (h *Home) Mails(version int) string { return filepath.Join(h.Dir, fmt.Sprintf("v%d", version)) }

// Receipt is the file of how a version was tested.
func (h *Home) Receipt(version int) string { return h.Mails(version) + ".receipt.json" }

// Sending is the folder of a version of which not all has gone out.
func (h *Home) Sending(version int) string { return h.Mails(version) + ".sending" }

// Sent is the folder of a version as it was sent.
func (h *Home) Sent(version int) string {
	return filepath.Join(h.Dir, "sent", fmt.Sprintf("v%d", version))
}

// A ChangelogError says that the home does not tell what is new in a version.
type ChangelogError struct {
	File    string
	Version int
}

func (e *ChangelogError) Error() string {
	return fmt.Sprintf("%s does not say what is new in version %d: add v%d to its [changelog]", e.File, e.Version, e.Version)
}

// MailOptions returns how a version is written: with what is new in it, a link to
// the version that was sent before, and a range-diff to it, if one was sent. The
// error is a *ChangelogError if a second or later version has no changelog.
func (h *Home) MailOptions(version int) (series.MailOptions, error) {
	o := series.MailOptions{SignOff: h.SignOff, Version: version, Prefix: h.Prefix, RFC: h.RFC, ChangeID: h.ChangeID}
	if version < 2 {
		return o, nil
	}
	text := h.Changes(version)
	if text == "" {
		return o, &ChangelogError{filepath.Join(h.Dir, File), version}
	}
	o.Changelog = fmt.Sprintf("Changes in v%d:\n%s", version, text)
	last, err := h.LastSent()
	if err != nil || last == 0 {
		return o, err
	}
	sent, err := h.sent(last)
	if err != nil {
		return o, fmt.Errorf("what was sent as version %d: %w", last, err)
	}
	if id := strings.Trim(sent.Mails()[0].Header.Get("Message-Id"), "<> "); id != "" {
		o.Changelog += fmt.Sprintf("\n- Link to v%d: https://lore.kernel.org/r/%s", last, id)
	}
	if o.Previous, err = sent.Sparse(); err != nil {
		return o, fmt.Errorf("what was sent as version %d: %w", last, err)
	}
	return o, nil
}

// sent reads a version as it was sent: by patchgen, or by other means, if a person
// has put the mails there.
func (h *Home) sent(version int) (*patchmail.Series, error) {
	s, err := patchmail.Read(filepath.Join(h.Sent(version), "mails"))
	if errors.Is(err, fs.ErrNotExist) {
		return patchmail.Read(h.Sent(version))
	}
	return s, err
}

// Changes is what is new in a version, without newlines at its ends; "" if the
// file does not say it.
func (h *Home) Changes(version int) string {
	return strings.Trim(h.Changelog[fmt.Sprintf("v%d", version)], "\n")
}
