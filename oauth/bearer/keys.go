package bearer

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
)

// Why a KeySet has no key to give.
var (
	// ErrUnknownKey means that the issuer publishes no key with that ID.
	ErrUnknownKey = errors.New("unknown key")
	// ErrUnavailable means that it cannot be known now. Nothing is wrong with the
	// token: answer 503, not 401.
	ErrUnavailable = errors.New("the issuer's keys are not available")
)

// Key is one of the issuer's keys, ready to verify with. Its parts must not be
// changed once a KeySet has given it: a key that replaces another is a new one.
type Key struct {
	ID        string
	Algorithm string // the only one that it is good for (RFC 8725 §3.1)
	Public    crypto.PublicKey
}

// KeySet holds the issuer's public keys. It has to be safe for concurrent use.
type KeySet interface {
	// Key returns the key with that ID. ErrUnknownKey: there is none. Any other
	// error means that it cannot be known now.
	Key(ctx context.Context, kid string) (Key, error)
}

// KeySetFunc makes a KeySet of a function.
type KeySetFunc func(ctx context.Context, kid string) (Key, error)

// Key implements KeySet.
func (f KeySetFunc) Key(ctx context.Context, kid string) (Key, error) { return f(ctx, kid) }

// StaticKeys is a KeySet that never changes. When the issuer rotates its keys,
// somebody has to replace it; Remote does that by itself.
type StaticKeys struct{ byID map[string]Key }

// ParseKeys makes a KeySet of a JWKS document (RFC 7517 §5), such as
// `tokenbooth jwks --out FILE` writes. Keys that cannot verify signatures here
// are left out; a document without any other is refused.
func ParseKeys(document []byte) (*StaticKeys, error) {
	set, err := jwk.ParseSet(document)
	if err != nil {
		return nil, fmt.Errorf("bearer: %w", err)
	}
	keys := &StaticKeys{byID: make(map[string]Key, len(set.Keys))}
	for _, k := range set.Keys {
		public, err := k.Public()
		if err != nil {
			return nil, fmt.Errorf("bearer: key %s: %w", k.ID, err)
		}
		keys.byID[k.ID] = Key{ID: k.ID, Algorithm: k.Algorithm, Public: public}
	}
	return keys, nil
}

// Key implements KeySet.
func (s *StaticKeys) Key(_ context.Context, kid string) (Key, error) {
	if k, ok := s.byID[kid]; ok {
		return k, nil
	}
	return Key{}, ErrUnknownKey
}

// Len is how many keys there are; never 0.
func (s *StaticKeys) Len() int { return len(s.byID) }
