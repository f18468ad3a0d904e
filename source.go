// Package patchgen holds the sources that patchgen compiles where it runs: the
// program needs no checkout of its own to build the initramfs.
package patchgen

import "embed"

// Source has, at their paths in this module, what initramfs builds from.
//
//go:embed go.mod go.sum initramfs/tools.go
//go:embed initramfs/agent/*.go initramfs/image/*.go initramfs/protocol/*.go
var Source embed.FS
