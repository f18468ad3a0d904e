package ktree

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// An aptSource is one entry of apt's lists of sources, of the type deb
// (sources.list(5)).
type aptSource struct {
	uris, suites, components []string
	options                  []aptField // what apt needs to know to trust it and get at it
}

// An aptField is a field of a .sources file. The value may have several lines.
type aptField struct{ name, value string }

// fields that are not carried over, because the suites and the files wanted
// are not those of the machine's own list.
var notCarried = []string{"types", "uris", "suites", "components", "enabled", "architectures", "languages", "targets", "pdiffs", "arch", "lang", "target"}

// add appends an option unless it is one that is not carried over.
func (s *aptSource) add(name, value string) {
	lower := strings.ToLower(name)
	if !slices.Contains(notCarried, lower) && !strings.HasPrefix(lower, "x-") {
		s.options = append(s.options, aptField{name, value})
	}
}

// parseDeb822 reads a file in the format of *.sources.
func parseDeb822(text string) []aptSource {
	var all []aptSource
	var stanza []aptField
	end := func() {
		var s aptSource
		isDeb, enabled := false, true
		for _, f := range stanza {
			words := strings.Fields(f.value)
			switch strings.ToLower(f.name) {
			case "types":
				isDeb = slices.Contains(words, "deb")
			case "uris":
				s.uris = words
			case "suites":
				s.suites = words
			case "components":
				s.components = words
			case "enabled": // the words of StringToBool() in apt-pkg/contrib/strutl.cc
				enabled = !slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(strings.TrimSpace(f.value)))
			default:
				s.add(f.name, f.value)
			}
		}
		if isDeb && enabled && len(s.uris) > 0 && len(s.suites) > 0 {
			all = append(all, s)
		}
		stanza = nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "":
			end()
		case line[0] == ' ' || line[0] == '\t':
			if n := len(stanza); n > 0 {
				stanza[n-1].value += "\n" + line
			}
		default:
			if name, value, ok := strings.Cut(line, ":"); ok && fieldRE.MatchString(name) {
				stanza = append(stanza, aptField{name, value})
			}
		}
	}
	end()
	return all
}

var (
	fieldRE = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)
	lineRE  = regexp.MustCompile(`^deb\s+(?:\[([^\]]*)\])?(.*)$`)
)

// parseList reads a file in the format of sources.list: one entry a line.
func parseList(text string) []aptSource {
	var all []aptSource
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		m := lineRE.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		words := strings.Fields(m[2])
		if len(words) < 2 {
			continue
		}
		s := aptSource{uris: words[:1], suites: words[1:2], components: words[2:]}
		for _, option := range strings.Fields(m[1]) {
			// Several values stand with commas here, with spaces in a .sources file.
			if name, value, ok := strings.Cut(option, "="); ok && fieldRE.MatchString(name) {
				s.add(name, " "+strings.ReplaceAll(value, ",", " "))
			}
		}
		all = append(all, s)
	}
	return all
}

// codenames are the Debian releases whose suites are asked, besides the
// machine's own. Those that a mirror does not have are passed over.
var codenames = []string{"bullseye", "bookworm", "trixie", "forky", "sid"}

// aliases are the names that releases have for a time.
var aliases = []string{"oldoldstable", "oldstable", "stable", "testing", "unstable"}

// splitSuite takes "bookworm-updates" apart: "bookworm", "-updates".
func splitSuite(suite string) (release, kind string) {
	for _, kind := range []string{"-security", "/updates", "-updates", "-backports", "-backports-sloppy", "-proposed-updates"} {
		if release, ok := strings.CutSuffix(suite, kind); ok {
			return release, kind
		}
	}
	return suite, ""
}

// debianMirrors finds Debian's main mirror and its security mirror among the
// machine's sources; either can be nil. releases are the codenames known.
// A source of somebody else may have the same suites and components, such as
// "stable main": of several, those with -updates or -backports or a path that ends in
// debian come first.
func debianMirrors(sources []aptSource, releases []string) (main, security *aptSource) {
	var mainScore, securityScore int
	for i := range sources {
		s := &sources[i]
		if !slices.Contains(s.components, "main") || strings.HasPrefix(s.uris[0], "cdrom:") {
			continue
		}
		score, securityIs := 0, false
		for j := range sources {
			if !slices.Equal(sources[j].uris, s.uris) {
				continue
			}
			for _, suite := range sources[j].suites {
				release, kind := splitSuite(suite)
				if !slices.Contains(releases, release) && !slices.Contains(aliases, release) {
					continue
				}
				score = max(score, 1)
				switch kind {
				case "-updates", "-backports":
					score = max(score, 2)
				case "-security", "/updates":
					securityIs = true
				}
			}
		}
		if score == 0 {
			continue
		}
		if strings.HasPrefix(path.Base(s.uris[0]), "debian") {
			score += 2
		}
		if securityIs && score > securityScore {
			security, securityScore = s, score
		}
		if !securityIs && score > mainScore {
			main, mainScore = s, score
		}
	}
	return main, security
}

// stanza returns an entry for a .sources file of a type, deb or deb-src, with other
// suites and more fields.
func (s *aptSource) stanza(kind string, suites []string, fields string) string {
	var b strings.Builder
	b.WriteString("Types: " + kind + "\nURIs: " + strings.Join(s.uris, " ") + "\nSuites: " + strings.Join(suites, " ") + "\nComponents: main\n" + fields)
	for _, f := range s.options {
		b.WriteString(f.name + ":" + f.value + "\n")
	}
	return b.String()
}

// A suiteGroup is asked together; the next group is asked only if the
// package is in none so far.
type suiteGroup struct{ main, security []string }

// suiteGroups says in which order suites are asked: first those with small
// indexes, which mostly have the newest kernels too (under 1 MB each; those
// of the releases have about 10). Without a security mirror they do not.
func suiteGroups(releases []string, security bool) []suiteGroup {
	var small, stable, moving suiteGroup
	for _, r := range releases {
		if r == "sid" {
			moving.main = append(moving.main, r)
			continue
		}
		small.security = append(small.security, r+"-security")
		small.main = append(small.main, r+"-updates", r+"-backports")
		stable.main = append(stable.main, r)
	}
	if !security {
		small.main = append(small.main, stable.main...)
		return []suiteGroup{small, moving}
	}
	return []suiteGroup{small, stable, moving}
}
