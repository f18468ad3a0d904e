package kconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseConfig(t *testing.T) {
	const src = `#
# Automatically generated file; DO NOT EDIT.
# Linux/x86 6.12.0 Kernel Configuration
#
CONFIG_64BIT=y
CONFIG_KVM=m
# CONFIG_SWIOTLB_DYNAMIC is not set
#CONFIG_COMMENT=y
# CONFIG_TALK is not set here
CONFIG_OFF=n

CONFIG_LOCALVERSION="-a \"b\" = \\"
CONFIG_EMPTY=""
CONFIG_NR_CPUS=64
CONFIG_COLD=-20
CONFIG_PHYSICAL_START=0x1000000
CONFIG_TWICE=y
# CONFIG_TWICE is not set
CONFIG_SPACE=y 	` + "\r\nCONFIG_LAST=y"
	got, err := ParseConfig(".config", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		"64BIT": "y", "KVM": "m", "SWIOTLB_DYNAMIC": "n", "OFF": "n",
		"LOCALVERSION": `"-a \"b\" = \\"`, "EMPTY": `""`, "NR_CPUS": "64", "COLD": "-20",
		"PHYSICAL_START": "0x1000000", "TWICE": "n", "SPACE": "y", "LAST": "y",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseConfigErrors(t *testing.T) {
	tests := []struct{ src, want string }{
		{"CONFIG_A=y\nhello\n", `f:2: want CONFIG_NAME=value or # CONFIG_NAME is not set, found "hello"`},
		{"A=y\n", `f:1: want CONFIG_NAME=value`},
		{"CONFIG_=y\n", `f:1: want CONFIG_NAME=value`},
		{"CONFIG_A B=y\n", `f:1: want CONFIG_NAME=value`},
		{" CONFIG_A=y\n", `f:1: want CONFIG_NAME=value`},
		{"CONFIG_A=\n", `f:1: the value of CONFIG_A is none of`},
		{"CONFIG_A=yes\n", `f:1: the value of CONFIG_A is none of y, m, n, a number or a quoted string: "yes"`},
		{"CONFIG_A=-\n", `f:1: the value`},
		{"CONFIG_A=0x\n", `f:1: the value`},
		{"CONFIG_A=12a\n", `f:1: the value`},
		{`CONFIG_A="open`, `f:1: the value`},
		{`CONFIG_A="open\"`, `f:1: the value`},
		{`CONFIG_A="a"b"`, `f:1: the value`},
		{"CONFIG_A=\"two\nlines\"\n", `f:1: the value`},
	}
	for _, tt := range tests {
		c, err := ParseConfig("f", []byte(tt.src))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%q: %v, %v, want error %s", tt.src, c, err, tt.want)
		}
	}
}

func TestConfigBytes(t *testing.T) {
	c := Config{"B": "n", "A": "y", "C": `"x"`, "D": "0x10"}
	const want = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\nCONFIG_D=0x10\n"
	if diff := cmp.Diff(want, string(c.Bytes())); diff != "" {
		t.Error(diff)
	}
}

func TestLost(t *testing.T) {
	want := Config{"SAME": "y", "GONE": "y", "OFF": "y", "MODULE": "y", "NOT": "n", "NOT_GONE": "n", "NOT_ON": "n", "TEXT": `"a"`}
	got := Config{"SAME": "y", "OFF": "n", "MODULE": "m", "NOT": "n", "NOT_ON": "y", "TEXT": `"b"`, "MORE": "y"}
	expected := []Lost{
		{"GONE", "y", ""},
		{"MODULE", "y", "m"},
		{"NOT_ON", "n", "y"},
		{"OFF", "y", "n"},
		{"TEXT", `"a"`, `"b"`},
	}
	if diff := cmp.Diff(expected, want.Lost(got)); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"a\\\"b\"\nCONFIG_D=-0x1\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := ParseConfig("f", src)
		if err != nil {
			return
		}
		again, err := ParseConfig("f", c.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Error(diff)
		}
		if lost := c.Lost(again); lost != nil {
			t.Error(lost)
		}
	})
}
