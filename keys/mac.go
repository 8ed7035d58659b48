package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
)

// macKey is a key of HMAC-SHA-256 whose block is hashed already, so that each use
// begins with a copy of that state (FIPS 198-1 §6). The state is as secret as the key.
// Copies are not pooled: what was hashed last would stay in them.
type macKey struct{ state hash.Cloner }

func newMACKey(key []byte) *macKey {
	return &macKey{hmac.New(sha256.New, key).(hash.Cloner)}
}

// start begins a code. It may be called at the same time by several.
func (k *macKey) start() hash.Hash {
	h, err := k.state.Clone()
	if err != nil {
		panic(fmt.Sprintf("HMAC-SHA-256 does not clone: %v", err)) // the standard library's does
	}
	return h
}
