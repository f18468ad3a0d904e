// Package templates holds the series that patchgen can emit: what is rendered,
// and the manifests that say for which tree and where.
package templates

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/BurntSushi/toml"

	"patchgen/ktree"
)

//go:embed all:dma-mark-dirty all:qemu-page-dirtying
var embedded embed.FS

// A Set is one folder of templates: a series with its variants.
type Set struct {
	Name        string
	Kind        ktree.Kind // of the trees that it is for
	Generations []Generation
	Features    []Feature

	files fs.FS
}

// A Generation is a state of a tree's code that the series is written for.
type Generation struct {
	ktree.Generation
	Names map[string]string `toml:"names"` // what a function is called there
}

// A Feature is something that trees have or lack whatever their generation.
type Feature struct {
	Name  string       `toml:"name"`
	About string       `toml:"about"`
	Tests []ktree.Test `toml:"test"`
}

// A Variant is one form of the series: its patches in order.
type Variant struct {
	About   string  `toml:"about"`  // for people: a clause, without a period
	Switch  bool    `toml:"switch"` // it has the boot parameter and the files in debugfs that patchgen test works by
	Cover   string  `toml:"cover"`  // template of the cover letter: subject, blank line, text
	Patches []Patch `toml:"patch"`
}

// A Patch is a commit message and what the commit changes.
type Patch struct {
	When    []string `toml:"when"`
	Name    string   `toml:"name"`    // by which another variant can take it, or ""
	Of      string   `toml:"of"`      // the variant whose patch of that name this one is, or ""
	Message string   `toml:"message"` // template file: subject, blank line, body; of an Of, its own if there is one
	New     []New    `toml:"new"`
	Edits   []Edit   `toml:"edit"`
}

// New is a file that the tree does not have.
type New struct {
	When     []string `toml:"when"`
	File     string   `toml:"file"`
	Template string   `toml:"template"`
}

// Edit is a change to a file that the tree has. Menu or After make it a Kconfig
// entry; else it is what edit.Edit describes. All texts are templates.
type Edit struct {
	When     []string `toml:"when"`
	File     string   `toml:"file"`
	Function string   `toml:"function"`
	Inside   []string `toml:"inside"`
	Reached  bool     `toml:"reached"`
	Section  string   `toml:"section"`
	Landmark []string `toml:"landmark"`
	Put      string   `toml:"put"` // before, after, replace or function
	Menu     string   `toml:"menu"`
	After    []string `toml:"after"`
	Text     string   `toml:"text"`     // the text itself, or else
	Template string   `toml:"template"` // the file that has it
}

// A Mutant is the series made wrong on purpose: something that the tests of it
// have to see.
type Mutant struct {
	Name    string         `toml:"name"`  // in kebab case
	About   string         `toml:"about"` // what is wrong with it: a clause, without a period
	When    []string       `toml:"when"`
	Tests   []ktree.Test   `toml:"test"`   // which the tree must pass, too
	Static  bool           `toml:"static"` // no test at run time can see it: a Place has to
	Changes []MutantChange `toml:"change"`
}

// A MutantChange puts New for Old in a file that the series has changed or made.
// Both are templates.
type MutantChange struct {
	When  []string `toml:"when"`
	File  string   `toml:"file"`
	Old   string   `toml:"old"`
	New   string   `toml:"new"`
	Count int      `toml:"count"` // how often Old has to be there; 0 is once
}

// A Place is a rule of where a call has to stand in a function of a file that
// the series has changed or made. Function, Callers and Call are templates.
type Place struct {
	Name     string   `toml:"name"`  // in kebab case
	About    string   `toml:"about"` // the rule for people: a clause, without a period
	When     []string `toml:"when"`
	Variant  string   `toml:"variant"` // of which alone it is; "" of all
	File     string   `toml:"file"`
	Function string   `toml:"function"` // which must be there, unless Never is set; or else
	Callers  []string `toml:"callers"`  // each function that calls one of these
	Call     string   `toml:"call"`
	Count    int      `toml:"count"`  // how often the function has to call it; 0 is once or more
	Never    bool     `toml:"never"`  // it must not call it
	Behind   []string `toml:"behind"` // calls in the function that stand before all of Call
	Before   []string `toml:"before"` // calls, and words that leave the function, that stand behind all of Call
}

// Data is what a template can speak of. A name that is in none of the maps is
// an error, so that a typing mistake does not read as "no".
type Data struct {
	Has        map[string]bool   // features
	Name       map[string]string // names of the generation
	Release    string            // "6.12.117"
	Origin     string            // where the tree comes from, for a mail: a package, or the name of a folder or file
	BaseCommit string            // 40 hex, or ""
	Generation string
	Tool       string // program and version that renders
	Digest     string // of the templates, 12 hex
	Call       string // the command line's part that decides what is rendered
	Testing    string // how the patches were tested, for the cover letter; "" if they were not
}

// Names lists the sets, sorted.
func Names() []string {
	entries, err := embedded.ReadDir(".")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// Load reads the set with that name. The error says which there are.
func Load(name string) (*Set, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("no series %q; there is: %s", name, strings.Join(Names(), ", "))
	}
	sub, err := fs.Sub(embedded, name)
	if err != nil {
		return nil, err
	}
	return loadFS(name, sub)
}

func loadFS(name string, files fs.FS) (*Set, error) {
	s := &Set{Name: name, files: files}
	var m struct {
		Tree        ktree.Kind   `toml:"tree"`
		Generations []Generation `toml:"generation"`
		Features    []Feature    `toml:"feature"`
	}
	if err := s.decode(generationsFile, &m); err != nil {
		return nil, err
	}
	s.Kind, s.Generations, s.Features = m.Tree, m.Generations, m.Features
	return s, nil
}

// decode reads a manifest. A key that nothing reads is an error: it would be
// ignored for ever.
func (s *Set) decode(file string, v any) error {
	md, err := toml.DecodeFS(s.files, file, v)
	if err != nil {
		return fmt.Errorf("templates/%s/%s: %w", s.Name, file, err)
	}
	if extra := md.Undecoded(); len(extra) > 0 {
		return fmt.Errorf("templates/%s/%s: unknown key %s", s.Name, file, extra[0])
	}
	return nil
}

// For returns the names of the series for trees of a kind, sorted.
func For(k ktree.Kind) ([]string, error) {
	var names []string
	for _, name := range Names() {
		s, err := Load(name)
		if err != nil {
			return nil, err
		}
		if s.Kind == k {
			names = append(names, name)
		}
	}
	return names, nil
}

// Suits returns nil if the series is for trees of that kind, else a
// *ktree.UnsupportedError that says what is for the tree.
func (s *Set) Suits(tree *ktree.Tree) error {
	if tree.Kind() == s.Kind {
		return nil
	}
	others, err := For(tree.Kind())
	if err != nil {
		return err
	}
	what := "no series is for it"
	if len(others) > 0 {
		what = "give --series " + strings.Join(others, " or ")
	}
	return &ktree.UnsupportedError{Name: tree.Origin(), Problem: fmt.Sprintf("is a tree of %v %s, and the series %s is for %v: %s", tree.Kind(), tree.Release(), s.Name, s.Kind, what)}
}

// Classify returns the generation that the tree is of. The error is that of
// Suits, or of ktree's Classify.
func (s *Set) Classify(tree *ktree.Tree) (Generation, error) {
	if err := s.Suits(tree); err != nil {
		return Generation{}, err
	}
	gen, err := tree.Classify(s.generations())
	if err != nil {
		return Generation{}, err
	}
	i := slices.IndexFunc(s.Generations, func(g Generation) bool { return g.Name == gen.Name })
	return s.Generations[i], nil
}

// Results returns how the tree does in the tests of each generation, the nearest
// first.
func (s *Set) Results(tree *ktree.Tree) ([]ktree.Result, error) {
	return tree.Results(s.generations())
}

func (s *Set) generations() []ktree.Generation {
	gens := make([]ktree.Generation, len(s.Generations))
	for i, g := range s.Generations {
		gens[i] = g.Generation
	}
	return gens
}

// Manifests that are no variant.
const (
	generationsFile = "generations.toml"
	mutantsFile     = "mutants.toml"
	placesFile      = "places.toml"
)

// Variants lists the variants of the set, sorted.
func (s *Set) Variants() []string {
	files, err := fs.Glob(s.files, "*.toml")
	if err != nil {
		panic(err) // only for a malformed pattern
	}
	var names []string
	for _, f := range files {
		if f != generationsFile && f != mutantsFile && f != placesFile {
			names = append(names, strings.TrimSuffix(f, ".toml"))
		}
	}
	return names
}

// Variant reads the manifest of one variant. The error says which there are.
func (s *Set) Variant(name string) (*Variant, error) {
	if !slices.Contains(s.Variants(), name) {
		return nil, fmt.Errorf("series %s has no variant %q; there is: %s", s.Name, name, strings.Join(s.Variants(), ", "))
	}
	v := &Variant{}
	if err := s.decode(name+".toml", v); err != nil {
		return nil, err
	}
	for i := range v.Patches {
		if p := &v.Patches[i]; p.Of != "" {
			if err := s.take(name, p); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// take fills in a patch of a variant that is another's.
func (s *Set) take(name string, p *Patch) error {
	fail := func(problem string) error {
		return fmt.Errorf("templates/%s/%s.toml: patch %q of %q: %s", s.Name, name, p.Name, p.Of, problem)
	}
	if len(p.New)+len(p.Edits) > 0 {
		return fail("has changes of its own")
	}
	if p.Of == name || !slices.Contains(s.Variants(), p.Of) {
		return fail("no such other variant")
	}
	other := &Variant{}
	if err := s.decode(p.Of+".toml", other); err != nil {
		return err
	}
	i := slices.IndexFunc(other.Patches, func(o Patch) bool { return o.Name == p.Name })
	if p.Name == "" || i < 0 || other.Patches[i].Of != "" {
		return fail("it has no patch of that name of its own")
	}
	theirs := other.Patches[i]
	p.When = slices.Concat(theirs.When, p.When)
	p.Message = cmp.Or(p.Message, theirs.Message)
	p.New, p.Edits = theirs.New, theirs.Edits
	return nil
}

// Mutants reads the set's mutants.toml.
func (s *Set) Mutants() ([]Mutant, error) {
	var m struct {
		Mutants []Mutant `toml:"mutant"`
	}
	err := s.decode(mutantsFile, &m)
	return m.Mutants, err
}

// Places reads the set's places.toml.
func (s *Set) Places() ([]Place, error) {
	var m struct {
		Places []Place `toml:"place"`
	}
	err := s.decode(placesFile, &m)
	return m.Places, err
}

// Digest is the SHA-256 of all files of the set that decide what is emitted, with
// their names, in hex. The mutants and places do not: they only test it, and a
// better test is no other series.
func (s *Set) Digest() string {
	h := sha256.New()
	err := fs.WalkDir(s.files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == mutantsFile || name == placesFile {
			return err
		}
		data, err := fs.ReadFile(s.files, name)
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
		return err
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	return hex.EncodeToString(h.Sum(nil))
}

// RenderFile renders a template file of the set.
func (s *Set) RenderFile(file string, d Data) (string, error) {
	text, err := fs.ReadFile(s.files, file)
	if err != nil {
		return "", fmt.Errorf("templates/%s: %w", s.Name, err)
	}
	return s.Render(file, string(text), d)
}

// Render renders a template that stands in a manifest; name is for messages. Besides
// what text/template has there is base, the last part of a path.
func (s *Set) Render(name, text string, d Data) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	name = path.Join("templates", s.Name, name)
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"base": path.Base}).Parse(text)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, d); err != nil {
		return "", err
	}
	return out.String(), nil
}
