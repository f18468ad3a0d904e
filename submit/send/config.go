package send

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchgen/series"
	"patchgen/submit/address"
)

// A Config is what git knows of sending.
type Config struct {
	From           mail.Address // sendemail.from, else user.name and user.email; zero if git has neither
	To, Cc, Bcc    []mail.Address
	EnvelopeSender string   // the address in sendemail.envelopeSender, "" is that of whoever sends
	SuppressCc     []string // categories of those who get no copy, in the words of git-send-email(1), --suppress-cc; all and body are written out
	CopySelf       bool     // sendemail.suppressFrom is set, and false: whoever sends gets copies like others
	CcCover        bool     // sendemail.ccCover: whom the first mail's header names in Cc gets all mails
	ToCover        bool     // sendemail.toCover: the same for To
	XMailer        bool     // sendemail.xmailer, true if it is not set: mails tell what sent them
	Server         Server
	Notes          []string // what is set and not heeded, one sentence each

	dir      string  // where git was asked
	password *string // sendemail.smtpPass, nil if it is not set; behind a pointer, so that %+v does not show it
}

// Ways to a server.
const (
	STARTTLS = "STARTTLS"
	TLS      = "TLS"
	Plain    = "plain text"
)

// A Server takes mails: by SMTP, or as a program that is started for each.
type Server struct {
	Host       string // name or IP address, or the path of a socket
	Port       int
	Encryption string   // STARTTLS, TLS or Plain
	User       string   // "" does not log in
	Auth       []string // SASL mechanisms that may be used, in capitals; none is all that patchgen has
	Domain     string   // for EHLO
	CertPath   string   // file or folder of the certificates that are trusted; "" is the system's

	Program []string // command and first arguments of a sendmail; nil is SMTP

	BatchSize    int           // mails in one connection; 0 is all
	ReloginDelay time.Duration // before the next connection
}

// String names the server as a person would: no password is in it, nor a
// program's arguments.
func (s Server) String() string {
	switch {
	case !s.known():
		return "none: set sendemail.smtpServer, see git-send-email(1)"
	case s.Program != nil && s.Program[0] == "sh":
		command, _, _ := strings.Cut(strings.TrimSpace(s.Program[2]), " ")
		return "the program " + command
	case s.Program != nil:
		return "the program " + s.Program[0]
	case filepath.IsAbs(s.Host):
		return s.Host + ", by SMTP"
	}
	user := ""
	if s.User != "" {
		user = s.User + "@"
	}
	return fmt.Sprintf("%s%s, by SMTP with %s", user, s.address(), s.Encryption)
}

// known reports whether git knows of a server at all.
func (s Server) known() bool { return s.Program != nil || s.Host != "" }

func (s Server) encrypted() bool { return s.Encryption == STARTTLS || s.Encryption == TLS }

func (s Server) address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// ReadConfig asks git, once, for the settings sendemail.* and who the user is,
// as it has them in a folder: whatever includes, scopes and GIT_CONFIG_* say.
// identity chooses among sendemail.IDENTITY.*; "" leaves that to
// sendemail.identity. Rules and defaults are those of git-send-email.perl, but:
//
//   - Without sendemail.smtpEncryption it is STARTTLS, or TLS at port 465, and
//     plain text on this machine only.
//   - An empty sendemail.smtpSSLCertPath, for git no verification, is refused.
//   - Without a server, and without a sendmail on this machine, there is none, and
//     Send has an error.
//
// sendemail.confirm is not heeded, as nothing is sent without a word anyway.
// Other settings that would make a difference are named in Notes.
func ReadConfig(ctx context.Context, dir, identity string) (*Config, error) {
	cmd := exec.CommandContext(ctx, "git", "config", "--null", "--get-regexp", `^(sendemail\.|user\.(name|email)$)`)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, &series.MissingGitError{Err: err}
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &exit) && exit.ExitCode() == 1 && len(out) == 0: // it has none of them
	case err != nil:
		return nil, fmt.Errorf("git config: %w: %s", err, clip(strings.TrimSpace(stderr.String())))
	}
	s, err := parseSettings(out)
	if err != nil {
		return nil, err
	}
	c, err := s.config(identity)
	if err != nil {
		return nil, err
	}
	c.dir = dir
	return c, nil
}

// settings are the values of git's configuration by their names, of which git
// writes all but the middle part in small letters. A nil value is a name without
// one, which for git means true.
type settings map[string][]*string

// parseSettings reads what git config --null prints: NAME, LF, value, NUL; or
// NAME, NUL.
func parseSettings(out []byte) (settings, error) {
	s := make(settings)
	for len(out) > 0 {
		entry, rest, ok := bytes.Cut(out, []byte{0})
		if !ok {
			return nil, errors.New("git config: its output ends in the middle of a setting")
		}
		name, value, has := strings.Cut(string(entry), "\n")
		if has {
			s[name] = append(s[name], &value)
		} else {
			s[name] = append(s[name], nil)
		}
		out = rest
	}
	return s, nil
}

// A reader takes settings out, and remembers the first that is wrong.
type reader struct {
	settings
	identity string
	err      error
}

// all returns the values of a setting, and the name that they have.
func (r *reader) all(name string) (string, []*string) {
	if r.identity != "" {
		key := "sendemail." + r.identity + "." + strings.ToLower(name)
		if v := r.settings[key]; v != nil {
			return "sendemail." + r.identity + "." + name, v
		}
	}
	return "sendemail." + name, r.settings["sendemail."+strings.ToLower(name)]
}

func (r *reader) has(name string) bool {
	_, v := r.all(name)
	return v != nil
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// text returns the last value of a setting. One of several lines, or with a NUL,
// is refused: it could reach into a header, or another command.
func (r *reader) text(name string) string {
	key, v := r.all(name)
	if v == nil {
		return ""
	}
	last := v[len(v)-1]
	if last == nil {
		r.fail("%s has no value", key)
		return ""
	}
	if !address.Printable(*last) {
		r.fail("%s has a line end or another control character in it", key) // the value may be a password
		return ""
	}
	return *last
}

func (r *reader) number(name string) int {
	text := r.text(name)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 1_000_000 {
		r.fail("sendemail.%s = %q: want a number", name, clip(text))
	}
	return n
}

// truth reads a boolean (git: parse.c, git_parse_maybe_bool).
func (r *reader) truth(name string, unset bool) bool {
	key, v := r.all(name)
	if v == nil {
		return unset
	}
	last := v[len(v)-1]
	if last == nil {
		return true
	}
	switch strings.ToLower(*last) {
	case "true", "yes", "on":
		return true
	case "false", "no", "off", "":
		return false
	}
	n, err := strconv.Atoi(*last)
	if err != nil {
		r.fail("%s = %q: want true or false", key, clip(*last))
	}
	return n != 0
}

func (r *reader) addresses(name string) []mail.Address {
	key, v := r.all(name)
	var all []mail.Address
	for _, text := range v {
		if text == nil || strings.TrimSpace(*text) == "" {
			continue // for git, an empty one is none
		}
		list, err := address.ParseList(*text)
		if err != nil {
			r.fail("%s: %w (patchgen does not look into sendemail.aliasesFile)", key, err)
			return nil
		}
		all = append(all, list...)
	}
	return all
}

func (s settings) config(identity string) (*Config, error) {
	r := &reader{settings: s}
	if identity == "" {
		identity = r.text("identity")
	}
	if r.identity = identity; identity != "" && !s.knows(identity) {
		return nil, fmt.Errorf("there is no setting sendemail.%s.*, which is the identity to send with", clip(identity))
	}
	c := &Config{To: r.addresses("to"), Cc: r.addresses("cc"), Bcc: r.addresses("bcc"), XMailer: r.truth("xmailer", true),
		CcCover: r.truth("ccCover", false), ToCover: r.truth("toCover", false)}
	r.who(c)
	if sender := r.text("envelopeSender"); sender != "" && sender != "auto" {
		a, err := address.Parse(sender)
		if err != nil {
			r.fail("sendemail.envelopeSender: %w", err)
		}
		c.EnvelopeSender = a.Address
	}
	r.suppressions(c)
	r.server(c)
	r.notes(c)
	return c, r.err
}

// knows reports whether there is a setting for an identity.
func (s settings) knows(identity string) bool {
	for name := range s {
		if strings.HasPrefix(name, "sendemail."+identity+".") {
			return true
		}
	}
	return false
}

func (r *reader) who(c *Config) {
	if from := r.text("from"); from != "" {
		a, err := address.Parse(from)
		if err != nil {
			r.fail("sendemail.from: %w", err)
		}
		c.From = a
		return
	}
	last := func(name string) string {
		if v := r.settings[name]; v != nil && v[len(v)-1] != nil {
			return strings.TrimSpace(*v[len(v)-1])
		}
		return ""
	}
	a := mail.Address{Name: last("user.name"), Address: last("user.email")}
	if a.Address == "" {
		return
	}
	a, err := address.Check(a)
	if err != nil {
		r.fail("user.name and user.email: %w", err)
	}
	c.From = a
}

var suppressions = []string{"cccmd", "cc", "author", "self", "sob", "bodycc", "misc-by"}

// suppressions reads who gets no copy (git-send-email.perl: %suppress_cc). Of all
// and body, body is written out after the old settings, so signedOffByCc brings
// back sob for neither.
func (r *reader) suppressions(c *Config) {
	set := make(map[string]bool)
	key, v := r.all("suppressCc")
	for _, s := range v {
		switch {
		case s != nil && *s == "all":
			for _, s := range suppressions {
				set[s] = true
			}
			set["body"] = true
		case s != nil && (*s == "body" || slices.Contains(suppressions, *s)):
			set[*s] = true
		default:
			r.fail("%s: want one of all, body, %s", key, strings.Join(suppressions, ", "))
			return
		}
	}
	// The old settings go before the new one.
	if r.has("suppressFrom") {
		set["self"] = r.truth("suppressFrom", false)
		c.CopySelf = !set["self"]
	}
	for _, name := range []string{"signedOffCc", "signedOffByCc"} {
		if r.has(name) {
			set["sob"] = !r.truth(name, true)
		}
	}
	if set["body"] {
		set["sob"], set["bodycc"], set["misc-by"] = true, true, true
	}
	for _, s := range suppressions {
		if set[s] {
			c.SuppressCc = append(c.SuppressCc, s)
		}
	}
}

// Where git looks for a sendmail before PATH.
var sendmails = []string{"/usr/sbin/sendmail", "/usr/lib/sendmail"}

func (r *reader) server(c *Config) {
	s := &c.Server
	s.User, s.Domain = r.text("smtpUser"), r.text("smtpDomain")
	if r.has("smtpPass") {
		password := r.text("smtpPass")
		c.password = &password
	}
	if s.Auth = strings.Fields(strings.ToUpper(r.text("smtpAuth"))); len(s.Auth) == 0 {
		s.Auth = nil
	}
	if slices.Contains(s.Auth, "NONE") {
		s.User, s.Auth = "", nil
	}
	s.BatchSize = r.number("smtpBatchSize")
	s.ReloginDelay = time.Duration(r.number("smtpReloginDelay")) * time.Second
	if s.ReloginDelay != 0 && s.BatchSize == 0 {
		r.fail("sendemail.smtpReloginDelay is set, and sendemail.smtpBatchSize is not: set both")
	}
	var options []string
	key, v := r.all("smtpServerOption")
	for _, option := range v {
		if option == nil {
			r.fail("%s has no value", key)
			return
		}
		options = append(options, *option)
	}
	host := r.text("smtpServer")
	command := r.text("sendmailCmd")
	if command == "" && host == "" {
		if host = findSendmail(); host == "" {
			return
		}
	}
	switch st, err := os.Stat(host); {
	case command != "":
		s.Program = append([]string{"sh", "-c", command + ` "$@"`, "-"}, options...)
		return
	case filepath.IsAbs(host) && err == nil && st.Mode()&os.ModeSocket != 0:
		s.Host, s.Encryption = host, Plain
		return
	case filepath.IsAbs(host):
		s.Program = append([]string{host}, options...)
		return
	}
	r.smtp(s, host)
	if r.has("smtpSSLCertPath") {
		if s.CertPath = r.text("smtpSSLCertPath"); s.CertPath == "" {
			r.fail("sendemail.smtpSSLCertPath is empty, by which git would not look at the server's certificate: patchgen always does; name a file with the certificate, or unset it")
		}
		if rest, ok := strings.CutPrefix(s.CertPath, "~/"); ok {
			home, err := os.UserHomeDir()
			if err != nil {
				r.fail("sendemail.smtpSSLCertPath: %w", err)
			}
			s.CertPath = filepath.Join(home, rest)
		}
	}
}

func findSendmail() string {
	for _, path := range sendmails {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	found, _ := exec.LookPath("sendmail")
	if !filepath.IsAbs(found) {
		return ""
	}
	return found
}

// smtp reads where a server is and how to talk to it.
func (r *reader) smtp(s *Server, host string) {
	port := r.text("smtpServerPort")
	if h, p, err := net.SplitHostPort(host); err == nil && port == "" {
		host, port = h, p
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || strings.ContainsAny(host, "/@ ") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		r.fail("sendemail.smtpServer = %q: want the name of a host, or the path of a program", clip(host))
		return
	}
	s.Host = host
	if port != "" {
		n, err := net.LookupPort("tcp", port)
		if err != nil || n == 0 {
			r.fail("sendemail.smtpServerPort = %q: want a number", clip(port))
			return
		}
		s.Port = n
	}
	encryption := strings.ToLower(r.text("smtpEncryption"))
	switch {
	case encryption == "tls" || encryption == "starttls":
		s.Encryption = STARTTLS
	case encryption == "ssl" || encryption == "smtps":
		s.Encryption = TLS
	case r.has("smtpEncryption") && encryption != "" && encryption != "none":
		r.fail("sendemail.smtpEncryption = %q: want tls for STARTTLS, ssl for TLS from the begin, or none", clip(encryption))
	case r.has("smtpEncryption") || isLocal(host):
		s.Encryption = Plain
	case s.Port == 465:
		s.Encryption = TLS
	default:
		s.Encryption = STARTTLS
	}
	if s.Port == 0 && s.Encryption == TLS {
		s.Port = 465
	} else if s.Port == 0 {
		s.Port = 25
	}
}

// isLocal reports whether a host is this machine.
func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || filepath.IsAbs(host) || ip != nil && ip.IsLoopback()
}

// What is known of settings: why one that makes a difference is not heeded, or
// nothing for others and for those that are.
var known = map[string]string{
	"from": "", "to": "", "cc": "", "bcc": "", "envelopesender": "", "identity": "", "xmailer": "",
	"suppresscc": "", "suppressfrom": "", "signedoffcc": "", "signedoffbycc": "", "cccover": "", "tocover": "",
	"smtpserver": "", "smtpserverport": "", "smtpserveroption": "", "smtpencryption": "", "smtpsslcertpath": "", "smtpdomain": "",
	"smtpuser": "", "smtppass": "", "smtpauth": "", "smtpbatchsize": "", "smtprelogindelay": "", "sendmailcmd": "",

	"annotate": "", "assume8bitencoding": "", "composeencoding": "", "confirm": "", "forbidsendmailvariables": "",
	"multiedit": "", "validate": "", "aliasfiletype": "", "smtpsslclientkey": "", "mailmap.file": "", "mailmap.blob": "",
	// Only one of their values makes a difference, see notes.
	"chainreplyto": "", "thread": "", "transferencoding": "",

	"aliasesfile":       "give addresses in full",
	"cccmd":             "recipients are those that get_maintainer.pl and the configuration name",
	"headercmd":         "headers are those of the patches",
	"imapsentfolder":    "no copy is put into a folder of an IMAP server",
	"mailmap":           "addresses are taken as they are",
	"outlookidfix":      "the server is to keep the Message-ID",
	"smtpssl":           "set sendemail.smtpEncryption instead",
	"smtpsslclientcert": "the client has no certificate",
	"tocmd":             "recipients are those that get_maintainer.pl and the configuration name",
	"useimaponly":       "mails are sent by SMTP",
}

// notes names the settings that are not heeded and would make a difference.
func (r *reader) notes(c *Config) {
	note := func(name, why string) {
		c.Notes = append(c.Notes, fmt.Sprintf("sendemail.%s is not heeded: %s", name, why))
	}
	if r.truth("chainReplyTo", false) {
		note("chainReplyTo", "each patch replies to the cover letter")
	}
	if !r.truth("thread", true) {
		note("thread", "each patch replies to the cover letter")
	}
	if e := r.text("transferEncoding"); e != "" && e != "auto" && e != "8bit" {
		note("transferEncoding", "mails are 8bit, or quoted-printable where SMTP needs it")
	}
	var others []string
	for key := range r.settings {
		name, ok := strings.CutPrefix(key, "sendemail.")
		if !ok {
			continue
		}
		if rest, ok := strings.CutPrefix(name, r.identity+"."); ok && r.identity != "" {
			name = rest
		} else if _, ok := known[name]; strings.Contains(name, ".") && !ok {
			continue // of another identity
		}
		others = append(others, name)
	}
	slices.Sort(others)
	for _, name := range slices.Compact(others) {
		if why, ok := known[name]; !ok {
			note(clip(name), "it is not known")
		} else if why != "" {
			note(name, why)
		}
	}
}
