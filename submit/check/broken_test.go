package check

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"patchgen/series"
)

// A fault is one way to break goodSpec.
type brokenSeries struct {
	name  string
	rule  string // the one whose faults are found, and no other's
	patch int
	spec  func(s *spec)                                                    // before git, or nil
	mails func(t testing.TB, w *worktree, all []series.Mail) []series.Mail // after it, or nil
}

// edited changes a text that one mail has once; 0 is the cover letter.
func edited(i int, pairs ...string) func(testing.TB, *worktree, []series.Mail) []series.Mail {
	return func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		t.Helper()
		for k := 0; k < len(pairs); k += 2 {
			alter(t, all, i, pairs[k], pairs[k+1])
		}
		return all
	}
}

// said changes the message of a commit, counted from 1.
func said(i int, old, text string) func(*spec) {
	return func(s *spec) {
		m := s.commits[i-1].message
		if strings.Count(m, old) != 1 {
			panic(fmt.Sprintf("%q has %q %d times", m, old, strings.Count(m, old)))
		}
		s.commits[i-1].message = strings.Replace(m, old, text, 1)
	}
}

// also has a commit change one more thing.
func also(i int, edit func(w *worktree)) func(*spec) {
	return func(s *spec) {
		before := s.commits[i-1].edit
		s.commits[i-1].edit = func(w *worktree) { before(w); edit(w) }
	}
}

// The first hunk of a mail, with its line and its first line of context.
var firstHunk = regexp.MustCompile(`(?s)(\n@@ )-(\d+),([^\n]*)\n ([^\n]*)`)

const (
	sobLine  = "Signed-off-by: A U Thor <author@example.org>\n"
	fromLine = "From: A U Thor <author@example.org>\n"
)

// brokenOnes each have one fault, and need no program of the tree to be found.
var brokenOnes = []brokenSeries{
	// The mail.
	{"no mail", "mail", 2, nil, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		all[2].Data = []byte("This is not a mail.\n")
		return all
	}},
	{"empty file", "mail", 3, nil, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		all[3].Data = []byte("\n")
		return all
	}},
	{"HTML", "mime", 1, nil, edited(1, "\n\nThe number", "\nContent-Type: text/html; charset=UTF-8\n\nThe number")},
	{"format=flowed", "mime", 1, nil, edited(1, "\n\nThe number", "\nContent-Type: text/plain; charset=UTF-8; format=flowed\n\nThe number")},
	{"base64", "mime", 2, nil, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		head, body, _ := bytes.Cut(all[2].Data, []byte("\n\n"))
		text := base64.StdEncoding.EncodeToString(body)
		var lines strings.Builder
		for len(text) > 76 {
			lines.WriteString(text[:76] + "\n")
			text = text[76:]
		}
		all[2].Data = fmt.Appendf(nil, "%s\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: base64\n\n%s%s\n", head, lines.String(), text)
		return all
	}},
	{"several parts", "mime", 1, nil, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		head, body, _ := bytes.Cut(all[1].Data, []byte("\n\n"))
		all[1].Data = fmt.Appendf(nil, "%s\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=part\n\n--part\nContent-Type: text/plain\n\n%s\n--part\nContent-Type: text/html\n\n<p>Hello\n--part--\n", head, body)
		return all
	}},
	{"attachment", "mime", 3, nil, edited(3, "\n\nTell what", "\nContent-Disposition: attachment; filename=x.patch\n\nTell what")},
	{"no charset", "charset", 1, nil, edited(1, "The number of pages", "The number of päges")},
	{"Latin-1", "charset", 1, nil, edited(1, "\n\nThe number of pages", "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=ISO-8859-1\nContent-Transfer-Encoding: 8bit\n\nThe number of p\xe4ges")},
	{"not the UTF-8 that it says", "charset", 1, nil, edited(1, "\n\nThe number of pages", "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\nThe number of p\xe4ges")},
	{"raw header", "charset", 2, nil, edited(2, "\nSubject:", "\nTo: Jürgen <j@example.org>\nSubject:")},
	{"DOS mail", "crlf", 2, nil, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		all[2].Data = bytes.ReplaceAll(all[2].Data, []byte("\n"), []byte("\r\n"))
		return all
	}},
	{"DOS lines", "crlf", 3, also(3, func(w *worktree) {
		w.add("Documentation/core-api/dma-attributes.rst", "\r\nThis came\r\nfrom elsewhere.\r\n")
	}), nil},
	{"long line", "long-line", 3, also(3, func(w *worktree) {
		w.add("Documentation/core-api/dma-attributes.rst", "\n"+strings.Repeat("one, two, three, ", 70)+"long\n")
	}), nil},
	{"NUL", "control", 1, nil, edited(1, "The number of pages", "The number\x00 of pages")},
	{"escape", "control", 1, nil, edited(1, "The number of pages", "The \x1b[31mnumber of pages")},
	{"header in a header", "control", 2, nil, edited(2, "Subject: [PATCH v2 2/3] dma-mapping: let", "Subject: [PATCH v2 2/3] =?UTF-8?q?dma-mapping:=0A?=\n let")},
	{"unreachable author", "from", 1, func(s *spec) {
		s.commits[0].author = "A U Thor <root@localhost.localdomain>"
		said(1, "author@example.org", "root@localhost.localdomain")(s)
	}, nil},
	{"no address", "from", 2, nil, edited(2, fromLine, "From: A U Thor\n")},
	{"tomorrow", "date", 1, nil, edited(1, "Date: Sat, 14 Jun 2025", "Date: Sat, 14 Jun 2036")},
	{"no date", "date", 1, nil, edited(1, "Date: Sat, 14 Jun 2025", "Date: some day")},
	{"loose mail", "thread", 3, func(s *spec) { s.args = append(s.args, "--thread") }, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		var kept [][]byte
		for line := range bytes.Lines(all[3].Data) {
			if !bytes.HasPrefix(line, []byte("In-Reply-To:")) && !bytes.HasPrefix(line, []byte("References:")) {
				kept = append(kept, line)
			}
		}
		all[3].Data = bytes.Join(kept, nil)
		return all
	}},

	// The subject.
	{"reply", "subject", 2, nil, edited(2, "Subject: [PATCH", "Subject: Re: [PATCH")},
	{"no tag", "subject", 2, nil, edited(2, "Subject: [PATCH v2 2/3] ", "Subject: [v2 2/3] ")},
	{"no summary", "subject", 3, nil, edited(3, "Subject: [PATCH v2 3/3] Documentation: core-api: describe the count of mapped\n pages\n", "Subject: [PATCH v2 3/3]\n")},
	{"a patch less", "numbering", 1, nil, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail { return slices.Delete(all, 2, 3) }},
	{"no padding", "numbering", 2, nil, edited(2, "v2 2/3]", "v2 02/3]")},
	{"twice the same number", "numbering", 0, nil, edited(3, "v2 3/3]", "v2 2/3]")},
	{"no numbers", "numbering", 0, nil, edited(3, "v2 3/3]", "v2]")},
	{"order", "order", 0, nil, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		all[2], all[3] = all[3], all[2]
		return all
	}},
	{"another version", "tags", 3, nil, edited(3, "[PATCH v2 3/3]", "[PATCH 3/3]")},
	{"another prefix", "tags", 1, nil, edited(1, "[PATCH v2 1/3]", "[PATCH net v2 1/3]")},
	{"long summary", "title-length", 1, said(1, "add a count of mapped pages", "add a count of all those pages that are mapped for some device or other"), nil},
	{"no subsystem", "title-prefix", 1, said(1, "dma-mapping: add a", "Add a"), nil},
	{"period", "title-period", 2, said(2, "are counted\n", "are counted.\n"), nil},
	{"adds", "title-mood", 1, said(1, "add a count", "adds a count"), nil},
	{"Added", "title-mood", 1, said(1, "add a count", "Added a count"), nil},
	{"adding", "title-mood", 1, said(1, "add a count", "adding a count"), nil},
	{"this patch", "title-mood", 1, said(1, "add a count", "this patch has a count"), nil},
	{"same summary", "title-duplicate", 3, said(3, "Documentation: core-api: describe the count of mapped pages", "dma-mapping: add a count of mapped pages"), nil},

	// The text.
	{"no text", "body", 2, said(2, "A count costs time, and few want it. Add an option that is off unless it\nis asked for.\n\n", ""), nil},
	{"empty cover letter", "body", 0, func(s *spec) { s.text = "\n"; s.args = []string{"--cover-letter", "--base=master"} }, explained},
	{"not wrapped", "body-width", 2, said(2, "unless it\nis asked", "unless it is asked"), nil},
	{"cut at a line", "body-cut", 1, nil, edited(1, "Add a\nfunction", "Add\n--- a\nfunction")},
	{"sign-off below", "body-cut", 2, nil, edited(2, "\n\n"+sobLine+"---\n", "\n\n---\n"+sobLine+"\n")},
	{"to do", "leftover", 1, said(1, "is not known. Add a\n", "is not known.\nTODO: say why. Add a\n"), nil},
	{"to do in C", "leftover", 1, also(1, func(w *worktree) { w.add("kernel/dma/count.c", "\n/* FIXME: undo it. */\n") }), nil},
	{"template", "leftover", 1, said(1, "The number of pages", "The number of {{.What}}"), nil},
	{"template in C", "leftover", 1, also(1, func(w *worktree) { w.add("kernel/dma/count.c", "\n/* {{if .Has.x}}It has.{{end}} */\n") }), nil},
	{"Go's formats", "leftover", 2, said(2, "it. Add an option that is off unless it\n", "it. Add %!s(int=3)\noptions that are off unless it\n"), nil},
	{"no blurb", "leftover", 0, func(s *spec) { s.text = strings.Replace(s.text, "Nobody can", "*** BLURB HERE ***\n\nNobody can", 1) }, nil},
	{"no subject", "leftover", 0, func(s *spec) { s.subject = "*** SUBJECT HERE ***" }, nil},
	{"conflict", "leftover", 3, also(3, func(w *worktree) {
		w.add("Documentation/core-api/dma-attributes.rst", "\n<<<<<<< HEAD\nThis.\n>>>>>>> that\n")
	}), nil},
	{"fixup", "leftover", 2, func(s *spec) {
		s.commits[1].message = "fixup! " + s.commits[1].message
	}, nil},
	{"backup file", "leftover", 1, also(1, func(w *worktree) { w.write("kernel/dma/count.c.orig", "int a;\n") }), nil},
	{"Gerrit", "change-id", 1, said(1, sobLine, "Change-Id: I0123456789012345678901234567890123456789\n"+sobLine), nil},
	{"no history", "history", 0, func(s *spec) { s.text, _, _ = strings.Cut(s.text, "\n\nChanges in") }, nil},
	{"history in the message", "history-place", 1, said(1, "\n\nSigned", "\n\nChanges since v1:\n - Have an option.\n\nSigned"), nil},

	// The trailers.
	{"not signed off", "signed-off-by", 2, said(2, sob, "\n"), nil},
	{"another author", "signed-off-by", 1, func(s *spec) { s.commits[0].author = "Some Body <some@example.net>" }, nil},
	{"another address", "signed-off-by", 1, said(1, "author@example.org", "author@example.net"), nil},
	{"another name", "signed-off-by", 1, said(1, "by: A U Thor", "by: A. U. Thor"), nil},
	{"sender not signed off", "signed-off-by", 1, nil, edited(1, fromLine, "From: Some Body <some@example.net>\n", "\n\nThe number", "\n\n"+fromLine+"\nThe number")},
	{"misspelled tag", "trailer-format", 2, said(2, "Signed-off-by", "Signed-of-by"), nil},
	{"tag without address", "trailer-format", 2, said(2, sobLine, "Reviewed-by: Some Body\n"+sobLine), nil},
	{"tag without colon", "trailer-format", 2, said(2, sobLine, "Acked-by Some Body <some@example.net>\n"+sobLine), nil},
	{"hole", "trailer-block", 2, said(2, sobLine, "Reviewed-by: Some Body <some@example.net>\n\n"+sobLine), nil},
	{"twice", "trailer-duplicate", 3, said(3, sobLine, sobLine+sobLine), nil},
	{"short Fixes", "fixes", 1, nil, fixes("Fixes: %.8s (\"dma-mapping: begin the history\")\n")},
	{"Fixes without quotes", "fixes", 1, nil, fixes("Fixes: %.12s (dma-mapping: begin the history)\n")},
	{"Fixes of nothing", "fixes", 1, nil, fixes("Fixes: 0123456789ab (\"dma-mapping: begin the history\")\n%.0s")},
	{"Fixes with another title", "fixes", 1, nil, fixes("Fixes: %.12s (\"dma-mapping: end the history\")\n")},
	{"Fixes in two lines", "fixes", 1, nil, fixes("Fixes: %.12s (\"dma-mapping:\n begin the history\")\n")},
	{"unknown commit", "commit", 2, said(2, "few want it.", "few want it.\nCommit 0123456789ab (\"x: y\") was wrong."), nil},

	// The diff.
	{"no diff", "empty", 2, nil, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		at := bytes.Index(all[2].Data, []byte("\ndiff --git"))
		all[2].Data = append(all[2].Data[:at:at], "\n-- \n2.39.5\n\n"...)
		return all
	}},
	{"other context", "apply", 2, nil, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		all[2].Data = firstHunk.ReplaceAll(all[2].Data, []byte("${1}-${2},${3}\n ${4} and more"))
		return all
	}},
	{"wrapped by a client", "apply", 3, nil, edited(3, "+The kernel counts the pages that are mapped for devices, if it was built\n", "+The kernel counts the pages that are mapped for\ndevices, if it was built\n")},
	{"line lost", "apply", 1, nil, edited(1, "+ * Count the pages that are mapped for devices.\n", "")},
	{"no such file", "apply", 2, nil, everywhere(2, "kernel/dma/Kconfig", "kernel/dma/Konfig")},
	{"there already", "apply", 1, nil, everywhere(1, "kernel/dma/count.c", "kernel/dma/Makefile")},
	{"off by one", "offset", 2, nil, func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		at := firstHunk.FindSubmatch(all[2].Data)
		line, err := strconv.Atoi(string(at[2]))
		if err != nil {
			t.Fatal(err)
		}
		was := fmt.Sprintf("@@ -%d,3 +%d,", line, line)
		return edited(2, was, fmt.Sprintf("@@ -%d,3 +%d,", line-1, line-1))(t, nil, all)
	}},
	{"edited by hand", "index", 1, nil, edited(1, "+ * Count the pages", "+ * Number the pages")},
	{"diffstat", "diffstat", 2, nil, edited(2, " 1 file changed, 10 insertions(+)", " 1 file changed, 11 insertions(+)")},
	{"trailing space", "whitespace", 1, also(1, func(w *worktree) { w.add("kernel/dma/count.c", "\nint dma_count; \n") }), nil},
	{"space before tab", "whitespace", 1, also(1, func(w *worktree) { w.add("kernel/dma/count.c", "\n \tint dma_count;\n") }), nil},
	{"empty line at the end", "whitespace", 3, also(3, func(w *worktree) { w.add("Documentation/core-api/dma-attributes.rst", "\n\n") }), nil},
	{"odd name", "path", 1, also(1, func(w *worktree) { w.write("kernel/dma/$(id).c", "int a;\n") }), nil},
	{"executable C", "mode", 1, also(1, func(w *worktree) { executable(w, "kernel/dma/count.c") }), nil},
	{"binary", "binary", 1, func(s *spec) {
		also(1, func(w *worktree) { w.write("kernel/dma/blob.bin", "\x00\x01\x02"+strings.Repeat("\xff", 100)) })(s)
		s.args = append(s.args, "--binary")
	}, nil},
	{"option without help", "kconfig", 2, also(2, func(w *worktree) {
		w.add("kernel/dma/Kconfig", "\nconfig DMA_COUNT_MORE\n\tbool \"Count more\"\n\tdepends on DMA_COUNT_MAPPED\n")
	}), nil},
	{"broken Kconfig", "kconfig", 2, also(2, func(w *worktree) { w.add("kernel/dma/Kconfig", "\nendmenu\n") }), nil},

	// The series.
	{"sixteen", "count", 0, func(s *spec) {
		for i := range 13 {
			s.commits = append(s.commits, commit{
				message: fmt.Sprintf("dma-mapping: take step %d\n\nIt has not been taken yet, and somebody has to.%s", i, sob),
				edit:    func(w *worktree) { w.write(fmt.Sprintf("kernel/dma/step%d.txt", i), "A step.\n") },
			})
		}
	}, nil},
	{"no cover letter", "cover", 0, func(s *spec) { *s = spec{commits: s.commits, args: []string{"--base=master"}} }, explained},
	{"old shortlog", "cover-stale", 0, nil, edited(0, "let people choose", "have people choose")},
	{"longer shortlog", "cover-stale", 0, nil, edited(0, "  dma-mapping: let", "  dma-mapping: undo all\n  dma-mapping: let")},
	{"old diffstat", "cover-stale", 0, nil, edited(0, " 3 files changed, 30 insertions(+)", " 3 files changed, 34 insertions(+)")},
	{"short base", "base", 0, nil, func(t testing.TB, w *worktree, all []series.Mail) []series.Mail {
		hash := strings.TrimSpace(w.git("rev-parse", "master"))
		alter(t, all, 0, "base-commit: "+hash, "base-commit: "+hash[:12])
		return all
	}},
	{"private base", "base", 0, nil, func(t testing.TB, w *worktree, all []series.Mail) []series.Mail {
		hash := strings.TrimSpace(w.git("rev-parse", "master"))
		other := strings.TrimSpace(w.git("commit-tree", "-m", "x", "master^{tree}"))
		alter(t, all, 0, "base-commit: "+hash, "base-commit: "+other)
		return all
	}},
}

// explained has the patch that makes a file say what checkpatch.pl says of that.
func explained(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
	for i := range all {
		if bytes.Contains(all[i].Data, []byte("\nnew file mode")) {
			alter(t, all, i, "\n---\n", "\n---\nFILE_PATH_CHANGES: MAINTAINERS has the folder.\n\n")
		}
	}
	return all
}

// fixes puts a tag into the first patch, made with the name of the base.
func fixes(format string) func(testing.TB, *worktree, []series.Mail) []series.Mail {
	return func(t testing.TB, w *worktree, all []series.Mail) []series.Mail {
		alter(t, all, 1, "\n"+sobLine, "\n"+fmt.Sprintf(format, strings.TrimSpace(w.git("rev-parse", "master")))+sobLine)
		return all
	}
}

func everywhere(i int, old, text string) func(testing.TB, *worktree, []series.Mail) []series.Mail {
	return func(t testing.TB, _ *worktree, all []series.Mail) []series.Mail {
		all[i].Data = bytes.ReplaceAll(all[i].Data, []byte(old), []byte(text))
		return all
	}
}

func executable(w *worktree, name string) {
	if err := os.Chmod(filepath.Join(w.dir, name), 0o777); err != nil {
		w.t.Fatal(err)
	}
}

// make makes the series; good are the mails of goodSpec.
func (b *brokenSeries) make(t testing.TB, w *worktree, good []series.Mail) []series.Mail {
	var all []series.Mail
	if b.spec != nil {
		s := goodSpec()
		b.spec(s)
		all = s.mails(w)
	} else {
		for _, m := range good {
			all = append(all, series.Mail{Name: m.Name, Data: bytes.Clone(m.Data)})
		}
	}
	if b.mails != nil {
		all = b.mails(t, w, all)
	}
	return all
}

// only fails if r has not the faults of one rule alone, at this patch too.
func (b *brokenSeries) only(t testing.TB, r *Result) {
	t.Helper()
	rules := make(map[string]bool)
	there := false
	for _, f := range r.Findings {
		if f.Fault {
			rules[f.Rule] = true
			there = there || f.Rule == b.rule && f.Patch == b.patch
			if f.Do == "" {
				t.Errorf("nothing is said of what to do about %+v", f)
			}
		}
	}
	if !there || len(rules) != 1 {
		t.Errorf("want the fault %s at patch %d alone, got %v:\n%s", b.rule, b.patch, slices.Sorted(maps.Keys(rules)), r.table())
	}
}

// Each series with one fault is found to have it, and no other.
func TestBroken(t *testing.T) {
	if len(brokenOnes) < 30 {
		t.Fatalf("only %d", len(brokenOnes))
	}
	w := standIn(t)
	tree := w.open()
	good := goodSpec().mails(w)
	for _, b := range brokenOnes {
		t.Run(b.name, func(t *testing.T) {
			mails := b.make(t, w, good)
			t.Parallel()
			b.only(t, look(t, tree, mails))
		})
	}
}

// Every rule that needs no program of the tree has a series that breaks it.
func TestRulesBroken(t *testing.T) {
	seen := make(map[string]bool)
	for _, b := range brokenOnes {
		seen[b.rule] = true
	}
	for _, r := range Rules() {
		if r.ID == "" || r.What == "" || r.Source == "" {
			t.Errorf("%+v is not complete", r)
		}
		switch r.ID {
		case "size", "body-mood", "testing", "tree": // notes only
		case "checkpatch", "spelling":
		case "build", "warnings", "compiled", "survival", "receipt": // TestBuilt
		default:
			if !seen[r.ID] {
				t.Errorf("no test breaks the rule %s", r.ID)
			}
		}
		delete(seen, r.ID)
	}
	if len(seen) > 0 {
		t.Errorf("these are no rules: %v", seen)
	}
}
