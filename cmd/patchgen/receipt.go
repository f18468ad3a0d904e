package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"patchgen/series"
	"patchgen/submit/home"
	"patchgen/submit/patchmail"
	"patchgen/submit/receipt"
)

// A place is where the mails of a series lie, and what belongs to them.
type place struct {
	mails   string     // folder or file
	home    *home.Home // nil if they are in none
	version int        // of the mails in a home
	receipt string     // file, "" if there is to be none
}

// locate finds what a person's path of a series means: a home, the mails of one
// version in it, or any folder of patches or mbox.
func locate(path, receiptFile string) (place, error) {
	p := place{mails: path, receipt: receiptFile}
	h, v, err := home.Of(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, &usageError{err: err}
	}
	if v == 0 {
		if v, err = h.Next(); err != nil {
			return p, err
		}
		if _, err := os.Stat(h.Mails(v)); errors.Is(err, fs.ErrNotExist) {
			return p, &usageError{fmt.Errorf("%s has no mails of version %d yet", path, v), "write them with patchgen emit --home " + path}
		}
	}
	p.home, p.version, p.mails = h, v, h.Mails(v)
	if p.receipt == "" {
		p.receipt = h.Receipt(v)
	}
	return p, nil
}

// receiptOf reads the receipt of patches, or begins a new one if there is none or
// it is of others.
func receiptOf(ctx context.Context, file string, mails []series.Mail, stderr io.Writer) (*receipt.Receipt, error) {
	s, err := patchmail.Parse(mails)
	if err != nil {
		return nil, err
	}
	r, ids, err := readReceipt(ctx, file, s.Patches)
	if stale := (*receipt.StaleError)(nil); errors.As(err, &stale) {
		fmt.Fprintf(stderr, "patchgen: note: %v; it begins anew\n", err)
		err = nil
	}
	if r == nil && err == nil {
		r = receipt.New(tool, s.Patches, ids)
	}
	return r, err
}

// holds returns a *receipt.StaleError if the patches have a receipt that is of
// others.
func holds(ctx context.Context, p place, s *patchmail.Series) error {
	if p.receipt == "" {
		return nil
	}
	_, _, err := readReceipt(ctx, p.receipt, s.Patches)
	return err
}

// readReceipt reads the receipt of patches, and returns the IDs of these, too. The
// receipt is nil if there is none, or with a *receipt.StaleError if it is of others.
func readReceipt(ctx context.Context, file string, patches []*patchmail.Mail) (*receipt.Receipt, []patchmail.ID, error) {
	ids, err := patchmail.IDs(ctx, patches)
	if err != nil {
		return nil, nil, err
	}
	r, err := receipt.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ids, nil
	}
	if err != nil {
		return nil, nil, &usageError{err: err}
	}
	if err := r.Holds(patches, ids); err != nil {
		return nil, ids, fmt.Errorf("%s: %w", file, err)
	}
	return r, ids, nil
}

// writeReceipt writes a receipt, and beside it what a person reads.
func writeReceipt(r *receipt.Receipt, file string, o series.WriteOptions) error {
	data, err := r.JSON()
	if err != nil {
		return err
	}
	if err := notWritten(file, series.WriteFile(file, data, o)); err != nil {
		return err
	}
	text := strings.TrimSuffix(file, ".json") + ".txt"
	return notWritten(text, series.WriteFile(text, []byte(r.Text()), o))
}
