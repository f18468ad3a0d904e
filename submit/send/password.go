package send

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// A login is a name and a password. Neither fmt nor an error shows the password.
type login struct {
	user     string
	password *string
	helper   []byte // what git's credential helper said, to tell it how that went; nil if it was not asked
}

// login gets the password for the server.
func (s *Sender) login(ctx context.Context) (login, error) {
	c := s.Config
	l := login{user: c.Server.User, password: c.password}
	switch {
	case s.PasswordCommand != "":
		cmd := exec.CommandContext(ctx, "sh", "-c", s.PasswordCommand)
		out, err := cmd.Output() // what it says on standard error may have the password in it
		if err != nil {
			return l, fmt.Errorf("the command for the password of %s: %w: run it by hand to see why", l.user, hideOutput(err))
		}
		first, _, _ := bytes.Cut(out, []byte("\n"))
		password := strings.TrimSuffix(string(first), "\r")
		l.password = &password
	case l.password == nil:
		description := fmt.Sprintf("protocol=smtp\nhost=%s\nusername=%s\n\n", c.Server.address(), l.user)
		out, err := c.credential(ctx, "fill", []byte(description))
		if err != nil {
			return l, fmt.Errorf("git has no password for %s at %s (%w): set credential.helper, or give a command for it", l.user, c.Server.address(), err)
		}
		l.helper = out
		var password string
		for line := range strings.Lines(string(out)) {
			switch key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "="); key {
			case "username":
				l.user = value
			case "password":
				password = value
			}
		}
		l.password = &password
	}
	if *l.password == "" {
		return l, fmt.Errorf("there is no password for %s at %s: set sendemail.smtpPass or credential.helper, or give a command for it", l.user, c.Server.address())
	}
	if strings.ContainsAny(*l.password+l.user, "\x00\r\n") {
		return l, fmt.Errorf("the name or the password of %s has a line end or a NUL in it", c.Server.User)
	}
	return l, nil
}

// hideOutput leaves of an error of exec what the system says, and not what the
// program did.
func hideOutput(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return errors.New(exit.ProcessState.String())
	}
	return err
}

// credential runs git credential, which may ask the person on the terminal.
func (c *Config) credential(ctx context.Context, action string, in []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", "credential", action)
	cmd.Dir = c.dir
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		return nil, hideOutput(err)
	}
	return out, nil
}

// tellHelper has git keep or forget a password that its helper gave. If that
// fails, it is asked for again some day.
func (c *Config) tellHelper(ctx context.Context, action string, l login) {
	if l.helper != nil {
		c.credential(ctx, action, l.helper)
	}
}

// scrub takes the password out of a text from outside, in the forms in which it
// was sent.
func (l login) scrub(text string) string {
	if l.password == nil || *l.password == "" {
		return text
	}
	secrets := []string{base64.StdEncoding.EncodeToString([]byte("\x00" + l.user + "\x00" + *l.password)),
		base64.StdEncoding.EncodeToString([]byte(*l.password)), *l.password}
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "[password]")
	}
	return text
}
