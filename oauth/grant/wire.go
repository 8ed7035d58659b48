package grant

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/policy"
)

// WireError maps every error of an exchange to the wire, once. What is not known
// here becomes server_error without a word: its text is for the log.
func WireError(err error) *oauth.Error {
	var wire *oauth.Error
	var refused *RefusedError
	var failures *TooManyFailuresError
	var over *QuotaError
	switch {
	case errors.As(err, &wire):
		return wire
	case errors.As(err, &over):
		return overQuota(over)
	case errors.As(err, &refused):
		return invalidClient(refusals[refused.Reason], "%s", refused.Text)
	case errors.As(err, &failures):
		e := oauth.Errorf(oauth.TooManyFailures, "Too many wrong credentials came from this address: check them before you try again. Right ones are answered at any time.")
		e.Status, e.RetryAfter = http.StatusTooManyRequests, failures.RetryAfter
		return e
	case errors.Is(err, ErrCredentials):
		return invalidClient(oauth.TopicCredentialsNotRecognised, "Unknown key ID or wrong secret: check that client_id and client_secret belong together and were copied whole.")
	case errors.Is(err, keys.ErrMalformedSecret):
		return invalidClient(oauth.TopicSecretMalformed, "The client_secret is malformed: %s", Sentence(err, keys.ErrMalformedSecret))
	case errors.Is(err, policy.ErrScope):
		return oauth.Errorf(oauth.InvalidScope, "The scope is not granted: %s.", Sentence(err, policy.ErrScope))
	case errors.Is(err, policy.ErrAudience):
		return oauth.Errorf(oauth.InvalidTarget, "The audience is not granted: %s.", Sentence(err, policy.ErrAudience))
	case unavailable(err):
		e := oauth.Errorf(oauth.TemporarilyUnavailable, "The service cannot check credentials now; nothing is wrong with yours. Try again shortly.")
		e.Status, e.RetryAfter = http.StatusServiceUnavailable, RetrySoon()
		return e
	}
	return &oauth.Error{Code: oauth.ServerError, Status: http.StatusInternalServerError}
}

// refusals are what explains each reason why a right secret is refused.
var refusals = map[Reason]oauth.Topic{
	Expired:   oauth.TopicKeyExpired,
	Revoked:   oauth.TopicKeyRevoked,
	Replaced:  oauth.TopicSecretReplaced,
	Removed:   oauth.TopicOwnerRemoved,
	Disabled:  oauth.TopicOwnerDisabled,
	Suspended: oauth.TopicWorkspaceSuspended,
	Deleted:   oauth.TopicWorkspaceDeleted,
	Address:   oauth.TopicAddressNotAllowed,
	Policy:    oauth.TopicBlockedByPolicy,
	Idle:      oauth.TopicKeyIdle,
	UsedUp:    oauth.TopicUsesExhausted,
}

// overQuota names the limits in people's words.
func overQuota(e *QuotaError) *oauth.Error {
	words := map[string]string{
		"minute": "exchanges a minute of the workspace", "key": "exchanges a minute of this API key",
		"day": "exchanges of the workspace today", "month": "exchanges of the workspace this month",
	}
	var limits []string
	for _, name := range e.Violated {
		limits = append(limits, words[name])
	}
	wire := oauth.Errorf(oauth.QuotaExceeded, "The credentials are right, but their quota is spent: %s (times are UTC). Keep a token until it expires, and try again after Retry-After.", strings.Join(limits, ", "))
	wire.Status, wire.RetryAfter, wire.Violated = http.StatusTooManyRequests, e.Wait, e.Violated
	wire.RateLimitPolicy, wire.RateLimit = e.Policy(), e.State()
	return wire
}

// invalidClient refuses credentials that were looked at: why is in the topic.
func invalidClient(topic oauth.Topic, format string, args ...any) *oauth.Error {
	e := oauth.Errorf(oauth.InvalidClient, format, args...)
	e.Topic = topic
	return e
}

// unavailable reports whether something that the answer depends on is away.
func unavailable(err error) bool {
	return errors.Is(err, keys.ErrUnavailable) || errors.Is(err, keys.ErrPepper) || errors.Is(err, signing.ErrNoKey) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// RetrySoon is a Retry-After of a few seconds. It is jittered, so that clients do not come back all at once.
func RetrySoon() time.Duration {
	return time.Second + rand.N(4*time.Second) //nolint:gosec // jitter, not a secret
}

// Sentence is the text of a wrapped error without the name of its kind.
func Sentence(err, kind error) string {
	return strings.TrimPrefix(err.Error(), kind.Error()+": ")
}

// ErrNoCredentials means that the request carries none, which is no error of a
// token (RFC 6750 §3.1: then the challenge has no error code).
var ErrNoCredentials = errors.New("no credentials")

// Presented reads the credential from the one place that holds it. A token in
// the query is ignored (RFC 9700 §4.3.2).
func Presented(header http.Header) (string, error) {
	authorization, apiKey := header.Values("Authorization"), header.Values("X-Api-Key")
	switch {
	case len(authorization)+len(apiKey) == 0:
		return "", ErrNoCredentials
	case len(authorization)+len(apiKey) > 1:
		return "", oauth.Errorf(oauth.InvalidRequest, "There is more than one credential: send one Authorization or x-api-key header.")
	case len(apiKey) == 1:
		return apiKey[0], nil
	}
	scheme, token, _ := strings.Cut(authorization[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", ErrNoCredentials
	}
	return strings.TrimSpace(token), nil
}

// ResourceError is WireError for a resource, which takes tokens or keys (RFC 6750
// §3.1).
func ResourceError(err error) *oauth.Error {
	var wire *oauth.Error
	switch {
	case errors.Is(err, ErrNoCredentials):
		wire = &oauth.Error{Status: http.StatusUnauthorized, Description: "Send an access token as Authorization: Bearer."}
	case errors.Is(err, bearer.ErrInvalid):
		wire = oauth.Errorf(oauth.InvalidToken, "The token is not valid: %s.", Sentence(err, bearer.ErrInvalid))
	default:
		wire = WireError(err)
		if wire.Code == oauth.InvalidClient {
			wire.Code = oauth.InvalidToken
		}
	}
	return wire
}
