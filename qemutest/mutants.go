package qemutest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// A Mutant is what became of a series that was made wrong on purpose.
type Mutant struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`   // what is wrong with it
	Killers []string `json:"killers"` // tests that saw it
	Seconds float64  `json:"seconds"` // to compile and to kill it
}

// Verdict is Pass if a test saw it, else Fail.
func (m *Mutant) Verdict() string {
	if len(m.Killers) == 0 {
		return Fail
	}
	return Pass
}

func (m *Mutant) Why() string {
	if len(m.Killers) > 0 {
		return ""
	}
	return "no test saw that " + m.About
}

// Kill has the tests see a wrong series, whose kernel is the patched one of p, and
// returns the names of those that did: of the series' own suite with most vCPUs and of
// the matrix with fewest, so that each shows what it sees without the other, and of the
// first of the others if neither saw it. A test that could not be made for the
// surroundings' sake is an error.
func (p *Proof) Kill(ctx context.Context) (killers []string, err error) {
	one, more := slices.Min(p.CPUs), slices.Max(p.CPUs)
	first := make([]string, 2)
	g, both := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		first[0], err = p.killByKUnit(both, more)
		return err
	})
	g.Go(func() (err error) {
		first[1], err = p.killByMatrix(both, one, false)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, killer := range first {
		if killer != "" {
			killers = append(killers, killer)
		}
	}
	if len(killers) > 0 {
		return killers, nil
	}
	for _, try := range []func() (string, error){
		func() (string, error) { return p.killByMatrix(ctx, one, true) },
		func() (string, error) { return p.killByKUnit(ctx, one) },
		func() (string, error) { return p.killByMatrix(ctx, more, false) },
		func() (string, error) { return p.killByMatrix(ctx, more, true) },
		func() (string, error) { return p.killByLevels(ctx, more) },
	} {
		if killer, err := try(); err != nil {
			return nil, err
		} else if killer != "" {
			return []string{killer}, nil
		}
	}
	return nil, nil
}

func (p *Proof) killByKUnit(ctx context.Context, cpus int) (killer string, err error) {
	r, err := p.kunit(ctx, cpus)
	if err != nil || r.Verdict == Pass {
		return "", err
	}
	return fmt.Sprintf("KUnit %s, %s", r.Killer, count(cpus, "vCPU")), nil
}

func (p *Proof) killByMatrix(ctx context.Context, cpus int, forced bool) (killer string, err error) {
	r, err := p.matrix(ctx, cpus, forced)
	var crash *CrashError
	switch {
	case errors.As(err, &crash):
		r.Killer = crash.End.String()
	case err != nil:
		return "", err
	case r.Verdict == Unfit && (r.Killer == "concurrent writers" || r.Killer == "others"):
		// The machine's or QEMU's fault, and no kill.
		return "", errors.New(r.Why)
	case r.Verdict == Pass:
		return "", nil
	}
	return fmt.Sprintf("matrix %s, %s", r.Killer, count(cpus, "vCPU")), nil
}

func (p *Proof) killByLevels(ctx context.Context, cpus int) (killer string, err error) {
	for i, l := range levels {
		r, err := p.level(ctx, cpus, i)
		if err != nil {
			return "", err
		}
		if r.Verdict != Pass {
			return "level " + cmp.Or(l.parameter, "without a parameter"), nil
		}
	}
	return "", nil
}
