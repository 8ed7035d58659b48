package audit

import (
	"crypto/sha256"
	"strconv"
	"unicode/utf8"
)

// leafHasher hashes rows, one after the other in the same memory.
type leafHasher struct{ text []byte }

// hash is the row's leaf in the tree: of every column, in canonical JSON.
func (h *leafHasher) hash(r *exchangeRow) [sha256.Size]byte {
	h.text = r.appendCanonical(append(h.text[:0], leafPrefix))
	return sha256.Sum256(h.text)
}

// appendCanonical appends what canonical makes of the row's columns: the server
// hashes each exchange, and reflection would cost more than the hash.
func (r *exchangeRow) appendCanonical(b []byte) []byte {
	b = strconv.AppendInt(append(b, '['), r.Batch, 10)
	b = strconv.AppendInt(append(b, ','), r.Position, 10)
	b = appendString(append(b, ','), r.ID)
	b = strconv.AppendInt(append(b, ','), r.At.UnixMicro(), 10)
	texts := r.texts()
	for _, text := range texts[1:] {
		b = appendString(append(b, ','), text)
	}
	b = strconv.AppendInt(append(b, ','), r.Count, 10)
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
