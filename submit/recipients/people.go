package recipients

import (
	"bytes"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// An entry is one line of get_maintainer.pl's output.
type entry struct {
	person
	role string // such as "maintainer:TITLE", "open list", "reviewer:TITLE:Keyword:regexp,in file"
}

// A person is a name, in quotes and escaped where the script does that, and an
// address; each may be empty.
type person struct{ name, address string }

var (
	namedAddress = regexp.MustCompile(`^([^<]+)<(.+@.*)>.*$`)
	angleAddress = regexp.MustCompile(`^\s*<(.+@\S*)>.*$`)
	bareAddress  = regexp.MustCompile(`^(.+@\S*).*$`)
	needsQuotes  = regexp.MustCompile(`[^A-Za-z0-9_ -]`)
)

// parsePerson reads what stands in MAINTAINERS (get_maintainer.pl: parse_email).
func parsePerson(text string) person {
	var p person
	if m := namedAddress.FindStringSubmatch(text); m != nil {
		p = person{m[1], m[2]}
	} else if m := angleAddress.FindStringSubmatch(text); m != nil {
		p.address = m[1]
	} else if m := bareAddress.FindStringSubmatch(text); m != nil {
		p.address = m[1]
	}
	return p.normal()
}

func (p person) normal() person {
	return person{escape(trimQuotes(strings.TrimSpace(p.name))), strings.TrimSpace(p.address)}
}

// String is what the script calls an e-mail and compares.
func (p person) String() string {
	if p.name == "" {
		return p.address
	}
	return p.name + " <" + p.address + ">"
}

// escape puts a name in quotes if it needs them (get_maintainer.pl: escape_name).
func escape(name string) string {
	if !needsQuotes.MatchString(name) {
		return name
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(name) {
		if name[i] == '"' && (i == 0 || name[i-1] != '\\') {
			b.WriteByte('\\')
		}
		b.WriteByte(name[i])
	}
	b.WriteByte('"')
	return b.String()
}

func trimQuotes(name string) string { return strings.TrimSuffix(strings.TrimPrefix(name, `"`), `"`) }

// unescape is a name for people.
func unescape(name string) string {
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(trimQuotes(name))
}

// A mailmap tells what people are called now (gitmailmap(5), as the script reads
// it: case matters). Its keys are addresses and whole e-mails.
type mailmap struct{ names, addresses map[string]string }

var (
	comment  = regexp.MustCompile(`#.*$`)
	mapName  = regexp.MustCompile(`^([^<]+)<([^>]+)>$`)
	mapAddr  = regexp.MustCompile(`^<([^>]+)>\s*<([^>]+)>$`)
	mapBoth  = regexp.MustCompile(`^(.+)<([^>]+)>\s*<([^>]+)>$`)
	mapWhole = regexp.MustCompile(`^(.+)<([^>]+)>\s*(.+)\s*<([^>]+)>$`)
)

func readMailmap(text []byte) mailmap {
	m := mailmap{make(map[string]string), make(map[string]string)}
	for line := range bytes.Lines(text) {
		line := strings.TrimSpace(comment.ReplaceAllString(strings.TrimRight(string(line), "\n"), ""))
		if f := mapName.FindStringSubmatch(line); f != nil {
			p := parsePerson(f[1] + "<" + f[2] + ">")
			m.names[p.address] = p.name
		} else if f := mapAddr.FindStringSubmatch(line); f != nil {
			m.addresses[f[2]] = f[1]
		} else if f := mapBoth.FindStringSubmatch(line); f != nil {
			p := parsePerson(f[1] + "<" + f[2] + ">")
			m.names[f[3]], m.addresses[f[3]] = p.name, p.address
		} else if f := mapWhole.FindStringSubmatch(line); f != nil {
			p := parsePerson(f[1] + "<" + f[2] + ">")
			wrong := parsePerson(f[3] + "<" + f[4] + ">").String()
			m.names[wrong], m.addresses[wrong] = p.name, p.address
		}
	}
	return m
}

// apply is mailmap_email of the script.
func (m mailmap) apply(p person) person {
	key := p.String()
	_, name := m.names[key]
	_, address := m.addresses[key]
	if !name && !address {
		key = p.address
	}
	if n, ok := m.names[key]; ok {
		p.name = n
	}
	if a, ok := m.addresses[key]; ok {
		p.address = a
	}
	return p.normal()
}

// A collector is what the script collects for one patch.
type collector struct {
	mailmap   mailmap
	people    []*entry
	lists     []*entry
	inFiles   []person
	names     map[string]bool // of people, in lower case
	addresses map[string]bool
	listed    map[string]bool
}

func newCollector(m mailmap) *collector {
	return &collector{mailmap: m, names: make(map[string]bool), addresses: make(map[string]bool), listed: make(map[string]bool)}
}

// section adds whom a section names (get_maintainer.pl: add_categories).
func (c *collector) section(s *section, suffix string) {
	title := shorten(s.title)
	for _, f := range s.fields {
		switch f.key {
		case 'M':
			c.named(f.value, "maintainer:"+title+suffix)
		case 'R':
			c.named(f.value, "reviewer:"+title+suffix)
		case 'L':
			role := "open list"
			address, more := f.value, ""
			if i := strings.IndexAny(address, " \t"); i > 0 {
				address, more = address[:i], address[i:]
			}
			if strings.Contains(more, "subscribers-only") || c.listed[strings.ToLower(address)] {
				continue
			}
			if strings.Contains(more, "moderated") {
				role = "moderated list"
			}
			if title != theRest {
				role += ":" + title
			}
			c.listed[strings.ToLower(address)] = true
			c.lists = append(c.lists, &entry{person{address: address}, role + suffix})
		}
	}
}

// named adds one that M: or R: names, or several, if these are addresses with
// commas (get_maintainer.pl: push_email_addresses).
func (c *collector) named(value, role string) {
	if list, err := mail.ParseAddressList(value); err == nil && len(list) > 1 {
		for _, a := range list {
			c.add(person{a.Name, a.Address}.normal(), role)
		}
		return
	}
	c.add(parsePerson(value), role)
}

// add adds a person unless the name or the address is there.
func (c *collector) add(p person, role string) {
	if p.address == "" || p.name != "" && c.names[strings.ToLower(p.name)] || c.addresses[strings.ToLower(p.address)] {
		return
	}
	if p.name != "" {
		c.names[strings.ToLower(p.name)] = true
	}
	c.addresses[strings.ToLower(p.address)] = true
	c.people = append(c.people, &entry{p, role})
}

var penguinChief = regexp.MustCompile(`Linus Torvalds <torvalds@linux-foundation\.org>`)

// entries returns all, as get_maintainers of the script does.
func (c *collector) entries() []entry {
	byName, byAddress := make(map[string]person), make(map[string]person)
	for _, list := range [][]*entry{c.people, c.lists} {
		for _, e := range list {
			p := c.mailmap.apply(parsePerson(e.String()))
			name, address := strings.ToLower(p.name), strings.ToLower(p.address)
			if same, ok := byName[name]; ok && p.name != "" {
				p = same
			} else if same, ok := byAddress[address]; ok {
				p = same
			} else {
				byName[name], byAddress[address] = p, p
			}
			e.person = c.mailmap.apply(p.normal())
		}
	}
	c.people = slices.DeleteFunc(c.people, func(e *entry) bool { return penguinChief.MatchString(e.String()) })
	for _, p := range c.inFiles {
		p = c.mailmap.apply(p)
		c.add(p, "")
		for _, e := range c.people {
			if (e.name == p.name || e.address == p.address) && !strings.Contains(e.role, roleInFile) {
				e.role = strings.TrimPrefix(e.role+","+roleInFile, ",")
			}
		}
	}
	var all []entry
	seen := make(map[string]bool)
	for _, e := range slices.Concat(c.people, c.lists) {
		if key := e.String(); !seen[key] {
			seen[key] = true
			all = append(all, *e)
		}
	}
	return all
}

var (
	possibleAddress = regexp.MustCompile(`[\p{L}"' ,.+-]*\s*,*\s*[(<{]?[A-Za-z0-9_.+-]+@[A-Za-z0-9.-]+\.[A-Za-z0-9]+[)>}]?`)
	addressInText   = regexp.MustCompile(`[(<{]?([A-Za-z0-9_.+-]+@[A-Za-z0-9.-]+)[)>}]?`)
	notOfNames      = regexp.MustCompile(`[^\p{L}',.+-]`)
	particle        = regexp.MustCompile(`^[',.+-]$`)
)

// file adds whom the text of a device tree binding names (get_maintainer.pl:
// maintainers_in_file and clean_file_emails).
func (c *collector) file(text []byte) {
	for _, found := range possibleAddress.FindAll(text, -1) {
		// The pattern goes over the ends of lines, and the script's next ones do not.
		p := parsePerson(addressInText.ReplaceAllString(string(found), "<$1>"))
		name := p.name
		if len(name) >= 2 && name[0] == '"' && name[len(name)-1] == '"' {
			name = name[1 : len(name)-1]
		}
		parts := notOfNames.Split(name, -1)
		for len(parts) > 0 && parts[len(parts)-1] == "" {
			parts = parts[:len(parts)-1]
		}
		parts = slices.DeleteFunc(parts, particle.MatchString)
		if n := len(parts); n > 2 {
			first, middle := parts[n-3], parts[n-2]
			parts = parts[n-2:]
			if isInitial(first) || utf8.RuneCountInString(middle) == 1 || utf8.RuneCountInString(middle) == 2 && strings.HasSuffix(middle, ".") {
				parts = append([]string{first}, parts...)
			}
		}
		name = strings.Join(parts, " ")
		if strings.HasSuffix(name, ",") || strings.HasSuffix(name, ".") {
			name = name[:len(name)-1]
		}
		if strings.HasPrefix(name, ",") || strings.HasPrefix(name, ".") {
			name = name[1:]
		}
		c.inFiles = append(c.inFiles, person{name, p.address}.normal())
	}
}

var initial = regexp.MustCompile(`^(\p{L}|.\.)$`)

// isInitial reports whether a part of a name is one letter, or one with a dot.
func isInitial(part string) bool { return initial.MatchString(part) }
