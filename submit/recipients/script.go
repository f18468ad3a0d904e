package recipients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"patchgen/ktree"
)

const (
	scriptName  = "scripts/get_maintainer.pl"
	scriptLimit = 5 * time.Minute // for one patch; it is a second or two
)

// scriptOptions are known to all scripts since 2010. Without git the result does not
// depend on a clone's history.
var scriptOptions = []string{"--nogit", "--nogit-fallback", "--norolestats", "--roles"}

// That of Linux needs no other files without --tree. That of QEMU has no such option,
// and wants to see these (top_of_tree); a folder has a slash at its end.
var (
	noTree = []string{"--no-tree"}
	ofQEMU = []string{"COPYING", "Makefile", "VERSION", "docs/", "linux-user/", "system/"}
)

// runScript runs the tree's get_maintainer.pl for each patch and fills in the
// entries. If it cannot be run here, it returns why.
//
// The script names no files in its output, so each patch takes a run of its own.
func runScript(ctx context.Context, d *database, patches []patch, entries [][]entry) (why string, err error) {
	program, err := d.tree.ReadFile(scriptName)
	if errors.Is(err, fs.ErrNotExist) {
		return "the tree has no " + scriptName, nil
	}
	if err != nil {
		return "", err
	}
	perl, err := exec.LookPath("perl")
	if err != nil {
		return "perl is not installed (Debian package perl)", nil
	}
	dir, err := os.MkdirTemp("", "patchgen-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := extract(d, program, patches, filepath.Join(dir, "tree")); err != nil {
		return "", err
	}

	options := scriptOptions
	if d.tree.Kind() == ktree.Linux {
		options = slices.Concat(noTree, scriptOptions)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range patches {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			if ctx.Err() != nil {
				return
			}
			var err error
			if entries[i], patches[i].found.notes, err = runPerl(ctx, perl, options, dir, i, patches[i]); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	var missing *missingModuleError
	if err := context.Cause(ctx); errors.As(err, &missing) {
		return missing.Error(), nil
	} else if err != nil {
		return "", err
	}
	return "", nil
}

// extract writes into dir what the script opens when it runs there. It is the
// same for a tree in a folder, where a .git or a .get_maintainer.conf would make
// a difference.
func extract(d *database, program []byte, patches []patch, dir string) error {
	files := map[string][]byte{scriptName: program}
	var touched []string
	for _, p := range patches {
		touched = append(touched, p.files...)
	}
	names := []string{"MAINTAINERS", ".mailmap", ".get_maintainer.ignore"}
	folders := d.foldersFor(touched)
	if d.tree.Kind() == ktree.QEMU {
		for _, name := range ofQEMU {
			if folder, ok := strings.CutSuffix(name, "/"); ok {
				folders = append(folders, folder)
			} else {
				names = append(names, name)
			}
		}
	}
	for _, name := range touched {
		if strings.HasSuffix(name, ".yaml") && fs.ValidPath(name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		data, err := d.tree.ReadFile(name)
		var unsupported *ktree.UnsupportedError
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, &unsupported) {
			continue
		}
		if err != nil {
			return err
		}
		files[name] = data
	}
	for _, name := range folders {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(name)), 0o777); err != nil {
			return err
		}
	}
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// A missingModuleError says that perl is there but not all of it, as with
// Debian's perl-base alone.
type missingModuleError struct{ module string }

func (e *missingModuleError) Error() string {
	return "perl lacks " + e.module + " (Debian package perl)"
}

// noVCS is what an older script, such as that of 5.10, says outside of a clone,
// although it is told not to ask git.
var noVCS = regexp.MustCompile(`(?m)^(.*No supported VCS found|Using a git repository|Try Linus Torvalds|git clone ).*\n`)

var missingModule = regexp.MustCompile(`(?m)^Can't locate (\S+)\.pm in @INC`)

// runPerl runs the script in dir/tree for the patch with index i.
func runPerl(ctx context.Context, perl string, options []string, dir string, i int, p patch) ([]entry, []string, error) {
	notes := p.found.notes
	file := filepath.Join(dir, strconv.Itoa(i+1)+".patch")
	if err := os.WriteFile(file, p.text, 0o666); err != nil {
		return nil, notes, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, scriptLimit, fmt.Errorf("it took more than %v", scriptLimit))
	defer cancel()
	cmd := exec.CommandContext(limited, perl, slices.Concat([]string{scriptName}, options, []string{file})...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir = filepath.Join(dir, "tree")
	// Its settings are looked for in HOME, too (get_maintainer.pl: which_conf).
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(dir, "home"), "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, notes, context.Cause(ctx)
	}
	if m := missingModule.FindSubmatch(stderr.Bytes()); err != nil && m != nil {
		return nil, notes, &missingModuleError{strings.ReplaceAll(string(m[1]), "/", "::")}
	}
	said := strings.ReplaceAll(strings.TrimSpace(noVCS.ReplaceAllString(stderr.String(), "")), file, "patch")
	if err != nil {
		if limited.Err() != nil {
			err = context.Cause(limited)
		}
		return nil, notes, fmt.Errorf("the tree's %s failed on patch %d: %w: %.500s: mend the tree, or have MAINTAINERS read without the script", scriptName, i+1, err, clean(said))
	}
	for line := range strings.Lines(said) {
		if notes = append(notes, fmt.Sprintf("%.300s", clean(strings.TrimSpace(line)))); len(notes) >= 20 {
			break
		}
	}
	var all []entry
	for line := range strings.Lines(stdout.String()) {
		line = strings.TrimSuffix(line, "\n")
		if e, ok := parseEntry(line); ok {
			all = append(all, e)
		} else {
			notes = append(notes, fmt.Sprintf("%s says %.200q, which names nobody", scriptName, line))
		}
	}
	return all, notes, nil
}

// entryLine is a line of the script's output with --roles: "Name <address> (role)",
// "address (role)". A name is in quotes if anything but ASCII letters, digits, blanks
// and dashes is in it; older scripts leave letters of other kinds, too.
var entryLine = regexp.MustCompile(`^(?:("(?:[^"\\]|\\.)*"|[^"<>()]*) <([^<>]*)>|([^\s<>()"]+@[^\s<>()"]+)) \((.*)\)$`)

func parseEntry(line string) (entry, bool) {
	m := entryLine.FindStringSubmatch(line)
	if m == nil {
		return entry{}, false
	}
	return entry{person{m[1], m[2] + m[3]}, m[4]}, true
}
