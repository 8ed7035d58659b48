package workspace

import (
	"strings"
	"unicode/utf8"
)

// Storable makes a text one that both databases take: valid UTF-8 without zeros. Nearly
// every one is that already.
func Storable(text string) string {
	if utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
		return text
	}
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "?")
}
