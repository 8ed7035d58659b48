package workspace

import (
	"strings"
	"unicode/utf8"
)

// Storable makes a text one that both databases take: valid UTF-8 without zeros. Most
// is ASCII, and is seen to be so at a glance.
func Storable(text string) string {
	for i := range len(text) {
		if c := text[i]; c == 0 || c >= utf8.RuneSelf {
			return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "?")
		}
	}
	return text
}
