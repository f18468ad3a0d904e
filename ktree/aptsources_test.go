package ktree

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const deb822 = `# comment
Types: deb deb-src
# another
URIs: http://mirror.example/debian
 http://second.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Architectures: amd64 i386
Languages: de
X-Repolib-Name: x
Check-Valid-Until: no
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
suites: bookworm-security
Components: main
signed-by:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://chrome.example/linux/chrome/deb/
Suites: stable
Components: main
`

const oneLine = `# comment
deb http://mirror.example/debian bookworm main contrib # more
deb http://mirror.example/debian bookworm-updates main
deb [ arch=amd64 signed-by=/a.gpg,/b.gpg trusted=yes ] http://mirror.example/debian-security bookworm-security main
deb-src http://mirror.example/debian bookworm main
deb http://flat.example/ ./
#deb http://off.example/debian bookworm main
deb
debris http://x y z
`

func TestParseDeb822(t *testing.T) {
	t.Parallel()
	got := parseDeb822(deb822)
	key := "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----"
	want := []aptSource{
		{[]string{"http://mirror.example/debian", "http://second.example/debian"}, []string{"bookworm", "bookworm-updates"}, []string{"main", "contrib"},
			[]aptField{{"Check-Valid-Until", " no"}, {"Signed-By", " /usr/share/keyrings/debian-archive-keyring.gpg"}}},
		{[]string{"http://mirror.example/debian-security"}, []string{"bookworm-security"}, []string{"main"}, []aptField{{"signed-by", key}}},
		{[]string{"http://chrome.example/linux/chrome/deb/"}, []string{"stable"}, []string{"main"}, nil},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(aptSource{}, aptField{})); diff != "" {
		t.Error(diff)
	}
	stanza := got[1].stanza("deb", []string{"a", "b"}, "Architectures: amd64\nTargets: Packages\n")
	if want := "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: a b\nComponents: main\nArchitectures: amd64\nTargets: Packages\nsigned-by:" + key + "\n"; stanza != want {
		t.Errorf("stanza %q", stanza)
	}
}

func TestParseList(t *testing.T) {
	t.Parallel()
	want := []aptSource{
		{[]string{"http://mirror.example/debian"}, []string{"bookworm"}, []string{"main", "contrib"}, nil},
		{[]string{"http://mirror.example/debian"}, []string{"bookworm-updates"}, []string{"main"}, nil},
		{[]string{"http://mirror.example/debian-security"}, []string{"bookworm-security"}, []string{"main"},
			[]aptField{{"signed-by", " /a.gpg /b.gpg"}, {"trusted", " yes"}}},
		{[]string{"http://flat.example/"}, []string{"./"}, []string{}, nil},
	}
	if diff := cmp.Diff(want, parseList(oneLine), cmp.AllowUnexported(aptSource{}, aptField{})); diff != "" {
		t.Error(diff)
	}
}

func TestDebianMirrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, list, main, security string }{
		{"deb822", "", "http://mirror.example/debian", "http://mirror.example/debian-security"},
		{"one line", oneLine, "http://mirror.example/debian", "http://mirror.example/debian-security"},
		{"others first", "deb http://a.example/chrome/deb stable main\ndeb http://b.example bookworm main\ndeb http://c.example/docker/debian bookworm stable\ndeb http://d.example/proxy trixie main\ndeb http://d.example/proxy trixie-updates main\n", "http://d.example/proxy", ""},
		{"path", "deb http://a.example/chrome/deb stable main\ndeb http://b.example/debian sid main\n", "http://b.example/debian", ""},
		{"mirror list", "deb mirror+file:/etc/apt/mirrors/debian.list bookworm main\n", "mirror+file:/etc/apt/mirrors/debian.list", ""},
		{"buster", "deb http://a.example/debian-security bullseye/updates main\n", "", "http://a.example/debian-security"},
		{"cdrom", "deb cdrom:[Debian]/ bookworm main\n", "", ""},
		{"ubuntu", "deb http://archive.example/ubuntu jammy main\ndeb http://archive.example/ubuntu jammy-updates main\n", "", ""},
		{"no main", "deb http://a.example/debian bookworm contrib\n", "", ""},
		{"none", "\n", "", ""},
	} {
		sources := parseList(test.list)
		if test.list == "" {
			sources = parseDeb822(deb822)
		}
		main, security := debianMirrors(sources, codenames)
		uri := func(s *aptSource) string {
			if s == nil {
				return ""
			}
			return s.uris[0]
		}
		if uri(main) != test.main || uri(security) != test.security {
			t.Errorf("%s: main %q, security %q", test.name, uri(main), uri(security))
		}
	}
}

func TestSuiteGroups(t *testing.T) {
	t.Parallel()
	releases := []string{"trixie", "sid"}
	got := suiteGroups(releases, true)
	want := []suiteGroup{{[]string{"trixie-updates", "trixie-backports"}, []string{"trixie-security"}}, {[]string{"trixie"}, nil}, {[]string{"sid"}, nil}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(suiteGroup{})); diff != "" {
		t.Error(diff)
	}
	// Backports are older than the release's own kernels when there is no security mirror.
	if got := suiteGroups(releases, false); len(got) != 2 || !cmp.Equal(got[0].main, []string{"trixie-updates", "trixie-backports", "trixie"}) {
		t.Errorf("%+v", got)
	}
}

func FuzzAptSources(f *testing.F) {
	f.Add(deb822)
	f.Add(oneLine)
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range append(parseDeb822(text), parseList(text)...) {
			if len(s.uris) == 0 || len(s.suites) == 0 {
				t.Errorf("%+v", s)
			}
			// What is written reads back as one entry with the same options.
			again := parseDeb822(s.stanza("deb", []string{"sid"}, "Targets: Packages\n"))
			if len(again) != 1 || !cmp.Equal(again[0].uris, s.uris) || len(again[0].options) != len(s.options) {
				t.Errorf("%+v reads back as %+v", s, again)
			}
		}
		debianMirrors(append(parseDeb822(text), parseList(text)...), codenames)
		parseFailures(text)
		parseMadison(text, strings.TrimSpace(text))
		debianCodename(text)
	})
}
