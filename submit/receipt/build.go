package receipt

import (
	"time"

	"patchgen/kbuild"
	"patchgen/qemubuild"
)

// NewBuild returns what kbuild.CheckPatches showed of a tree from origin.
func NewBuild(c *kbuild.Checked, origin string, now time.Time) *Build {
	b := &Build{Time: now.UTC().Truncate(time.Second), Origin: public(origin), Compiler: c.Compiler, Sparse: c.Sparse, Folders: c.Folders}
	for _, p := range c.Patches {
		off := compiled(p.Off)
		build := PatchBuild{Off: &off}
		if p.On != nil {
			on := compiled(*p.On)
			build.On = &on
		}
		b.Patches = append(b.Patches, build)
	}
	return b
}

// NewBuildOfQEMU returns what qemubuild.CheckPatches showed of a tree from origin.
func NewBuildOfQEMU(c *qemubuild.Checked, origin string, now time.Time) *Build {
	b := &Build{Time: now.UTC().Truncate(time.Second), Origin: public(origin), Compiler: c.Compiler, Folders: []string{c.Target}}
	for _, p := range c.Patches {
		r := Compiled{Compiled: notNil(p.Compiled), New: notNil(p.New), Gone: []string{}}
		if p.Err != nil {
			r.Error = p.Err.Error()
		}
		b.Patches = append(b.Patches, PatchBuild{Off: &r})
	}
	return b
}

func compiled(c kbuild.CheckedBuild) Compiled {
	r := Compiled{Config: c.Config, Compiled: notNil(c.Compiled), Left: c.NotCompiled, New: texts(c.New), Gone: texts(c.Gone)}
	switch {
	case c.Err != nil:
		r.Error = c.Err.Error()
	case c.Lost != nil:
		r.Lost = c.Lost.Error()
	}
	return r
}

func notNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func texts(warnings []kbuild.Warning) []string {
	all := []string{}
	for _, w := range warnings {
		all = append(all, w.String())
	}
	return all
}
