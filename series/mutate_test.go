package series

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/ktree"
	"patchgen/templates"
)

// mutants renders the series for a tree and makes the wrong ones of it.
func mutants(t *testing.T, tree *ktree.Tree) (*templates.Set, []Change, []Mutant) {
	t.Helper()
	set, err := templates.Load("dma-mark-dirty")
	if err != nil {
		t.Fatal(err)
	}
	s, err := render(t, tree)
	if err != nil {
		t.Fatal(err)
	}
	changes := s.Changes()
	all, err := Mutants(tree, set, changes)
	if err != nil {
		t.Fatal(err)
	}
	return set, changes, all
}

// Each mutant is another series, and the one that it was made of stays as it is.
func TestMutants(t *testing.T) {
	tree := standIn(t, nil)
	set, changes, all := mutants(t, tree)
	written, err := set.Mutants()
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, m := range written {
		if !slices.ContainsFunc(all, func(have Mutant) bool { return have.Name == m.Name }) {
			left = append(left, m.Name)
		}
	}
	if diff := cmp.Diff([]string{"no-require-coherent-hook", "coherent-memory-marked", "no-swiotlb-unmap-hook", "swiotlb-unmap-bidirectional-lost", "no-swiotlb-sync-hook", "no-pci-swiotlb"}, left); diff != "" {
		t.Errorf("left out for the stand-in (-want +got)\n%s", diff)
	}

	again, err := render(t, tree)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(again.Changes(), changes); diff != "" {
		t.Errorf("to make mutants has changed the series:\n%s", diff)
	}
	seen := make(map[string]string)
	for _, m := range all {
		var wrong strings.Builder
		for i, c := range m.Changes {
			if c.Path != changes[i].Path || !bytes.Equal(c.Before, changes[i].Before) {
				t.Fatalf("%s has other files than the series", m.Name)
			}
			if !bytes.Equal(c.After, changes[i].After) {
				wrong.WriteString(c.Path)
				wrong.Write(c.After)
				if bytes.Contains(c.After, []byte("{{")) {
					t.Errorf("%s: %s was not rendered whole", m.Name, c.Path)
				}
			}
		}
		if twin, ok := seen[wrong.String()]; ok || wrong.Len() == 0 {
			t.Errorf("%s is the same as %q", m.Name, twin)
		}
		seen[wrong.String()] = m.Name
	}
}

func TestMutate(t *testing.T) {
	set, err := templates.Load("dma-mark-dirty")
	if err != nil {
		t.Fatal(err)
	}
	r := renderer{set: set, data: templates.Data{Has: map[string]bool{"dma_skip_sync": true}, Name: map[string]string{"unmap": "unmap_page"}}}
	changes := []Change{
		{Path: "a.c", After: []byte("mark(unmap_page);\nmark(x);\n")},
		{Path: "b.c", After: []byte("mark();\n")},
	}
	change := func(file, old, new string, count int, when ...string) templates.MutantChange {
		return templates.MutantChange{File: file, Old: old, New: new, Count: count, When: when}
	}
	for _, tt := range []struct {
		name    string
		changes []templates.MutantChange
		a, b    string // what becomes of the files, or else
		err     string
	}{
		{"once", []templates.MutantChange{change("a.c", "mark({{.Name.unmap}});\n", "", 0)}, "mark(x);\n", "mark();\n", ""},
		{"twice", []templates.MutantChange{change("a.c", "mark", "no", 2)}, "no(unmap_page);\nno(x);\n", "mark();\n", ""},
		{"two files", []templates.MutantChange{change("a.c", "x", "y", 1), change("b.c", "()", "(0)", 1)},
			"mark(unmap_page);\nmark(y);\n", "mark(0);\n", ""},
		{"one behind the other", []templates.MutantChange{change("a.c", "x", "y", 1), change("a.c", "y", "z", 1)},
			"mark(unmap_page);\nmark(z);\n", "mark();\n", ""},
		{"when", []templates.MutantChange{change("b.c", "()", "(0)", 0, "dma_skip_sync"), change("b.c", "()", "(1)", 0, "!dma_skip_sync")},
			"mark(unmap_page);\nmark(x);\n", "mark(0);\n", ""},
		{"too often", []templates.MutantChange{change("a.c", "mark", "", 0)}, "", "", "a.c has this text 2 times, want 1"},
		{"not there", []templates.MutantChange{change("b.c", "x", "", 3)}, "", "", "b.c has this text 0 times, want 3"},
		{"no such file", []templates.MutantChange{change("c.c", "x", "", 0)}, "", "", "the series does not change c.c"},
		{"no text", []templates.MutantChange{change("a.c", "", "x", 0)}, "", "", "old is empty"},
		{"nothing changed", []templates.MutantChange{change("b.c", "()", "(0)", 0, "!dma_skip_sync")}, "", "", "it is the series as it is"},
		{"no such feature", []templates.MutantChange{change("b.c", "()", "(0)", 0, "tpyo")}, "", "", "no feature \"tpyo\""},
	} {
		got, err := r.mutate(templates.Mutant{Name: tt.name, Changes: tt.changes}, changes)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil || string(got[0].After) != tt.a || string(got[1].After) != tt.b {
			t.Errorf("%s: got %q, %v", tt.name, got, err)
		}
		if string(changes[0].After) != "mark(unmap_page);\nmark(x);\n" || string(changes[1].After) != "mark();\n" {
			t.Fatalf("%s: the input was changed: %q", tt.name, changes)
		}
	}
}
