package send

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchgen/submit/address"
)

// A State is how far a mail has come.
type State string

const (
	Waiting   State = ""        // it has not gone out
	Uncertain State = "sending" // it was handed over, and no answer is known
	Sent      State = "sent"
	Refused   State = "refused" // it has not gone out, and the server said why
)

// The journal of a sending, and the folder with its mails: both in one folder.
const (
	journalFile = "journal"
	mailsDir    = "mails"
	maxJournal  = 64 << 20 // bytes
)

// A heading is the first line of a journal: what is to be sent.
type heading struct {
	Format  int    `json:"patchgen_journal"` // 1
	Reflect bool   `json:"reflect"`
	Mails   []item `json:"mails"`
}

type item struct {
	Name       string   `json:"name"`
	ID         string   `json:"message_id"`
	SHA256     string   `json:"sha256"` // of the final mail
	Source     string   `json:"source"` // Message.source, in hex digits
	Recipients []string `json:"recipients"`
}

// file is the name of a mail in its folder.
func (i item) file() string {
	return strings.TrimSuffix(strings.TrimSuffix(i.Name, ".eml"), ".patch") + ".patch"
}

// An entry is each further line.
type entry struct {
	Mail   int       `json:"mail"` // counted from 1
	State  State     `json:"state"`
	Time   time.Time `json:"time"`
	Answer string    `json:"answer,omitempty"`

	repeated bool // it was handed over again while it was Uncertain
}

// after returns an entry that follows on another of the same mail.
func (e entry) after(last entry) entry {
	e.repeated = last.repeated || e.State == Uncertain && last.State == Uncertain
	return e
}

// unsure reports whether the mail may have gone out without an answer.
func (e entry) unsure() bool { return e.State == Uncertain || e.State != Sent && e.repeated }

// parseJournal reads a journal. states has the last entry of each mail. A last
// line that is not whole is what a crash left, and says nothing: size is without
// it.
func parseJournal(data []byte) (h heading, states []entry, size int, err error) {
	for n := 1; ; n++ {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			break
		}
		if n == 1 {
			if err := json.Unmarshal(line, &h); err != nil || h.Format != 1 || len(h.Mails) == 0 || len(h.Mails) > maxMails {
				return h, nil, 0, errors.New("line 1 is not one that this patchgen wrote")
			}
			files := make(map[string]bool)
			for _, i := range h.Mails {
				if name := i.file(); name != filepath.Base(name) || !filepath.IsLocal(name) || !address.Printable(name) || files[name] {
					return h, nil, 0, fmt.Errorf("line 1 has a mail named %q", clip(name))
				}
				files[i.file()] = true
			}
			states = make([]entry, len(h.Mails))
		} else {
			var e entry
			if err := json.Unmarshal(line, &e); err != nil || e.Mail < 1 || e.Mail > len(states) ||
				!slices.Contains([]State{Uncertain, Sent, Refused}, e.State) || states[e.Mail-1].State == Sent {
				return h, nil, 0, fmt.Errorf("line %d is not one that patchgen wrote", n)
			}
			states[e.Mail-1] = e.after(states[e.Mail-1])
		}
		size += len(line) + 1
		data = rest
	}
	if size == 0 {
		return h, nil, 0, errors.New("it has not one whole line")
	}
	return h, states, size, nil
}

// A record is what is found in a folder.
type record struct {
	heading
	states   []entry
	size     int       // of the journal
	messages []Message // nil if they cannot be read
	problem  error     // why
}

// readRecord reads a folder, and returns nil if nothing was begun there.
func readRecord(folder string) (*record, error) {
	name := filepath.Join(folder, journalFile)
	data, err := readFile(name, maxJournal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &record{}
	if r.heading, r.states, r.size, err = parseJournal(data); err != nil {
		return nil, fmt.Errorf("%s: %w: what went out is not known; look at the lists, and take another folder", name, err)
	}
	var all []Message
	for _, i := range r.Mails {
		m, err := i.read(folder)
		if err != nil {
			r.problem = err
			return r, nil
		}
		all = append(all, m)
	}
	r.messages = all
	return r, nil
}

// readFile reads a regular file of limited size.
func readFile(name string, most int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // not to wait for a pipe
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return data, err
}

func (i item) read(folder string) (Message, error) {
	name := filepath.Join(folder, mailsDir, i.file())
	data, err := readFile(name, maxMail)
	if err != nil {
		return Message{}, err
	}
	if sum(data) != i.SHA256 {
		return Message{}, fmt.Errorf("%s was changed since the sending began", name)
	}
	m, err := readMessage(i.Name, data)
	if err != nil {
		return Message{}, fmt.Errorf("%s: %w", name, err)
	}
	m.Recipients = i.Recipients
	return m, nil
}

// is reports whether the record is of these mails, sent in this way.
func (r *record) is(messages []Message, reflect bool) bool {
	return r.Reflect == reflect && slices.EqualFunc(r.Mails, messages, func(i item, m Message) bool {
		return i.Name == m.Name && i.Source == fmt.Sprintf("%x", m.source)
	})
}

// resume returns the record to go on with: nil if messages are to be begun with,
// as nothing went out before. Then they have today's Date.
func resume(folder string, messages []Message, reflect bool) (*record, error) {
	r, err := readRecord(folder)
	if r == nil || err != nil || r.out() == 0 {
		return nil, err
	}
	if reflect && r.Reflect && (!r.is(messages, reflect) || r.sent() == len(r.Mails)) {
		return nil, nil // nobody else has got it, and what came back of it has been seen
	}
	problem := ""
	switch {
	case r.Reflect != reflect:
		problem = "these were sent to their recipients: take another folder to reflect the mails"
		if r.Reflect {
			problem = "these were reflected: take another folder to send the mails"
		}
	case r.is(messages, reflect) && r.problem == nil:
		return r, nil
	case r.is(messages, reflect):
		return nil, fmt.Errorf("%w, and some of its mails went out: restore that file", r.problem)
	case r.sent() == len(r.Mails):
		problem = r.changed(messages) + ": take another folder, or make a new version of the series"
	default:
		problem = r.changed(messages) + ": restore it to send the rest, or move that folder away to give up the rest, and send a new version of the series"
	}
	return nil, fmt.Errorf("%s: %d of %d mails were sent from here, and %s", folder, r.sent(), len(r.Mails), problem)
}

// changed says what makes messages others than those of the record.
func (r *record) changed(messages []Message) string {
	if len(r.Mails) != len(messages) {
		return fmt.Sprintf("there are %d now", len(messages))
	}
	for n, i := range r.Mails {
		if i.Name != messages[n].Name {
			return fmt.Sprintf("mail %d is %s now, and was %s", n+1, messages[n].Name, i.Name)
		}
		if i.Source != fmt.Sprintf("%x", messages[n].source) {
			return i.Name + ", whom it goes to or who sends is another now"
		}
	}
	return "they have changed since"
}

// sent returns how many mails went out.
func (r *record) sent() int {
	n := 0
	for _, e := range r.states {
		if e.State == Sent {
			n++
		}
	}
	return n
}

// Begun returns how many of the mails in a folder a server has, or may have, and how many
// there are; 0 of 0 if no sending was begun there.
func Begun(folder string) (out, all int, err error) {
	r, err := readRecord(folder)
	if r == nil || err != nil {
		return 0, 0, err
	}
	return r.out(), len(r.Mails), nil
}

// out returns how many mails went out, or may have.
func (r *record) out() int {
	n := 0
	for _, e := range r.states {
		if e.State == Sent || e.unsure() {
			n++
		}
	}
	return n
}

// Load returns the mails of a sending that was begun in a folder, as they go
// out. The error wraps fs.ErrNotExist if there is none.
func Load(folder string) ([]Message, error) {
	r, err := readRecord(folder)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, &fs.PathError{Op: "read", Path: filepath.Join(folder, journalFile), Err: fs.ErrNotExist}
	}
	return r.messages, r.problem
}

// A journal is a record that is written on.
type journal struct {
	*record
	folder string
	dir    *os.File // locked
	file   *os.File
}

// openJournal locks a folder, made if need be, and finds or writes what is to be
// sent: the mails first, and then the journal, each whole.
func openJournal(folder string, messages []Message, reflect bool) (_ *journal, err error) {
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, err
	}
	dir, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	j := &journal{folder: folder, dir: dir}
	defer func() {
		if err != nil {
			j.close()
		}
	}()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("another patchgen is sending the mails of %s: wait for it", folder)
	} else if err != nil {
		return nil, &os.PathError{Op: "lock", Path: folder, Err: err}
	}
	if j.record, err = resume(folder, messages, reflect); err != nil {
		return nil, err
	}
	if j.record == nil {
		if err := j.begin(messages, reflect); err != nil {
			return nil, fmt.Errorf("write the mails before they are sent: %w", err)
		}
	}
	if j.file, err = os.OpenFile(filepath.Join(folder, journalFile), os.O_WRONLY, 0); err != nil {
		return nil, err
	}
	if err := j.file.Truncate(int64(j.size)); err != nil {
		return nil, err
	}
	if _, err := j.file.Seek(int64(j.size), io.SeekStart); err != nil {
		return nil, err
	}
	return j, nil
}

// begin writes the mails and an empty journal, in the place of others of which
// none went out.
func (j *journal) begin(messages []Message, reflect bool) error {
	j.record = &record{heading: heading{Format: 1, Reflect: reflect}, states: make([]entry, len(messages)), messages: messages}
	if err := os.Remove(filepath.Join(j.folder, journalFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	crashed, _ := filepath.Glob(filepath.Join(j.folder, ".new-*"))
	for _, old := range crashed {
		os.RemoveAll(old)
	}
	staged, err := os.MkdirTemp(j.folder, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staged)
	mails := filepath.Join(staged, mailsDir)
	if err := os.Mkdir(mails, 0o777); err != nil {
		return err
	}
	for _, m := range messages {
		i := item{Name: m.Name, ID: m.ID, SHA256: sum(m.Data), Source: fmt.Sprintf("%x", m.source), Recipients: m.Recipients}
		if err := writeSynced(filepath.Join(mails, i.file()), m.Data); err != nil {
			return err
		}
		j.Mails = append(j.Mails, i)
	}
	line, err := json.Marshal(j.heading)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if err := writeSynced(filepath.Join(staged, journalFile), line); err != nil {
		return err
	}
	if err := syncDir(mails); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(j.folder, mailsDir)); err != nil {
		return err
	}
	for _, name := range []string{mailsDir, journalFile} {
		if err := os.Rename(filepath.Join(staged, name), filepath.Join(j.folder, name)); err != nil {
			return err
		}
	}
	j.size = len(line)
	return j.dir.Sync()
}

func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// note writes what became of the ith mail, and returns when that is on the disk.
func (j *journal) note(i int, state State, answer string) error {
	e := entry{Mail: i + 1, State: state, Time: time.Now().UTC().Truncate(time.Second), Answer: answer}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	n, err := j.file.Write(append(line, '\n'))
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.file.Truncate(int64(j.size)) // not to leave half a line before another
		return err
	}
	j.size += n
	j.states[i] = e.after(j.states[i])
	return nil
}

// path is where the ith mail lies.
func (j *journal) path(i int) string { return filepath.Join(j.folder, mailsDir, j.Mails[i].file()) }

func (j *journal) close() {
	if j.file != nil {
		j.file.Close()
	}
	j.dir.Close() // which lets go of the lock
}
