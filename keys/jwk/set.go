package jwk

import (
	"encoding/json"
	"fmt"
)

// ParseSet reads a key set (RFC 7517 §5) as a verifier has to: keys of types, for
// uses or with algorithms that are not known here are left out, so that an issuer
// may add some. A known key without "alg" gets the one of its type. Errors wrap
// ErrKey: the text is no set, no key in it can be used, or two have the same ID.
func ParseSet(text []byte) (Set, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return Set{}, fmt.Errorf("%w set: it is not a JSON object with an array \"keys\"", ErrKey)
	}
	set := Set{}
	seen := map[string]bool{}
	for _, member := range document.Keys {
		k, usable := parse(member)
		if !usable {
			continue
		}
		if seen[k.ID] {
			return Set{}, fmt.Errorf("%w set: it has two keys with the kid %q", ErrKey, k.ID)
		}
		seen[k.ID] = true
		set.Keys = append(set.Keys, k)
	}
	if len(set.Keys) == 0 {
		return Set{}, fmt.Errorf("%w set: none of its %d keys can verify signatures here", ErrKey, len(document.Keys))
	}
	return set, nil
}

// parse reads one key of a set, if it is one to verify signatures with. Private
// members, which have no place in a published set, are not read.
func parse(member json.RawMessage) (Key, bool) {
	var k Key
	if json.Unmarshal(member, &k) != nil || k.ID == "" || (k.Use != "" && k.Use != "sig") {
		return Key{}, false
	}
	public, err := k.Public()
	if err != nil {
		return Key{}, false
	}
	described, err := New(public)
	if err != nil || (k.Algorithm != "" && k.Algorithm != described.Algorithm) {
		return Key{}, false
	}
	described.ID = k.ID
	return described, true
}
