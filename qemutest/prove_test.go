package qemutest

import (
	"context"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchgen/initramfs/protocol"
	"patchgen/qemutest/qmp"
	"patchgen/qemutest/vhostuser"
)

func TestCheck(t *testing.T) {
	good := Proof{CPUs: []int{1, 2}, Memory: 256 << 20, Written: 32 << 20, Packets: 1024, Limit: time.Minute}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Proof){
		"memory of 64 MiB: want an even number of MiB, at least 128":              func(p *Proof) { p.Memory = 64 << 20 },
		"memory of 257 MiB: want an even number of MiB, at least 128":             func(p *Proof) { p.Memory = 257 << 20 },
		"memory of 256 MiB is too little for what is to be written: want 360 MiB": func(p *Proof) { p.Written = 256 << 20 },
		"5000 bytes to write: want whole pages of 4096 bytes":                     func(p *Proof) { p.Written = 5000 },
		"-1 packets: want none or more":                                           func(p *Proof) { p.Packets = -1 },
		"0 vCPUs: want 1 to 8":                                                    func(p *Proof) { p.CPUs = []int{0} },
		"no number of vCPUs is given":                                             func(p *Proof) { p.CPUs = nil },
	} {
		p := good
		change(&p)
		if err := p.Check(); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// TestFrame reads a frame as RFC 791 and RFC 768 say.
func TestFrame(t *testing.T) {
	f := frame(7, 300)
	if len(f) != 4000 {
		t.Errorf("%d bytes", len(f))
	}
	if string(f[:6]) != "\x52\x54\x00\x00\x00\x01" || string(f[12:14]) != "\x08\x00" {
		t.Errorf("Ethernet header % x", f[:14])
	}
	ip := f[14:]
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum != 0xffff {
		t.Errorf("IP header % x has the sum %#x", ip[:20], sum)
	}
	if to, _ := netip.AddrFromSlice(ip[16:20]); to.String() != protocol.GuestAddress || int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
		t.Errorf("IP header % x", ip[:20])
	}
	if udp := ip[20:]; int(binary.BigEndian.Uint16(udp[2:])) != protocol.GuestPort || int(binary.BigEndian.Uint16(udp[4:])) != len(udp) {
		t.Errorf("UDP header % x", udp[:8])
	}
	if binary.LittleEndian.Uint64(ip[28:]) != 300 || !protocol.Check(ip[36:], 7, 300) {
		t.Error("payload")
	}
}

func TestSectors(t *testing.T) {
	tr := &trial{Proof: &Proof{}, seed: 5}
	whole := make([]byte, 3*pageSize)
	tr.sectors(whole, 2*pageSize)
	for i := range 3 {
		if !protocol.Check(whole[i*pageSize:][:pageSize], 5, uint64(2+i)) {
			t.Errorf("page %d", 2+i)
		}
	}
	part := make([]byte, 5000)
	tr.sectors(part, 2*pageSize+512)
	if string(part) != string(whole[512:5512]) {
		t.Error("sectors inside pages")
	}
}

func TestNumbers(t *testing.T) {
	m := testMemory(t, 0xb000_0000)
	tr := &trial{Proof: &Proof{}, moved: &migration{source: &guest{ram: m}}}
	above := uint64(aboveHole / pageSize)
	got, err := tr.numbers([]protocol.Run{{5, 2}, {above, 1}}, 3)
	if diff := cmp.Diff([]int64{5, 6, lowSize / pageSize}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for name, runs := range map[string][]protocol.Run{
		"too few":   {{5, 2}},
		"too many":  {{5, 4}},
		"endless":   {{5, ^uint64(0)}},
		"hole":      {{lowSize / pageSize, 3}},
		"behind":    {{above + 0x30000, 3}},
		"overflow":  {{^uint64(0), 3}},
		"overflow2": {{1 << 52, 3}},
	} {
		if got, err := tr.numbers(runs, 3); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestJudge(t *testing.T) {
	blind := []Driver{{"virtio_blk", 8, 8}, {"virtio_net", 4, 4}}
	for _, test := range []struct {
		run  int // of Runs
		o    Outcome
		want string
	}{
		{0, Outcome{Written: 8}, Pass},
		{0, Outcome{Written: 8, Missed: 1}, Unfit},
		{0, Outcome{Written: 8, others: 1}, Unfit},
		{3, Outcome{Written: 8, stale: 1}, Unfit},
		{1, Outcome{Written: 12, Missed: 12, Drivers: blind}, Pass},
		{1, Outcome{Written: 12, Missed: 0, Drivers: []Driver{{"virtio_blk", 8, 0}}}, Unfit},
		{1, Outcome{Written: 12, Missed: 8, Drivers: []Driver{{"virtio_blk", 8, 8}, {"virtio_net", 4, 0}}}, Unfit},
		{1, Outcome{Written: 12, Missed: 12, Drivers: blind, others: 1}, Unfit},
		{2, Outcome{Written: 12}, Pass},
		{2, Outcome{Written: 12, Missed: 1}, Unfit},
		{3, Outcome{Written: 12}, Pass},
		{3, Outcome{Written: 12, Missed: 1}, Lost},
		{3, Outcome{Written: 12, Missed: 1, others: 1}, Unfit},
		{4, Outcome{Written: 12, Missed: 12, Drivers: blind}, Pass},
		{4, Outcome{Written: 12, Missed: 4, Drivers: []Driver{{"virtio_blk", 8, 0}, {"virtio_net", 4, 4}}}, Fail},
	} {
		o := test.o
		o.judge(Runs[test.run])
		if o.Verdict != test.want || (o.Why == "") != (o.Verdict == Pass) {
			t.Errorf("%s with %+v: %s: %s, want %s", Runs[test.run].Name, test.o, o.Verdict, o.Why, test.want)
		}
	}
}

// TestCount: what was written and not sent in a later pass is missed, even if it
// arrived by chance; what was, and differs, is the migration's fault; what nobody
// wrote is nobody's, and what is in a ring is left out.
func TestCount(t *testing.T) {
	m := testMemory(t, 1<<20)
	s := newSends(newTrace(io.Discard), 1<<20)
	tr := &trial{Proof: &Proof{}, moved: &migration{source: &guest{ram: m}, sends: s}}
	tr.stored = map[int64]store{
		1: {"virtio_blk", vhostuser.Write{Kind: vhostuser.Data, Source: 4096, At: 1500 * time.Microsecond, Pass: 2}},
		2: {"virtio_blk", vhostuser.Write{Kind: vhostuser.Status, Pass: 2}},
		3: {"virtio_net", vhostuser.Write{Kind: vhostuser.Header, Pass: 2}},
		4: {"virtio_net", vhostuser.Write{Kind: vhostuser.Ring, Pass: 2}},
		5: {"virtio_net", vhostuser.Write{Kind: vhostuser.Data, Pass: 3}},
		6: {"virtio_net", vhostuser.Write{Kind: vhostuser.Data, Pass: 2}},
	}
	for page, pass := range map[int64]uint32{1: 1, 2: 3, 3: 2, 4: 1, 5: 4, 6: 3} {
		s.pages[page].last = pass
	}
	var o Outcome
	tr.count(&o, []int64{1, 4, 6, 9})
	want := Outcome{
		Written: 5, Missed: 2, Others: []uint64{9 * 4096},
		Drivers: []Driver{{"virtio_blk", 2, 1}, {"virtio_net", 3, 1}},
		Lost: []Page{
			{GPA: 4096, Driver: "virtio_blk", What: "data", Source: 4096, AtMS: 1, Pass: 2},
			{GPA: 3 * 4096, Driver: "virtio_net", What: "header", Pass: 2},
		},
		others: 1, stale: 1,
	}
	if diff := cmp.Diff(want, o, cmp.AllowUnexported(Outcome{})); diff != "" {
		t.Error(diff)
	}
	if got := o.Lost[0].String(); got != "0x1000, data, written by the disk, byte 4096 in pass 2, 1 ms after the migration began" {
		t.Error(got)
	}
}

func TestWatch(t *testing.T) {
	w := newWatch()
	send := func(name, data string) { w.event(qmp.Event{Name: name, Data: []byte(data)}) }
	send("MIGRATION", `{"status": "setup"}`)
	send("STOP", `{"status": "completed"}`)
	send("MIGRATION", `{"status": 7}`)
	send("MIGRATION_PASS", `{"pass": 1}`)
	go func() {
		send("MIGRATION_PASS", `{"pass": 2}`)
		send("MIGRATION", `{"status": "failed"}`)
	}()
	if err := w.wait(t.Context(), "pass", func(_ string, pass int64) bool { return pass == 2 }); err != nil {
		t.Error(err)
	}
	if err := w.wait(t.Context(), "end", func(s string, _ int64) bool { return s == statusCompleted }); err != errFailed {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&CrashError{"source", Panicked, "why"})
	if err := newWatch().wait(ctx, "end", func(string, int64) bool { return false }); !errors.As(err, new(*CrashError)) {
		t.Errorf("got %v", err)
	}
}

// TestHeld: what waits for a guest in the warm-up is told when the guest is stopped.
func TestHeld(t *testing.T) {
	m := migration{from: newWatch()}
	ctx, release := m.held(t.Context())
	defer release()
	m.from.event(qmp.Event{Name: "MIGRATION", Data: []byte(`{"status": "active"}`)})
	if ctx.Err() != nil || m.switched() {
		t.Error("ended too soon")
	}
	m.from.event(qmp.Event{Name: "MIGRATION", Data: []byte(`{"status": "pre-switchover"}`)})
	<-ctx.Done()
	if context.Cause(ctx) != errEarly || !m.switched() {
		t.Error(context.Cause(ctx))
	}
}

func TestConsole(t *testing.T) {
	for name, test := range map[string]struct {
		said string
		end  End
		why  string
	}{
		"sound":        {"[    0.1] Linux version 6.12\r\nBUG in a sentence\r\n", Exited, ""},
		"panic":        {"[    1.000000] Kernel panic - not syncing: sysrq\r\n", Panicked, "Kernel panic - not syncing: sysrq"},
		"oops":         {"[    1.000000] BUG: unable to handle page fault\r\n[    1.000001] Oops: 0002\r\n", Oopsed, "BUG: unable to handle page fault"},
		"oops, panic":  {"[    1.000000] BUG: bad\r\n[    1.000001] Kernel panic - not syncing: x\r\n", Panicked, "Kernel panic - not syncing: x"},
		"no end":       {"[    1.000000] Kernel panic - not syncing: sysrq", Exited, ""},
		"endless":      {strings.Repeat("x", 1<<20) + "\n[    1.000000] Kernel panic - not syncing: a\n", Panicked, "Kernel panic - not syncing: a"},
		"panic, panic": {"Kernel panic - not syncing: a\nKernel panic - not syncing: b\n", Panicked, "Kernel panic - not syncing: a"},
	} {
		t.Run(name, func(t *testing.T) {
			told := 0
			c := &console{tail: tail{max: 1 << 10}, broken: func(End, string) { told++ }}
			for i := 0; i < len(test.said); i += 7 {
				c.Write([]byte(test.said[i:min(i+7, len(test.said))]))
			}
			end, why := c.fault()
			if end != test.end || why != test.why || (told == 1) != (why != "") {
				t.Errorf("%v: %q, told %d times; want %v: %q", end, why, told, test.end, test.why)
			}
			if len(c.partial) > 4096+7 || len(c.Bytes()) > 1<<10 {
				t.Error("unbounded")
			}
		})
	}
}

func sampleReport() *Report {
	r := &Report{Verdict: Pass, Accelerator: "tcg"}
	for _, run := range Runs {
		o := Outcome{Name: run.Name, Kernel: run.Kernel, Device: run.Device, CPUs: 1, Written: 8, Verdict: Pass, Seconds: 1.5}
		if run.Name == "proof" {
			o.Verdict, o.Why, o.Missed = Lost, "1 of 8 pages < all", 1
			o.Lost = []Page{{GPA: 4096, Driver: "virtio_blk", What: "data"}}
		}
		r.add(o)
	}
	r.add(Outcome{Name: "calibration", CPUs: 2, Verdict: Unfit, Why: "unsound"})
	return r
}

func TestReport(t *testing.T) {
	r := sampleReport()
	if r.Verdict != Unfit || r.Why != "calibration run with 2 vCPUs: unsound" {
		t.Errorf("%s: %s", r.Verdict, r.Why)
	}
	var b strings.Builder
	if err := WriteKTAP(&b, []*Report{r}); err != nil {
		t.Fatal(err)
	}
	k := ParseKTAP([]byte(b.String()))
	if err := k.AllPassed("migration_1_vcpus"); err == nil || !strings.Contains(err.Error(), "proof") {
		t.Errorf("KTAP with a failure: %v\n%s", err, &b)
	}
	r.Runs[3].Verdict = Pass
	b.Reset()
	if err := WriteKTAP(&b, []*Report{r}); err != nil {
		t.Fatal(err)
	}
	if err := ParseKTAP([]byte(b.String())).AllPassed("migration_1_vcpus"); err != nil {
		t.Errorf("KTAP without: %v\n%s", err, &b)
	}
}

func TestJUnit(t *testing.T) {
	var b strings.Builder
	if err := WriteJUnit(&b, []*Report{sampleReport()}); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Errors   int    `xml:"errors,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(b.String()), &doc); err != nil {
		t.Fatalf("%v\n%s", err, &b)
	}
	if len(doc.Suites) != 2 || doc.Suites[0].Tests != 5 || doc.Suites[0].Failures != 1 || doc.Suites[1].Errors != 1 {
		t.Fatalf("%+v", doc)
	}
	if c := doc.Suites[0].Cases[3]; c.Failure == nil || c.Failure.Message != "1 of 8 pages < all" || !strings.HasPrefix(c.Failure.Text, "0x1000, data") {
		t.Errorf("%+v", c)
	}
}
