package edit

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// configurations are the texts that the preprocessor may make of the lines:
// each #if is taken or not, on its own.
func configurations(lines []string) []string {
	conditionals := 0
	for _, l := range lines {
		if strings.HasPrefix(l, "#if") {
			conditionals++
		}
	}
	var all []string
	for choice := range 1 << conditionals {
		var out strings.Builder
		var taken []bool
		n := 0
		for _, l := range lines {
			switch {
			case strings.HasPrefix(l, "#if"):
				taken = append(taken, choice>>n&1 == 1)
				n++
			case l == "#else":
				taken[len(taken)-1] = !taken[len(taken)-1]
			case l == "#endif":
				taken = taken[:len(taken)-1]
			case !slices.Contains(taken, false):
				out.WriteString(l + "\n")
			}
		}
		all = append(all, out.String())
	}
	return all
}

// TestConfigurations makes edits in bodies of lines thrown together, full of
// conditionals. Where an edit is made, the text must stand behind the landmark
// as a statement of its own, inside the same heads, in every configuration
// that is C at all.
func TestConfigurations(t *testing.T) {
	parts := []string{
		"if (a)", "else", "if (a) {", "} else {", "{", "}", "for (;;)", "do", "while (b);", "switch (c) {", "case 1:", "out:",
		"b();", "c();", ";", "x =", "y", "+ z", "w;", "call(", "d,", "e);", "(", ")", "sync(dev, x);", "sync(dev, x);", "WARN(f)",
		"#if A", "#if A", "#ifdef B", "#else", "#endif", "#endif", "#endif",
	}
	e := Edit{Function: "f", Landmark: []string{"sync(dev, x);"}, Put: After, Text: "mark(dev);\n"}
	insides := [][]string{nil, {"if (a)"}, {"else"}, {""}, {"for (;;)"}, {"do"}, {"switch (c)"}}
	random := rand.New(rand.NewPCG(1, 2))
	made, conditional := 0, 0
	for range 20_000 {
		lines := make([]string, 2+random.IntN(9))
		open := 0
		for i := range lines {
			lines[i] = parts[random.IntN(len(parts))]
			switch {
			case strings.HasPrefix(lines[i], "#if"):
				open++
			case lines[i] == "#endif" && open > 0:
				open--
			case open == 0 && strings.HasPrefix(lines[i], "#"):
				lines[i] = "b();"
			}
		}
		for range open {
			lines = append(lines, "#endif")
		}
		body := strings.Join(lines, "\n") + "\n"
		if strings.Count(body, "sync") != 1 {
			continue
		}
		for _, e.Inside = range insides {
			out, _, err := e.Apply([]byte(in(body)))
			if err != nil {
				continue
			}
			made++
			if strings.Contains(body, "#") {
				conditional++
			}
			_, after, _ := strings.Cut(string(out), "{\n")
			after, _, _ = strings.Cut(after, "}\nEXPORT")
			for _, config := range configurations(strings.Split(strings.TrimSuffix(after, "\n"), "\n")) {
				checkConfiguration(t, e, config, body)
			}
			if t.Failed() {
				return
			}
		}
	}
	if made < 400 || conditional < 80 {
		t.Errorf("only %d edits made, %d of them beside a conditional", made, conditional)
	}
}

func checkConfiguration(t *testing.T, e Edit, config, body string) {
	t.Helper()
	both, err := snip(config)
	if err != nil {
		t.Fatal(err)
	}
	without, err := snip(strings.Replace(config, e.Text, "", 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := without.statements(0, len(without.toks)); err != nil {
		return // this configuration was no C before
	}
	b, err := both.statements(0, len(both.toks))
	if err != nil {
		t.Errorf("%v\nwith the edit in\n%s\nof\n%s", err, config, body)
		return
	}
	landmark, _ := snip(e.Landmark[0] + e.Text)
	at := b.occurrences(landmark.words)
	if len(at) != 1 {
		t.Errorf("landmark and text stand %d times in\n%s\nof\n%s", len(at), config, body)
		return
	}
	if _, ok := b.run(at[0].first, at[0].last); !ok {
		t.Errorf("no statements of their own in\n%s\nof\n%s", config, body)
		return
	}
	c := &cEdit{body: b, source: both.source}
	var heads []string
	for _, s := range c.around(at[0]) {
		heads = append(heads, c.show(s.first, s.last, false))
	}
	if !slices.Equal(heads, e.Inside) {
		t.Errorf("stands inside %q, not %q, in\n%s\nof\n%s", heads, e.Inside, config, body)
	}
}
