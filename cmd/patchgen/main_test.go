package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"patchgen": main})
}

// TestScripts runs testdata/script, which reads as a tutorial. Each script has a
// stand-in for a kernel tree in linux/.
func TestScripts(t *testing.T) {
	tree, err := filepath.Abs("../../series/testdata/linux")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("GIT_CONFIG_NOSYSTEM", "1")
			env.Setenv("TZ", "UTC")
			return os.CopyFS(filepath.Join(env.WorkDir, "linux"), os.DirFS(tree))
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}
