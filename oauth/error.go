package oauth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Code is the value of the "error" member of an OAuth error response.
type Code string

// The codes that Tokenbooth answers with, and where each is defined.
const (
	InvalidRequest       Code = "invalid_request"        // RFC 6749 §5.2
	InvalidClient        Code = "invalid_client"         // RFC 6749 §5.2
	UnsupportedGrantType Code = "unsupported_grant_type" // RFC 6749 §5.2
	InvalidScope         Code = "invalid_scope"          // RFC 6749 §5.2
	InvalidTarget        Code = "invalid_target"         // RFC 8707 §2
	InvalidToken         Code = "invalid_token"          // RFC 6750 §3.1
	InsufficientScope    Code = "insufficient_scope"     // RFC 6750 §3.1

	// RFC 6749 registers these two for the authorization endpoint only; token
	// endpoints answer with them by common practice.
	ServerError            Code = "server_error"
	TemporarilyUnavailable Code = "temporarily_unavailable"

	// TooManyFailures is ours: RFC 6749 names no code for 429. Clients act on
	// the status and on Retry-After.
	TooManyFailures Code = "too_many_failures"
)

// Error is the wire error of the OAuth endpoints (RFC 6749 §5.2). Everything in
// it is meant for the client: causes belong in the log.
type Error struct {
	Code        Code
	Description string // a sentence: what was wrong, what is accepted, what to do
	Status      int    // HTTP status
	RetryAfter  time.Duration
}

// Errorf makes an Error with status 400, or 401 for InvalidClient and
// InvalidToken. The description is reduced to the characters that RFC 6749 §5.2
// allows.
func Errorf(code Code, format string, args ...any) *Error {
	status := http.StatusBadRequest
	if code == InvalidClient || code == InvalidToken {
		status = http.StatusUnauthorized
	}
	return &Error{Code: code, Description: Printable(fmt.Sprintf(format, args...)), Status: status}
}

// WithStatus returns a copy of e with another HTTP status.
func (e *Error) WithStatus(status int) *Error {
	c := *e
	c.Status = status
	return &c
}

// Error makes e an error; the text is fit for a log line.
func (e *Error) Error() string {
	return string(e.Code) + ": " + e.Description
}

// MarshalJSON writes the two members of RFC 6749 §5.2.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Code        Code   `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{e.Code, e.Description})
}

// Printable replaces every byte outside the set that RFC 6749 §5.2 allows in
// error_description (%x20-21 / %x23-5B / %x5D-7E): a double quote becomes a
// single one, anything else a question mark.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\' || r < 0x20 || r > 0x7e:
			return '?'
		}
		return r
	}, s)
}
