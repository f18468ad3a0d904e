package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"patchgen/series"
	"patchgen/submit/address"
	"patchgen/submit/check"
	"patchgen/submit/home"
	"patchgen/submit/patchmail"
	"patchgen/submit/recipients"
	"patchgen/submit/send"
)

const sendUsage = `patchgen send mails a series to those whom the tree's MAINTAINERS names.

Usage:
    patchgen send PATH [--dry-run | --reflect | --yes | -o DIR] [flags]

PATH is the home of a series, a folder of *.patch files, or an mbox. Without --yes
nothing leaves this machine:

    --dry-run   print what would go to whom, and why to them (this is the default)
    --reflect   send all mails to oneself alone, as they would go; what came back
                is compared by patchgen check --reflected FILE
    --yes       send them
    -o DIR      write them for git send-email; with -o FILE.mbox for b4 am

How mail is sent is taken from git's sendemail.* settings, and a password from its
credential helper. If it is cut off in the middle, the same command sends the rest.

Examples:
    $ patchgen send dirty --dry-run
    $ patchgen send dirty --reflect
    $ patchgen send dirty --yes
    $ patchgen send out --tree ~/linux --cc kvm@vger.kernel.org -o mails

Flags:
`

type sendFlags struct {
	treeFlags
	output, identity, passwordCommand   string
	from                                string
	to, cc, skip                        []string
	pause                               time.Duration
	dryRun, reflect, yes, force, noPerl bool
}

func sendMails(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := sendFlags{}
	set := pflag.NewFlagSet("send", pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	set.BoolVar(&f.dryRun, "dry-run", false, "print what would go to whom")
	set.BoolVar(&f.reflect, "reflect", false, "send to oneself alone")
	set.BoolVar(&f.yes, "yes", false, "send")
	set.StringVarP(&f.output, "output-directory", "o", "", "write the mails to `DIR`, or to the file if it ends in .mbox")
	f.treeFlags.add(set)
	set.StringVar(&f.from, "from", "", "whoever sends, \"`Name <address>`\" (default: the home's author, else git's sendemail.from, else git's user)")
	set.StringArrayVar(&f.to, "to", nil, "`ADDRESS` that gets all mails; again for more")
	set.StringArrayVar(&f.cc, "cc", nil, "`ADDRESS` that gets a copy of all mails; again for more")
	set.StringArrayVar(&f.skip, "skip", nil, "`ADDRESS` that gets nothing, such as one that the server refuses; again for more")
	set.BoolVar(&f.noPerl, "no-script", false, "read MAINTAINERS without running the tree's get_maintainer.pl")
	set.StringVar(&f.identity, "identity", "", "`NAME` of the sendemail.NAME.* settings to take (default: sendemail.identity)")
	set.StringVar(&f.passwordCommand, "password-command", "", "`COMMAND` that prints the password (default: sendemail.smtpPass, else git's credential helper)")
	set.DurationVar(&f.pause, "pause", send.DefaultPause, "`TIME` between two mails")
	set.BoolVar(&f.force, "force", false, "overwrite files that patchgen did not write")
	if done, err := parse(set, sendUsage, args, stdout); done {
		return err
	}
	if set.NArg() != 1 {
		return &usageError{fmt.Errorf("send takes one PATH, and got %d", set.NArg()), `see "patchgen send --help"`}
	}
	ways := 0
	for _, way := range []bool{f.dryRun, f.reflect, f.yes, f.output != ""} {
		if way {
			ways++
		}
	}
	if ways > 1 {
		return usagef("--dry-run, --reflect, --yes and -o: one at a time")
	}
	if f.pause < 0 {
		return usagef("--pause %s: want a time that is not negative", f.pause)
	}
	for _, skip := range f.skip {
		if _, err := address.Check(mail.Address{Address: skip}); err != nil {
			return usagef("--skip %s: want an address alone: %w", skip, err)
		}
	}
	p, err := locate(set.Arg(0), "")
	if err != nil {
		return err
	}
	if f.tree == "" && p.home != nil {
		f.tree = p.home.Tree
	}
	f.tree = cmp.Or(f.tree, defaultTree())
	return f.run(ctx, p, stdout, stderr)
}

func (f *sendFlags) run(ctx context.Context, p place, stdout, stderr io.Writer) error {
	s, err := patchmail.Read(p.mails)
	if err != nil {
		return &usageError{err, "send takes the home of a series, a folder of *.patch files, or an mbox"}
	}
	if err := holds(ctx, p, s); err != nil {
		return err
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	report := newReporter(stderr)
	tree, err := f.open(ctx, cache, report)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := usable(ctx, p, stderr); err != nil {
		return err
	}
	config, err := send.ReadConfig(ctx, cmp.Or(tree.Dir(), "."), f.identity)
	if err != nil {
		return &usageError{err, "see git help send-email"}
	}
	for _, note := range config.Notes {
		fmt.Fprintf(stderr, "patchgen: note: %s\n", note)
	}
	from, err := f.sender(p.home, config)
	if err != nil {
		return err
	}
	o := recipients.Options{To: f.to, Cc: f.cc, NoScript: f.noPerl, Sender: from.Address, Suppress: slices.Clone(config.SuppressCc)}
	if !config.CopySelf {
		o.Suppress = append(o.Suppress, "self") // he has the mails
	}
	if p.home != nil {
		o.To, o.Cc = append(o.To, p.home.To...), append(o.Cc, p.home.Cc...)
	}
	found, err := recipients.For(ctx, tree, s, o)
	if err != nil {
		return &usageError{err: err}
	}
	messages, err := f.compose(s, p.home, found, config, from)
	if err != nil {
		return &usageError{err, "nothing was sent"}
	}
	for _, skip := range f.skip {
		if !slices.ContainsFunc(messages, func(m send.Message) bool { return slices.ContainsFunc(m.Recipients, equalFold(skip)) }) {
			return &usageError{fmt.Errorf("--skip %s: none of these mails goes there anyway", skip), "see with --dry-run whom they go to"}
		}
	}
	if f.output != "" {
		return f.export(messages, cache, config, stdout, stderr)
	}
	sender := &send.Sender{Config: config, Reflect: f.reflect, PasswordCommand: f.passwordCommand, Pause: f.pause, Skip: f.skip}
	if f.pause == 0 {
		sender.Pause = -1
	}
	sending := p.sending()
	sent, err := p.sent(s)
	if err != nil && !f.reflect {
		return err
	}
	if f.reflect {
		sending = p.reflected()
	}
	plan, err := sender.Plan(sending, messages)
	if err != nil {
		return &usageError{err, "nothing was sent"}
	}
	printPlan(stdout, plan, found)
	printLeftOut(stdout, found, messages, config.SuppressCc, from)
	if !f.yes && !f.reflect {
		fmt.Fprintf(stderr, "patchgen: nothing was sent: --reflect sends it to %s alone, --yes to all of these\n", from.Address)
		return nil
	}
	result, err := sender.Send(ctx, sending, messages, report)
	printDeliveries(stdout, result)
	if err != nil {
		return &sendError{err, len(result.Mails), len(plan.Mails)}
	}
	if f.reflect {
		fmt.Fprintf(stderr, "patchgen: all went to %s alone; save what comes back, and compare it with patchgen check %s --reflected FILE\n", from.Address, p.mails)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(sent), 0o777); err != nil {
		return err
	}
	if err := os.Rename(sending, sent); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "patchgen: all %d mails are out; what was sent is kept in %s\n", len(result.Mails), sent)
	return nil
}

// usable refuses mails that would be of use to nobody, and tells of what else is found
// in them without a tree.
func usable(ctx context.Context, p place, stderr io.Writer) error {
	s, err := patchmail.ReadAny(p.mails)
	if err != nil {
		return err
	}
	r, err := check.Check(ctx, nil, s, check.Options{NoScripts: true})
	if err != nil {
		return err
	}
	if all := r.Unusable(); len(all) > 0 {
		f := all[0]
		what := cmp.Or(f.File, "the series") + ": "
		if f.Patch == 0 {
			what = "the series: "
		}
		if f.Where != "" {
			what += f.Where + ": "
		}
		return &usageError{fmt.Errorf("%s%s (%s)", what, f.Problem, f.Rule), cmp.Or(f.Do, "see patchgen check") + "; nothing was sent"}
	}
	if n := r.Faults(); n > 0 {
		fmt.Fprintf(stderr, "patchgen: note: there %s in the mails: see patchgen check %s\n", areFaults(n), p.mails)
	}
	return nil
}

// areFaults is "is a fault" or "are N faults".
func areFaults(n int) string {
	if n == 1 {
		return "is a fault"
	}
	return fmt.Sprintf("are %d faults", n)
}

// A sendError is about a sending that did not come to its end.
type sendError struct {
	err       error
	done, all int
}

func (e *sendError) Error() string {
	return fmt.Sprintf("%d of %d mails are out: %v", e.done, e.all, e.err)
}

func (e *sendError) Unwrap() error { return e.err }

// sending is the folder of what is on its way.
func (p place) sending() string {
	if p.home != nil {
		return p.home.Sending(p.version)
	}
	return filepath.Clean(p.mails) + ".sending"
}

// sent is the folder of what was sent, once it was. Outside of a home it has another
// name if another version was sent from the same place. The error is a *usageError
// if this one was.
func (p place) sent(s *patchmail.Series) (string, error) {
	version := s.Mails()[0].Tags.Version
	path := filepath.Clean(p.mails)
	folders := []string{path + ".sent", fmt.Sprintf("%s.v%d.sent", path, version)}
	if p.home != nil {
		folders, version = []string{p.home.Sent(p.version)}, p.version
	}
	for _, folder := range folders {
		if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
			return folder, nil
		} else if err != nil {
			return "", err
		}
		earlier, err := patchmail.Read(filepath.Join(folder, "mails"))
		if p.home == nil && err != nil {
			return "", &usageError{fmt.Errorf("%s is in the way of what is kept of these mails: %w", folder, err), "rename it, or take another folder for the mails"}
		}
		if p.home != nil || earlier.Mails()[0].Tags.Version == version {
			return "", &usageError{fmt.Errorf("version %d was sent already, and is kept in %s", version, folder),
				"what has changed since is the next version: patchgen emit or git format-patch writes it with -v"}
		}
	}
	return "", &usageError{fmt.Errorf("%s are there, with other versions", strings.Join(folders, " and ")), "rename them"}
}

// reflected is the folder of what was sent to oneself.
func (p place) reflected() string { return filepath.Clean(p.mails) + ".reflected" }

// sender is who sends.
func (f *sendFlags) sender(h *home.Home, config *send.Config) (mail.Address, error) {
	text := f.from
	if text == "" && h != nil {
		text = h.Author
	}
	if text == "" {
		if config.From.Address == "" {
			return mail.Address{}, &usageError{errors.New("git does not know who you are"), `say it with --from "Name <address>", or to git: git config --global user.name and user.email`}
		}
		return config.From, nil
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		return mail.Address{}, usagef("--from %q: want \"Name <address>\"", text)
	}
	return *a, nil
}

// compose makes the final mails.
func (f *sendFlags) compose(s *patchmail.Series, h *home.Home, found *recipients.Result, config *send.Config, from mail.Address) ([]send.Message, error) {
	var drafts []send.Draft
	for i, m := range s.Mails() {
		d := send.Draft{Mail: series.Mail{Name: m.Name, Data: m.Raw}, Bcc: config.Bcc}
		d.To = append(addresses(found.Lists[i].To), config.To...)
		d.Cc = append(addresses(found.Lists[i].Cc), config.Cc...)
		drafts = append(drafts, d)
	}
	first := s.Mails()[0]
	o := send.ComposeOptions{From: from, ChangeID: first.Mentions("change-id"), Version: first.Tags.Version,
		SuppressCc: config.SuppressCc, CcCover: config.CcCover, ToCover: config.ToCover}
	if h != nil {
		o.ChangeID = h.ChangeID
	}
	if config.XMailer {
		o.Mailer = tool
	}
	return send.Compose(drafts, o)
}

func addresses(all []recipients.Recipient) []mail.Address {
	var list []mail.Address
	for _, r := range all {
		list = append(list, mail.Address{Name: r.Name, Address: r.Address})
	}
	return list
}

// export writes the mails for git send-email or b4.
func (f *sendFlags) export(messages []send.Message, cache string, config *send.Config, stdout, stderr io.Writer) error {
	o := writeOptions(cache, f.force)
	if strings.HasSuffix(f.output, ".mbox") {
		data, err := send.MBox(messages)
		if err != nil {
			return err
		}
		if err := notWritten(f.output, series.WriteFile(f.output, data, o)); err != nil {
			return err
		}
		fmt.Fprintln(stdout, f.output)
		fmt.Fprintf(stderr, "patchgen: nothing was sent; b4 takes it with: b4 am -m %s %s\n", f.output, strings.Trim(messages[0].ID, "<>"))
		return nil
	}
	if err := folderNotWritten(f.output, send.Export(f.output, messages, o)); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(f.output, "*.patch"))
	if err != nil {
		return err
	}
	for _, file := range files {
		fmt.Fprintln(stdout, file)
	}
	if slices.Contains(config.SuppressCc, "cc") && slices.ContainsFunc(messages, func(m send.Message) bool { return m.Cc != nil }) {
		fmt.Fprintln(stderr, "patchgen: note: by sendemail.suppresscc git send-email leaves out whom the header Cc names, whoever wrote it")
	}
	fmt.Fprintf(stderr, "patchgen: nothing was sent; git does with: git send-email %s %s/*.patch\n", strings.Join(send.SendEmailArgs, " "), filepath.Clean(f.output))
	return nil
}

// printPlan prints what goes to whom, and why.
func printPlan(w io.Writer, plan send.Plan, found *recipients.Result) {
	why := make(map[string]string)
	for _, list := range found.Lists {
		for _, r := range slices.Concat(list.To, list.Cc) {
			if why[r.Address] == "" {
				why[r.Address] = fmt.Sprintf("  (%s, %s)", r.Role, r.Why)
			}
		}
	}
	line := func(name string, list []mail.Address) {
		for _, a := range list {
			fmt.Fprintf(w, "    %-4s %s%s\n", name, person(a), why[a.Address])
		}
	}
	for i, m := range plan.Mails {
		fmt.Fprintf(w, "%s\n    %s\n    %s\n    From %s\n", m.Name, m.Subject, m.ID, person(m.From))
		line("To", m.To)
		line("Cc", m.Cc)
		switch {
		case m.State == send.Sent:
			fmt.Fprintf(w, "    is out already: %s\n", m.Answer)
		case plan.Reflect:
			fmt.Fprintf(w, "    goes to %s alone\n", strings.Join(m.Receives, ", "))
		case m.State == send.Uncertain:
			fmt.Fprintln(w, "    may be out already, and goes once more with the same Message-ID")
		}
		if i < len(found.Lists) {
			for _, note := range found.Lists[i].Notes {
				fmt.Fprintf(w, "    note: %s\n", note)
			}
		}
		fmt.Fprintln(w)
	}
	for _, note := range found.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	fmt.Fprintf(w, "recipients: %s\nserver: %s\n", found.Source, plan.Server)
}

// printLeftOut prints whom git's settings keep from getting mails.
func printLeftOut(w io.Writer, found *recipients.Result, messages []send.Message, suppressed []string, from mail.Address) {
	told := map[string]bool{strings.ToLower(from.Address): true} // he knows
	tell := func(a mail.Address, why string) {
		if key := strings.ToLower(a.Address); !told[key] {
			told[key] = true
			fmt.Fprintf(w, "left out (sendemail.suppresscc, %s): %s  (%s)\n", strings.Join(suppressed, ", "), person(a), why)
		}
	}
	for _, r := range found.LeftOut {
		tell(mail.Address{Name: r.Name, Address: r.Address}, r.Role+", "+r.Why)
	}
	for _, m := range messages {
		for _, a := range m.LeftOut {
			tell(a, "header Cc of "+m.Name)
		}
	}
}

func equalFold(a string) func(string) bool {
	return func(b string) bool { return strings.EqualFold(a, b) }
}

func person(a mail.Address) string {
	if a.Name == "" {
		return a.Address
	}
	return fmt.Sprintf("%s <%s>", a.Name, a.Address)
}

func printDeliveries(w io.Writer, result send.Result) {
	for _, d := range result.Mails {
		note := ""
		switch {
		case d.Earlier:
			note = " (earlier)"
		case d.Repeated:
			note = " (again: whether it went out before is not known)"
		}
		fmt.Fprintf(w, "%s  %s  %s%s\n", d.Time.Format(time.RFC3339), d.Name, d.Answer, note)
	}
}

// explainSend tells the exit code of an error of sending, and what to do.
func explainSend(err error) (code int, hint string, ok bool) {
	var e *sendError
	if !errors.As(err, &e) {
		return 0, "", false
	}
	hint = "the same command sends the rest"
	if e.done == 0 {
		hint = "nothing went out; the same command tries again"
	}
	if refused := (*send.RefusedError)(nil); errors.As(err, &refused) && len(refused.Recipients) > 0 && !refused.Later {
		hint = "leave out what the server refuses with --skip " + strings.Join(refused.Recipients, " --skip ") + "; " + hint
	}
	return exitUnfit, hint, true
}
