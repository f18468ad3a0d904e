//go:build kernel

package kerneltest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A tester runs patchgen test as a process of its own, and looks at what it
// leaves behind.
type tester struct {
	patchgen string // file name
}

func newTester(t *testing.T) *tester {
	t.Helper()
	c := &tester{filepath.Join(t.TempDir(), "patchgen")}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", c.patchgen, "../cmd/patchgen").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return c
}

// An ending is how patchgen ended.
type ending struct {
	code           int // -1 if a signal ended it
	stdout, stderr string
}

// want fails the test if the exit code is another, or if standard error lacks
// one of the texts.
func (e *ending) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if e.code != code {
		t.Errorf("exit code %d, want %d", e.code, code)
	}
	for _, text := range texts {
		if !strings.Contains(e.stderr, text) {
			t.Errorf("standard error lacks %q", text)
		}
	}
	if t.Failed() {
		t.Logf("%s%s", e.stdout, e.stderr)
	}
}

// run runs patchgen test on the tree of -proof-tree. Standard input, if there is
// one, is patchgen's controlling terminal, and standard output and error, too.
// during is called while it runs, if not nil.
func (c *tester) run(t *testing.T, terminal *os.File, during func(patchgen *os.Process), args ...string) *ending {
	t.Helper()
	dir := t.TempDir()
	tmp, here := filepath.Join(dir, "tmp"), filepath.Join(dir, "here")
	if err := errors.Join(os.Mkdir(tmp, 0o777), os.Mkdir(here, 0o777)); err != nil {
		t.Fatal(err)
	}
	shm := list(t, "/dev/shm")
	mark := "PATCHGEN_KERNELTEST=" + rand.Text()
	args = append([]string{"test", "--tree", absolute(t, *proofTree)}, args...)
	if !slices.Contains(args, "--tests") {
		args = append(args, "--tests", "proof")
	}
	cmd := exec.CommandContext(t.Context(), c.patchgen, args...)
	cmd.Dir = here
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, mark)
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	if terminal != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	} else {
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if during != nil {
		during(cmd.Process)
	}
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	say("%s: %v after %v", t.Name(), cmd.ProcessState, time.Since(start).Round(time.Second/10))

	for _, pid := range marked(t, mark) {
		t.Errorf("process %d is left: %s", pid, cmdline(pid))
	}
	if left := slices.Concat(list(t, tmp), list(t, here)); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
	for _, name := range list(t, "/dev/shm") {
		if !slices.Contains(shm, name) {
			t.Errorf("/dev/shm/%s is left", name)
		}
	}
	socketsGo(t)
	return &ending{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// marked returns the processes that have the variable in their environment. A
// process that was killed has a moment to go.
func marked(t *testing.T, variable string) []int {
	t.Helper()
	for wait := time.Now().Add(2 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		files, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			t.Fatal(err)
		}
		var pids []int
		for _, file := range files {
			env, err := os.ReadFile(file)
			if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), variable) {
				continue // it has ended, or is another's
			}
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
		if len(pids) == 0 || time.Now().After(wait) {
			return pids
		}
	}
}

func cmdline(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.ReplaceAll(string(text), "\x00", " ")
}

var socketRE = regexp.MustCompile(`@patchgen-\S+`)

// socketsGo waits until all sockets of patchgen are gone that are there now.
// Those of another patchgen on this machine go, too, as each is for one run.
func socketsGo(t *testing.T) {
	t.Helper()
	sockets := func() []string {
		table, err := os.ReadFile("/proc/net/unix")
		if err != nil {
			t.Fatal(err)
		}
		return socketRE.FindAllString(string(table), -1)
	}
	there := sockets()
	for wait := time.Now().Add(time.Minute); len(there) > 0; time.Sleep(100 * time.Millisecond) {
		now := sockets()
		there = slices.DeleteFunc(there, func(name string) bool { return !slices.Contains(now, name) })
		if time.Now().After(wait) {
			t.Errorf("sockets are left: %v", there)
			return
		}
	}
}

// guests waits until patchgen has started n of QEMU, and returns their processes.
func guests(t *testing.T, patchgen *os.Process, n int) []int {
	t.Helper()
	for wait := time.Now().Add(3 * time.Minute); time.Now().Before(wait); time.Sleep(20 * time.Millisecond) {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", patchgen.Pid))
		if err != nil {
			t.Fatal(err)
		}
		var pids []int
		for _, file := range files {
			text, _ := os.ReadFile(file)
			for _, word := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(word); err == nil && strings.Contains(cmdline(pid), "-name patchgen-") {
					pids = append(pids, pid)
				}
			}
		}
		if len(pids) == n {
			return pids
		}
	}
	t.Errorf("patchgen did not start %d QEMUs", n)
	return nil
}

// A script is a program made of a shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o777); err != nil {
		t.Fatal(err)
	}
	return name
}

// A reader keeps what comes, and finds texts in it one after the other.
type reader struct {
	from io.Reader
	text chan []byte
	rest string
}

func newReader(from io.Reader) *reader {
	r := &reader{from: from, text: make(chan []byte, 1000)}
	go func() {
		defer close(r.text)
		for {
			p := make([]byte, 4096)
			n, err := from.Read(p)
			r.text <- p[:n]
			if err != nil {
				return
			}
		}
	}()
	return r
}

// find waits for a text behind what it has found before.
func (r *reader) find(text string, limit time.Duration) error {
	timeout := time.After(limit)
	for {
		if _, after, ok := strings.Cut(r.rest, text); ok {
			r.rest = after
			return nil
		}
		select {
		case p, ok := <-r.text:
			if !ok {
				return fmt.Errorf("it ends without %q: %s", text, r.rest)
			}
			r.rest += string(p)
		case <-timeout:
			return fmt.Errorf("no %q within %v: %s", text, limit, r.rest)
		}
	}
}
