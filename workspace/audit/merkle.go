package audit

import (
	"crypto/sha256"
	"math/bits"
)

// The tree of RFC 6962 section 2.1: leaves and nodes are hashed with different
// prefixes, so that neither can pass for the other.
const (
	leafPrefix = 0
	nodePrefix = 1
)

func nodeHash(left, right [sha256.Size]byte) [sha256.Size]byte {
	var node [1 + 2*sha256.Size]byte
	node[0] = nodePrefix
	copy(node[1:], left[:])
	copy(node[1+sha256.Size:], right[:])
	return sha256.Sum256(node[:])
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
