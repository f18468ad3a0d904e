package ktree

import (
	"fmt"
	"io/fs"
)

// A NotFoundError says that there is nothing by the name given to Open. It is
// an fs.ErrNotExist.
type NotFoundError struct{ Spec, Why string }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no source tree at %q: %s", e.Spec, e.Why)
}

func (e *NotFoundError) Unwrap() error { return fs.ErrNotExist }

// A FetchError says that a Debian package could not be had: the network, apt
// or its configuration is in the way.
type FetchError struct {
	Spec string
	Err  error
}

func (e *FetchError) Error() string { return fmt.Sprintf("fetch %s: %v", e.Spec, e.Err) }
func (e *FetchError) Unwrap() error { return e.Err }

// An UnsupportedError says that something is there, but is no tree
// or file that patchgen can work on.
type UnsupportedError struct {
	Name    string // the tree or file
	Problem string // reads on from the name; says what to do if something can be done
}

func (e *UnsupportedError) Error() string { return e.Name + " " + e.Problem }

// A MissingToolError says that a program which has to be run is not installed.
type MissingToolError struct {
	Tool    string // name of the program
	Package string // Debian package that has it
	Hint    string // what to do without it, or ""
}

func (e *MissingToolError) Error() string {
	s := e.Tool + " is not installed (Debian package " + e.Package + ")"
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}
