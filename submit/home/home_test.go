package home

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func create(t *testing.T) *Home {
	t.Helper()
	h, err := Create(filepath.Join(t.TempDir(), "s"), Home{
		Series: "dma-mark-dirty", Variant: "full", Tree: `a "tree"`, Author: "A U Thor <author@example.org>", Prefix: "PATCH net-next", SignOff: true,
	}, day)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCreate(t *testing.T) {
	h := create(t)
	got, err := Open(h.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Tree != h.Tree || got.Author != h.Author || got.Prefix != h.Prefix || !got.SignOff || got.ChangeID != h.ChangeID ||
		!strings.HasPrefix(got.ChangeID, "20260301-dma-mark-dirty-") {
		t.Errorf("written %+v, read %+v", h, got)
	}
	if _, err := Create(h.Dir, *h, day); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a home over a home: %v", err)
	}
	files, err := os.ReadDir(h.Dir)
	if err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	if _, err := Create(t.TempDir(), Home{Series: "x", Author: "nobody"}, day); err == nil {
		t.Error("an author without an address was taken")
	}
}

func TestOf(t *testing.T) {
	h := create(t)
	for _, dir := range []string{h.Mails(2), h.Mails(10)} {
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(h.Mails(2), "x.patch")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{h.Dir: 0, h.Mails(2): 2, h.Mails(10) + "/": 10} {
		if got, version, err := Of(path); err != nil || version != want || got.ChangeID != h.ChangeID {
			t.Errorf("%s: %v, version %d, %v", path, got, version, err)
		}
	}
	for _, path := range []string{t.TempDir(), file, filepath.Join(h.Dir, "v0"), "/nowhere/v1"} {
		if _, _, err := Of(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestVersions(t *testing.T) {
	h := create(t)
	for _, want := range []int{1, 2, 3} {
		if next, err := h.Next(); err != nil || next != want {
			t.Errorf("next %d, %v, want %d", next, err, want)
		}
		if err := os.MkdirAll(h.Sent(want), 0o777); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefused(t *testing.T) {
	const id = "change-id = \"20260301-x-0123456789ab\"\n"
	for text, want := range map[string]string{
		"":                                       "change-id",
		"change-id = 1":                          "line 1",
		id + "colour = 1":                        `no setting "colour"`,
		id + "author = \"x\"":                    "author",
		id + "to = [\"a b\"]":                    "to =",
		id + "[changelog]\nv1 = \"x\"":           "v1",
		id + "[changelog]\n\"2\" = \"x\"":        "want v2",
		id + "[changelog]\nv2 = \"a\\n---\\nb\"": "line 2",
		id + "[changelog]\nv2 = \"a\\u0007\"":    "control character",
		"\xff":                                   "UTF-8",
	} {
		if _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, File), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	var bad *FileError
	if _, err := Open(dir); !errors.As(err, &bad) {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("change-id = \"20260301-x-0123456789ab\"\nto = [\"a@b.c\"]\n[changelog]\nv2 = \"- x\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := parse(data); err == nil {
			h.Changes(2)
		}
	})
}
