package series

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWrap(t *testing.T) {
	long := strings.Repeat("word ", 20)
	for _, tt := range []struct{ name, in, want string }{
		{"short lines are filled", "one\ntwo\n\nthree", "one two\n\nthree"},
		{"a long line is parted", long,
			strings.TrimSpace(strings.Repeat("word ", 15)) + "\n" + strings.TrimSpace(strings.Repeat("word ", 5))},
		{"items hang", "Intro:\n\n - " + long + "\n - two\n   lines",
			"Intro:\n\n - " + strings.TrimSpace(strings.Repeat("word ", 14)) + "\n   " +
				strings.TrimSpace(strings.Repeat("word ", 6)) + "\n - two lines"},
		{"indented text is literal", "Run:\n\n  make  x \\\n      y\n\nDone", "Run:\n\n  make  x \\\n      y\n\nDone"},
		{"a long word stays whole", strings.Repeat("x", 90) + " y", strings.Repeat("x", 90) + "\ny"},
		{"text after a list", " - item\ntext", " - item\ntext"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := wrap(tt.in)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("wrap (-want +got):\n%s", diff)
			}
			if again := wrap(got); again != got {
				t.Errorf("wrapped again it is %q", again)
			}
		})
	}
}
