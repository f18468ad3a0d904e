package send

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"patchgen/progress"
)

// How TestKilled tells the process that it starts what to do: the port of a server,
// the pause between two mails, and the folder.
const killedEnv = "PATCHGEN_TEST_KILLED"

// now are the options of a run of the program, whose Message-IDs no other has.
func now() ComposeOptions {
	o := options()
	o.Time, o.Random = time.Time{}, nil
	return o
}

// The process that sends is killed while the server has the third mail, or between two
// mails. Another sends the rest, with the bytes and Message-IDs of the first.
func TestKilled(t *testing.T) {
	if job := os.Getenv(killedEnv); job != "" {
		sendUntilKilled(t, job)
		return
	}
	in := drafts(t, "6.12")
	for name, test := range map[string]struct {
		at    func(kill func()) fault // of the third mail
		pause time.Duration
		state State
		twice bool
	}{
		"before the mail is taken": {at: func(kill func()) fault {
			return fault{before: kill, answer: &smtp.SMTPError{Code: 451, Message: "nobody hears it"}}
		}, pause: -1, state: Uncertain},
		"after it is taken, before the answer": {at: func(kill func()) fault { return fault{after: kill} }, pause: -1, state: Uncertain, twice: true},
		"in a pause":                           {pause: time.Hour, state: Waiting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), "v1.sending")
			started, exited := make(chan *exec.Cmd, 1), make(chan error, 1)
			kill := func() {
				child := <-started
				child.Process.Kill()
				exited <- child.Wait()
			}
			s, sender := plainServer(t, &mailServer{onData: func(n int) fault {
				if n == 3 && test.at != nil {
					return test.at(kill)
				}
				return fault{}
			}})
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
			child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s %s", killedEnv, s.port, test.pause, folder))
			var out bytes.Buffer
			child.Stdout, child.Stderr = &out, &out
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			started <- child
			first := 2 // mails of which the first process knows that they are out
			if test.at == nil {
				first = 1
				waitFor(t, func() bool { return isSent(folder, 0) })
				kill()
			}
			select {
			case err := <-exited:
				if err == nil || !strings.Contains(err.Error(), "killed") {
					t.Fatalf("the process that was to be killed: %v\n%s", err, &out)
				}
			case <-time.After(time.Minute):
				t.Fatal("the process that was to be killed sends nothing")
			}
			want := slices.Repeat([]State{Waiting}, len(in))
			for i := range first {
				want[i] = Sent
			}
			want[first] = test.state
			if got := journalStates(t, folder); !slices.Equal(got, want) {
				t.Errorf("journal: %v, want %v", got, want)
			}
			stored, err := Load(folder)
			if err != nil {
				t.Fatal(err)
			}

			again := compose(t, now(), in...)
			if again[0].ID == stored[0].ID {
				t.Fatal("two runs have the same Message-IDs by themselves")
			}
			r := send(t, sender, folder, again)
			for i, m := range r.Mails {
				if m.Earlier != (i < first) || m.Repeated != (want[i] == Uncertain) || m.ID != stored[i].ID {
					t.Errorf("mail %d: %+v", i+1, m)
				}
			}
			if test.twice {
				taken := s.taken()
				if len(taken) != len(in)+1 || taken[2].data != taken[3].data {
					t.Fatalf("the server has %d mails, want %d of which the third is there twice", len(taken), len(in)+1)
				}
				s.mu.Lock()
				s.mails = slices.Delete(s.mails, 3, 4)
				s.mu.Unlock()
			}
			s.same(t, stored)
		})
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to that within a minute")
		}
	}
}

// isSent reports whether a folder's journal has a mail as sent.
func isSent(folder string, i int) bool {
	r, err := readRecord(folder)
	return err == nil && r != nil && i < len(r.states) && r.states[i].State == Sent
}

// sendUntilKilled is the process that is killed.
func sendUntilKilled(t *testing.T, job string) {
	words := strings.SplitN(job, " ", 3)
	port, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatal(err)
	}
	s := sender(Server{Host: "127.0.0.1", Port: port, Encryption: Plain})
	if s.Pause, err = time.ParseDuration(words[1]); err != nil {
		t.Fatal(err)
	}
	_, err = s.Send(t.Context(), words[2], compose(t, now(), drafts(t, "6.12")...), progress.Nop{})
	t.Fatalf("it was not killed: %v", err)
}
