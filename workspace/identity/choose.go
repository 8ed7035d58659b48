package identity

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Lengths of passwords, in characters (NIST SP 800-63B §3.1.1.2 asks for 15 where a
// password stands alone, and 8 beside something else).
const (
	MinPassword = 12
	MaxPassword = 256
)

// ValidPassword checks a password that somebody chooses. Any characters will do, and
// none are demanded (NIST SP 800-63B §3.1.1.2). Errors wrap ErrInvalid and never
// quote it.
func ValidPassword(password, email string) error {
	length := utf8.RuneCountInString(password)
	folded, address := strings.ToLower(password), strings.ToLower(email)
	local, _, _ := strings.Cut(address, "@")
	reason := ""
	switch {
	case !utf8.ValidString(password):
		reason = "has bytes that are no characters: type it again"
	case length < MinPassword:
		reason = fmt.Sprintf("has %d characters: use at least %d, such as four or five random words", length, MinPassword)
	case length > MaxPassword:
		reason = fmt.Sprintf("has %d characters: use at most %d", length, MaxPassword)
	case folded == address || folded == local:
		reason = "is the e-mail address or a part of it: use another one"
	case local != "" && repeats(folded, local):
		reason = "is the e-mail address or a part of it, over and over: use another one"
	case repeated(folded):
		reason = "is the same short piece over and over: use another one"
	case slices.Contains(wellKnown, folded):
		reason = "is among those that are tried first: use another one"
	}
	if reason == "" {
		return nil
	}
	return fmt.Errorf("%w: the password %s", workspace.ErrInvalid, reason)
}

// repeated reports whether text is one piece, of at most a third of it, again and
// again, the last time perhaps cut off.
func repeated(text string) bool {
	runes := []rune(text)
	for size := 1; size <= len(runes)/3; size++ {
		if repeats(text, string(runes[:size])) {
			return true
		}
	}
	return false
}

func repeats(text, piece string) bool {
	return strings.HasPrefix(strings.Repeat(piece, len(text)/len(piece)+1), text)
}

// wellKnown are passwords of twelve characters or more that are in every list of
// leaked ones.
var wellKnown = []string{
	"123456789012", "1234567890123", "12345678901234", "123456789012345", "1234567890123456", "0123456789012", "01234567890123",
	"987654321098", "0987654321098", "123456789abc", "123456789qwe", "1234567890qwe", "1234567890abc", "1q2w3e4r5t6y", "1q2w3e4r5t6y7u",
	"1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6", "q1w2e3r4t5y6u7", "1qaz2wsx3edc", "1qaz2wsx3edc4rfv", "1qazxsw23edc", "zaq12wsxcde3",
	"qwertyuiop12", "qwertyuiop123", "qwertyuiop1234", "qwertyuiop[]", "qwertyuiop[]\\", "qwerty123456", "qwerty1234567", "qwerty12345678",
	"qwerty123456789", "qwertyuiopas", "qwertyuiopasdf", "qwertyuiopasdfghjkl", "asdfghjkl123", "asdfghjklqwertyuiop",
	"zxcvbnm12345", "zxcvbnm123456", "abcdefghijkl", "abcdefghijklm", "abcdefghijklmn", "abcdefghijklmnopqrstuvwxyz", "abcdefg12345",
	"abcdef123456", "abcd12345678", "abc123456789", "a1b2c3d4e5f6", "a1b2c3d4e5f6g7", "aabbccddeeff", "aa1234567890", "a12345678901",
	"password1234", "password12345", "password123456", "password1234567", "password12345678", "password123!", "password1234!", "password2024", "password2025",
	"password2026", "password2027", "passwordpassword", "passw0rd1234", "p@ssw0rd1234", "p@ssword1234", "p@ssw0rd123!", "mypassword123",
	"mypassword12", "thisismypassword", "thisisapassword", "ilovemypassword", "passwordforever", "changeme1234", "changeme12345", "changeme123456", "changemenow!",
	"changeme123!", "changeit1234", "letmein12345", "letmein123456", "letmeinplease", "welcome12345", "welcome123456", "welcome1234!", "welcome2024!", "welcome2025!",
	"welcome2026!", "welcometohell", "administrator", "administrator1", "administrator123", "admin1234567", "admin12345678", "admin123456789", "adminadminadmin",
	"adminpassword", "adminpassword1", "rootpassword", "superadmin123", "superman1234", "spiderman123", "iloveyou1234", "iloveyou12345", "iloveyou123456", "iloveyouforever",
	"iloveyousomuch", "iloveyoubaby", "iloveyou2025", "sunshine1234", "princess1234", "football1234", "baseball1234", "basketball12", "dragon123456", "monkey123456", "master123456",
	"shadow123456", "michael12345", "computer1234", "internet1234", "samsung12345", "samsunggalaxy", "trustno1trustno1", "correcthorsebatterystaple", "correct horse battery staple",
	"correct-horse-battery-staple", "maythe4thbewithyou", "maytheforcebewithyou", "tokenbooth123", "tokenbooth1234", "tokenboothadmin", "tokenbooth-admin", "test12345678", "test123456789",
	"testtest1234", "testpassword", "secretpassword", "secret123456", "topsecret123", "supersecret1", "supersecret123", "supersecretpassword", "pa55word1234", "unknown12345", "hello1234567",
	"hello12345678", "helloworld12", "helloworld123", "helloworld1234", "helloworld!!", "goodmorning1", "manchester123", "liverpool123", "chelsea12345", "arsenal12345", "pokemon12345", "minecraft123",
}
