package ktree

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

var (
	// suffixRE is what may follow the name in a revision: ~, ~2, ^, ^2, ^{}
	// and ^{commit} (gitrevisions(7)).
	suffixRE   = regexp.MustCompile(`^(?:~[0-9]*|\^(?:[0-9]+|\{(?:commit)?\})?)`)
	operatorRE = regexp.MustCompile(`[~^:]|@\{`)
	shortRE    = regexp.MustCompile(`^[0-9a-fA-F]{4,40}$`)
	describeRE = regexp.MustCompile(`-[0-9]+-g([0-9a-f]{4,40})$`)
)

// resolve finds the commit that a revision names, by the rules of
// gitrevisions(7) as far as HEAD, branches, tags, hashes and parents go.
// go-git's own ResolveRevision prefers short hashes to branches, takes the first
// of several commits with a short hash, and the second parent for ^3.
func resolve(ctx context.Context, s *store, rev string) (*object.Commit, error) {
	name, suffix := rev, ""
	if at := operatorRE.FindStringIndex(rev); at != nil {
		name, suffix = rev[:at[0]], rev[at[0]:]
	}
	if name == "@" {
		name = "HEAD"
	}
	commit, err := resolveName(s, name)
	for err == nil && suffix != "" {
		op := suffixRE.FindString(suffix)
		if op == "" {
			return nil, fmt.Errorf("patchgen does not know %q in a revision: give a branch, a tag or a hash, with ~N or ^N for parents", suffix)
		}
		suffix = suffix[len(op):]
		if op[0] == '^' && strings.HasSuffix(op, "}") {
			continue
		}
		n := 1
		if len(op) > 1 {
			if n, err = strconv.Atoi(op[1:]); err != nil {
				return nil, fmt.Errorf("no such parent: %q", op)
			}
		}
		if op[0] == '~' {
			for ; n > 0 && err == nil; n-- {
				if err = ctx.Err(); err == nil {
					commit, err = parent(s, commit, 1)
				}
			}
		} else if n > 0 {
			commit, err = parent(s, commit, n)
		}
	}
	return commit, err
}

// parent returns the n-th parent of a commit, counted from 1.
func parent(s *store, c *object.Commit, n int) (*object.Commit, error) {
	if n > len(c.ParentHashes) {
		return nil, fmt.Errorf("commit %.12s has no parent %d", c.Hash, n)
	}
	p, err := object.GetCommit(s, c.ParentHashes[n-1])
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		if shallow, e := s.Shallow(); e == nil && len(shallow) > 0 {
			return nil, fmt.Errorf("the clone is shallow and ends at commit %.12s: get more of its history with `git fetch --deepen=N`", c.Hash)
		}
		return nil, fmt.Errorf("the clone lacks commit %.12s", c.ParentHashes[n-1])
	}
	return p, err
}

// resolveName finds the commit that a reference or a hash names. As in git, a
// full hash comes before a reference, and a short one after it
// (get_oid_basic() and get_oid_1() in object-name.c).
func resolveName(s *store, name string) (*object.Commit, error) {
	if plumbing.IsHash(name) {
		return peel(s, plumbing.NewHash(name))
	}
	for _, rule := range plumbing.RefRevParseRules {
		ref, err := storer.ResolveReference(s, plumbing.ReferenceName(fmt.Sprintf(rule, name)))
		if err == nil {
			return peel(s, ref.Hash())
		}
	}
	if name == "HEAD" {
		return nil, errors.New("its HEAD leads to no commit: it has none yet, or its branch is gone")
	}
	if m := describeRE.FindStringSubmatch(name); m != nil {
		name = m[1] // git describe's v6.12-15-gabcdef012345
	}
	if !shortRE.MatchString(name) {
		return nil, fmt.Errorf("no branch, tag or commit %q", name)
	}
	hashes, err := s.withPrefix(strings.ToLower(name), 1000)
	if err != nil {
		return nil, err
	}
	var found *object.Commit
	for _, h := range hashes {
		commit, err := object.GetCommit(s, h)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			continue // of another type
		}
		if err != nil {
			return nil, err
		}
		if found != nil {
			return nil, fmt.Errorf("the short hash %s fits more than one commit, %.12s and %.12s: give more of its digits", name, found.Hash, h)
		}
		found = commit
	}
	if found == nil {
		return nil, fmt.Errorf("no branch, tag or commit %q", name)
	}
	return found, nil
}

// peel follows tags from h to a commit.
func peel(s *store, h plumbing.Hash) (*object.Commit, error) {
	for range 10 {
		o, err := s.EncodedObject(plumbing.AnyObject, h)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return nil, fmt.Errorf("no commit %s in the clone", h)
		}
		if err != nil {
			return nil, err
		}
		switch o.Type() {
		case plumbing.CommitObject:
			return object.DecodeCommit(s, o)
		case plumbing.TagObject:
			tag, err := object.DecodeTag(s, o)
			if err != nil {
				return nil, err
			}
			h = tag.Target
		default:
			return nil, fmt.Errorf("%.12s is a %s and no commit", h, o.Type())
		}
	}
	return nil, fmt.Errorf("too many tags of tags at %s", h)
}
