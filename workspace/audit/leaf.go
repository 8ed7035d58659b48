package audit

import (
	"crypto/sha256"
	"strconv"
	"unicode/utf8"
)

// leaf is the exchange's leaf in the tree: of all that is told of it, in canonical JSON.
func (r *exchangeRow) leaf() [sha256.Size]byte {
	text := canonical([]any{
		r.Batch, r.Position, r.ID, r.At.UnixMicro(), r.WorkspaceID, r.KeyID, r.OwnerID, r.SecretID,
		r.Action, r.Outcome, r.Address, r.Agent, r.RequestID, r.Detail, r.Count,
	})
	return sha256.Sum256(append([]byte{leafPrefix}, text...))
}

// leafHasher makes the leaves of records, one after the other in the same memory. They
// are those of exchangeRow.leaf: the server hashes each exchange, and reflection would
// cost more than the hash.
type leafHasher struct {
	text []byte

	// What the exchanges of a bundle have in common, encoded once.
	batch         int64
	owners, deeds []byte
}

// begin prepares for the records of a bundle.
func (h *leafHasher) begin(b *bundle) {
	h.batch, h.owners, h.deeds = b.Batch, h.owners[:0], h.deeds[:0]
	for _, text := range [...]string{string(b.WorkspaceID), b.KeyID, b.OwnerID} {
		h.owners = append(appendString(h.owners, text), ',')
	}
	for _, text := range [...]string{b.Action, b.Outcome} {
		h.deeds = append(appendString(h.deeds, text), ',')
	}
}

// hashRecord takes from a record what is the same text in its leaf.
func (h *leafHasher) hashRecord(r *record) [sha256.Size]byte {
	b := strconv.AppendInt(append(h.text[:0], leafPrefix, '['), h.batch, 10)
	b = append(strconv.AppendInt(append(b, ','), r.position, 10), ',')
	b = append(b, r.text[r.id:r.secret]...)
	b = append(strconv.AppendInt(b, r.at, 10), ',')
	b = append(append(b, h.owners...), r.text[r.secret:r.address]...)
	b = append(append(b, h.deeds...), r.text[r.address:]...)
	h.text = b
	return sha256.Sum256(b)
}

// appendString appends a string as encoding/json writes it, to which it leaves all
// but ASCII without control characters and what is escaped for HTML.
func appendString(b []byte, s string) []byte {
	start, from := len(b), 0
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c >= utf8.RuneSelf || c == '<' || c == '>' || c == '&':
			return append(b[:start], canonical(s)...)
		case c == '"' || c == '\\':
			b = append(append(b, s[from:i]...), '\\')
			from = i
		}
	}
	return append(append(b, s[from:]...), '"')
}
