// Package kbuild configures and compiles kernels, repeatably.
package kbuild
