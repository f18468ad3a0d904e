package edit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFunctions(t *testing.T) {
	tests := []struct {
		name, src string
		want      string // "name line" of each, "empty" or what is at fault behind it
	}{
		{"plain", "int f(void)\n{\n\treturn 0;\n}\n", "f 1"},
		{"brace behind the parameters", "int f(void) {\n\treturn 0;\n}\n", "f 1"},
		{"type on its own line", "static struct page *\nf(struct device *dev,\n  size_t size)\n{\n\treturn 0;\n}\n", "f 2"},
		{"static inline", "static inline void f(struct device *dev,\n\t\tsize_t size)\n{\n\ta();\n}\n", "f 1"},
		{"one line", "static inline int f(void) { return 0; }\nstatic inline int g(void) { return 1; }\n", "f 1, g 2"},
		{"stub", "static inline void f(void) { }\nstatic inline void g(void)\n{\n\t/* nothing */\n}\n", "f 1 empty, g 2 empty"},
		{"exported", "void f(void)\n{\n\ta();\n}\nEXPORT_SYMBOL(f);\nvoid g(void)\n{\n\ta();\n}\nEXPORT_SYMBOL_GPL(g);\n", "f 1, g 6"},
		{"export without semicolon", "void f(void)\n{\n\ta();\n}\nEXPORT_SYMBOL(f)\nvoid g(void)\n{\n\ta();\n}\n", "f 1, g 6"},
		{"prototypes", "void f(void);\nextern int g(int (*)(int), struct s { int a; } *);\nvoid h(void)\n{\n\tf();\n}\n", "h 3"},
		{"calls", "void h(void)\n{\n\tif (f(1)) {\n\t\tg();\n\t}\n}\n", "h 1"},
		{"macros named alike", "#define f(x) do { \\\n\tg(x); \\\n} while (0)\n#define h(x) { x; }\nvoid g(int x)\n{\n\ta();\n}\n", "g 5"},
		{"nested parentheses", "int f(int (*cb)(struct s *, int (*)(void)), int a[sizeof(int)])\n{\n\ta();\n}\n", "f 1"},
		{"attributes before", "__printf(1, 2) __cold\nint __must_check __attribute__((noinline, cold)) __f(const char *fmt, ...)\n{\n\ta();\n}\n", "__f 2"},
		{"attributes behind", "void __f(spinlock_t *a)\n\t__acquires(a) __releases(&b->c)\n{\n\ta();\n}\n", "__f 1"},
		{"unknown attribute with arguments behind", "void f(void) __vendor(x)\n{\n\ta();\n}\n", "f 1"},
		{"unknown attribute behind", "void f(void) VENDOR_SECTION\n{\n\ta();\n}\n", "f 1"},
		{"struct returned", "struct __kernel_old_timeval f(s64 n)\n{\n\ta();\n}\nenum e g(void)\n{\n\ta();\n}\nunion u *h(void)\n{\n\ta();\n}\n", "f 1, g 5, h 9"},
		{"types", "struct s {\n\tint (*f)(int);\n};\nunion __attribute__((packed)) u {\n\tint a;\n} x;\nenum { A = B(1), C };\ntypedef struct {\n\tint a;\n} __aligned(8) t_t;\nstruct __aligned(8) v {\n\tint a;\n};\nstruct __vendor(8) w {\n\tint a;\n};\n", ""},
		{"initializers", "static struct s v VENDOR(1) = {\n\t.f = 1,\n}, w = {\n\t.f = 2,\n};\nstatic struct s s __section(\".x\") = {\n\t.f = g(1),\n\t{ 1 },\n};\nint a[] = { F(1) }, b[] = { 2 };\nint c = f(1);\nint h(void)\n{\n\ta();\n}\n", "h 12"},
		{"initializer with braces in column 0", "struct s s[] = {\n{\n\t.a = 1,\n},\n{\n\t.a = 2,\n},\n};\nint h(void)\n{\n\ta();\n}\n", "h 9"},
		{"macro that defines", "SYSCALL_DEFINE2(open, int, a, int, b)\n{\n\ta();\n}\nint h(void)\n{\n\ta();\n}\n", "SYSCALL_DEFINE2 1, h 5"},
		{"comments and strings with braces", "/* void c(void) { } */\nvoid f(void) // {\n{ /* } */\n\tp(\"}\", '}', \"\\\"}\");\n\t/*\n}\n\t*/\n}\nvoid g(void)\n{\n\ta();\n}\n", "f 2, g 9"},
		{"macro of several lines in the body", "void f(void)\n{\n#define A { \\\n}\n\ta();\n#undef A\n}\n", "f 1"},
		{"#if 0", "#if 0\nvoid f(void)\n{\n\tdon't {\n#ifdef A\n#else\n#endif\n#else\nvoid g(void)\n{\n\ta();\n}\n#endif\nvoid h(void)\n{\n\ta();\n}\n", "g 9, h 14"},
		{"#if 0 with #elif", "#if 0 // no\nvoid f(void) { a(); }\n#elif A\nvoid g(void) { a(); }\n#endif\n", "g 4"},
		{"#if and #else around it", "#ifdef A\nvoid f(void)\n{\n\ta();\n}\n#else\nvoid f(void) { }\n#endif\n", "f 2, f 7 empty"},
		{"two heads, one body", "#ifdef A\nint f(int a)\n#else\nint f(int a, int b)\n#endif\n{\n\ta();\n}\n", "f 4"},
		{"two heads that open one list", "#ifdef A\nint f(int a,\n#else\nint g(int a,\n#endif\n      int b)\n{\n\ta();\n}\nvoid h(void)\n{\n\ta();\n}\n", "f 2 the parameters, g 4 the parameters, h 10"},
		{"braces in both branches", "int f(int a)\n{\n#ifdef A\n\tif (a) {\n#else\n\tif (b) {\n#endif\n\t\tc();\n\t}\n}\nvoid h(void)\n{\n\ta();\n}\n", "f 1 the braces, h 11"},
		{"closed too early", "int f(int a)\n{\n\tif (a)\n\t}\n}\nvoid h(void)\n{\n\ta();\n}\n", "f 1 the braces, h 6"},
		{"closing brace not in column 0", "int f(int a)\n{\n\ta();\n }\nvoid h(void)\n{\n\ta();\n}\n", "f 1 the braces, h 5"},
		{"never closed", "int f(int a)\n{\n\ta();\n", "f 1 the braces"},
		{"parameters never closed", "int f(int a\n", ""},
		{"assembler at file level", "asm(\".globl f\\n\"\n    \"f: {\\n\");\nint h(void)\n{\n\tasm volatile(\"a\" : \"=r\" (x) : : \"memory\");\n}\n", "h 3"},
		{"assertion at file level", "static_assert(sizeof(int) == 4);\n_Static_assert(1, \"a\");\nint h(void)\n{\n\ta();\n}\n", "h 3"},
		{"brace at once", "{\n}\n}\nint h(void)\n{\n\ta();\n}\n", "h 4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := tokenize([]byte(tt.src))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range s.functions() {
				d := fmt.Sprintf("%s %d", f.name, f.line)
				if f.empty() {
					d += " empty"
				}
				if f.fault != "" {
					d += " " + f.fault
				}
				got = append(got, d)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, ", ")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestFindFunction(t *testing.T) {
	const body = "\n{\n\tsync(dev);\n}\n"
	tests := []struct {
		name, src string
		kind      Kind
		want      string
		nearest   string
	}{
		{"none", "void main(void)" + body, NoFunction, " no definition of dma_unmap_page()", ""},
		{"near", "void dma_map_page(void)" + body + "void dma_unmap_phys(void)" + body + "void dma_unmap_page_attrs_of_device(void)" + body,
			NoFunction, " no definition of dma_unmap_page()", "dma_map_page() on 1"},
		{"a stub", "static inline void dma_unmap_page(void)\n{\n}\n", NoFunction, "1: no definition of dma_unmap_page(), only an empty one", ""},
		{"a declaration", "\nvoid dma_unmap_page(void);\n", NoFunction, "2: no definition of dma_unmap_page(), only a declaration", ""},
		{"a call", "void main(void)\n{\n\tdma_unmap_page();\n}\n", NoFunction, "3: no definition of dma_unmap_page(), only a call", ""},
		{"a macro", "\n# define dma_unmap_page(x) x\nvoid dma_unmap_page(void);\n", NoFunction, "2: no definition of dma_unmap_page(), only a macro", ""},
		{"a mention", "struct s s = { .f = dma_unmap_page };\n", NoFunction, "1: no definition of dma_unmap_page(), only a mention", ""},
		{"under #if 0", "\n#if 0\nvoid dma_unmap_page(void)" + body + "#endif\n", NoFunction, "3: no definition of dma_unmap_page(), only a mention under #if 0", ""},
		{"a longer name", "void dma_unmap_page_attrs(void)" + body, NoFunction, " no definition of dma_unmap_page()", ""},
		{"in a comment and a string", "/* void dma_unmap_page(void)" + body + "*/ char *s = \"dma_unmap_page\";\n", NoFunction, " no definition of dma_unmap_page()", ""},
		{"twice", "#ifdef A\nvoid dma_unmap_page(void)" + body + "#else\nvoid dma_unmap_page(void)" + body + "#endif\n", AmbiguousFunction, "2: dma_unmap_page() is defined 2 times, on lines 2 and 7", ""},
		{"twice, once lost", "#ifdef A\nvoid dma_unmap_page(int a,\n#else\nvoid x(int a,\n#endif\nint b)" + body + "void dma_unmap_page(void)" + body, AmbiguousFunction, "2: dma_unmap_page() is defined 2 times, on lines 2 and 10", ""},
		{"braces", "void dma_unmap_page(void)\n{\n#if A\n\tif (a) {\n#else\n\t{\n#endif\n\t}\n\tsync(dev);\n}\n", Unreadable, "1: the braces of dma_unmap_page() cannot be followed", ""},
		{"parameters", "#if A\nvoid dma_unmap_page(\n#else\nvoid x(\n#endif\n\tvoid)" + body, Unreadable, "2: the parameters of dma_unmap_page() cannot be followed", ""},
	}
	e := Edit{Function: "dma_unmap_page", Landmark: []string{"sync(dev);"}, Put: After, Text: mark}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fail := refuse(t, e, tt.src, tt.kind, tt.want)
			nearest := ""
			if fail.Nearest != "" {
				nearest = fmt.Sprintf("%s on %d", fail.Nearest, fail.NearestLine)
			}
			if nearest != tt.nearest {
				t.Errorf("nearest is %q, want %q", nearest, tt.nearest)
			}
		})
	}
	// The real one among what is none.
	apply(t, e, "void dma_unmap_page(void);\n#define x dma_unmap_page(1)\n#ifdef A\n"+
		"void\ndma_unmap_page(void)\n{\n\tsync(dev);\n«»}\nEXPORT_SYMBOL(dma_unmap_page);\n"+
		"#else\nstatic inline void dma_unmap_page(void) { }\n#endif\nvoid g(void)\n{\n\tdma_unmap_page();\n}\n")
}
