package series

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
)

// Branch stores the series in repo as commits on top of the commit base, as
// the new branch name, and returns the last commit. Worktree, index and HEAD
// stay as they are. The branch must not exist, and the files that the series
// changes must be in base as they are in Change.Before; else nothing but
// unreachable objects is left behind.
func (s *Series) Branch(ctx context.Context, repo *git.Repository, base plumbing.Hash, name string, author Ident, signOff bool) (plumbing.Hash, error) {
	none := plumbing.ZeroHash
	ref := plumbing.NewBranchReferenceName(name)
	if err := ref.Validate(); err != nil || name == "HEAD" {
		return none, fmt.Errorf("%q is no name for a branch: see git check-ref-format", name)
	}
	switch _, err := repo.Storer.Reference(ref); {
	case err == nil:
		return none, fmt.Errorf("the branch %s exists: choose another name or delete it with git branch -D", name)
	case !errors.Is(err, plumbing.ErrReferenceNotFound):
		return none, fmt.Errorf("branch %s: %w", name, err)
	}
	st, ok := repo.Storer.(interface{ Filesystem() billy.Filesystem })
	if !ok {
		return none, errors.New("the repository is not in a folder")
	}
	who, err := author.signature()
	if err != nil {
		return none, err
	}
	messages, err := s.messages(who, signOff)
	if err != nil {
		return none, err
	}
	onto, err := repo.CommitObject(base)
	if err != nil {
		return none, fmt.Errorf("commit %s: %w", base, err)
	}
	tip, err := s.commit(ctx, repo.Storer, base, onto.TreeHash, who, messages)
	if err != nil {
		return none, err
	}
	// git locks, knows the branches that came in the meantime, and checks the
	// new commit; the library would overwrite.
	err = runGit(ctx, st.Filesystem().Root(), who, "update-ref", "-m", "branch: Created by patchgen", ref.String(), tip.String(), none.String())
	if err != nil {
		return none, fmt.Errorf("branch %s: %w", name, err)
	}
	return tip, nil
}
