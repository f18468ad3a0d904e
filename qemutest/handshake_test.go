package qemutest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchgen/qemutest/qmp"
)

func TestHistory(t *testing.T) {
	w := newWatch()
	for _, e := range [][2]string{
		{"MIGRATION", `{"status": "setup"}`},
		{"MIGRATION", `{"status": "wait-page-dirtying"}`},
		{"PAGE_DIRTYING_ANSWER", `{"qom-path": "/machine/peripheral/port1", "generation": 1, "answer": "active"}`},
		{"MIGRATION_PASS", `{"pass": 2}`},
		{"DEVICE_DELETED", `{"path": "/machine/peripheral/disk/virtio-backend"}`},
		{"DEVICE_DELETED", `{"device": "disk", "path": "/machine/peripheral/disk"}`},
		{"DEVICE_DELETED", `{"device": 7}`},
		{"NIC_RX_FILTER_CHANGED", `{}`},
	} {
		w.event(qmp.Event{Name: e[0], Data: json.RawMessage(e[1])})
	}
	want := []string{"setup", statusWaits, answered + "active", gone + "disk"}
	if diff := cmp.Diff(want, w.happened()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.again()
	if status, pass := w.now(); status != "" || pass != 0 || len(w.happened()) > 0 {
		t.Errorf("a watch of the next migration has %q, %d, %v", status, pass, w.happened())
	}
	if diff := cmp.Diff(want, w.all()); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	for range 2 * maxHistory {
		w.event(qmp.Event{Name: "MIGRATION", Data: json.RawMessage(`{"status": "setup"}`)})
	}
	if n := len(w.all()); n != maxHistory {
		t.Errorf("an endless history has %d entries", n)
	}
}

func TestBridges(t *testing.T) {
	with := strings.Join((&bridges{ask: true, poll: 100}).args(true), " ")
	for _, want := range []string{
		"pci-bridge,id=bridge,chassis_nr=3,page-dirtying=on,page-dirtying-poll=100",
		"pcie-root-port,id=port1,chassis=1,page-dirtying=on", "pcie-root-port,id=port2,chassis=2,page-dirtying=on",
		"id=disk", "id=card", "-netdev vhost-user",
	} {
		if !strings.Contains(with, want) {
			t.Errorf("no %q in %s", want, with)
		}
	}
	without := (&bridges{}).args(false)
	if s := strings.Join(without, " "); strings.Contains(s, "page-dirtying") || strings.Contains(s, "vhost-user") || !strings.Contains(s, "port2") {
		t.Error(s)
	}
	// The destination must be the same machine.
	if !slices.Contains(without, "pcie-root-port,id=port1,chassis=1") {
		t.Error(without)
	}
}
