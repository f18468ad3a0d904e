package series

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// mails returns files from pairs of name and content.
func mails(pairs ...string) []Mail {
	var all []Mail
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, Mail{pairs[i], []byte(pairs[i+1])})
	}
	return all
}

// put writes a file and the folders above it.
func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// list returns all that is below dir, as pairs of path and content; folders
// end in a slash and have no content, links have an arrow and their target.
func list(t *testing.T, dir string) []string {
	t.Helper()
	all := []string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			all = append(all, name+"/", "")
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			all = append(all, name, "-> "+target)
			return err
		}
		data, err := os.ReadFile(path)
		all = append(all, name, string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWrite(t *testing.T) {
	long := mails("0001-a.patch", "a", "0002-b.patch", "b", "0003-c.patch", "c")
	short := mails("0001-a.patch", "A", "0002-x.patch", "x")
	for _, c := range []struct {
		name     string
		before   func(t *testing.T, out string, write func([]Mail))
		force    bool
		occupied string // file that is in the way
		changed  bool
		want     []string // what is in out then
	}{
		{name: "no folder", want: []string{"0001-a.patch", "A", "0002-x.patch", "x"},
			before: func(t *testing.T, out string, write func([]Mail)) {}},
		{name: "empty folder", want: []string{"0001-a.patch", "A", "0002-x.patch", "x"},
			before: func(t *testing.T, out string, write func([]Mail)) { os.MkdirAll(out, 0o777) }},
		{name: "shorter series", want: []string{"0001-a.patch", "A", "0002-x.patch", "x"},
			before: func(t *testing.T, out string, write func([]Mail)) { write(long) }},
		{name: "twice", want: []string{"0001-a.patch", "A", "0002-x.patch", "x"},
			before: func(t *testing.T, out string, write func([]Mail)) { write(long); write(short); write(short) }},
		{name: "one removed by hand", want: []string{"0001-a.patch", "A", "0002-x.patch", "x"},
			before: func(t *testing.T, out string, write func([]Mail)) {
				write(long)
				os.Remove(filepath.Join(out, "0001-a.patch"))
			}},
		{name: "person's file", occupied: "notes", want: []string{"notes", "n"},
			before: func(t *testing.T, out string, write func([]Mail)) { put(t, out+"/notes", "n") }},
		{name: "person's file beside ours", occupied: "notes", want: []string{"0001-a.patch", "a", "0002-b.patch", "b", "0003-c.patch", "c", "notes", "n"},
			before: func(t *testing.T, out string, write func([]Mail)) { write(long); put(t, out+"/notes", "n") }},
		{name: "person's file of our name", occupied: "0001-a.patch", want: []string{"0001-a.patch", "A"},
			before: func(t *testing.T, out string, write func([]Mail)) { put(t, out+"/0001-a.patch", "A") }},
		{name: "ours, changed", occupied: "0003-c.patch", changed: true, want: []string{"0001-a.patch", "a", "0002-b.patch", "b", "0003-c.patch", "C"},
			before: func(t *testing.T, out string, write func([]Mail)) { write(long); put(t, out+"/0003-c.patch", "C") }},
		{name: "ours, as in an older run", occupied: "0001-a.patch", changed: true, want: []string{"0001-a.patch", "a", "0002-x.patch", "x"},
			before: func(t *testing.T, out string, write func([]Mail)) {
				write(long)
				write(short)
				put(t, out+"/0001-a.patch", "a")
			}},
		{name: "ours, now a link to the same", occupied: "0003-c.patch", changed: true, want: []string{"0001-a.patch", "a", "0002-b.patch", "b", "0003-c.patch", "-> ../c"},
			before: func(t *testing.T, out string, write func([]Mail)) {
				write(long)
				put(t, filepath.Dir(out)+"/c", "c")
				os.Remove(out + "/0003-c.patch")
				os.Symlink("../c", out+"/0003-c.patch")
			}},
		{name: "folder in it", occupied: "0001-a.patch", want: []string{"0001-a.patch/", ""},
			before: func(t *testing.T, out string, write func([]Mail)) { os.MkdirAll(out+"/0001-a.patch", 0o777) }},
		{name: "from an older run", want: []string{"0001-a.patch", "A", "0002-x.patch", "x"},
			before: func(t *testing.T, out string, write func([]Mail)) {
				write(short)
				write(long)
			}},

		{name: "force, person's file", force: true, want: []string{"0001-a.patch", "A", "0002-x.patch", "x", "d/", "", "d/e", "e", "notes", "n"},
			before: func(t *testing.T, out string, write func([]Mail)) {
				write(long)
				put(t, out+"/notes", "n")
				put(t, out+"/d/e", "e")
			}},
		{name: "force, changed ones", force: true, want: []string{"0001-a.patch", "A", "0002-x.patch", "x", "0003-c.patch", "C"},
			before: func(t *testing.T, out string, write func([]Mail)) {
				write(long)
				put(t, out+"/0001-a.patch", "mine")
				put(t, out+"/0003-c.patch", "C")
			}},
		{name: "force, link", force: true, want: []string{"0001-a.patch", "A", "0002-x.patch", "x"},
			before: func(t *testing.T, out string, write func([]Mail)) {
				put(t, filepath.Dir(out)+"/precious", "p")
				os.MkdirAll(out, 0o777)
				os.Symlink("../precious", out+"/0001-a.patch")
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out, o := dir+"/out", WriteOptions{Ledger: dir + "/cache/ledger"}
			c.before(t, out, func(files []Mail) {
				if err := Write(out, files, o); err != nil {
					t.Fatal(err)
				}
			})
			o.Force = c.force
			err := Write(out, short, o)
			var occupied *OccupiedError
			switch {
			case c.occupied == "" && err != nil:
				t.Fatal(err)
			case c.occupied != "" && !errors.As(err, &occupied):
				t.Fatalf("got error %v, want that %s is in the way", err, c.occupied)
			case c.occupied != "" && *occupied != OccupiedError{filepath.Join(out, c.occupied), c.changed}:
				t.Errorf("got %+v", *occupied)
			}
			if diff := cmp.Diff(c.want, list(t, out)); diff != "" {
				t.Error(diff)
			}
			if data, err := os.ReadFile(dir + "/precious"); err == nil && string(data) != "p" {
				t.Error("wrote through a link")
			}
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if strings.HasPrefix(e.Name(), ".") {
					t.Errorf("%s is left behind", e.Name())
				}
			}
			if c.occupied == "" && !c.force {
				if err := Write(out, long, o); err != nil {
					t.Errorf("writing again: %v", err)
				}
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/file", "f")
	os.Symlink("nowhere", dir+"/dangling")
	os.MkdirAll(dir+"/d/0001", 0o777)
	for _, c := range []struct {
		name, out string
		files     []Mail
		force     bool
	}{
		{"folder is a file", dir + "/file", mails("0001", ""), true},
		{"folder is below a file", dir + "/file/x", mails("0001", ""), true},
		{"folder is a link to nowhere", dir + "/dangling", mails("0001", ""), true},
		{"name is a folder", dir + "/d", mails("0000", "", "0001", ""), true},
		{"slash", dir + "/new", mails("a/b", ""), false},
		{"up", dir + "/new", mails("..", ""), false},
		{"dot", dir + "/new", mails(".", ""), false},
		{"empty", dir + "/new", mails("", ""), false},
		{"newline", dir + "/new", mails("a\nb", ""), false},
		{"twice", dir + "/new", mails("a", "", "a", ""), false},
	} {
		before := list(t, dir)
		err := Write(c.out, c.files, WriteOptions{Force: c.force, Ledger: t.TempDir()})
		if err == nil {
			t.Errorf("%s: no error", c.name)
		}
		if diff := cmp.Diff(before, list(t, dir)); diff != "" {
			t.Errorf("%s: something has changed:\n%s", c.name, diff)
		}
	}
}

// TestWriteHere writes to the working directory, which must stay the same
// folder.
func TestWriteHere(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	o := WriteOptions{Ledger: t.TempDir()}
	for _, files := range [][]Mail{mails("a", "1", "b", "1"), mails("a", "2")} {
		before, _ := os.Stat(dir)
		if err := Write(".", files, o); err != nil {
			t.Fatal(err)
		}
		if after, _ := os.Stat(dir); !os.SameFile(before, after) {
			t.Error("the working directory is another folder")
		}
	}
	if diff := cmp.Diff([]string{"a", "2"}, list(t, dir)); diff != "" {
		t.Error(diff)
	}
	// The same folder by another name.
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(dir, link)
	if err := Write(link, mails("c", "3"), o); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"c", "3"}, list(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// TestWriteKeepsMode has folder and files keep and get their modes.
func TestWriteKeepsMode(t *testing.T) {
	out := filepath.Join(t.TempDir(), "a/b/out")
	o := WriteOptions{Ledger: t.TempDir()}
	umask := syscall.Umask(0o027)
	defer syscall.Umask(umask)
	modes := func() string {
		d, _ := os.Stat(out)
		f, _ := os.Stat(out + "/a")
		return fmt.Sprint(d.Mode(), " ", f.Mode())
	}
	if err := Write(out, mails("a", "1"), o); err != nil {
		t.Fatal(err)
	}
	if got, want := modes(), "drwxr-x--- -rw-r-----"; got != want {
		t.Errorf("got modes %s, want %s", got, want)
	}
	os.Chmod(out, 0o705|fs.ModeSticky)
	if err := Write(out, mails("a", "2"), o); err != nil {
		t.Fatal(err)
	}
	if got, want := modes(), "dtrwx---r-x -rw-r-----"; got != want {
		t.Errorf("got modes %s, want %s", got, want)
	}
}

// TestWriteWhole looks at the folder all the time while it is replaced.
func TestWriteWhole(t *testing.T) {
	dir := t.TempDir()
	out, o := dir+"/out", WriteOptions{Ledger: dir + "/ledger"}
	lists := [][]Mail{mails("a", "1", "b", "1", "c", "1"), mails("a", "2", "d", "2")}
	want := [][]string{{"a", "b", "c"}, {"a", "d"}}
	if err := Write(out, lists[0], o); err != nil {
		t.Fatal(err)
	}
	done, looked := make(chan error), make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // it is always there
		var err error
		for err == nil && ctx.Err() == nil {
			_, err = os.Lstat(out)
		}
		looked <- err
	}()
	go func() {
		var err error
		for i := 1; i < 60 && err == nil; i++ {
			err = Write(out, lists[i%2], o)
		}
		done <- err
	}()
	for looks := 0; ; {
		select {
		case err := <-done:
			cancel()
			if err = errors.Join(err, <-looked); err != nil || looks == 0 {
				t.Errorf("%v after %d looks", err, looks)
			}
			return
		default:
		}
		d, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		names, err := d.Readdirnames(-1)
		slices.Sort(names)
		// Who has opened the old folder may see it being removed.
		opened, _ := d.Stat()
		if now, err2 := os.Stat(out); err2 != nil {
			t.Fatal(err2)
		} else if os.SameFile(opened, now) {
			if err != nil {
				t.Fatal(err)
			}
			looks++
			if !slices.Equal(names, want[0]) && !slices.Equal(names, want[1]) {
				t.Fatalf("saw %q", names)
			}
		}
		d.Close()
	}
}

// TestWriteKilled kills a process that writes again and again. What it leaves
// must be whole and known.
func TestWriteKilled(t *testing.T) {
	lists := [][]Mail{mails("a", "1", "b", "1", "c", "1"), mails("a", "2", "d", "2")}
	if dir := os.Getenv("PATCHGEN_WRITE"); dir != "" {
		put(t, dir+"/begun", "")
		for i := 0; ; i++ {
			if err := Write(dir+"/out", lists[i%2], WriteOptions{Ledger: dir + "/ledger"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Parallel()
	dir := t.TempDir()
	out, o := dir+"/out", WriteOptions{Ledger: dir + "/ledger"}
	for i := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWriteKilled$")
		cmd.Env = append(os.Environ(), "PATCHGEN_WRITE="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for wait := 0; wait < 10000; wait++ {
			if os.Remove(dir+"/begun") == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(1+i*170) * time.Microsecond)
		cmd.Process.Kill()
		if cmd.Wait(); !cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			t.Fatal("it ended by itself")
		}
		if _, err := os.Stat(out); err == nil {
			got := list(t, out)
			if !slices.Equal(got, []string{"a", "1", "b", "1", "c", "1"}) && !slices.Equal(got, []string{"a", "2", "d", "2"}) {
				t.Errorf("%q is left", got)
			}
		}
		if err := Write(out, lists[0], o); err != nil {
			t.Error(err)
		}
	}
}

func TestSwap(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/a/1", "1")
	put(t, dir+"/b/2", "2")
	if err := swap(dir+"/a", dir+"/b"); err != nil {
		t.Fatal(err)
	}
	if err := swap(dir+"/none", dir+"/b"); err == nil {
		t.Error("swapped with nothing")
	}
	if diff := cmp.Diff([]string{"a/", "", "a/2", "2", "b/", "", "b/1", "1"}, list(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// TestReplaceLate has a person put a file into the folder between the look
// into it and its replacement.
func TestReplaceLate(t *testing.T) {
	dir := t.TempDir()
	out, o := dir+"/out", WriteOptions{Ledger: t.TempDir()}
	if err := Write(out, mails("a", "1"), o); err != nil {
		t.Fatal(err)
	}
	put(t, out+"/late", "l")
	written, err := readLedger(o.Ledger, out)
	if err != nil {
		t.Fatal(err)
	}
	var occupied *OccupiedError
	if err := replace(out, mails("a", "2"), written); !errors.As(err, &occupied) || occupied.File != out+"/late" {
		t.Errorf("got error %v", err)
	}
	if diff := cmp.Diff([]string{"out/", "", "out/a", "1", "out/late", "l"}, list(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// TestLedgerBroken has a broken ledger lead to a refusal, never to a loss.
func TestLedgerBroken(t *testing.T) {
	dir := t.TempDir()
	out, o := dir+"/out", WriteOptions{Ledger: dir + "/ledger"}
	if err := Write(out, mails("a", "1"), o); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "\n\n", "zz  a\n", "00  a\n", strings.Repeat("00", 32) + "  a\n", "a", "\x00"} {
		put(t, ledgerFile(o.Ledger, out), text)
		var occupied *OccupiedError
		if err := Write(out, mails("a", "2"), o); !errors.As(err, &occupied) {
			t.Errorf("ledger %q: got error %v", text, err)
		}
		if diff := cmp.Diff([]string{"a", "1"}, list(t, out)); diff != "" {
			t.Error(diff)
		}
	}
}
