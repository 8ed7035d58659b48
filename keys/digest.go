package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// digestScheme names how digests are made, so that another way can follow.
const digestScheme = "v1"

// ErrPepper means that a secret was stored under a pepper that the configuration lacks. It
// says nothing about the secret: while a new pepper is being rolled out, another
// replica may have it.
var ErrPepper = errors.New("unknown pepper version")

// Peppers are the keys under which secrets are digested, by version. They live
// outside the database: a copy of it alone is no use for guessing. Losing them
// makes every stored key unusable.
type Peppers struct {
	current   int64
	byVersion map[int64]*macKey
}

// ParsePeppers reads "version:base64,version:base64…"; each is 32 bytes, and the
// first is used for new secrets. Errors never quote the input.
func ParsePeppers(text string) (Peppers, error) {
	p := Peppers{byVersion: map[int64]*macKey{}}
	for i, entry := range strings.Split(text, ",") {
		version, encoded, ok := strings.Cut(strings.TrimSpace(entry), ":")
		n, errVersion := strconv.ParseInt(version, 10, 32)
		pepper, errValue := ParseKey(encoded)
		switch {
		case !ok || errVersion != nil || n < 1 || errValue != nil:
			return Peppers{}, fmt.Errorf(`pepper %d: want "<version>:<base64 of 32 bytes>" with a version from 1, several separated by commas`, i+1)
		case p.byVersion[n] != nil:
			return Peppers{}, fmt.Errorf("pepper %d: version %d appears twice", i+1, n)
		}
		if i == 0 {
			p.current = n
		}
		p.byVersion[n] = newMACKey(pepper)
	}
	return p, nil
}

// ParseKey reads a key of 32 bytes in base64, as `openssl rand -base64 32` prints
// it. The error never quotes the input.
func ParseKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != 32 || strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("want the base64 of 32 bytes")
	}
	return key, nil
}

// Digest is how a secret is stored: a keyed hash, not a password hash. A secret
// has 256 random bits, so there is nothing to slow a guesser down for (NIST SP
// 800-63B §3.1.2.2, OWASP ASVS 5.0 6.5.2).
type Digest struct {
	Pepper int64
	Sum    []byte
}

// Digest makes the digest for a new secret.
func (p Peppers) Digest(id ID, s Secret) Digest {
	sum := digest(p.byVersion[p.current], id, s)
	return Digest{Pepper: p.current, Sum: sum[:]}
}

// Matches compares a secret with a stored digest in constant time.
func (p Peppers) Matches(id ID, s Secret, d Digest) (bool, error) {
	pepper := p.byVersion[d.Pepper]
	if pepper == nil {
		return false, fmt.Errorf("%w: key %s needs pepper %d", ErrPepper, id, d.Pepper)
	}
	sum := digest(pepper, id, s)
	return hmac.Equal(sum[:], d.Sum), nil
}

// Waste does the work of Matches for an ID that does not exist, so that the time
// of an answer does not tell whether it does.
func (p Peppers) Waste(s Secret) {
	sum := digest(p.byVersion[p.current], "", s)
	hmac.Equal(sum[:], make([]byte, sha256.Size))
}

func digest(pepper *macKey, id ID, s Secret) [sha256.Size]byte {
	return pepper.code(digestScheme, string(id), "\x00", s.Reveal())
}

// MAC authenticates parts for a purpose of the installation's own, such as a
// cursor, under the current pepper.
func (p Peppers) MAC(purpose string, parts ...string) []byte {
	var message strings.Builder
	for _, part := range append([]string{"mac", purpose}, parts...) {
		fmt.Fprintf(&message, "%d:%s", len(part), part) // so that no two lists of parts are alike
	}
	code := p.byVersion[p.current].code(message.String())
	return code[:]
}

// AEAD seals for a purpose of the installation's own, under a key that is derived
// from the current pepper and the parts. What it seals has its nonce in front.
func (p Peppers) AEAD(purpose string, parts ...string) cipher.AEAD {
	block, err := aes.NewCipher(p.MAC(purpose, parts...))
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // AES is a fitting cipher
	}
	return aead
}
