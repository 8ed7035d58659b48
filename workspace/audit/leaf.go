package audit

import (
	"crypto/sha256"
	"strconv"
	"unicode/utf8"
)

// leafHasher hashes exchanges, one after the other in the same memory.
type leafHasher struct {
	text []byte

	// What the exchanges of a bundle have in common, encoded once.
	batch         int64
	owners, deeds []byte
}

// hash is the exchange's leaf in the tree: of all that is told of it, in canonical JSON.
func (h *leafHasher) hash(batch, position int64, e *Exchange) [sha256.Size]byte {
	h.text = appendCanonical(append(h.text[:0], leafPrefix), batch, position, e)
	return sha256.Sum256(h.text)
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

// hashRecord is hash for a record, of which nearly all is the same text: encoding it twice
// would cost as much as the hash.
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

// appendCanonical appends what canonical makes of an exchange in its place: the server
// hashes each, and reflection would cost more than the hash.
func appendCanonical(b []byte, batch, position int64, e *Exchange) []byte {
	b = strconv.AppendInt(append(b, '['), batch, 10)
	b = strconv.AppendInt(append(b, ','), position, 10)
	b = appendString(append(b, ','), e.ID)
	b = strconv.AppendInt(append(b, ','), e.At.UnixMicro(), 10)
	for _, text := range [...]string{
		string(e.WorkspaceID), e.KeyID, e.OwnerID, e.SecretID, e.Action, e.Outcome, e.Address, e.Agent, e.RequestID, e.Detail,
	} {
		b = appendString(append(b, ','), text)
	}
	b = strconv.AppendInt(append(b, ','), e.Count, 10)
	return append(b, ']')
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
