package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
)

// AccessTokenType is the "typ" header of an access token (RFC 9068 §2.1).
const AccessTokenType = "at+jwt"

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
	var c Claims
	for name, field := range map[string]any{
		"iss": &c.Issuer, "sub": &c.Subject, "aud": &c.Audience, "client_id": &c.ClientID,
		"exp": &c.Expiry, "iat": &c.IssuedAt, "jti": &c.ID, "scope": &c.Scope,
		"workspace_id": &c.WorkspaceID, "workspace": &c.Workspace,
		"key_gen": &c.KeyGeneration, "sub_gen": &c.SubjectGeneration, "ws_gen": &c.WorkspaceGeneration,
	} {
		value, present := members[name]
		if !present {
			continue
		}
		if err := json.Unmarshal(value, field); err != nil {
			return nil, fmt.Errorf("claim %s has an unexpected form", name)
		}
	}
	return &c, nil
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
	var one string
	if err := json.Unmarshal(b, &one); err == nil && string(b) != "null" {
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
