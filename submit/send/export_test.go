package send

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/series"
)

func TestExport(t *testing.T) {
	o := options()
	o.Mailer = "patchgen 1"
	in := drafts(t, "6.12")
	messages := compose(t, o, in...)
	dir := filepath.Join(t.TempDir(), "out")
	w := series.WriteOptions{Ledger: t.TempDir()}
	for range 2 { // the second time over its own files
		if err := Export(dir, messages, w); err != nil {
			t.Fatal(err)
		}
	}
	files, err := series.ReadPatches(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		want := mboxLine + strings.Replace(string(messages[i].Data), "X-Mailer: patchgen 1\n", "", 1)
		if diff := cmp.Diff(want, string(f.Data)); diff != "" || f.Name != in[i].Name {
			t.Errorf("%s (-want +got):\n%s", f.Name, diff)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	var occupied *series.OccupiedError
	if err := Export(dir, messages, w); !errors.As(err, &occupied) {
		t.Errorf("over another's file: %v", err)
	}
}

// An mbox is cut into the same mails by whoever reads it.
func TestMBox(t *testing.T) {
	in := append(drafts(t, "6.12"), draft("from.patch", plainHeader, "From a\n>From b\nFrom nobody Mon Sep 17 00:00:00 2001\n\nFrom: x\n"+plainBody),
		draft("first.patch", plainHeader, "From the first line on\n"))
	messages := compose(t, options(), in...)
	data, err := MBox(messages)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte("\nFrom ")) + 1; n != len(in) {
		t.Errorf("%d lines begin with From, want %d", n, len(in))
	}
	file := filepath.Join(t.TempDir(), "mbox")
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
	read, err := series.ReadPatches(file)
	if err != nil || len(read) != len(in) {
		t.Errorf("%d patches, want %d, %v", len(read), len(in), err)
	}
	for i, m := range read {
		_, want := mailinfo(t, messages[i].Data)
		if _, got := mailinfo(t, m.Data); strings.TrimRight(got, "\n") != strings.TrimRight(want, "\n") {
			t.Errorf("mail %d is another for git: %s", i+1, cmp.Diff(want, got))
		}
	}
	c, err := Compare(file, messages)
	if err != nil || len(c.Same) != len(in)-2 || len(c.Differences) != 2 || !c.Differences[0].Encoding || !c.Differences[1].Encoding {
		t.Errorf("%+v, %v", c, err)
	}
}
