package send

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"patchgen/submit/address"
)

// A program is a sendmail: started for each mail with its recipients as
// arguments, as git send-email starts it.
type program struct {
	s *Sender
	j *journal
}

func (p *program) close() {}

func (p *program) send(ctx context.Context, i int, e envelope) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	args := p.s.Config.Server.Program
	if p.s.Config.EnvelopeSender != "" {
		args = slices.Concat(args, []string{"-f", e.from})
	}
	args = slices.Concat(args, []string{"-i"}, e.to)
	// Of a pipe it would see the end if this process were killed, and would send
	// half a mail.
	in, err := os.Open(p.j.path(i))
	if err != nil {
		return "", err
	}
	defer in.Close()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = in
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := p.j.note(i, Uncertain, ""); err != nil {
		return "", err
	}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return p.s.Config.Server.String() + " took it", nil
	case errors.As(err, &exit) && exit.Exited() && ctx.Err() == nil:
		return "", &RefusedError{Answer: fmt.Sprintf("%s: %v: %s", p.s.Config.Server, err, oneLine(string(out)))}
	case cmd.Process == nil: // it was not started
		return "", &RefusedError{Answer: fmt.Sprintf("%s: %v", p.s.Config.Server, err)}
	}
	return "", fmt.Errorf("%s: %w", p.s.Config.Server, err)
}

// A tail keeps the last of what is written to it.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	const most = 1 << 10
	*t = append(*t, b...)
	*t = (*t)[max(0, len(*t)-most):]
	return len(b), nil
}

// oneLine makes a text of outside fit for a message.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if !address.Printable(string(r)) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	const most = 500
	s = address.Squeeze(s)
	return s[:min(len(s), most)]
}

// The flags by which sendmails take recipients from the header: -t, also among
// others as in -oit.
var headerFlag = regexp.MustCompile(`(^|\s)(-[A-Za-z]*t[A-Za-z]*|--read-recipients)(\s|$)`)

func readsHeaders(program []string) bool {
	return slices.ContainsFunc(program, headerFlag.MatchString)
}
