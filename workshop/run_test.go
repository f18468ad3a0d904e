package workshop

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	var log bytes.Buffer
	var got []string
	l := &Lines{Log: &log, Line: func(s string) { got = append(got, s) }}
	for _, part := range []string{"o", "ne\r\ntwo\n\nth", "ree"} {
		l.Write([]byte(part))
	}
	l.End()
	l.End()
	if diff := cmp.Diff([]string{"one", "two", "", "three"}, got); diff != "" || log.String() != "one\r\ntwo\n\nthree" {
		t.Errorf("%s %q", diff, log.String())
	}
	got = nil
	l.Write([]byte(strings.Repeat("x", 3*maxLine)))
	if len(l.partial) > maxLine || len(got) == 0 {
		t.Errorf("%d bytes are held back", len(l.partial))
	}
}

func TestRun(t *testing.T) {
	torn, err := Run(exec.CommandContext(t.Context(), "sh", "-c", "exit 3"))
	var exit *exec.ExitError
	if torn || !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("%t, %v", torn, err)
	}
	if torn, err = Run(exec.CommandContext(t.Context(), "sh", "-c", "kill -9 $$")); !torn || err == nil {
		t.Errorf("killed: %t, %v", torn, err)
	}
	// It is told to stop, and does.
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "sh", "-c", "trap 'exit 0' TERM; echo; sleep 60 & wait")
	cmd.Stdout = &onWrite{cancel}
	if torn, err = Run(cmd); torn || !errors.Is(Ended(ctx, err), context.Canceled) {
		t.Errorf("stopped: %t, %v", torn, err)
	}
	if torn, err = Run(exec.CommandContext(t.Context(), "/nonexistent")); torn || err == nil {
		t.Errorf("no such program: %t, %v", torn, err)
	}
}

type onWrite struct{ do func() }

func (w *onWrite) Write(p []byte) (int, error) { w.do(); return len(p), nil }

func TestEnvironment(t *testing.T) {
	got := Environment([]string{"PATH=/bin", "ARCH=arm", "CCACHE_DIR=/c", "MAKEFLAGS=-k"}, []string{"LC_ALL=C"})
	if diff := cmp.Diff([]string{"PATH=/bin", "CCACHE_DIR=/c", "LC_ALL=C"}, got); diff != "" {
		t.Error(diff)
	}
}
