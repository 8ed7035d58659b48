package audit

import (
	"crypto/sha256"
	"math/bits"
)

// The tree of RFC 6962 section 2.1: leaves and nodes are hashed with different
// prefixes, so that neither can pass for the other.

func leafHash(data []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte{0}, data...))
}

func nodeHash(left, right [sha256.Size]byte) [sha256.Size]byte {
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// merkleRoot is the root over leaves: the left part of a tree is the largest
// power of two that leaves something for the right.
func merkleRoot(leaves [][sha256.Size]byte) [sha256.Size]byte {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	left := 1 << (bits.Len(uint(len(leaves)-1)) - 1)
	return nodeHash(merkleRoot(leaves[:left]), merkleRoot(leaves[left:]))
}
