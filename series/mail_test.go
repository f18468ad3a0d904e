package series

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
)

var (
	thor      = Ident{"A U Thor", "author@example.org", time.Date(2026, 3, 1, 12, 34, 56, 0, time.FixedZone("", 3*3600+1800))}
	committer = Ident{"Com Mitter", "committer@example.org", time.Unix(1700000000, 0).UTC()} // in gitEnv
)

// gitEnv is the surroundings of the judge: no configuration but ours.
func gitEnv(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Base", "GIT_AUTHOR_EMAIL=base@example.org", "GIT_AUTHOR_DATE=@1700000000 +0000",
		"GIT_COMMITTER_NAME=Com Mitter", "GIT_COMMITTER_EMAIL=committer@example.org", "GIT_COMMITTER_DATE=@1700000000 +0000",
	}
}

// judge runs git in dir and returns its standard output.
func judge(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = dir, gitEnv(dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %q: %v\n%s%s", args, err, out, stderr.Bytes())
	}
	return string(out)
}

// before returns the files that s was made for, and some more.
func before(s *Series) map[string][]byte {
	files := map[string][]byte{
		"Makefile": []byte("VERSION = 6\nPATCHLEVEL = 12\n"), "Kconfig": nil,
		"arch/Kconfig": nil, "drivers/Kconfig": nil, "kernel/Makefile": nil,
		"README": []byte("read me\n"), "mm/slab.c": []byte("int slab;\n"), "mm.c": nil, "mm-old/x": []byte("x"),
	}
	if s.Attributes != nil {
		files[".gitattributes"] = s.Attributes
	}
	seen := make(map[string]bool)
	for _, p := range s.Patches {
		for _, c := range p.Changes {
			if !seen[c.Path] && c.Before != nil {
				files[c.Path] = c.Before
			}
			seen[c.Path] = true
		}
	}
	return files
}

// clone makes a git repository that holds what s was made for in one commit,
// and returns its folder and the commit.
func clone(t testing.TB, s *Series) (dir, base string) {
	t.Helper()
	dir = t.TempDir()
	for name, data := range before(s) {
		put(t, filepath.Join(dir, name), string(data))
	}
	judge(t, dir, "init", "-q", "-b", "main", "--template=")
	judge(t, dir, "add", "-A", "-f")
	judge(t, dir, "commit", "-q", "-m", "base")
	return dir, strings.TrimSpace(judge(t, dir, "rev-parse", "HEAD"))
}

// save writes mails to a new folder and returns their paths.
func save(t testing.TB, mails []Mail) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for _, m := range mails {
		p := filepath.Join(dir, m.Name)
		if err := os.WriteFile(p, m.Data, 0o666); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

// load reads the files in a folder as mails.
func load(t testing.TB, dir string) []Mail {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var mails []Mail
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		mails = append(mails, Mail{f.Name(), data})
	}
	return mails
}

// anonymous returns mails without their first lines, which name a commit, as
// strings for cmp.
func anonymous(mails []Mail) [][2]string {
	var all [][2]string
	for _, m := range mails {
		_, rest, _ := strings.Cut(string(m.Data), "\n")
		all = append(all, [2]string{m.Name, rest})
	}
	return all
}

// patches leaves out the cover letter.
func patches(s *Series, mails []Mail) []Mail { return mails[len(mails)-len(s.Patches):] }

// source returns a C file of n functions; the body of function i is text if i
// is at.
func source(n, at int, text string) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "static int function_%d(void)\n{\n\tint a = %d;\n", i, i)
		for j := range 12 {
			fmt.Fprintf(&b, "\ta += %d;\n", j)
		}
		if i == at {
			b.WriteString(text)
		}
		b.WriteString("\treturn a;\nout:\n\treturn 0;\n}\n\n")
	}
	return b.Bytes()
}

// simple returns a series of n patches.
func simple(n int) *Series {
	s := &Series{
		Name: "simple", Title: "mm: mark pages", Blurb: "Pages are not marked.\n\nMark them.",
		Attributes: []byte("*.[ch] diff=cpp\n"),
	}
	now := source(9, -1, "")
	readme := []byte("read me\n")
	for i := range n {
		after, text := source(9, i%9, fmt.Sprintf("\ta = %d;\n", 100+i)), append(readme[:len(readme):len(readme)], fmt.Sprintln("line", i)...)
		s.Patches = append(s.Patches, Patch{
			Subject: fmt.Sprintf("mm: take step %d", i+1), Body: fmt.Sprintf("It is step %d\nof %d.", i+1, n),
			Changes: []Change{
				{"mm/mark.c", now, after},
				{"README", readme, text},
				{fmt.Sprintf("mm/new/%d.h", i), nil, fmt.Appendf(nil, "#define NEW %d\n", i)},
			},
		})
		now, readme = after, text
	}
	return s
}

// one returns a series of one patch to one file.
func one(path string, before, after []byte) *Series {
	return &Series{Name: "one", Patches: []Patch{{Subject: "mm: change one thing", Body: "Why.", Changes: []Change{{path, before, after}}}}}
}

func repeat(s string, n int) string { return strings.TrimSuffix(strings.Repeat(s, n), " ") }

// mailCases are series that must come out of every way as they went in.
var mailCases = []struct {
	name string
	s    *Series
	o    MailOptions
}{
	{"simple", simple(3), MailOptions{Author: thor}},
	{"two digits", simple(11), MailOptions{Author: thor, Version: 3}},
	{"options", simple(2), MailOptions{Author: thor, Version: 2, Prefix: "PATCH net-next", RFC: true, SignOff: true}},
	{"version 1", simple(2), MailOptions{Author: thor, Version: 1}},
	{"lone", one("mm/slab.c", []byte("int slab;\n"), []byte("long slab;\n")), MailOptions{Author: thor, Version: 2}},
	{"lone, no attributes", one("mm/slab.h", source(3, -1, ""), source(3, 1, "x")), MailOptions{Author: thor}},
	{"lone, signature in the diff", one("mm/list", []byte("a\n- \nb\n"), []byte("a\nb\n")), MailOptions{Author: thor}},
	{"only new", one("new.c", nil, []byte("int x;\n")), MailOptions{Author: thor}},
	{"contents", contents, MailOptions{Author: thor}},
	{"letters", letters, MailOptions{Author: thor, SignOff: true}},
	{"title not ASCII", titled("mm: Größe – 日本 ändern", "Why."), MailOptions{Author: thor}},
	{"title and blurb not ASCII", titled("mm: Größe ändern", "Größe."), MailOptions{Author: thor}},
	{"blurb not ASCII", titled("mm: size", "Größe."), MailOptions{Author: thor}},
	{"long title", titled(repeat("mm: long title ", 9), repeat("long ", 300)), MailOptions{Author: thor, Version: 2}},
	{"long title not ASCII", titled(repeat("mm: längeres = 日本_? ", 9), "Why."), MailOptions{Author: thor, Version: 12}},
	{"title of one word", titled(repeat("x", 300), "Why."), MailOptions{Author: thor}},
	{"title like an encoded word", titled("=?UTF-8?q?x?= =?", "Why."), MailOptions{Author: thor}},
	{"no blurb", titled("mm: size", ""), MailOptions{Author: thor}},
	{"blurb with a signature", titled("mm: size", "a\n-- \nb\n\n*** BLURB HERE ***"), MailOptions{Author: thor}},
	{"author not ASCII", simple(2), MailOptions{Author: Ident{"Jörg Ærøskøbing 日本", "j@example.org", thor.When}, SignOff: true}},
	{"author not ASCII, no sign-off", simple(2), MailOptions{Author: Ident{"Jörg", "j@example.org", thor.When}}},
	{"author to be quoted", simple(2), MailOptions{Author: Ident{`Thor, A. "U" (x)`, "a@example.org", thor.When}, SignOff: true}},
	{"author to be trimmed", simple(2), MailOptions{Author: Ident{` Thor Jr. `, " <a@example.org>", thor.When}, SignOff: true}},
	{"long author", simple(2), MailOptions{Author: Ident{repeat("Thor ", 12), repeat("a", 70) + "@example.org", thor.When}}},
	{"long author not ASCII", simple(2), MailOptions{Author: Ident{repeat("Jörg ", 10), "a@example.org", thor.When}}},
	{"1970", simple(2), MailOptions{Author: Ident{"A", "a@b", time.Unix(0, 0).UTC()}}},
	{"2099", simple(2), MailOptions{Author: Ident{"A", "a@b", time.Date(2099, 12, 31, 23, 59, 59, 999, time.FixedZone("", -12*3600))}}},
}

// titled returns a series of two patches with a title and a blurb.
func titled(title, blurb string) *Series {
	s := simple(2)
	s.Title, s.Blurb = title, blurb
	return s
}

// contents has a patch for each kind of content and path.
var contents = func() *Series {
	s := &Series{Name: "contents", Title: "all kinds of contents", Blurb: "Why.", Attributes: []byte("*.c diff=cpp\n*.bin -diff\n")}
	for _, c := range []Change{
		{"mm/empty", nil, []byte{}},
		{"mm.c", []byte{}, []byte("int x;\n")},
		{"mm/slab.c", []byte("int slab;\n"), []byte{}},
		{"no-newline", []byte("a\nb"), []byte("a\nc")},
		{"newline-added", []byte("a\nb"), []byte("a\nb\n")},
		{"newline-removed", []byte("a\nb\n"), []byte("a\nb")},
		{"crlf", []byte("a\r\nb\r\n"), []byte("a\r\nc\r\nb\r\n")},
		{"cr", []byte("a\rb\n"), []byte("a\rc\n")},
		{"nul", []byte("a\x00b\n"), []byte("a\x00c\n-- \n2.0\n")},
		{"attribute.bin", []byte("a\nb\n"), []byte("a\nc\n")},
		{"latin1", []byte("a\xe9\n"), []byte("b\xe9\n")},
		{"signature", []byte("a\n- \nb\n"), []byte("a\nb\n-- \n2.0\n")},
		{"mail", []byte("a\n"), []byte("From 0123 Mon Sep 17 00:00:00 2001\ndiff --git a/x b/x\n--- a/x\n@@ -1 +1 @@\n")},
		{"functions.c", source(5, -1, ""), source(5, 3, "\tlong x;\n")},
		{"long", nil, []byte(strings.Repeat("x", 5000) + "\n")},
		{"a b/c d", []byte("a\n"), []byte("b\n")},
		{"a\t\"\\\n.c", []byte("a\n"), []byte("b\n")},
		{"größe/日本.c", nil, []byte("b\n")},
		{"new empty, odd\t ", nil, []byte{}},
		{"deep/er/and/deeper/x", nil, []byte("x\n")},
		{"mm/slab.d", nil, []byte("between mm/slab.c and mm/slab/\n")},
		{"mm-", nil, []byte("sorts before mm/\n")},
		{"mm0", nil, []byte("sorts behind mm/\n")},
	} {
		s.Patches = append(s.Patches, Patch{Subject: fmt.Sprintf("contents: change %q", c.Path), Body: "Why.", Changes: []Change{c}})
	}
	return s
}()

// letters has a patch for each kind of message.
var letters = func() *Series {
	s := simple(9)
	s.Name = "letters"
	for i, m := range [][2]string{
		{"mm: no body", ""},
		{"mm: trailers", "Why.\n\nFixes: 0123456789ab (\"x\")\nCc: a@b"},
		{"mm: odd lines", "From here on\nFrom: there\n\n\n\nWhite space:   \n\tand a tab\n-----\n-- \n--\ndiff x\n>From\nSubject: y"},
		{"mm: body not ASCII", "Größer – 日本"},
		{"mm: long line", repeat("long ", 400)},
		{"mm: Größe ändern", "Why."},
		{repeat("mm: long subject ", 9), "Why."},
		{repeat("mm: längeres = 日本_? ", 9), "Why."},
		{"mm: " + repeat("x", 200), "Why."},
	} {
		s.Patches[i].Subject, s.Patches[i].Body = m[0], m[1]
	}
	return s
}()

// TestMail compares the mails with those that git format-patch writes in a
// real repository with the commits of Branch.
func TestMail(t *testing.T) {
	type repo struct{ dir, base string }
	repos := make(map[string]repo) // one for all cases with the same files
	for i, c := range mailCases {
		key := fmt.Sprint(before(c.s))
		if _, ok := repos[key]; !ok {
			dir, base := clone(t, c.s)
			repos[key] = repo{dir, base}
		}
		dir, base := repos[key].dir, repos[key].base
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := *c.s
			s.Name = fmt.Sprint("topic-", i)
			s.BaseCommit = base
			mails, err := s.Mail(context.Background(), c.o)
			if err != nil {
				t.Fatal(err)
			}
			if err := Verify(&s, mails); err != nil {
				t.Error(err)
			}
			branch(t, dir, base, &s, c.o)
			want := written(t, dir, &s, c.o, base)
			if diff := cmp.Diff(anonymous(patches(&s, want)), anonymous(patches(&s, mails))); diff != "" {
				t.Errorf("git's patches (-) are not these (+):\n%s", diff)
			}
			if len(want) != len(mails) {
				t.Fatalf("git has %d mails, here are %d", len(want), len(mails))
			}
			if len(mails) > 1 {
				checkCover(t, want[0], mails[0], &s, c.o)
			}
		})
	}
}

// branch adds s to the repository in dir, as a branch of its name.
func branch(t testing.TB, dir, base string, s *Series, o MailOptions) {
	t.Helper()
	if _, err := s.Branch(context.Background(), open(t, dir), plumbing.NewHash(base), s.Name, o.Author, o.SignOff); err != nil {
		t.Fatal(err)
	}
}

// written returns what git format-patch writes of the branch of s.
func written(t testing.TB, dir string, s *Series, o MailOptions, base string) []Mail {
	t.Helper()
	out := t.TempDir()
	prefix := o.Prefix
	if prefix == "" {
		prefix = "PATCH"
	}
	if o.RFC {
		prefix = "RFC " + prefix
	}
	description := s.Title
	if s.Blurb != "" {
		description += "\n\n" + s.Blurb
	}
	args := []string{
		"-c", "core.abbrev=12", "-c", "branch." + s.Name + ".description=" + description,
		"format-patch", "-q", "-o", out, "--base=" + base, "--subject-prefix=" + prefix,
	}
	if len(s.Patches) > 1 {
		args = append(args, "--cover-letter", "--cover-from-description=subject")
	}
	if o.Version > 1 {
		args = append(args, fmt.Sprintf("-v%d", o.Version))
	}
	judge(t, dir, append(args, base+".."+s.Name)...)
	return load(t, out)
}

// checkCover compares a cover letter with git's, but for the headers, in which
// git has the committer and, before 2.44, encodes nothing. They are decoded.
func checkCover(t *testing.T, want, got Mail, s *Series, o MailOptions) {
	t.Helper()
	wantFirst, wantRest, _ := strings.Cut(string(want.Data), "\n")
	gotFirst, gotRest, _ := strings.Cut(string(got.Data), "\n")
	_, wantText, _ := strings.Cut(wantRest, "\n\n")
	head, gotText, _ := strings.Cut(gotRest, "\n\n")
	if diff := cmp.Diff(wantText, gotText); diff != "" {
		t.Errorf("the text of git's cover letter (-) is not this (+):\n%s", diff)
	}
	if want.Name != got.Name || len(wantFirst) != len(gotFirst) || wantFirst[45:] != gotFirst[45:] {
		t.Errorf("git's cover letter is %s, %q; this is %s, %q", want.Name, wantFirst, got.Name, gotFirst)
	}

	if !isASCII([]byte(head)) {
		t.Errorf("the header is not ASCII:\n%s", head)
	}
	var keys []string
	for line := range strings.Lines(head) {
		if len(line) > 79 && strings.Contains(line[1:], " ") && !strings.HasPrefix(line, " x") {
			t.Errorf("header line of %d characters: %s", len(line)-1, line)
		}
		if key, _, _ := strings.Cut(line, ":"); line[0] != ' ' {
			keys = append(keys, key)
		}
	}
	wantKeys := []string{"From", "Date", "Subject"}
	if !isASCII([]byte(s.Title + gotText)) {
		wantKeys = append(wantKeys, "MIME-Version", "Content-Type", "Content-Transfer-Encoding")
	}
	if diff := cmp.Diff(wantKeys, keys); diff != "" {
		t.Errorf("headers:\n%s", diff)
	}
	m, err := mail.ReadMessage(strings.NewReader(gotRest))
	if err != nil {
		t.Fatal(err)
	}
	from, err := m.Header.AddressList("From")
	if err != nil {
		t.Fatal(err)
	}
	date, err := m.Header.Date()
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	who, _ := o.Author.signature()
	n := len(s.Patches)
	number := fmt.Sprintf("%0*d/%d] ", len(fmt.Sprint(n)), 0, n)
	if !strings.HasPrefix(subject, "[") || !strings.HasSuffix(subject, number+s.Title) ||
		from[0].Name != who.Name || from[0].Address != who.Email ||
		!date.Equal(who.When.Truncate(time.Second)) || date.Format("-0700") != who.When.Format("-0700") {
		t.Errorf("from %q, date %s, subject %q", from, date, subject)
	}
}

// TestCoverHeader compares the header of a cover letter with git's, whose
// committer is the author, where nothing is to be encoded.
func TestCoverHeader(t *testing.T) {
	t.Parallel()
	dir, base := clone(t, simple(2))
	n := 0
	for _, title := range []string{"mm: size", repeat("mm: long title ", 9), repeat("x", 300)} {
		for _, o := range []MailOptions{{Version: 12, Prefix: "PATCH net-next"}, {RFC: true}} {
			s := titled(title, "Why.")
			n++
			s.Name = fmt.Sprint("topic-", n)
			o.Author = committer
			mails, err := s.Mail(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			branch(t, dir, base, s, o)
			want := written(t, dir, s, o, base)
			head := func(m Mail) string {
				head, _, _ := strings.Cut(string(m.Data), "\n\n")
				_, head, _ = strings.Cut(head, "\n")
				return head
			}
			if diff := cmp.Diff(head(want[0]), head(mails[0])); diff != "" {
				t.Errorf("git's header (-) is not this (+):\n%s", diff)
			}
		}
	}
}

// TestAm has git am apply the mails, one by one and as an mbox.
func TestAm(t *testing.T) {
	for _, c := range []struct {
		s *Series
		o MailOptions
	}{
		{contents, MailOptions{Author: thor}},
		{letters, MailOptions{Author: Ident{`Jörg J. Ærø`, "j@example.org", thor.When}, SignOff: true}},
	} {
		t.Run(c.s.Name, func(t *testing.T) {
			t.Parallel()
			mails, err := c.s.Mail(context.Background(), c.o)
			if err != nil {
				t.Fatal(err)
			}
			dir, base := clone(t, c.s)
			branch(t, dir, base, c.s, c.o)
			const format = "--format=%T%n%an%n%ae%n%ad%n%B"
			want := judge(t, dir, "log", format, c.s.Name)
			judge(t, dir, "fsck", "--strict", "--no-dangling")

			judge(t, dir, append([]string{"am", "-q", "--keep-cr"}, save(t, patches(c.s, mails))...)...)
			if diff := cmp.Diff(want, judge(t, dir, "log", format)); diff != "" {
				t.Errorf("the commits of Branch (-) are not those of git am (+):\n%s", diff)
			}
			judge(t, dir, "reset", "-q", "--hard", base)
			judge(t, dir, "am", "-q", "--keep-cr", save(t, []Mail{{"mbox", MBox(patches(c.s, mails))}})[0])
			if diff := cmp.Diff(want, judge(t, dir, "log", format)); diff != "" {
				t.Errorf("the commits of Branch (-) are not those of git am with an mbox (+):\n%s", diff)
			}
		})
	}
}

// TestMBox compares an mbox with git's, whose committer is the author.
func TestMBox(t *testing.T) {
	t.Parallel()
	s, o := simple(3), MailOptions{Author: committer}
	mails, err := s.Mail(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	dir, base := clone(t, s)
	branch(t, dir, base, s, o)
	want := judge(t, dir, "-c", "core.abbrev=12", "-c", "branch.simple.description="+s.Title+"\n\n"+s.Blurb,
		"format-patch", "--stdout", "--cover-letter", "--cover-from-description=subject", base+"..simple")
	names := regexp.MustCompile(`(?m)^From [0-9a-f]{40} `)
	if diff := cmp.Diff(names.ReplaceAllString(want, ""), names.ReplaceAllString(string(MBox(mails)), "")); diff != "" {
		t.Errorf("git's (-) is not this (+):\n%s", diff)
	}
}

func TestMailRepeats(t *testing.T) {
	o := MailOptions{Author: thor}
	want, err := simple(3).Mail(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "format.signature")
	t.Setenv("GIT_CONFIG_VALUE_0", "mine")
	t.Setenv("GIT_DIFF_OPTS", "-u9")
	t.Setenv("GIT_OBJECT_DIRECTORY", "/nowhere")
	t.Setenv("HOME", t.TempDir())
	t.Chdir(t.TempDir())
	put(t, "tmp/x", "")
	t.Setenv("TMPDIR", "tmp")
	put(t, os.Getenv("HOME")+"/.gitconfig", "[format]\n\tsuffix = .eml\n[diff]\n\tnoprefix = true\n")
	got, err := simple(3).Mail(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMailRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(s *Series, o *MailOptions)
		want   string
	}{
		"no patches":             {func(s *Series, o *MailOptions) { s.Patches = nil }, "has no patches"},
		"no name":                {func(s *Series, o *MailOptions) { o.Author.Name = " ." }, "no name"},
		"no address":             {func(s *Series, o *MailOptions) { o.Author.Email = "<>" }, "no e-mail address"},
		"newline in the name":    {func(s *Series, o *MailOptions) { o.Author.Name = "A\nB: C" }, "cannot stand in a mail header"},
		"newline in the address": {func(s *Series, o *MailOptions) { o.Author.Email = "a@b\nB: C" }, "not of the form NAME@DOMAIN"},
		"address not ASCII":      {func(s *Series, o *MailOptions) { o.Author.Email = "ö@b" }, "not of the form NAME@DOMAIN"},
		"name with brackets":     {func(s *Series, o *MailOptions) { o.Author.Name = "A <a@b> C" }, "cannot stand in a mail header"},
		"long name":              {func(s *Series, o *MailOptions) { o.Author.Name = repeat("x", 61) }, "would not get through git am"},
		"no date":                {func(s *Series, o *MailOptions) { o.Author.When = time.Time{} }, "not between 1970 and 2099"},
		"late date":              {func(s *Series, o *MailOptions) { o.Author.When = time.Unix(1<<40, 0) }, "not between 1970 and 2099"},
		"negative version":       {func(s *Series, o *MailOptions) { o.Version = -1 }, "version -1"},
		"newline in the prefix":  {func(s *Series, o *MailOptions) { o.Prefix = "a\nb" }, "prefix"},
		"bracket in the prefix":  {func(s *Series, o *MailOptions) { o.Prefix = "a]" }, "prefix"},
		"prefix not ASCII":       {func(s *Series, o *MailOptions) { o.Prefix = "ö" }, "prefix"},
		"blank prefix":           {func(s *Series, o *MailOptions) { o.Prefix = " " }, "prefix"},
		"base is no commit":      {func(s *Series, o *MailOptions) { s.BaseCommit = "0123\n" }, "40 hex digits"},
		"newline in the title":   {func(s *Series, o *MailOptions) { s.Title = "a\nb" }, "cover letter"},
		"no title":               {func(s *Series, o *MailOptions) { s.Title = "" }, "cover letter: the subject is empty"},
		"cut blurb":              {func(s *Series, o *MailOptions) { s.Blurb = "a\n---\nb" }, "cover letter: line 2"},
		"cut body":               {func(s *Series, o *MailOptions) { s.Patches[1].Body = "a\n---\nb" }, "patch 2: line 2"},
		"newline in a subject":   {func(s *Series, o *MailOptions) { s.Patches[1].Subject = "a\nb" }, "patch 2: the subject"},
		"no changes":             {func(s *Series, o *MailOptions) { s.Patches[1].Changes = nil }, "patch 2, \"mm: take step 2\": it changes no file"},
		"same before and after":  {func(s *Series, o *MailOptions) { s.Patches[0].Changes[0].After = s.Patches[0].Changes[0].Before }, "mm/mark.c is the same before and after"},
		"changed twice":          {func(s *Series, o *MailOptions) { s.Patches[0].Changes[1] = s.Patches[0].Changes[0] }, "mm/mark.c is changed twice"},
		"patches out of order":   {func(s *Series, o *MailOptions) { s.Patches[0], s.Patches[1] = s.Patches[1], s.Patches[0] }, "is not the same"},
		"new file twice":         {func(s *Series, o *MailOptions) { s.Patches[1].Changes[2].Path = "mm/new/0.h" }, "mm/new/0.h is in the base"},
		"file gone": {func(s *Series, o *MailOptions) {
			s.Patches[0].Changes[2].Before = nil
			s.Patches[1].Changes = s.Patches[1].Changes[:1]
			s.Patches[0].Changes = append(s.Patches[0].Changes[:2:2], Change{"new", nil, []byte("a")})
			s.Patches[1].Changes = append(s.Patches[1].Changes, Change{"new/x", nil, []byte("a")})
		}, "which is no folder"},
		"absolute path": {func(s *Series, o *MailOptions) { s.Patches[0].Changes[2].Path = "/etc/passwd" }, "no path inside a tree"},
		"path upwards":  {func(s *Series, o *MailOptions) { s.Patches[0].Changes[2].Path = "a/../../b" }, "no path inside a tree"},
		"path to git":   {func(s *Series, o *MailOptions) { s.Patches[0].Changes[2].Path = "a/.Git/config" }, "no path inside a tree"},
		"path with NUL": {func(s *Series, o *MailOptions) { s.Patches[0].Changes[2].Path = "a\x00b" }, "no path inside a tree"},
	} {
		s, o := simple(2), MailOptions{Author: thor}
		c.change(s, &o)
		mails, err := s.Mail(context.Background(), o)
		if err == nil || !strings.Contains(err.Error(), c.want) || mails != nil {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
		}
	}
}

func TestMailWithoutGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := simple(2).Mail(context.Background(), MailOptions{Author: thor})
	var missing *MissingGitError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "install the package git") {
		t.Errorf("got error %v", err)
	}
}

func TestMailCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := simple(2).Mail(ctx, MailOptions{Author: thor}); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v", err)
	}
}

// kernelSized returns a series of six patches to fifteen files of the sizes
// that the kernel's have: one of 780 kB as MAINTAINERS, one of 300 kB as
// kernel-parameters.txt, and C files of 10 to 60 kB.
func kernelSized() *Series {
	s := &Series{Name: "big", Title: "mm: mark pages", Blurb: "Why.", Attributes: []byte("*.[ch] diff=cpp\n")}
	files := map[string][]byte{}
	now := func(path string, size int) []byte {
		if files[path] == nil {
			for i := 0; len(files[path]) < size; i++ {
				files[path] = fmt.Appendf(files[path], "line %d of %s\n", i, path)
			}
		}
		return files[path]
	}
	for i := range 6 {
		p := Patch{Subject: fmt.Sprintf("mm: step %d", i), Body: "Why."}
		for path, size := range map[string]int{
			fmt.Sprintf("kernel/dma/%d.c", i): 30e3, fmt.Sprintf("drivers/xen/%d.c", i): 50e3, "Documentation/params.txt": 300e3, "MAINTAINERS": 780e3,
			fmt.Sprintf("include/new/%d.h", i): 0,
		} {
			before := now(path, size)
			after := bytes.Replace(before, fmt.Appendf(nil, "line %d ", 100*i+50), []byte("changed\nand added"), 1)
			if size == 0 {
				after = []byte("new\n")
			} else if i%3 != 0 && size > 100e3 {
				continue
			}
			p.Changes = append(p.Changes, Change{path, before, after})
			files[path] = after
		}
		s.Patches = append(s.Patches, p)
	}
	return s
}

func BenchmarkMail(b *testing.B) {
	s := kernelSized()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Mail(context.Background(), MailOptions{Author: thor}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFormatPatch is what git itself takes for the commits of
// BenchmarkMail.
func BenchmarkFormatPatch(b *testing.B) {
	s := kernelSized()
	dir, base := clone(b, s)
	mails, err := s.Mail(context.Background(), MailOptions{Author: thor})
	if err != nil {
		b.Fatal(err)
	}
	judge(b, dir, append([]string{"am", "-q"}, save(b, patches(s, mails))...)...)
	out := b.TempDir()
	for b.Loop() {
		cmd := exec.Command("git", "format-patch", "-q", "-o", out, "--cover-letter", base+"..")
		cmd.Dir, cmd.Env = dir, gitEnv(dir)
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// The changelog of a lone patch is no part of what git am commits.
func TestChangelog(t *testing.T) {
	s := &Series{Name: "x", Patches: []Patch{{
		Subject: "mm: a title", Body: "A text.",
		Changes: []Change{{Path: "mm/slab.c", Before: []byte("int slab;\n"), After: []byte("int slabs;\n")}},
	}}}
	mails, err := s.Mail(t.Context(), MailOptions{Author: thor, SignOff: true, Version: 2, Changelog: "Changes in v2:\n- better\n", ChangeID: "20260301-x-0123456789ab"})
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(s, mails); err != nil {
		t.Error(err)
	}
	dir, _ := clone(t, s)
	file := filepath.Join(t.TempDir(), mails[0].Name)
	put(t, file, string(mails[0].Data))
	judge(t, dir, "am", "-q", file)
	if got, want := judge(t, dir, "log", "-1", "--format=%B"), "mm: a title\n\nA text.\n\nSigned-off-by: A U Thor <author@example.org>\n\n"; got != want {
		t.Errorf("message %q", got)
	}
	if text := string(mails[0].Data); !strings.Contains(text, "\n---\nChanges in v2:\n- better\n\n mm/slab.c | 2 +-\n") || !strings.Contains(text, "\n\nchange-id: 20260301-x-0123456789ab\n-- \n") {
		t.Errorf("the mail:\n%s", text)
	}
}
