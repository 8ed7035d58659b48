package keys

import (
	"crypto/sha256"
	"encoding"
	"fmt"
	"hash"
	"sync"
)

// macKey is a key of HMAC-SHA-256 whose two blocks are hashed already, so that each use
// begins with those states (FIPS 198-1 §6). They are as secret as the key. A test
// compares with crypto/hmac.
type macKey struct{ inner, outer []byte }

func newMACKey(key []byte) *macKey {
	var block [sha256.BlockSize]byte
	if len(key) > len(block) {
		panic("a longer key would have to be hashed first")
	}
	copy(block[:], key)
	defer clear(block[:])
	return &macKey{inner: padded(block, 0x36), outer: padded(block, 0x5c)}
}

// padded is the state of a hash that begins with a block, each byte of it changed by pad.
func padded(block [sha256.BlockSize]byte, pad byte) []byte {
	for i := range block {
		block[i] ^= pad
	}
	h := sha256.New()
	h.Write(block[:])
	clear(block[:])
	return stateOf(h)
}

// code authenticates the parts, one behind the other. It may be called at the same time
// by several.
func (k *macKey) code(parts ...string) (code [sha256.Size]byte) {
	m := macs.Get().(*mac)
	m.resume(k.inner)
	for _, part := range parts {
		m.write(part)
	}
	m.h.Sum(m.room[:0])
	m.resume(k.outer)
	m.h.Write(m.room[:sha256.Size])
	m.h.Sum(m.room[:0])
	code = [sha256.Size]byte(m.room[:])
	m.forget()
	macs.Put(m)
	return code
}

// mac is what making a code needs. It is used again, and forgets before that what it
// was used for.
type mac struct {
	h    hash.Hash
	room [128]byte // what is hashed next: an argument of h would be allocated
}

var macs = sync.Pool{New: func() any { return &mac{h: sha256.New()} }}

// fresh is the state of a hash before its first byte.
var fresh = stateOf(sha256.New())

func (m *mac) write(part string) {
	for len(part) > 0 {
		n := copy(m.room[:], part)
		m.h.Write(m.room[:n])
		part = part[n:]
	}
}

// resume goes on from a state. What the hash held is overwritten, with the bytes that
// were not hashed yet: the states here are those between two blocks, and Reset would
// leave such bytes.
func (m *mac) resume(state []byte) {
	if err := m.h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		panic(fmt.Sprintf("SHA-256 does not take its own state: %v", err)) // the standard library's does
	}
}

func (m *mac) forget() {
	m.resume(fresh)
	clear(m.room[:])
}

func stateOf(h hash.Hash) []byte {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(fmt.Sprintf("SHA-256 does not tell its state: %v", err)) // the standard library's does
	}
	return state
}
