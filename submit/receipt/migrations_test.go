package receipt

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/qemutest"
)

func TestMigrations(t *testing.T) {
	of := func(median, least, most float64) qemutest.Spread {
		return qemutest.Spread{Median: median, Min: least, Max: most}
	}
	same := func(v float64) qemutest.Spread { return of(v, v, v) }
	b := Bench{Migrations: []qemutest.MigrationCost{
		{Arm: qemutest.NoSeries, Device: "blind", Bytes: same(100 << 20), Passes: same(4), TotalMS: of(1500, 1400, 1600), DowntimeMS: same(20), Written: same(9231), Missed: of(9112, 9100, 9120), Resent: same(9470), OverReported: same(1)},
		{Arm: qemutest.SeriesArm, Device: "blind", Bytes: of(150<<20, 149<<20, 151<<20), Passes: same(4), TotalMS: same(1600), DowntimeMS: same(30), Written: same(9231), Missed: same(0), Resent: same(18000), OverReported: same(2)},
	}}
	want := `                 NO SERIES   SERIES
  devices            blind    blind
  sent, MiB            100      150
                         =  149-151
  passes                 4        4
  total, ms           1500     1600
                 1400-1600        =
  downtime, ms          20       30
  pages written       9231     9231
  missed              9112        0
                 9100-9120        =
  resent              9470    18000
  over-reported          1        2

Without the series pages are lost: what that migration costs buys a guest that is damaged.`
	if d := cmp.Diff(want, b.Tables()); d != "" {
		t.Errorf("it differs:\n%s", d)
	}
}

func TestWarmUps(t *testing.T) {
	of := func(v float64) qemutest.Spread { return qemutest.Spread{Median: v, Min: v * 0.9, Max: v * 1.1} }
	b := Bench{WarmUps: []qemutest.WarmUp{
		{Arm: qemutest.SeriesArm, Memory: 1 << 30, Rate: 8000, WithoutMS: of(1000), IOBytes: of(1000 << 20), TotalMS: of(12000), DowntimeMS: of(100)},
		{Arm: qemutest.UnplugsFirst, Memory: 1 << 30, Rate: 8000, WithoutMS: of(12000), TotalMS: of(11000), DowntimeMS: of(200)},
		{Arm: qemutest.SeriesArm, Memory: 2 << 30}, // of which there is but one
	}}
	want := `                        WITHOUT DISK, s          I/O, MiB          MISSED
  MEMORY  PAGES/s     series     unplug    series  unplug  series  unplug
  1G         8000       1.00       12.0      1000       0       0       0
                   0.90-1.10  10.8-13.2  900-1100       =       =       =

                              TOTAL, s     DOWNTIME, ms       SENT, MiB
  MEMORY  PAGES/s     series    unplug  series   unplug  series  unplug
  1G         8000       12.0      11.0     100      200       0       0
                   10.8-13.2  9.9-12.1  90-110  180-220       =       =

Unplugged first, the guest lacks its disk for 12.0 to 12.0 times as long.`
	if d := cmp.Diff(want, b.Tables()); d != "" {
		t.Errorf("it differs:\n%s", d)
	}
}
