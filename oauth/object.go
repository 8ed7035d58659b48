package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrObject means that the text is not one JSON object with distinct members.
var ErrObject = errors.New("not a JSON object with distinct members")

// ParseObject reads one JSON object into its members. Unlike json.Unmarshal into
// a struct it takes names by their exact case and refuses a name that appears
// twice, so that two readers cannot see two different objects (RFC 7519 §4,
// RFC 8259 §4). Errors wrap ErrObject and never quote the text.
func ParseObject(text []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, ErrObject
	}
	members := map[string]json.RawMessage{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, ErrObject
		}
		name, ok := token.(string)
		if !ok {
			return nil, ErrObject
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%w: a member appears twice", ErrObject)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, ErrObject
		}
		members[name] = value
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return nil, ErrObject
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the object", ErrObject)
	}
	return members, nil
}
