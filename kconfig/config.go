package kconfig

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Config is what a .config file or a fragment of one sets: symbols without
// CONFIG_, and their values as the file writes them: y, m, n, a number such as
// 16 or 0x10, or a string with its quotes and escapes. n stands for
// "is not set" too. A later fragment wins over an earlier one with maps.Copy.
type Config map[string]string

const (
	configPrefix = "CONFIG_"
	notSet       = " is not set"
)

// ParseConfig reads a .config file, as conf_read_simple() in the kernel's
// scripts/kconfig/confdata.c does; of two lines for a symbol the last one
// counts. Where conf warns and goes on, ParseConfig fails, with FILE:LINE.
func ParseConfig(file string, src []byte) (Config, error) {
	c := Config{}
	number := 0
	for raw := range bytes.Lines(src) {
		number++
		line := strings.TrimRight(string(raw), " \t\r\n")
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			if name, ok := strings.CutPrefix(comment, " "+configPrefix); ok {
				if name, ok := strings.CutSuffix(name, notSet); ok && isWord(name) {
					c[name] = "n"
				}
			}
			continue
		}
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, prefixed := strings.CutPrefix(name, configPrefix)
		if !ok || !prefixed || !isWord(name) {
			return nil, fmt.Errorf("%s:%d: want CONFIG_NAME=value or # CONFIG_NAME%s, found %q", file, number, notSet, clip(line))
		}
		if !isConfigValue(value) {
			return nil, fmt.Errorf("%s:%d: the value of %s%s is none of y, m, n, a number or a quoted string: %q", file, number, configPrefix, clip(name), clip(value))
		}
		c[name] = value
	}
	return c, nil
}

// Bytes returns c as a .config file, sorted by symbol.
func (c Config) Bytes() []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if c[name] == "n" {
			b.WriteString("# " + configPrefix + name + notSet + "\n")
		} else {
			b.WriteString(configPrefix + name + "=" + c[name] + "\n")
		}
	}
	return b.Bytes()
}

// Lost is a symbol that did not get the value it was to have. Got is "" where
// the configuration does not name the symbol at all: the tree does not know it,
// or what it depends on is off.
type Lost struct{ Symbol, Want, Got string }

// Lost returns the symbols of c that have another value in got, sorted by
// symbol. One that is to be n may be missing from got: conf leaves out
// what cannot be switched on.
func (c Config) Lost(got Config) []Lost {
	var lost []Lost
	for _, name := range slices.Sorted(maps.Keys(c)) {
		want, is := c[name], got[name]
		if is == want || want == "n" && is == "" {
			continue
		}
		lost = append(lost, Lost{Symbol: name, Want: want, Got: is})
	}
	return lost
}

// isConfigValue tells if s is what a .config file can have behind the "=".
func isConfigValue(s string) bool {
	switch s {
	case "y", "m", "n":
		return true
	}
	if body, ok := strings.CutPrefix(s, `"`); ok {
		for i := 0; i < len(body); i++ {
			switch body[i] {
			case '\\':
				i++
			case '"':
				return i == len(body)-1
			}
		}
		return false
	}
	digits, set := strings.TrimPrefix(s, "-"), "0123456789"
	if hex, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		digits, set = hex, "0123456789abcdef"
	}
	return digits != "" && strings.Trim(digits, set) == ""
}

// isWord tells if s can be the name of a symbol: {n}+ in
// scripts/kconfig/lexer.l.
func isWord(s string) bool {
	for i := range len(s) {
		if !isWordByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}
