package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrObject means that the text is not one JSON object with distinct members.
var ErrObject = errors.New("not a JSON object with distinct members")

// ParseObject reads one JSON object into its members. Unlike json.Unmarshal into
// a struct it takes names by their exact case and refuses a name that appears
// twice, so that two readers cannot see two different objects (RFC 7519 §4,
// RFC 8259 §4). The values are parts of the text. Errors wrap ErrObject and never
// quote it.
//
// Every token is read with this, so it takes the text apart itself; that it is
// JSON at all is encoding/json's judgement.
func ParseObject(text []byte) (map[string]json.RawMessage, error) {
	text = bytes.Trim(text, whitespace)
	if len(text) == 0 || text[0] != '{' || !json.Valid(text) {
		return nil, ErrObject
	}
	members := make(map[string]json.RawMessage, 16)
	rest := skip(text[1:])
	for rest[0] != '}' {
		end := valueEnd(rest)
		name, err := unquote(rest[:end])
		if err != nil {
			return nil, ErrObject
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%w: a member appears twice", ErrObject)
		}
		rest = skip(skip(rest[end:])[1:]) // the colon
		end = valueEnd(rest)
		members[name] = json.RawMessage(rest[:end])
		rest = skip(rest[end:])
		if rest[0] == ',' {
			rest = skip(rest[1:])
		}
	}
	return members, nil
}

const whitespace = " \t\r\n"

func skip(text []byte) []byte { return bytes.TrimLeft(text, whitespace) }

// valueEnd is where the value ends with which the text begins. The text is valid
// JSON.
func valueEnd(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i += stringEnd(text[i:]) - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
			if depth < 0 { // that of the object around a number or a word
				return i
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(text)
}

// stringEnd is where the string ends with which the text begins.
func stringEnd(text []byte) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// unquote reads a string of valid JSON; most have nothing to unescape.
func unquote(value []byte) (string, error) {
	if len(value) < 2 || value[0] != '"' {
		return "", errors.New("not a string")
	}
	plain := true
	for _, c := range value {
		plain = plain && c != '\\' && c < 0x80
	}
	if plain {
		return string(value[1 : len(value)-1]), nil
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err
}
