package oauth

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
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
	InvalidGrant         Code = "invalid_grant"          // RFC 6749 §5.2: of a token of another client
	UnsupportedTokenType Code = "unsupported_token_type" // RFC 7009 §2.2.1
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

	// QuotaExceeded is ours as well, for right credentials that are used too often.
	QuotaExceeded Code = "quota_exceeded"
)

// Error is the wire error of the OAuth endpoints (RFC 6749 §5.2). Everything in
// it is meant for the client: causes belong in the log.
type Error struct {
	Code        Code
	Description string // a sentence: what was wrong, what is accepted, what to do
	Status      int    // HTTP status
	RetryAfter  time.Duration
	Scope       Scope  // what InsufficientScope asks for
	Topic       Topic  // what explains it; empty: that of Code, or of Status
	URI         string // of the page that explains it, for the wire; see Explained

	Violated        []string // names of the limits that QuotaExceeded is about
	RateLimitPolicy string   // header fields that tell of them
	RateLimit       string
}

// Errorf makes an Error with status 400, or 401 for InvalidClient and
// InvalidToken, or 403 for InsufficientScope. The description is reduced to the characters that RFC 6749 §5.2
// allows.
func Errorf(code Code, format string, args ...any) *Error {
	status := http.StatusBadRequest
	switch code {
	case InvalidClient, InvalidToken:
		status = http.StatusUnauthorized
	case InsufficientScope:
		status = http.StatusForbidden
	}
	return &Error{Code: code, Description: Printable(fmt.Sprintf(format, args...)), Status: status}
}

// WithStatus returns a copy of e with another HTTP status.
func (e *Error) WithStatus(status int) *Error {
	c := *e
	c.Status = status
	return &c
}

// Explained returns a copy of e with its topic, and with the address of that
// topic's page at the issuer, an URL without a trailing slash.
func (e *Error) Explained(issuer string) *Error {
	c := *e
	c.Topic = e.explanation()
	c.URI = c.Topic.URI(issuer)
	return &c
}

// Error makes e an error; the text is fit for a log line.
func (e *Error) Error() string {
	return cmp.Or(string(e.Code), string(e.explanation())) + ": " + e.Description
}

// QuotaType is the type of a Problem about limits
// (draft-ietf-httpapi-ratelimit-headers-10 §6.1).
const QuotaType = "https://iana.org/assignments/http-problem-types#quota-exceeded"

// MarshalJSON writes the members of RFC 6749 §5.2; of what exceeds limits also
// those of RFC 9457 §3.1 with violated-policies.
func (e *Error) MarshalJSON() ([]byte, error) {
	wire := struct {
		Code        Code     `json:"error"`
		Description string   `json:"error_description,omitempty"`
		URI         string   `json:"error_uri,omitempty"`
		Type        string   `json:"type,omitempty"`
		Title       string   `json:"title,omitempty"`
		Status      int      `json:"status,omitempty"`
		Detail      string   `json:"detail,omitempty"`
		Violated    []string `json:"violated-policies,omitempty"`
	}{Code: e.Code, Description: e.Description, URI: uriReference(e.URI)}
	if len(e.Violated) > 0 {
		h, _ := e.explanation().Help()
		wire.Type, wire.Title, wire.Status, wire.Detail, wire.Violated = QuotaType, h.Title, e.Status, e.Description, e.Violated
	}
	return json.Marshal(wire)
}

// Challenge is the WWW-Authenticate header of a resource that refuses a request
// (RFC 6750 §3). An error without a code is for requests without a token, and
// tells nothing (§3.1). The realm may be empty.
func (e *Error) Challenge(realm string) string {
	var attributes []string
	add := func(name, value string) {
		if value != "" {
			attributes = append(attributes, fmt.Sprintf(`%s="%s"`, name, value))
		}
	}
	add("realm", realm)
	if e.Code != "" {
		add("error", string(e.Code))
		add("error_description", e.Description)
		add("error_uri", uriReference(e.URI))
		add("scope", e.Scope.String())
	}
	return strings.TrimSpace("Bearer " + strings.Join(attributes, ", "))
}

// SetHeaders sets the headers of a resource's refusal: the challenge, which goes
// with 401, 403 and 400 (RFC 6750 §3.1), and Retry-After.
func (e *Error) SetHeaders(header http.Header, realm string) {
	if e.Status == http.StatusUnauthorized || e.Code == InvalidRequest || e.Code == InsufficientScope {
		header.Set("WWW-Authenticate", e.Challenge(realm))
	}
	e.SetLimits(header)
}

// SetLimits sets Retry-After, and the fields that tell of the limits, if any.
func (e *Error) SetLimits(header http.Header) {
	SetRetryAfter(header, e.RetryAfter)
	SetRateLimit(header, e.RateLimitPolicy, e.RateLimit)
}

// SetRateLimit tells of limits (draft-ietf-httpapi-ratelimit-headers-10); empty
// ones are left out. The names are those that Header.Set would make of RateLimit and
// RateLimit-Policy, and the values share a piece of memory: this is done for every token.
func SetRateLimit(header http.Header, policy, state string) {
	if policy != "" {
		values := []string{policy, state}
		header["Ratelimit-Policy"], header["Ratelimit"] = values[:1:1], values[1:]
	}
}

// SetRetryAfter says when to come back (RFC 9110 §10.2.3), unless wait is 0. It is
// rounded up: never too early.
func SetRetryAfter(header http.Header, wait time.Duration) {
	if wait > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
}

// Problem is an error of a resource as application/problem+json (RFC 9457), which
// clients of the "success and error" convention can read too.
type Problem struct {
	Type      string       `json:"type"` // address of the page that explains it
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail"`
	Code      Topic        `json:"code"`
	Errors    []FieldError `json:"errors,omitempty"` // what is wrong with which part of the body
	Violated  []string     `json:"violated-policies,omitempty"`
	RequestID string       `json:"request_id,omitempty"`
	Success   bool         `json:"success"`
	Error     string       `json:"error"`
}

// FieldError says what is wrong with one member of a request's body, as in the
// example of RFC 9457 §3.
type FieldError struct {
	Pointer string `json:"pointer"` // JSON pointer to the member (RFC 6901), such as /scopes/0; empty: the whole body
	Detail  string `json:"detail"`
}

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

// Problem describes the error for a body. The request ID may be empty. An error
// without URI has no page, and so the title that RFC 9457 §4.2.1 gives to
// about:blank.
func (e *Error) Problem(requestID string) Problem {
	p := Problem{
		Type: "about:blank", Title: http.StatusText(e.Status), Status: e.Status, Detail: e.Description,
		Code: e.explanation(), RequestID: requestID,
	}
	h, known := p.Code.Help()
	if known && e.URI != "" {
		p.Type, p.Title = uriReference(e.URI), h.Title
	}
	if p.Detail == "" {
		p.Detail = "Something went wrong on our side."
	}
	if len(e.Violated) > 0 {
		p.Type, p.Violated = QuotaType, e.Violated
	}
	p.Error = p.Detail
	return p
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

// uriReference encodes every byte outside the set that RFC 6749 §5.2 allows in
// error_uri (%x21 / %x23-5B / %x5D-7E).
func uriReference(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= 0x20 || c > 0x7e || c == '"' || c == '\\' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
