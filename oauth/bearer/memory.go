package bearer

import (
	"crypto"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// How much a Verifier remembers.
const (
	// DefaultCacheSize is how many tokens are remembered unless Config says otherwise.
	DefaultCacheSize = 10_000
	// MaxCacheSize bounds Config.CacheSize.
	MaxCacheSize = 1_000_000

	// maxRemembered is the longest token that is remembered, in bytes: what has to be
	// kept of one grows with its length.
	maxRemembered = 4096
)

// digest is the SHA-256 of a whole token, its signature included. So the memory
// holds nothing that could be used as a token, and another spelling of one, or the
// same claims with another signature, are a token that is not known.
type digest [sha256.Size]byte

// unnamed is the digest of tokens that are not to be remembered.
var unnamed digest

// signed is what a token says whose signature was checked, and with which key.
type signed struct {
	key    Key
	claims oauth.Claims
}

// own are the claims in a copy that is the caller's to change.
func (s *signed) own() *oauth.Claims {
	c := s.claims
	c.Audience, c.Scope = slices.Clone(c.Audience), slices.Clone(c.Scope)
	return &c
}

// with reports whether that is the very key that the signature was checked with:
// another one may be published under the same ID by now.
func (s *signed) with(public crypto.PublicKey) bool {
	k, ok := s.key.Public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(public)
}

// memory knows the tokens that were accepted last, which spares their signature.
// It says nothing else of them: whether one is good now is for the verifier to
// check each time. nil remembers nothing.
//
// It has two generations. What is used gets into the young one; when that is full
// it becomes the old one, and the old one is forgotten. So the last size/2 tokens
// that were used are always known and never more than size, and neither a list has
// to be kept in order nor anything to be swept.
type memory struct {
	hits, misses atomic.Uint64

	mu         sync.Mutex
	full       int // a generation with that many is not young any more
	young, old map[digest]*signed
}

// newMemory makes one for so many tokens; negative: none.
func newMemory(size int) *memory {
	if size < 0 {
		return nil
	}
	return &memory{full: (size + 1) / 2, young: map[digest]*signed{}, old: map[digest]*signed{}}
}

// get returns what is known of a token, or nil, and what to put it under.
func (m *memory) get(token string) (digest, *signed) {
	if m == nil || len(token) > maxRemembered {
		return unnamed, nil
	}
	id := digest(sha256.Sum256([]byte(token)))
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.young[id]
	if s == nil {
		if s = m.old[id]; s != nil {
			m.add(id, s)
		}
	}
	return id, s
}

// put remembers a token that was accepted. s must not be changed afterwards.
func (m *memory) put(id digest, s *signed) {
	if m == nil || id == unnamed {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(id, s)
}

// add is put with mu held.
func (m *memory) add(id digest, s *signed) {
	m.young[id] = s
	if len(m.young) >= m.full {
		m.young, m.old = m.old, m.young
		clear(m.young)
	}
}

// count notes whether a token's signature was spared.
func (m *memory) count(hit bool) {
	switch {
	case m == nil:
	case hit:
		m.hits.Add(1)
	default:
		m.misses.Add(1)
	}
}

// Cached says how many signatures were spared because the token was remembered, and
// how many were not, tokens that were refused among them. Both stay 0 if
// Config.CacheSize is negative.
func (v *Verifier) Cached() (hits, misses uint64) {
	if v.memory == nil {
		return 0, 0
	}
	return v.memory.hits.Load(), v.memory.misses.Load()
}
