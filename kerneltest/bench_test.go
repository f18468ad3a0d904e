//go:build kernel

package kerneltest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// measured is what is read of patchgen bench's JSON, told once more and not by the
// program.
type measured struct {
	Verdict      string `json:"verdict"`
	Command      string `json:"command"`
	Kernel       string `json:"kernel"`
	QEMU         string `json:"qemu"`
	Instructions []struct {
		State        string `json:"state"`
		Call         string `json:"call"`
		Bytes        int    `json:"bytes"`
		Instructions int64  `json:"instructions"`
		Most         int64  `json:"most"`
	} `json:"instructions"`
	Sizes []struct {
		Kernel string `json:"kernel"`
		Text   int64  `json:"text"`
		Data   int64  `json:"data"`
		BSS    int64  `json:"bss"`
	} `json:"sizes"`
}

// TestBench runs patchgen bench twice: the figures that it calls exact must be the same,
// and stand to each other as what they are of does.
func TestBench(t *testing.T) {
	c := newTester(t)
	var runs [2]measured
	for i := range runs {
		file := filepath.Join(t.TempDir(), "cost.json")
		begin := time.Now()
		cmd := exec.CommandContext(t.Context(), c.patchgen, "bench", "--tree", absolute(t, *proofTree), "--tests", "instructions,size", "--accel", "tcg", "--json", file)
		out, err := cmd.Output()
		say("%s: %v after %v", t.Name(), cmd.ProcessState, time.Since(begin).Round(time.Second/10))
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				t.Logf("%s", exit.Stderr)
			}
			t.Fatalf("%v\n%s", err, out)
		}
		if i == 0 {
			say("%s", out)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &runs[i]); err != nil {
			t.Fatal(err)
		}
		if r := &runs[i]; r.Verdict != "pass" || r.QEMU == "" || r.Kernel == "" || !strings.HasPrefix(r.Command, "patchgen bench --tree ") {
			t.Errorf("%+v", r)
		}
		if !strings.Contains(string(out), "Nothing varies") || strings.Contains(string(out), "varied") {
			t.Error("the tables do not say that nothing varied")
		}
	}
	if d := cmp.Diff(runs[0], runs[1]); d != "" {
		t.Errorf("the second run differs:\n%s", d)
	}
	runs[0].judgeCalls(t)
	runs[0].judgeSizes(t)
}

func (m *measured) judgeCalls(t *testing.T) {
	of := make(map[string]int64)
	for _, c := range m.Instructions {
		of[fmt.Sprint(c.State, " ", c.Call, " ", c.Bytes)] = c.Instructions
		if c.Most != c.Instructions || c.Instructions < 1 {
			t.Errorf("%s %s of %d bytes: %d to %d instructions", c.State, c.Call, c.Bytes, c.Instructions, c.Most)
		}
	}
	const page, most = 4 << 10, 1 << 20
	lengths := []int{64, page, 64 << 10, most}
	if want := 5 * 2 * len(lengths); len(of) != want || len(m.Instructions) != want {
		t.Fatalf("%d figures, want %d", len(m.Instructions), want)
	}
	for _, call := range []string{"dma_unmap_page", "dma_sync_single_for_cpu"} {
		get := func(state string, n int) int64 { return of[fmt.Sprint(state, " ", call, " ", n)] }
		for _, n := range lengths {
			// What is not on does not look at the length.
			for _, state := range []string{"without", "off", "armed"} {
				if get(state, n) != get(state, 64) {
					t.Errorf("%s, %s: %d instructions for %d bytes, %d for 64", call, state, get(state, n), n, get(state, 64))
				}
			}
			// Off is a NOP, and the registers that are kept for the call behind it.
			if more := get("off", n) - get("without", n); more < 0 || more > 10 {
				t.Errorf("%s of %d bytes: off takes %d instructions more than without the series", call, n, more)
			}
			if get("armed", n) < get("off", n) || get("on", n) <= get("armed", n) || get("rfc", n) <= get("without", n) {
				t.Errorf("%s of %d bytes: off %d, armed %d, on %d, rfc %d", call, n, get("off", n), get("armed", n), get("on", n), get("rfc", n))
			}
		}
		// Unmapping is not left out without the series: there armed is as off.
		if call == "dma_unmap_page" && get("armed", 64) != get("off", 64) {
			t.Errorf("%s: armed %d, off %d", call, get("armed", 64), get("off", 64))
		}
		for _, state := range []string{"on", "rfc"} {
			// Linear, to the instruction: as much for each page.
			whole, part := get(state, most)-get(state, page), get(state, 64<<10)-get(state, page)
			if per := part / 15; part%15 != 0 || whole != 255*per || per < 3 || per > 100 {
				t.Errorf("%s, %s: %d instructions for 15 further pages, %d for 255", call, state, part, whole)
			}
			if get(state, 64) != get(state, page) {
				t.Errorf("%s, %s: %d instructions for 64 bytes, and %d for a page", call, state, get(state, 64), get(state, page))
			}
		}
	}
}

func (m *measured) judgeSizes(t *testing.T) {
	var names []string
	for _, s := range m.Sizes {
		names = append(names, s.Kernel)
	}
	if want := []string{"without", "off", "on", "rfc"}; !slices.Equal(names, want) {
		t.Fatalf("the sizes are of %v, want %v", names, want)
	}
	without, off, on, rfc := m.Sizes[0], m.Sizes[1], m.Sizes[2], m.Sizes[3]
	off.Kernel = without.Kernel
	if off != without {
		t.Errorf("with the option off: %+v, without the series: %+v", off, without)
	}
	if more := on.Text - without.Text; more <= 0 || more > 8<<10 {
		t.Errorf("with the option on there are %d bytes more of text", more)
	}
	if more := rfc.Text - without.Text; more <= 0 || more > on.Text-without.Text {
		t.Errorf("rfc has %d bytes more of text", more)
	}
}
