// Package initramfs builds the root file system with which patchgen boots
// kernels: u-root's init and a shell, and the agent of the tests.
package initramfs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"patchgen"
	"patchgen/progress"
)

// What to give a kernel as rdinit=.
const (
	Agent = "/bin/agent" // package patchgen/initramfs/protocol tells how to speak with it
	Shell = "/init"      // u-root's init: a shell on the console
)

// Options say where the image is to be kept.
type Options struct {
	Cache    string            // folder for images; made if it isn't there
	Progress progress.Reporter // nil tells nobody
}

// A MissingGoError says that there is no Go toolchain, or one that is too old.
type MissingGoError struct {
	Want string // the oldest that will do, such as "1.26.0"
	Have string // the version that there is, or ""
}

func (e *MissingGoError) Error() string {
	have := "is not installed"
	if e.Have != "" {
		have = "is too old: " + e.Have
	}
	return fmt.Sprintf("the Go toolchain %s: the initramfs needs Go %s or newer, from https://go.dev/dl", have, e.Want)
}

// A FetchError says that the Go modules that the image is made of could not be had.
type FetchError struct{ Output string } // the last lines that the go command printed

func (e *FetchError) Error() string {
	return "fetch the Go modules of the initramfs: " + e.Output
}

// A BuildError says that the image did not compile.
type BuildError struct {
	Err    error
	Output string // the last lines that the compiler printed
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("build the initramfs: %v: %s", e.Err, e.Output)
}
func (e *BuildError) Unwrap() error { return e.Err }

// Build returns the path of the image, a cpio archive in the kernel's newc
// format (Documentation/driver-api/early-userspace/buffer-format.rst), not
// compressed: with TCG it boots sooner so. It depends on nothing but patchgen's
// sources and the version of Go, and is built once for them. That takes about a
// minute and, the first time, a Go module proxy.
//
// The error is *MissingGoError, *FetchError, *BuildError, the context's or the
// file system's.
func Build(ctx context.Context, o Options) (string, error) {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return "", &MissingGoError{Want: wantGo()}
	}
	// All paths are used from other working directories.
	cache, err := filepath.Abs(o.Cache)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o777); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, ".build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	b := &build{dir: filepath.Join(work, "source"), temp: filepath.Join(work, "temp"), report: o.Progress}
	if b.report == nil {
		b.report = progress.Nop{}
	}
	if err := os.Mkdir(b.temp, 0o777); err != nil {
		return "", err
	}
	sum, err := writeSource(b.dir)
	if err != nil {
		return "", err
	}

	out, err := b.run(ctx, goCommand, "env", "GOVERSION", "GOROOT")
	if err != nil {
		return "", err
	}
	have, root, _ := strings.Cut(strings.TrimSpace(out), "\n")
	if version.IsValid(have) && version.Compare(have, "go"+wantGo()) < 0 {
		return "", &MissingGoError{Want: wantGo(), Have: have}
	}
	image := filepath.Join(cache, fmt.Sprintf("%x.cpio", sha256.Sum256(fmt.Appendf(nil, "%s %x", have, sum))))
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	b.root = root
	file := filepath.Join(work, "image.cpio")
	if err := b.image(ctx, file); err != nil {
		return "", err
	}
	return image, os.Rename(file, image)
}

// wantGo returns the version of Go in go.mod.
func wantGo() string {
	mod, err := patchgen.Source.ReadFile("go.mod")
	if err != nil {
		panic(err) // of an embedded file
	}
	for line := range strings.Lines(string(mod)) {
		if v, ok := strings.CutPrefix(line, "go "); ok {
			return strings.TrimSpace(v)
		}
	}
	panic("go.mod has no version of Go")
}

// writeSource writes a module with what the image is built from to dir, which
// isn't there, and returns a digest of it.
func writeSource(dir string) ([]byte, error) {
	h := sha256.New()
	err := fs.WalkDir(patchgen.Source, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(dir, name), 0o777)
		}
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		data, err := patchgen.Source.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(data), data)
		return os.WriteFile(filepath.Join(dir, name), data, 0o666)
	})
	return h.Sum(nil), err
}

// A build is what the programs that build an image work with.
type build struct {
	dir, temp string // folders for the sources, and for all that programs leave behind
	root      string // GOROOT; "" = not known yet
	report    progress.Reporter
}

// image builds the image.
func (b *build) image(ctx context.Context, file string) error {
	goCommand := filepath.Join(b.root, "bin/go")

	// All modules are fetched here, so that what fails later is no matter of
	// the network.
	b.report.Stage("fetch the Go modules of the initramfs", 0, "")
	list, err := b.run(ctx, goCommand, "list", "-e", "-tags", "tools", "-f", `{{join .Imports " "}}`, "./initramfs")
	commands := strings.Fields(list)
	if err == nil {
		_, err = b.run(ctx, goCommand, append([]string{"list", "-deps", "./initramfs/agent", "./initramfs/image"}, commands...)...)
	}
	b.report.End()
	if failed := (*BuildError)(nil); errors.As(err, &failed) {
		return &FetchError{failed.Output}
	}
	if err != nil {
		return err
	}

	// u-root's builder takes neither a context nor an environment, so it is
	// a process of its own, which can be ended.
	b.report.Stage("build the initramfs", 0, "")
	defer b.report.End()
	builder := filepath.Join(b.temp, "image")
	if _, err := b.run(ctx, goCommand, "build", "-o", builder, "./initramfs/image"); err != nil {
		return err
	}
	_, err = b.run(ctx, builder, append([]string{file}, commands...)...)
	return err
}

// run runs a program in the folder of the sources, and returns what it prints.
// The error is *BuildError or the context's.
func (b *build) run(ctx context.Context, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.dir
	cmd.Env = b.environment(os.Environ())
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// Linux sends the signal when the thread dies that started the process, so
	// the thread is kept until the process has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// The compilers are in its group.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", &BuildError{err, lastLines(stderr.String(), 10)}
	}
	return stdout.String(), nil
}

// environment returns what of env the go command needs to find and fetch
// things, and what makes the image repeatable. All else, such as GOFLAGS,
// would change what is built.
func (b *build) environment(env []string) []string {
	keep := map[string]bool{
		"HOME": true, "XDG_CACHE_HOME": true, "XDG_CONFIG_HOME": true,
		"GOCACHE": true, "GOENV": true, "GOMODCACHE": true, "GOPATH": true, "GOTOOLCHAIN": true,
		"GOPROXY": true, "GONOPROXY": true, "GOPRIVATE": true, "GOSUMDB": true, "GONOSUMDB": true, "GOINSECURE": true, "GOAUTH": true,
		"HTTP_PROXY": true, "HTTPS_PROXY": true, "NO_PROXY": true, "http_proxy": true, "https_proxy": true, "no_proxy": true,
		"SSL_CERT_FILE": true, "SSL_CERT_DIR": true,
	}
	var out []string
	path := os.Getenv("PATH")
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); keep[name] {
			out = append(out, e)
		}
	}
	if b.root != "" {
		// The toolchain has been chosen: it is first in PATH, and is not changed.
		path = filepath.Join(b.root, "bin") + string(filepath.ListSeparator) + path
		out = append(out, "GOROOT="+b.root, "GOTOOLCHAIN=local")
	}
	return append(out, "LC_ALL=C", "PATH="+path, "TMPDIR="+b.temp,
		"GO111MODULE=on", "GOWORK=off", "GOFLAGS=-buildvcs=false", "GOAMD64=v1", "CGO_ENABLED=0")
}

// lastLines returns the last n lines of s.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return cmp.Or(strings.Join(lines[max(0, len(lines)-n):], "\n"), "it says nothing")
}
