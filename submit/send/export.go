package send

import (
	"bytes"
	"strings"

	"patchgen/series"
)

// The line before each mail of an mbox, in the form that git format-patch writes
// and git am looks for.
const mboxLine = "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n"

// SendEmailArgs are the flags with which git send-email sends what Export wrote to
// those that the headers name and, but for Bcc, to nobody else. Without --to-cmd it
// asks on a terminal whom else the mails are for, whatever stands in the files.
var SendEmailArgs = []string{"--to-cmd=true", "--suppress-cc=author", "--suppress-cc=body", "--suppress-cc=cccmd"}

// Export writes mails for git send-email into a folder, in the way and with the
// errors of series.Write. They have their recipients and Message-IDs, but neither
// Bcc, which git would show to all, nor X-Mailer, as git writes its own.
func Export(dir string, messages []Message, o series.WriteOptions) error {
	var files []series.Mail
	for _, m := range messages {
		var b bytes.Buffer
		b.WriteString(mboxLine)
		fields, body, err := splitHeader(m.Data)
		if err != nil {
			return err
		}
		for _, f := range fields {
			if !f.is("X-Mailer") {
				b.Write(f.raw)
			}
		}
		b.WriteByte('\n')
		b.Write(body)
		files = append(files, series.Mail{Name: strings.TrimSuffix(m.Name, ".patch") + ".patch", Data: b.Bytes()})
	}
	return series.Write(dir, files, o)
}

// MBox returns mails as one mbox, for b4 am -m and git am. A mail with a line that
// begins with "From " is written as quoted-printable: readers of mbox files do not
// agree on how such a line is quoted, and on whether it needs to be. Subjects and
// names of authors are not folded, as b4 0.12 ends at one in a file.
func MBox(messages []Message) ([]byte, error) {
	var all bytes.Buffer
	for _, m := range messages {
		fields, body, err := splitHeader(m.Data)
		if err != nil {
			return nil, err
		}
		encode := bytes.HasPrefix(body, []byte("From ")) || bytes.Contains(body, []byte("\nFrom "))
		all.WriteString(mboxLine)
		for _, f := range fields {
			if encode && f.is("Content-Transfer-Encoding") {
				f.raw = []byte("Content-Transfer-Encoding: quoted-printable\n")
			}
			if line := f.name + ": " + f.value() + "\n"; (f.is("Subject") || f.is("From")) && len(line) <= maxLine {
				f.raw = []byte(line)
			}
			all.Write(f.raw)
		}
		if encode {
			body = quote(body)
		}
		all.WriteByte('\n')
		all.Write(body)
		all.WriteByte('\n')
	}
	return all.Bytes(), nil
}
