package keys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/big"
	"strings"
)

const (
	randomLength   = 43 // base62 digits that hold 256 bits
	checksumLength = 6  // base62 digits that hold 32 bits
	base62         = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	redacted       = "[redacted]"
)

// Secret is the plain text of a client_secret. It prints as "[redacted]"
// whichever way it is formatted, logged or marshalled; only Reveal gives it
// away. The zero value is no secret.
type Secret struct {
	text *string // behind a pointer: fmt reads unexported fields of structs unasked, and prints an address
	body string  // the 26 characters that name its key
	kind Kind
}

// NewSecret makes a secret of 256 random bits for a key, with the prefix of the
// key's ID: a key of an older prefix gets secrets that still name it.
func (f *Format) NewSecret(id ID, kind Kind) Secret {
	prefix, body := strings.TrimSuffix(string(id[:len(id)-idLength]), "k_"), string(id[len(id)-idLength:])
	limit := new(big.Int).Lsh(big.NewInt(1), 256)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	text := prefix + string(kind) + "_" + body + "_" + digits(n, randomLength)
	sum := checksum(text)
	text += string(sum[:])
	return Secret{text: &text, body: body, kind: kind}
}

// ParseSecret recognises the form of a secret; it looks nothing up. The error
// is ErrForeignSecret, or wraps ErrMalformedSecret with a sentence that is safe
// to show to whoever sent it.
func (f *Format) ParseSecret(s string) (Secret, error) {
	kind, length, ok := f.secretKind(s)
	if !ok {
		return Secret{}, ErrForeignSecret
	}
	if len(s) != length {
		return Secret{}, fmt.Errorf("%w: it has %d of %d characters; was it cut off when it was copied?", ErrMalformedSecret, len(s), length)
	}
	if !ofSecrets(s) {
		return Secret{}, fmt.Errorf("%w: it has characters other than letters, digits and underscores; was it changed when it was copied?", ErrMalformedSecret)
	}
	text, sum := s[:length-checksumLength], s[length-checksumLength:]
	body := text[len(text)-randomLength-1-idLength:][:idLength]
	if want := checksum(text); text[len(text)-randomLength-1] != '_' || string(want[:]) != sum {
		return Secret{}, fmt.Errorf("%w: its checksum does not match; was it changed when it was copied?", ErrMalformedSecret)
	}
	return Secret{text: &s, body: body, kind: kind}, nil
}

// ofSecrets reports whether a text has the characters of secrets only.
func ofSecrets(s string) bool {
	for i := range len(s) {
		if !secretCharacters[s[i]] {
			return false
		}
	}
	return true
}

var secretCharacters = func() (set [256]bool) {
	for _, c := range []byte(base62 + "_") {
		set[c] = true
	}
	return set
}()

// secretKind tells by the beginning whose secret s is and how long it must be.
// The longest accepted prefix wins, since one may begin like another.
func (f *Format) secretKind(s string) (kind Kind, length int, ok bool) {
	for _, b := range f.secrets {
		if strings.HasPrefix(s, b.text) && len(b.text) > length {
			kind, length, ok = b.kind, len(b.text), true
		}
	}
	return kind, length + idLength + 1 + randomLength + checksumLength, ok
}

// QuotedIn reports whether something in a text begins like a secret of ours. Errors
// quote what was sent, and secrets end up in the wrong place by mistake.
func (f *Format) QuotedIn(text string) bool {
	for i := range text {
		if _, err := f.ParseSecret(text[i:]); !errors.Is(err, ErrForeignSecret) {
			return true
		}
	}
	return false
}

// HasSecret reports whether a text has a whole secret of ours in it, to the
// checksum.
func (f *Format) HasSecret(text string) bool {
	for i := range text {
		_, length, ok := f.secretKind(text[i:])
		if ok && len(text)-i >= length {
			if _, err := f.ParseSecret(text[i : i+length]); err == nil {
				return true
			}
		}
	}
	return false
}

// Names reports whether the secret says that it belongs to the key.
func (s Secret) Names(id ID) bool { return s.text != nil && strings.HasSuffix(string(id), s.body) }

// ID is the key that the secret says it belongs to: a secret alone is a complete
// credential. The ID is as trustworthy as any other input.
func (f *Format) ID(s Secret) (ID, error) {
	prefix, _, _ := strings.Cut(s.Reveal(), string(s.kind)+"_"+s.body)
	return f.ParseID(prefix + "k_" + s.body)
}

// Kind tells whose secret it is.
func (s Secret) Kind() Kind { return s.kind }

// Hint is the first four of its random characters, for people who compare a
// secret they hold with a list.
func (s Secret) Hint() string {
	random := len(s.Reveal()) - checksumLength - randomLength
	return s.Reveal()[random : random+4]
}

// Reveal returns the plain text, empty for the zero value. Call it where the
// secret leaves for its owner, and nowhere else.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String, GoString, Format, LogValue and the marshallers keep the plain text out
// of logs, errors and answers.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb reaches the fields.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = fmt.Fprint(state, redacted) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// checksum is the CRC-32 (IEEE) of all that precedes it, in base62. It finds
// mistakes in copying and lets scanners recognise a leaked secret; it is no
// protection against forgery.
func checksum(text string) (out [checksumLength]byte) {
	n := crc32.ChecksumIEEE([]byte(text))
	for i := checksumLength - 1; i >= 0; i-- {
		out[i] = base62[n%62]
		n /= 62
	}
	return out
}

// digits writes n in base62 with leading zeros.
func digits(n *big.Int, length int) string {
	out := make([]byte, length)
	rest, digit, base := new(big.Int).Set(n), new(big.Int), big.NewInt(62)
	for i := length - 1; i >= 0; i-- {
		rest.DivMod(rest, base, digit)
		out[i] = base62[digit.Int64()]
	}
	return string(out)
}
