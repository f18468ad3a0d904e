package qemutest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stand puts a script in QEMU's place.
func stand(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, qemu), []byte("#!/bin/sh\n"+script+"\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestBootEnds(t *testing.T) {
	for _, test := range []struct {
		name, script string
		end          End
		why          string
	}{
		{"off", "echo reboot: Restarting system", Exited, ""},
		{"panic", "echo '[    1.000000] Kernel panic - not syncing: no init'", Panicked, "Kernel panic - not syncing: no init"},
		{"oops", "echo '[    1.000000][    T1] BUG: unable to handle page fault for address: 0'; echo 'Oops: 0002 [#1] SMP'", Oopsed, "BUG: unable to handle page fault for address: 0"},
		{"oops and panic", "echo 'divide error: 0000 [#1] SMP'; echo 'Kernel panic - not syncing: Fatal exception'", Panicked, "Kernel panic - not syncing: Fatal exception"},
		{"oops and hang", "echo 'invalid opcode: 0000 [#1] SMP'; exec sleep 20", Oopsed, "invalid opcode: 0000 [#1] SMP"},
		{"hang", "echo booting; exec sleep 20", TimedOut, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			stand(t, test.script)
			r, err := Boot(t.Context(), Machine{Kernel: "k", Limit: 300 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if r.End != test.end || r.Why != test.why {
				t.Errorf("%v %q, want %v %q", r.End, r.Why, test.end, test.why)
			}
			if len(r.Console) == 0 {
				t.Error("the console is empty")
			}
		})
	}
}

func TestBootFails(t *testing.T) {
	stand(t, "echo 'could not load kernel' >&2; exit 1")
	_, err := Boot(t.Context(), Machine{Kernel: "k"})
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 1: could not load kernel") {
		t.Errorf("got %v", err)
	}

	stand(t, "exec sleep 20")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Boot(ctx, Machine{Kernel: "k"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}

	t.Setenv("PATH", t.TempDir())
	var missing *MissingQEMUError
	if _, err := Boot(t.Context(), Machine{Kernel: "k"}); !errors.As(err, &missing) || !strings.Contains(err.Error(), "install the package qemu-system-x86") {
		t.Errorf("got %v, want *MissingQEMUError", err)
	}
}

func TestMachine(t *testing.T) {
	stand(t, `for a; do echo "$a"; done`)
	var live bytes.Buffer
	r, err := Boot(t.Context(), Machine{Kernel: "bzImage", Args: []string{"quiet", "a=b"}, CPUs: 2, Console: &live})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(live.Bytes(), r.Console) {
		t.Error("Console did not get what the result has")
	}
	args := " " + strings.ReplaceAll(string(r.Console), "\n", " ")
	for _, want := range []string{" -smp 2 ", " -m 512 ", " -kernel bzImage ", " -append console=ttyS0 panic=-1 quiet a=b ", " -no-reboot "} {
		if !strings.Contains(args, want) {
			t.Errorf("no%sin%s", want, args)
		}
	}
}

func TestTail(t *testing.T) {
	w := tail{max: 10}
	for range 10 {
		w.Write([]byte("abc"))
	}
	if n := len(w.kept); n < 5 || n > 10 || !strings.HasSuffix("abcabcabcabc", string(w.kept)) {
		t.Errorf("kept %q", w.kept)
	}
}

func TestFaults(t *testing.T) {
	console := "[    0.100000] Linux version 6.12\r\n" +
		"[    0.200000] WARNING: CPU: 0 PID: 1 at lib/x.c:1 f+0x1/0x2\r\n" +
		"[    0.200000] Modules linked in:\r\n" +
		"[    0.300000] rcu: INFO: rcu_preempt self-detected stall on CPU\n" +
		"[    0.300000] Spectre V2 : WARNING: mitigations are off\n" +
		"BUG: sleeping function called\n" +
		"[    0.400000] RIP: 0010:f+0x1/0x2\n"
	want := []string{"WARNING: CPU: 0 PID: 1 at lib/x.c:1 f+0x1/0x2", "rcu: INFO: rcu_preempt self-detected stall on CPU", "BUG: sleeping function called"}
	if diff := cmp.Diff(want, Faults([]byte(console))); diff != "" {
		t.Error(diff)
	}
	if got := Faults(nil); got != nil {
		t.Error(got)
	}
}
