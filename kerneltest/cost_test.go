//go:build kernel

package kerneltest

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"patchgen/initramfs"
	"patchgen/kbuild"
	"patchgen/ktree"
	"patchgen/qemutest"
	patches "patchgen/series"
	"patchgen/templates"
	"patchgen/workshop"
)

// costProof returns what the costs are measured with, of -proof-tree.
func costProof(t *testing.T) *qemutest.Proof {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tree, err := ktree.Open(ctx, *proofTree, ktree.Options{Progress: &lines{}})
	must(err)
	defer tree.Close()
	set, err := templates.Load("dma-mark-dirty")
	must(err)
	s, err := patches.Render(tree, set, "full", patches.RenderOptions{Tool: "patchgen bench", Call: "bench"})
	must(err)
	unpatched, patched, err := kbuild.Kernels(ctx, tree, s.Changes(), kbuild.Options{Progress: &lines{}})
	must(err)
	cache, err := workshop.Cache("")
	must(err)
	image, err := initramfs.Build(ctx, initramfs.Options{Cache: filepath.Join(cache, "initramfs"), Progress: &lines{}})
	must(err)
	qemu, err := exec.LookPath("qemu-system-x86_64")
	must(err)
	accel, _, err := qemutest.Accelerator(ctx, "auto", qemu, unpatched.BzImage, image)
	must(err)
	return &qemutest.Proof{
		QEMU: qemu, Accel: accel, Initramfs: image, Progress: &lines{},
		Kernels: map[string]string{qemutest.Unpatched: unpatched.BzImage, qemutest.Patched: patched.BzImage},
		CPUs:    []int{1}, Memory: 256 << 20, Written: 16 << 20, Packets: 256, Limit: time.Minute, Seed: 1, Consoles: t.TempDir(),
	}
}

// TestMigrations holds the arms of a migration against each other.
func TestMigrations(t *testing.T) {
	p := costProof(t)
	costs, _, err := p.Migrations(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	of := make(map[string]qemutest.MigrationCost)
	for _, c := range costs {
		of[c.Arm] = c
		say("%+v", c)
		if c.Verdict != qemutest.Pass {
			t.Errorf("%s: %s: %s", c.Arm, c.Verdict, c.Why)
		}
		// The heartbeat alone has more than one pass sent.
		if c.Bytes.Median < 16<<20 || c.Passes.Median < 3 || c.TotalMS.Median <= c.DowntimeMS.Median || c.Resent.Median < c.OverReported.Median {
			t.Errorf("%+v", c)
		}
		lost, wrote := c.Missed.Median > 0, c.Written.Median > 0
		if lost != (c.Arm == qemutest.NoSeries) || wrote != (c.Arm != qemutest.UnplugsFirst) {
			t.Errorf("%s: %v pages written in the warm-up, %v missed", c.Arm, c.Written.Median, c.Missed.Median)
		}
	}
	if len(of) != 4 {
		t.Fatalf("%d arms, want 4", len(of))
	}
	// What is marked is sent again, and so is what is logged: held against the arm
	// that differs in nothing else. A migration without devices may have more passes.
	for _, arm := range []string{qemutest.SeriesArm, qemutest.LoggingArm} {
		if more := of[arm].Resent.Median - of[qemutest.NoSeries].Resent.Median; more < of[arm].Written.Median/2 {
			t.Errorf("%s: %v pages were written, and only %v more were sent again than with blind devices and no series", arm, of[arm].Written.Median, more)
		}
	}
}

// TestWarmUps holds a device that stays for the first pass against one that is
// unplugged first.
func TestWarmUps(t *testing.T) {
	p := costProof(t)
	const memory = 256 << 20
	all, _, err := p.WarmUps(context.Background(), qemutest.WarmUpPlan{Memories: []int64{memory}, Rates: []int{2000}, Rounds: 1})
	if err != nil {
		t.Fatal(err)
	}
	of := make(map[string]qemutest.WarmUp)
	for _, w := range all {
		of[w.Arm] = w
		say("%+v", w)
		if w.Verdict != qemutest.Pass || w.Missed.Max != 0 {
			t.Errorf("%s: %s: %s, %v pages missed", w.Arm, w.Verdict, w.Why, w.Missed.Max)
		}
		// It is to take as long as the memory says, so little of that may be zeros.
		if w.Zeros.Max > memory/4096/10 || w.FirstPassMS.Min < 2000 {
			t.Errorf("%s: %v pages of zeros, and a first pass of %v ms", w.Arm, w.Zeros.Max, w.FirstPassMS.Min)
		}
	}
	series, first := of[qemutest.SeriesArm], of[qemutest.UnplugsFirst]
	if series.IOBytes.Min < 1<<20 || series.Written.Min == 0 {
		t.Errorf("with the series %v bytes were read in the warm-up, and %v pages written", series.IOBytes.Min, series.Written.Min)
	}
	if first.IOBytes.Max != 0 || first.Written.Max != 0 {
		t.Errorf("without a disk %v bytes were read in the warm-up, and %v pages written", first.IOBytes.Max, first.Written.Max)
	}
	if first.WithoutMS.Min < first.FirstPassMS.Min || series.WithoutMS.Max > first.WithoutMS.Min {
		t.Errorf("without the disk for %v ms with the series, %v ms when unplugged first", series.WithoutMS.Max, first.WithoutMS.Min)
	}
}
