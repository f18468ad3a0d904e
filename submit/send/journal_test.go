package send

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"patchgen/progress"
)

// broken is a sending of three mails of which the second may have gone out.
func broken(t testing.TB) (*mailServer, *Sender, string, []Draft) {
	t.Helper()
	s := &mailServer{onData: func(n int) fault { return fault{silent: n == 2} }}
	_, sender := plainServer(t, s)
	in := drafts(t, "6.12")[:3]
	folder := filepath.Join(t.TempDir(), "v1")
	if _, err := sender.Send(t.Context(), folder, compose(t, options(), in...), progress.Nop{}); err == nil {
		t.Fatal("no error")
	}
	return s, sender, folder, in
}

func TestChangedSince(t *testing.T) {
	for name, test := range map[string]struct {
		change func(folder string, in []Draft, o *ComposeOptions)
		want   string // of the error; nothing if the rest goes out
	}{
		"nothing": {func(string, []Draft, *ComposeOptions) {}, ""},
		"other time": {func(_ string, _ []Draft, o *ComposeOptions) {
			o.Time, o.Random, o.Mailer = o.Time.AddDate(0, 1, 0), nil, "new"
		}, ""},
		"a patch": {func(_ string, in []Draft, _ *ComposeOptions) { in[2].Data = append(in[2].Data, '\n') }, "restore it to send the rest, or move that folder away"},
		"a patch that went out": {func(_ string, in []Draft, _ *ComposeOptions) { in[0].Data = append(in[0].Data, '\n') },
			"1 of 3 mails were sent from here"},
		"recipients": {func(_ string, in []Draft, _ *ComposeOptions) { in[2].Cc = nil }, "restore it"},
		"sender":     {func(_ string, _ []Draft, o *ComposeOptions) { o.From.Name = "Else" }, "restore it"},
		"version":    {func(_ string, _ []Draft, o *ComposeOptions) { o.Version = 2 }, "restore it"},
		"a stored mail": {func(folder string, _ []Draft, _ *ComposeOptions) {
			files, _ := filepath.Glob(filepath.Join(folder, mailsDir, "0002*"))
			os.WriteFile(files[0], []byte("x"), 0o666)
		}, "was changed since the sending began, and some of its mails went out"},
		"a stored mail away": {func(folder string, _ []Draft, _ *ComposeOptions) {
			files, _ := filepath.Glob(filepath.Join(folder, mailsDir, "0000*"))
			os.Remove(files[0])
		}, "restore that file"},
		"a torn last line": {func(folder string, _ []Draft, _ *ComposeOptions) { addLine(folder, `{"mail":2,"state":"sent","ti`) }, ""},
		"a long torn line": {func(folder string, _ []Draft, _ *ComposeOptions) { addLine(folder, strings.Repeat("x", 1000)) }, ""},
		"damage":           {func(folder string, _ []Draft, _ *ComposeOptions) { addLine(folder, "{\n") }, "line 5 is not one that patchgen wrote"},
		"sent and sent": {func(folder string, _ []Draft, _ *ComposeOptions) {
			addLine(folder, `{"mail":1,"state":"sending"}`+"\n")
		}, "line 5"},
		"a mail too many": {func(folder string, _ []Draft, _ *ComposeOptions) {
			addLine(folder, `{"mail":4,"state":"sending"}`+"\n")
		}, "line 5"},
	} {
		t.Run(name, func(t *testing.T) {
			s, sender, folder, in := broken(t)
			first := s.taken()
			o := options()
			test.change(folder, in, &o)
			messages := compose(t, o, in...)
			_, planErr := sender.Plan(folder, messages)
			r, err := sender.Send(t.Context(), folder, messages, progress.Nop{})
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), folder) {
					t.Errorf("%v, want %q", err, test.want)
				}
				if planErr == nil || planErr.Error() != err.Error() {
					t.Errorf("the plan says %v", planErr)
				}
				if len(s.taken()) != len(first) {
					t.Error("mails went out")
				}
				return
			}
			if err != nil || planErr != nil {
				t.Fatal(err, planErr)
			}
			if len(s.taken()) != 4 || s.taken()[1].data != s.taken()[2].data || !r.Mails[1].Repeated || r.Mails[2].Repeated {
				t.Errorf("%d mails, %+v", len(s.taken()), r)
			}
			if got := journalStates(t, folder); !slices.Equal(got, []State{Sent, Sent, Sent}) {
				t.Errorf("journal %v", got)
			}
		})
	}
}

// What may have gone out stays so, whatever a later run comes to.
func TestUncertainStays(t *testing.T) {
	s, sender, folder, in := broken(t)
	messages := compose(t, options(), in...)
	again := func(want string, states ...State) {
		t.Helper()
		_, err := sender.Send(t.Context(), folder, messages, progress.Nop{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "whether it went out is not known") {
			t.Errorf("%v, want %q", err, want)
		}
		if got := journalStates(t, folder); !slices.Equal(got, states) {
			t.Errorf("journal %v, want %v", got, states)
		}
	}
	sender.Config.EnvelopeSender = "refused@example.org"
	again("553", Sent, Uncertain, Waiting)
	sender.Config.EnvelopeSender = ""
	s.fail(func(int) fault { return fault{answer: &smtp.SMTPError{Code: 451, Message: "no room"}} })
	again("451", Sent, Refused, Waiting)
	s.fail(nil)
	if r := send(t, sender, folder, messages); !r.Mails[1].Repeated || r.Mails[0].Repeated || r.Mails[2].Repeated {
		t.Errorf("%+v", r)
	}
}

func addLine(folder, text string) {
	f, err := os.OpenFile(filepath.Join(folder, journalFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		panic(err)
	}
	f.WriteString(text)
	f.Close()
}

// As long as nothing went out, it is begun anew, with the day's Date.
func TestNothingWentOut(t *testing.T) {
	s, sender := plainServer(t, &mailServer{})
	folder := t.TempDir()
	in := drafts(t, "6.12")
	sender.Config.EnvelopeSender = "refused@example.org"
	if _, err := sender.Send(t.Context(), folder, compose(t, options(), in...), progress.Nop{}); err == nil {
		t.Fatal("no error")
	}
	sender.Config.EnvelopeSender = ""
	in[1].Data = append(in[1].Data, '\n')
	o := options()
	o.Time = o.Time.AddDate(0, 0, 1)
	messages := compose(t, o, in...)
	send(t, sender, folder, messages)
	s.same(t, messages)
	entries, _ := os.ReadDir(folder)
	if len(entries) != 2 {
		t.Errorf("left in the folder: %v", entries)
	}
	// All went out: other patches do not go there.
	in[1].Data = append(in[1].Data, '\n')
	if _, err := sender.Send(t.Context(), folder, compose(t, o, in...), progress.Nop{}); err == nil || !strings.Contains(err.Error(), "take another folder") {
		t.Errorf("%v", err)
	}
	s.same(t, messages)
}

func TestTwoAtOnce(t *testing.T) {
	_, sender := plainServer(t, &mailServer{})
	folder := t.TempDir()
	messages := compose(t, options(), drafts(t, "6.12")...)
	j, err := openJournal(folder, messages, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sender.Send(t.Context(), folder, messages, progress.Nop{}); err == nil || !strings.Contains(err.Error(), "another patchgen is sending") {
		t.Errorf("%v", err)
	}
	j.close()
	send(t, sender, folder, messages)
}

func TestLoadNothing(t *testing.T) {
	if _, err := Load(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

const heading1 = `{"patchgen_journal":1,"mails":[{"name":"a.patch","sha256":"x"},{"name":"b"}]}` + "\n"

func TestParseJournal(t *testing.T) {
	for name, test := range map[string]struct{ data, want string }{
		"good":              {heading1, ""},
		"empty":             {"", "not one whole line"},
		"torn heading":      {strings.TrimSpace(heading1), "not one whole line"},
		"other format":      {strings.Replace(heading1, "1", "2", 1), "line 1"},
		"no mails":          {`{"patchgen_journal":1}` + "\n", "line 1"},
		"path":              {strings.Replace(heading1, "a.patch", "../a", 1), "named"},
		"the same twice":    {strings.Replace(heading1, "a.patch", "b.patch", 1), "named"},
		"unknown state":     {heading1 + `{"mail":1,"state":"lost"}` + "\n", "line 2"},
		"mail 0":            {heading1 + `{"mail":0,"state":"sent"}` + "\n", "line 2"},
		"empty line":        {heading1 + "\n", "line 2"},
		"after it was sent": {heading1 + `{"mail":1,"state":"sent"}` + "\n" + `{"mail":1,"state":"sent"}` + "\n", "line 3"},
	} {
		_, _, _, err := parseJournal([]byte(test.data))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// Whatever a journal is cut to, and whatever is written behind it then, it reads.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(heading1+`{"mail":1,"state":"sending","time":"2026-01-02T03:04:05Z"}`+"\n"+`{"mail":1,"state":"sent","answer":"ok"}`+"\n"), 5)
	f.Add([]byte(heading1), 0)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		h, states, size, err := parseJournal(data)
		if err != nil {
			return
		}
		if len(states) != len(h.Mails) || size > len(data) {
			t.Fatalf("%d states of %d mails in %d of %d bytes", len(states), len(h.Mails), size, len(data))
		}
		for _, i := range h.Mails {
			if !filepath.IsLocal(i.file()) || strings.Contains(i.file(), "/") {
				t.Errorf("a file %q", i.file())
			}
		}
		first := bytes.IndexByte(data, '\n') + 1
		if cut < 0 || cut > len(data)-first {
			return
		}
		_, _, size, err = parseJournal(data[:first+cut])
		if err != nil {
			t.Fatalf("cut to %d bytes: %v", first+cut, err)
		}
		for i, e := range states {
			if e.State != Sent {
				more := fmt.Appendf(bytes.Clone(data[:size]), "{\"mail\":%d,\"state\":\"sending\"}\n", i+1)
				if _, states, _, err := parseJournal(more); err != nil || states[i].State != Uncertain {
					t.Errorf("%v, %v", states, err)
				}
			}
		}
	})
}
