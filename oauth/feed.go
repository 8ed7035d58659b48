package oauth

import (
	"crypto/sha256"
	"encoding/base64"
)

// FeedType is the "typ" header of the signed feed of revocations.
const FeedType = "revocation-feed+jwt"

// Paths below the issuer. The keys of the feed are in no other document, so that
// whoever gets hold of a key that signs tokens cannot forge the feed.
const (
	FeedPath     = "/.well-known/revocations"
	FeedKeysPath = FeedPath + "/keys"
)

// Feed is the payload of the signed feed: everything that is denied before it
// expires, or what was added since a sequence number.
type Feed struct {
	Issuer   string `json:"iss"`
	IssuedAt int64  `json:"iat"` // seconds since 1970: the entries were complete then
	Expiry   int64  `json:"exp"` // seconds since 1970: do not begin to use it after
	Position
	From    int64       `json:"from"` // the entries after that sequence number; 0: all that still matter
	Entries []FeedEntry `json:"entries"`
}

// Position is how far somebody has followed the revocations. Within an epoch the
// sequence only grows; a higher epoch begins with a full feed.
type Position struct {
	Epoch    int64 `json:"epoch"`
	Sequence int64 `json:"seq"`
}

// Before reports whether p is less far than q.
func (p Position) Before(q Position) bool {
	return p.Epoch < q.Epoch || (p.Epoch == q.Epoch && p.Sequence < q.Sequence)
}

// FeedEntry denies the tokens with a mark of that hash and a smaller generation.
type FeedEntry struct {
	Hash       string `json:"h"`
	Generation int64  `json:"g"`   // 0: all of them
	Expiry     int64  `json:"exp"` // seconds since 1970: no token that it concerns is good from then on
}

// Denies reports whether the entry denies a mark, if they have the same hash.
func (e FeedEntry) Denies(m Mark) bool { return e.Generation == 0 || m.Generation < e.Generation }

// Merge puts two entries of one hash together: what either denies is denied, for as
// long as either says. The other one may be none.
func (e FeedEntry) Merge(other FeedEntry) FeedEntry {
	switch {
	case other.Hash == "":
		return e
	case e.Generation == 0 || other.Generation == 0:
		e.Generation = 0
	default:
		e.Generation = max(e.Generation, other.Generation)
	}
	e.Expiry = max(e.Expiry, other.Expiry)
	return e
}

// Revocable is a kind of thing that tokens can be denied by.
type Revocable string

// The kinds.
const (
	RevocableToken      Revocable = "jti" // one token
	RevocableKey        Revocable = "key" // an API key
	RevocableSubject    Revocable = "sub" // a service account or a user
	RevocableWorkspace  Revocable = "ws"
	RevocableSigningKey Revocable = "kid"
)

// hashLength is how much of the digest a feed carries, in bytes.
const hashLength = 16

// RevocationHash is how the feed names something, so that it tells nothing to
// those who do not know the name already.
func RevocationHash(issuer string, kind Revocable, id string) string {
	text := make([]byte, 0, 128)
	text = append(append(append(append(append(text, issuer...), 0), kind...), 0), id...)
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:hashLength])
}

// Mark is something that a token can be denied by, with the generation that the
// token carries of it; 0 if it has none.
type Mark struct {
	Hash       string
	Generation int64
}

// Marks are all marks of a token that was signed with the key of that ID.
func Marks(kid string, c *Claims) [5]Mark {
	mark := func(kind Revocable, id string, generation int64) Mark {
		return Mark{RevocationHash(c.Issuer, kind, id), generation}
	}
	return [5]Mark{
		mark(RevocableToken, c.ID, 0),
		mark(RevocableKey, c.ClientID, c.KeyGeneration),
		mark(RevocableSubject, c.Subject, c.SubjectGeneration),
		mark(RevocableWorkspace, c.WorkspaceID, c.WorkspaceGeneration),
		mark(RevocableSigningKey, kid, 0),
	}
}
