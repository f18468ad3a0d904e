//go:build kernel

package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"patchgen/qemutest/qmp"
)

const (
	qemu    = "qemu-system-x86_64"
	ramSize = 128 << 20
	// Memory that a file is loaded to and that the guest never touches.
	loadedAt, loadedSize = 32 << 20, 32 << 20
)

// need fails the test unless the tools are there.
func need(t *testing.T, tools map[string]string) {
	t.Helper()
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: install the package %s", err, pkg)
		}
	}
}

// run runs a command in dir and returns what it printed to standard output.
func run(ctx context.Context, t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "LC_ALL=C.UTF-8")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", cmd, err, out, complaints.Bytes())
	}
	return out
}

// script returns the file name of analyze-migration.py of QEMU's packaged version,
// taken from the source package: fetched once, with apt's own lists left alone.
func script(ctx context.Context, t *testing.T) (name, version string) {
	need(t, map[string]string{"dpkg-query": "dpkg", "apt-get": "apt", "tar": "tar", "xz": "xz-utils", "python3": "python3"})
	words := strings.Fields(string(run(ctx, t, "", "dpkg-query", "-W", "-f", "${source:Package} ${source:Version}", "qemu-system-x86")))
	if len(words) != 2 {
		t.Fatalf("dpkg-query says %q of qemu-system-x86", words)
	}
	source, version := words[0], words[1]
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	const file = "analyze-migration.py"
	name = filepath.Join(cache, "patchgen", "qemu-scripts", version, file)
	if _, err := os.Stat(name); err == nil {
		return name, version
	}

	dir := t.TempDir()
	// The archives that the machine knows, and the release's backports, with sources.
	const key = "/usr/share/keyrings/debian-archive-keyring.gpg"
	if _, err := os.Stat(key); err != nil {
		t.Fatalf("%v: install the package debian-archive-keyring", err)
	}
	var list bytes.Buffer
	known := run(ctx, t, "", "apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT) $(CODENAME)", "Created-By: Packages", "Origin: Debian")
	for line := range strings.Lines(string(known)) {
		f := strings.Fields(line)
		if len(f) != 4 {
			continue
		}
		fmt.Fprintf(&list, "deb-src [signed-by=%s] %s %s %s\n", key, f[0], f[1], f[2])
		if f[1] == f[3] && f[2] == "main" && !strings.Contains(f[1], "-") {
			fmt.Fprintf(&list, "deb-src [signed-by=%s] %s %s-backports main\n", key, f[0], f[1])
		}
	}
	if list.Len() == 0 {
		t.Fatal("apt's lists on this machine name no Debian archive: run apt-get update")
	}
	sources := filepath.Join(dir, "sources.list")
	if err := os.WriteFile(sources, list.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	apt := func(args ...string) []byte {
		t.Helper()
		return run(ctx, t, dir, "apt-get", append([]string{"-q",
			"-o", "Dir::Etc::sourcelist=" + sources, "-o", "Dir::Etc::sourceparts=/dev/null",
			"-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
			"-o", "APT::Sandbox::User=root", // dir is this user's alone
		}, args...)...)
	}
	apt("update")
	apt("source", "--download-only", "--tar-only", source+"="+version)
	found, _ := filepath.Glob(filepath.Join(dir, "*.orig.tar.*"))
	if len(found) != 1 {
		t.Fatalf("apt-get source left %q", found)
	}
	text := run(ctx, t, dir, "tar", "-x", "-O", "-f", found[0], "--wildcards", "*/scripts/"+file)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), file)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), os.Rename(f.Name(), name)); err != nil {
		t.Fatal(err)
	}
	return name, version
}

// connection returns one end of a connection, and the other for QEMU.
func connection(t *testing.T) (*net.UnixConn, *os.File) {
	t.Helper()
	ours, theirs := pair(t)
	f, err := theirs.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() { f.Close() })
	return ours.(*net.UnixConn), f
}

// start runs a QEMU whose memory is the file ram.
func start(ctx context.Context, t *testing.T, ram string, args ...string) *qmp.Client {
	t.Helper()
	conn, control := connection(t)
	cmd := exec.CommandContext(ctx, qemu, append([]string{
		"-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-cpu", "max",
		"-machine", "q35,memory-backend=ram", "-m", fmt.Sprint(ramSize >> 20),
		"-object", fmt.Sprintf("memory-backend-file,id=ram,size=%d,share=on,mem-path=%s", ramSize, ram),
		"-device", "VGA", // has memory of its own
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
	}, args...)...)
	cmd.ExtraFiles = []*os.File{control}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	runtime.LockOSThread() // until the test's end: QEMU dies with the thread that started it
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	control.Close()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("QEMU said: %s", said.Bytes())
		}
	})
	c, err := qmp.New(ctx, conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func do(ctx context.Context, t *testing.T, c *qmp.Client, command string, args any) {
	t.Helper()
	if err := c.Do(ctx, command, args, nil); err != nil {
		t.Fatal(err)
	}
}

type migrationInfo struct {
	Status string
	Error  string `json:"error-desc"`
	RAM    struct {
		Normal, Duplicate int64
		Syncs             int64 `json:"dirty-sync-count"`
	}
}

// await asks for the migration's state until it is what is wanted.
func await(ctx context.Context, t *testing.T, c *qmp.Client, wanted func(migrationInfo) bool) migrationInfo {
	t.Helper()
	for {
		var info migrationInfo
		if err := c.Do(ctx, "query-migrate", nil, &info); err != nil {
			t.Fatal(err)
		}
		if info.Status == "failed" || info.Status == "cancelled" {
			t.Fatalf("the migration: %+v", info)
		}
		if wanted(info) {
			return info
		}
		if info.Status == "completed" {
			t.Fatalf("the migration has ended too early: %+v", info)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// The boot sector writes to 128 pages, from 64 KiB on, for ever. Of the upper half
// each goes between zeros and something else, at eight speeds.
var bootCode = []byte{
	0x31, 0xdb, // xor bx, bx
	0x43,             // again: inc bx
	0xb8, 0x00, 0x10, // mov ax, 0x1000
	0x8e, 0xc0, // page: mov es, ax
	0x89, 0xda, // mov dx, bx
	0x80, 0xfc, 0x50, // cmp ah, 0x50
	0x72, 0x0a, // jb store
	0x88, 0xe1, // mov cl, ah
	0x80, 0xe1, 0x07, // and cl, 7
	0xd3, 0xea, // shr dx, cl
	0x83, 0xe2, 0x01, // and dx, 1
	0x26, 0x89, 0x16, 0x00, 0x00, // store: mov [es:0], dx
	0x80, 0xc4, 0x01, // add ah, 1
	0x80, 0xfc, 0x90, // cmp ah, 0x90
	0x72, 0xe0, // jb page
	0xeb, 0xda, // jmp again
}

// An image is the memory that a stream leaves behind.
type image struct {
	blocks    []Block
	memory    [][]byte // all pages, by block
	extracted [][]byte // without those sent as one byte, which analyze-migration.py -x does not write

	normal, duplicate int64
	ends              int // last sections
	again             int // normal pages that were sent before
	cleared           int // pages sent as one byte after they were normal
	word, data        int // where the first page of the loaded memory stands: its address, its bytes
}

func rebuild(t *testing.T, stream []byte, next func() int) *image {
	t.Helper()
	m := new(image)
	var sent []map[int64]bool
	var r *Reader
	r = NewReader(Options{
		MaxRAM: ramSize + 64<<20,
		Section: func(last bool) error {
			if last {
				m.ends++
			}
			for i := len(m.memory); i < len(r.Blocks()); i++ {
				size := r.Blocks()[i].Size
				m.memory, m.extracted = append(m.memory, make([]byte, size)), append(m.extracted, make([]byte, size))
				sent = append(sent, make(map[int64]bool))
			}
			return nil
		},
		Page: func(p Page) error {
			at := m.memory[p.Block][p.Offset:][:pageSize]
			if p.Data == nil {
				m.duplicate++
				for i := range at {
					at[i] = p.Fill
				}
				if sent[p.Block][p.Offset] {
					m.cleared++
				}
				return nil
			}
			m.normal++
			copy(at, p.Data)
			copy(m.extracted[p.Block][p.Offset:], p.Data)
			if sent[p.Block][p.Offset] {
				m.again++
			}
			sent[p.Block][p.Offset] = true
			if m.data == 0 && r.blocks[p.Block].Size == ramSize && p.Offset >= loadedAt && p.Offset < loadedAt+loadedSize {
				m.word, m.data = int(r.wordAt), int(r.offset)
			}
			return nil
		},
	})
	if err := errors.Join(feed(r, stream, next), r.Close()); err != nil {
		t.Fatal(err)
	}
	m.blocks = r.Blocks()
	return m
}

// extract has QEMU's script take the stream apart, and returns the folder in which
// it puts the blocks.
func extract(ctx context.Context, t *testing.T, script string, stream []byte) string {
	t.Helper()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "stream")
	if err := os.WriteFile(file, stream, 0o666); err != nil {
		t.Fatal(err)
	}
	run(ctx, t, dir, "python3", script, "-x", "-f", file)
	return dir
}

// differ returns how many pages there are in which a differs from b, and the first.
func differ(a, b []byte) (n int, first string) {
	if len(a) != len(b) {
		return 1, fmt.Sprintf("%d bytes, want %d", len(a), len(b))
	}
	for i := 0; i < len(a); i += pageSize {
		if !bytes.Equal(a[i:i+pageSize], b[i:i+pageSize]) {
			if n++; n == 1 {
				first = fmt.Sprintf("at %#x", i)
			}
		}
	}
	return n, first
}

// disagree compares the image with the files that the script has made.
func (m *image) disagree(t *testing.T, dir string) (problems []string) {
	t.Helper()
	for i, b := range m.blocks {
		want, err := os.ReadFile(filepath.Join(dir, b.Name))
		if err != nil {
			t.Fatal(err)
		}
		if n, first := differ(m.extracted[i], want); n > 0 {
			problems = append(problems, fmt.Sprintf("block %q: %d pages differ, the first %s", b.Name, n, first))
		}
	}
	return problems
}

// TestQEMU holds what is read of a live migration against what three others say of
// it: QEMU's script for such streams, of the same version; QEMU's counters; and the
// memory of a QEMU that the stream is given to.
func TestQEMU(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	need(t, map[string]string{qemu: "qemu-system-x86"})
	analyze, version := script(ctx, t)

	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	disk := make([]byte, 1<<20)
	copy(disk, bootCode)
	copy(disk[510:], "\x55\xaa")
	loaded := make([]byte, 0, loadedSize)
	for r := rand.New(rand.NewPCG(7, 8)); len(loaded) < loadedSize; {
		loaded = append(loaded, noise(r)...)
	}
	for name, data := range map[string][]byte{"disk": disk, "loaded": loaded} {
		if err := os.WriteFile(in(name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}

	source := start(ctx, t, in("source"), "-drive", "if=none,id=disk,format=raw,readonly=on,file="+in("disk"), "-device", "virtio-blk-pci,drive=disk",
		"-device", fmt.Sprintf("loader,file=%s,addr=%d,force-raw=on", in("loaded"), loadedAt))
	if v := fmt.Sprintf("%d.%d.%d", source.Version.Major, source.Version.Minor, source.Version.Micro); !strings.Contains(version, v) {
		t.Fatalf("%s is QEMU %s, and the package qemu-system-x86 is of version %s", qemu, v, version)
	}
	running := make([]byte, 2)
	for ram, err := os.Open(in("source")); running[0] == 0; time.Sleep(10 * time.Millisecond) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ram.ReadAt(running, 64<<10); err != nil {
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			t.Fatal("the guest does not run")
		}
	}

	conn, peer := connection(t)
	if err := source.SendFile(ctx, "migration", peer); err != nil {
		t.Fatal(err)
	}
	peer.Close()
	var saved bytes.Buffer
	live := make(map[bool]int64)
	relayed := make(chan error, 1)
	go func() {
		relayed <- Relay(&saved, conn, NewReader(Options{MaxRAM: ramSize + 64<<20, Page: func(p Page) error {
			live[p.Data != nil]++
			return nil
		}}))
	}()
	// With less downtime than the guest's 128 pages take, it goes on for ever, if in
	// each pass the guest comes to write at all: on a busy machine it needs the time.
	const fast, slow = 200 << 20, 2 << 20
	do(ctx, t, source, "migrate-set-parameters", map[string]any{"downtime-limit": 1, "max-bandwidth": fast, "avail-switchover-bandwidth": 4 << 20})
	do(ctx, t, source, "migrate", map[string]string{"uri": "fd:migration"})
	await(ctx, t, source, func(i migrationInfo) bool { return i.RAM.Syncs > 1 })
	do(ctx, t, source, "migrate-set-parameters", map[string]any{"max-bandwidth": slow})
	await(ctx, t, source, func(i migrationInfo) bool { return i.RAM.Syncs > 8 })
	do(ctx, t, source, "migrate-set-parameters", map[string]any{"downtime-limit": 2000, "max-bandwidth": fast, "avail-switchover-bandwidth": fast})
	info := await(ctx, t, source, func(i migrationInfo) bool { return i.Status == "completed" })
	if err := <-relayed; err != nil {
		t.Fatal(err)
	}
	stream := saved.Bytes()

	m := rebuild(t, stream, pieces(rand.New(rand.NewPCG(9, 10))))
	t.Logf("QEMU %s: %d bytes, %d blocks, %+v; %d pages again, %d cleared", version, len(stream), len(m.blocks), info.RAM, m.again, m.cleared)
	if m.normal != info.RAM.Normal || m.duplicate != info.RAM.Duplicate {
		t.Errorf("%d normal pages and %d of one byte, QEMU says %+v", m.normal, m.duplicate, info.RAM)
	}
	if live[true] != m.normal || live[false] != m.duplicate {
		t.Errorf("%d normal pages and %d of one byte, when relayed %v", m.normal, m.duplicate, live)
	}
	if m.ends != 1 || m.again == 0 || m.cleared == 0 || m.data == 0 || len(m.blocks) < 3 {
		t.Errorf("the stream does not have what it is to be judged by: %d last sections, %d pages again, %d cleared, %d blocks", m.ends, m.again, m.cleared, len(m.blocks))
	}

	right := extract(ctx, t, analyze, stream)
	if problems := m.disagree(t, right); len(problems) > 0 {
		t.Errorf("the script disagrees:\n%s", strings.Join(problems, "\n"))
	}
	for name, flip := range map[string]struct{ at, bit int }{
		"data":    {m.data + 1000, 0x01},
		"address": {m.word + 6, 0x10}, // the next page, or that before
	} {
		spoiled := bytes.Clone(stream)
		spoiled[flip.at] ^= byte(flip.bit)
		s := rebuild(t, spoiled, whole(spoiled))
		if len(s.disagree(t, right)) == 0 {
			t.Errorf("a flipped bit of a page's %s goes unnoticed", name)
		}
		if problems := s.disagree(t, extract(ctx, t, analyze, spoiled)); len(problems) > 0 {
			t.Errorf("with a flipped bit of a page's %s, the script disagrees:\n%s", name, strings.Join(problems, "\n"))
		}
	}

	// The script leaves pages of one byte out. QEMU itself does not.
	conn, peer = connection(t)
	destination := start(ctx, t, in("destination"), "-S", "-incoming", "defer",
		"-drive", "if=none,id=disk,format=raw,readonly=on,file="+in("disk"), "-device", "virtio-blk-pci,drive=disk")
	if err := destination.SendFile(ctx, "migration", peer); err != nil {
		t.Fatal(err)
	}
	peer.Close()
	do(ctx, t, destination, "migrate-incoming", map[string]string{"uri": "fd:migration"})
	if _, err := conn.Write(stream); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, destination, func(i migrationInfo) bool { return i.Status == "completed" })
	ram, err := os.ReadFile(in("destination"))
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range m.blocks {
		if b.Size != ramSize {
			continue
		}
		if n, first := differ(m.memory[i], ram); n > 0 {
			t.Errorf("block %q: %d pages differ from QEMU's, the first %s", b.Name, n, first)
		}
		if n, _ := differ(m.extracted[i], ram); n == 0 {
			t.Errorf("without the pages of one byte, block %q does not differ", b.Name)
		}
		return
	}
	t.Errorf("none of %v is the guest's RAM", m.blocks)
}
