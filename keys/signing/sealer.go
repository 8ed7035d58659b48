package signing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// ErrSealed means that a sealed key cannot be opened: another key-encryption key sealed
// it, or the row was changed.
var ErrSealed = errors.New("the signing key cannot be opened")

// Sealer encrypts private keys at rest with AES-256-GCM under a key-encryption
// key that is kept outside the database. What it seals is bound to its row: put
// into another one, it does not open.
//
// While a key-encryption key is replaced there are several: the first seals, all
// of them open.
type Sealer struct{ keks []kek }

// kek is one key-encryption key.
type kek struct {
	id   string
	word string
	aead cipher.AEAD
}

var sealerID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ParseSealer reads key-encryption keys, separated by commas, the one that seals
// first. Each is "<id>:<base64 of 32 bytes>", or the base64 alone, whose ID is
// "1"; no two have one ID, which is stored beside what is sealed. Errors never
// quote the input.
func ParseSealer(text string) (*Sealer, error) {
	s := &Sealer{}
	for part := range strings.SplitSeq(text, ",") {
		k, err := parseKEK(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if s.find(k.id) != nil {
			return nil, fmt.Errorf("the key-encryption key: two of them have the ID %q: write another one, such as 2, before the newer", k.id)
		}
		s.keks = append(s.keks, k)
	}
	return s, nil
}

func parseKEK(text string) (kek, error) {
	id, encoded, ok := strings.Cut(text, ":")
	if !ok {
		id, encoded = "1", text
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(key) != 32 || strings.ContainsAny(encoded, "\r\n") || !sealerID.MatchString(id) {
		return kek{}, errors.New(`the key-encryption key: want the base64 of 32 bytes, or "<id>:" and that, with an ID of 1 to 64 letters, digits, dots, hyphens and underscores; several are separated by commas`)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return kek{}, fmt.Errorf("the key-encryption key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return kek{}, fmt.Errorf("the key-encryption key: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("tokenbooth key-encryption key"))
	return kek{id: id, word: "kek:" + id + ":" + hex.EncodeToString(mac.Sum(nil)[:8]), aead: aead}, nil
}

// find returns the key-encryption key with that ID; nil: it is not configured.
func (s *Sealer) find(id string) *kek {
	for i := range s.keks {
		if s.keks[i].id == id {
			return &s.keks[i]
		}
	}
	return nil
}

// ID names the key-encryption key that seals.
func (s *Sealer) ID() string { return s.keks[0].id }

// Several reports whether a key-encryption key is being replaced: there is more
// than one.
func (s *Sealer) Several() bool { return len(s.keks) > 1 }

// Word says for change.AwaitHeld which key-encryption key seals: its ID and a
// fingerprint, since two servers may have different ones by one ID.
func (s *Sealer) Word() string { return s.keks[0].word }

// Holds is the Word of every key-encryption key that opens, separated by spaces.
func (s *Sealer) Holds() string {
	var words []string
	for _, k := range s.keks {
		words = append(words, k.word)
	}
	return strings.Join(words, " ")
}

// Seal encrypts under the first key-encryption key, bound to the row that binding
// describes. The random nonce is put in front of what it returns.
func (s *Sealer) Seal(plain []byte, binding string) []byte {
	return s.keks[0].aead.Seal(nil, nil, plain, []byte(binding))
}

// Open decrypts what Seal made with the same binding under the key-encryption key
// with that ID. The error wraps ErrSealed.
func (s *Sealer) Open(id string, sealed []byte, binding string) ([]byte, error) {
	k := s.find(id)
	if k == nil {
		var ids []string
		for _, k := range s.keks {
			ids = append(ids, fmt.Sprintf("%q", k.id))
		}
		return nil, fmt.Errorf("%w: it was sealed by key-encryption key %q and %s is configured", ErrSealed, id, strings.Join(ids, " and "))
	}
	plain, err := k.aead.Open(nil, nil, sealed, []byte(binding))
	if err != nil {
		return nil, fmt.Errorf("%w: is secrets.key_encryption_key the one that belongs to this database?", ErrSealed)
	}
	return plain, nil
}
