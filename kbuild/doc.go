// Package kbuild configures and compiles kernels, repeatably, and keeps what it
// compiled.
package kbuild
