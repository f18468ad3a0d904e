// Package report shows what tests found: a page for a browser, pictures of the guest's
// memory, and a text for a cover letter.
package report
