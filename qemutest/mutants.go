package qemutest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
// returns the name of the first that did: of the series' own suite with most vCPUs, of
// the matrix with fewest, and then of the others. A test that could not be made for
// the surroundings' sake is an error.
func (p *Proof) Kill(ctx context.Context) (killers []string, err error) {
	kunit := func(cpus int) error {
		r, err := p.kunit(ctx, cpus)
		if err == nil && r.Verdict != Pass {
			killers = append(killers, fmt.Sprintf("KUnit %s, %s", r.Killer, count(cpus, "vCPU")))
		}
		return err
	}
	matrix := func(cpus int, forced bool) error {
		r, err := p.matrix(ctx, cpus, forced)
		var crash *CrashError
		switch {
		case errors.As(err, &crash):
			r.Killer, err = crash.End.String(), nil
		case err != nil:
			return err
		case r.Verdict == Unfit && (r.Killer == "concurrent writers" || r.Killer == "others"):
			// The machine's or QEMU's fault, and no kill.
			return fmt.Errorf("%s", r.Why)
		case r.Verdict == Pass:
			return nil
		}
		killers = append(killers, fmt.Sprintf("matrix %s, %s", r.Killer, count(cpus, "vCPU")))
		return nil
	}
	one, more := slices.Min(p.CPUs), slices.Max(p.CPUs)
	for _, try := range []func() error{
		func() error { return kunit(more) },
		func() error { return matrix(one, false) },
		func() error { return matrix(one, true) },
		func() error { return kunit(one) },
		func() error { return matrix(more, false) },
		func() error { return matrix(more, true) },
		func() error {
			for i, l := range levels {
				r, err := p.level(ctx, more, i)
				if err != nil {
					return err
				}
				if r.Verdict != Pass {
					killers = append(killers, "level "+cmp.Or(l.parameter, "without a parameter"))
				}
			}
			return nil
		},
	} {
		if err := try(); err != nil || len(killers) > 0 {
			return killers, err
		}
	}
	return nil, nil
}
