package ktree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeApt puts an apt into PATH that knows linux-source-6.12 in some
// versions, and logs what it is asked. dpkg and dpkg-deb are the real ones.
type fakeApt struct {
	t    *testing.T
	dir  string
	bin  string
	opts Options
	told stages
}

func newFakeApt(t *testing.T) *fakeApt {
	for _, tool := range []string{"dpkg", "dpkg-deb", "xz"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	f := &fakeApt{t: t, dir: t.TempDir()}
	f.bin = filepath.Join(f.dir, "bin")
	f.opts = Options{Cache: filepath.Join(f.dir, "cache"), Progress: &f.told}
	write(t, f.dir, map[string]string{
		"sources.list": "deb http://mirror.example/debian bookworm main\ndeb [signed-by=/k.gpg] http://mirror.example/debian-security bookworm-security main\n",
		"log":          "", "update": "", "madison": "", "pkgnames": "",
		"bin/apt-config": "#!/bin/sh\necho \"LIST='$FAKE/sources.list'\"; echo \"PARTS='$FAKE/none/'\"; echo \"ARCH='amd64'\"\n",
		"bin/apt-get": `#!/bin/sh
echo "apt-get $*" >>$FAKE/log
case $2 in
update)
	cat $FAKE/update
	! grep -q ^Err: $FAKE/update || exit 100 ;;
download)
	name=${3%=*} version=${3#*=}
	cp $FAKE/debs/${name}_${version}_all.deb . ;;
source)
	case "$*" in
	*--print-uris*) cat $FAKE/uris ;;
	*) cp $FAKE/debs/*.orig.tar.xz . ;;
	esac ;;
esac
`,
		"bin/apt-cache": `#!/bin/sh
echo "apt-cache $*" >>$FAKE/log
case $1 in
madison) grep "^ *$2 " $FAKE/madison; exit 0 ;;
pkgnames) cat $FAKE/pkgnames ;;
show) version=${2#*=}; echo "Package: ${2%=*}"; stat --format='Size: %s' $FAKE/debs/${2%=*}_${version}_all.deb ;;
esac
`,
	})
	for _, name := range []string{"apt-config", "apt-get", "apt-cache"} {
		if err := os.Chmod(filepath.Join(f.bin, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("FAKE", f.dir)
	t.Setenv("PATH", f.bin+":"+os.Getenv("PATH"))
	return f
}

// add adds a version of the package linux-source-6.12 of a release.
func (f *fakeApt) add(version, release string) {
	f.t.Helper()
	root := filepath.Join(f.dir, "package")
	entries := kernelEntries("linux-source-6.12/")
	entries[1].Linkname = strings.Replace(makefile, "SUBLEVEL = 117", "SUBLEVEL = "+release, 1)
	write(f.t, root, map[string]string{
		"DEBIAN/control":                    "Package: linux-source-6.12\nVersion: " + version + "\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: x\n",
		"usr/share/doc/x":                   "x",
		"usr/src/linux-source-6.12.tar.xz":  string(compress(f.t, "xz", tarball(f.t, entries...))),
		"usr/src/linux-source-6.12.patch.x": "x",
	})
	write(f.t, f.dir, map[string]string{"debs/.keep": ""})
	deb := filepath.Join(f.dir, "debs", "linux-source-6.12_"+version+"_all.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "-b", root, deb).CombinedOutput(); err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
	f.append("madison", fmt.Sprintf("linux-source-6.12 | %10s | http://mirror.example/debian bookworm/main amd64 Packages\n", version))
}

func (f *fakeApt) append(name, text string) {
	f.t.Helper()
	old, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		f.t.Fatal(err)
	}
	write(f.t, f.dir, map[string]string{name: string(old) + text})
}

// log returns the verbs that apt was asked for, and forgets them.
func (f *fakeApt) log() []string {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, "log"))
	if err != nil {
		f.t.Fatal(err)
	}
	write(f.t, f.dir, map[string]string{"log": ""})
	var verbs []string
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(strings.Replace(line, "-q ", "", 1))
		verbs = append(verbs, words[1])
	}
	return verbs
}

func (f *fakeApt) open(want string) {
	f.t.Helper()
	tree, err := Open(f.t.Context(), "debian:6.12", f.opts)
	if err != nil {
		f.t.Fatal(err)
	}
	defer tree.Close()
	if got := tree.Release().String() + ", " + tree.Origin(); got != want {
		f.t.Errorf("got %s, want %s", got, want)
	}
	if _, err := os.Stat(filepath.Join(tree.Dir(), "kernel/dma/direct.c")); err != nil {
		f.t.Error(err)
	}
}

func TestDebian(t *testing.T) {
	f := newFakeApt(t)
	f.add("6.12.95-1~bpo12+1", "95")
	f.add("6.12.117-1~deb12u1", "117")
	f.add("6.12.107-1", "107")
	f.open("6.12.117, Debian linux-source-6.12 6.12.117-1~deb12u1")
	if diff := cmp.Diff([]string{"update", "madison", "show", "download"}, f.log()); diff != "" {
		t.Error(diff)
	}
	want := []string{"ask apt for linux-source-6.12", "download linux-source-6.12 6.12.117-1~deb12u1", "unpack linux-source-6.12"}
	if diff := cmp.Diff(want, f.told.names); diff != "" {
		t.Error(diff)
	}
	if f.told.open != 0 || f.told.done == 0 || f.told.done != f.told.total {
		t.Errorf("told %d of %d", f.told.done, f.told.total)
	}

	// What is cached is used as it is, without apt, and by Refresh with it.
	f.add("6.12.117-1", "117")
	t.Run("cached", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		f.open("6.12.117, Debian linux-source-6.12 6.12.117-1~deb12u1")
	})
	f.opts.Refresh = true
	f.open("6.12.117, Debian linux-source-6.12 6.12.117-1")
	f.log()
	f.open("6.12.117, Debian linux-source-6.12 6.12.117-1")
	if diff := cmp.Diff([]string{"update", "madison"}, f.log()); diff != "" {
		t.Errorf("refreshed what is new: %s", diff)
	}

	cache := filepath.Join(f.opts.Cache, "debian")
	if debs, _ := filepath.Glob(filepath.Join(cache, "apt/debs/*")); len(debs) != 0 {
		t.Errorf("left %s", debs)
	}
	conf, err := os.ReadFile(filepath.Join(cache, "apt/apt.conf"))
	if err != nil || !strings.Contains(string(conf), "#clear APT::Update::Post-Invoke;") {
		t.Errorf("%s, %v", conf, err)
	}
	sources, err := os.ReadFile(filepath.Join(cache, "apt/patchgen.sources"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"URIs: http://mirror.example/debian\n", "bookworm-backports", "URIs: http://mirror.example/debian-security\n", "bookworm-security", "signed-by: /k.gpg\n"} {
		if !strings.Contains(string(sources), s) {
			t.Errorf("no %q in %s", s, sources)
		}
	}
}

func TestDebianFails(t *testing.T) {
	f := newFakeApt(t)
	fails := func(want ...string) {
		t.Helper()
		_, err := Open(t.Context(), "debian:6.12", f.opts)
		contains(t, err, append(want, "debian:6.12")...)
		if f.told.open != 0 {
			t.Errorf("stages left open: %q", f.told.names)
		}
	}
	update := func(text string) { write(t, f.dir, map[string]string{"update": text}) }

	fails("no package linux-source-6.12, nor any linux-source at http://mirror.example/debian and http://mirror.example/debian-security")
	write(t, f.dir, map[string]string{"pkgnames": "linux-source-6.1\nlinux-source\nlinux-source-7.3\nlinux-source-6.18-x\nlinux-source-5.10\n"})
	fails("there are debian:5.10, debian:6.1, debian:7.3")
	f.log()
	update("Get:1 http://mirror.example/debian sid InRelease\nErr:2 http://mirror.example/debian forky-backports Release\n  404  Not Found [IP: 203.0.113.80 80]\n")
	fails("no package linux-source-6.12")
	if n := len(slices.DeleteFunc(f.log(), func(s string) bool { return s != "update" })); n != 3 {
		t.Errorf("%d groups of suites asked", n)
	}
	update("Err:2 http://mirror.example/debian trixie-updates InRelease\n  The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 6ED0E7B82643E131\n")
	fails("cannot verify", "http://mirror.example/debian trixie-updates", "NO_PUBKEY 6ED0E7B82643E131", "debian-archive-keyring")
	update("Err:1 http://mirror.example/debian trixie-updates InRelease\n  Could not resolve 'mirror.example'\n")
	fails("apt cannot read http://mirror.example/debian trixie-updates: Could not resolve 'mirror.example'")

	// A suite that cannot be verified or is not there does not matter if another has the package.
	f.add("6.12.107-1", "107")
	update("Err:2 http://mirror.example/debian forky-backports Release\n  404  Not Found\nErr:3 http://mirror.example/debian trixie-updates InRelease\n  NO_PUBKEY 1\n")
	if err := os.Truncate(filepath.Join(f.dir, "debs/linux-source-6.12_6.12.107-1_all.deb"), 3000); err != nil {
		t.Fatal(err)
	}
	fails("unpack linux-source-6.12_6.12.107-1_all.deb")
	if entries, _ := filepath.Glob(filepath.Join(f.opts.Cache, "debian/linux-source-6.12*")); !cmp.Equal(entries, []string{filepath.Join(f.opts.Cache, "debian/linux-source-6.12_6.12.107-1.lock")}) {
		t.Errorf("left %s", entries)
	}
	write(t, f.dir, map[string]string{"madison": ""})
	f.add("6.12.107-1", "107")
	f.open("6.12.107, Debian linux-source-6.12 6.12.107-1")

	write(t, f.dir, map[string]string{"sources.list": "deb http://archive.example/ubuntu jammy main\n"})
	f.opts.Refresh = true
	fails("name no Debian mirror", "give a folder")
	if err := os.Remove(filepath.Join(f.bin, "apt-get")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", f.bin)
	fails("apt-get is not installed", "give a folder, a git clone or a tarball")
	_, err := Open(t.Context(), "debian:6.12", f.opts)
	if e := (*MissingToolError)(nil); !errors.As(err, &e) || e.Tool != "apt-get" {
		t.Errorf("%T", err)
	}
}

func TestDebianInterrupted(t *testing.T) {
	f := newFakeApt(t)
	f.add("6.12.107-1", "107")
	for _, stage := range []string{"ask", "download", "unpack"} {
		ctx, cancel := context.WithCancel(t.Context())
		o := f.opts
		o.Progress = &stopper{cancel: cancel, stage: stage}
		if _, err := Open(ctx, "debian:6.12", o); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", stage, err)
		}
		if parts, _ := filepath.Glob(filepath.Join(o.Cache, "debian/*.part")); len(parts) != 0 {
			t.Errorf("%s left %s", stage, parts)
		}
	}
	f.open("6.12.107, Debian linux-source-6.12 6.12.107-1")
}

func TestCompareSeries(t *testing.T) {
	t.Parallel()
	got := []string{"6.12", "5.10", "6.2", "10.1"}
	slices.SortFunc(got, compareSeries)
	if diff := cmp.Diff([]string{"5.10", "6.2", "6.12", "10.1"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDebianCodename(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"ID=debian\nVERSION_CODENAME=bookworm\n":            "bookworm",
		"NAME=\"x\"\nVERSION_CODENAME=\"duke\"\nID=debian":  "duke",
		"ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble": "",
		"ID=debian\n":                       "",
		"ID=debian\nVERSION_CODENAME=a b\n": "",
	} {
		if got := debianCodename(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
