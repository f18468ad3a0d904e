package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
	"github.com/go-git/go-git/v5/plumbing/filemode"

	"patchgen/ktree"
	"patchgen/submit/patchmail"
)

// maxKept is how much of the contents of changed files is kept, in bytes.
const maxKept = 512 << 20

// A history has the files that a series touches, after each of its patches.
type history struct {
	base  map[string]file
	after []map[string]file // what each patch leaves; nil for one that was not applied
	kept  int
}

// at returns a file as it is before the patch of this index.
func (h *history) at(i int, name string) file {
	for i--; i >= 0; i-- {
		if f, ok := h.after[i][name]; ok {
			return f
		}
	}
	return h.base[name]
}

// apply applies the series with git am, in a repository of nothing but the files
// that it touches, and strictly with go-gitdiff, and compares the results.
func (c *checker) apply(ctx context.Context, src *source) (*history, error) {
	h := &history{base: make(map[string]file), after: make([]map[string]file, len(c.s.Patches))}
	for n, m := range c.patches() {
		for _, name := range touched(m) {
			if _, ok := h.base[name]; ok {
				continue
			}
			f, err := src.file(name)
			if e := (*ktree.UnsupportedError)(nil); errors.As(err, &e) {
				c.fault("apply", n, name, "the tree's file cannot be changed: "+err.Error(), "name the tree that the series is for")
				return h, nil
			}
			if err != nil {
				return nil, err
			}
			if h.kept += len(f.data); h.kept > maxKept {
				return nil, errTooLarge
			}
			h.base[name] = f
		}
	}

	dir, err := os.MkdirTemp("", "patchgen-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r, err := newRepository(ctx, dir, h.base)
	if err != nil {
		return nil, err
	}
	c.tools = append(c.tools, "git am")
	if err := c.am(ctx, r, h); err != nil {
		return nil, err
	}
	return h, c.letterStat(ctx, r)
}

var errTooLarge = fmt.Errorf("the series and the files that it changes have more than %d MiB", maxKept>>20)

var aName = regexp.MustCompile(`(?m)^(?:--- a|\+\+\+ b|rename from|rename to|copy from|copy to)[/ ]([^\t\r\n]+)`)

// touched returns the names of the files that a patch may need, those that can
// stand in a tree.
func touched(m *patchmail.Mail) []string {
	var names []string
	for _, f := range m.Files {
		names = append(names, f.OldName, f.NewName)
	}
	if m.DiffError != nil { // git may see more in it
		for _, n := range aName.FindAllSubmatch(m.Diff, 1000) {
			names = append(names, string(n[1]))
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return !inTree(name) })
}

// inTree reports whether a name can be that of a file of a tree.
func inTree(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, "\\\x00") &&
		!slices.ContainsFunc(strings.Split(name, "/"), func(s string) bool { return strings.EqualFold(s, ".git") })
}

// newRepository makes a repository in dir with one commit of these files.
func newRepository(ctx context.Context, dir string, files map[string]file) (*repository, error) {
	r := &repository{dir: filepath.Join(dir, "tree"), env: []string{
		"GIT_AUTHOR_NAME=check", "GIT_AUTHOR_EMAIL=check@localhost", "GIT_AUTHOR_DATE=@0 +0000",
		"GIT_COMMITTER_NAME=check", "GIT_COMMITTER_EMAIL=check@localhost", "GIT_COMMITTER_DATE=@0 +0000",
		"GIT_CEILING_DIRECTORIES=" + dir,
	}}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return nil, err
	}
	git := filepath.Join(r.dir, ".git")
	for _, d := range []string{"", "info", "objects", "refs"} {
		if err := os.Mkdir(filepath.Join(git, d), 0o700); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{
		"HEAD":   "ref: refs/heads/check\n",
		"config": "[core]\n\trepositoryFormatVersion = 0\n\tbare = false\n\tfsync = none\n\thooksPath = " + os.DevNull + "\n[gc]\n\tauto = 0\n",
		// What a series does to .gitattributes must not change what is stored.
		"info/attributes": "* -text -filter -ident -working-tree-encoding\n",
	} {
		if err := os.WriteFile(filepath.Join(git, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	for name, f := range files {
		if err := put(r.dir, name, f); err != nil {
			return nil, err
		}
	}
	if _, err := r.git(ctx, nil, "add", "-A", "-f", "."); err != nil {
		return nil, err
	}
	_, err := r.git(ctx, nil, "commit", "-q", "--allow-empty", "--no-verify", "-m", "base")
	return r, err
}

// put writes a file of a tree, or takes it away.
func put(dir, name string, f file) error {
	to := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotDir) {
		return err
	}
	if !f.there() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	switch f.mode {
	case filemode.Symlink:
		return os.Symlink(string(f.data), to)
	case filemode.Executable:
		return os.WriteFile(to, f.data, 0o777)
	}
	return os.WriteFile(to, f.data, 0o666)
}

// am has git apply the mails, and looks at the commits that it makes of them.
func (c *checker) am(ctx context.Context, r *repository, h *history) error {
	mails := filepath.Join(filepath.Dir(r.dir), "mails")
	if err := os.Mkdir(mails, 0o700); err != nil {
		return err
	}
	args := []string{"am", "-q", "--no-gpg-sign", "--"}
	var numbers []int // of the patches that git gets
	for n, m := range c.patches() {
		if m.Diff == nil {
			continue // told already, and git would stop there
		}
		name := fmt.Sprintf("%05d", n)
		if err := os.WriteFile(filepath.Join(mails, name), m.Raw, 0o600); err != nil {
			return err
		}
		args = append(args, filepath.Join("..", "mails", name))
		numbers = append(numbers, n)
	}
	if len(numbers) == 0 {
		return nil
	}
	_, err := r.git(ctx, nil, args...)
	failed := (*gitError)(nil)
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	out, err := r.git(ctx, nil, "log", "--check", "--format=%x00%H", "--reverse", "--min-parents=1")
	if g := (*gitError)(nil); err != nil && !errors.As(err, &g) { // 2 if --check finds something
		return err
	}
	var hashes, white []string
	for part := range strings.SplitSeq(strings.TrimPrefix(string(out), "\x00"), "\x00") {
		if hash, found, _ := strings.Cut(part, "\n"); len(hash) >= 40 {
			hashes, white = append(hashes, hash), append(white, found)
		}
	}
	if failed == nil && len(hashes) != len(numbers) {
		c.fault("apply", 0, "", fmt.Sprintf("git am makes %d commits of %d mails", len(hashes), len(numbers)), "no line of a text may begin with \"From \" and end in a date")
	}
	changes, err := r.changes(ctx, hashes)
	if err != nil {
		return err
	}
	for i, hash := range hashes[:min(len(hashes), len(numbers))] {
		if err := c.strictly(ctx, r, h, numbers[i], hash, changes[hash]); err != nil {
			return err
		}
		c.whiteSpace(numbers[i], white[i])
		c.applied++
	}
	if failed != nil && len(hashes) < len(numbers) {
		c.refused(h, numbers[len(hashes)], failed.stderr)
		if left := len(numbers) - len(hashes) - 1; left > 0 {
			c.note("apply", numbers[len(hashes)+1], "", fmt.Sprintf("this and what follows, %d in all, was not applied, as patch %d does not apply", left, numbers[len(hashes)]), "")
		}
	}
	return nil
}

// A change is what a commit does to a file.
type change struct {
	mode filemode.FileMode // 0 if it is deleted
	hash string
}

// changes returns what commits change, by name and path.
func (r *repository) changes(ctx context.Context, hashes []string) (map[string]map[string]change, error) {
	all := make(map[string]map[string]change)
	if len(hashes) == 0 {
		return all, nil
	}
	out, err := r.git(ctx, []byte(strings.Join(hashes, "\n")+"\n"), "diff-tree", "--stdin", "-r", "-z", "--no-renames", "--no-abbrev", "--raw")
	if err != nil {
		return nil, err
	}
	commit := ""
	fields := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	for i := 0; i < len(fields); i++ {
		info, ok := strings.CutPrefix(fields[i], ":")
		if !ok {
			commit = strings.TrimSpace(fields[i])
			all[commit] = make(map[string]change)
			continue
		}
		f := strings.Fields(info) // modes, hashes, what kind of change
		if len(f) != 5 || i+1 == len(fields) || all[commit] == nil {
			return nil, fmt.Errorf("git diff-tree printed %q", info)
		}
		mode, err := strconv.ParseUint(f[1], 8, 32)
		if err != nil {
			return nil, fmt.Errorf("git diff-tree printed %q", info)
		}
		i++
		all[commit][fields[i]] = change{filemode.FileMode(mode), f[3]}
	}
	return all, nil
}

// strictly applies a patch at its lines, and compares with what git am made of it.
func (c *checker) strictly(ctx context.Context, r *repository, h *history, n int, commit string, want map[string]change) error {
	m := c.s.Patches[n-1]
	got, err := strict(h, n-1, m)
	h.after[n-1] = make(map[string]file)
	var differ []string
	for name, w := range want {
		f := file{}
		if w.mode != 0 {
			f = got[name]
			if f.mode != w.mode || f.hash() != w.hash {
				differ = append(differ, name)
				data, err := r.git(ctx, nil, "cat-file", "blob", w.hash)
				if err != nil {
					return err
				}
				f = file{w.mode, data}
			}
		} else if _, ok := got[name]; !ok || got[name].there() {
			differ = append(differ, name)
		}
		if h.kept += len(f.data); h.kept > maxKept {
			return errTooLarge
		}
		h.after[n-1][name] = f
	}
	for name, f := range got {
		if _, ok := want[name]; !ok && (f.mode != h.at(n-1, name).mode || !bytes.Equal(f.data, h.at(n-1, name).data)) {
			differ = append(differ, name)
		}
	}
	slices.Sort(differ)
	switch {
	case err != nil:
		return c.off(ctx, r, n, commit, err)
	case len(differ) > 0 && c.found("crlf", n): // which git am takes off
	case len(differ) > 0:
		c.fault("apply", n, differ[0], "git am and a strict application do not leave the same", "write the patch again with git format-patch")
	default:
		c.blobs(h, n, m)
	}
	return nil
}

// strict returns the files that a patch leaves, when each hunk is applied at its
// line and nowhere else.
func strict(h *history, i int, m *patchmail.Mail) (map[string]file, error) {
	if m.DiffError != nil {
		return nil, m.DiffError
	}
	now := make(map[string]file)
	at := func(name string) file {
		if f, ok := now[name]; ok {
			return f
		}
		return h.at(i, name)
	}
	for _, d := range m.Files {
		fail := func(err error) (map[string]file, error) {
			return now, &strictError{name: cmpOr(d.NewName, d.OldName), diff: d, err: err}
		}
		var from file
		if !d.IsNew {
			if from = at(d.OldName); d.IsCopy || d.IsRename {
				from = h.at(i, d.OldName) // as it is before the patch (git: apply.c, previous_patch)
			}
			if !from.there() {
				return fail(fmt.Errorf("the tree has no file %s", d.OldName))
			}
		}
		if (d.IsNew || d.IsRename || d.IsCopy) && at(d.NewName).there() {
			return fail(fmt.Errorf("the tree has a file %s already", d.NewName))
		}
		to := file{mode: from.mode, data: from.data}
		if d.NewMode != 0 {
			to.mode = filemode.FileMode(d.NewMode & 0o177777)
		} else if d.IsNew {
			to.mode = filemode.Regular
		}
		if d.IsBinary && d.BinaryFragment == nil {
			return fail(errors.New("it is a binary file without its contents"))
		}
		if len(d.TextFragments) > 0 || d.BinaryFragment != nil {
			var out bytes.Buffer
			if err := gitdiff.Apply(&out, bytes.NewReader(from.data), d); err != nil {
				return fail(err)
			}
			to.data = out.Bytes()
		}
		if d.IsDelete || d.IsRename {
			now[d.OldName] = file{}
		}
		if d.IsDelete {
			if len(to.data) > 0 {
				return fail(errors.New("something would be left of the deleted file"))
			}
			continue
		}
		now[d.NewName] = to
	}
	return now, nil
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// A strictError says which file of a patch cannot be changed at its lines.
type strictError struct {
	name string
	diff *gitdiff.File
	err  error
}

func (e *strictError) Error() string { return e.name + ": " + e.err.Error() }
func (e *strictError) Unwrap() error { return e.err }

// off tells why git am takes what a strict application does not: a hunk stands
// elsewhere, as git's own diff of what it made shows.
func (c *checker) off(ctx context.Context, r *repository, n int, commit string, err error) error {
	const do = "write the series again from a branch on top of this tree"
	e := (*strictError)(nil)
	if !errors.As(err, &e) {
		c.fault("apply", n, "", "git am takes it, but a strict reader does not: "+err.Error(), "write the patch again with git format-patch")
		return nil
	}
	out, gitErr := r.git(ctx, nil, "diff-tree", "-p", "-M", "--full-index", "--no-commit-id", commit, "--")
	if gitErr != nil {
		return gitErr
	}
	files, _, parseErr := gitdiff.Parse(bytes.NewReader(out))
	for _, f := range files {
		if parseErr != nil || f.NewName != e.diff.NewName || len(f.TextFragments) != len(e.diff.TextFragments) {
			continue
		}
		for i, hunk := range f.TextFragments {
			says := e.diff.TextFragments[i].OldPosition
			if by := hunk.OldPosition - says; by != 0 {
				c.fault("offset", n, fmt.Sprintf("%s:%d", e.name, says),
					fmt.Sprintf("hunk %d stands at line %d, %+d from where it says: it was made for another base", i+1, hunk.OldPosition, by), do)
				return nil
			}
		}
	}
	if errors.Is(e.err, &gitdiff.Conflict{}) {
		c.fault("offset", n, e.name, "a hunk stands at another line than it says: it was made for another base", do)
		return nil
	}
	c.fault("apply", n, e.name, "git am takes it, but a strict application does not: "+e.err.Error(), "write the patch again with git format-patch")
	return nil
}

var (
	patchFailed = regexp.MustCompile(`^patch failed: (.+):(\d+)$`)
	whatFailed  = regexp.MustCompile(`(?m)^(?:error|fatal|Patch is|Patch does|Patch format|warning: .* has type|No changes)(?:: )?(.*)$`)
)

// refused tells why git am does not take a patch.
func (c *checker) refused(h *history, n int, stderr string) {
	if c.found("control", n) || c.found("from", n) || c.found("date", n) {
		return // told already
	}
	where, why := "", []string(nil)
	for _, line := range whatFailed.FindAllString(stderr, 20) {
		line = strings.TrimPrefix(strings.TrimPrefix(line, "error: "), "fatal: ")
		if at := patchFailed.FindStringSubmatch(line); at != nil {
			if where == "" {
				where = at[1] + ":" + at[2]
			}
			continue
		}
		if !slices.Contains(why, line) && len(why) < 3 {
			why = append(why, line)
		}
	}
	if why == nil {
		why = []string{strings.TrimSpace(stderr)}
	}
	problem := "git am refuses it: " + strings.Join(why, "; ")
	do := "rebase the series onto this tree, or name the tree that it is for"
	if strings.Contains(problem, "corrupt patch") || strings.Contains(problem, "patch fragment without header") || strings.Contains(problem, "lacks filename") {
		do = "the diff was wrapped or edited: write it again with git format-patch, and send it with git send-email"
	}
	if strings.Contains(problem, "e-mail address") || strings.Contains(problem, "ident") {
		do = "give From a name and an address"
	}
	// The strict application knows the line better.
	if _, err := strict(h, n-1, c.s.Patches[n-1]); err != nil {
		conflict := (*gitdiff.ApplyError)(nil)
		e := (*strictError)(nil)
		if errors.As(err, &conflict) && errors.As(err, &e) && conflict.Line > 0 {
			where = fmt.Sprintf("%s:%d", e.name, conflict.Line)
		}
	}
	c.fault("apply", n, where, problem, do)
}

// readable has git read those diffs that go-gitdiff cannot, without a tree.
func (c *checker) readable(ctx context.Context) error {
	for n, m := range c.patches() {
		if m.DiffError == nil || c.found("binary", n) {
			continue
		}
		r := &repository{dir: os.TempDir(), env: []string{"GIT_DIR=" + os.DevNull}}
		_, err := r.git(ctx, m.Diff, "apply", "--numstat", "-")
		var refused *gitError
		if errors.As(err, &refused) {
			why := strings.TrimPrefix(strings.TrimSpace(refused.stderr), "error: ")
			c.fault("apply", n, "", "git cannot read the diff: "+why, "it was cut off, wrapped or edited: write it again with git format-patch")
		} else if err != nil {
			return err
		}
	}
	return nil
}

// blobs compares the names of blobs that the patch tells with those that are.
func (c *checker) blobs(h *history, n int, m *patchmail.Mail) {
	var other []string
	short, none := false, false
	for _, f := range m.Files {
		if f.OldOIDPrefix == "" && f.NewOIDPrefix == "" {
			none = none || len(f.TextFragments) > 0
			continue
		}
		short = short || len(f.OldOIDPrefix) < 12
		before, after := file{}, file{}
		if !f.IsNew {
			before = h.at(n-1, f.OldName)
		}
		if !f.IsDelete {
			after = h.at(n, f.NewName)
		}
		switch {
		case !names(f.OldOIDPrefix, before):
			other = append(other, cmpOr(f.OldName, f.NewName))
		case !names(f.NewOIDPrefix, after):
			c.fault("index", n, f.NewName, fmt.Sprintf("the diff was changed since git wrote it: it leaves the blob %.12s and not %.12s", after.hash(), f.NewOIDPrefix),
				"make the change in the commit, and write the patch again with git format-patch")
		}
	}
	if other != nil {
		c.note("index", n, other[0], fmt.Sprintf("%d of %d files are not as they were when the patch was made, though it applies", len(other), len(m.Files)),
			"write the series again on top of this tree")
	}
	if short {
		c.note("index", n, "", "blobs are named by less than 12 digits", "git config core.abbrev 12")
	}
	if none {
		c.note("index", n, "", "there are no index lines, so programs cannot find the base, nor git am -3 merge", "use git format-patch")
	}
}

// names reports whether a prefix is of the blob's name.
func names(prefix string, f file) bool {
	if !f.there() {
		return strings.Trim(prefix, "0") == ""
	}
	return strings.HasPrefix(f.hash(), strings.ToLower(prefix))
}

var whiteError = regexp.MustCompile(`^(.+):(\d+): (.*)\.$`)

// whiteSpace adds what git log --check says of a patch.
func (c *checker) whiteSpace(n int, said string) {
	var spots []spot
	for line := range strings.SplitSeq(said, "\n") {
		w := whiteError.FindStringSubmatch(line)
		if w != nil && !strings.HasPrefix(line, "+") && w[3] != "leftover conflict marker" { // a rule of its own
			spots = append(spots, spot{w[1] + ":" + w[2], w[3]})
		}
	}
	// Lines of DOS are told by a rule of their own, and are trailing white space to git.
	if !c.found("crlf", n) {
		c.faults("whitespace", n, spots, "take it out: git rebase --whitespace=fix can")
	}
}
