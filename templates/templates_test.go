package templates

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Every file of a set is used by a manifest, every file that a manifest names is
// there and parses, and every feature that is asked for is defined.
func TestSets(t *testing.T) {
	for _, name := range Names() {
		s, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		data := Data{Has: make(map[string]bool), Name: make(map[string]string), BaseCommit: strings.Repeat("0", 40)}
		for _, f := range s.Features {
			data.Has[f.Name] = false
		}
		if len(s.Generations) == 0 {
			t.Errorf("%s has no generations", name)
		}
		for _, g := range s.Generations {
			if len(g.Tests) == 0 {
				t.Errorf("%s: generation %s has no tests", name, g.Name)
			}
			for k, v := range g.Names {
				data.Name[k] = v
			}
		}
		used := []string{"generations.toml"}
		asked := make(map[string]bool)
		use := func(file string) {
			used = append(used, file)
			for _, all := range []bool{false, true} {
				for f := range data.Has {
					data.Has[f] = all
				}
				if _, err := s.RenderFile(file, data); err != nil {
					t.Error(err)
				}
			}
			text, _ := fs.ReadFile(s.files, file)
			for _, m := range hasFeature.FindAllStringSubmatch(string(text), -1) {
				asked[m[1]] = true
			}
		}
		when := func(list []string) {
			for _, w := range list {
				w = strings.TrimPrefix(w, "!")
				if _, ok := data.Has[w]; !ok {
					t.Errorf("%s: when has %q, which is no feature", name, w)
				}
				asked[w] = true
			}
		}
		for _, variant := range s.Variants() {
			v, err := s.Variant(variant)
			if err != nil {
				t.Fatal(err)
			}
			use(variant + ".toml")
			use(v.Cover)
			for _, p := range v.Patches {
				use(p.Message)
				when(p.When)
				for _, n := range p.New {
					use(n.Template)
					when(n.When)
				}
				for _, e := range p.Edits {
					when(e.When)
					if e.Template != "" {
						use(e.Template)
					}
					removes := e.Put == "replace" || e.Put == "function"
					if e.Text != "" && e.Template != "" || e.Text == "" && e.Template == "" && !removes {
						t.Errorf("%s: an edit of %s wants either text or template", name, e.File)
					}
				}
			}
		}
		mutants, err := s.Mutants()
		if err != nil {
			t.Fatal(err)
		}
		use("mutants.toml")
		names := make(map[string]bool)
		named := func(file, name, about string) {
			if !kebab.MatchString(name) || names[file+name] {
				t.Errorf("%s/%s: the name %q is not in kebab case, or not the only one", s.Name, file, name)
			}
			names[file+name] = true
			if about == "" || strings.HasSuffix(about, ".") || strings.Contains(about, "\n") {
				t.Errorf("%s/%s: %s: about = %q is no clause", s.Name, file, name, about)
			}
		}
		for _, m := range mutants {
			named("mutants.toml", m.Name, m.About)
			when(m.When)
			if len(m.Changes) == 0 {
				t.Errorf("%s: the mutant %s changes nothing", name, m.Name)
			}
			for _, c := range m.Changes {
				when(c.When)
				if c.File == "" || c.Old == "" || c.Old == c.New {
					t.Errorf("%s: the mutant %s wants a file, and old and new that differ", name, m.Name)
				}
			}
		}
		places, err := s.Places()
		if err != nil {
			t.Fatal(err)
		}
		use("places.toml")
		for _, p := range places {
			named("places.toml", p.Name, p.About)
			when(p.When)
			if p.File == "" || p.Call == "" || (p.Function == "") == (p.Callers == nil) {
				t.Errorf("%s: the place %s wants a file, a call, and either function or callers", name, p.Name)
			}
			if p.Never && (p.Count > 0 || p.Behind != nil || p.Before != nil) {
				t.Errorf("%s: the place %s is for what is never there", name, p.Name)
			}
		}
		for f := range data.Has {
			if !asked[f] {
				t.Errorf("%s: nobody asks for the feature %s", name, f)
			}
		}
		fs.WalkDir(s.files, ".", func(file string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !slices.Contains(used, file) {
				t.Errorf("%s: nothing uses %s", name, file)
			}
			return err
		})
	}
}

var kebab = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// The digest stands for what is emitted, and not for how that is tested.
func TestDigest(t *testing.T) {
	files := fstest.MapFS{
		"generations.toml": {Data: []byte("[[generation]]\nname = \"A\"\n")},
		"v.toml":           {Data: []byte("cover = \"c\"\n")},
	}
	digest := func() string {
		t.Helper()
		s, err := loadFS("s", files)
		if err != nil {
			t.Fatal(err)
		}
		if v := s.Variants(); !slices.Equal(v, []string{"v"}) {
			t.Errorf("the variants are %v", v)
		}
		return s.Digest()
	}
	before := digest()
	files["mutants.toml"] = &fstest.MapFile{Data: []byte("[[mutant]]\nname = \"m\"\n")}
	files["places.toml"] = &fstest.MapFile{}
	if digest() != before {
		t.Error("mutants and places count")
	}
	files["v.toml"] = &fstest.MapFile{Data: []byte("cover = \"d\"\n")}
	if digest() == before {
		t.Error("a variant does not count")
	}
}

var hasFeature = regexp.MustCompile(`\.Has\.([a-z0-9_]+)`)

func TestMistakes(t *testing.T) {
	for _, tt := range []struct{ name, manifest, want string }{
		{"unknown key", "cover = \"c\"\n[[patch]]\nmesage = \"m\"\n", "unknown key patch.mesage"},
		{"no TOML", "cover =", "v.toml"},
	} {
		s, err := loadFS("s", fstest.MapFS{
			"generations.toml": {Data: []byte("[[generation]]\nname = \"A\"\n")},
			"v.toml":           {Data: []byte(tt.manifest)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Variant("v"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	s, err := Load("dma-mark-dirty")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Render("text", "{{if .Has.tpyo}}x{{end}}", Data{Has: map[string]bool{}}); err == nil {
		t.Errorf("a feature that does not exist gave %q", out)
	}
	if _, err := Load("nonsense"); err == nil || !strings.Contains(err.Error(), "dma-mark-dirty") {
		t.Errorf("got %v, want the names that there are", err)
	}
	if _, err := s.Variant("nonsense"); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("got %v, want the names that there are", err)
	}
}

// A patch can be another variant's, which is then the only place that has it.
func TestOf(t *testing.T) {
	const full = "cover = \"c\"\n[[patch]]\nname = \"a\"\nwhen = [\"x\"]\nmessage = \"m\"\n[[patch.edit]]\nfile = \"f\"\n" +
		"[[patch]]\nname = \"b\"\nof = \"other\"\n"
	load := func(manifest string) (*Variant, error) {
		s, err := loadFS("s", fstest.MapFS{
			"generations.toml": {Data: []byte("[[generation]]\nname = \"A\"\n")},
			"full.toml":        {Data: []byte(full)},
			"v.toml":           {Data: []byte(manifest)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return s.Variant("v")
	}
	for message, want := range map[string]string{"": "m", "message = \"own\"\n": "own"} {
		v, err := load("[[patch]]\nname = \"a\"\nof = \"full\"\nwhen = [\"y\"]\n" + message)
		if err != nil {
			t.Fatal(err)
		}
		p := v.Patches[0]
		if p.Message != want || !slices.Equal(p.When, []string{"x", "y"}) || len(p.Edits) != 1 || p.Edits[0].File != "f" {
			t.Errorf("%+v", p)
		}
	}
	for manifest, want := range map[string]string{
		"[[patch]]\nname = \"c\"\nof = \"full\"\n":                               "no patch of that name",
		"[[patch]]\nof = \"full\"\n":                                             "no patch of that name",
		"[[patch]]\nname = \"b\"\nof = \"full\"\n":                               "of its own",
		"[[patch]]\nname = \"a\"\nof = \"v\"\n":                                  "no such other variant",
		"[[patch]]\nname = \"a\"\nof = \"w\"\n":                                  "no such other variant",
		"[[patch]]\nname = \"a\"\nof = \"full\"\n[[patch.edit]]\nfile = \"f\"\n": "changes of its own",
	} {
		if _, err := load(manifest); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", manifest, err, want)
		}
	}
}
