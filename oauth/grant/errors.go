package grant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
)

// ErrCredentials means that the key ID is unknown or the secret is wrong. Which of the two
// is deliberately not told, by text, headers or time.
var ErrCredentials = errors.New("unknown key ID or wrong secret")

// RefusedError refuses a client that has proven to hold the right secret, and
// only such a client. Its text is meant for the client.
type RefusedError struct {
	Reason Reason
	Text   string // a sentence: why, and what to do
}

// Reason classifies refusals for metrics.
type Reason string

// The reasons why a right secret is refused.
const (
	Expired   Reason = "expired"
	Revoked   Reason = "revoked"
	Replaced  Reason = "secret_replaced"
	Disabled  Reason = "disabled"
	Removed   Reason = "owner_removed"
	Suspended Reason = "workspace_suspended"
	Deleted   Reason = "workspace_deleted"
	Address   Reason = "address"
	Policy    Reason = "policy"
	Idle      Reason = "idle"
	UsedUp    Reason = "uses_exhausted"
)

// Error makes it an error; the text is fit for a log line.
func (e *RefusedError) Error() string { return string(e.Reason) + ": " + e.Text }

func refuse(reason Reason, format string, args ...any) error {
	return &RefusedError{Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// TooManyFailuresError answers a failed authentication of a source that has
// failed too often. A right secret from the same source is not affected.
type TooManyFailuresError struct {
	RetryAfter time.Duration
	Cause      error
}

// Error makes it an error; the text is fit for a log line.
func (e *TooManyFailuresError) Error() string {
	return fmt.Sprintf("too many failures, retry after %s: %v", e.RetryAfter, e.Cause)
}

// QuotaError refuses an exchange of a right secret, because the quota of its
// workspace or key is spent.
type QuotaError struct{ quota.Decision }

// Error makes it an error; the text is fit for a log line.
func (e *QuotaError) Error() string {
	return fmt.Sprintf("quota exceeded (%s), retry after %s", strings.Join(e.Violated, ", "), e.Wait)
}

// Outcomes are all that Outcome can say.
func Outcomes() []string {
	return []string{
		"issued", "malformed_request", "client_gone",
		string(Expired), string(Revoked), string(Replaced), string(Disabled), string(Removed), string(Suspended), string(Deleted),
		string(Address), string(Policy), string(Idle), string(UsedUp),
		"too_many_failures", "quota_exceeded", "wrong_credentials", "malformed_secret", "scope", "audience", "unavailable", "error",
	}
}

// Outcome classifies the result of an exchange for metrics and logs: one of
// Outcomes.
func Outcome(err error) string {
	if err == nil {
		return "issued"
	}
	var refused *RefusedError
	var failures *TooManyFailuresError
	var over *QuotaError
	var malformed *oauth.Error
	switch {
	case errors.As(err, &malformed):
		return "malformed_request"
	case errors.Is(err, context.Canceled):
		return "client_gone"
	case errors.As(err, &refused):
		return string(refused.Reason)
	case errors.As(err, &failures):
		return "too_many_failures"
	case errors.As(err, &over):
		return "quota_exceeded"
	case errors.Is(err, ErrCredentials):
		return "wrong_credentials"
	case errors.Is(err, keys.ErrMalformedSecret):
		return "malformed_secret"
	case errors.Is(err, policy.ErrScope):
		return "scope"
	case errors.Is(err, policy.ErrAudience):
		return "audience"
	case errors.Is(err, keys.ErrUnavailable), errors.Is(err, keys.ErrPepper), errors.Is(err, signing.ErrNoKey):
		return "unavailable"
	}
	return "error"
}
