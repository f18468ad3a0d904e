package ktree

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchgen/progress"
)

var debianRE = regexp.MustCompile(`^[0-9]{1,3}\.[0-9]{1,4}$`)

const otherTrees = "give a folder, a git clone or a tarball"

// A debianPackage is where Debian has a tree: in a package that holds a tarball, or
// as the upstream part of a source package.
type debianPackage struct {
	name   string
	source bool
}

// openDebian opens the newest package of what stands behind "debian:", such as
// "6.12" or "qemu". What is in the cache is taken as it is, unless o.Refresh.
func openDebian(ctx context.Context, what string, o Options) (*Tree, error) {
	pkg := debianPackage{name: "linux-source-" + what}
	switch {
	case what == "qemu":
		pkg = debianPackage{name: "qemu", source: true}
	case !debianRE.MatchString(what):
		return nil, &NotFoundError{"debian:" + what, "give the first two numbers of a kernel, such as debian:6.12, or debian:qemu"}
	}
	cache, err := cacheDir(o, "debian")
	if err != nil {
		return nil, err
	}
	// The link of the package's name leads to the folder of the version taken.
	link := filepath.Join(cache, pkg.name)
	if _, err := os.Stat(link); err != nil && o.Offline {
		return nil, &NotFoundError{"debian:" + what, "it is not in the cache"}
	} else if err != nil || o.Refresh {
		if err := fetchDebian(ctx, cache, pkg, o.Progress); err != nil {
			if e := (*NotFoundError)(nil); errors.As(err, &e) {
				return nil, e
			}
			return nil, &FetchError{"debian:" + what, err}
		}
	}
	dir, err := os.Readlink(link)
	if err != nil {
		return nil, err
	}
	version := strings.ReplaceAll(strings.TrimPrefix(dir, pkg.name+"_"), "%3a", ":")
	return openUnpacked(filepath.Join(cache, dir), fmt.Sprintf("Debian %s %s", pkg.name, version))
}

// fetchDebian downloads and unpacks the newest version of a package into cache.
func fetchDebian(ctx context.Context, cache string, pkg debianPackage, p progress.Reporter) error {
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return &MissingToolError{Tool: tool, Package: map[string]string{"apt-get": "apt", "dpkg-deb": "dpkg"}[tool], Hint: "on a machine without Debian's apt, " + otherTrees}
		}
	}
	unlock, err := Lock(ctx, filepath.Join(cache, "apt.lock"), p)
	if err != nil {
		return err
	}
	defer unlock()
	lists := "apt"
	if pkg.source { // each has its own, so that neither makes apt fetch the other's again
		lists = "apt-source"
	}
	a, err := newApt(ctx, filepath.Join(cache, lists), pkg.source, p)
	if err != nil {
		return err
	}
	version, err := a.newest(ctx, pkg.name)
	if err != nil {
		return err
	}
	dir := pkg.name + "_" + strings.ReplaceAll(version, ":", "%3a")
	err = once(ctx, filepath.Join(cache, dir), p, func(part string) error {
		download, unpack := a.download, unpackDeb
		if pkg.source {
			download, unpack = a.downloadSource, unpackOrig
		}
		file, err := download(ctx, pkg.name, version)
		if err != nil {
			return err
		}
		defer os.Remove(file)
		if err := unpack(ctx, file, pkg.name, part, p); err != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	link := filepath.Join(cache, pkg.name)
	os.Remove(link + ".new")
	if err := os.Symlink(dir, link+".new"); err != nil {
		return err
	}
	return os.Rename(link+".new", link)
}

// unpackDeb unpacks the tarball that is the one thing in a linux-source package.
func unpackDeb(ctx context.Context, deb, name, dir string, p progress.Reporter) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = func() error {
		want := "usr/src/" + name + ".tar.xz"
		for archive := tar.NewReader(out); ; {
			h, err := archive.Next()
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("it has no %s", want)
			}
			if err != nil {
				return fmt.Errorf("read package: %w", err)
			}
			if strings.TrimPrefix(h.Name, "./") == want {
				return unpack(ctx, archive, h.Size, "xz", dir, name, p)
			}
		}
	}()
	if err == nil {
		_, err = io.Copy(io.Discard, out)
	} else {
		cancel()
	}
	if wait := cmd.Wait(); err == nil && wait != nil {
		return fmt.Errorf("dpkg-deb: %w: %s", wait, stderr.String())
	}
	return err
}

// unpackOrig unpacks the upstream tarball of a source package.
func unpackOrig(ctx context.Context, file, name, dir string, p progress.Reporter) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return unpack(ctx, f, st.Size(), "xz", dir, name, p)
}

// An apt runs apt with lists and a cache of its own and with the machine's
// mirrors, keys and proxies.
type apt struct {
	dir      string // everything apt writes is in it
	arch     string // the machine's, such as amd64
	sources  bool   // its lists are of source packages
	releases []string
	own      string // the machine's release, "" if that is not Debian's
	main     *aptSource
	security *aptSource
	progress progress.Reporter
}

// newApt makes an apt that keeps its files in dir, and knows packages or sources.
func newApt(ctx context.Context, dir string, sourcePackages bool, p progress.Reporter) (*apt, error) {
	a := &apt{dir: dir, sources: sourcePackages, releases: slices.Clone(codenames), progress: p}
	if osRelease, err := os.ReadFile("/etc/os-release"); err == nil {
		a.own = debianCodename(string(osRelease))
		if a.own != "" && !slices.Contains(a.releases, a.own) {
			a.releases = append(a.releases, a.own)
		}
	}
	sources, arch, err := machineSources(ctx)
	if err != nil {
		return nil, err
	}
	a.arch = arch
	if a.main, a.security = debianMirrors(sources, a.releases); a.main == nil && a.security == nil {
		return nil, errors.New("apt's lists of sources on this machine name no Debian mirror: " + otherTrees)
	}
	for _, sub := range []string{"lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	return a, a.configure()
}

// configure writes the configuration that apt reads after the machine's own
// (apt.conf(5)). Hooks of the machine's are for its own lists: not run.
func (a *apt) configure() error {
	conf := fmt.Sprintf(`#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State::Lists "%[1]s/lists";
Dir::State::status "/dev/null";
Dir::Cache "%[1]s/cache";
Dir::Etc::sourcelist "%[1]s/patchgen.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
`, a.dir)
	if strings.ContainsAny(a.dir, "\"\n") {
		return fmt.Errorf("apt cannot work in a folder of this name: %q", a.dir)
	}
	if own := os.Getenv("APT_CONFIG"); own != "" {
		conf = fmt.Sprintf("#include %q;\n", own) + conf
	}
	return os.WriteFile(filepath.Join(a.dir, "apt.conf"), []byte(conf), 0o644)
}

// command returns a command that runs with a's configuration.
func (a *apt) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"))
	cmd.Dir = filepath.Join(a.dir, "debs")
	return cmd
}

// output returns what a command writes to its standard output.
func output(cmd *exec.Cmd) (string, error) {
	var stdout bytes.Buffer
	var stderr tail
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", commandError(cmd, err, stderr.String())
	}
	return stdout.String(), nil
}

// commandError adds to a command's failure what it said last.
func commandError(cmd *exec.Cmd, err error, stderr string) error {
	name := filepath.Base(cmd.Path) + " " + cmd.Args[1]
	if stderr == "" {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s: %w: %s", name, err, stderr)
}

func (a *apt) stanza(s *aptSource, suites []string) string {
	if a.sources {
		return s.stanza("deb-src", suites, "Targets: Sources\n")
	}
	return s.stanza("deb", suites, "Architectures: "+a.arch+"\nTargets: Packages\n")
}

// groups says which suites are asked, and in which order. The sources of a program
// are those of the machine's own release, with whose libraries it is compiled: of
// its backports if it is there.
func (a *apt) groups() []suiteGroup {
	if !a.sources {
		return suiteGroups(a.releases, a.security != nil)
	}
	own := cmp.Or(a.own, codenames[len(codenames)-1])
	return []suiteGroup{{main: []string{own + "-backports"}}, {main: []string{own}}}
}

// newest asks apt for the newest version of a package in the first group of
// suites that has it.
func (a *apt) newest(ctx context.Context, name string) (string, error) {
	var asked suiteGroup
	var unverified []aptFailure
	for _, group := range a.groups() {
		asked.main, asked.security = append(asked.main, group.main...), append(asked.security, group.security...)
		a.progress.Stage("ask apt for "+name, 0, "")
		failures, err := a.update(ctx, asked)
		a.progress.End()
		if err != nil {
			return "", err
		}
		unverified = nil
		for _, f := range failures {
			switch {
			case f.unverified():
				unverified = append(unverified, f)
			case !f.absent():
				return "", fmt.Errorf("apt cannot read %s: %s", f.source, f.reason)
			}
		}
		versions, err := a.versions(ctx, name)
		if err != nil {
			return "", err
		}
		if len(versions) > 0 {
			return maxVersion(ctx, versions)
		}
	}
	if len(unverified) > 0 {
		f := unverified[0]
		return "", fmt.Errorf("no package %s in the suites that apt can verify; it cannot verify %d others, such as %s (%s): install a newer debian-archive-keyring, or widen Signed-By in apt's list of sources", name, len(unverified), f.source, f.reason)
	}
	return "", a.noPackage(ctx, name)
}

// noPackage says which kernels there are instead of the package name.
func (a *apt) noPackage(ctx context.Context, name string) error {
	if a.sources {
		return fmt.Errorf("no source package %s at %s", name, strings.Join(a.uris(), " and "))
	}
	out, err := output(a.command(ctx, "apt-cache", "pkgnames", "linux-source-"))
	if err != nil {
		return err
	}
	var have []string
	for _, n := range strings.Fields(out) {
		if series := strings.TrimPrefix(n, "linux-source-"); debianRE.MatchString(series) {
			have = append(have, "debian:"+series)
		}
	}
	slices.SortFunc(have, func(a, b string) int { return compareSeries(a[7:], b[7:]) })
	if len(have) == 0 {
		return fmt.Errorf("no package %s, nor any linux-source at %s", name, strings.Join(a.uris(), " and "))
	}
	return &NotFoundError{"debian:" + strings.TrimPrefix(name, "linux-source-"), fmt.Sprintf("no package %s; there are %s", name, strings.Join(have, ", "))}
}

// compareSeries compares numbers such as 6.12 and 6.2.
func compareSeries(a, b string) int {
	major := func(s string) (int, int) {
		x, y, _ := strings.Cut(s, ".")
		m, _ := strconv.Atoi(x)
		n, _ := strconv.Atoi(y)
		return m, n
	}
	am, an := major(a)
	bm, bn := major(b)
	if am != bm {
		return am - bm
	}
	return an - bn
}

func (a *apt) uris() []string {
	var all []string
	for _, s := range []*aptSource{a.main, a.security} {
		if s != nil {
			all = append(all, s.uris...)
		}
	}
	return all
}

// An aptFailure is a source that apt-get update could not use.
type aptFailure struct{ source, reason string }

var (
	errRE        = regexp.MustCompile(`^Err:[0-9]+ (\S+ \S+)`)
	absentRE     = regexp.MustCompile(`(?i)\b(403|404|410)\b|not found`)
	unverifiedRE = regexp.MustCompile(`NO_PUBKEY|EXPKEYSIG|REVKEYSIG|BADSIG|KEYEXPIRED|(?i)signature|not signed|no valid OpenPGP`)
)

// absent reports whether the mirror does not have the suite.
func (f aptFailure) absent() bool { return absentRE.MatchString(f.reason) }

// unverified reports whether the machine's keys do not verify the suite.
func (f aptFailure) unverified() bool { return unverifiedRE.MatchString(f.reason) }

// update fetches the indexes of the suites.
func (a *apt) update(ctx context.Context, g suiteGroup) ([]aptFailure, error) {
	var stanzas []string
	if a.main != nil {
		stanzas = append(stanzas, a.stanza(a.main, g.main))
	}
	if a.security != nil && len(g.security) > 0 {
		stanzas = append(stanzas, a.stanza(a.security, g.security))
	}
	if err := os.WriteFile(filepath.Join(a.dir, "patchgen.sources"), []byte(strings.Join(stanzas, "\n")), 0o644); err != nil {
		return nil, err
	}
	cmd := a.command(ctx, "apt-get", "-q", "update")
	var stdout bytes.Buffer
	var stderr tail
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	failures := parseFailures(stdout.String())
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil && len(failures) == 0 {
		return nil, commandError(cmd, err, stderr.String())
	}
	return failures, nil
}

// parseFailures reads from the output of `apt-get -q update` what it could not
// fetch: lines such as "Err:3 URI SUITE InRelease", the reason in the next line.
func parseFailures(stdout string) []aptFailure {
	var all []aptFailure
	lines := strings.Split(stdout, "\n")
	for i, line := range lines {
		m := errRE.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		f := aptFailure{source: m[1], reason: "no reason given"}
		if i+1 < len(lines) && strings.HasPrefix(lines[i+1], " ") {
			f.reason = strings.Join(strings.Fields(lines[i+1]), " ")
		}
		all = append(all, f)
	}
	return all
}

// versions returns the versions of a package that the lists have.
func (a *apt) versions(ctx context.Context, name string) ([]string, error) {
	out, err := output(a.command(ctx, "apt-cache", "madison", name))
	if err != nil {
		return nil, err
	}
	return parseMadison(out, name), nil
}

// parseMadison reads lines such as "linux-source-6.12 | 6.12.117-1 | URI ...".
func parseMadison(out, name string) []string {
	var versions []string
	for line := range strings.Lines(out) {
		fields := strings.Split(line, "|")
		if len(fields) >= 3 && strings.TrimSpace(fields[0]) == name {
			if v := strings.TrimSpace(fields[1]); versionRE.MatchString(v) && !slices.Contains(versions, v) {
				versions = append(versions, v)
			}
		}
	}
	return versions
}

// versionRE is a version by deb-version(7).
var versionRE = regexp.MustCompile(`^[0-9][0-9A-Za-z.+~:-]*$`)

// maxVersion returns the newest of versions, by dpkg's order.
func maxVersion(ctx context.Context, versions []string) (string, error) {
	best := versions[0]
	for _, v := range versions[1:] {
		err := exec.CommandContext(ctx, "dpkg", "--compare-versions", v, "gt", best).Run()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("dpkg --compare-versions: %w", err)
		}
		best = v
	}
	return best, nil
}

// download fetches a package and returns its file.
func (a *apt) download(ctx context.Context, name, version string) (string, error) {
	debs, err := a.emptied()
	if err != nil {
		return "", err
	}
	shown, err := output(a.command(ctx, "apt-cache", "show", name+"="+version))
	if err != nil {
		return "", err
	}
	var size int64
	for line := range strings.Lines(shown) {
		if v, ok := strings.CutPrefix(line, "Size:"); ok && size == 0 {
			size, _ = strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		}
	}
	if err := a.fetch(ctx, size, "download", name, version); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(debs, name+"_*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("apt-get download left %d files instead of one package", len(found))
	}
	return found[0], nil
}

// fetch runs an apt-get that downloads size bytes of a package.
func (a *apt) fetch(ctx context.Context, size int64, verb, name, version string, options ...string) error {
	a.progress.Stage("download "+name+" "+version, size, "bytes")
	defer a.progress.End()
	cmd := a.command(ctx, "apt-get", slices.Concat([]string{"-q", verb}, options, []string{name + "=" + version})...)
	var stderr tail
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return commandError(cmd, err, stderr.String())
			}
			a.progress.Step(size)
			return nil
		case <-time.After(200 * time.Millisecond):
			a.progress.Step(sizeBelow(cmd.Dir))
		}
	}
}

// origRE is what apt-get source --print-uris says of an upstream tarball: 'URI' NAME
// SIZE SHA256:HASH.
var origRE = regexp.MustCompile(`(?m)^'[^']*' ([A-Za-z0-9][A-Za-z0-9.+~_-]*\.orig\.tar\.xz) ([0-9]{1,12}) SHA256:([0-9a-f]{64})$`)

// downloadSource fetches the upstream tarball of a source package and returns its
// file. Debian's own part, which a mirror may lack, is not asked for.
func (a *apt) downloadSource(ctx context.Context, name, version string) (string, error) {
	dir, err := a.emptied()
	if err != nil {
		return "", err
	}
	told, err := output(a.command(ctx, "apt-get", "-q", "source", "--print-uris", "--tar-only", name+"="+version))
	if err != nil {
		return "", err
	}
	m := origRE.FindStringSubmatch(told)
	if m == nil {
		return "", fmt.Errorf("apt-get source %s=%s names no upstream tarball (.orig.tar.xz)", name, version)
	}
	size, err := strconv.ParseInt(m[2], 10, 64)
	if err != nil {
		return "", err
	}
	if err := a.fetch(ctx, size, "source", name, version, "--download-only", "--tar-only"); err != nil {
		return "", err
	}
	file := filepath.Join(dir, m[1])
	// The sum is from the signed index. apt has compared it, too; but this is to be
	// compiled and run.
	return file, checkSum(ctx, file, m[3])
}

// checkSum compares a file with a SHA-256 in hex.
func checkSum(ctx context.Context, file, want string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &counter{ctx: ctx, r: f}); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has the SHA-256 %s, and should have %s", filepath.Base(file), got, want)
	}
	return nil
}

// emptied returns the folder that apt downloads to, with nothing in it.
func (a *apt) emptied() (string, error) {
	debs := filepath.Join(a.dir, "debs")
	return debs, errors.Join(os.RemoveAll(debs), os.Mkdir(debs, 0o755))
}

// sizeBelow returns the bytes in all files of a folder.
func sizeBelow(dir string) int64 {
	var n int64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			if st, err := d.Info(); err == nil && st.Mode().IsRegular() {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}

// debianCodename returns VERSION_CODENAME of an os-release(5) file if it is Debian's.
func debianCodename(osRelease string) string {
	id, codename := "", ""
	for line := range strings.Lines(osRelease) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch name {
		case "ID":
			id = value
		case "VERSION_CODENAME":
			codename = value
		}
	}
	if id != "debian" || !codenameRE.MatchString(codename) {
		return ""
	}
	return codename
}

var codenameRE = regexp.MustCompile(`^[a-z]+$`)

// machineSources reads the lists of sources that apt reads on this machine, and
// the machine's architecture.
func machineSources(ctx context.Context) (all []aptSource, arch string, err error) {
	out, err := output(exec.CommandContext(ctx, "apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d", "ARCH", "APT::Architecture"))
	if err != nil {
		return nil, "", err
	}
	var files []string
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, "'")
		switch name {
		case "LIST":
			files = append(files, value)
		case "ARCH":
			arch = value
		case "PARTS":
			parts, err := os.ReadDir(value)
			if err != nil {
				continue // it need not be there
			}
			for _, p := range parts {
				files = append(files, filepath.Join(value, p.Name()))
			}
		}
	}
	for _, file := range files {
		ext := filepath.Ext(file)
		if ext != ".list" && ext != ".sources" {
			continue
		}
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("read apt's list of sources: %w", err)
		}
		if ext == ".sources" {
			all = append(all, parseDeb822(string(data))...)
		} else {
			all = append(all, parseList(string(data))...)
		}
	}
	return all, arch, nil
}
