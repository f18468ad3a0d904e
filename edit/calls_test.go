package edit

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCalls(t *testing.T) {
	const src = `
#define mark(x) (x)
static inline void stub(void) { }
int declared(int);

static int sync(struct device *dev)
{
	/* mark(dev); */
	const char *s = "mark(dev)"; // mark(dev)
	int n = mark;

#if 0
	mark(dev);
#endif
	if (coherent(dev))
		for_each(x, first(dev))
			invalidate (dev, sizeof(*dev));
	else
		return (int)mark
			(dev);
#ifdef CONFIG_A
	a();
#else
	b(c());
#endif
}

void unmap(void)
{
	sync(0);
}
`
	got, err := Functions("f.c", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	want := []Function{
		{"sync", 6, []string{"coherent", "for_each", "first", "invalidate", "return", "mark", "a", "b", "c"}},
		{"unmap", 28, []string{"sync"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestCallsRefuses(t *testing.T) {
	for _, tt := range []struct{ src, want string }{
		{"void f(void)\n{\n\tif (x) {\n}\n", "f.c:1: the braces of f() cannot be followed"},
		{"/* void f(void)\n{\n}\n", "f.c:1: the C cannot be followed: a comment that never ends"},
	} {
		got, err := Functions("f.c", []byte(tt.src))
		var e *Error
		if !errors.As(err, &e) || e.Kind != Unreadable || e.Error() != tt.want {
			t.Errorf("%q: got %v, %v; want %q", tt.src, got, err, tt.want)
		}
	}
}
