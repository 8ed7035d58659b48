package signing

import (
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
)

// Purpose is what a key signs, and it signs nothing else: whoever gets hold of a
// key that signs tokens cannot forge the feed of revocations.
type Purpose string

// The purposes.
const (
	Tokens Purpose = "token" // its keys are in the JWKS
	Feed   Purpose = "feed"  // the feed of revocations; its keys are in a set of their own
)

// types are the values of "typ" that keys of a purpose sign.
func (p Purpose) types() []string {
	if p == Feed {
		return []string{oauth.FeedType}
	}
	return []string{oauth.AccessTokenType, oauth.PlainTokenType}
}

// FeedAlgorithm signs the feed, whatever signs tokens.
const FeedAlgorithm = jwk.ES256

// Slot is what has one active key at most, and one pending.
type Slot struct {
	Purpose   Purpose
	Algorithm string
}

// TokenSlot is of the keys that sign tokens with an algorithm.
func TokenSlot(algorithm string) Slot { return Slot{Tokens, algorithm} }

// FeedSlot is of the keys that sign the feed.
func FeedSlot() Slot { return Slot{Feed, FeedAlgorithm} }

// String is the slot as sentences name it.
func (s Slot) String() string {
	if s.Purpose == Feed {
		return s.Algorithm + " for the feed"
	}
	return s.Algorithm
}
