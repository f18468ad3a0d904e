package kbuild

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"patchgen/kconfig"
)

//go:embed config/qemu.config
var qemuConfig []byte

// QEMUConfig returns what a kernel needs to boot under QEMU on x86-64, to run
// KUnit, and to have all users of SWIOTLB built in.
func QEMUConfig() kconfig.Config {
	c, err := kconfig.ParseConfig("qemu.config", qemuConfig)
	if err != nil {
		panic(err) // of an embedded file that the tests read
	}
	return c
}

// A LostError names the wanted symbols that did not survive olddefconfig.
type LostError struct {
	Lost    []kconfig.Lost
	Depends map[string][]string // by symbol, its "depends on" conditions; nil if the tree has no such symbol
}

func (e *LostError) Error() string {
	var b strings.Builder
	b.WriteString("the tree's Kconfig does not take the configuration:")
	for _, l := range e.Lost {
		fmt.Fprintf(&b, "\n\tCONFIG_%s: want %s, got %s; ", l.Symbol, l.Want, orNone(l.Got))
		if deps, ok := e.Depends[l.Symbol]; !ok {
			b.WriteString("the tree has no such symbol")
		} else if len(deps) == 0 {
			b.WriteString("it has no prompt, or stands in a menu that is off")
		} else {
			b.WriteString("depends on " + strings.Join(deps, "; depends on "))
		}
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// Configure writes Output/.config with want, and all off that is not needed for
// it. If a symbol does not get its value the error is *LostError, and the file
// stands as the kernel made it.
func (b *Build) Configure(ctx context.Context, want kconfig.Config) error {
	_, err := b.configure(ctx, want)
	return err
}

// configure is Configure, and returns what Kconfig warns of.
func (b *Build) configure(ctx context.Context, want kconfig.Config) ([]Warning, error) {
	if err := os.MkdirAll(b.Output, 0o777); err != nil {
		return nil, err
	}
	file := filepath.Join(b.Output, "wanted.config")
	if err := os.WriteFile(file, want.Bytes(), 0o666); err != nil {
		return nil, err
	}
	warnings, err := b.Make(ctx, "KCONFIG_ALLCONFIG="+file, "allnoconfig")
	if err != nil {
		return nil, err
	}
	return warnings, b.survived(want)
}

// survived returns a *LostError if Output/.config is not as it was wanted.
func (b *Build) survived(want kconfig.Config) error {
	got, err := b.Config()
	if err != nil {
		return err
	}
	lost := want.Lost(got)
	if lost == nil {
		return nil
	}
	depends, err := b.depends(lost)
	if err != nil {
		return err
	}
	return &LostError{lost, depends}
}

// Config returns what Output/.config says now.
func (b *Build) Config() (kconfig.Config, error) {
	file := filepath.Join(b.Output, ".config")
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return kconfig.ParseConfig(file, src)
}
