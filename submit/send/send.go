// Package send makes the final mails of a series and sends them over SMTP, as git
// send-email and b4 do: Compose makes them, Plan says what would go to whom, a
// Sender sends them and goes on after a break, and Compare holds what came back
// against what was sent. Export and MBox write them for git send-email and b4.
package send

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"

	"patchgen/progress"
	"patchgen/submit/address"
)

// DefaultPause is between two mails: their Dates are a second apart, too, so that
// they are sorted by Date as by arrival, and a server that counts mails a minute
// takes a series of the usual length.
const DefaultPause = time.Second

// A Sender sends mails.
type Sender struct {
	Config *Config

	// Reflect sends to whoever sends alone. The mails have the same bytes, all
	// recipients in their headers: what comes back is what would go (b4 send
	// --reflect). To be sent they are composed anew, as a list's copy of a mail
	// with the same Message-ID would be lost to whoever had it reflected.
	Reflect bool

	PasswordCommand string        // prints the password in its first line, run by sh; "" is sendemail.smtpPass, or else git's credential helper
	Pause           time.Duration // between two mails; 0 is DefaultPause, below 0 is none
	Skip            []string      // addresses that get nothing, though they stand in headers: of recipients that the server refuses
}

// A Result says what became of the mails.
type Result struct {
	Mails []Delivery // in their order; without those that have not gone out
}

// A Delivery is a mail that a server took.
type Delivery struct {
	Name, ID string
	Answer   string    // of the server
	Time     time.Time // of the answer
	Earlier  bool      // it was not in this run
	Repeated bool      // it may have gone out before, too, with the same Message-ID
}

// Send sends mails that Compose made, and writes down in a folder, made if need
// be, what it does: the mails first, and then what became of each.
//
// A second run with the same folder sends those that have not gone out, with the
// same bytes and Message-IDs, though the messages that it is given have others. A
// mail that was handed over without an answer, as the connection broke, is sent
// once more: lists, archives and clients know a mail by its Message-ID and drop
// the second, while a series with a hole can be used by nobody.
//
// The messages have to be of the same patches, sender and recipients as those in
// the folder, unless none of these went out. A mail goes out to all of its
// recipients or, if the server refuses one, to nobody. Send stops at the first
// error, and the result has what went out until then.
func (s *Sender) Send(ctx context.Context, folder string, messages []Message, report progress.Reporter) (Result, error) {
	if err := s.check(messages); err != nil {
		return Result{}, err
	}
	if !s.Config.Server.known() {
		return Result{}, errors.New("it is not known which server takes mails: set sendemail.smtpServer, see git-send-email(1)")
	}
	j, err := openJournal(folder, messages, s.Reflect)
	if err != nil {
		return Result{}, err
	}
	defer j.close()
	var result Result
	var left []int
	for i, e := range j.states {
		if e.State == Sent {
			result.Mails = append(result.Mails, j.delivery(i, true))
			continue
		}
		left = append(left, i)
	}
	if left == nil {
		return result, nil
	}
	if s.Config.Server.Program == nil {
		report.Stage("connect to "+s.Config.Server.String(), 0, "")
	}
	t, err := s.transport(ctx, j, left)
	if s.Config.Server.Program == nil {
		report.End()
	}
	if err != nil {
		return result, err
	}
	report.Stage("send", int64(len(left)), "mails")
	defer report.End()
	defer func() {
		if t != nil {
			t.close()
		}
	}()
	for n, i := range left {
		if n > 0 {
			pause, again := s.Pause, false
			if pause == 0 {
				pause = DefaultPause
			}
			if size := s.Config.Server.BatchSize; size > 0 && n%size == 0 {
				t.close()
				pause, again = max(pause, s.Config.Server.ReloginDelay), true
			}
			if err := wait(ctx, pause); err != nil {
				return result, s.stopped(err, j, i, len(left)-n)
			}
			if again {
				if t, err = s.transport(ctx, j, left[n:]); err != nil {
					t = nil
					return result, s.stopped(err, j, i, len(left)-n)
				}
			}
		}
		known := j.size
		answer, err := t.send(ctx, i, s.envelope(j.messages[i]))
		if err != nil {
			// What is refused before it is handed over may still have gone out when
			// it was, in an earlier run.
			handedOver := j.size > known
			if refused := (*RefusedError)(nil); errors.As(err, &refused) && (handedOver || j.states[i].State != Uncertain) {
				if err := j.note(i, Refused, refused.Answer); err != nil {
					return result, err
				}
			}
			return result, s.stopped(err, j, i, len(left)-n)
		}
		if err := j.note(i, Sent, answer); err != nil {
			return result, fmt.Errorf("%s: it went out, and that could not be written down: %w", j.Mails[i].Name, err)
		}
		result.Mails = append(result.Mails, j.delivery(i, false))
		report.Step(int64(n + 1))
	}
	return result, nil
}

func (j *journal) delivery(i int, earlier bool) Delivery {
	e := j.states[i]
	return Delivery{j.Mails[i].Name, j.Mails[i].ID, e.Answer, e.Time, earlier, e.repeated}
}

// interrupted says for people what a canceled context is.
type interrupted struct{ error }

func (interrupted) Error() string   { return "interrupted" }
func (e interrupted) Unwrap() error { return e.error }

// stopped says at which mail sending ended, and what that means for it.
func (s *Sender) stopped(err error, j *journal, i, left int) error {
	if errors.Is(err, context.Canceled) {
		err = interrupted{err}
	}
	state := "it has not gone out"
	if j.states[i].unsure() {
		state = "whether it went out is not known: if sending is gone on with, it is sent once more, with the same Message-ID"
	}
	return fmt.Errorf("mail %d of %d, %s: %w; %s; %d are left to send", i+1, len(j.Mails), j.Mails[i].Name, err, state, left)
}

// check tells what is wrong before anything is written or connected to.
func (s *Sender) check(messages []Message) error {
	if len(messages) == 0 {
		return errors.New("there are no mails to send")
	}
	for _, m := range messages {
		e := s.envelope(m)
		if len(e.to) == 0 {
			return fmt.Errorf("%s: all of its recipients are to be left out", m.Name)
		}
		for _, a := range append([]string{e.from}, e.to...) {
			if _, err := address.Check(mail.Address{Address: a}); err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
		}
	}
	server := s.Config.Server
	if s.Reflect && readsHeaders(server.Program) {
		return errors.New("the mails are to come to nobody else, and sendemail.sendmailCmd or smtpServerOption has -t, by which the program sends to whom the header names: leave it out")
	}
	if server.Program != nil || !server.known() {
		return nil
	}
	if !server.encrypted() {
		if !isLocal(server.Host) {
			return fmt.Errorf("%s is not this machine, and mails do not go there in plain text: set sendemail.smtpEncryption to tls (STARTTLS) or ssl", server.Host)
		}
		if server.User != "" {
			return errors.New("sendemail.smtpUser is set, and a password does not go out in plain text: set sendemail.smtpEncryption to tls or ssl, or unset smtpUser")
		}
	}
	return nil
}

// An envelope is what a server is told of a mail.
type envelope struct {
	from string
	to   []string
}

func (s *Sender) envelope(m Message) envelope {
	e := envelope{from: m.From.Address}
	if s.Config.EnvelopeSender != "" {
		e.from = s.Config.EnvelopeSender
	}
	if s.Reflect {
		e.to = []string{m.From.Address}
		return e
	}
	for _, to := range m.Recipients {
		if !slices.ContainsFunc(s.Skip, func(skip string) bool { return strings.EqualFold(skip, to) }) {
			e.to = append(e.to, to)
		}
	}
	return e
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(max(d, 0)):
		return ctx.Err()
	}
}

// A transport hands mails over.
type transport interface {
	// send hands over the ith mail, and returns what the server answered. It
	// notes it as Uncertain before the server can take it. After a
	// *RefusedError the mail has not gone out.
	send(ctx context.Context, i int, e envelope) (answer string, err error)
	close()
}

// A RefusedError says that a server did not take a mail, which has not gone out.
type RefusedError struct {
	Answer     string   // of the server, on one line
	Recipients []string // addresses, if it was for them that it refused
	Later      bool     // it may take it later
}

func (e *RefusedError) Error() string { return e.Answer }

func (s *Sender) transport(ctx context.Context, j *journal, left []int) (transport, error) {
	if s.Config.Server.Program != nil {
		return &program{s, j}, nil
	}
	return s.connect(ctx, j, left)
}
