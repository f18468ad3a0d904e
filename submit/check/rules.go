package check

import (
	"slices"

	"patchgen/ktree"
)

// A Rule is what a finding names.
type Rule struct {
	ID     string `json:"id"`
	What   string `json:"what"`   // is asked for, in one sentence
	Source string `json:"source"` // where it was read, for Linux
	QEMU   string `json:"qemu"`   // where it was read for QEMU; "" if it is not asked for there
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
	qemuSubmit  = "docs/devel/submitting-a-patch.rst"
	sameQEMU    = "the same" // of git, mail and patchgen, whatever the project
	kconfigText = "Documentation/kbuild/kconfig-language.rst"
)

var rules = []Rule{
	// The mail.
	{"mail", "A mail can be read", "RFC 5322, 2.1; git: mailinfo.c", sameQEMU},
	{"mime", "A patch is plain text inline: no parts, no attachment, no HTML, no base64, no format=flowed, no PGP", noMIME + "; " + clients, qemuSubmit + ", 'Do not send as an attachment'"},
	{"charset", "A mail is ASCII or UTF-8 and says so, its headers are encoded", clients + "; RFC 2047", sameQEMU},
	{"crlf", "Lines end in LF, in the mail and in what it adds", clients + "; git: builtin/mailsplit.c, keep_cr", sameQEMU},
	{"long-line", "No line is over 998 bytes unless it is encoded as quoted-printable", "RFC 5322, 2.1.1; git: git-send-email.perl, validate_patch", sameQEMU},
	{"control", "No NUL or other control character", "git: commit.c, commit_tree_extended ('a NUL byte in commit log message not allowed')", sameQEMU},
	{"size", "A mail has at most 100 000 bytes", "vger.kernel.org/majordomo-info.html, 'Message size exceeding 100 000 characters causes blocking'", ""},
	{"from", "From has a name and an address that others can reach", canonical + ", 'From Line'", sameQEMU},
	{"date", "Date is a date, and not in the future", "RFC 5322, 3.6.1", sameQEMU},
	{"thread", "Patches answer their own cover letter, not an older version", "Documentation/process/submitting-patches.rst, 'Explicit In-Reply-To headers'", qemuSubmit + ", 'Use git format-patch'"},

	// The subject.
	{"subject", "A subject has [PATCH] and a summary, and is no reply", "Documentation/process/submitting-patches.rst, 'Include PATCH in the subject'", qemuSubmit + ", 'Use git format-patch'"},
	{"numbering", "Patches are numbered k/n, all n are there, k is as wide as n", canonical + ", 'Subject Line'", sameQEMU},
	{"order", "The files are in the order of the numbers", "git am takes them as they come", sameQEMU},
	{"tags", "All subjects have the same prefix and version", "Patchwork: patchwork/parser.py, parse_series_marker, and find_series, by which mails become one series", sameQEMU},
	{"title-length", "A summary has at most 75 characters", canonical + ", 'Subject Line'", qemuSubmit + ", 'Write a meaningful commit message'"},
	{"title-prefix", "A summary begins with the subsystem and a colon", canonical + ", 'Subject Line'", qemuSubmit + ", 'Write a meaningful commit message'"},
	{"title-period", "A summary does not end in a period", "git: Documentation/SubmittingPatches, which asks for no full stop; the examples of " + canonical, qemuSubmit + ", 'Write a meaningful commit message'"},
	{"title-mood", "A summary is imperative: add, not adds, added, adding or this patch", describe, ""},
	{"title-duplicate", "No two patches have the same summary", canonical + ", 'Subject Line'", ""},

	// The text.
	{"body", "A patch says why", describe, qemuSubmit + ", 'Write a meaningful commit message'"},
	{"body-width", "The text is wrapped at 75 columns", canonical, qemuSubmit + ", 'Write a meaningful commit message'"},
	{"body-mood", "The text does not speak of 'this patch'", describe, ""},
	{"body-cut", "No line of the text is the begin of a patch to git am, which drops what follows", "git: mailinfo.c, patchbreak", sameQEMU},
	{"leftover", "Nothing is left of work: no TODO, FIXME, XXX, template or conflict mark, fixup!, backup file", "git: builtin/log.c, 'SUBJECT HERE' and 'BLURB HERE'; scripts/checkpatch.pl, PLACEHOLDER_USE", sameQEMU},
	{"change-id", "No Change-Id of Gerrit is in the message", "scripts/checkpatch.pl, GERRIT_CHANGE_ID", ""},
	{"history", "A new version says what has changed", canonical + ", 'Commentary'", qemuSubmit + ", 'Include version history in patchset revisions'"},
	{"history-place", "The history of versions stands below ---, not in the message", canonical + ", 'Commentary'", qemuSubmit + ", 'Include version history in patchset revisions'"},

	// The trailers.
	{"signed-off-by", "The author has signed off with the name and address of From, and so has who sends", signWork + "; netdev CI (NIPA): tests/patch/verify_signedoff", qemuSubmit + ", 'Patch emails must include a Signed-off-by: line'"},
	{"trailer-format", "A trailer is 'Key: Name <address>'", "Documentation/process/5.Posting.rst, 'Patch formatting and changelogs'; scripts/checkpatch.pl, BAD_SIGN_OFF", qemuSubmit + ", 'Write a meaningful commit message'"},
	{"trailer-block", "Trailers are one paragraph, the last", "git: trailer.c, find_trailer_start; netdev CI (NIPA): tests/patch/verify_fixes", sameQEMU},
	{"trailer-duplicate", "No trailer stands twice", "scripts/checkpatch.pl, BAD_SIGN_OFF", ""},
	{"fixes", "Fixes: names a commit by 12 digits and more and by its title, on one line", describe + "; netdev CI (NIPA): tests/patch/verify_fixes", qemuSubmit + ", 'Write a meaningful commit message'"},
	{"commit", "A commit that is named is in the tree", "scripts/checkpatch.pl, UNKNOWN_COMMIT_ID", sameQEMU},

	// The diff.
	{"empty", "A patch has a diff", "git: builtin/am.c, 'Patch is empty.'", sameQEMU},
	{"apply", "git am takes each patch on top of those before it, and so does a strict application, with the same result", "Documentation/process/email-clients.rst, 'Git'; git: apply.c", sameQEMU},
	{"offset", "Each hunk stands at its line", "git: apply.c, find_pos; GNU patch calls it fuzz and offset", sameQEMU},
	{"index", "The index lines name the blobs of the base, by 12 digits and more", "git: builtin/am.c, fall_back_threeway; syzkaller: syz-cluster finds a base by them", sameQEMU},
	{"diffstat", "The diffstat is that of the diff", canonical + ", 'Commentary'", sameQEMU},
	{"whitespace", "No added line has a white space error", "git: ws.c, and git-config(1), core.whitespace", "docs/devel/style.rst, 'Whitespace'; scripts/checkpatch.pl"},
	{"path", "Names of files have no characters that need quoting", "scripts/checkpatch.pl gives them to a shell", sameQEMU},
	{"mode", "Only scripts are executable", "scripts/checkpatch.pl, EXECUTE_PERMISSIONS", "scripts/checkpatch.pl"},
	{"binary", "No file is binary", noMIME, qemuSubmit + ", 'Avoid posting large binary blob'"},
	{"kconfig", "Kconfig can be parsed after each patch, and what one can switch on has a help text", kconfigText + "; scripts/checkpatch.pl, CONFIG_DESCRIPTION", ""},

	// The series.
	{"count", "A series has at most 15 patches", splitUp + "; Documentation/process/maintainer-netdev.rst, 'Dividing work into patches'; netdev CI (NIPA): tests/series/patch_count", ""},
	{"cover", "A series of more than two patches has a cover letter", "netdev CI (NIPA): tests/series/cover_letter", qemuSubmit + ", 'Include a meaningful cover letter'"},
	{"cover-stale", "The cover letter lists the patches that follow, and their diffstat", "git: builtin/log.c, make_cover_letter", sameQEMU},
	{"testing", "It is told how the series was tested", "Documentation/process/generated-content.rst; Documentation/process/submit-checklist.rst", qemuSubmit + ", 'Test your patches'"},
	{"base", "The base is told, as a commit on a branch that others have, with a young tip", baseInfo + "; syzkaller: syz-cluster takes tips under 60 days old; sashiko takes what a named ref reaches", qemuSubmit + ", 'Base patches against current git master'"},

	// The tools.
	{"checkpatch", "scripts/checkpatch.pl of the tree, with --strict for Linux, says nothing that the cover letter does not explain", styleCheck, qemuSubmit + ", 'Use the QEMU coding style'" + "; what it warns of is for common sense"},
	{"spelling", "codespell finds no misspelled word", "scripts/checkpatch.pl --codespell; netdev CI (NIPA): tests/patch/checkpatch", "scripts/checkpatch.pl --codespell"},
	{"build", "The tree compiles after each patch, with new options off and on", "Documentation/process/submitting-patches.rst, 'Separate your changes'", qemuSubmit + ", 'Split up long patches'"},
	{"warnings", "No patch brings a warning of gcc with W=1, of sparse or of kernel-doc", "Documentation/process/submit-checklist.rst; netdev CI (NIPA): tests/patch/build_allmodconfig_warn", qemuSubmit + ", 'Test your patches'"},
	{"compiled", "What a patch touches is compiled, or it says nothing that there is no warning", "Documentation/process/submit-checklist.rst", ""},
	{"survival", "A new option can be switched on", kconfigText, ""},
	{"receipt", "The receipt is of these patches", "patchgen: submit/receipt", sameQEMU},
	{"tree", "There is a tree to apply the series to", "Documentation/process/submit-checklist.rst", sameQEMU},
}

// asked reports whether a rule is for trees of that kind.
func asked(id string, k ktree.Kind) bool {
	i, known := place[id]
	return !known || k != ktree.QEMU || rules[i].QEMU != ""
}

// place is a rule's place in the list.
var place = func() map[string]int {
	at := make(map[string]int)
	for i, r := range rules {
		at[r.ID] = i
	}
	return at
}()
