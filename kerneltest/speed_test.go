//go:build kernel

package kerneltest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"patchgen/initramfs"
	"patchgen/initramfs/protocol"
)

// speedFile is what TestSpeed writes.
const speedFile = "../SPEED.md"

// rounds is how often each thing is measured, in turn with what it is compared with.
const rounds = 11

// A comparison is of what patchgen does with what is done without it.
type comparison struct {
	what, beside string
	unit         string
	ours, theirs []float64
}

// TestSpeed measures patchgen beside what people would use without it, one after the
// other in one run, since machines differ and are shared. With -update it writes
// SPEED.md anew. It fails where something cannot be measured, and never for how long
// it took.
func TestSpeed(t *testing.T) {
	c := newTester(t)
	w := openWork(t, *proofTree)
	s := w.emit(t, c.patchgen)
	if err := s.apply(t); err != nil {
		t.Fatal(err)
	}
	all := []*comparison{
		w.emitting(t, c.patchgen, "emit, from a folder", absolute(t, *proofTree)),
		w.emitting(t, c.patchgen, "emit, from a git clone", w.src()+"@"+w.base),
		s.checking(t, c.patchgen),
		booting(t),
		benchmarks(t, "read the migration stream, and pass it on", "pass it on", "../qemutest/stream", "BenchmarkRelay/reader", "BenchmarkRelay/copy"),
		benchmarks(t, "compare two memories of 1 GiB", "read them", "../qemutest", "BenchmarkDiffer/lost=0", "BenchmarkDiffer/read"),
	}
	text := speedTable(all)
	say("%s", text)
	if *update {
		if err := os.WriteFile(speedFile, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func speedTable(all []*comparison) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Speed

patchgen beside what people would use without it, measured in turn in one run: medians,
and in brackets the least and the most. It is written by

    go test -tags kernel -count=1 ./kerneltest -run TestSpeed -update

on %s, which was shared with other work.
Other machines have other figures; the quotient is what to look at.

| patchgen | | beside it | | quotient |
|---|---|---|---|---|
`, machine())
	for _, c := range all {
		ours, theirs := median(c.ours), median(c.theirs)
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.2f |\n", c.what, c.figure(c.ours), c.beside, c.figure(c.theirs), ours/theirs)
	}
	b.WriteString("\nOf times less is better, of GB/s more.\n")
	return b.String()
}

func (c *comparison) figure(v []float64) string {
	digits := max(0, 2-int(math.Log10(slices.Max(v))))
	f := func(x float64) string { return strconv.FormatFloat(x, 'f', digits, 64) }
	return fmt.Sprintf("%s %s (%s–%s)", f(median(v)), c.unit, f(slices.Min(v)), f(slices.Max(v)))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// machine says what it was measured on.
func machine() string {
	cpu := "a CPU without a name"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^model name\s*: (.+)$`).FindSubmatch(data); m != nil {
			cpu = string(m[1])
		}
	}
	return fmt.Sprintf("%d cores of %s", runtime.NumCPU(), cpu)
}

// turns measures both in turn, in milliseconds. The first round fills caches and is
// not counted.
func (c *comparison) turns(t *testing.T, ours, theirs func()) *comparison {
	t.Helper()
	c.unit = "ms"
	for i := range rounds + 1 {
		for _, side := range []struct {
			do  func()
			all *[]float64
		}{{ours, &c.ours}, {theirs, &c.theirs}} {
			begin := time.Now()
			side.do()
			if i > 0 {
				*side.all = append(*side.all, float64(time.Since(begin).Microseconds())/1000)
			}
		}
	}
	return c
}

// emitting writes the series, as mails, that git format-patch has to write from its
// commits.
func (w *work) emitting(t *testing.T, patchgen, what, tree string) *comparison {
	c := &comparison{what: what, beside: "`git format-patch` of the same commits"}
	return c.turns(t,
		func() { w.run(t, t.TempDir(), nil, patchgen, "emit", "--tree", tree, "-o", "out") },
		func() {
			w.git(t, "format-patch", "--quiet", "--numbered", "--cover-letter", "-o", t.TempDir(), w.base)
		})
}

// checking checks the series, and calls by hand what check calls: git am for each
// patch, the tree's checkpatch.pl, and codespell.
func (s *series) checking(t *testing.T, patchgen string) *comparison {
	dir := filepath.Dir(s.patches[0])
	tree := absolute(t, s.spec)
	c := &comparison{what: "check", beside: "`git am`, checkpatch.pl and codespell by hand"}
	return c.turns(t,
		func() {
			cmd := s.command(t, dir, nil, patchgen, "check", dir, "--tree", tree)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("patchgen check: %v\n%s", err, out)
			}
		},
		func() {
			s.checkout(t, s.base)
			s.git(t, append([]string{"am", "--quiet"}, s.patches...)...)
			for _, patch := range s.patches {
				// They end with 1 for findings, too.
				for _, args := range [][]string{
					{"perl", "scripts/checkpatch.pl", "--strict", "--no-summary", patch},
					{"codespell", patch},
				} {
					cmd := s.command(t, s.src(), nil, args[0], args[1:]...)
					if out, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() < 0 {
						t.Fatalf("%v: %v\n%s", args, err, out)
					}
				}
			}
		})
}

// booting boots the patched kernel until the agent says hello, and until an init in C
// that does nothing else says that it is there.
func booting(t *testing.T) *comparison {
	kernel, tree, err := proofKernel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	image, err := initramfs.Build(t.Context(), initramfs.Options{Cache: filepath.Join(cache, "patchgen", "initramfs")})
	if err != nil {
		t.Fatal(err)
	}
	bare := bareInit(t, tree)
	c := &comparison{what: "boot until the agent says hello", beside: "the same kernel with an init of five lines of C"}
	return c.turns(t, func() { bootUntilHello(t, kernel.BzImage, image) }, func() { bootUntilPrinted(t, kernel.BzImage, bare) })
}

const ready = "init is there"

// bareInit makes a root file system with a C program alone, by what the tree has for
// that.
func bareInit(t *testing.T, tree string) string {
	dir := t.TempDir()
	source, root := filepath.Join(dir, "init.c"), filepath.Join(dir, "root")
	text := "#include <stdio.h>\n#include <unistd.h>\nint main(void)\n{\n\tputs(\"" + ready + "\");\n\tfflush(stdout);\n\tfor (;;)\n\t\tpause();\n}\n"
	if err := cmp.Or(os.WriteFile(source, []byte(text), 0o666), os.MkdirAll(filepath.Join(root, "dev"), 0o777)); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	// usr/gen_init_cpio.c makes the console, which takes root to do by hand.
	list := fmt.Sprintf("dir /dev 0755 0 0\nnod /dev/console 0600 0 0 c 5 1\nfile /init %s/init 0755 0 0\n", root)
	if err := os.WriteFile(filepath.Join(dir, "list"), []byte(list), 0o666); err != nil {
		t.Fatal(err)
	}
	gen := filepath.Join(dir, "gen_init_cpio")
	for _, args := range [][]string{
		{"gcc", "-static", "-Os", "-o", filepath.Join(root, "init"), source},
		{"gcc", "-o", gen, filepath.Join(tree, "usr", "gen_init_cpio.c")},
		{"sh", "-c", gen + " " + filepath.Join(dir, "list") + " > " + image},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return image
}

// machineArgs are those of a guest with one vCPU and the console on standard output.
func machineArgs(kernel, image, init string) []string {
	return []string{
		"-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "256M", "-nodefaults", "-no-user-config", "-display", "none",
		"-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", image, "-append", "console=ttyS0 panic=-1 rdinit=" + init,
		"-device", "virtio-serial-pci",
	}
}

func startQEMU(t *testing.T, ctx context.Context, args []string, stdout *bytes.Buffer, seen chan<- struct{}) (stop func()) {
	t.Helper()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		said := false
		for {
			n, err := out.Read(b)
			stdout.Write(b[:n])
			if !said && bytes.Contains(stdout.Bytes(), []byte(ready)) {
				said = true
				close(seen)
			}
			if err != nil {
				return
			}
		}
	}()
	return func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

func bootUntilPrinted(t *testing.T, kernel, image string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var console bytes.Buffer
	seen := make(chan struct{})
	stop := startQEMU(t, ctx, machineArgs(kernel, image, "/init"), &console, seen)
	select {
	case <-seen:
		stop()
	case <-ctx.Done():
		stop()
		t.Fatalf("the init in C says nothing:\n%s", end(console.Bytes()))
	}
}

func bootUntilHello(t *testing.T, kernel, image string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "agent"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var console bytes.Buffer
	stop := startQEMU(t, ctx, append(machineArgs(kernel, image, initramfs.Agent),
		"-chardev", "socket,id=agent,path="+l.Addr().String(), "-device", "virtserialport,chardev=agent,name="+protocol.Port), &console, make(chan struct{}))
	defer stop()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := protocol.NewClient(conn).WaitHello(); err != nil {
		t.Fatal(err)
	}
}

// benchmarks runs two of a package, in turn, and takes their MB/s.
func benchmarks(t *testing.T, what, beside, dir, ours, theirs string) *comparison {
	t.Helper()
	c := &comparison{what: what, beside: beside, unit: "GB/s"}
	binary := filepath.Join(t.TempDir(), "bench")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, dir).CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	for range rounds {
		c.ours = append(c.ours, throughput(t, binary, ours))
		c.theirs = append(c.theirs, throughput(t, binary, theirs))
	}
	return c
}

var mbPerSecond = regexp.MustCompile(`(?m)^Benchmark\S+\s.*\s([\d.]+) MB/s`)

// throughput returns GB/s, of 1000 million bytes.
func throughput(t *testing.T, binary, name string) float64 {
	t.Helper()
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(name), "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), binary, "-test.run", "^$", "-test.bench", pattern, "-test.benchtime", "0.3s")
	cmd.Dir = filepath.Dir(binary)
	out, err := cmd.CombinedOutput()
	m := mbPerSecond.FindAllSubmatch(out, -1)
	if err != nil || len(m) != 1 {
		t.Fatalf("%s: %v, want one line with MB/s:\n%s", name, err, out)
	}
	v, err := strconv.ParseFloat(string(m[0][1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v / 1000
}
