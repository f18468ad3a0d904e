// Package recipients finds who must get each patch of a series: those whom
// MAINTAINERS names for what it changes, whom its trailers name, and whom the
// configuration adds.
//
// MAINTAINERS is read by the tree's own scripts/get_maintainer.pl if there is
// perl, and else by a reader that has its semantics. Either gets nothing but the
// patch and files of the tree: the script runs in a temporary folder, without
// history and with no .get_maintainer.conf, be it the user's or the tree's. So
// the result depends on tree, series and configuration alone, and is the same
// for a folder and for a commit.
//
// What is trusted: the script, which is run, as make is in a build, with the
// user's rights. Patches and all other files of the tree are only read.
package recipients

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"regexp"
	"slices"
	"strings"

	"patchgen/ktree"
	"patchgen/submit/address"
	"patchgen/submit/patchmail"
)

// Options are what a series' configuration adds. The zero value is usable.
type Options struct {
	To, Cc   []string // "Name <address>" or "address"; each of them gets all mails
	NoScript bool     // read MAINTAINERS without running anything of the tree

	// Sender is the address of whoever sends, whom "self" in Suppress is about.
	Sender string
	// Suppress are categories of recipients who are not looked for, in the words of
	// git-send-email(1), --suppress-cc: author, self, sob, misc-by and bodycc, and cccmd
	// for those whom MAINTAINERS names for Cc, as get_maintainer.pl is what a --cc-cmd
	// runs. As there, the sender is left to self where a trailer names him, and all but
	// self is about Cc alone. Whom To and Cc name gets the mails in any case.
	Suppress []string
}

// A Result is who gets which mail.
type Result struct {
	Source string   `json:"source"` // for people: what read MAINTAINERS, and why not the script
	Notes  []string `json:"notes,omitempty"`
	Lists  []List   `json:"lists"` // in the order of the series' mails, the cover letter first

	// LeftOut are those who do not get all mails that they would get without
	// Options.Suppress, and why they would.
	LeftOut []Recipient `json:"left_out,omitempty"`
}

// A List is who gets one mail. Each address is in it once, whatever its case.
type List struct {
	Mail  string      `json:"mail"` // its name
	To    []Recipient `json:"to"`   // maintainers; if there are none, the first list
	Cc    []Recipient `json:"cc"`
	Notes []string    `json:"notes,omitempty"` // what a person has to look at
}

// A Recipient is a person or a list. Name and Address can stand in a header:
// they are one line, without control characters, and the address is ASCII.
type Recipient struct {
	Name    string `json:"name,omitempty"` // decoded and without quotes
	Address string `json:"address"`

	// Role is "maintainer", "reviewer", "open list", "moderated list" or "in file"
	// (of a device tree binding), which are the words of get_maintainer.pl; or
	// "author", "trailer" or "configured". Of several, it is the first in this order,
	// but for one that puts a recipient into To.
	Role string `json:"role"`
	// Why is for people: "MAINTAINERS: TITLE" with the section's title, "Reported-by" and
	// such for a trailer; separated by "; ".
	Why string `json:"why"`
	// Patches are the numbers, from 1, of those that a cover letter's recipient gets
	// besides; nil in the lists of patches.
	Patches []int `json:"patches,omitempty"`
}

// mostRecipients is how many a mail may have before List.Notes tells of it:
// SMTP servers have to take 100 (RFC 5321, section 4.5.3.1.8), and lists hold
// back mails with many.
const mostRecipients = 100

// For finds the recipients of the mails of a series, of which none may have Err.
//
// To are the maintainers (M:); Cc are reviewers (R:), lists (L:) that everybody may
// write to, whoever a trailer names (Cc, and all in -by but Assisted-by), and the
// author, whom only the sender can tell from himself. A line "Cc:" below "---" counts
// as a trailer, as for git send-email. A cover letter goes to whoever gets a patch, in
// To if he is in To there; whom itself names in lines "To:" and "Cc:" gets all
// mails, as with b4.
//
// The tree is the one before the series. One without MAINTAINERS is no error but
// noted, and so are addresses and patterns that cannot be read.
func For(ctx context.Context, tree *ktree.Tree, s *patchmail.Series, o Options) (*Result, error) {
	always, err := configured(o)
	if err != nil {
		return nil, err
	}
	for _, m := range s.Mails() {
		if m.Err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, m.Err)
		}
	}
	r := &Result{}
	patches := make([]patch, len(s.Patches))
	for i, m := range s.Patches {
		patches[i] = readPatch(m)
	}
	if err := r.maintainers(ctx, tree, patches, o); err != nil {
		return nil, err
	}

	cover, all, left := newGathering(), newGathering(), newGathering()
	if s.Cover != nil {
		cover = o.named(s.Cover, true)
		always.merge(cover)
		always.notes = nil
	}
	for i, m := range s.Patches {
		g := patches[i].found
		g.merge(o.author(m))
		g.merge(o.named(m, false))
		g.merge(always)
		g.address()
		left.missing(g)
		r.Lists = append(r.Lists, g.list(m.Name))
		for _, rcpt := range g.order {
			copied := *rcpt
			copied.Patches = []int{i + 1}
			all.add(copied, g.to[rcpt])
		}
	}
	if s.Cover != nil {
		all.merge(o.author(s.Cover))
		all.merge(cover)
		all.merge(always)
		all.address()
		left.missing(all)
		r.Lists = slices.Insert(r.Lists, 0, all.list(s.Cover.Name))
	}
	for _, rcpt := range left.order {
		r.LeftOut = append(r.LeftOut, *rcpt)
	}
	return r, nil
}

// maintainers fills in whom MAINTAINERS names for each patch.
func (r *Result) maintainers(ctx context.Context, tree *ktree.Tree, patches []patch, o Options) error {
	text, err := tree.ReadFile("MAINTAINERS")
	if errors.Is(err, fs.ErrNotExist) {
		r.Source = "nothing, as the tree has no MAINTAINERS"
		r.Notes = append(r.Notes, fmt.Sprintf("%s has no MAINTAINERS: recipients are those of trailers and configuration alone", tree.Origin()))
		return nil
	}
	if err != nil {
		return err
	}
	d := newDatabase(text, tree)
	entries := make([][]entry, len(patches))

	why := "it was asked for"
	if !o.NoScript {
		why, err = runScript(ctx, d, patches, entries)
		if err != nil {
			return err
		}
	}
	r.Source = "scripts/get_maintainer.pl of " + tree.Origin()
	if why != "" {
		r.Source = "patchgen's own reader of MAINTAINERS, because " + why
		for i := range patches {
			if err := ctx.Err(); err != nil {
				return err
			}
			entries[i] = d.find(patches[i].files, patches[i].text)
		}
		r.Notes = append(r.Notes, d.notes...)
	}
	for i := range patches {
		g := patches[i].found
		for _, e := range entries[i] {
			rcpt, err := d.recipient(e)
			if err != nil {
				g.notes = append(g.notes, fmt.Sprintf("MAINTAINERS, %.120s: %v", clean(e.role), err))
				continue
			}
			if rcpt.Role == "maintainer" {
				o.add(g, "to", rcpt, true)
			} else {
				o.add(g, "cccmd", rcpt, false)
			}
		}
	}
	return nil
}

// configured reads the addresses of o.
func configured(o Options) (*gathering, error) {
	g := newGathering()
	for _, list := range []struct {
		name  string
		texts []string
	}{{"to", o.To}, {"cc", o.Cc}} {
		for _, text := range list.texts {
			a, err := address.Parse(text)
			if err != nil {
				return nil, fmt.Errorf("configuration, %s: %w", list.name, err)
			}
			g.add(Recipient{Name: a.Name, Address: a.Address, Role: "configured", Why: "configuration: " + list.name}, list.name == "to")
		}
	}
	return g, nil
}

var (
	ccLine   = regexp.MustCompile(`(?im)^(cc):[ \t]*(\S.*)$`)
	toCcLine = regexp.MustCompile(`(?im)^(to|cc):[ \t]*(\S.*)$`)
)

// add adds a recipient, unless his category is suppressed. "to" is the category
// of those whom only self leaves out.
func (o Options) add(g *gathering, category string, r Recipient, to bool) {
	if strings.EqualFold(r.Address, o.Sender) && (category == "sob" || category == "misc-by" || category == "bodycc") {
		category = "self"
	}
	if slices.Contains(o.Suppress, category) || strings.EqualFold(r.Address, o.Sender) && slices.Contains(o.Suppress, "self") {
		g.left = append(g.left, r)
		return
	}
	g.add(r, to)
}

// named returns whom the text of a mail names.
func (o Options) named(m *patchmail.Mail, cover bool) *gathering {
	g := newGathering()
	add := func(key, value string) {
		list, err := mailboxes(value)
		if err != nil {
			g.notes = append(g.notes, fmt.Sprintf("%s: %v", key, err))
		}
		category := "misc-by"
		switch strings.ToLower(key) {
		case "to":
			category = "to"
		case "cc":
			category = "bodycc"
		case "signed-off-by":
			category = "sob"
		}
		for _, a := range list {
			o.add(g, category, Recipient{Name: a.Name, Address: a.Address, Role: "trailer", Why: key}, category == "to")
		}
	}
	lines, text := ccLine, m.Below
	if cover {
		lines, text = toCcLine, m.Text()
	}
	for _, t := range m.Trailers() {
		key := strings.ToLower(t.Key)
		if !cover && key == "cc" || strings.HasSuffix(key, "-by") && key != "assisted-by" {
			add(t.Key, t.Value)
		}
	}
	for _, l := range lines.FindAllStringSubmatch(text, -1) {
		add(l[1], l[2])
	}
	return g
}

// author returns whom a mail is from.
func (o Options) author(m *patchmail.Mail) *gathering {
	g := newGathering()
	if a, err := address.Check(m.Author); err != nil {
		g.notes = append(g.notes, fmt.Sprintf("From: %v", err))
	} else {
		o.add(g, "author", Recipient{Name: a.Name, Address: a.Address, Role: "author", Why: "From"}, false)
	}
	return g
}

// A gathering is the recipients of one mail, each address once.
type gathering struct {
	order []*Recipient
	to    map[*Recipient]bool
	by    map[string]*Recipient // address in lower case
	notes []string
	left  []Recipient // who would be one but for Options.Suppress; he may be one all the same
}

func newGathering() *gathering {
	return &gathering{to: make(map[*Recipient]bool), by: make(map[string]*Recipient)}
}

// add adds a recipient, or why he is one again.
func (g *gathering) add(r Recipient, to bool) {
	const most = 300 // bytes of Why, more or less
	key := strings.ToLower(r.Address)
	old := g.by[key]
	if old == nil {
		old = &r
		g.by[key] = old
		g.order = append(g.order, old)
	} else {
		if to && !g.to[old] {
			old.Role = r.Role
		}
		if old.Name == "" {
			old.Name = r.Name
		}
		old.Patches = append(old.Patches, r.Patches...)
		for why := range strings.SplitSeq(r.Why, "; ") {
			if len(old.Why) < most && !slices.Contains(strings.Split(old.Why, "; "), why) {
				old.Why += "; " + why
			}
		}
	}
	if to {
		g.to[old] = true
	}
}

func (g *gathering) merge(other *gathering) {
	for _, r := range other.order {
		g.add(*r, other.to[r])
	}
	for _, n := range other.notes {
		if !slices.Contains(g.notes, n) {
			g.notes = append(g.notes, n)
		}
	}
	g.left = append(g.left, other.left...)
}

// missing adds those who were left out of another.
func (g *gathering) missing(other *gathering) {
	for _, r := range other.left {
		if other.by[strings.ToLower(r.Address)] == nil {
			g.add(r, false)
		}
	}
}

// address puts somebody into To if nobody is: a list, or else anyone but the
// author.
func (g *gathering) address() {
	if len(g.to) > 0 {
		return
	}
	i := slices.IndexFunc(g.order, func(r *Recipient) bool { return strings.HasSuffix(r.Role, " list") })
	if i < 0 {
		i = slices.IndexFunc(g.order, func(r *Recipient) bool { return r.Role != "author" })
	}
	if i >= 0 {
		g.to[g.order[i]] = true
	}
}

func (g *gathering) list(name string) List {
	l := List{Mail: name, To: []Recipient{}, Cc: []Recipient{}, Notes: g.notes}
	for _, r := range g.order {
		if g.to[r] {
			l.To = append(l.To, *r)
		} else {
			l.Cc = append(l.Cc, *r)
		}
	}
	if len(l.To) == 0 {
		l.Notes = append(l.Notes, "nobody is there to get it: name somebody in the configuration")
	}
	if n := len(g.order); n > mostRecipients {
		l.Notes = append(l.Notes, fmt.Sprintf("it has %d recipients, and servers and lists refuse mails with more than %d: split the series, or leave some out", n, mostRecipients))
	}
	return l
}

// recipient is what an entry of get_maintainer.pl says.
func (d *database) recipient(e entry) (Recipient, error) {
	a, err := address.Check(mail.Address{Name: unescape(e.name), Address: e.address})
	r := Recipient{Name: a.Name, Address: a.Address}
	if err != nil {
		return r, err
	}
	role, inFile := strings.CutSuffix(e.role, ","+roleInFile)
	role, keyword, isKeyword := strings.Cut(role, ":Keyword:")
	kind, title, _ := strings.Cut(role, ":")
	r.Role = kind
	switch kind {
	case "reviewer":
	case "open list", "moderated list":
		if title == "" {
			title = theRest
		}
	case roleInFile:
		r.Why = whyInFile
		return r, nil
	default:
		// Before Linux 7, M: made a "supporter" of a section that is Supported, an "odd
		// fixer" of one with Odd Fixes, and so on (get_maintainer.pl: get_maintainer_role).
		r.Role = "maintainer"
	}
	s := d.titled[title]
	if s != nil {
		title = s.title
	}
	r.Why = "MAINTAINERS: " + clean(title)
	if s != nil && !maintained.MatchString(s.status) {
		r.Why += fmt.Sprintf(" (%s)", clean(s.status))
	}
	if isKeyword {
		r.Why += ", K: " + clean(keyword)
	}
	if inFile {
		r.Why += "; " + whyInFile
	}
	return r, nil
}

const (
	theRest    = "THE REST"
	roleInFile = "in file"
	whyInFile  = "named in a binding that is changed"
)

var maintained = regexp.MustCompile(`(?i)^(maintained|supported|buried alive in reporters|)$`)
