//go:build kernel

package qemutest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

func TestProve(t *testing.T) {
	p := Proof{
		QEMU: "qemu-system-x86_64", Accel: "tcg",
		Kernels:   map[string]string{Unpatched: os.Getenv("UNPATCHED"), Patched: os.Getenv("PATCHED")},
		Initramfs: os.Getenv("INITRAMFS"),
		CPUs:      []int{1, 2}, Memory: 256 << 20, Written: 32 << 20, Packets: 1024, Seed: 1, Limit: time.Minute,
		Consoles: t.TempDir(),
		Done: func(r Outcome) {
			n := len(r.Lost)
			for i, l := range r.Lost {
				if i < 3 {
					t.Log(l)
				}
			}
			r.Lost = nil
			b, _ := json.Marshal(r)
			t.Logf("%d %s", n, b)
		},
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	_, err := p.Prove(t.Context())
	if err != nil {
		t.Error(err)
		if e, ok := err.(*RunError); ok {
			for _, name := range e.Consoles {
				b, _ := os.ReadFile(name)
				t.Logf("%s\n%s", name, b[max(0, len(b)-3000):])
			}
		}
	}
	_ = strings.Join
}
