// Package kerneltest judges what patchgen emits by git, by the kernel's own
// tools, by compilers and by booted kernels.
//
// It has tests only, behind the build tag "kernel":
//
//	go test -tags kernel -count=1 -v -timeout 3h ./kerneltest -trees debian:6.12
//
// They need the packages that a kernel build needs, sparse and QEMU, a few GB
// in the user's cache folder, and some ten minutes a tree.
package kerneltest
