//go:build kernel

package kerneltest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"patchgen/kbuild"
	"patchgen/ktree"
	"patchgen/qemutest/dmatest"
	patches "patchgen/series"
	"patchgen/templates"
)

var (
	trees   = flag.String("trees", "", "comma-separated trees to test on; else the folders of $PATCHGEN_TREES, separated by colons, or patchgen's reference trees")
	compile = flag.Bool("compile", true, "compile what each patch touches")
	boot    = flag.Bool("boot", true, "boot a kernel after each patch")
	fetch   = flag.Bool("fetch", false, "only open the trees, and print what other packages' tests want to know: PATCHGEN_TREES with their folders, and PATCHGEN_KERNEL and PATCHGEN_MODULE, which are built for -proof-tree")
)

func specs() []string {
	if *trees != "" {
		return strings.Split(*trees, ",")
	}
	if env := os.Getenv("PATCHGEN_TREES"); env != "" {
		return filepath.SplitList(env)
	}
	return ktree.References(ktree.Linux)
}

func TestMain(m *testing.M) {
	flag.Parse()
	if err := kbuild.Need(context.Background(), "git", "sparse", "python3", "qemu-system-x86_64"); err != nil {
		fmt.Fprintln(os.Stderr, "kerneltest:", err)
		os.Exit(1)
	}
	if *fetch {
		if err := errors.Join(printFolders(), printKernel()); err != nil {
			fmt.Fprintln(os.Stderr, "kerneltest:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func printFolders() error {
	var folders []string
	for _, spec := range specs() {
		tree, err := ktree.Open(context.Background(), spec, ktree.Options{Progress: &lines{}})
		if err != nil {
			return err
		}
		folders = append(folders, tree.Dir())
		tree.Close()
	}
	fmt.Printf("PATCHGEN_TREES=%s\n", strings.Join(folders, string(filepath.ListSeparator)))
	return nil
}

func printKernel() error {
	kernel, _, err := proofKernel(context.Background())
	if err != nil {
		return err
	}
	fmt.Printf("PATCHGEN_KERNEL=%s\nPATCHGEN_MODULE=%s\n", kernel.BzImage, kernel.Module)
	return nil
}

// proofKernel returns the patched kernel of -proof-tree with the guests' module, and
// the folder of the tree.
func proofKernel(ctx context.Context) (kernel kbuild.Kernel, dir string, err error) {
	tree, err := ktree.Open(ctx, *proofTree, ktree.Options{Progress: &lines{}})
	if err != nil {
		return kernel, "", err
	}
	defer tree.Close()
	set, err := templates.Load("dma-mark-dirty")
	if err != nil {
		return kernel, "", err
	}
	s, err := patches.Render(tree, set, "full", patches.RenderOptions{Tool: "patchgen test", Call: "test"})
	if err != nil {
		return kernel, "", err
	}
	_, kernel, err = kbuild.Kernels(ctx, tree, s.Changes(), kbuild.Options{Progress: &lines{}, Module: dmatest.Files()})
	return kernel, tree.Dir(), err
}

// TestSeries judges the series that patchgen emits for each of the trees.
func TestSeries(t *testing.T) {
	patchgen := newTester(t).patchgen
	for _, spec := range specs() {
		t.Run(spec, func(t *testing.T) {
			w := openWork(t, spec)
			s := w.emit(t, patchgen)
			step(t, "am", s.am)
			step(t, "checkpatch", s.checkpatch)
			step(t, "kconfig", s.kconfig)
			if *compile {
				step(t, "compile", s.compile)
			}
			if *boot {
				step(t, "boot", s.boot)
			}
		})
	}
}

// step runs a subtest and says how long it took; without "am" there is nothing
// for the others to judge.
func step(t *testing.T, name string, f func(*testing.T)) {
	start := time.Now()
	ok := t.Run(name, f)
	say("%s/%s: %v", t.Name(), name, time.Since(start).Round(time.Second/10))
	if !ok && name == "am" {
		t.FailNow()
	}
}

// say prints a line at once; the testing package holds its own back.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// lines is a progress.Reporter that prints a line at the end of each stage and
// every half a minute.
type lines struct {
	name, unit  string
	done        int64
	begun, last time.Time
}

func (l *lines) Stage(name string, _ int64, unit string) {
	*l = lines{name: name, unit: unit, begun: time.Now(), last: time.Now()}
}

func (l *lines) Step(done int64) {
	l.done = done
	if time.Since(l.last) > 30*time.Second {
		l.last = time.Now()
		say("  %s: %d %s …", l.name, l.done, l.unit)
	}
}

func (l *lines) End() {
	if took := time.Since(l.begun); took > 5*time.Second {
		say("  %s: %d %s, %v", l.name, l.done, l.unit, took.Round(time.Second/10))
	}
}
