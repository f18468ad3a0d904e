package qemubuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"patchgen/ktree"
	"patchgen/workshop"
)

// What configure is told: one target, with what the proof's devices and accelerators
// need and the qtests, and nothing from the network.
var arguments = []string{
	"--target-list=x86_64-softmmu",
	"--without-default-features", "--enable-tcg", "--enable-kvm", "--enable-vhost-user", "--enable-vhost-net", "--enable-pixman",
	"--disable-tools", "--disable-docs", "--disable-debug-info", "--disable-download",
}

// What makes a build repeatable. Python wants to write more than ASCII.
var fixed = []string{"LC_ALL=C.UTF-8", "NINJA_STATUS=[%f/%t] ", "PYTHONDONTWRITEBYTECODE=1"}

func environment() []string { return workshop.Environment(os.Environ(), fixed) }

// Where Debian has Python, changed by tests.
var systemPython = "/usr/bin/python3"

// python is the interpreter that has Debian's modules, among them meson. Another that
// comes first in PATH has not.
func python() string {
	if _, err := os.Stat(systemPython); err == nil {
		return systemPython
	}
	return "python3"
}

// Which Debian package has a command, where it isn't one of the same name.
var packages = map[string]string{"ninja": "ninja-build", "ar": "binutils", "objcopy": "binutils"}

// need returns nil if all is there that a build calls and links with, else a
// *workshop.MissingError.
func need(ctx context.Context) error {
	var e workshop.MissingError
	e.Commands(packages, "gcc", "ar", "objcopy", "make", "ninja", "pkg-config")
	e.Commands(map[string]string{python(): "python3"}, python())
	works := func(name string, args ...string) bool {
		if _, err := exec.LookPath(name); err != nil {
			return true // told already
		}
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = environment()
		return cmd.Run() == nil || ctx.Err() != nil
	}
	for _, lib := range [][2]string{{"glib-2.0", "libglib2.0-dev"}, {"pixman-1", "libpixman-1-dev"}} {
		if !works("pkg-config", "--exists", lib[0]) {
			e.Add(lib[0], lib[1])
		}
	}
	// Of the last two configure says which version it wants.
	for _, module := range [][2]string{{"ensurepip", "python3-venv"}, {"mesonbuild", "meson"}, {"pycotap", "python3-pycotap"}} {
		if !works(python(), "-c", "import "+module[0]) {
			e.Add("the Python module "+module[0], module[1])
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return e.Err()
}

// toolsDigest stands for what gcc and the linker say of themselves, and for what else
// decides how QEMU is compiled.
func toolsDigest(ctx context.Context) (string, error) {
	h := sha256.New()
	for _, tool := range []string{"gcc", "ld"} {
		cmd := exec.CommandContext(ctx, tool, "-v")
		cmd.Env = environment()
		out, err := cmd.CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return "", need(ctx)
		}
		if err != nil {
			return "", fmt.Errorf("%s -v: %w", tool, err)
		}
		h.Write(out)
	}
	fmt.Fprintln(h, arguments, fixed)
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// configure prepares out/ for the sources in src.
func (w *workspace) configure(ctx context.Context, src string) error {
	cc := "gcc"
	if _, err := exec.LookPath("ccache"); err == nil {
		cc = "ccache gcc"
	}
	t := newTranscript("", w.report)
	w.report.Stage("configure QEMU", 0, "lines")
	defer w.report.End()
	_, err := w.run(ctx, "configure", t, w.out(), filepath.Join(src, "configure"), append([]string{"--cc=" + cc, "--python=" + python()}, arguments...)...)
	return err
}

const blobs = "pc-bios" // the folder of firmware, in a tree

// Where Debian's packages have the firmware that its source package leaves out; changed
// by tests.
var firmware = []string{"/usr/share/seabios", "/usr/share/qemu", "/usr/lib/ipxe/qemu"}

// Without these no guest of x86 with a kernel of its own comes up, and no qtest of a PC.
var boots = map[string]string{"bios-256k.bin": "seabios", "kvmvapic.bin": "qemu-system-data", "linuxboot_dma.bin": "qemu-system-data"}

// isFirmware reports whether a name can be that of firmware for x86.
func isFirmware(name string) bool {
	return strings.HasSuffix(name, ".bin") || strings.HasSuffix(name, ".rom")
}

var (
	blobLists = regexp.MustCompile(`(?s)\b(fds|blobs|foreach f :) *=? *\[(.*?)\]`)
	blobName  = regexp.MustCompile(`'([A-Za-z0-9][A-Za-z0-9,._-]*)'`)
)

// stubs returns the files below pc-bios/ that the build asks for and the tree has not,
// as that of Debian has none of the firmware: with the contents that this machine has,
// else empty.
func (w *workspace) stubs(tree *ktree.Tree, from workshop.Listing, changes map[string][]byte) (map[string][]byte, error) {
	list, changed := changes[blobs+"/meson.build"]
	if !changed {
		var err error
		if list, err = tree.ReadFile(blobs + "/meson.build"); err != nil {
			return nil, err
		}
	}
	stubs := make(map[string][]byte)
	var missing workshop.MissingError
	for _, m := range blobLists.FindAllSubmatch(list, -1) {
		for _, n := range blobName.FindAllSubmatch(m[2], -1) {
			name := string(n[1])
			switch {
			case string(m[1]) == "fds": // packed
				name += ".bz2"
			case strings.HasSuffix(name, ".dts"): // a device tree, compiled
				name = strings.TrimSuffix(name, ".dts") + ".dtb"
			}
			if _, there := from[blobs+"/"+name]; there {
				continue
			}
			data, err := installed(name)
			if err != nil {
				return nil, err
			}
			if pkg := boots[name]; pkg != "" && len(data) == 0 {
				missing.Add(name, pkg)
			}
			stubs[blobs+"/"+name] = data
		}
	}
	return stubs, missing.Err()
}

// installed returns the firmware of that name that this machine has, or nothing.
func installed(name string) ([]byte, error) {
	if !isFirmware(name) {
		return []byte{}, nil
	}
	for _, dir := range firmware {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return bytes.Clone(data), err
		}
	}
	return []byte{}, nil
}
