package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// AccessTokenType is the "typ" header of an access token (RFC 9068 §2.1).
const AccessTokenType = "at+jwt"

// PlainTokenType is the "typ" of tokens for audiences whose verifiers know only
// that (RFC 7519 §5.1).
const PlainTokenType = "JWT"

// Claims are the contents of an access token (RFC 9068 §2.2), with the workspace
// and the generations by which a token is revoked.
type Claims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"` // the service account or user
	Audience Audience `json:"aud"`
	ClientID string   `json:"client_id"` // the API key
	Expiry   int64    `json:"exp"`       // seconds since 1970
	IssuedAt int64    `json:"iat"`       // seconds since 1970
	ID       string   `json:"jti"`
	Scope    Scope    `json:"scope"`

	NotBefore int64 `json:"nbf,omitempty"` // seconds since 1970; Tokenbooth sets none

	WorkspaceID string `json:"workspace_id"`
	Workspace   string `json:"workspace"` // the slug

	// A token whose generation is smaller than that of its key, subject or
	// workspace is denied, whatever its iat.
	KeyGeneration       int64 `json:"key_gen"`
	SubjectGeneration   int64 `json:"sub_gen"`
	WorkspaceGeneration int64 `json:"ws_gen"`
}

// ParseClaims reads the payload of a token. Names count by their exact case and
// must be distinct; unknown ones are ignored (RFC 7519 §4).
func ParseClaims(payload []byte) (*Claims, error) {
	members, err := ParseObject(payload)
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	c := &Claims{}
	for name, value := range members {
		if err := c.set(name, value); err != nil {
			return nil, fmt.Errorf("claim %s has an unexpected form", name)
		}
	}
	return c, nil
}

// set reads one claim. null is as good as absent.
func (c *Claims) set(name string, value json.RawMessage) error {
	switch name {
	case "iss":
		return setString(&c.Issuer, value)
	case "sub":
		return setString(&c.Subject, value)
	case "aud":
		return json.Unmarshal(value, &c.Audience)
	case "client_id":
		return setString(&c.ClientID, value)
	case "exp":
		return setInt(&c.Expiry, value)
	case "iat":
		return setInt(&c.IssuedAt, value)
	case "nbf":
		return setInt(&c.NotBefore, value)
	case "jti":
		return setString(&c.ID, value)
	case "scope":
		return json.Unmarshal(value, &c.Scope)
	case "workspace_id":
		return setString(&c.WorkspaceID, value)
	case "workspace":
		return setString(&c.Workspace, value)
	case "key_gen":
		return setInt(&c.KeyGeneration, value)
	case "sub_gen":
		return setInt(&c.SubjectGeneration, value)
	case "ws_gen":
		return setInt(&c.WorkspaceGeneration, value)
	}
	return nil
}

func setString(field *string, value json.RawMessage) (err error) {
	if string(value) != "null" {
		*field, err = unquote(value)
	}
	return err
}

func setInt(field *int64, value json.RawMessage) (err error) {
	if string(value) != "null" {
		*field, err = strconv.ParseInt(string(value), 10, 64)
	}
	return err
}

// Audience is the "aud" claim: one or several recipients, written as a string
// when there is one (RFC 7519 §4.1.3; some verifiers know only that form).
type Audience []string

// MarshalJSON writes a single audience as a string, several as an array.
func (a Audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// UnmarshalJSON reads a string or an array of strings, and nothing else.
func (a *Audience) UnmarshalJSON(b []byte) error {
	if one, err := unquote(b); err == nil {
		*a = Audience{one}
		return nil
	}
	var many []*string
	if err := json.Unmarshal(b, &many); err != nil {
		return fmt.Errorf("aud: want a string or an array of strings: %w", err)
	}
	out := make(Audience, 0, len(many))
	for _, s := range many {
		if s == nil {
			return errors.New("aud: want a string or an array of strings, found null")
		}
		out = append(out, *s)
	}
	*a = out
	return nil
}
