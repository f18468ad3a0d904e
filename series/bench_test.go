package series

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"testing"
)

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
