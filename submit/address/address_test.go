package address

import (
	"net/mail"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]mail.Address{
		"a@b":                                {Address: "a@b"},
		"A  U\tThor <a.b+c@d-e.example.org>": {Name: "A U Thor", Address: "a.b+c@d-e.example.org"},
		`"Thor, A" <a@b.c>`:                  {Name: "Thor, A", Address: "a@b.c"},
		"=?UTF-8?q?J=C3=BCrgen?= <a@b.c>":    {Name: "Jürgen", Address: "a@b.c"},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "nobody", "a@b, c@d", "a@b@c", "-f@b.c", "a@-b.c", "a@b..c", "a..b@c", `"a b"@c`, "a@[127.0.0.1]", "nä@b.c", "a@bü.c",
		"=?utf-8?q?A=0ABcc:_b?= <a@b.c>", "=?utf-8?q?A=00?= <a@b.c>", "A\nBcc: b@c <a@b.c>", "=?utf-8?q?=E2=80=AE?= <a@b.c>", "=?utf-8?q?=E2=80=A8?= <a@b.c>", "=?utf-8?q?=FF?= <a@b.c>",
		strings.Repeat("N", maxName+1) + " <a@b.c>", "a@" + strings.Repeat("b", maxAddr),
	} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		} else if strings.ContainsFunc(err.Error(), IsControl) {
			t.Errorf("%q: the error is not one line: %v", text, err)
		}
		if got, err := ParseList("x@y, " + text); err == nil && text != "" && text != "a@b, c@d" {
			t.Errorf("a list with %q is %+v", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("A U Thor <a@b.c>, =?utf-8?q?=0A?= <d@e>")
	f.Fuzz(func(t *testing.T, text string) {
		list, _ := ParseList(text)
		if a, err := Parse(text); err == nil {
			list = append(list, a)
		}
		for _, a := range list {
			if strings.ContainsFunc(a.Name+a.Address, IsControl) || strings.ContainsAny(a.Address, " ,;:<>()\"\\") || strings.Count(a.Address, "@") != 1 {
				t.Errorf("%q is %+v", text, a)
			}
			if again, err := Check(a); err != nil || again != a {
				t.Errorf("%+v is again %+v, %v", a, again, err)
			}
		}
	})
}
