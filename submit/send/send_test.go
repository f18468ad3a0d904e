package send

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"patchgen/progress"
)

// The password of all tests. It must not be seen anywhere.
const secret = "tell-n0b0dy"

// A taken is a mail that a server took.
type taken struct {
	from string
	to   []string
	data string // lines end in CR LF
	body smtp.BodyType
}

// A mailServer is a real server, with faults.
type mailServer struct {
	*smtp.Server
	host string
	port int

	mechanisms []string
	noLogin    bool              // refuse all passwords
	refuse     map[string]error  // by recipient
	onData     func(n int) fault // for the nth mail, counted from 1

	mu          sync.Mutex
	mails       []taken
	datas       int // DATA commands
	connections int
	helloes     []string
	logins      int
}

// A fault is what goes wrong at DATA.
type fault struct {
	cutAt  int   // bytes after which the connection ends, 0 is none
	answer error // for all of the mail
	silent bool  // the mail is taken, and the connection ends before the answer

	before, after func() // called when all of the mail was read, and when it was taken
}

type mailSession struct {
	s      *mailServer
	c      *smtp.Conn
	mail   taken
	logged bool
}

func (s *mailServer) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &mailSession{s: s, c: c}, nil
}

func (m *mailSession) Reset()         { m.mail = taken{} }
func (m *mailSession) Logout() error  { return nil }
func (m *mailSession) lock() func()   { m.s.mu.Lock(); return m.s.mu.Unlock }
func (m *mailSession) needAuth() bool { return m.s.mechanisms != nil && !m.logged }

func (m *mailSession) Mail(from string, o *smtp.MailOptions) error {
	if m.needAuth() {
		return smtp.ErrAuthRequired
	}
	if from == "refused@example.org" {
		return &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "you are not\nwelcome"}
	}
	defer m.lock()()
	m.s.helloes = append(m.s.helloes, m.c.Hostname())
	m.mail = taken{from: from, body: o.Body}
	return nil
}

func (m *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	defer m.lock()()
	m.mail.to = append(m.mail.to, to)
	return m.s.refuse[to]
}

func (m *mailSession) Data(r io.Reader) error {
	m.s.mu.Lock()
	m.s.datas++
	var f fault
	if m.s.onData != nil {
		f = m.s.onData(m.s.datas)
	}
	m.s.mu.Unlock()
	if f.cutAt > 0 {
		io.CopyN(io.Discard, r, int64(f.cutAt))
		m.c.Conn().Close()
		return errors.New("cut")
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if f.before != nil {
		f.before()
	}
	if f.answer != nil {
		return f.answer
	}
	unlock := m.lock()
	m.mail.data = string(data)
	m.s.mails = append(m.s.mails, m.mail)
	unlock()
	if f.after != nil {
		f.after()
	}
	if f.silent {
		m.c.Conn().Close()
	}
	return nil
}

func (m *mailSession) AuthMechanisms() []string { return m.s.mechanisms }

func (m *mailSession) Auth(mechanism string) (sasl.Server, error) {
	check := func(user, password string) error {
		defer m.lock()()
		m.s.logins++
		if m.s.noLogin || user != "me" || password != secret {
			// A server that repeats what it heard.
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: fmt.Sprintf("no %s %s %s", password,
				base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)), base64.StdEncoding.EncodeToString([]byte(password)))}
		}
		m.logged = true
		return nil
	}
	if mechanism == sasl.Login {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
}

// A loginServer does LOGIN, which go-sasl has for clients only.
type loginServer struct {
	user  *string
	check func(user, password string) error
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	switch text := string(response); {
	case response == nil:
		return []byte("Username:"), false, nil
	case l.user == nil:
		l.user = &text
		return []byte("Password:"), false, nil
	default:
		return nil, true, l.check(*l.user, text)
	}
}

// counted counts connections.
type counted struct {
	net.Listener
	s *mailServer
}

func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.s.mu.Lock()
		c.s.connections++
		c.s.mu.Unlock()
	}
	return conn, err
}

// serve starts a server, for STARTTLS or TLS if it has a certificate.
func serve(t testing.TB, s *mailServer, encryption string, certificate *tls.Certificate) *mailServer {
	t.Helper()
	s.Server = smtp.NewServer(s)
	s.ErrorLog = log.New(io.Discard, "", 0)
	s.Domain = "mail.example.org"
	s.AllowInsecureAuth = true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.host, s.port = "127.0.0.1", l.Addr().(*net.TCPAddr).Port
	l = counted{l, s}
	if certificate != nil {
		config := &tls.Config{Certificates: []tls.Certificate{*certificate}}
		if encryption == TLS {
			l = tls.NewListener(l, config)
		} else {
			s.TLSConfig = config
		}
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return s
}

// certificate makes a certificate for this machine, by an authority of which it
// returns the file.
func certificate(t testing.TB) (*tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	root, err := x509.CreateCertificate(rand.Reader, authority, authority, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, authority, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}), 0o666); err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// plainServer is a server on this machine without encryption, and a sender for it.
func plainServer(t testing.TB, s *mailServer) (*mailServer, *Sender) {
	t.Helper()
	serve(t, s, Plain, nil)
	return s, sender(Server{Host: s.host, Port: s.port, Encryption: Plain})
}

func sender(server Server) *Sender {
	return &Sender{Config: &Config{From: me, Server: server}, Pause: -1}
}

func password(s string) *string { return &s }

func send(t testing.TB, s *Sender, folder string, messages []Message) Result {
	t.Helper()
	r, err := s.Send(t.Context(), folder, messages, progress.Nop{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// taken returns the mails that a server has.
func (s *mailServer) taken() []taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// fail sets what goes wrong at DATA from now on.
func (s *mailServer) fail(f func(n int) fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onData = f
}

// count returns one of a server's counts.
func (s *mailServer) count(n *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *n
}

func crlf(data []byte) string { return strings.ReplaceAll(string(data), "\n", "\r\n") }

// same checks that a server took exactly these mails, byte for byte.
func (s *mailServer) same(t testing.TB, messages []Message) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got, want []string
	for _, m := range s.mails {
		got = append(got, m.data)
	}
	for _, m := range messages {
		want = append(want, crlf(m.Data))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the server has other mails (-want +got):\n%s", diff)
	}
}

func TestBytes(t *testing.T) {
	cert, authority := certificate(t)
	for _, encryption := range []string{STARTTLS, TLS, Plain} {
		for _, version := range []string{"6.1", "6.12", "7.3"} {
			t.Run(encryption+" "+version, func(t *testing.T) {
				s := &mailServer{mechanisms: []string{"PLAIN"}}
				server := Server{Encryption: encryption, CertPath: authority, User: "me"}
				if encryption == Plain {
					s.mechanisms, server.User = nil, ""
					serve(t, s, encryption, nil)
				} else {
					serve(t, s, encryption, cert)
				}
				server.Host, server.Port = s.host, s.port
				sender := sender(server)
				sender.Config.password = password(secret)
				in := drafts(t, version)
				messages := compose(t, options(), in...)
				r := send(t, sender, t.TempDir(), messages)
				s.same(t, messages)
				last := len(in) - 1
				if len(r.Mails) != len(in) || r.Mails[last].Answer != "2.0.0 OK: queued" || r.Mails[last].ID != messages[last].ID || r.Mails[last].Earlier || r.Mails[last].Repeated {
					t.Errorf("%+v", r)
				}
				if s.count(&s.connections) != 1 || s.helloes[0] == "localhost" {
					t.Errorf("%d connections, EHLO %v", s.count(&s.connections), s.helloes)
				}
				for _, m := range s.taken() {
					if m.from != me.Address || !slices.Equal(m.to, []string{list.Address, other.Address}) || m.body != smtp.Body8BitMIME {
						t.Errorf("envelope %s, %v, %s", m.from, m.to, m.body)
					}
				}
			})
		}
	}
}

// What SMTP or a server could change.
func TestTransparency(t *testing.T) {
	s, sender := plainServer(t, &mailServer{})
	long := strings.Repeat("x", maxLine)
	var in []Draft
	for i, body := range []string{"", "\n", ".\n", "..\n.\n.x\n", "Ünï\n\xff\xfe\n", long + "\n." + long[1:] + "\n", long + "x\n", "a\r\nb\r\n.\r\n", "From x\n>From y\n", "\n\n\nx \t \n\n\n", "no end"} {
		in = append(in, draft(fmt.Sprintf("%04d-x.patch", i), plainHeader, body))
	}
	in = append(in, draft("other.patch", "From: =?UTF-8?q?J=C3=BCrgen?= <j@example.org>\nSubject: [PATCH] x\n", ".\n"))
	messages := compose(t, options(), in...)
	send(t, sender, t.TempDir(), messages)
	s.same(t, messages)
}

func TestUnixSocket(t *testing.T) {
	dir := t.TempDir()
	s := &mailServer{}
	serve(t, s, Plain, nil)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	messages := compose(t, options(), drafts(t, "6.12")...)
	config, err := ReadConfig(t.Context(), gitConfig(t, "sendemail.smtpServer", filepath.Join(dir, "s")), "")
	if err != nil {
		t.Fatal(err)
	}
	send(t, &Sender{Config: config, Pause: -1}, filepath.Join(dir, "folder"), messages)
	s.same(t, messages)
}

func TestLocalhost(t *testing.T) {
	s, sender := plainServer(t, &mailServer{})
	sender.Config.Server.Host = "localhost"
	messages := compose(t, options(), drafts(t, "6.12")...)
	send(t, sender, t.TempDir(), messages)
	s.same(t, messages)
}

func TestBatches(t *testing.T) {
	s, sender := plainServer(t, &mailServer{})
	const batch = 4
	sender.Config.Server.BatchSize = batch
	sender.Pause = time.Millisecond
	messages := compose(t, options(), drafts(t, "6.12")...)
	send(t, sender, t.TempDir(), messages)
	s.same(t, messages)
	if want := (len(messages) + batch - 1) / batch; want < 2 || s.count(&s.connections) != want {
		t.Errorf("%d connections, want %d, and several", s.count(&s.connections), want)
	}
}

// journalStates is what a folder's journal has of each mail.
func journalStates(t testing.TB, folder string) []State {
	t.Helper()
	r, err := readRecord(folder)
	if err != nil || r.problem != nil {
		t.Fatal(err, r.problem)
	}
	var all []State
	for _, e := range r.states {
		all = append(all, e.State)
	}
	return all
}

// The connection ends at the third mail; another run sends the rest.
func TestCut(t *testing.T) {
	big := bytes.Repeat([]byte("x\n"), 4<<20)
	for name, test := range map[string]struct {
		fault    fault
		big      bool
		state    State
		twice    bool // the server has it in the end
		repeated bool
	}{
		"in the middle of DATA":         {fault: fault{cutAt: 700}, state: Uncertain, repeated: true},
		"in the middle of a long one":   {fault: fault{cutAt: 700}, big: true, state: Waiting},
		"after the dot, before 250":     {fault: fault{silent: true}, state: Uncertain, twice: true, repeated: true},
		"refused after the dot":         {fault: fault{answer: &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "no room"}}, state: Refused},
		"refused after the dot for all": {fault: fault{answer: &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "spam"}}, state: Refused},
	} {
		t.Run(name, func(t *testing.T) {
			s := &mailServer{onData: func(n int) fault {
				if n == 3 {
					return test.fault
				}
				return fault{}
			}}
			_, sender := plainServer(t, s)
			in := drafts(t, "6.12")
			if test.big {
				in[2].Data = slices.Concat(in[2].Data, big)
			}
			messages := compose(t, options(), in...)
			folder := filepath.Join(t.TempDir(), "sent", "v1")
			r, err := sender.Send(t.Context(), folder, messages, progress.Nop{})
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("mail 3 of %d, 0002-", len(in))) {
				t.Fatalf("the first run: %v", err)
			}
			if want := map[State]string{Uncertain: "is not known", Waiting: "has not gone out", Refused: "has not gone out"}[test.state]; !strings.Contains(err.Error(), want) {
				t.Errorf("%v\nwant %q", err, want)
			}
			if test.state == Refused && !strings.Contains(err.Error(), "SMTP error") {
				t.Errorf("the answer is not told: %v", err)
			}
			if len(r.Mails) != 2 {
				t.Errorf("%d mails went out in the first run", len(r.Mails))
			}
			want := slices.Repeat([]State{Waiting}, len(in))
			want[0], want[1], want[2] = Sent, Sent, test.state
			if diff := cmp.Diff(want, journalStates(t, folder)); diff != "" {
				t.Errorf("journal (-want +got):\n%s", diff)
			}

			// The next day, by another run of the program.
			o := options()
			o.Time, o.Random = o.Time.AddDate(0, 0, 1), nil
			again := compose(t, o, in...)
			plan, err := sender.Plan(folder, again)
			if err != nil || plan.Mails[2].State != test.state || plan.Mails[2].ID != messages[2].ID {
				t.Errorf("plan: %v, %+v", err, plan.Mails[2])
			}
			r = send(t, sender, folder, again)
			mails := len(in)
			if test.twice {
				mails++
			}
			if len(s.taken()) != mails {
				t.Errorf("the server has %d mails, want %d", len(s.taken()), mails)
			}
			if test.twice { // the uncertain one, twice: the same bytes
				if s.taken()[2].data != s.taken()[3].data {
					t.Error("what was sent once more is another mail")
				}
				s.mu.Lock()
				s.mails = slices.Delete(s.mails, 3, 4)
				s.mu.Unlock()
			}
			s.same(t, messages)
			for i, m := range r.Mails {
				if m.Earlier != (i < 2) || m.Repeated != (i == 2 && test.repeated) || m.ID != messages[i].ID || m.Time.IsZero() || m.Answer == "" {
					t.Errorf("mail %d: %+v", i+1, m)
				}
			}
			// A third run has nothing to do.
			connections := s.count(&s.connections)
			if r := send(t, sender, folder, messages); len(r.Mails) != len(in) || !r.Mails[len(in)-1].Earlier || r.Mails[2].Repeated != test.repeated || s.count(&s.connections) != connections {
				t.Errorf("the third run: %+v, %d new connections", r, s.count(&s.connections)-connections)
			}
			stored, err := Load(folder)
			if err != nil {
				t.Fatal(err)
			}
			if len(stored) != len(in) {
				t.Errorf("%d mails are stored, want %d", len(stored), len(in))
			}
			for i := range stored {
				if !bytes.Equal(stored[i].Data, messages[i].Data) || stored[i].Subject != messages[i].Subject || !slices.Equal(stored[i].To, messages[i].To) || !slices.Equal(stored[i].Recipients, messages[i].Recipients) {
					t.Errorf("stored is another mail %d", i+1)
				}
			}
		})
	}
}

func TestRefusedRecipients(t *testing.T) {
	for _, code := range []int{550, 451} {
		s := &mailServer{refuse: map[string]error{other.Address: &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: "who?\r\nnobody"}}}
		_, sender := plainServer(t, s)
		messages := compose(t, options(), drafts(t, "6.12")...)
		folder := t.TempDir()
		_, err := sender.Send(t.Context(), folder, messages, progress.Nop{})
		var refused *RefusedError
		if !errors.As(err, &refused) || !slices.Equal(refused.Recipients, []string{other.Address}) || strings.Contains(err.Error(), "\n") ||
			!strings.Contains(err.Error(), "to <jg@example.org>: SMTP error "+fmt.Sprint(code)) || strings.Contains(err.Error(), "try again") != (code == 451) {
			t.Errorf("%d: %v", code, err)
		}
		if len(s.taken()) != 0 || s.count(&s.datas) != 0 {
			t.Errorf("%d: others got the mail", code)
		}
		sender.Skip = []string{"JG@example.org"}
		send(t, sender, folder, messages)
		s.same(t, messages)
		if !slices.Equal(s.taken()[0].to, []string{list.Address}) {
			t.Errorf("%d: sent to %v", code, s.taken()[0].to)
		}
		sender.Skip = append(sender.Skip, list.Address)
		if _, err := sender.Send(t.Context(), folder, messages, progress.Nop{}); err == nil {
			t.Errorf("%d: sent to nobody", code)
		}
	}
}

func TestRefusedSender(t *testing.T) {
	s, sender := plainServer(t, &mailServer{})
	sender.Config.EnvelopeSender = "refused@example.org"
	_, err := sender.Send(t.Context(), t.TempDir(), compose(t, options(), drafts(t, "6.12")...), progress.Nop{})
	if err == nil || !strings.Contains(err.Error(), "from <refused@example.org>: SMTP error 553: you are not 5.7.1 welcome;") || len(s.taken()) != 0 {
		t.Errorf("%v", err)
	}
}

// noSecret fails if a text has the password in any of the forms in which it is
// sent.
func noSecret(t testing.TB, what string, v any) {
	t.Helper()
	asJSON, _ := json.Marshal(v)
	text := fmt.Sprintf("%v %+v %#v %s", v, v, v, asJSON)
	if err, ok := v.(error); ok {
		for ; err != nil; err = errors.Unwrap(err) {
			text += fmt.Sprintf("%v %+v %#v", err, err, err)
		}
	}
	for _, s := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte("\x00me\x00" + secret))} {
		if strings.Contains(text, s) {
			t.Errorf("%s shows the password: %s", what, text)
		}
	}
}

func TestLogin(t *testing.T) {
	cert, authority := certificate(t)
	dir := t.TempDir()
	// A credential helper that writes down what it is told.
	helper := filepath.Join(dir, "helper")
	if err := os.WriteFile(helper, []byte("#!/bin/sh\necho $1 >>"+dir+"/log\ncat >>"+dir+"/log\n[ $1 = get ] && printf 'username=me\\npassword="+secret+"\\n'\nexit 0\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(dir, "gitconfig"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("GIT_TERMINAL_PROMPT", "0")
	t.Setenv("GIT_ASKPASS", "/bin/false")
	t.Setenv("SSH_ASKPASS", "/bin/false")
	for name, test := range map[string]struct {
		mechanisms []string
		auth       []string
		noLogin    bool
		helper     string
		command    string
		password   string
		want       string // of the error, or nothing
		log        string // begins of what the helper was told
	}{
		"PLAIN":                 {mechanisms: []string{"LOGIN", "PLAIN"}, password: secret},
		"LOGIN":                 {mechanisms: []string{"LOGIN"}, password: secret},
		"LOGIN asked for":       {mechanisms: []string{"LOGIN", "PLAIN"}, auth: []string{"CRAM-MD5", "LOGIN"}, password: secret},
		"no known mechanism":    {mechanisms: []string{"XOAUTH2"}, password: secret, want: `the server offers "XOAUTH2"`},
		"none that is allowed":  {mechanisms: []string{"PLAIN"}, auth: []string{"CRAM-MD5"}, password: secret, want: "no way to log in"},
		"no AUTH":               {password: secret, want: "no way to log in"},
		"refused PLAIN":         {mechanisms: []string{"PLAIN"}, noLogin: true, password: secret, want: "log in as me: SMTP error 535"},
		"refused LOGIN":         {mechanisms: []string{"LOGIN"}, noLogin: true, password: secret, want: "log in as me: SMTP error 535"},
		"helper":                {mechanisms: []string{"PLAIN"}, helper: helper, log: "get store"},
		"helper, refused":       {mechanisms: []string{"PLAIN"}, noLogin: true, helper: helper, want: "535", log: "get erase"},
		"no helper":             {mechanisms: []string{"PLAIN"}, want: "set credential.helper"},
		"command":               {mechanisms: []string{"PLAIN"}, command: "echo " + secret + "; echo not this"},
		"command that fails":    {mechanisms: []string{"PLAIN"}, command: "echo " + secret + "; echo " + secret + " >&2; exit 3", want: "exit status 3"},
		"command without words": {mechanisms: []string{"PLAIN"}, command: "echo", want: "there is no password"},
		"NUL in the password":   {mechanisms: []string{"PLAIN"}, command: "printf '" + secret + "\\000x'", want: "line end or a NUL"},
	} {
		t.Run(name, func(t *testing.T) {
			config := ""
			if test.helper != "" {
				config = "[credential]\n\thelper = " + test.helper + "\n"
			}
			os.Remove(filepath.Join(dir, "log"))
			if err := os.WriteFile(filepath.Join(dir, "gitconfig"), []byte(config), 0o666); err != nil {
				t.Fatal(err)
			}
			s := serve(t, &mailServer{mechanisms: test.mechanisms, noLogin: test.noLogin}, STARTTLS, cert)
			sender := sender(Server{Host: s.host, Port: s.port, Encryption: STARTTLS, CertPath: authority, User: "me", Auth: test.auth})
			sender.PasswordCommand = test.command
			if test.password != "" {
				sender.Config.password = password(test.password)
			}
			messages := compose(t, options(), drafts(t, "6.12")...)
			folder := t.TempDir()
			r, err := sender.Send(t.Context(), folder, messages, progress.Nop{})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if test.want == "" {
				s.same(t, messages)
			} else if len(s.taken()) > 0 {
				t.Error("mails went out")
			}
			plan, planErr := sender.Plan(folder, messages)
			if planErr != nil {
				t.Error(planErr)
			}
			journal, _ := os.ReadFile(filepath.Join(folder, journalFile))
			for what, v := range map[string]any{"the error": err, "the result": r, "the plan": plan, "the configuration": sender.Config, "the journal": string(journal)} {
				noSecret(t, what, v)
			}
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			var actions []string
			for line := range strings.Lines(string(log)) {
				if !strings.Contains(line, "=") {
					actions = append(actions, strings.TrimSpace(line))
				}
			}
			if strings.Join(actions, " ") != test.log || test.log != "" && !strings.Contains(string(log), fmt.Sprintf("get\nprotocol=smtp\nhost=127.0.0.1:%d\nusername=me\n", s.port)) {
				t.Errorf("the helper was told:\n%s", log)
			}
		})
	}
}

func TestEncryption(t *testing.T) {
	cert, authority := certificate(t)
	_, stranger := certificate(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		encryption string // of the server
		change     func(*Server)
		want       string
	}{
		"folder of certificates":       {STARTTLS, func(s *Server) { s.CertPath = filepath.Dir(authority) }, ""},
		"no STARTTLS offered":          {Plain, func(s *Server) { s.Encryption = STARTTLS }, "begin encryption"},
		"no TLS":                       {Plain, func(s *Server) { s.Encryption = TLS }, "tls"},
		"unknown authority, STARTTLS":  {STARTTLS, func(s *Server) { s.CertPath = "" }, "smtpSSLCertPath"},
		"unknown authority, TLS":       {TLS, func(s *Server) { s.CertPath = "" }, "smtpSSLCertPath"},
		"other authority":              {STARTTLS, func(s *Server) { s.CertPath = stranger }, "smtpSSLCertPath"},
		"other name":                   {STARTTLS, func(s *Server) { s.Host = "localhost" }, "localhost"},
		"no certificate there":         {STARTTLS, func(s *Server) { s.CertPath = empty }, "there is no certificate"},
		"no file there":                {STARTTLS, func(s *Server) { s.CertPath = empty + "x" }, "no such file"},
		"plain with a password":        {Plain, func(s *Server) { s.User = "me" }, "does not go out in plain text"},
		"plain to elsewhere":           {Plain, func(s *Server) { s.Host = "192.0.2.1" }, "set sendemail.smtpEncryption"},
		"no encryption named":          {Plain, func(s *Server) { s.Host, s.Encryption = "192.0.2.1", "" }, "set sendemail.smtpEncryption"},
		"plain to elsewhere, by name":  {Plain, func(s *Server) { s.Host = "mail.example.org" }, "set sendemail.smtpEncryption"},
		"plain to elsewhere, all ones": {Plain, func(s *Server) { s.Host = "0.0.0.0" }, "set sendemail.smtpEncryption"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &mailServer{}
			if test.encryption == Plain {
				serve(t, s, Plain, nil)
			} else {
				serve(t, s, test.encryption, cert)
			}
			server := Server{Host: s.host, Port: s.port, Encryption: test.encryption, CertPath: authority}
			test.change(&server)
			sender := sender(server)
			sender.Config.password = password(secret)
			_, err := sender.Send(t.Context(), t.TempDir(), compose(t, options(), drafts(t, "6.12")...), progress.Nop{})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if test.want != "" && (len(s.taken()) > 0 || s.count(&s.logins) > 0) {
				t.Error("it talked to the server")
			}
			if (strings.HasPrefix(test.want, "set sendemail") || strings.HasPrefix(name, "plain")) && s.count(&s.connections) > 0 {
				t.Error("it connected")
			}
		})
	}
}

// script is a server that says what it is told to, and returns what it heard.
func script(t testing.TB, answers ...string) (Server, func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1)
	go func() {
		var all strings.Builder
		defer func() { heard <- all.String() }()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		for i, answer := range answers {
			if i > 0 {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				all.WriteString(line)
			}
			io.WriteString(conn, answer)
		}
		io.Copy(&all, r)
	}()
	t.Cleanup(func() { l.Close() })
	return Server{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Encryption: Plain}, func() string { l.Close(); return <-heard }
}

// Before the first mail is sent, it is known that the last can be.
func TestUnfitServer(t *testing.T) {
	for want, hello := range map[string]string{
		"no 8BITMIME":                 "250-mail.example.org\r\n250 SIZE 100000000\r\n",
		"takes 1000":                  "250-mail.example.org\r\n250-8BITMIME\r\n250 SIZE 1000\r\n",
		"SMTP error 554: \"go\\ away": "554 \"go\\\x1b away\r\n",
	} {
		server, heard := script(t, "220 mail.example.org\r\n", hello, "221 bye\r\n")
		in := drafts(t, "6.12")
		last := len(in) - 1
		in[last].Data = append(in[last].Data, "ü\n"...)
		_, err := sender(server).Send(t.Context(), t.TempDir(), compose(t, options(), in...), progress.Nop{})
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), `\ `, `\ `), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if h := heard(); strings.Contains(h, "MAIL") {
			t.Errorf("it said %q", h)
		}
	}
}

func TestCancel(t *testing.T) {
	s := &mailServer{}
	_, sender := plainServer(t, s)
	messages := compose(t, options(), drafts(t, "6.12")...)
	folder := t.TempDir()

	// In a pause.
	ctx, cancel := context.WithCancel(t.Context())
	sender.Pause = time.Hour
	go func() {
		for {
			if len(s.taken()) == 1 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := sender.Send(ctx, folder, messages, progress.Nop{}); !errors.Is(err, context.Canceled) {
		t.Errorf("in a pause: %v", err)
	}

	// While a mail is handed over: it is waited for what the server says.
	sender.Pause = -1
	ctx, cancel = context.WithCancel(t.Context())
	s.fail(func(int) fault { cancel(); time.Sleep(50 * time.Millisecond); return fault{} })
	if _, err := sender.Send(ctx, folder, messages, progress.Nop{}); !errors.Is(err, context.Canceled) {
		t.Errorf("in DATA: %v", err)
	}
	s.fail(nil)
	states := journalStates(t, folder)
	if states[0] != Sent || states[1] == Uncertain {
		t.Errorf("%v", states)
	}

	// While the server says nothing.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := sender.Config.Server.Port
	sender.Config.Server.Port = l.Addr().(*net.TCPAddr).Port
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := sender.Send(ctx, folder, messages, progress.Nop{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}

	sender.Config.Server.Port = port
	send(t, sender, folder, messages)
	s.same(t, messages)
}

func TestReflect(t *testing.T) {
	s, sender := plainServer(t, &mailServer{})
	sender.Reflect = true
	in := drafts(t, "6.12")
	in[0].Bcc = []netmail.Address{{Address: "hidden@example.org"}}
	messages := compose(t, options(), in...)
	folder := t.TempDir()
	send(t, sender, folder, messages)
	s.same(t, messages) // with all recipients in the header
	for _, m := range s.taken() {
		if m.from != me.Address || !slices.Equal(m.to, []string{me.Address}) {
			t.Errorf("from %s to %v", m.from, m.to)
		}
	}
	// Whoever has mended what he saw has it reflected again, and again if it was lost.
	for range 2 {
		in[1].Cc = nil
		again := compose(t, options(), in...)
		if plan, err := sender.Plan(folder, again); err != nil || plan.Mails[0].State != Waiting {
			t.Errorf("to be reflected again: %+v, %v", plan.Mails, err)
		}
		before := len(s.taken())
		send(t, sender, folder, again)
		if got := len(s.taken()) - before; got != len(in) {
			t.Errorf("%d of %d mails were reflected again", got, len(in))
		}
	}
	// What was reflected was not sent, and cannot be taken for it.
	sender.Reflect = false
	if _, err := sender.Send(t.Context(), folder, messages, progress.Nop{}); err == nil || !strings.Contains(err.Error(), "were reflected: take another folder") {
		t.Errorf("%v", err)
	}
}

func TestPlan(t *testing.T) {
	s, sender := plainServer(t, &mailServer{})
	in := drafts(t, "6.12")
	messages := compose(t, options(), in...)
	folder := filepath.Join(t.TempDir(), "none")
	for _, folder := range []string{"", folder} {
		p, err := sender.Plan(folder, messages)
		if err != nil {
			t.Fatal(err)
		}
		want := Planned{
			Name: messages[0].Name, ID: messages[0].ID, Subject: fmt.Sprintf("[PATCH 0/%d] Mark the memory that devices write, for guests that are migrated", len(in)-1),
			From: me, To: []netmail.Address{list}, Cc: []netmail.Address{other},
			Sender: me.Address, Receives: []string{list.Address, other.Address}, Size: len(messages[0].Data),
		}
		if diff := cmp.Diff(want, p.Mails[0]); diff != "" || len(p.Mails) != len(in) || p.Server != fmt.Sprintf("127.0.0.1:%d, by SMTP with plain text", s.port) {
			t.Errorf("%s (-want +got):\n%s", p.Server, diff)
		}
	}
	if _, err := os.Stat(folder); err == nil || s.count(&s.connections) > 0 {
		t.Error("the plan was carried out")
	}
	sender.Reflect = true
	if p, err := sender.Plan("", messages); err != nil || !p.Reflect || !slices.Equal(p.Mails[3].Receives, []string{me.Address}) {
		t.Errorf("%v, %+v", err, p)
	}
	sender.Config.Server = Server{Host: "192.0.2.1", Encryption: Plain}
	if _, err := sender.Plan("", messages); err == nil {
		t.Error("a plan that would fail")
	}
}

// Another program that takes mails, as msmtp does.
func TestProgram(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good":   "#!/bin/sh\nn=$(ls " + dir + "/*.mail 2>/dev/null | wc -l)\ncat >" + dir + "/$n.mail\nfor a; do echo \"$a\"; done >" + dir + "/$n.args\n",
		"bad":    "#!/bin/sh\necho no $1 >&2\nexit 75\n",
		"killed": "#!/bin/sh\nkill -9 $$\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	messages := compose(t, options(), drafts(t, "6.12")...)
	for name, test := range map[string]struct {
		program []string
		sender  string
		args    string
		want    string
		state   State
	}{
		"program":  {[]string{dir + "/good", "-a", "work"}, "", "-a work -i linux-kernel@example.org jg@example.org", "", Sent},
		"command":  {[]string{"sh", "-c", dir + `/good -a "my work" "$@"`, "-"}, "bounces@example.org", "-a my work -f bounces@example.org -i linux-kernel@example.org jg@example.org", "", Sent},
		"fails":    {[]string{dir + "/bad"}, "", "", "exit status 75: no -i", Refused},
		"is none":  {[]string{dir + "/none"}, "", "", "no such file", Refused},
		"is ended": {[]string{dir + "/killed"}, "", "", "signal: killed", Uncertain},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pattern := range []string{"*.mail", "*.args"} {
				old, _ := filepath.Glob(filepath.Join(dir, pattern))
				for _, f := range old {
					os.Remove(f)
				}
			}
			s := sender(Server{Program: test.program})
			s.Config.EnvelopeSender = test.sender
			folder := t.TempDir()
			_, err := s.Send(t.Context(), folder, messages, progress.Nop{})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Fatalf("%v, want %q", err, test.want)
			}
			var states []State
			if test.state == Sent || test.state == Uncertain {
				states = journalStates(t, folder)
			} else {
				r, err := readRecord(folder)
				if err != nil {
					t.Fatal(err)
				}
				states = []State{r.states[0].State}
			}
			if states[0] != test.state {
				t.Errorf("state %q, want %q", states[0], test.state)
			}
			if test.want != "" {
				return
			}
			for i, m := range messages {
				data, err := os.ReadFile(fmt.Sprintf("%s/%d.mail", dir, i))
				if err != nil || !bytes.Equal(data, m.Data) {
					t.Errorf("mail %d is another: %v", i+1, err)
				}
				args, _ := os.ReadFile(fmt.Sprintf("%s/%d.args", dir, i))
				if got := strings.Join(strings.Split(strings.TrimSpace(string(args)), "\n"), " "); got != test.args {
					t.Errorf("arguments %q, want %q", got, test.args)
				}
			}
		})
	}
	for _, program := range [][]string{{"sh", "-c", `msmtp -t "$@"`, "-"}, {"/usr/sbin/sendmail", "-oit"}, {"msmtp", "--read-recipients"}} {
		s := sender(Server{Program: program})
		s.Reflect = true
		if _, err := s.Send(t.Context(), t.TempDir(), messages, progress.Nop{}); err == nil || !strings.Contains(err.Error(), "has -t") {
			t.Errorf("%v would send to all: %v", program, err)
		}
	}
	if readsHeaders([]string{"sh", "-c", `msmtp -a work --tls=on --timeout=5 "$@"`, "-"}) {
		t.Error("a command without -t is refused")
	}
}

// A mail is not handed over before that is written down.
func TestNotWrittenDown(t *testing.T) {
	s, sender := plainServer(t, &mailServer{})
	messages := compose(t, options(), draft("x.patch", plainHeader, plainBody))
	j, err := openJournal(t.TempDir(), messages, false)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	c, err := sender.connect(t.Context(), j, []int{0})
	if err != nil {
		t.Fatal(err)
	}
	j.file.Close()
	if _, err := c.send(t.Context(), 0, sender.envelope(messages[0])); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
	c.close()
	if err := s.Shutdown(t.Context()); err != nil { // when the connection has ended
		t.Fatal(err)
	}
	if len(s.taken()) > 0 {
		t.Error("the mail went out")
	}
}

// Without a server there is a plan, but nothing is sent.
func TestNoServer(t *testing.T) {
	s := &Sender{Config: &Config{}}
	if got := s.Config.Server.String(); !strings.Contains(got, "sendemail.smtpServer") {
		t.Errorf("server %q", got)
	}
	folder := filepath.Join(t.TempDir(), "x")
	if _, err := s.Send(t.Context(), folder, compose(t, options(), drafts(t, "6.12")...), progress.Nop{}); err == nil || !strings.Contains(err.Error(), "set sendemail.smtpServer") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(folder); err == nil {
		t.Error("there is a folder of what was not sent")
	}
}
