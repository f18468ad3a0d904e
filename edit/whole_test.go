package edit

import (
	"strings"
	"testing"
)

// old is a file with a function between others.
const old = `#include <linux/f.h>

/* Other. */
static int other(int x)
{
	return x;
}

«/*
 * Lets go of it.
 */
static void
unmap(struct device *dev, int x)
{
	/* why */
	if (bounced(x)) {
		release(dev, x);
		return;
	}

	clean(x);
}
»
void unmap_page(struct device *dev, int x)
{
	unmap(dev, x);
}
EXPORT_SYMBOL(unmap_page);
`

const unmapBody = "if (bounced(x)) { release(dev, x); return; } clean(x);"

func TestWhole(t *testing.T) {
	e := Edit{Function: "unmap", Landmark: []string{"clean(x);", unmapBody}[1:], Put: Whole, Text: "void unmap2(int x)\n{\n\tclean(x);\n}\n"}
	if p := apply(t, e, old); p.Line != 13 || p.How != "in place of the whole function" {
		t.Errorf("%+v", p)
	}

	t.Run("removed", func(t *testing.T) {
		e := e
		e.Text = ""
		got, _, err := e.Apply([]byte(unmark(old)))
		if err != nil {
			t.Fatal(err)
		}
		from, rest, _ := strings.Cut(old, left)
		_, to, _ := strings.Cut(rest, right)
		if want := from + strings.TrimPrefix(to, "\n"); string(got) != want {
			t.Errorf("%s", got)
		}
		refuse(t, e, string(got), NoFunction, "11: no definition of unmap(), only a call")
	})

	t.Run("unmap_page", func(t *testing.T) {
		apply(t, Edit{Function: "f", Landmark: []string{"g();"}, Put: Whole, Text: "int h(void)\n{\n\tg();\n\treturn 0;\n}\n"},
			"EXPORT_SYMBOL(a);\n«int f(void)\n{\n\tg();\n}\n»EXPORT_SYMBOL(f);\n")
	})

	for _, test := range []struct{ name, old, new, want string }{
		{"more before", "\t/* why */\n", "\tif (!x)\n\t\treturn;\n", `15: "if (bounced(x)) { release(dev, x); return; } clean(x);" is not all that unmap() does`},
		{"more behind", "\tclean(x);\n", "\tclean(x);\n\tmore(x);\n", `22: "if (bounced(x)) { release(dev, x); return; } clean(x);" is not all that unmap() does`},
		{"directive", "\t/* why */\n", "#ifdef A\n#endif\n", "15: unmap() has a preprocessor line in it"},
		{"configured", "/*\n * Lets", "#ifdef A\n/*\n * Lets", "14: unmap() stands under the #ifdef A on line 9"},
		{"macro above", "/*\n * Lets go of it.\n */\n", "MACRO(x)\n\n", "12: unmap() has a blank line in its declaration, or stands behind something that does not end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			src := strings.Replace(unmark(old), test.old, test.new, 1)
			if test.name == "configured" {
				src = strings.Replace(src, "\nvoid unmap_page", "#endif\n\nvoid unmap_page", 1)
			}
			refuse(t, e, src, WrongSurroundings, test.want)
		})
	}
}

func TestWholeBad(t *testing.T) {
	for _, e := range []Edit{
		{Landmark: []string{"a"}, Put: Whole},
		{Function: "f", Inside: []string{"if (x)"}, Landmark: []string{"a();"}, Put: Whole},
	} {
		refuse(t, e, in("\ta();\n"), BadEdit, " the edit is for a whole function, and names none or a part of one")
	}
}
