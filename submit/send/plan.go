package send

import (
	"net/mail"
	"time"
)

// A Plan says what a Sender would do.
type Plan struct {
	Server  string // and how it is talked to
	Reflect bool
	Mails   []Planned
}

// A Planned is a mail of a Plan.
type Planned struct {
	Name, ID string
	Subject  string
	From     mail.Address
	To, Cc   []mail.Address // in the header
	Sender   string         // of the envelope
	Receives []string       // addresses of the envelope
	Size     int            // bytes, lines ending in LF
	State    State          // what is known of it: Waiting and Refused go out, and Uncertain once more
	Answer   string         // of the server, if there is one
	Time     time.Time      // of the answer
}

// Plan says what Send would do with the same arguments, and connects to nobody.
// If Send would go on with what is in the folder, the Plan is of that. folder may
// be "".
func (s *Sender) Plan(folder string, messages []Message) (Plan, error) {
	if err := s.check(messages); err != nil {
		return Plan{}, err
	}
	states := make([]entry, len(messages))
	if folder != "" {
		r, err := resume(folder, messages, s.Reflect)
		if err != nil {
			return Plan{}, err
		}
		if r != nil {
			messages, states = r.messages, r.states
		}
	}
	p := Plan{Server: s.Config.Server.String(), Reflect: s.Reflect}
	for i, m := range messages {
		e := s.envelope(m)
		p.Mails = append(p.Mails, Planned{
			Name: m.Name, ID: m.ID, Subject: m.Subject, From: m.From, To: m.To, Cc: m.Cc,
			Sender: e.from, Receives: e.to, Size: len(m.Data),
			State: states[i].State, Answer: states[i].Answer, Time: states[i].Time,
		})
	}
	return p, nil
}
