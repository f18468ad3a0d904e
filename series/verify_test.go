package series

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerify(t *testing.T) {
	replace := func(i int, old, new string) func([]Mail) []Mail {
		return func(mails []Mail) []Mail {
			if !bytes.Contains(mails[i].Data, []byte(old)) {
				t.Errorf("no %q in\n%s", old, mails[i].Data)
			}
			mails[i].Data = bytes.Replace(mails[i].Data, []byte(old), []byte(new), 1)
			return mails
		}
	}
	for _, c := range []struct {
		name, want string // "" = no error
		change     func([]Mail) []Mail
	}{
		{"as written", "", func(mails []Mail) []Mail { return mails }},
		{"no cover letter", "", func(mails []Mail) []Mail { return mails[1:] }},
		{"other message", "", replace(1, "It is step 1", "It is not")},
		{"other heading", "", replace(2, "@@ static int function_0", "@@ static int function_8")},
		{"a patch is missing", "there are 1 mails for 2 patches", func(mails []Mail) []Mail { return mails[2:] }},
		{"patches for cover letter", "0001-mm-take-step-1.patch is no cover letter, there are 3 diffs in it", func(mails []Mail) []Mail { return []Mail{mails[1], mails[1], mails[2]} }},
		{"exchanged", "patch 1, 0002-mm-take-step-2.patch: mm/mark.c: ", func(mails []Mail) []Mail { mails[1], mails[2] = mails[2], mails[1]; return mails }},
		{"one line further down", "patch 1, 0001-mm-take-step-1.patch: mm/mark.c: ", replace(1, "@@ -13,6 +13,7 @@", "@@ -14,6 +14,7 @@")},
		{"other context", "patch 1, 0001-mm-take-step-1.patch: mm/mark.c: ", replace(1, "\n \ta += 10;", "\n \ta += 12;")},
		{"white space in the context", "patch 1, 0001-mm-take-step-1.patch: mm/mark.c: ", replace(1, "\n \ta += 10;", "\n  a += 10;")},
		{"other added line", "patch 1, 0001-mm-take-step-1.patch: mm/mark.c: the diff gives another content", replace(1, "+\ta = 100;", "+\ta = 101;")},
		{"broken", "patch 1, 0001-mm-take-step-1.patch: gitdiff: ", replace(1, "\n+\ta = 100;", "\n")},
		{"other file", "mm/mark.c: there is no diff", replace(1, "+++ b/mm/mark.c", "+++ b/mm/mark.d")},
		{"mode changed", "mm/mark.c: the diff is of another kind", replace(1, "b/mm/mark.c\n", "b/mm/mark.c\nold mode 100644\nnew mode 100755\n")},
		{"executable", "mm/new/0.h: the diff is of another kind", replace(1, "new file mode 100644", "new file mode 100755")},
		{"not new", "mm/new/0.h: the diff is of another kind", replace(1, "new file mode 100644\nindex 000000000000", "index 012345678901")},
		{"one diff more", "there are 4 diffs for 3 changed files", replace(1, "\n-- \n", "\ndiff --git a/x b/x\nnew file mode 100644\nindex 000000000000..e69de29bb2d1\n-- \n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := simple(2)
			mails, err := s.Mail(context.Background(), MailOptions{Author: thor})
			if err != nil {
				t.Fatal(err)
			}
			err = Verify(s, c.change(mails))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
		})
	}
}

// TestVerifyNew has a diff make a file that is there, but empty.
func TestVerifyNew(t *testing.T) {
	mails, err := one("x", nil, []byte("x\n")).Mail(context.Background(), MailOptions{Author: thor})
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(one("x", []byte{}, []byte("x\n")), mails); err == nil || !strings.Contains(err.Error(), "of another kind") {
		t.Errorf("got error %v", err)
	}
}

// FuzzVerify has git apply every mail that is found good, if git takes it.
func FuzzVerify(f *testing.F) {
	if fuzzing() {
		mails, err := contents.Mail(context.Background(), MailOptions{Author: thor})
		if err != nil {
			f.Fatal(err)
		}
		for i, m := range patches(contents, mails) {
			c := contents.Patches[i].Changes[0]
			f.Add(c.Path, c.Before, c.After, c.Before == nil, m.Data)
		}
	}
	f.Fuzz(func(t *testing.T, path string, before, after []byte, isNew bool, mail []byte) {
		if isNew {
			before = nil
		} else if before == nil {
			before = []byte{}
		}
		if !filepath.IsLocal(path) || strings.HasPrefix(path, ".git") || Verify(one(path, before, after), []Mail{{"0001", mail}}) != nil {
			return
		}
		dir := t.TempDir()
		if !isNew {
			put(t, filepath.Join(dir, path), string(before))
		}
		put(t, dir+"/.mail", string(mail))
		cmd := exec.Command("git", "apply", "--unidiff-zero", ".mail")
		cmd.Dir, cmd.Env = dir, gitEnv(dir)
		if cmd.Run() != nil {
			return // git reads more strictly what git itself has not written
		}
		got, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil || !bytes.Equal(got, after) {
			t.Errorf("git gets %q, %v; want %q", got, err, after)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	s := kernelSized()
	mails, err := s.Mail(context.Background(), MailOptions{Author: thor})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := Verify(s, mails); err != nil {
			b.Fatal(err)
		}
	}
}
