package series

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var thor = Ident{"A U Thor", "author@example.org", time.Date(2026, 3, 1, 12, 34, 56, 0, time.FixedZone("", 3*3600+1800))}

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

// clone makes a git repository that holds what s was made for, and some more,
// in one commit, and returns its folder and the commit.
func clone(t testing.TB, s *Series) (dir, base string) {
	t.Helper()
	dir = t.TempDir()
	files := map[string][]byte{
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
	for name, data := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	judge(t, dir, "init", "-q", "-b", "main")
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

// with returns s after f has changed its first patch.
func with(s *Series, f func(*Patch)) *Series {
	f(&s.Patches[0])
	return s
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
	{"new file only", one("new.c", nil, []byte("int x;\n")), MailOptions{Author: thor}},
	{"empty file", one("a/b/c/empty", nil, []byte{}), MailOptions{Author: thor}},
	{"empty before", one("mm.c", []byte{}, []byte("int x;\n")), MailOptions{Author: thor}},
	{"emptied", one("mm/slab.c", []byte("int slab;\n"), []byte{}), MailOptions{Author: thor}},
	{"no newline", one("x", []byte("a\nb"), []byte("a\nc")), MailOptions{Author: thor}},
	{"newline added", one("x", []byte("a\nb"), []byte("a\nb\n")), MailOptions{Author: thor}},
	{"carriage returns", one("x", []byte("a\r\nb\r\n"), []byte("a\r\nc\r\nb\r\n")), MailOptions{Author: thor}},
	{"bare carriage return", one("x", []byte("a\rb\n"), []byte("a\rc\n")), MailOptions{Author: thor}},
	{"binary", one("x", []byte("a\x00b\n"), []byte("a\x00c\n-- \n2.0\n")), MailOptions{Author: thor}},
	{"latin 1", one("x", []byte("a\xe9\n"), []byte("b\xe9\n")), MailOptions{Author: thor}},
	{"signature in the diff", one("x", []byte("a\n- \nb\n"), []byte("a\nb\n-- \n2.0\n")), MailOptions{Author: thor}},
	{"mail in the diff", one("x", []byte("a\n"), []byte("From 0123 Mon Sep 17 00:00:00 2001\ndiff --git a/x b/x\n--- a/x\n")), MailOptions{Author: thor}},
	{"path with blanks", one("a b/c d", []byte("a\n"), []byte("b\n")), MailOptions{Author: thor}},
	{"path with tab, quote and newline", one("a\t\"\\\n.c", []byte("a\n"), []byte("b\n")), MailOptions{Author: thor}},
	{"path not ASCII", one("größe/日本.c", nil, []byte("b\n")), MailOptions{Author: thor}},
	{"new path with blanks", one("a b", nil, []byte("b\n")), MailOptions{Author: thor}},
	{"new empty file, odd path", one("a\tb ", nil, []byte("")), MailOptions{Author: thor}},
	{"no body", with(simple(2), func(p *Patch) { p.Body = "" }), MailOptions{Author: thor}},
	{"no body, signed", with(simple(2), func(p *Patch) { p.Body = "" }), MailOptions{Author: thor, SignOff: true}},
	{"trailers", with(simple(2), func(p *Patch) { p.Body = "Why.\n\nFixes: 0123456789ab (\"x\")\nCc: a@b" }), MailOptions{Author: thor, SignOff: true}},
	{"body of odd lines", with(simple(2), func(p *Patch) {
		p.Body = "From here on\nFrom: there\n\n\n\nWhite space:   \n\tand a tab\n-----\n-- \n--\ndiff x\n>From\nSubject: y"
	}), MailOptions{Author: thor}},
	{"body not ASCII", with(simple(2), func(p *Patch) { p.Body = "Größer – 日本" }), MailOptions{Author: thor}},
	{"long body line", with(simple(2), func(p *Patch) { p.Body = repeat("long ", 400) }), MailOptions{Author: thor}},
	{"subject not ASCII", with(simple(2), func(p *Patch) { p.Subject = "mm: Größe ändern" }), MailOptions{Author: thor}},
	{"long subject", with(simple(2), func(p *Patch) { p.Subject = repeat("mm: long subject ", 9) }), MailOptions{Author: thor}},
	{"long subject not ASCII", with(simple(2), func(p *Patch) { p.Subject = repeat("mm: längeres = 日本_? ", 9) }), MailOptions{Author: thor}},
	{"long word", with(simple(2), func(p *Patch) { p.Subject = "mm: " + repeat("x", 200) }), MailOptions{Author: thor}},
	{"author not ASCII", simple(2), MailOptions{Author: Ident{"Jörg Ærøskøbing 日本", "j@example.org", thor.When}, SignOff: true}},
	{"author not ASCII, no sign-off", simple(2), MailOptions{Author: Ident{"Jörg", "j@example.org", thor.When}}},
	{"author to be quoted", simple(2), MailOptions{Author: Ident{`Thor, A. "U" (x)`, "a@example.org", thor.When}, SignOff: true}},
	{"author to be trimmed", simple(2), MailOptions{Author: Ident{` Thor Jr. `, " <a@example.org>", thor.When}, SignOff: true}},
	{"long author", simple(2), MailOptions{Author: Ident{repeat("Thor ", 12), "a@example.org", thor.When}}},
	{"1970", simple(2), MailOptions{Author: Ident{"A", "a@b", time.Unix(0, 0).UTC()}}},
	{"2099", simple(2), MailOptions{Author: Ident{"A", "a@b", time.Date(2099, 12, 31, 23, 59, 59, 999, time.FixedZone("", -12*3600))}}},
}

// TestMail has git am apply the mails, and git format-patch write them again.
func TestMail(t *testing.T) {
	for _, c := range mailCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, base := clone(t, c.s)
			s := *c.s
			s.BaseCommit = base
			mails, err := s.Mail(context.Background(), c.o)
			if err != nil {
				t.Fatal(err)
			}
			if err := Verify(&s, mails); err != nil {
				t.Error(err)
			}
			if want := len(s.Patches); want > 1 && len(mails) != want+1 || want == 1 && len(mails) != 1 {
				t.Fatalf("%d mails for %d patches", len(mails), want)
			}

			judge(t, dir, append([]string{"am", "-q", "--keep-cr"}, save(t, patches(&s, mails))...)...)
			for i := range s.Patches {
				for _, f := range s.Patches[i].Changes {
					got := judge(t, dir, "cat-file", "blob", fmt.Sprintf("HEAD~%d:%s", len(s.Patches)-1-i, f.Path))
					if got != string(f.After) {
						t.Errorf("patch %d: %s: got %q, want %q", i+1, f.Path, got, f.After)
					}
				}
			}
			want := written(t, dir, &s, c.o, base)
			if diff := cmp.Diff(anonymous(patches(&s, want)), anonymous(patches(&s, mails))); diff != "" {
				t.Errorf("git's patches (-) are not these (+):\n%s", diff)
			}
			if len(mails) > 1 {
				checkCover(t, want[0], mails[0], &s)
			}
		})
	}
}

// written returns what git format-patch writes of the commits on top of base.
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
	args := []string{"-c", "core.abbrev=12", "format-patch", "-q", "-o", out, "--base=" + base, "--subject-prefix=" + prefix}
	if len(s.Patches) > 1 {
		judge(t, dir, "config", "branch.main.description", s.Title+"\n\n"+s.Blurb)
		args = append(args, "--cover-letter", "--cover-from-description=subject")
	}
	if o.Version > 1 {
		args = append(args, fmt.Sprintf("-v%d", o.Version))
	}
	judge(t, dir, append(args, base+"..")...)
	return load(t, out)
}

// checkCover compares a cover letter with git's, whose author and date are the
// committer's, and which git before 2.44 does not encode.
func checkCover(t *testing.T, want, got Mail, s *Series) {
	t.Helper()
	head := func(m Mail) (string, string) {
		h, text, _ := strings.Cut(string(m.Data), "\n\n")
		_, h, _ = strings.Cut(h, "\n")
		return h, text
	}
	_, wantText := head(want)
	gotHead, gotText := head(got)
	if diff := cmp.Diff(wantText, gotText); diff != "" || want.Name != got.Name {
		t.Errorf("git's cover letter %s (-) is not this, %s (+):\n%s", want.Name, got.Name, diff)
	}
	_ = gotHead
}

var _ = errors.New
