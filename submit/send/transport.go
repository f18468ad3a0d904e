package send

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Times after which a server is given up.
const (
	dialTime = 30 * time.Second
	// Who speaks TLS to a port without it, or the other way round, waits for ever.
	greetTime = time.Minute
	// After a mail is handed over, its answer is waited for even when the user
	// wants to stop, so that it is known whether it went out.
	answerTime = 10 * time.Second
)

// A connection is a transport by SMTP.
type connection struct {
	s      *Sender
	j      *journal
	conn   net.Conn
	client *smtp.Client
	login  login
	inData bool // the dot that ends a mail has not been written: whatever is said next would write it
}

// connect connects to the server, logs in, and asks whether it can take the
// mails that are left.
func (s *Sender) connect(ctx context.Context, j *journal, left []int) (*connection, error) {
	server := s.Config.Server
	roots, err := readRoots(server.CertPath)
	if err != nil {
		return nil, err
	}
	c := &connection{s: s, j: j}
	if c.conn, err = dial(ctx, server); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	if err := c.open(ctx, &tls.Config{ServerName: server.Host, RootCAs: roots, MinVersion: tls.VersionTLS12}); err != nil {
		c.conn.Close()
		return nil, fmt.Errorf("%s: %w", server, c.explain(ctx, err))
	}
	if err := c.fits(left); err != nil {
		c.close()
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return c, nil
}

// dial connects. Plain text goes to this machine only, and localhost may be
// another one by name.
func dial(ctx context.Context, s Server) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTime}
	switch {
	case filepath.IsAbs(s.Host):
		return d.DialContext(ctx, "unix", s.Host)
	case s.encrypted() || net.ParseIP(s.Host) != nil:
		return d.DialContext(ctx, "tcp", s.address())
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", s.Host)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("%s has no address", s.Host)
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return nil, fmt.Errorf("%s is %s, which is not this machine: mails do not go there in plain text", s.Host, ip)
		}
	}
	for _, ip := range ips {
		var conn net.Conn
		if conn, err = d.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), fmt.Sprint(s.Port))); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// readRoots reads the certificates of a file, or of the files of a folder. nil
// is the system's.
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	files := []string{path}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("sendemail.smtpSSLCertPath: %w", err)
	}
	if st.IsDir() {
		if files, err = filepath.Glob(filepath.Join(escapeGlob(path), "*")); err != nil {
			return nil, err
		}
	}
	pool, found := x509.NewCertPool(), false
	for _, file := range files {
		data, err := readFile(file, 16<<20)
		if err != nil {
			if st.IsDir() {
				continue
			}
			return nil, fmt.Errorf("sendemail.smtpSSLCertPath: %w", err)
		}
		found = pool.AppendCertsFromPEM(data) || found
	}
	if !found {
		return nil, fmt.Errorf("sendemail.smtpSSLCertPath: there is no certificate in %s", path)
	}
	return pool, nil
}

func (c *connection) open(ctx context.Context, config *tls.Config) error {
	var late atomic.Bool
	greeted := time.AfterFunc(greetTime, func() {
		late.Store(true)
		c.conn.Close()
	})
	err := c.greet(ctx, config)
	if greeted.Stop(); late.Load() {
		return fmt.Errorf("the server did not greet within %v: is sendemail.smtpEncryption right for that port (ssl, tls or none)?", greetTime)
	}
	if err != nil || c.s.Config.Server.User == "" {
		return err
	}
	if _, encrypted := c.client.TLSConnectionState(); !encrypted {
		return errors.New("the connection is not encrypted, and a password does not go out in plain text")
	}
	return c.auth(ctx)
}

// greet begins encryption, if it is asked for, and says who we are.
func (c *connection) greet(ctx context.Context, config *tls.Config) error {
	var err error
	switch c.s.Config.Server.Encryption {
	case TLS:
		conn := tls.Client(c.conn, config)
		if err := conn.HandshakeContext(ctx); err != nil {
			return err
		}
		c.client = smtp.NewClient(conn)
	case STARTTLS:
		if c.client, err = smtp.NewClientStartTLS(c.conn, config); err != nil {
			return fmt.Errorf("begin encryption: %w (if it has TLS from the begin, set sendemail.smtpEncryption to ssl)", err)
		}
	default:
		c.client = smtp.NewClient(c.conn)
	}
	return c.client.Hello(helloName(c.s.Config.Server.Domain))
}

// helloName is the name of this machine for EHLO: some servers refuse one
// without a dot.
func helloName(configured string) string {
	if configured != "" {
		return configured
	}
	if name, err := os.Hostname(); err == nil && strings.Contains(name, ".") {
		return name
	}
	return "localhost.localdomain"
}

func (c *connection) auth(ctx context.Context) error {
	config := c.s.Config
	var mechanism string
	for _, m := range []string{sasl.Plain, sasl.Login} {
		if (len(config.Server.Auth) == 0 || slices.Contains(config.Server.Auth, m)) && c.client.SupportsAuth(m) {
			mechanism = m
			break
		}
	}
	if mechanism == "" {
		_, offered := c.client.Extension("AUTH")
		return fmt.Errorf("there is no way to log in: patchgen knows PLAIN and LOGIN, the server offers %q, and sendemail.smtpAuth allows %q (empty is all): a program such as msmtp may know more, see sendemail.sendmailCmd",
			oneLine(offered), strings.Join(config.Server.Auth, " "))
	}
	var err error
	if c.login, err = c.s.login(ctx); err != nil {
		return err
	}
	client := sasl.NewPlainClient("", c.login.user, *c.login.password)
	if mechanism == sasl.Login {
		client = sasl.NewLoginClient(c.login.user, *c.login.password)
	}
	err = c.client.Auth(client)
	if err == nil {
		config.tellHelper(ctx, "approve", c.login)
		return nil
	}
	// A server that has no time, say, does not make a password wrong.
	var answer *smtp.SMTPError
	if errors.As(err, &answer) && answer.Code == 535 {
		config.tellHelper(ctx, "reject", c.login)
	}
	return fmt.Errorf("log in as %s: %w", c.login.user, err)
}

// fits asks, before the first mail is sent, whether the server takes all.
func (c *connection) fits(left []int) error {
	eight, _ := c.client.Extension("8BITMIME")
	most, limited := c.client.MaxMessageSize()
	for _, i := range left {
		m := c.j.messages[i]
		if !eight && bytes.ContainsFunc(m.Data, func(r rune) bool { return r >= utf8.RuneSelf }) {
			return fmt.Errorf("the server offers no 8BITMIME and could damage %s, which is not plain ASCII: send with another server", m.Name)
		}
		if size := len(m.Data) + bytes.Count(m.Data, []byte("\n")); limited && most > 0 && size > most {
			return fmt.Errorf("%s has %d bytes and the server takes %d: nothing was sent", m.Name, size, most)
		}
	}
	return nil
}

func (c *connection) send(ctx context.Context, i int, e envelope) (string, error) {
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer func() { stop() }()
	m := c.j.messages[i]
	size := int64(len(m.Data) + bytes.Count(m.Data, []byte("\n")))
	if err := c.client.Mail(e.from, &smtp.MailOptions{Size: size}); err != nil {
		return "", c.explain(ctx, fmt.Errorf("from <%s>: %w", e.from, err))
	}
	var refused []error
	var who []string
	for _, to := range e.to {
		err := c.client.Rcpt(to, nil)
		var answer *smtp.SMTPError
		if err != nil && (!errors.As(err, &answer) || answer.Code == 421) {
			return "", c.explain(ctx, err)
		}
		if err != nil {
			refused = append(refused, fmt.Errorf("to <%s>: %w", to, err))
			who = append(who, to)
		}
	}
	if refused != nil {
		err := c.explain(ctx, errors.Join(refused...))
		if refused := (*RefusedError)(nil); errors.As(err, &refused) {
			refused.Recipients = who
		}
		return "", err
	}
	w, err := c.client.Data()
	if err != nil {
		return "", c.explain(ctx, err)
	}
	c.inData = true
	if _, err := w.Write(m.Data); err != nil {
		return "", c.explain(ctx, err)
	}
	if !stop() {
		return "", ctx.Err()
	}
	stop = context.AfterFunc(ctx, func() {
		time.AfterFunc(answerTime, func() { c.conn.Close() })
	})
	// Without the dot a server takes nothing.
	if err := c.j.note(i, Uncertain, ""); err != nil {
		return "", err
	}
	c.inData = false
	answer, err := w.CloseWithResponse()
	if err != nil {
		return "", c.explain(ctx, err)
	}
	return oneLine(c.login.scrub(answer.StatusText)), nil
}

// explain makes of an error of a connection one for the user. What the server
// answered is a *RefusedError.
func (c *connection) explain(ctx context.Context, err error) error {
	var answer *smtp.SMTPError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &answer):
		hint := ""
		if answer.Code/100 == 4 {
			hint = " (for now: try again later)"
		}
		return &RefusedError{Answer: oneLine(c.login.scrub(err.Error())) + hint, Later: answer.Code/100 == 4}
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &certificate):
		return fmt.Errorf("%w: name the certificate of who issued it in sendemail.smtpSSLCertPath, if it is to be trusted", err)
	}
	if text := err.Error(); c.login.scrub(text) != text {
		return errors.New(oneLine(c.login.scrub(text)))
	}
	return err
}

func (c *connection) close() {
	if !c.inData {
		c.client.CommandTimeout = answerTime
		c.client.Quit()
	}
	c.conn.Close()
}
