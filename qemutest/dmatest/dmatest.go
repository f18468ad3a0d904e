// Package dmatest has the sources of a kernel module that maps memory for a PCI
// device with each call of the DMA API, and hands it back, as the guest's agent
// says. module/dmatest.c tells what it is asked and how its memory is laid out.
package dmatest

import "embed"

// Name is the module's, and that of its file without the .ko.
const Name = "dmatest"

// A folder of their own keeps C files from being the package's.
//
//go:embed module/dmatest.c module/Kbuild
var files embed.FS

// Files returns the contents of the module's files by their names.
func Files() map[string][]byte {
	m := make(map[string][]byte)
	for _, name := range []string{"dmatest.c", "Kbuild"} {
		data, err := files.ReadFile("module/" + name)
		if err != nil {
			panic(err) // they are embedded
		}
		m[name] = data
	}
	return m
}
