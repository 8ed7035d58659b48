package endpoint

import (
	"slices"
	"sync"
)

// buffer is where a body is read, or an answer put together. It is used again: each is
// cleared before, since it held a secret or a token.
type buffer struct{ bytes []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, 0, 2048)} }}

// takeBuffer takes an empty one. Release it, and use nothing of it afterwards.
func takeBuffer() *buffer { return buffers.Get().(*buffer) }

// grow makes it n bytes long.
func (b *buffer) grow(n int) []byte {
	b.bytes = slices.Grow(b.bytes[:0], n)[:n]
	return b.bytes
}

func (b *buffer) release() {
	clear(b.bytes)
	b.bytes = b.bytes[:0]
	buffers.Put(b)
}
