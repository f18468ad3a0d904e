// Package kconfig reads the Kconfig language and .config files: it puts an
// entry into a menu found by structure, and tells which wanted symbols did not
// survive.
package kconfig
