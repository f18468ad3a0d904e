package send

import (
	"fmt"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchgen/submit/address"
)

// git sets a configuration by GIT_CONFIG_*, and has no other.
func gitConfig(t *testing.T, pairs ...string) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(dir, "global"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("GIT_CONFIG_COUNT", fmt.Sprint(len(pairs)/2))
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(dir))
	for i := 0; i < len(pairs); i += 2 {
		t.Setenv(fmt.Sprintf("GIT_CONFIG_KEY_%d", i/2), pairs[i])
		t.Setenv(fmt.Sprintf("GIT_CONFIG_VALUE_%d", i/2), pairs[i+1])
	}
	return dir
}

func TestReadConfig(t *testing.T) {
	host := []string{"sendemail.smtpServer", "mail.example.org"}
	for name, test := range map[string]struct {
		pairs    []string
		identity string
		change   func(*Config) // of what host alone gives
	}{
		"host alone":          {host, "", func(*Config) {}},
		"user":                {append([]string{"user.name", "Jürgen  Groß", "user.email", "jg@example.org"}, host...), "", func(c *Config) { c.From = other }},
		"from":                {append([]string{"user.name", "A", "user.email", "a@b.c", "sendemail.from", "S E Nder <sender@example.org>"}, host...), "", func(c *Config) { c.From = me }},
		"port 465":            {append([]string{"sendemail.smtpServerPort", "465"}, host...), "", func(c *Config) { c.Server.Port, c.Server.Encryption = 465, TLS }},
		"submission":          {append([]string{"sendemail.smtpServerPort", "submission"}, host...), "", func(c *Config) { c.Server.Port = 587 }},
		"ssl":                 {append([]string{"sendemail.smtpEncryption", "ssl"}, host...), "", func(c *Config) { c.Server.Port, c.Server.Encryption = 465, TLS }},
		"tls":                 {append([]string{"sendemail.smtpEncryption", "tls", "sendemail.smtpServerPort", "465"}, host...), "", func(c *Config) { c.Server.Port = 465 }},
		"none":                {append([]string{"sendemail.smtpEncryption", "none"}, host...), "", func(c *Config) { c.Server.Encryption = Plain }},
		"host:port":           {[]string{"sendemail.smtpServer", "mail.example.org:587"}, "", func(c *Config) { c.Server.Port = 587 }},
		"localhost":           {[]string{"sendemail.smtpServer", "localhost"}, "", func(c *Config) { c.Server.Host, c.Server.Encryption = "localhost", Plain }},
		"IPv6":                {[]string{"sendemail.smtpServer", "::1"}, "", func(c *Config) { c.Server.Host, c.Server.Encryption = "::1", Plain }},
		"login":               {append([]string{"sendemail.smtpUser", "me", "sendemail.smtpAuth", "plain LOGIN"}, host...), "", func(c *Config) { c.Server.User, c.Server.Auth = "me", []string{"PLAIN", "LOGIN"} }},
		"no login":            {append([]string{"sendemail.smtpUser", "me", "sendemail.smtpAuth", "none"}, host...), "", func(*Config) {}},
		"batches":             {append([]string{"sendemail.smtpBatchSize", "5", "sendemail.smtpReloginDelay", "2"}, host...), "", func(c *Config) { c.Server.BatchSize, c.Server.ReloginDelay = 5, 2*time.Second }},
		"certificate":         {append([]string{"sendemail.smtpSSLCertPath", "/etc/x"}, host...), "", func(c *Config) { c.Server.CertPath = "/etc/x" }},
		"certificate at home": {append([]string{"sendemail.smtpSSLCertPath", "~/x"}, host...), "", func(c *Config) { c.Server.CertPath = "/home/me/x" }},
		"recipients": {append([]string{"sendemail.to", "linux-kernel@example.org, Jürgen Groß <jg@example.org>", "sendemail.to", "a@b.c", "sendemail.cc", "", "sendemail.bcc", "sender@example.org"}, host...), "", func(c *Config) {
			c.To, c.Bcc = []mail.Address{list, other, {Address: "a@b.c"}}, []mail.Address{{Address: "sender@example.org"}}
		}},
		"suppressed": {append([]string{"sendemail.suppressCc", "author", "sendemail.suppressCc", "self", "sendemail.suppressFrom", "false", "sendemail.signedOffByCc", "no"}, host...), "", func(c *Config) {
			c.SuppressCc, c.CopySelf = []string{"author", "sob"}, true
		}},
		"suppressed body": {append([]string{"sendemail.suppressCc", "body", "sendemail.signedOffByCc", "yes", "sendemail.suppressFrom", "true"}, host...), "", func(c *Config) {
			c.SuppressCc = []string{"self", "sob", "bodycc", "misc-by"}
		}},
		"suppressed all": {append([]string{"sendemail.suppressCc", "all"}, host...), "", func(c *Config) {
			c.SuppressCc = []string{"cccmd", "cc", "author", "self", "sob", "bodycc", "misc-by"}
		}},
		"covers": {append([]string{"sendemail.ccCover", "true", "sendemail.toCover", "1"}, host...), "", func(c *Config) {
			c.CcCover, c.ToCover = true, true
		}},
		"envelope": {append([]string{"sendemail.envelopeSender", "<bounce@example.org>", "sendemail.smtpDomain", "me.example.org", "sendemail.xmailer", "false"}, host...), "", func(c *Config) {
			c.EnvelopeSender, c.Server.Domain, c.XMailer = "bounce@example.org", "me.example.org", false
		}},
		"auto":        {append([]string{"sendemail.envelopeSender", "auto"}, host...), "", func(*Config) {}},
		"program":     {[]string{"sendemail.smtpServer", "/usr/bin/msmtp", "sendemail.smtpServerOption", "-a", "sendemail.smtpServerOption", "work"}, "", func(c *Config) { c.Server = Server{Program: []string{"/usr/bin/msmtp", "-a", "work"}} }},
		"sendmailCmd": {[]string{"sendemail.sendmailCmd", "msmtp -a work"}, "", func(c *Config) { c.Server = Server{Program: []string{"sh", "-c", `msmtp -a work "$@"`, "-"}} }},
		"identity": {append([]string{"sendemail.Work.smtpServer", "work.example.org", "sendemail.Work.to", "a@b.c", "sendemail.to", "x@y.z", "sendemail.cc", "c@d.e"}, host...), "Work", func(c *Config) {
			c.Server.Host, c.To, c.Cc = "work.example.org", []mail.Address{{Address: "a@b.c"}}, []mail.Address{{Address: "c@d.e"}}
		}},
		"identity by itself": {append([]string{"sendemail.identity", "w", "sendemail.w.smtpServer", "work.example.org", "sendemail.v.odd", "1"}, host...), "", func(c *Config) {
			c.Server.Host = "work.example.org"
		}},
		"notes": {append([]string{"sendemail.chainReplyTo", "yes", "sendemail.thread", "0", "sendemail.toCmd", "x", "sendemail.validate", "true", "sendemail.odd", "1", "sendemail.transferEncoding", "base64", "sendemail.confirm", "always", "sendemail.mailmap.file", "x"}, host...), "", func(c *Config) {
			c.Notes = []string{"sendemail.chainReplyTo is not heeded: each patch replies to the cover letter", "sendemail.thread is not heeded: each patch replies to the cover letter",
				"sendemail.transferEncoding is not heeded: mails are 8bit, or quoted-printable where SMTP needs it",
				"sendemail.odd is not heeded: it is not known", "sendemail.tocmd is not heeded: recipients are those that get_maintainer.pl and the configuration name"}
		}},
		"no notes": {append([]string{"sendemail.chainReplyTo", "no", "sendemail.thread", "true", "sendemail.transferEncoding", "8bit"}, host...), "", func(*Config) {}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := gitConfig(t, test.pairs...)
			t.Setenv("HOME", "/home/me")
			want := Config{XMailer: true, Server: Server{Host: "mail.example.org", Port: 25, Encryption: STARTTLS}}
			test.change(&want)
			got, err := ReadConfig(t.Context(), dir, test.identity)
			if err != nil {
				t.Fatal(err)
			}
			got.dir = ""
			if diff := cmp.Diff(want, *got, cmp.AllowUnexported(Config{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigErrors(t *testing.T) {
	host := []string{"sendemail.smtpServer", "mail.example.org"}
	for name, test := range map[string]struct {
		pairs []string
		want  string
	}{
		"no such identity":   {append([]string{"sendemail.identity", "x", "sendemail.xy.to", "a@b.c"}, host...), "sendemail.x.*"},
		"encryption":         {append([]string{"sendemail.smtpEncryption", "on"}, host...), "want tls"},
		"no verification":    {append([]string{"sendemail.smtpSSLCertPath", ""}, host...), "patchgen always does"},
		"port":               {append([]string{"sendemail.smtpServerPort", "x y"}, host...), "want a number"},
		"port 0":             {append([]string{"sendemail.smtpServerPort", "0"}, host...), "want a number"},
		"relative program":   {[]string{"sendemail.smtpServer", "bin/msmtp"}, "the path of a program"},
		"port alone":         {[]string{"sendemail.smtpServer", ":25"}, "want the name of a host"},
		"batches":            {append([]string{"sendemail.smtpReloginDelay", "5"}, host...), "set both"},
		"batch size":         {append([]string{"sendemail.smtpBatchSize", "-5"}, host...), "want a number"},
		"alias":              {append([]string{"sendemail.to", "linus"}, host...), "aliasesFile"},
		"from":               {append([]string{"sendemail.from", "me"}, host...), "sendemail.from"},
		"user":               {append([]string{"user.email", "me@localhost\nBcc: x"}, host...), "user.email"},
		"boolean":            {append([]string{"sendemail.thread", "perhaps"}, host...), "want true or false"},
		"suppressed":         {append([]string{"sendemail.suppressCc", "everybody"}, host...), "want one of all"},
		"line end":           {append([]string{"sendemail.smtpUser", "me\nhost=evil"}, host...), "line end"},
		"password, line end": {append([]string{"sendemail.smtpPass", secret + "\n"}, host...), "sendemail.smtpPass has a line end"},
		"envelope":           {append([]string{"sendemail.envelopeSender", "-oQ@example.org"}, host...), "envelopeSender"},
	} {
		t.Run(name, func(t *testing.T) {
			git, err := exec.LookPath("git")
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", t.TempDir()) // without a sendmail
			if err := os.Symlink(git, filepath.Join(os.Getenv("PATH"), "git")); err != nil {
				t.Fatal(err)
			}
			defer func(old []string) { sendmails = old }(sendmails)
			sendmails = nil
			dir := gitConfig(t, test.pairs...)
			_, err = ReadConfig(t.Context(), dir, "")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			noSecret(t, "the error", err)
		})
	}
}

// What git finds by itself: files of the folder, includes, values without "=".
func TestScopes(t *testing.T) {
	dir := gitConfig(t)
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	run("init", "-q")
	run("config", "--global", "sendemail.smtpServer", "global.example.org")
	run("config", "--global", "sendemail.smtpPass", secret)
	run("config", "include.path", "../included")
	if err := os.WriteFile(filepath.Join(dir, "included"), []byte("[sendemail]\n\tsmtpServer = local.example.org\n\tchainReplyTo\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Host != "local.example.org" || len(c.Notes) != 1 || *c.password != secret {
		t.Errorf("%+v", c)
	}
	noSecret(t, "the configuration", *c)
	noSecret(t, "the server", c.Server.String())
	c, err = ReadConfig(t.Context(), t.TempDir(), "")
	if err != nil || c.Server.Host != "global.example.org" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestSendmail(t *testing.T) {
	dir := gitConfig(t)
	program := filepath.Join(dir, "sendmail")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	defer func(old []string) { sendmails = old }(sendmails)
	sendmails = []string{filepath.Join(dir, "none"), program}
	c, err := ReadConfig(t.Context(), dir, "")
	if err != nil || !slices.Equal(c.Server.Program, []string{program}) || c.Server.String() != "the program "+program {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestServerString(t *testing.T) {
	for want, s := range map[string]Server{
		"me@mail.example.org:587, by SMTP with STARTTLS": {Host: "mail.example.org", Port: 587, User: "me", Encryption: STARTTLS},
		"[::1]:25, by SMTP with plain text":              {Host: "::1", Port: 25, Encryption: Plain},
		"the program msmtp":                              {Program: []string{"sh", "-c", `msmtp --password ` + secret + ` "$@"`, "-"}},
		"the program /usr/bin/msmtp":                     {Program: []string{"/usr/bin/msmtp", secret}},
		"/run/mail, by SMTP":                             {Host: "/run/mail", Encryption: Plain},
	} {
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte("sendemail.smtpserver\nmail.example.org\x00sendemail.to\na@b.c, \"x\" <y@z>\x00sendemail.thread\x00"))
	f.Add([]byte("sendemail.identity\nx\x00sendemail.x.smtpserverport\n587\x00user.name\na\x00user.email\na@b.c\x00sendemail.smtpserver\n[::1]:25\x00"))
	f.Add([]byte("sendemail.sendmailcmd\n \x00sendemail.smtpserveroption\x00"))
	f.Add([]byte("sendemail.smtppass\nx\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSettings(data)
		if err != nil {
			return
		}
		c, err := s.config("")
		if err != nil {
			return
		}
		_ = c.Server.String()
		if c.Server.Program == nil && (c.Server.Host == "" || c.Server.Port < 1 && !filepath.IsAbs(c.Server.Host) || c.Server.Port > 65535) {
			t.Errorf("%+v", c.Server)
		}
		for _, a := range slices.Concat(c.To, c.Cc, c.Bcc) {
			if _, err := address.Check(a); err != nil {
				t.Error(err)
			}
		}
		if !address.Printable(c.Server.User + c.Server.Domain + c.Server.Host + c.EnvelopeSender) {
			t.Errorf("%+v", c)
		}
	})
}
