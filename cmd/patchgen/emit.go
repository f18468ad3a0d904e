package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/spf13/pflag"

	"patchgen/series"
	"patchgen/templates"
)

const emitUsage = `patchgen emit writes the series for a kernel tree, as git format-patch would.

Usage:
    patchgen emit [--tree TREE] [-o DIR] [flags]

It prints where each edit went and how that place was found, then the files.
Nothing is written unless every edit found its one place.

Flags:
`

type emitFlags struct {
	treeFlags
	series, variant, output, format, branch string
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
	set.StringVar(&f.series, "series", "dma-mark-dirty", "`NAME` of the series")
	set.StringVar(&f.variant, "variant", "full", "`VARIANT` of the series")
	set.StringVarP(&f.output, "output-directory", "o", "", "`DIR` for the mails (default: the series' name)")
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
	if err := set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			_, err := fmt.Fprint(stdout, emitUsage, set.FlagUsages())
			return err
		}
		return &usageError{err, `see "patchgen emit --help"`}
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
	if f.tree == "" {
		f.tree = defaultTree()
	}
	if f.branch != "" && f.output != "" {
		return usagef("--branch %s and -o %s: one output at a time", f.branch, f.output)
	}
	if f.output == "" {
		f.output = f.series
	}
	return f.run(ctx, stdout, stderr)
}

func (f *emitFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	set, err := templates.Load(f.series)
	if err != nil {
		return &usageError{err: err}
	}
	if _, err := set.Variant(f.variant); err != nil {
		return &usageError{err: err}
	}
	author, err := f.author(ctx)
	if err != nil {
		return err
	}
	options := series.MailOptions{Author: author, SignOff: f.signoff, Version: f.version, Prefix: f.prefix, RFC: f.rfc}
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
	s, err := series.Render(tree, set, f.variant, series.RenderOptions{
		Tool: "patchgen " + version,
		Call: "--series " + f.series + " --variant " + f.variant,
	})
	if err != nil {
		return err
	}
	if changed := tree.Uncommitted(); len(changed) > 0 {
		fmt.Fprintf(stderr, "patchgen: note: the series is for the commit, uncommitted changes are not seen: %s\n", strings.Join(changed, ", "))
	}
	mails, err := s.Mail(ctx, options)
	if err != nil {
		return err
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
		if err := series.Write(f.output, mails, series.WriteOptions{Force: f.force, Ledger: filepath.Join(cache, "written")}); err != nil {
			if e := (*fs.PathError)(nil); errors.As(err, &e) {
				return &usageError{fmt.Errorf("write %s: %w", f.output, err), "choose another folder with -o"}
			}
			return err
		}
		for _, m := range mails {
			files = append(files, filepath.Join(f.output, m.Name))
		}
	}
	if err := f.report(stdout, s, files, tip); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "patchgen: %d patches for Linux %s (generation %s), read from %d files of %s\n",
		len(s.Patches), s.Release, s.Generation, len(tree.Read()), s.Origin)
	return nil
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
			for _, c := range p.Changes {
				if c.Before == nil {
					fmt.Fprintf(t, "%d\t%s\t\t\tnew file\n", i+1, c.Path)
				}
				for _, e := range p.Edits {
					if e.File == c.Path {
						fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%s\n", i+1, e.File, e.Line, e.Function, e.How)
					}
				}
			}
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
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
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
