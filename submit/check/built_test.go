package check

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/submit/patchmail"
	"patchgen/submit/receipt"
)

func TestBuilt(t *testing.T) {
	s := &patchmail.Series{Patches: []*patchmail.Mail{{Name: "1"}, {Name: "2"}, {Name: "3"}}}
	clean := &receipt.Compiled{}
	b := &receipt.Build{Patches: []receipt.PatchBuild{
		{Off: clean, On: &receipt.Compiled{New: []string{"kernel/x.c: unused variable: x"}, Left: []string{"kernel/x.c"}}},
		{Off: &receipt.Compiled{Error: "make failed", Left: []string{"drivers/y.c"}}, On: &receipt.Compiled{Lost: "CONFIG_X is lost", Left: []string{"drivers/y.c"}}},
		{Off: clean},
	}}
	want := []Finding{
		{Patch: 1, File: "1", Rule: "warnings", Where: "kernel/x.c", Problem: "unused variable: x, with the new options on", Fault: true},
		{Patch: 2, File: "2", Rule: "build", Where: "with the new options off", Problem: "the tree does not compile after this patch: make failed", Fault: true},
		{Patch: 2, File: "2", Rule: "survival", Where: "with the new options on", Problem: "CONFIG_X is lost", Do: "see what the option depends on", Fault: true},
		{Patch: 2, File: "2", Rule: "compiled", Where: "drivers/y.c", Problem: "was not compiled: its options are off in this configuration"},
	}
	got := Built(s, b)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, f := range append(got, Stale(errors.New("x"))) {
		if _, ok := place[f.Rule]; !ok {
			t.Errorf("%s is no rule", f.Rule)
		}
	}
}
