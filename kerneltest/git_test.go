//go:build kernel

package kerneltest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A series is a folder of patch files for a tree.
type series struct {
	*work
	cover   string   // text of the cover letter
	patches []string // file names, in order
	commits []string // base, and then that of each patch, once am has made them
}

// emit has the command patchgen write its series for the tree.
func (w *work) emit(t *testing.T, patchgen string) *series {
	dir := t.TempDir()
	t.Log(w.run(t, dir, nil, patchgen, "emit", "--tree", absolute(t, w.spec), "-o", dir,
		"--signoff", "--from", "A U Thor <author@example.org>", "--date", "2026-01-02T03:04:05Z"))
	return w.readSeries(t, dir)
}

// absolute returns the spec with a path that holds in any folder.
func absolute(t *testing.T, spec string) string {
	if _, err := os.Stat(spec); err != nil {
		return spec
	}
	abs, err := filepath.Abs(spec)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func (w *work) readSeries(t *testing.T, dir string) *series {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		t.Fatal(err)
	}
	s := &series{work: w}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "0000-") {
			cover, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s.cover = string(cover)
		} else {
			s.patches = append(s.patches, file)
		}
	}
	if s.patches == nil || s.cover == "" {
		t.Fatalf("no series with a cover letter: %v", files)
	}
	return s
}

// am applies the patches to the tree and formats the commits again.
func (s *series) am(t *testing.T) {
	if err := s.apply(t); err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	s.git(t, "-c", "core.abbrev=12", "format-patch", "--quiet", "--numbered", "-o", again, s.base)
	if err := samePatches(s.patches, again); err != nil {
		t.Error(err)
	}
}

// apply makes the commits. git am knows no fuzz; an offset would show in the
// patches formatted again.
func (s *series) apply(t *testing.T) error {
	s.checkout(t, s.base)
	cmd := s.command(t, s.src(), nil, "git", append([]string{"am", "--whitespace=error-all"}, s.patches...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.git(t, "am", "--abort")
		return fmt.Errorf("git am: %v\n%s%s", err, out, stderr.Bytes())
	}
	if stderr.Len() > 0 {
		return fmt.Errorf("git am warns: %s", stderr.Bytes())
	}
	s.commits = append([]string{s.base}, strings.Fields(s.git(t, "rev-list", "--reverse", s.base+".."))...)
	if len(s.commits) != 1+len(s.patches) {
		return fmt.Errorf("git am made %d commits of %d patches", len(s.commits)-1, len(s.patches))
	}
	return nil
}

// samePatches compares patch files with those of the same name in dir, but for
// the first line, where the commit's name stands.
func samePatches(files []string, dir string) error {
	made, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return err
	}
	if len(made) != len(files) {
		return fmt.Errorf("git format-patch made %d files, not %d", len(made), len(files))
	}
	for _, file := range files {
		want, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(dir, filepath.Base(file)))
		if err != nil {
			return fmt.Errorf("git format-patch made no such file: %w", err)
		}
		_, wantBody, _ := bytes.Cut(want, []byte("\n"))
		_, gotBody, _ := bytes.Cut(got, []byte("\n"))
		if !bytes.Equal(wantBody, gotBody) {
			return fmt.Errorf("%s is not what git format-patch writes:\n%s", filepath.Base(file), cmp.Diff(string(gotBody), string(wantBody)))
		}
	}
	return nil
}
