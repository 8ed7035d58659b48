package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits on a scope parameter: beyond them it is refused unread.
const (
	MaxScopeLength = 4096 // bytes of the whole parameter
	MaxScopeTokens = 256
)

// ErrScopeSyntax is the kind of every error that ParseScope returns.
var ErrScopeSyntax = errors.New("malformed scope")

// Scope is a sorted set of scope tokens, each "resource:action" (RFC 6749 §3.3).
// The zero value is the empty set. Treat it as immutable.
type Scope []string

// NewScope makes a set of tokens that are known to be well formed.
func NewScope(tokens ...string) Scope {
	s := slices.Clone(tokens)
	slices.Sort(s)
	return slices.Compact(s)
}

// ParseScope reads the parameter's form: tokens of printable ASCII without
// double quote or backslash, each separated by exactly one space. The empty
// string is the empty set. Errors wrap ErrScopeSyntax.
func ParseScope(s string) (Scope, error) {
	if s == "" {
		return nil, nil
	}
	if len(s) > MaxScopeLength {
		return nil, fmt.Errorf("%w: it is %d bytes long; at most %d are accepted", ErrScopeSyntax, len(s), MaxScopeLength)
	}
	tokens := strings.Split(s, " ")
	if len(tokens) > MaxScopeTokens {
		return nil, fmt.Errorf("%w: it has %d tokens; at most %d are accepted", ErrScopeSyntax, len(tokens), MaxScopeTokens)
	}
	for i, t := range tokens {
		if t == "" {
			return nil, fmt.Errorf("%w: separate tokens with exactly one space, with none before the first or after the last", ErrScopeSyntax)
		}
		if j := strings.IndexFunc(t, notScopeChar); j >= 0 {
			return nil, fmt.Errorf("%w: token %d has a character that is not allowed at position %d; use printable ASCII without double quote and backslash", ErrScopeSyntax, i+1, j+1)
		}
	}
	return NewScope(tokens...), nil
}

// notScopeChar is the complement of NQCHAR: %x21 / %x23-5B / %x5D-7E.
func notScopeChar(r rune) bool {
	return r <= 0x20 || r > 0x7e || r == '"' || r == '\\'
}

// String joins the tokens with single spaces, in sorted order.
func (s Scope) String() string { return strings.Join(s, " ") }

// Has reports whether the token is in the set.
func (s Scope) Has(token string) bool {
	_, ok := slices.BinarySearch(s, token)
	return ok
}

// Contains reports whether every token of t is in s.
func (s Scope) Contains(t Scope) bool { return len(t.Minus(s)) == 0 }

// Intersect returns the tokens that both sets hold.
func (s Scope) Intersect(t Scope) Scope { return s.filter(t.Has) }

// Minus returns the tokens of s that t lacks.
func (s Scope) Minus(t Scope) Scope {
	return s.filter(func(token string) bool { return !t.Has(token) })
}

// Union returns the tokens that either set holds.
func (s Scope) Union(t Scope) Scope { return NewScope(slices.Concat(s, t)...) }

// filter returns the tokens to keep; nil: there are none. Often that is all of them,
// and then the same memory.
func (s Scope) filter(keep func(string) bool) Scope {
	first := slices.IndexFunc(s, func(token string) bool { return !keep(token) })
	switch {
	case len(s) == 0:
		return nil
	case first < 0:
		return s
	}
	var out Scope
	if first > 0 {
		out = append(make(Scope, 0, len(s)-1), s[:first]...)
	}
	for _, token := range s[first+1:] {
		if keep(token) {
			out = append(out, token)
		}
	}
	return out
}

// MarshalJSON writes the set as one space-separated string (RFC 9068 §2.2.3).
func (s Scope) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Scope) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("scope: %w", err)
	}
	parsed, err := ParseScope(text)
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
