package check

import "slices"

// A Rule is what a finding names.
type Rule struct {
	ID     string `json:"id"`
	What   string `json:"what"`   // is asked for, in one sentence
	Source string `json:"source"` // where it was read
}

// Rules returns all rules, in the order in which findings are listed.
func Rules() []Rule { return slices.Clone(rules) }

const (
	canonical   = "Documentation/process/submitting-patches.rst, 'The canonical patch format'"
	describe    = "Documentation/process/submitting-patches.rst, 'Describe your changes'"
	noMIME      = "Documentation/process/submitting-patches.rst, 'No MIME, no links, no compression, no attachments'"
	clients     = "Documentation/process/email-clients.rst, 'General Preferences'"
	signWork    = "Documentation/process/submitting-patches.rst, 'Sign your work - the Developer's Certificate of Origin'"
	baseInfo    = "Documentation/process/submitting-patches.rst, 'Providing base tree information'"
	styleCheck  = "Documentation/process/submitting-patches.rst, 'Style-check your changes'"
	splitUp     = "Documentation/process/submitting-patches.rst, 'Separate your changes'"
	kconfigText = "Documentation/kbuild/kconfig-language.rst"
)

var rules = []Rule{
	// The mail.
	{"mail", "A mail can be read", "RFC 5322, 2.1; git: mailinfo.c"},
	{"mime", "A patch is plain text inline: no parts, no attachment, no HTML, no base64, no format=flowed, no PGP", noMIME + "; " + clients},
	{"charset", "A mail is ASCII or UTF-8 and says so, its headers are encoded", clients + "; RFC 2047"},
	{"crlf", "Lines end in LF, in the mail and in what it adds", clients + "; git: builtin/mailsplit.c, keep_cr"},
	{"long-line", "No line is over 998 bytes unless it is encoded as quoted-printable", "RFC 5322, 2.1.1; git: git-send-email.perl, validate_patch"},
	{"control", "No NUL or other control character", "git: commit.c, commit_tree_extended ('a NUL byte in commit log message not allowed')"},
	{"size", "A mail has at most 100 000 bytes", "vger.kernel.org/majordomo-info.html, 'Message size exceeding 100 000 characters causes blocking'"},
	{"from", "From has a name and an address that others can reach", canonical + ", 'From Line'"},
	{"date", "Date is a date, and not in the future", "RFC 5322, 3.6.1"},
	{"thread", "Patches answer their own cover letter, not an older version", "Documentation/process/submitting-patches.rst, 'Explicit In-Reply-To headers'"},

	// The subject.
	{"subject", "A subject has [PATCH] and a summary, and is no reply", "Documentation/process/submitting-patches.rst, 'Include PATCH in the subject'"},
	{"numbering", "Patches are numbered k/n, all n are there, k is as wide as n", canonical + ", 'Subject Line'"},
	{"order", "The files are in the order of the numbers", "git am takes them as they come"},
	{"tags", "All subjects have the same prefix and version", "Patchwork: patchwork/parser.py, parse_series_marker, and find_series, by which mails become one series"},
	{"title-length", "A summary has at most 75 characters", canonical + ", 'Subject Line'"},
	{"title-prefix", "A summary begins with the subsystem and a colon", canonical + ", 'Subject Line'"},
	{"title-period", "A summary does not end in a period", "git: Documentation/SubmittingPatches, which asks for no full stop; the examples of " + canonical},
	{"title-mood", "A summary is imperative: add, not adds, added, adding or this patch", describe},
	{"title-duplicate", "No two patches have the same summary", canonical + ", 'Subject Line'"},

	// The text.
	{"body", "A patch says why", describe},
	{"body-width", "The text is wrapped at 75 columns", canonical},
	{"body-mood", "The text does not speak of 'this patch'", describe},
	{"body-cut", "No line of the text is the begin of a patch to git am, which drops what follows", "git: mailinfo.c, patchbreak"},
	{"leftover", "Nothing is left of work: no TODO, FIXME, XXX, template or conflict mark, fixup!, backup file", "git: builtin/log.c, 'SUBJECT HERE' and 'BLURB HERE'; scripts/checkpatch.pl, PLACEHOLDER_USE"},
	{"change-id", "No Change-Id of Gerrit is in the message", "scripts/checkpatch.pl, GERRIT_CHANGE_ID"},
	{"history", "A new version says what has changed", canonical + ", 'Commentary'"},
	{"history-place", "The history of versions stands below ---, not in the message", canonical + ", 'Commentary'"},

	// The trailers.
	{"signed-off-by", "The author has signed off with the name and address of From, and so has who sends", signWork + "; netdev CI (NIPA): tests/patch/verify_signedoff"},
	{"trailer-format", "A trailer is 'Key: Name <address>'", "Documentation/process/5.Posting.rst, 'Patch formatting and changelogs'; scripts/checkpatch.pl, BAD_SIGN_OFF"},
	{"trailer-block", "Trailers are one paragraph, the last", "git: trailer.c, find_trailer_start; netdev CI (NIPA): tests/patch/verify_fixes"},
	{"trailer-duplicate", "No trailer stands twice", "scripts/checkpatch.pl, BAD_SIGN_OFF"},
	{"fixes", "Fixes: names a commit by 12 digits and more and by its title, on one line", describe + "; netdev CI (NIPA): tests/patch/verify_fixes"},
	{"commit", "A commit that is named is in the tree", "scripts/checkpatch.pl, UNKNOWN_COMMIT_ID"},

	// The diff.
	{"empty", "A patch has a diff", "git: builtin/am.c, 'Patch is empty.'"},
	{"apply", "git am takes each patch on top of those before it, and so does a strict application, with the same result", "Documentation/process/email-clients.rst, 'Git'; git: apply.c"},
	{"offset", "Each hunk stands at its line", "git: apply.c, find_pos; GNU patch calls it fuzz and offset"},
	{"index", "The index lines name the blobs of the base, by 12 digits and more", "git: builtin/am.c, fall_back_threeway; syzkaller: syz-cluster finds a base by them"},
	{"diffstat", "The diffstat is that of the diff", canonical + ", 'Commentary'"},
	{"whitespace", "No added line has a white space error", "git: ws.c, and git-config(1), core.whitespace"},
	{"path", "Names of files have no characters that need quoting", "scripts/checkpatch.pl gives them to a shell"},
	{"mode", "Only scripts are executable", "scripts/checkpatch.pl, EXECUTE_PERMISSIONS"},
	{"binary", "No file is binary", noMIME},
	{"kconfig", "Kconfig can be parsed after each patch, and what one can switch on has a help text", kconfigText + "; scripts/checkpatch.pl, CONFIG_DESCRIPTION"},

	// The series.
	{"count", "A series has at most 15 patches", splitUp + "; Documentation/process/maintainer-netdev.rst, 'Dividing work into patches'; netdev CI (NIPA): tests/series/patch_count"},
	{"cover", "A series of more than two patches has a cover letter", "netdev CI (NIPA): tests/series/cover_letter"},
	{"cover-stale", "The cover letter lists the patches that follow, and their diffstat", "git: builtin/log.c, make_cover_letter"},
	{"testing", "It is told how the series was tested", "Documentation/process/generated-content.rst; Documentation/process/submit-checklist.rst"},
	{"base", "The base is told, as a commit on a branch that others have, with a young tip", baseInfo + "; syzkaller: syz-cluster takes tips under 60 days old; sashiko takes what a named ref reaches"},

	// The tools.
	{"checkpatch", "scripts/checkpatch.pl --strict of the tree says nothing that the cover letter does not explain", styleCheck},
	{"spelling", "codespell finds no misspelled word", "scripts/checkpatch.pl --codespell; netdev CI (NIPA): tests/patch/checkpatch"},
	{"build", "The tree compiles after each patch, with new options off and on", "Documentation/process/submitting-patches.rst, 'Separate your changes'"},
	{"warnings", "No patch brings a warning of gcc with W=1, of sparse or of kernel-doc", "Documentation/process/submit-checklist.rst; netdev CI (NIPA): tests/patch/build_allmodconfig_warn"},
	{"compiled", "What a patch touches is compiled, or it says nothing that there is no warning", "Documentation/process/submit-checklist.rst"},
	{"survival", "A new option can be switched on", kconfigText},
	{"receipt", "The receipt is of these patches", "patchgen: submit/receipt"},
	{"tree", "There is a tree to apply the series to", "Documentation/process/submit-checklist.rst"},
}

// place is a rule's place in the list.
var place = func() map[string]int {
	at := make(map[string]int)
	for i, r := range rules {
		at[r.ID] = i
	}
	return at
}()
