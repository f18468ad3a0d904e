package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"patchgen/initramfs"
)

const initramfsUsage = `patchgen initramfs writes the root file system with which patchgen boots kernels.

Usage:
    patchgen initramfs [-o FILE] [--force]

It prints the path of the file, a cpio archive. The first time it compiles it,
with Go, in about a minute; from then on it takes it from the cache.

Example:
    $ patchgen initramfs -o initramfs.cpio
    $ qemu-system-x86_64 -m 512 -nographic -no-reboot -kernel bzImage \
        -initrd initramfs.cpio -append 'console=ttyS0 rdinit=` + initramfs.Shell + `'

With rdinit=` + initramfs.Shell + ` it starts a shell on the console, with u-root's commands in
/bbin ("shutdown" ends it). With rdinit=` + initramfs.Agent + ` it starts the agent of patchgen's
tests, which waits for a virtio-serial port.

Flags:
`

func makeInitramfs(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var output string
	var force bool
	set := pflag.NewFlagSet("initramfs", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVarP(&output, "output", "o", "initramfs.cpio", "write to `FILE`")
	set.BoolVar(&force, "force", false, "overwrite a file that patchgen did not write")
	if done, err := parse(set, initramfsUsage, args, stdout); done {
		return err
	}
	if set.NArg() > 0 {
		return &usageError{fmt.Errorf("initramfs takes no argument %q", set.Arg(0)), "the file to write is given with -o"}
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	cache = filepath.Join(cache, "initramfs")
	if !force {
		if err := mayReplace(output, cache); err != nil {
			return err
		}
	}
	image, err := initramfs.Build(ctx, initramfs.Options{Cache: cache, Progress: newReporter(stderr)})
	if err != nil {
		return err
	}
	if err := copyFile(output, image); err != nil {
		return &usageError{err, "choose another file with -o"}
	}
	_, err = fmt.Fprintln(stdout, output)
	return err
}

// mayReplace returns nil if there is no such file, or if it is a copy of an
// image in the cache.
func mayReplace(file, cache string) error {
	there, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	hint := "choose another file with -o"
	if err != nil {
		return &usageError{err, hint}
	}
	if there.IsDir() {
		return &usageError{fmt.Errorf("%s is a folder", file), hint}
	}
	images, err := filepath.Glob(filepath.Join(cache, "*.cpio"))
	if err != nil {
		return err
	}
	for _, image := range images {
		info, err := os.Stat(image)
		if err != nil || !there.Mode().IsRegular() || info.Size() != there.Size() {
			continue
		}
		ours, err := os.ReadFile(image)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return &usageError{err, hint}
		}
		if bytes.Equal(ours, data) {
			return nil
		}
	}
	return &usageError{fmt.Errorf("%s was not written by patchgen", file), hint + ", or say --force to overwrite"}
}

// copyFile copies the file from, which appears whole.
func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(to), ".patchgen-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), to)
}

// explainInitramfs tells the exit code of an error of Build.
func explainInitramfs(err error) (code int, hint string, ok bool) {
	var (
		noGo      *initramfs.MissingGoError
		noModules *initramfs.FetchError
	)
	switch {
	case errors.As(err, &noGo):
		return exitUnfit, "", true
	case errors.As(err, &noModules):
		return exitUnfit, "they are needed once: let the go command reach a module proxy (GOPROXY)", true
	}
	return 0, "", false
}
