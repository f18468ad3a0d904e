package kbuild

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"patchgen/kconfig"
)

// depends returns the "depends on" conditions of the lost symbols, as the
// tree's Kconfig files write them. Those of the menus and ifs around an entry
// are not among them.
func (b *Build) depends(lost []kconfig.Lost) (map[string][]string, error) {
	found := map[string][]string{}
	wanted := map[string]bool{}
	for _, l := range lost {
		wanted[l.Symbol] = true
	}
	err := filepath.WalkDir(b.Source, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), "Kconfig") {
			return err
		}
		if dir, _ := filepath.Rel(b.Source, name); strings.HasPrefix(dir, "arch/") && !strings.HasPrefix(dir, "arch/x86/") {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		symbol := ""
		for line := range bytes.Lines(src) {
			word, rest, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
			switch {
			case line[0] != '\t' && line[0] != ' ' && word != "":
				symbol = ""
				if (word == "config" || word == "menuconfig") && wanted[rest] {
					symbol = rest
					if found[symbol] == nil {
						found[symbol] = []string{}
					}
				}
			case symbol != "" && word == "depends":
				found[symbol] = append(found[symbol], strings.TrimPrefix(rest, "on "))
			}
		}
		return nil
	})
	return found, err
}
