package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/spf13/pflag"

	"patchgen/series"
	"patchgen/submit/home"
	"patchgen/submit/receipt"
	"patchgen/submit/send"
)

const emitUsage = `patchgen emit writes a series for a tree, as git format-patch would.

Usage:
    patchgen emit [--series NAME] [--tree TREE] [-o DIR] [flags]

The series dma-mark-dirty is for Linux, and qemu-page-dirtying for QEMU. It prints where each edit went and how that place was found, then the files.
Nothing is written unless every edit found its one place.

A series that is to be sent, and sent again, has a home: a folder with a
patchgen.toml, which the first emit --home makes from its flags. There the mails of
version 2 are in v2/, with the changelog of patchgen.toml, a link to what was sent as
version 1 and the range-diff to it; v2.receipt.json keeps how they were tested, and the
cover letter tells it.

Examples:
    $ patchgen emit --tree debian:6.12 -o out
    $ patchgen emit --series qemu-page-dirtying --tree ~/qemu -o out
    $ patchgen emit --tree ~/linux@v6.12 --home dirty --signoff
    $ patchgen emit --home dirty

Flags:
`

type emitFlags struct {
	treeFlags
	series, variant, output, format, branch string
	home                                    string
	from, date, prefix                      string
	version                                 int
	signoff, rfc, force, asJSON, quiet      bool
}

func emit(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := emitFlags{}
	set := pflag.NewFlagSet("emit", pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	f.treeFlags.add(set)
	set.StringVar(&f.series, "series", linuxSeries, "`NAME` of the series")
	set.StringVar(&f.variant, "variant", "full", "`VARIANT` of the series")
	set.StringVarP(&f.output, "output-directory", "o", "", "`DIR` for the mails (default: the series' name)")
	set.StringVar(&f.home, "home", "", "write to the series' home `DIR`, and make it if it is none")
	set.StringVar(&f.format, "format", "patches", "`FORMAT`: patches (a file each) or mbox (one file)")
	set.StringVar(&f.branch, "branch", "", "add the commits to the clone as the new branch `NAME`, and write no mails")
	set.IntVarP(&f.version, "reroll-count", "v", 0, "`N`, the version of the series, for [PATCH vN]")
	set.BoolVar(&f.rfc, "rfc", false, "[RFC PATCH] instead of [PATCH]")
	set.StringVar(&f.prefix, "prefix", "PATCH", "subject `PREFIX`")
	set.StringVar(&f.from, "from", "", "author, \"`Name <address>`\" (default: git's)")
	set.StringVar(&f.date, "date", "", "`DATE` of the mails, 2006-01-02T15:04:05Z or seconds since 1970 (default: now)")
	set.BoolVarP(&f.signoff, "signoff", "s", false, "add the author's Signed-off-by")
	set.BoolVar(&f.force, "force", false, "overwrite files that patchgen did not write")
	set.BoolVarP(&f.quiet, "quiet", "q", false, "print the files only, not where the edits went")
	set.BoolVar(&f.asJSON, "json", false, "print both as JSON")
	if done, err := parse(set, emitUsage, args, stdout); done {
		return err
	}
	if set.NArg() > 0 {
		return &usageError{fmt.Errorf("emit takes no argument %q", set.Arg(0)), "the tree is given with --tree, the folder with -o"}
	}
	if f.format != "patches" && f.format != "mbox" {
		return usagef("--format %s: want patches or mbox", f.format)
	}
	if set.Changed("reroll-count") && f.version < 1 {
		return usagef("-v %d: versions count from 1", f.version)
	}
	if f.branch != "" && f.output != "" {
		return usagef("--branch %s and -o %s: one output at a time", f.branch, f.output)
	}
	if f.home != "" && (f.output != "" || f.branch != "" || f.format != "patches") {
		return usagef("--home %s: the mails go there, and so there is no -o, --branch or --format", f.home)
	}
	h, err := f.openHome(set)
	if err != nil {
		return err
	}
	if f.output == "" {
		f.output = f.series
	}
	return f.run(ctx, h, stdout, stderr)
}

// openHome reads the home, if there is one already, and takes from it what the flags
// do not say. It returns nil if there is none.
func (f *emitFlags) openHome(set *pflag.FlagSet) (*home.Home, error) {
	if f.home == "" {
		return nil, nil
	}
	h, err := home.Open(f.home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &usageError{err: err}
	}
	for _, name := range []string{"series", "variant", "from", "prefix", "rfc", "signoff"} {
		if set.Changed(name) {
			return nil, &usageError{fmt.Errorf("--%s: the home %s has settings of its own", name, f.home), "change them in " + filepath.Join(f.home, home.File)}
		}
	}
	f.series, f.variant, f.from = h.Series, h.Variant, h.Author
	if f.tree == "" {
		f.tree = h.Tree
	}
	last, err := h.LastSent()
	if err != nil {
		return nil, err
	}
	if f.version == 0 {
		f.version = last + 1
	}
	if f.version <= last {
		return nil, &usageError{fmt.Errorf("-v %d: version %d was sent already, and is kept in %s", f.version, last, h.Sent(last)), fmt.Sprintf("the next is -v %d", last+1)}
	}
	return h, halfSent(h, last+1)
}

// halfSent returns an error if a version is on its way: what is to be sent of it must
// not become another, nor a later version pass over what others have of it.
func halfSent(h *home.Home, version int) error {
	sending := h.Sending(version)
	out, all, err := send.Begun(sending)
	if err != nil || out == 0 {
		return err
	}
	return &usageError{fmt.Errorf("%d of %d mails of version %d are out", out, all, version),
		fmt.Sprintf("send the rest with patchgen send %s --yes; or give it up, and go on with version %d: mkdir -p %s && mv %s %s",
			h.Dir, version+1, filepath.Dir(h.Sent(version)), sending, h.Sent(version))}
}

// newHome makes the home that the flags tell of.
func (f *emitFlags) newHome(author series.Ident) (*home.Home, error) {
	if f.version > 1 {
		return nil, usagef("-v %d: the home %s is new, and begins with version 1", f.version, f.home)
	}
	f.version = 1
	h, err := home.Create(f.home, home.Home{
		Series: f.series, Variant: f.variant, Tree: f.tree, Author: fmt.Sprintf("%s <%s>", author.Name, author.Email), SignOff: f.signoff, Prefix: f.prefix, RFC: f.rfc,
	}, time.Now())
	if err != nil {
		return nil, &usageError{fmt.Errorf("make the home %s: %w", f.home, err), "choose another folder with --home"}
	}
	return h, nil
}

func (f *emitFlags) run(ctx context.Context, h *home.Home, stdout, stderr io.Writer) error {
	set, err := loadSeries(f.series, f.variant)
	if err != nil {
		return err
	}
	if f.tree == "" {
		f.tree = defaultTreeOf(set.Kind)
	}
	author, err := f.author(ctx)
	if err != nil {
		return err
	}
	options := series.MailOptions{SignOff: f.signoff, Version: f.version, Prefix: f.prefix, RFC: f.rfc}
	if h != nil {
		if options, err = h.MailOptions(f.version); err != nil {
			return &usageError{err, "then emit again; nothing was written"}
		}
	}
	options.Author = author
	if err := options.Check(); err != nil {
		return &usageError{err: err}
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	tree, err := f.open(ctx, cache, newReporter(stderr))
	if err != nil {
		return err
	}
	defer tree.Close()
	if f.branch != "" && tree.Repository() == nil {
		return usagef("--branch %s: %s is no git clone", f.branch, f.tree)
	}
	render := series.RenderOptions{Tool: tool, Call: "--series " + f.series + " --variant " + f.variant}
	s, err := series.Render(tree, set, f.variant, render)
	if err != nil {
		return err
	}
	if f.home != "" && h == nil {
		// Now that there is something to put into it.
		if h, err = f.newHome(author); err != nil {
			return err
		}
		if options, err = h.MailOptions(f.version); err != nil {
			return err
		}
		options.Author = author
	}
	if changed := tree.Uncommitted(); len(changed) > 0 {
		fmt.Fprintf(stderr, "patchgen: note: the series is for the commit, uncommitted changes are not seen: %s\n", strings.Join(changed, ", "))
	}
	mails, err := s.Mail(ctx, options)
	if err != nil {
		return err
	}
	var made *receipt.Receipt
	if h != nil {
		if made, err = receiptOf(ctx, h.Receipt(f.version), mails, stderr); err != nil {
			return err
		}
		if render.Testing = made.Testing(); render.Testing != "" {
			// The same patches, and a cover letter that tells how they were tested.
			if s, err = series.Render(tree, set, f.variant, render); err != nil {
				return err
			}
			if mails, err = s.Mail(ctx, options); err != nil {
				return err
			}
		}
		made.SetSeries(s, receipt.Templates{Series: f.series, Variant: f.variant, Digest: set.Digest(), Generation: s.Generation})
		f.output = h.Mails(f.version)
	}
	if err := series.Verify(s, mails); err != nil {
		return fmt.Errorf("the patches do not give what was rendered: %w", err)
	}

	var files []string
	var tip string
	if f.branch != "" {
		hash, err := s.Branch(ctx, tree.Repository(), plumbing.NewHash(tree.Commit()), f.branch, author, f.signoff)
		if err != nil {
			return &usageError{err, "nothing was added to the clone"}
		}
		tip = hash.String()
	} else {
		if f.format == "mbox" {
			mails = []series.Mail{{Name: f.mboxName(), Data: series.MBox(mails)}}
		}
		before, _ := filepath.Glob(filepath.Join(f.output, "*.patch"))
		err := series.Write(f.output, mails, writeOptions(cache, f.force))
		if changed := (*series.OccupiedError)(nil); h != nil && errors.As(err, &changed) && changed.Changed {
			return &usageError{err, "emit writes the mails of a home anew: copy what you changed, say --force, and put it in again. It is best changed last, as send takes the mails as they are"}
		}
		if err := folderNotWritten(f.output, err); err != nil {
			return err
		}
		tellGone(stderr, before)
		for _, m := range mails {
			files = append(files, filepath.Join(f.output, m.Name))
		}
	}
	if h != nil {
		if err := writeReceipt(made, h.Receipt(f.version), writeOptions(cache, f.force)); err != nil {
			return err
		}
	}
	if err := f.report(stdout, s, files, tip); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "patchgen: %s for %v %s (generation %s), read from %d files of %s\n",
		count(len(s.Patches), "patch"), s.Kind, s.Release, s.Generation, len(tree.Read()), s.Origin)
	return nil
}

// tellGone tells of files of an earlier version that are no more.
func tellGone(stderr io.Writer, before []string) {
	gone := slices.DeleteFunc(before, func(file string) bool {
		_, err := os.Stat(file)
		return err == nil
	})
	if len(gone) > 0 {
		fmt.Fprintf(stderr, "patchgen: note: %s of an earlier run made way for these, such as %s\n", count(len(gone), "file"), gone[0])
	}
}

func (f *emitFlags) mboxName() string {
	name := f.series + ".mbox"
	if f.version > 1 {
		name = fmt.Sprintf("v%d-%s", f.version, name)
	}
	return name
}

// report prints where the edits went, and the files.
func (f *emitFlags) report(w io.Writer, s *series.Series, files []string, tip string) error {
	if f.asJSON {
		return writeJSON(w, s, files, f.branch, tip)
	}
	if !f.quiet {
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		fmt.Fprintln(t, "PATCH\tFILE\tLINE\tFUNCTION\tHOW THE PLACE WAS FOUND")
		for i, p := range s.Patches {
			printPlaces(t, fmt.Sprint(i+1, "\t"), p)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, name := range files {
		if _, err := fmt.Fprintln(w, name); err != nil {
			return err
		}
	}
	if tip != "" {
		if _, err := fmt.Fprintf(w, "branch %s at %s\n", f.branch, tip); err != nil {
			return err
		}
	}
	return nil
}

func writeJSON(w io.Writer, s *series.Series, files []string, branch, tip string) error {
	type editJSON struct {
		File     string `json:"file"`
		Line     int    `json:"line"`
		Function string `json:"function,omitempty"`
		How      string `json:"how"`
	}
	type patchJSON struct {
		Subject string     `json:"subject"`
		New     []string   `json:"new,omitempty"`
		Edits   []editJSON `json:"edits"`
	}
	out := struct {
		Release    string      `json:"release"`
		Origin     string      `json:"origin"`
		BaseCommit string      `json:"base_commit,omitempty"`
		Generation string      `json:"generation"`
		Patches    []patchJSON `json:"patches"`
		Files      []string    `json:"files,omitempty"`
		Branch     string      `json:"branch,omitempty"`
		Tip        string      `json:"tip,omitempty"`
	}{s.Release, s.Origin, s.BaseCommit, s.Generation, nil, files, branch, tip}
	for _, p := range s.Patches {
		pj := patchJSON{Subject: p.Subject, Edits: []editJSON{}}
		for _, c := range p.Changes {
			if c.Before == nil {
				pj.New = append(pj.New, c.Path)
			}
		}
		for _, e := range p.Edits {
			pj.Edits = append(pj.Edits, editJSON{e.File, e.Line, e.Function, e.How})
		}
		out.Patches = append(out.Patches, pj)
	}
	return printJSON(w, out)
}

// author is who the patches are from, and when: what git would take, unless the
// flags say otherwise.
func (f *emitFlags) author(ctx context.Context) (series.Ident, error) {
	var id series.Ident
	if f.from != "" {
		a, err := mail.ParseAddress(f.from)
		if err != nil || a.Name == "" {
			return id, usagef("--from %q: want \"Name <address>\"", f.from)
		}
		id = series.Ident{Name: a.Name, Email: a.Address, When: time.Now()}
	} else {
		var err error
		id, err = gitAuthor(ctx, f.tree)
		if err != nil {
			return id, err
		}
	}
	if f.date != "" {
		when, err := parseDate(f.date)
		if err != nil {
			return id, usagef("--date %q: want 2006-01-02T15:04:05Z, 2006-01-02T15:04:05+01:00 or seconds since 1970", f.date)
		}
		id.When = when
	}
	return id, nil
}

// gitAuthor asks git who the author is, in the clone if there is one there: its
// configuration may differ from the person's.
func gitAuthor(ctx context.Context, tree string) (series.Ident, error) {
	cmd := exec.CommandContext(ctx, "git", "var", "GIT_AUTHOR_IDENT")
	for _, dir := range []string{tree, tree[:max(strings.LastIndex(tree, "@"), 0)]} {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			cmd.Dir = dir
			break
		}
	}
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return series.Ident{}, &series.MissingGitError{Err: err}
	}
	if err != nil {
		return series.Ident{}, &usageError{errors.New("git does not know who you are"),
			`say it with --from "Name <address>", or to git: git config --global user.name and user.email`}
	}
	// Name <address> SECONDS ZONE, as in ident.c.
	line := strings.TrimSpace(string(out))
	end := strings.LastIndex(line, "> ")
	start := strings.LastIndex(line[:max(end, 0)], " <")
	if start < 0 {
		return series.Ident{}, fmt.Errorf("git var GIT_AUTHOR_IDENT says %q", line)
	}
	id := series.Ident{Name: line[:start], Email: line[start+2 : end]}
	seconds, zone, _ := strings.Cut(line[end+2:], " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return series.Ident{}, fmt.Errorf("git var GIT_AUTHOR_IDENT says %q", line)
	}
	id.When = time.Unix(n, 0)
	if z, err := time.Parse("-0700", zone); err == nil {
		id.When = id.When.In(z.Location())
	}
	return id, nil
}

func parseDate(s string) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Parse(time.RFC3339, s)
}
