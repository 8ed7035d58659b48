package signing

import (
	"crypto/sha256"
	"hash"
	"sync"
)

// desk is where a token is put together. It is used again, and cleared before: a token
// is a credential.
type desk struct {
	token     []byte // as far as it is made
	signature []byte // of that, as JWS has it
	hash      hash.Hash
	digest    [sha256.Size]byte
}

var desks = sync.Pool{New: func() any { return &desk{token: make([]byte, 0, usualToken), hash: sha256.New()} }}

// usualToken is how long most tokens are at most, in bytes.
const usualToken = 1536

// takeDesk takes an empty one. Release it, and use nothing of it afterwards.
func takeDesk() *desk { return desks.Get().(*desk) }

func (d *desk) release() {
	clear(d.token)
	clear(d.signature)
	d.token, d.signature = d.token[:0], d.signature[:0]
	desks.Put(d)
}

// sum is the digest of what is made so far, until the next one.
func (d *desk) sum() []byte {
	d.hash.Reset()
	d.hash.Write(d.token)
	return d.hash.Sum(d.digest[:0])
}
