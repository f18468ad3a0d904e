package recipients

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
	"patchgen/series"
	"patchgen/submit/address"
	"patchgen/submit/patchmail"
)

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// commit makes a git clone of a folder.
func commit(t testing.TB, dir string) {
	t.Helper()
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A", "-f"}, {"commit", "-q", "-m", "all"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
			"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
}

func open(t testing.TB, dir string) *ktree.Tree {
	t.Helper()
	tree, err := ktree.Open(context.Background(), dir, ktree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// stand opens a copy of the stand-in, with further files.
func stand(t testing.TB, more map[string]string) *ktree.Tree {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/linux")); err != nil {
		t.Fatal(err)
	}
	for name, text := range more {
		write(t, filepath.Join(dir, name), text)
	}
	return open(t, dir)
}

// change is the diff of files, each with the line in it that it adds.
func change(lines ...string) string {
	var b strings.Builder
	for i := 0; i < len(lines); i += 2 {
		fmt.Fprintf(&b, "diff --git a/%[1]s b/%[1]s\nindex 1111111..2222222 100644\n--- a/%[1]s\n+++ b/%[1]s\n@@ -1 +1,2 @@\n int first;\n+%[2]s\n", lines[i], lines[i+1])
	}
	return b.String()
}

// letter is a mail as git format-patch writes it.
func letter(name, number, text, diff string) series.Mail {
	return series.Mail{Name: name, Data: []byte("From 1234567890123456789012345678901234567890 Mon Sep 17 00:00:00 2001\n" +
		"From: A U Thor <author@example.org>\nDate: Fri, 2 Jan 2026 03:04:05 +0000\nSubject: [PATCH " + number + "] toy: a title\n\n" +
		text + "\n---\n x | 1 +\n\n" + diff + "-- \n2.39.5\n\n")}
}

func parse(t testing.TB, mails ...series.Mail) *patchmail.Series {
	t.Helper()
	s, err := patchmail.Parse(mails)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// find runs For with the reader.
func find(t testing.TB, tree *ktree.Tree, o Options, mails ...series.Mail) *Result {
	t.Helper()
	o.NoScript = true
	r, err := For(context.Background(), tree, parse(t, mails...), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// show writes recipients one a line.
func show(list []Recipient) string {
	var b strings.Builder
	for _, r := range list {
		who := r.Address
		if r.Name != "" {
			who = r.Name + " <" + r.Address + ">"
		}
		fmt.Fprintf(&b, "%s, %s, %s", who, r.Role, r.Why)
		if r.Patches != nil {
			fmt.Fprintf(&b, ", %v", r.Patches)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestFor(t *testing.T) {
	r := find(t, stand(t, nil), Options{To: []string{"Always <always@example.org>"}, Cc: []string{`"Copy, Always" <copy@example.org>`, "FIRST@example.org"}},
		letter("0000-cover-letter.patch", "0/3", "About toys.\n\nTo: Top <top@example.org>\nCc: Low <low@example.org>", ""),
		letter("0001-a.patch", "1/3", "Text.\n\nReported-by: Finder <finder@example.org>\nFixes: 123456789abc (\"core: x <y@example.org>\")\n"+
			"Link: https://example.org/a@b\nSigned-off-by: A U Thor <author@example.org>\nCc: stable@vger.example.org # 5.10+", change("kernel/init.c", "int second;")),
		letter("0002-b.patch", "2/3", "Text.\n\nAssisted-by: Machine <no@example.org>\nReviewed-by: Careful Reader <READER@example.org>", change("drivers/toy/toy.c", "int second;")),
		letter("0003-c.patch", "3/3", "Text.", change("lib/new.c", "\ttoy_wind();")))
	want := []List{
		{Mail: "0000-cover-letter.patch"}, {Mail: "0001-a.patch"}, {Mail: "0002-b.patch"}, {Mail: "0003-c.patch"},
	}
	to := []string{
		`First Maintainer <first@example.org>, maintainer, MAINTAINERS: CORE OF THE STAND-IN; configuration: cc, [1 2 3]
Jürgen Ümlaut <juergen@example.org>, maintainer, MAINTAINERS: CORE OF THE STAND-IN, [1]
Always <always@example.org>, configured, configuration: to, [1 2 3]
Top <top@example.org>, trailer, To, [1 2 3]
Moved Person <moved@example.org>, maintainer, MAINTAINERS: TOYS (Odd Fixes); MAINTAINERS: TOYS (Odd Fixes), K: \btoy_(?:wind|stop)\b, [2 3]
`, `First Maintainer <first@example.org>, maintainer, MAINTAINERS: CORE OF THE STAND-IN; configuration: cc
Jürgen Ümlaut <juergen@example.org>, maintainer, MAINTAINERS: CORE OF THE STAND-IN
Always <always@example.org>, configured, configuration: to
Top <top@example.org>, trailer, To
`, `Moved Person <moved@example.org>, maintainer, MAINTAINERS: TOYS (Odd Fixes)
Always <always@example.org>, configured, configuration: to
Top <top@example.org>, trailer, To
`, `Moved Person <moved@example.org>, maintainer, MAINTAINERS: TOYS (Odd Fixes), K: \btoy_(?:wind|stop)\b
Always <always@example.org>, configured, configuration: to
Top <top@example.org>, trailer, To
`}
	cc := []string{
		`Careful Reader <reader@example.org>, reviewer, MAINTAINERS: CORE OF THE STAND-IN; Reviewed-by, [1 2]
core@lists.example.org, open list, MAINTAINERS: CORE OF THE STAND-IN, [1]
everybody@lists.example.org, open list, MAINTAINERS: THE REST, [1 2 3]
A U Thor <author@example.org>, author, From; Signed-off-by, [1 2 3]
Finder <finder@example.org>, trailer, Reported-by, [1]
stable@vger.example.org, trailer, Cc, [1]
Copy, Always <copy@example.org>, configured, configuration: cc, [1 2 3]
Low <low@example.org>, trailer, Cc, [1 2 3]
A J. Initial (Toy Corp) <initial@example.org>, reviewer, MAINTAINERS: TOYS (Odd Fixes); MAINTAINERS: TOYS (Odd Fixes), K: \btoy_(?:wind|stop)\b, [2 3]
toys@lists.example.org, moderated list, MAINTAINERS: TOYS (Odd Fixes); MAINTAINERS: TOYS (Odd Fixes), K: \btoy_(?:wind|stop)\b, [2 3]
`, `Careful Reader <reader@example.org>, reviewer, MAINTAINERS: CORE OF THE STAND-IN
core@lists.example.org, open list, MAINTAINERS: CORE OF THE STAND-IN
everybody@lists.example.org, open list, MAINTAINERS: THE REST
A U Thor <author@example.org>, author, From; Signed-off-by
Finder <finder@example.org>, trailer, Reported-by
stable@vger.example.org, trailer, Cc
Copy, Always <copy@example.org>, configured, configuration: cc
Low <low@example.org>, trailer, Cc
`, `A J. Initial (Toy Corp) <initial@example.org>, reviewer, MAINTAINERS: TOYS (Odd Fixes)
toys@lists.example.org, moderated list, MAINTAINERS: TOYS (Odd Fixes)
everybody@lists.example.org, open list, MAINTAINERS: THE REST
A U Thor <author@example.org>, author, From
Careful Reader <READER@example.org>, trailer, Reviewed-by
Copy, Always <copy@example.org>, configured, configuration: cc
FIRST@example.org, configured, configuration: cc
Low <low@example.org>, trailer, Cc
`, `A J. Initial (Toy Corp) <initial@example.org>, reviewer, MAINTAINERS: TOYS (Odd Fixes), K: \btoy_(?:wind|stop)\b
everybody@lists.example.org, open list, MAINTAINERS: THE REST
toys@lists.example.org, moderated list, MAINTAINERS: TOYS (Odd Fixes), K: \btoy_(?:wind|stop)\b
A U Thor <author@example.org>, author, From
Copy, Always <copy@example.org>, configured, configuration: cc
FIRST@example.org, configured, configuration: cc
Low <low@example.org>, trailer, Cc
`}
	if len(r.Lists) != len(want) {
		t.Fatalf("%d lists", len(r.Lists))
	}
	for i, l := range r.Lists {
		if l.Mail != want[i].Mail || l.Notes != nil {
			t.Errorf("list of %s, notes %q", l.Mail, l.Notes)
		}
		if diff := cmp.Diff(to[i], show(l.To)); diff != "" {
			t.Errorf("%s, To (-want +got):\n%s", l.Mail, diff)
		}
		if diff := cmp.Diff(cc[i], show(l.Cc)); diff != "" {
			t.Errorf("%s, Cc (-want +got):\n%s", l.Mail, diff)
		}
	}
	if r.Source != "patchgen's own reader of MAINTAINERS, because it was asked for" || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "lookahead") {
		t.Errorf("%s, notes %q", r.Source, r.Notes)
	}
}

// TestSuppress leaves out one category after the other. Whoever is there for another
// reason stays, and the sender is left to self where he is named.
func TestSuppress(t *testing.T) {
	mails := []series.Mail{
		letter("0000-cover-letter.patch", "0/2", "About toys.\n\nTo: Top <top@example.org>\nCc: Low <low@example.org>", ""),
		letter("0001-a.patch", "1/2", "Text.\n\nReported-by: Finder <finder@example.org>\nCc: Copy <copy@example.org>\nTested-by: Careful Reader <reader@example.org>\n"+
			"Reviewed-by: Me <ME@example.org>\nSigned-off-by: A U Thor <author@example.org>\nSigned-off-by: Me <me@example.org>\nCc: Me <me@example.org>", change("kernel/init.c", "int second;")),
		letter("0002-b.patch", "2/2", "Text.\n\nCc: First <first@example.org>", change("lib/new.c", "int second;")),
	}
	tree := stand(t, nil)
	for _, test := range []struct {
		sender   string
		suppress []string
		first    string // of the first patch
		left     string
	}{
		{"me", nil, "first juergen always top; reader core everybody author finder copy ME low", ""},
		{"me", []string{"author"}, "first juergen always top; reader core everybody finder copy ME author low", "author"}, // as he signed it off
		{"me", []string{"author", "sob"}, "first juergen always top; reader core everybody finder copy ME low", "author"},
		{"author", []string{"author", "sob"}, "first juergen always top; reader core everybody finder copy ME author low", "author"}, // not signed by him is the second
		{"me", []string{"sob"}, "first juergen always top; reader core everybody author finder copy ME low", ""},
		{"me", []string{"misc-by"}, "first juergen always top; reader core everybody author copy ME low", "finder"},
		{"me", []string{"bodycc"}, "first juergen always top; reader core everybody author finder ME", "copy low first"},
		{"me", []string{"sob", "bodycc", "misc-by"}, "first juergen always top; reader core everybody author ME", "finder copy low first"},
		{"me", []string{"self"}, "first juergen always top; reader core everybody author finder copy low", "ME"},
		{"author", []string{"self"}, "first juergen always top; reader core everybody finder copy ME low", "author"},
		{"always", []string{"self"}, "first juergen always top; reader core everybody author finder copy ME low", ""},
		{"first", []string{"self"}, "juergen always top; reader core everybody author finder copy ME low", "first"},
		{"me", []string{"cccmd"}, "first juergen always top; author finder copy reader ME low", "core everybody"},
		{"me", []string{"cccmd", "cc", "author", "self", "sob", "bodycc", "misc-by"}, "first juergen always top; ", "reader core everybody author finder copy ME low first"},
	} {
		t.Run(test.sender+" "+strings.Join(test.suppress, " "), func(t *testing.T) {
			o := Options{To: []string{"always@example.org"}, Sender: test.sender + "@example.org", Suppress: test.suppress}
			r := find(t, tree, o, mails...)
			names := func(list []Recipient) string {
				var all []string
				for _, rcpt := range list {
					name, _, _ := strings.Cut(rcpt.Address, "@")
					all = append(all, name)
				}
				return strings.Join(all, " ")
			}
			if got := names(r.Lists[1].To) + "; " + names(r.Lists[1].Cc); got != test.first {
				t.Errorf("patch 1 goes to\n%s, want\n%s", got, test.first)
			}
			if got := names(r.LeftOut); got != test.left {
				t.Errorf("left out are %q, want %q", got, test.left)
			}
			for _, l := range r.Lists {
				if l.Notes != nil {
					t.Errorf("%s: notes %q", l.Mail, l.Notes)
				}
			}
		})
	}
}

// TestTo has nobody, or nobody but lists.
func TestTo(t *testing.T) {
	tree := stand(t, nil)
	l := find(t, tree, Options{}, letter("a.patch", "1/1", "Text.\n\nCc: Low <low@example.org>", change("lib/a.c", "x"))).Lists[0]
	if show(l.To) != "everybody@lists.example.org, open list, MAINTAINERS: THE REST\n" || len(l.Cc) != 2 {
		t.Errorf("to %s, cc %s", show(l.To), show(l.Cc))
	}

	// A list comes before a reviewer, and whoever is in To by one role has that one.
	tree = stand(t, map[string]string{"MAINTAINERS": "READ ONLY\nR:\tCareful Reader <reader@example.org>\nL:\tlist@lists.example.org\nF:\tlib/\n"})
	m := letter("a.patch", "1/1", "Text.", change("lib/a.c", "x"))
	l = find(t, tree, Options{}, m).Lists[0]
	if show(l.To) != "list@lists.example.org, open list, MAINTAINERS: READ ONLY\n" || len(l.Cc) != 2 {
		t.Errorf("to %s, cc %s", show(l.To), show(l.Cc))
	}
	l = find(t, tree, Options{To: []string{"reader@EXAMPLE.org"}, Cc: []string{"reader@example.org"}}, m).Lists[0]
	if show(l.To) != "Careful Reader <reader@example.org>, configured, MAINTAINERS: READ ONLY; configuration: to; configuration: cc\n" || len(l.Cc) != 2 {
		t.Errorf("to %s, cc %s", show(l.To), show(l.Cc))
	}

	tree = stand(t, map[string]string{"MAINTAINERS": "Nothing here.\n"})
	l = find(t, tree, Options{}, letter("a.patch", "1/1", "Text.\n\nCc: Low <low@example.org>", change("lib/a.c", "x"))).Lists[0]
	if show(l.To) != "Low <low@example.org>, trailer, Cc\n" || len(l.Cc) != 1 || l.Notes != nil {
		t.Errorf("to %s, cc %s", show(l.To), show(l.Cc))
	}
	l = find(t, tree, Options{}, letter("a.patch", "1/1", "Text.", change("lib/a.c", "x"))).Lists[0]
	if l.To == nil || len(l.To) != 0 || len(l.Cc) != 1 || l.Cc[0].Role != "author" || len(l.Notes) != 1 {
		t.Errorf("%+v", l)
	}
}

func TestNoMaintainers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Makefile", "Kconfig", "kernel/init.c"} {
		data, err := os.ReadFile(filepath.Join("testdata/linux", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(data))
	}
	s := parse(t, letter("a.patch", "1/1", "Text.", change("lib/a.c", "x")))
	r, err := For(t.Context(), open(t, dir), s, Options{Cc: []string{"a@example.org"}})
	if err != nil || len(r.Notes) != 1 || len(r.Lists[0].To) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestMany(t *testing.T) {
	var text strings.Builder
	text.WriteString("Text.\n\n")
	for i := range mostRecipients {
		fmt.Fprintf(&text, "Cc: <%d@example.org>\n", i)
	}
	r := find(t, stand(t, nil), Options{}, letter("a.patch", "1/1", text.String(), change("lib/a.c", "x")))
	if n := r.Lists[0].Notes; len(n) != 1 || !strings.Contains(n[0], "it has 102 recipients") {
		t.Errorf("notes %q", n)
	}
}

func TestConfigured(t *testing.T) {
	s := parse(t, letter("a.patch", "1/1", "Text.", change("lib/a.c", "x")))
	tree := stand(t, nil)
	for _, text := range []string{"", "nobody", "a@b@c", "Lad, P <a@example.org>", "a@example.org, b@example.org", "Näme <nä@example.org>", "-f@example.org", "A\nBcc: b@example.org <a@example.org>",
		"=?utf-8?q?A=0ABcc:_b?= <a@example.org>", "<a@example.org>x", "a@" + strings.Repeat("b", 300)} {
		_, err := For(t.Context(), tree, s, Options{NoScript: true, Cc: []string{"good@example.org", text}})
		if err == nil || !strings.HasPrefix(err.Error(), "configuration, cc: "+fmt.Sprintf("%.80q", text)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestHostile has a patch that names files outside the tree, and people who are
// none.
func TestHostile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret.yaml")
	write(t, outside, "maintainers:\n  - Secret Person <secret@example.org>\n")
	tree := stand(t, nil)
	up := strings.Repeat("../", 20) + outside[1:]
	m := letter("a.patch", "1/1", "Text.\n\nCc: =?utf-8?q?A=0D=0ABcc:_evil?= <evil@example.org>\nCc: \u202egro.elpmaxe@a <bidi@example.org>\nCc: Someone\nReported-by: robot",
		"diff --git a/x b/x\n--- a/"+up+"\n+++ b/"+outside+"\n@@ -1 +1 @@\n-a\n+b\n--- a/kernel/init.c\n+++ b/kernel/init.c\n@@ -1 +1 @@\n-a\n+b\n")
	r := find(t, tree, Options{}, m)
	all := show(r.Lists[0].To) + show(r.Lists[0].Cc)
	if strings.Contains(all, "secret") || strings.Contains(all, "evil") || strings.Contains(all, "bidi") || !strings.Contains(all, "first@example.org") {
		t.Error(all)
	}
	if n := r.Lists[0].Notes; len(n) != 6 {
		t.Errorf("%d notes: %q", len(n), n)
	}
}

func TestBrokenMail(t *testing.T) {
	s, err := patchmail.ParseAny([]series.Mail{letter("a.patch", "1/2", "Text.", change("lib/a.c", "x")), {Name: "b.patch", Data: []byte("no mail")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := For(t.Context(), stand(t, nil), s, Options{NoScript: true}); err == nil || !strings.HasPrefix(err.Error(), "b.patch: ") {
		t.Error(err)
	}
}

// TestEncoded has mails that get_maintainer.pl could not read as they are.
func TestEncoded(t *testing.T) {
	tree := stand(t, nil)
	plain := letter("a.patch", "1/1", "Text.\n\nCc: Jürgen <j@example.org>", change("drivers/toy/toy.c", "int a = 1;", "lib/x.c", "toy_stop();"))
	want := find(t, tree, Options{}, plain).Lists
	crlf := plain
	crlf.Data = []byte(strings.ReplaceAll(string(plain.Data), "\n", "\r\n"))
	quoted := plain
	quoted.Data = []byte(strings.NewReplacer("\nSubject:", "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: quoted-printable\nSubject:",
		"int a = 1", "int a =3D 1", "ü", "=C3=BC", "b/drivers/toy", "b/dri=\nvers/toy", "toy_stop", "toy=5Fstop").Replace(string(plain.Data)))
	for name, m := range map[string]series.Mail{"crlf": crlf, "quoted-printable": quoted} {
		if diff := cmp.Diff(want, find(t, tree, Options{}, m).Lists); diff != "" {
			t.Errorf("%s (-plain +got):\n%s", name, diff)
		}
	}
}

// TestGit compares a folder with a git clone of it, of which nothing but objects is
// read.
func TestGit(t *testing.T) {
	folder := stand(t, nil)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/linux")); err != nil {
		t.Fatal(err)
	}
	commit(t, dir)
	write(t, filepath.Join(dir, "MAINTAINERS"), "NOT COMMITTED\nM:\tNobody <nobody@example.org>\nF:\t*/\n")
	clone := open(t, dir)
	if clone.Dir() != "" {
		t.Fatal("the clone was opened as a folder")
	}
	mails := []series.Mail{
		letter("a.patch", "1/2", "Text.", change("arch/toy/toy.c", "x", "Documentation/bindings/toy.yaml", "y")),
		letter("b.patch", "2/2", "Text.", change("arch/toys.c", "x")),
	}
	want, got := find(t, folder, Options{}, mails...), find(t, clone, Options{}, mails...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-folder +clone):\n%s", diff)
	}
	if !strings.Contains(show(want.Lists[0].To), "MAINTAINERS: TOYS") || !strings.Contains(show(want.Lists[0].Cc), "Vera M. Binding <vera@example.org>, in file") {
		t.Errorf("%+v", want.Lists[0])
	}
	if strings.Contains(show(want.Lists[1].To), "TOYS") {
		t.Errorf("a folder matches a file whose name begins with its own: %+v", want.Lists[1])
	}
}

// fakePerl puts a perl first in PATH that is a shell script.
func fakePerl(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "perl"), "#!/bin/sh\n"+script)
	if err := os.Chmod(filepath.Join(dir, "perl"), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestScript(t *testing.T) {
	t.Setenv("PERL5OPT", "-Mnonsense")
	tree := stand(t, map[string]string{scriptName: "# the tree's own\n", ".get_maintainer.conf": "--nom\n", "Documentation/bindings/other.yaml": "x\n"})
	mails := []series.Mail{
		letter("a.patch", "1/2", "Text.", change("arch/toy/toy.c", "x", "Documentation/bindings/toy.yaml", "y")),
		letter("b.patch", "2/2", "Text.", change("lib/b.c", "x")),
	}
	// It says what it sees in the roles of those that it names.
	fakePerl(t, `for last; do :; done
[ -e "$HOME" ] && exit 3
echo "\"Ümlaut, A\" <a@example.org> (supporter:$(find . -type f | LC_ALL=C sort | tr '\n' ' '))"
echo "b@example.org (open list:$(env -u PWD -u OLDPWD -u SHLVL -u _ | sed 's/=.*//' | LC_ALL=C sort | tr '\n' ' '))"
echo "C <c@example.org> (reviewer:$1 $(sed -n 's/^+++ //p' "$last" | tr '\n' ' '):Keyword:a) (b,in file)"
[ -d arch/toy ] && echo "D (not E) <d@example.org> (maintainer)"
echo "warning of $last" >&2
`)
	r, err := For(t.Context(), tree, parse(t, mails...), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Source != "scripts/get_maintainer.pl of "+tree.Origin() || r.Notes != nil {
		t.Error(r.Source, r.Notes)
	}
	const files = "./.mailmap ./Documentation/bindings/toy.yaml ./MAINTAINERS ./scripts/get_maintainer.pl "
	for i, want := range []string{"b/arch/toy/toy.c b/Documentation/bindings/toy.yaml ", "b/lib/b.c "} {
		l := r.Lists[i]
		if diff := cmp.Diff("Ümlaut, A <a@example.org>, maintainer, MAINTAINERS: "+files+"\n", show(l.To)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff("b@example.org, open list, MAINTAINERS: HOME LC_ALL PATH \n"+
			"C <c@example.org>, reviewer, MAINTAINERS: scripts/get_maintainer.pl "+want+", K: a) (b; named in a binding that is changed\n"+
			"A U Thor <author@example.org>, author, From\n", show(l.Cc)); diff != "" {
			t.Error(diff)
		}
		notes := []string{"warning of patch", scriptName + ` says "D (not E) <d@example.org> (maintainer)", which names nobody`}
		if diff := cmp.Diff(notes, l.Notes); diff != "" {
			t.Error(diff)
		}
	}
}

func TestScriptFails(t *testing.T) {
	tree := stand(t, map[string]string{scriptName: "# the tree's own\n"})
	s := parse(t, letter("a.patch", "1/1", "Text.", change("lib/a.c", "x")))
	tests := map[string]struct{ perl, why, err string }{
		"module": {"echo \"Can't locate JSON/PP.pm in @INC (you may need to install it) at x\" >&2; exit 2", "because perl lacks JSON::PP (Debian package perl)", ""},
		"other":  {"echo 'Died.' >&2; exit 9", "", "scripts/get_maintainer.pl failed on patch 1: exit status 9: Died."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fakePerl(t, test.perl)
			r, err := For(t.Context(), tree, s, Options{})
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Fatal(err)
			}
			if test.err == "" && (err != nil || !strings.HasSuffix(r.Source, test.why) || len(r.Lists[0].To) != 1) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	t.Run("no perl", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if r, err := For(t.Context(), tree, s, Options{}); err != nil || !strings.Contains(r.Source, "perl is not installed") {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("no script", func(t *testing.T) {
		if r, err := For(t.Context(), stand(t, nil), s, Options{}); err != nil || !strings.Contains(r.Source, "the tree has no scripts/get_maintainer.pl") {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		fakePerl(t, "sleep 60")
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if _, err := For(ctx, tree, s, Options{}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestMailboxes(t *testing.T) {
	for text, want := range map[string]string{
		"A B <a@b.c>":                    "A B <a@b.c>",
		"a@b.c":                          "a@b.c",
		"<a@b.c>":                        "a@b.c",
		"stable@vger.kernel.org # 5.10+": "stable@vger.kernel.org",
		"<stable@vger.kernel.org> # v6.1+: a, b@": "stable@vger.kernel.org",
		"stable@vger.kernel.org#5.10":             "stable@vger.kernel.org",
		"Stable <stable@vger.kernel.org>\t[5.10]": "Stable <stable@vger.kernel.org>",
		`"Lad, Prabhakar" <a@b.c>`:                "Lad, Prabhakar <a@b.c>",
		"Lad, Prabhakar <a@b.c>":                  "Lad, Prabhakar <a@b.c>",
		`"A \"the B\" C" <a@b.c>`:                 `A "the B" C <a@b.c>`,
		"Jürgen  Groß <j@b.c>":                    "Jürgen Groß <j@b.c>",
		"=?UTF-8?q?J=C3=BCrgen?= <j@b.c>":         "Jürgen <j@b.c>",
		"Srivatsa S. Bhat (VMware) <s@b.c>":       "Srivatsa S. Bhat (VMware) <s@b.c>",
		"a@b.c, d@e.f, G H <g@h.i>":               "a@b.c d@e.f G H <g@h.i>",
		"A <a@b.c>, B <d@e.f> # both":             "A <a@b.c> B <d@e.f>",
		"A <a@b.c> (maintainer:X), and B":         "A <a@b.c>",
		"a@b.c <a@b.c>":                           "a@b.c <a@b.c>",
		"a@b.c <d@e.f>":                           "a@b.c <d@e.f>",
		"A <a+b_c.d@e-f.g>":                       "A <a+b_c.d@e-f.g>",
		"syzbot+0123@x.appspotmail.com":           "syzbot+0123@x.appspotmail.com",
	} {
		list, err := mailboxes(text)
		if got := join(list); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                      "",
		"Nobody":                "",
		"A B a@b.c":             "",
		"A <a@b.c":              "",
		`"A <a@b.c>`:            "",
		"A <a b@c.d>":           "",
		"A <@b.c>":              "",
		"A <a@>":                "",
		"A <-x@b.c>":            "",
		"A <a@-b.c>":            "",
		"A <ä@b.c>":             "",
		"A <a@b.c\r>":           "",
		"A\rB <a@b.c>":          "",
		"A\x1b[1m <a@b.c>":      "",
		"A\xff <a@b.c>":         "",
		"=?x?q?A?= <a@b.c>":     "",
		"A <a@b.c>, B <nobody@": "A <a@b.c>",
	} {
		list, err := mailboxes(text)
		if got := join(list); err == nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func join(list []mail.Address) string {
	var all []string
	for _, a := range list {
		if a.Name == "" {
			all = append(all, a.Address)
		} else {
			all = append(all, a.Name+" <"+a.Address+">")
		}
	}
	return strings.Join(all, " ")
}

func FuzzMailboxes(f *testing.F) {
	for _, text := range []string{"A B <a@b.c>", `"A, \"B\"" <a@b.c> # x`, "a@b.c, d@e.f", "=?UTF-8?q?J=C3=BC=0A?= <j@b.c>", "a@b.c <a@b.c>", "A \t <a@b.c>\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, _ := mailboxes(text)
		for _, a := range list {
			if strings.ContainsFunc(a.Name+a.Address, address.IsControl) || strings.ContainsAny(a.Address, " ,;:<>()\"\\") || strings.Count(a.Address, "@") != 1 {
				t.Errorf("%q: %q", text, a)
			}
			// What a header would have is read as the same by another; Address.String
			// writes words that are not, such as "=?utf-8?q?=C2=A0\?=".
			name := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a.Name)
			back, err := mail.ParseAddress(`"` + name + `" <` + a.Address + ">")
			if err != nil || back.Address != a.Address || back.Name != a.Name {
				t.Errorf("%q: %q is read back as %v, %v", text, a, back, err)
			}
		}
	})
}
