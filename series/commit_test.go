package series

import "testing"

// TestScratch has git check the pack of a scratch repository, in which
// contents and trees come more than once.
func TestScratch(t *testing.T) {
	r, _, _ := emptyScratch(t)
	who, err := thor.signature()
	if err != nil {
		t.Fatal(err)
	}
	s := simple(2)
	s.Patches = append(s.Patches, Patch{Subject: "mm: go back", Changes: []Change{
		{"mm/mark.c", s.Patches[1].Changes[0].After, s.Patches[0].Changes[0].After},
		{"README", s.Patches[1].Changes[1].After, s.Patches[0].Changes[1].After},
		{"sizes/15", nil, make([]byte, 15)}, {"sizes/16", nil, make([]byte, 16)}, {"sizes/2047", nil, make([]byte, 2047)}, {"sizes/2048", nil, make([]byte, 2048)}, {"sizes/300000", nil, make([]byte, 300000)},
	}})
	base, tree, err := s.base(r, who)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := s.messages(who, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.commit(t.Context(), r, base, tree, who, messages); err != nil {
		t.Fatal(err)
	}
	if err := r.flush(); err != nil {
		t.Fatal(err)
	}
	judge(t, r.dir, "fsck", "--strict", "--no-dangling")
}
