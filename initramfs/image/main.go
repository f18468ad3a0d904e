// Command image builds the initramfs into the file that is its first argument.
// The others are the import paths of the shell's commands. It has to be run in a
// folder of the module patchgen.
package main

import (
	"fmt"
	"log"
	"log/slog"
	"os"
	"syscall"

	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/uio/llog"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: image FILE COMMAND...")
		os.Exit(2)
	}
	if err := build(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func build(output string, commands []string) error {
	// The modes of what the compiler writes go into the image.
	syscall.Umask(0o022)
	temp, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	return uimage.Create(llog.New(slog.LevelWarn, log.Printf),
		uimage.WithEnv(golang.DisableCGO(), golang.WithGOOS("linux"), golang.WithGOARCH("amd64")),
		uimage.WithTempDir(temp),
		uimage.WithBaseArchive(uimage.DefaultRamfs()),
		uimage.WithBusyboxCommands(commands...),
		uimage.WithBinaryCommandsOpts(&golang.BuildOpts{EnableInlining: true}, "patchgen/initramfs/agent"),
		uimage.WithInit("init"),
		uimage.WithShell("gosh"),
		uimage.WithSkipLDD(),
		uimage.WithCPIOOutput(output),
	)
}
