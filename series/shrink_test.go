package series

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// largeSeries changes a large file of lines that repeat, near one place, in
// several patches.
func largeSeries(r *rand.Rand, name string) *Series {
	vocabulary := []string{"\n", "\n", "\tindented\n", "  two\n", "Heading\n", "}\n", "_x\n", "F:\tfile\n", "...\n"}
	var lines []string
	for i := 0; len(lines) < 20000; i++ {
		if r.IntN(3) == 0 {
			lines = append(lines, fmt.Sprintf("%sline %d\n", strings.Repeat("\t", r.IntN(3)), i))
		} else {
			lines = append(lines, vocabulary[r.IntN(len(vocabulary))])
		}
	}
	// Now and then the place is near an end of the file.
	at := []int{r.IntN(len(lines)), r.IntN(20), len(lines) - 1 - r.IntN(20)}[r.IntN(3)]
	s := &Series{Name: "large", Title: "a title", Blurb: "Why."}
	for i := range 2 + r.IntN(2) {
		before := strings.Join(lines, "")
		for range 1 + r.IntN(4) {
			k := min(max(at+r.IntN(60)-30, 0), len(lines)-1)
			switch r.IntN(3) {
			case 0:
				lines = slices.Insert(lines, k, lines[k]) // where it belongs is for git to say
			case 1:
				lines = slices.Insert(lines, k, fmt.Sprintf("new %d\n", r.Int()), "\n")
			default:
				lines = slices.Delete(lines, k, k+1)
			}
		}
		s.Patches = append(s.Patches, Patch{
			Subject: fmt.Sprintf("x: step %d", i), Body: "Why.",
			Changes: []Change{{name, []byte(before), []byte(strings.Join(lines, ""))}},
		})
	}
	return s
}

// git's diffs of the parts are those of the whole files.
func TestShrink(t *testing.T) {
	// The heading of the hunk is at the other end of the file.
	far := []byte("Heading\n" + strings.Repeat("\tindented\n", 20000))
	all := []*Series{
		{Name: "far", Title: "a title", Patches: []Patch{{Subject: "x: y", Body: "Why.", Changes: []Change{
			{"MAINTAINERS", far, bytes.Join([][]byte{far[:100008], far[100008:]}, []byte("\tnew\n"))}}}}},
	}
	for seed := range uint64(12) {
		all = append(all, largeSeries(rand.New(rand.NewPCG(seed, 1)), "MAINTAINERS"))
	}
	shrunk := 0
	for seed, s := range all {
		if slices.ContainsFunc(s.Patches, func(p Patch) bool { return bytes.Equal(p.Changes[0].Before, p.Changes[0].After) }) {
			continue
		}
		if _, parts := s.shrink(); len(parts) > 0 {
			shrunk++
		}
		dir, base := clone(t, s)
		s.BaseCommit = base
		o := MailOptions{Author: thor}
		mails, err := s.Mail(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(s, mails); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		branch(t, dir, base, s, o)
		if diff := cmp.Diff(anonymous(patches(s, written(t, dir, s, o, base))), anonymous(patches(s, mails))); diff != "" {
			t.Errorf("seed %d: git's patches (-) are not these (+):\n%s", seed, diff)
		}
	}
	if shrunk < 6 {
		t.Errorf("only %d files were shrunk", shrunk)
	}
}

// What has a way of its own to find headings is left whole.
func TestShrinkDriver(t *testing.T) {
	s := largeSeries(rand.New(rand.NewPCG(3, 1)), "kernel/large.c")
	if _, parts := s.shrink(); len(parts) != 1 {
		t.Errorf("%d parts without attributes", len(parts))
	}
	for _, attributes := range []string{"*.c diff=cpp\n", "* diff=x", "kernel/large.c\tdiff=cpp"} {
		s.Attributes = []byte(attributes)
		if _, parts := s.shrink(); len(parts) != 0 {
			t.Errorf("%q: %d parts", attributes, len(parts))
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	parts := map[string]part{"f": {dropped: 10, names: map[string]string{"111111111111": "aaaaaaaaaaaa", "222222222222": "bbbbbbbbbbbb"}}}
	mail := "x\n\ndiff --git a/f b/f\nindex 111111111111..222222222222 100644\n--- a/f\n+++ b/f\n@@ -1 +1,2 @@ h\n f\n+@@ -1 +1 @@\n"
	got, err := restore([]byte(mail), parts)
	want := "x\n\ndiff --git a/f b/f\nindex aaaaaaaaaaaa..bbbbbbbbbbbb 100644\n--- a/f\n+++ b/f\n@@ -11 +11,2 @@ h\n f\n+@@ -1 +1 @@\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	for _, broken := range []string{
		strings.Replace(mail, "222222222222", "333333333333", 1),
		strings.Replace(mail, "@@ -1 +1,2", "@@ -1,x +1,2", 1),
	} {
		if _, err := restore([]byte(broken), parts); err == nil {
			t.Errorf("took %q", broken)
		}
	}
}
