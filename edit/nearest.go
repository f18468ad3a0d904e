package edit

import "strings"

// nearestName is the function whose name is the fewest changes of a letter
// away from name, if that is less than a third of its length.
func nearestName(name string, all []function) (best function, ok bool) {
	least := len(name)/3 + 1
	for _, f := range all {
		if f.name == name || max(len(f.name)-len(name), len(name)-len(f.name)) >= least {
			continue
		}
		if d := Distance(name, f.name); d < least {
			best, least, ok = f, d, true
		}
	}
	return best, ok
}

// Distance is the Levenshtein distance of two short words, in bytes to change, add
// or take out.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// likeness compares texts by the words they hold, in any order.
type likeness struct {
	words map[string]int
	total int
}

func newLikeness(words []string) likeness {
	l := likeness{words: make(map[string]int, len(words)), total: len(words)}
	for _, w := range words {
		l.words[w]++
	}
	return l
}

// to is the share of words in common, from 0 to 1 (the Dice coefficient).
func (l likeness) to(words []string) float64 {
	left := make(map[string]int, len(words))
	common := 0
	for _, w := range words {
		if left[w] < l.words[w] {
			left[w]++
			common++
		}
	}
	return 2 * float64(common) / float64(max(l.total+len(words), 1))
}

// near is the likeness from which a candidate is worth showing.
const near = 0.4

// nearestStatement is the statement in the body most like a landmark, -1 = none is near.
func (c *cEdit) nearestStatement() int {
	best, most := -1, near
	for _, l := range c.landmarks {
		like := newLikeness(telling(l.source, 0, len(l.toks)))
		for i, st := range c.body.stmts {
			if st.last-st.first > 3*len(l.toks)+8 {
				continue // a whole loop is not like one statement in it
			}
			words := telling(c.source, c.body.lo+st.first, c.body.lo+st.last+1)
			if d := like.to(words); d > most {
				best, most = i, d
			}
		}
	}
	return best
}

// telling are the tokens from lo to hi that are no punctuators.
func telling(s *source, lo, hi int) []string {
	var words []string
	for _, t := range s.toks[lo:hi] {
		if t.kind != punct {
			words = append(words, string(s.text(t)))
		}
	}
	return words
}

// show is the tokens from first to last of the body in one line, white space
// folded; short leaves out what stands in parentheses.
func (c *cEdit) show(first, last int, short bool) string {
	var b strings.Builder
	for i := first; i <= last && b.Len() < 1000; i++ {
		t := c.body.tok(i)
		if i > first && t.pos > c.body.tok(i-1).end && !c.body.is(i-1, "(") && !c.body.is(i, ")") {
			b.WriteByte(' ')
		}
		b.Write(c.text(t))
		if end := c.body.pair[i]; short && end > i+1 && c.body.is(i, "(") {
			b.WriteString("…")
			i = end - 1
		}
	}
	return b.String()
}
