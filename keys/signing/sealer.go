package signing

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
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
type Sealer struct {
	id   string
	aead cipher.AEAD
}

var sealerID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ParseSealer reads "<id>:<base64 of 32 bytes>", or the base64 alone, whose ID
// is "1". The ID is stored beside what is sealed. Errors never quote the input.
func ParseSealer(text string) (*Sealer, error) {
	id, encoded, ok := strings.Cut(text, ":")
	if !ok {
		id, encoded = "1", text
	}
	kek, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(kek) != 32 || strings.ContainsAny(encoded, "\r\n") || !sealerID.MatchString(id) {
		return nil, errors.New(`the key-encryption key: want the base64 of 32 bytes, or "<id>:" and that, with an ID of 1 to 64 letters, digits, dots, hyphens and underscores`)
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("the key-encryption key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("the key-encryption key: %w", err)
	}
	return &Sealer{id: id, aead: aead}, nil
}

// ID names the key-encryption key.
func (s *Sealer) ID() string { return s.id }

// Seal encrypts, bound to the row that binding describes. The random nonce is
// put in front of what it returns.
func (s *Sealer) Seal(plain []byte, binding string) []byte {
	return s.aead.Seal(nil, nil, plain, []byte(binding))
}

// Open decrypts what Seal made with the same binding. The error is ErrSealed.
func (s *Sealer) Open(sealed []byte, binding string) ([]byte, error) {
	plain, err := s.aead.Open(nil, nil, sealed, []byte(binding))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}
