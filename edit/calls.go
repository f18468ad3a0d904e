package edit

import (
	"fmt"
	"slices"
)

// A Function is the definition of a function, and what its body calls.
type Function struct {
	Name  string
	Line  int      // of the name, from 1
	Calls []string // the names in front of a parenthesis, macros too, and the words of Leaves, in the order of the text
}

// Leaves are the words by which a function or a loop is left.
var Leaves = []string{"return", "goto", "continue", "break"}

// Functions lists the functions that a C file defines, without those whose body
// is empty. Comments and preprocessor lines do not count, nor does what stands
// under an #if 0; of other conditionals all branches do.
//
// The error, an *Error, is for C that cannot be followed. One function of that
// kind is enough: nobody should read from the rest that a call is not there.
func Functions(file string, src []byte) ([]Function, error) {
	s, err := tokenize(src)
	if err != nil {
		e := (&cEdit{}).unreadable(err)
		e.File = file
		return nil, e
	}
	var all []Function
	for _, f := range s.functions() {
		if f.fault != "" {
			return nil, &Error{
				Kind: Unreadable, File: file, Function: f.name, Line: f.line,
				Problem: fmt.Sprintf("%s of %s() cannot be followed", f.fault, f.name),
			}
		}
		if f.empty() {
			continue
		}
		out := Function{Name: f.name, Line: f.line}
		for i := f.open + 1; i < f.close; i++ {
			name := string(s.text(s.toks[i]))
			if s.toks[i].kind == word && (slices.Contains(Leaves, name) || s.is(i+1, "(") && !keywords[name] && !prefixes[name]) {
				out.Calls = append(out.Calls, name)
			}
		}
		all = append(all, out)
	}
	return all, nil
}
