package oauth

import (
	"encoding/json"
	"strconv"
	"strings"
)

// What every exchange writes is appended here without reflection. It is byte for byte
// what encoding/json makes of the same structs, which a test compares: the tags of a
// struct and its AppendJSON change together.

// AppendJSON appends the claims as a JSON object.
func (c *Claims) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendMember(dst, "iss", c.Issuer)
	dst = appendMember(dst, "sub", c.Subject)
	dst = c.Audience.appendJSON(appendName(dst, "aud"))
	dst = appendMember(dst, "client_id", c.ClientID)
	dst = appendNumber(dst, "exp", c.Expiry)
	dst = appendNumber(dst, "iat", c.IssuedAt)
	dst = appendMember(dst, "jti", c.ID)
	dst = c.Scope.appendJSON(appendName(dst, "scope"))
	if c.NotBefore != 0 {
		dst = appendNumber(dst, "nbf", c.NotBefore)
	}
	dst = appendMember(dst, "workspace_id", c.WorkspaceID)
	dst = appendMember(dst, "workspace", c.Workspace)
	dst = appendNumber(dst, "key_gen", c.KeyGeneration)
	dst = appendNumber(dst, "sub_gen", c.SubjectGeneration)
	dst = appendNumber(dst, "ws_gen", c.WorkspaceGeneration)
	return append(dst, '}')
}

// AppendJSON appends the answer as a JSON object.
func (r *TokenResponse) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendMember(dst, "access_token", r.AccessToken)
	dst = appendMember(dst, "token_type", r.TokenType)
	dst = appendNumber(dst, "expires_in", r.ExpiresIn)
	dst = r.Scope.appendJSON(appendName(dst, "scope"))
	if r.KeyExpiresAt != "" {
		dst = appendMember(dst, "key_expires_at", r.KeyExpiresAt)
	}
	return append(dst, '}')
}

// TokenDetail is what the record of an exchange tells of its token: a JSON object.
type TokenDetail struct {
	Audience []string `json:"audience"`
	ID       string   `json:"jti"`
	Scope    Scope    `json:"scope"`
}

// AppendJSON appends the detail as a JSON object.
func (d *TokenDetail) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendStrings(appendName(dst, "audience"), d.Audience)
	dst = appendMember(dst, "jti", d.ID)
	dst = d.Scope.appendJSON(appendName(dst, "scope"))
	return append(dst, '}')
}

// appendJSON is MarshalJSON that appends.
func (a Audience) appendJSON(dst []byte) []byte {
	if len(a) == 1 {
		return appendString(dst, a[0])
	}
	return appendStrings(dst, a)
}

// appendJSON is MarshalJSON that appends.
func (s Scope) appendJSON(dst []byte) []byte {
	dst = append(dst, '"')
	for i, token := range s {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = appendText(dst, token)
	}
	return append(dst, '"')
}

// appendName appends `,"name":`, without the comma for the first member. The name
// needs no escapes.
func appendName(dst []byte, name string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

func appendMember(dst []byte, name, value string) []byte {
	return appendString(appendName(dst, name), value)
}

func appendNumber(dst []byte, name string, value int64) []byte {
	return strconv.AppendInt(appendName(dst, name), value, 10)
}

// appendStrings appends an array; null for nil, as encoding/json does.
func appendStrings(dst []byte, list []string) []byte {
	if list == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	return append(dst, ']')
}

func appendString(dst []byte, s string) []byte {
	return append(appendText(append(dst, '"'), s), '"')
}

// special is 1 for the bytes that do not stand for themselves in the strings of
// encoding/json: all but ASCII, controls, quotes, backslashes, and what HTML takes for
// markup.
var special = func() (set [256]byte) {
	for i := range set {
		if i < ' ' || i >= 0x7f || strings.IndexByte(`"\<>&`, byte(i)) >= 0 {
			set[i] = 1
		}
	}
	return set
}()

// appendText appends what is between the quotes of a string. Names, scopes and tokens
// are plain, and are copied; whatever has to be escaped is left to encoding/json. All
// of it is looked at before anything is decided: that takes half the time.
func appendText(dst []byte, s string) []byte {
	var found byte
	for i := range len(s) {
		found |= special[s[i]]
	}
	if found != 0 {
		return appendEscaped(dst, s)
	}
	return append(dst, s...)
}

func appendEscaped(dst []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always marshal
	}
	return append(dst, text[1:len(text)-1]...)
}
