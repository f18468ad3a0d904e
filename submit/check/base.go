package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchgen/ktree"
)

// Limits of the base.
const (
	oldTip   = 60 * 24 * time.Hour // from which on syz-cluster takes no tip
	mostWait = 30 * time.Second    // for git to find out which references have a commit
)

var (
	fullHash = regexp.MustCompile(`^[0-9a-f]{40}$`)
	inWords  = regexp.MustCompile(`(?i)\b(applies (cleanly )?(to|on)|based (up)?on|on top of|against|base[: ]|git tree)\b`)
)

// base looks at what the series says it stands on.
func (c *checker) base(ctx context.Context, tree *ktree.Tree) error {
	n, hash := 0, ""
	for i, m := range c.mails() {
		if m.Err == nil {
			if hash = m.Mentions("base-commit"); hash != "" {
				n = i
				break
			}
		}
	}
	if hash == "" {
		said := false
		for _, m := range c.mails() {
			said = said || inWords.MatchString(m.Text())
		}
		if said {
			c.note("base", 0, "", "there is no base-commit; what it applies to is told in words only", "give it to git format-patch with --base, if it stands on a public commit")
		} else {
			c.note("base", 0, "", "nothing says what it applies to, so CIs guess or pass", "git format-patch --base=auto, or say it in words")
		}
		return nil
	}
	if !fullHash.MatchString(hash) {
		c.fault("base", n, "base-commit", fmt.Sprintf("%q is not a commit's name of 40 hex digits", clip(hash, 60)), "write it with git format-patch --base=COMMIT")
		return nil
	}
	dir := gitDir(tree)
	if dir == "" {
		c.note("base", n, "base-commit", fmt.Sprintf("%.12s cannot be looked up here: the tree is no git clone", hash), "")
		return nil
	}
	r := &repository{dir: dir, args: []string{"--git-dir=" + dir, "--no-replace-objects"}}
	known, err := r.subjects(ctx, []string{hash})
	if err != nil {
		return err
	}
	if !known[hash].there {
		c.note("base", n, "base-commit", fmt.Sprintf("%.12s is not in the clone", hash), "fetch it, or see that it is one that others have")
		return nil
	}
	if tree.Commit() != hash {
		c.note("base", n, "base-commit", fmt.Sprintf("it was checked against %.12s and not its base %.12s", tree.Commit(), hash), "")
	}
	limited, cancel := context.WithTimeout(ctx, mostWait)
	defer cancel()
	out, err := r.git(limited, nil, "for-each-ref", "--contains="+hash, "--format=%(refname)%00%(committerdate:unix)%00%(*committerdate:unix)")
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case limited.Err() != nil:
		c.note("base", n, "base-commit", "git takes too long to tell which branches have it", "git commit-graph write --reachable")
		return nil
	case err != nil:
		return err
	}
	c.tips(n, hash, string(out))
	return nil
}

// tips says what the references that have the base make of it.
func (c *checker) tips(n int, hash, out string) {
	var shared, local []string
	newest := time.Time{}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\x00")
		if len(f) != 3 {
			continue
		}
		branch, isLocal := strings.CutPrefix(f[0], "refs/heads/")
		if isLocal {
			local = append(local, branch)
			continue
		}
		if !strings.HasPrefix(f[0], "refs/remotes/") && !strings.HasPrefix(f[0], "refs/tags/") {
			continue // bisect, stash and the like
		}
		shared = append(shared, f[0])
		unix, err := strconv.ParseInt(cmpOr(f[2], f[1]), 10, 64)
		if t := time.Unix(unix, 0); err == nil && t.After(newest) && t.Before(c.o.Now.Add(24*time.Hour)) {
			newest = t
		}
	}
	switch {
	case shared == nil && local == nil:
		c.fault("base", n, "base-commit", fmt.Sprintf("%.12s is on no branch and under no tag of the clone, so no one else has it", hash),
			"rebase the series onto a public branch")
	case shared == nil:
		c.note("base", n, "base-commit", fmt.Sprintf("%.12s is only on branches of this clone, such as %s", hash, clip(local[0], 60)), "see that it is one that others have")
	case newest.Before(c.o.Now.Add(-oldTip)):
		c.note("base", n, "base-commit", fmt.Sprintf("the youngest tip that has it is %d days old, and CIs want under %d", int(c.o.Now.Sub(newest).Hours()/24), int(oldTip.Hours()/24)),
			"fetch, and rebase the series")
	}
}

// A subject is what a clone knows of a commit.
type subject struct {
	there bool
	title string
}

// subjects looks commits up by their names, which may be short, hexadecimal only.
func (r *repository) subjects(ctx context.Context, names []string) (map[string]subject, error) {
	var ask strings.Builder
	for _, name := range names {
		ask.WriteString(name + "^{commit}\n")
	}
	out, err := r.git(ctx, []byte(ask.String()), "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	known := make(map[string]subject)
	in := bytes.NewBuffer(out)
	for _, name := range names {
		head, err := in.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("git cat-file: %w", io.ErrUnexpectedEOF)
		}
		f := strings.Fields(head)
		if len(f) != 3 || f[1] != "commit" {
			continue // missing or ambiguous
		}
		size, err := strconv.Atoi(f[2])
		if err != nil || size < 0 || size >= in.Len() {
			return nil, fmt.Errorf("git cat-file printed %q", strings.TrimSpace(head))
		}
		_, message, _ := bytes.Cut(in.Next(size+1), []byte("\n\n"))
		title, _, _ := bytes.Cut(bytes.TrimLeft(message, "\n"), []byte("\n\n"))
		known[name] = subject{true, strings.Join(strings.Fields(string(title)), " ")}
	}
	return known, nil
}

var aCommit = regexp.MustCompile(`(?im)(?:\bcommit|^[ \t]*fixes:)\s+([0-9a-f]{7,40})\b(?:[ \n]*\("([^\n]*(?:\n[^\n]*){0,2}?)"\))?`)

// commits looks up the commits that messages name.
func (c *checker) commits(ctx context.Context, tree *ktree.Tree) error {
	type mention struct {
		n                 int
		hash, title, rule string
		line              int
	}
	var all []mention
	var names []string
	for n, m := range c.patches() {
		text := m.Message
		for _, at := range aCommit.FindAllStringSubmatchIndex(text, 200) {
			x := mention{n: n, hash: strings.ToLower(text[at[2]:at[3]]), rule: "commit", line: 1 + strings.Count(text[:at[2]], "\n")}
			if at[4] >= 0 {
				x.title = oneLineOf(text[at[4]:at[5]])
			}
			if strings.HasPrefix(strings.ToLower(strings.TrimSpace(text[at[0]:])), "fixes:") {
				x.rule = "fixes"
			}
			all = append(all, x)
			names = append(names, x.hash)
		}
	}
	if all == nil {
		return nil
	}
	dir := gitDir(tree)
	if dir == "" {
		c.note("commit", all[0].n, fmt.Sprintf("line %d of the text", all[0].line), fmt.Sprintf("%d commits are named that cannot be looked up here, such as %.12s: the tree is no git clone", len(all), all[0].hash), "")
		return nil
	}
	r := &repository{dir: dir, args: []string{"--git-dir=" + dir, "--no-replace-objects"}}
	slices.Sort(names)
	known, err := r.subjects(ctx, slices.Compact(names))
	if err != nil {
		return err
	}
	_, shallow := os.Stat(filepath.Join(dir, "shallow"))
	complete := errors.Is(shallow, os.ErrNotExist)
	for _, x := range all {
		where := fmt.Sprintf("line %d of the text", x.line)
		is := known[x.hash]
		switch {
		case !is.there && !complete:
			c.note(x.rule, x.n, where, fmt.Sprintf("the commit %.12s is not in this shallow clone", x.hash), "")
		case !is.there:
			c.fault(x.rule, x.n, where, fmt.Sprintf("there is no commit %.12s in the clone: rebased, or not fetched", x.hash), "name it as it is in a public tree")
		case x.title != "" && x.title != is.title && !strings.Contains(x.title, "..."):
			c.fault(x.rule, x.n, where, fmt.Sprintf("commit %.12s has another title: %q", x.hash, clip(is.title, 60)), "write it as git log -1 --format='%h (\"%s\")' does")
		}
	}
	return nil
}
