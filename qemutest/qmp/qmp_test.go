package qmp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "Debian 1:10"}, "capabilities": ["oob"]}}` + "\n"

// pair returns two connected sockets.
func pair(t *testing.T) (client, qemu *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// start connects to a QEMU that says, after the greeting and the negotiation,
// for each command what answer returns, and goes when that is "".
func start(t *testing.T, handle func(Event), answer func(line string) string) *Client {
	t.Helper()
	client, qemu := pair(t)
	go func() {
		defer qemu.Close()
		fmt.Fprint(qemu, greeting)
		lines := bufio.NewScanner(qemu)
		for n := 0; lines.Scan(); n++ {
			if n == 0 {
				fmt.Fprintln(qemu, `{"return": {}, "id": 1}`)
				continue
			}
			said := answer(lines.Text())
			if said == "" {
				return
			}
			fmt.Fprintln(qemu, said)
		}
	}()
	c, err := New(t.Context(), client, handle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestDo(t *testing.T) {
	var events []string
	c := start(t, func(e Event) { events = append(events, e.Name+string(e.Data)) }, func(line string) string {
		switch {
		case strings.Contains(line, `"execute":"query-migrate"`):
			return `{"timestamp": {"seconds": 3, "microseconds": 5}, "event": "MIGRATION", "data": {"status": "active"}}` + "\n" +
				`{"return": {"status": "active", "ram": {"normal": 7}}, "id": 2}`
		case line == `{"execute":"migrate","arguments":{"uri":"fd:x"},"id":3}`:
			return `{"id": 3, "error": {"class": "GenericError", "desc": "there is one under way"}}`
		}
		return `{"return": {}, "id": 4}`
	})
	if got := c.Version.String(); got != "10.0.2 (Debian 1:10)" {
		t.Errorf("version %q", got)
	}
	if !c.Version.AtLeast(10, 0) || !c.Version.AtLeast(9, 2) || c.Version.AtLeast(10, 1) || c.Version.AtLeast(11, 0) {
		t.Error("AtLeast")
	}
	var info struct {
		Status string
		RAM    struct{ Normal int }
	}
	if err := c.Do(t.Context(), "query-migrate", nil, &info); err != nil || info.Status != "active" || info.RAM.Normal != 7 {
		t.Errorf("%+v, %v", info, err)
	}
	if len(events) != 1 || events[0] != `MIGRATION{"status": "active"}` {
		t.Errorf("events %q", events)
	}
	err := c.Do(t.Context(), "migrate", map[string]string{"uri": "fd:x"}, nil)
	var refused *Error
	if !errors.As(err, &refused) || refused.Class != "GenericError" || err.Error() != "QEMU refuses migrate: there is one under way" {
		t.Errorf("got %v", err)
	}
	// A refusal is not the end.
	if err := c.Do(t.Context(), "stop", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestSendFile(t *testing.T) {
	client, qemu := pair(t)
	got := make(chan string, 1)
	go func() {
		fmt.Fprint(qemu, greeting)
		line := make([]byte, 1000)
		qemu.Read(line)
		fmt.Fprintln(qemu, `{"return": {}, "id": 1}`)
		rights := make([]byte, 100)
		n, nr, _, _, err := qemu.ReadMsgUnix(line, rights)
		if err != nil {
			got <- err.Error()
			return
		}
		messages, err := unix.ParseSocketControlMessage(rights[:nr])
		if err != nil || len(messages) != 1 {
			got <- fmt.Sprint(len(messages), err)
			return
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			got <- fmt.Sprint(fds, err)
			return
		}
		f := os.NewFile(uintptr(fds[0]), "")
		defer f.Close()
		text := make([]byte, 100)
		m, _ := f.ReadAt(text, 0)
		fmt.Fprintln(qemu, `{"return": {}, "id": 2}`)
		got <- strings.TrimSpace(string(line[:n])) + " " + string(text[:m])
	}()
	c, err := New(t.Context(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	name := t.TempDir() + "/file"
	if err := os.WriteFile(name, []byte("hello"), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.SendFile(t.Context(), "ram", f); err != nil {
		t.Fatal(err)
	}
	if got, want := <-got, `{"execute":"getfd","arguments":{"fdname":"ram"},"id":2} hello`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestNonsense: whatever QEMU says, a command ends, and says why.
func TestNonsense(t *testing.T) {
	for name, test := range map[string]struct{ answer, want string }{
		"gone":         {"", ErrClosed.Error()},
		"no JSON":      {"hello", `QMP: not a message: "hello"`},
		"no object":    {"[]", "QMP: not a message"},
		"nothing":      {"{}", "QMP: neither an answer nor an event"},
		"wrong ID":     {`{"return": {}, "id": 9}`, "QMP: an answer to command 9, want one to 2"},
		"no ID":        {`{"return": {}}`, "QMP: an answer to command 0, want one to 2"},
		"odd ID":       {`{"return": {}, "id": "x"}`, "QMP: not a message"},
		"wrong return": {`{"return": 7, "id": 2}`, "QMP: what stop returns"},
		"too long":     {`{"return": {}, "id": 2, "x": "` + strings.Repeat("x", maxLine) + `"}`, "QMP: read"},
		"twice":        {`{"return": {}, "id": 1}` + "\n" + `{"return": {}, "id": 1}` + "\n" + `{"return": {}, "id": 1}`, "QMP: an answer to"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, nil, func(string) string { return test.answer })
			var reply struct{}
			if err := c.Do(t.Context(), "stop", nil, &reply); err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestNoGreeting(t *testing.T) {
	for name, test := range map[string]struct{ said, want string }{
		"gone":      {"", ErrClosed.Error()},
		"no JSON":   {"hello\n", "QMP: the greeting is not JSON"},
		"other":     {`{"return": {}}` + "\n", "QMP: not a greeting"},
		"endless":   {strings.Repeat("x", maxLine+1), "QMP: no greeting"},
		"then gone": {greeting, ErrClosed.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			client, qemu := pair(t)
			go func() {
				fmt.Fprint(qemu, test.said)
				if test.said == greeting {
					qemu.Read(make([]byte, 1000))
				}
				qemu.Close()
			}()
			if _, err := New(t.Context(), client, nil); err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestSilence: a QEMU that says nothing does not hold up anybody for longer than
// their context.
func TestSilence(t *testing.T) {
	reason := errors.New("enough")
	client, _ := pair(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, reason)
	defer cancel()
	if _, err := New(ctx, client, nil); !errors.Is(err, reason) {
		t.Errorf("New: got %v", err)
	}

	quit := make(chan bool)
	defer close(quit)
	c := start(t, nil, func(string) string { <-quit; return "" })
	ctx, cancel = context.WithTimeoutCause(t.Context(), 20*time.Millisecond, reason)
	defer cancel()
	if err := c.Do(ctx, "stop", nil, nil); err != reason {
		t.Errorf("Do: got %v", err)
	}
	// Its answer could be taken for that to another.
	if err := c.Do(t.Context(), "stop", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after it: got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"return": {}, "id": 2}`))
	f.Add([]byte(`{"id": 3, "error": {"class": "GenericError", "desc": "there is one under way"}}`))
	f.Add([]byte(`{"timestamp": {"seconds": 3, "microseconds": 5}, "event": "MIGRATION", "data": {"status": "active"}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parse(line)
		var e *ProtocolError
		switch {
		case err != nil && !errors.As(err, &e):
			t.Errorf("%v", err)
		case err == nil && m.Event == "" && m.Return == nil && m.Error == nil:
			t.Errorf("%q says nothing", line)
		}
	})
}
