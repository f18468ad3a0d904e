//go:build kernel

package send

import (
	"bytes"
	"fmt"
	netmail "net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
	"patchgen/series"
	"patchgen/submit/patchmail"
	"patchgen/submit/recipients"
)

// tool fails the test if a program is not installed.
func tool(t *testing.T, pkg string, command ...string) {
	t.Helper()
	if err := exec.Command(command[0], command[1:]...).Run(); err != nil {
		t.Fatalf("%s: %v: install the Debian package %s", command[0], err, pkg)
	}
}

// A repo is a repository without any configuration but its own.
type repo struct{ dir string }

func newRepo(t *testing.T) repo {
	t.Helper()
	r := repo{t.TempDir()}
	r.git(t, "init", "-q")
	r.git(t, "config", "user.name", me.Name)
	r.git(t, "config", "user.email", me.Address)
	return r
}

func (r repo) run(t *testing.T, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "HOME="+r.dir, "XDG_CACHE_HOME="+r.dir+"/.cache",
		"XDG_DATA_HOME="+r.dir+"/.data", "TERM=dumb", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

func (r repo) git(t *testing.T, args ...string) string {
	t.Helper()
	return r.run(t, append([]string{"git"}, args...)...)
}

// history is all that patches made of a base: authors, messages and files.
func (r repo) history(t *testing.T, base string) string {
	t.Helper()
	return r.git(t, "log", "--reverse", "--format=%an <%ae>%n%B%n%T", base+"..")
}

// clone is another repository at the base of this one.
func (r repo) clone(t *testing.T, base string) repo {
	t.Helper()
	c := newRepo(t)
	c.git(t, "fetch", "-q", r.dir, base)
	c.git(t, "reset", "-q", "--hard", "FETCH_HEAD")
	return c
}

// tree is the repository of those files of a kernel tree that patches change.
func tree(t *testing.T, from string, in []Draft) (repo, string) {
	t.Helper()
	r := newRepo(t)
	for _, d := range in {
		files, _, err := gitdiff.Parse(bytes.NewReader(d.Data))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(filepath.Join(from, f.NewName))
			if os.IsNotExist(err) {
				continue // it is new
			}
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(r.dir, f.NewName), data)
		}
	}
	r.git(t, "add", ".")
	r.git(t, "commit", "-q", "-m", "base")
	return r, strings.TrimSpace(r.git(t, "rev-parse", "HEAD"))
}

// odd is a series of what git can write and mail can hardly carry. Of what b4 0.12
// loses by itself (quotes in a name, a CR at the end of a line, and whatever is not
// UTF-8) there is something only if all is true.
func odd(t *testing.T, all bool) (repo, string, []Draft) {
	t.Helper()
	r := newRepo(t)
	write(t, filepath.Join(r.dir, "f"), []byte("1\n2\n3\n"))
	write(t, filepath.Join(r.dir, "dos"), []byte("1\r\n2\r\n"))
	r.git(t, "add", ".")
	r.git(t, "commit", "-q", "-m", "base")
	base := strings.TrimSpace(r.git(t, "rev-parse", "HEAD"))
	commits := []struct{ file, text, author, message string }{
		{"f", "1\n.\n..\n2 \t\nÄ\n", "Jürgen Groß <jg@example.org>", "mm: über alles in a subject so long that it has to be folded somewhere\n\nFrom now on it is other.\n>From here, too.\n.\n"},
		{"f", strings.Repeat("x", 1500) + "\n.\n", "A U O'Thor <author@example.org>", "mm: long line\n\nFrom nobody at all\n"},
		{"f", "", "S E Nder <sender@example.org>", "mm: empty file\n\nText.\n"},
		{"f", "z\n", `A. U. "Thor" <author@example.org>`, "mm: quoted author\n\nText.\n"},
		{"dos", "1\r\n2 \r\n.\r\n", "S E Nder <sender@example.org>", "mm: CR LF\n\nText.\n"},
		{"latin1", "\xdcber\nFrom x\n", "Sender <sender@example.org>", "mm: not UTF-8\n"},
	}
	if !all {
		commits = commits[:3]
	}
	for i, c := range commits {
		write(t, filepath.Join(r.dir, c.file), []byte(c.text))
		r.git(t, "add", ".")
		r.git(t, "commit", "-q", "--author", c.author, "--date", fmt.Sprintf("2026-01-0%dT00:00:00Z", i+1), "-m", c.message)
	}
	out := filepath.Join(t.TempDir(), "patches")
	r.git(t, "format-patch", "-q", "--cover-letter", "-o", out, base)
	mails, err := series.ReadPatches(out)
	if err != nil {
		t.Fatal(err)
	}
	var in []Draft
	for _, m := range mails {
		m.Data = []byte(strings.NewReplacer("*** SUBJECT HERE ***", "A title", "*** BLURB HERE ***", "From then on.").Replace(string(m.Data)))
		in = append(in, Draft{Mail: m, To: []netmail.Address{list}, Cc: []netmail.Address{other}})
	}
	return r, base, in
}

// Kernel trees as in PATCHGEN_TREES, by the name of the patches for them.
func kernelTrees(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, dir := range filepath.SplitList(os.Getenv("PATCHGEN_TREES")) {
		makefile, err := os.ReadFile(filepath.Join(dir, "Makefile"))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`(?m)^VERSION = (\d+)\nPATCHLEVEL = (\d+)$`).FindSubmatch(makefile)
		if m == nil {
			t.Fatalf("%s has no version", dir)
		}
		all[fmt.Sprintf("%s.%s", m[1], m[2])] = dir
	}
	if len(all) == 0 {
		t.Fatal("PATCHGEN_TREES names no kernel tree")
	}
	return all
}

// What b4 makes of the mbox, and git am of that, is what git am makes of the
// patches: the same files, authors and messages.
func TestB4(t *testing.T) {
	tool(t, "b4", "b4", "--version")
	check := func(t *testing.T, r repo, base string, in []Draft) {
		plain := r.clone(t, base)
		for _, d := range in {
			if strings.HasPrefix(d.Name, "0000-") {
				continue
			}
			plain.git(t, "am", "-q", "--keep-cr", write(t, filepath.Join(t.TempDir(), d.Name), d.Data))
		}
		want := plain.history(t, base)

		messages := compose(t, options(), in...)
		data, err := MBox(messages)
		if err != nil {
			t.Fatal(err)
		}
		mbox := write(t, filepath.Join(t.TempDir(), "series.mbox"), data)
		gitAm(t, r, base, mbox, want)

		b4 := r.clone(t, base)
		out := t.TempDir()
		b4.run(t, "b4", "-n", "am", "-m", mbox, "-o", out, strings.Trim(messages[0].ID, "<>"))
		made, err := filepath.Glob(filepath.Join(out, "*.mbx"))
		if err != nil || len(made) != 1 {
			t.Fatalf("b4 wrote %v, %v", made, err)
		}
		b4.git(t, "am", "-q", "--keep-cr", made[0])
		// b4 0.12 takes blanks off the begin of paragraphs.
		blanks := regexp.MustCompile(`(?m)^ +`)
		if diff := cmp.Diff(blanks.ReplaceAllString(want, ""), blanks.ReplaceAllString(b4.history(t, base), "")); diff != "" {
			t.Errorf("b4 am and git am (-patches +b4):\n%s", diff)
		}
	}
	for version, dir := range kernelTrees(t) {
		t.Run(version, func(t *testing.T) {
			in := drafts(t, version)
			r, base := tree(t, dir, in)
			check(t, r, base, in)
		})
	}
	t.Run("odd", func(t *testing.T) {
		r, base, in := odd(t, false)
		check(t, r, base, in)
	})
}

// git am of the mbox alone, of what b4 cannot carry, too.
func TestGitAm(t *testing.T) {
	r, base, in := odd(t, true)
	data, err := MBox(compose(t, options(), in...))
	if err != nil {
		t.Fatal(err)
	}
	gitAm(t, r, base, write(t, filepath.Join(t.TempDir(), "series.mbox"), data), r.history(t, base))
}

func gitAm(t *testing.T, r repo, base, mbox, want string) {
	t.Helper()
	all := r.clone(t, base)
	// The cover letter is for git am a patch without a diff.
	all.git(t, "am", "-q", "--keep-cr", "--empty=drop", mbox)
	if diff := cmp.Diff(want, all.history(t, base)); diff != "" {
		t.Errorf("git am of the mbox (-patches +mbox):\n%s", diff)
	}
}

// git send-email takes what was exported without a question, with and without a
// terminal, and hands over the mails that a Sender would send.
func TestGitSendEmail(t *testing.T) {
	tool(t, "git-email", "git", "send-email", "--dump-aliases")
	tool(t, "bsdutils", "script", "--version")
	check := func(t *testing.T, in []Draft) {
		r := newRepo(t)
		messages := compose(t, options(), in...)
		dir := filepath.Join(t.TempDir(), "out")
		if err := Export(dir, messages, series.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
		if err != nil {
			t.Fatal(err)
		}
		r.git(t, append([]string{"send-email", "--dry-run"}, files...)...)
		flags := "git send-email --dry-run " + strings.Join(SendEmailArgs, " ") + " " + dir + "/*.patch"
		if out := r.run(t, "timeout", "60", "script", "-qec", flags, os.DevNull); strings.Contains(out, "?") && regexp.MustCompile(`(?m)(\? $|\?\s*\x1b|emails be sent)`).MatchString(out) || strings.Count(out, "Result: OK") != len(in) {
			t.Errorf("on a terminal:\n%s", out)
		}

		// A sendmail that keeps what it is given.
		taken := t.TempDir()
		program := write(t, filepath.Join(r.dir, "sendmail"), []byte("#!/bin/sh\nn=$(ls "+taken+"/*.eml 2>/dev/null | wc -l)\ncat >$(printf "+taken+"/%04d.eml $n)\necho \"$@\" >>"+taken+"/args\n"))
		if err := os.Chmod(program, 0o777); err != nil {
			t.Fatal(err)
		}
		r.git(t, slices.Concat([]string{"send-email", "--quiet", "--confirm=never", "--smtp-server=" + program}, SendEmailArgs, files)...)
		c, err := Compare(taken, messages)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range c.Differences {
			// git decodes quoted-printable, and encodes it in its own way.
			if d.Part != "Date" && !(d.Encoding && d.Want == "quoted-printable" && d.Want == d.Got) {
				t.Errorf("git sends another mail: %s", d)
			}
		}
		if c.Missing != nil {
			t.Errorf("git did not send %v", c.Missing)
		}
		args, _ := os.ReadFile(filepath.Join(taken, "args"))
		if want := strings.Repeat("-i linux-kernel@example.org jg@example.org\n", len(in)); string(args) != want {
			t.Errorf("git sends to\n%s", args)
		}

		// And of the patches themselves git makes what Compose makes.
		patches := t.TempDir()
		files = nil
		for _, d := range in {
			files = append(files, write(t, filepath.Join(patches, d.Name), d.Data))
		}
		old, _ := filepath.Glob(taken + "/*")
		for _, f := range old {
			os.Remove(f)
		}
		r.git(t, slices.Concat([]string{"send-email", "--quiet", "--confirm=never", "--smtp-server=" + program, "--suppress-cc=all", "--to=" + list.Address, "--cc=" + encode(other)}, files)...)
		for i, m := range messages {
			data, err := os.ReadFile(fmt.Sprintf("%s/%04d.eml", taken, i))
			if err != nil {
				t.Fatal(err)
			}
			wantHeader, want := judge(t, Message{Name: m.Name, Data: data})
			gotHeader, got := judge(t, m)
			if !bytes.Equal(want, got) {
				t.Errorf("%s: the text is not git's (-git +Compose):\n%s", m.Name, cmp.Diff(string(want), string(got)))
			}
			for _, name := range []string{"From", "To", "Cc", "Subject", "Content-Transfer-Encoding", "Mime-Version"} {
				a, _ := words.DecodeHeader(wantHeader.Get(name))
				b, _ := words.DecodeHeader(gotHeader.Get(name))
				if a != b {
					t.Errorf("%s: %s is %q, by git %q", m.Name, name, b, a)
				}
			}
			if (wantHeader.Get("In-Reply-To") == "") != (gotHeader.Get("In-Reply-To") == "") {
				t.Errorf("%s replies to %s, by git to %s", m.Name, gotHeader.Get("In-Reply-To"), wantHeader.Get("In-Reply-To"))
			}
		}
	}
	for _, version := range []string{"6.1", "6.12", "7.3"} {
		t.Run(version, func(t *testing.T) { check(t, drafts(t, version)) })
	}
	t.Run("odd", func(t *testing.T) {
		_, _, in := odd(t, true)
		check(t, in)
	})
}

// Whom git's settings leave out is whom git send-email leaves out by them.
func TestGitSuppressCc(t *testing.T) {
	tool(t, "git-email", "git", "send-email", "--dump-aliases")
	dir := t.TempDir()
	for name, text := range map[string]string{"Makefile": "VERSION = 6\nPATCHLEVEL = 12\n", "Kconfig": "", "kernel/f": ""} {
		write(t, filepath.Join(dir, name), []byte(text))
	}
	tree, err := ktree.Open(t.Context(), dir, ktree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	taken := t.TempDir()
	program := write(t, filepath.Join(taken, "sendmail"), []byte("#!/bin/sh\ncat >/dev/null\necho \"$@\" >>"+taken+"/args\n"))
	if err := os.Chmod(program, 0o777); err != nil {
		t.Fatal(err)
	}
	const diff = "---\n f | 1 +\n\ndiff --git a/f b/f\nnew file mode 100644\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n-- \n2.39.5\n\n"
	mails := []series.Mail{
		{Name: "0001-a.patch", Data: []byte(mboxLine + "From: S E Nder <sender@example.org>\nSubject: [PATCH 1/2] a: b\nTo: top@example.org\nCc: header@example.org, S E Nder <sender@example.org>\n\nText.\n\n" +
			"Acked-by: Ack <ack@example.org>\nSigned-off-by: S E Nder <sender@example.org>\n" + diff)},
		{Name: "0002-b.patch", Data: []byte(mboxLine + "From: A U Thor <author@example.org>\nSubject: [PATCH 2/2] a: c\nCc: second@example.org\n\nText.\n\n" +
			"Reported-by: Finder <finder@example.org>\nCc: Body <body@example.org>\nReviewed-by: S E Nder <sender@example.org>\nSigned-off-by: Helper <helper@example.org>\n" + diff)},
	}
	s, err := patchmail.Parse(mails)
	if err != nil {
		t.Fatal(err)
	}
	files := t.TempDir()
	for _, m := range mails {
		write(t, filepath.Join(files, m.Name), m.Data)
	}
	r := newRepo(t)
	left := make(map[string]bool) // to see that the settings make a difference
	for _, settings := range []string{
		"suppressFrom=false", "suppressFrom=true", "suppressCc=self", "suppressCc=self suppressFrom=no",
		"suppressFrom=false suppressCc=author", "suppressFrom=false suppressCc=cc", "suppressFrom=false suppressCc=sob", "suppressFrom=false suppressCc=misc-by",
		"suppressFrom=false suppressCc=bodycc", "suppressFrom=false suppressCc=body", "suppressFrom=false suppressCc=cccmd", "suppressCc=all", "suppressCc=all suppressFrom=false",
		"suppressFrom=false signedOffByCc=false", "suppressFrom=false suppressCc=sob signedOffByCc=true", "suppressFrom=false suppressCc=body signedOffByCc=true", "suppressCc=all signedOffByCc=true",
		"suppressCc=self suppressCc=author suppressCc=sob", "suppressFrom=false suppressCc=body suppressCc=author ccCover=true", "suppressFrom=false toCover=true", "suppressCc=all ccCover=true toCover=true",
	} {
		t.Run(settings, func(t *testing.T) {
			pairs := []string{"sendemail.smtpServer", program, "sendemail.confirm", "never", "sendemail.to", list.Address, "sendemail.cc", "always@example.org",
				"user.name", me.Name, "user.email", me.Address}
			for setting := range strings.FieldsSeq(settings) {
				name, value, _ := strings.Cut(setting, "=")
				pairs = append(pairs, "sendemail."+name, value)
			}
			gitConfig(t, pairs...)
			os.Remove(filepath.Join(taken, "args"))
			r.git(t, "send-email", "--quiet", filepath.Join(files, mails[0].Name), filepath.Join(files, mails[1].Name))
			args, err := os.ReadFile(filepath.Join(taken, "args"))
			if err != nil {
				t.Fatal(err)
			}

			c, err := ReadConfig(t.Context(), r.dir, "")
			if err != nil {
				t.Fatal(err)
			}
			o := recipients.Options{Sender: c.From.Address, Suppress: slices.Clone(c.SuppressCc)}
			if !c.CopySelf {
				o.Suppress = append(o.Suppress, "self")
			}
			found, err := recipients.For(t.Context(), tree, s, o)
			if err != nil {
				t.Fatal(err)
			}
			var in []Draft
			for i, m := range mails {
				d := Draft{Mail: m, To: c.To, Cc: c.Cc}
				for _, rcpt := range slices.Concat(found.Lists[i].To, found.Lists[i].Cc) {
					d.Cc = append(d.Cc, netmail.Address{Address: rcpt.Address})
				}
				in = append(in, d)
			}
			got := ""
			for _, m := range compose(t, ComposeOptions{From: c.From, SuppressCc: c.SuppressCc, CcCover: c.CcCover, ToCover: c.ToCover}, in...) {
				slices.Sort(m.Recipients)
				got += strings.Join(m.Recipients, " ") + "\n"
			}
			want := ""
			for line := range strings.Lines(string(args)) {
				all := strings.Fields(line)[1:] // after -i
				slices.Sort(all)
				want += strings.Join(all, " ") + "\n"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("recipients (-git +patchgen):\n%s", diff)
			}
			left[want] = true
		})
	}
	if len(left) < 13 {
		t.Errorf("only %d different lists of recipients", len(left))
	}
}

// The branch that patchgen emit --branch makes is one that b4 prep takes over and
// mails: the same commits, behind the one in which b4 keeps its cover letter.
func TestB4Prep(t *testing.T) {
	tool(t, "b4", "b4", "--version")
	patchgen := filepath.Join(t.TempDir(), "patchgen")
	if out, err := exec.Command("go", "build", "-o", patchgen, "patchgen/cmd/patchgen").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := newRepo(t)
	if err := os.CopyFS(r.dir, os.DirFS("../../series/testdata/linux")); err != nil {
		t.Fatal(err)
	}
	r.git(t, "add", "-f", ".")
	r.git(t, "commit", "-q", "-m", "base")
	r.git(t, "branch", "upstream")
	base := strings.TrimSpace(r.git(t, "rev-parse", "HEAD"))
	r.run(t, patchgen, "emit", "--tree", ".", "--branch", "dirty", "--signoff")
	r.git(t, "checkout", "-q", "dirty")
	want, n := r.history(t, base), strings.TrimSpace(r.git(t, "rev-list", "--count", base+".."))
	if n == "0" {
		t.Fatal("the branch has no commits")
	}

	r.run(t, "b4", "-n", "prep", "-e", "upstream")
	info := r.run(t, "b4", "prep", "--show-info")
	if !strings.Contains(info, "base-commit: "+base+"\n") || fmt.Sprint(strings.Count(info, "\ncommit-")) != n {
		t.Errorf("b4 does not know %s commits on %s:\n%s", n, base, info)
	}
	cover := strings.TrimSpace(r.git(t, "rev-parse", "HEAD~"+n))
	if parent := strings.TrimSpace(r.git(t, "rev-parse", cover+"~")); parent != base {
		t.Errorf("b4's cover letter stands on %s, not on %s", parent, base)
	}
	if diff := cmp.Diff(want, r.history(t, cover)); diff != "" {
		t.Errorf("commits (-patchgen +b4):\n%s", diff)
	}

	out := filepath.Join(t.TempDir(), "out")
	r.run(t, "b4", "-n", "prep", "-p", out)
	files, err := filepath.Glob(filepath.Join(out, "*.patch"))
	if err != nil || fmt.Sprint(len(files)-1) != n {
		t.Fatalf("b4 wrote %v, %v", files, err)
	}
	mailed := r.clone(t, base)
	mailed.git(t, append([]string{"am", "-q"}, files[1:]...)...)
	if diff := cmp.Diff(want, mailed.history(t, base)); diff != "" {
		t.Errorf("mails (-patchgen +b4):\n%s", diff)
	}
}
