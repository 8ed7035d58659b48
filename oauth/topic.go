package oauth

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
)

// Topic names an explanation of an error: the last part of its page's address,
// and the member "code" of a Problem. Clients may rely on it; it never changes its
// meaning.
type Topic string

// The topics of the token endpoint, of revocation, of introspection, of whoami and of
// what gateways ask.
const (
	TopicRequestMalformed         Topic = "request_malformed"
	TopicGrantTypeUnsupported     Topic = "grant_type_unsupported"
	TopicScopeNotGranted          Topic = "scope_not_granted"
	TopicAudienceNotGranted       Topic = "audience_not_granted"
	TopicCredentialsMissing       Topic = "credentials_missing"
	TopicCredentialsNotRecognised Topic = "credentials_not_recognised"
	TopicSecretMalformed          Topic = "secret_malformed"
	TopicKeyExpired               Topic = "key_expired"
	TopicKeyRevoked               Topic = "key_revoked"
	TopicSecretReplaced           Topic = "secret_replaced"
	TopicOwnerRemoved             Topic = "owner_removed"
	TopicOwnerDisabled            Topic = "owner_disabled"
	TopicWorkspaceSuspended       Topic = "workspace_suspended"
	TopicWorkspaceDeleted         Topic = "workspace_deleted"
	TopicAddressNotAllowed        Topic = "address_not_allowed"
	TopicBlockedByPolicy          Topic = "blocked_by_policy"
	TopicKeyIdle                  Topic = "key_idle"
	TopicUsesExhausted            Topic = "uses_exhausted"
	TopicTokenInvalid             Topic = "token_invalid"
	TopicTokenNotYours            Topic = "token_not_yours"
	TopicTokenTypeUnsupported     Topic = "token_type_unsupported"
	TopicInsufficientPermissions  Topic = "insufficient_permissions"
	TopicTooManyFailures          Topic = "too_many_failures"
	TopicQuotaExceeded            Topic = "quota_exceeded"
	TopicTemporarilyUnavailable   Topic = "temporarily_unavailable"
	TopicServerError              Topic = "server_error"
	TopicGatewayNotUnderstood     Topic = "gateway_not_understood"
)

// The topics of the management API. It shares those above.
const (
	TopicParameterUnknown      Topic = "parameter_unknown"
	TopicCursorInvalid         Topic = "cursor_invalid"
	TopicValidationFailed      Topic = "validation_failed"
	TopicNotFound              Topic = "not_found"
	TopicMethodNotAllowed      Topic = "method_not_allowed"
	TopicConflict              Topic = "conflict"
	TopicLastOwner             Topic = "last_owner"
	TopicKeyNotLive            Topic = "key_not_live"
	TopicPreconditionFailed    Topic = "precondition_failed"
	TopicBodyTooLarge          Topic = "body_too_large"
	TopicMediaTypeUnsupported  Topic = "media_type_unsupported"
	TopicIdempotencyKeyInvalid Topic = "idempotency_key_invalid"
	TopicIdempotencyKeyReused  Topic = "idempotency_key_reused"
	TopicPolicyViolated        Topic = "policy_violated"
	TopicLimitReached          Topic = "limit_reached"
)

// ErrorPath is where the pages are, below the issuer. A topic's name follows.
const ErrorPath = "/docs/errors/"

// Help is one row of the table of errors: what its page says.
type Help struct {
	Topic  Topic  `json:"topic"`
	Title  string `json:"title"`
	Status int    `json:"status"` // HTTP status with which it usually comes
	Cause  string `json:"cause"`  // one to three sentences
	Fix    string `json:"fix"`    // the same
}

// Topics lists the whole table by name. The caller may keep it.
func Topics() []Help {
	return slices.SortedFunc(slices.Values(help), func(a, b Help) int { return cmp.Compare(a.Topic, b.Topic) })
}

// Help returns the row of a topic, and false if there is no such topic.
func (t Topic) Help() (Help, bool) {
	i := slices.IndexFunc(help, func(h Help) bool { return h.Topic == t })
	if i < 0 {
		return Help{}, false
	}
	return help[i], true
}

// URI is the address of the topic's page at an issuer, an URL without a trailing
// slash.
func (t Topic) URI(issuer string) string { return issuer + ErrorPath + string(t) }

// Errorf makes an Error about the topic, with the topic's status and without a
// Code, which is for the OAuth endpoints. The description is as in the function
// Errorf. A topic that is not in the table has status 500.
func (t Topic) Errorf(format string, args ...any) *Error {
	h, known := t.Help()
	if !known {
		h.Status = http.StatusInternalServerError
	}
	return &Error{Topic: t, Status: h.Status, Description: Printable(fmt.Sprintf(format, args...))}
}

// codeTopics explain the codes that stand for one cause. That of InvalidClient is
// for requests which are refused before any credentials are checked: afterwards
// the reason is known better.
var codeTopics = map[Code]Topic{
	InvalidRequest:         TopicRequestMalformed,
	InvalidClient:          TopicCredentialsMissing,
	UnsupportedGrantType:   TopicGrantTypeUnsupported,
	InvalidScope:           TopicScopeNotGranted,
	InvalidTarget:          TopicAudienceNotGranted,
	InvalidGrant:           TopicTokenNotYours,
	UnsupportedTokenType:   TopicTokenTypeUnsupported,
	InvalidToken:           TopicTokenInvalid,
	InsufficientScope:      TopicInsufficientPermissions,
	ServerError:            TopicServerError,
	TemporarilyUnavailable: TopicTemporarilyUnavailable,
	TooManyFailures:        TopicTooManyFailures,
	QuotaExceeded:          TopicQuotaExceeded,
}

// statusTopics explain what the status says more precisely than invalid_request,
// or than no code at all.
var statusTopics = map[int]Topic{
	http.StatusUnauthorized:          TopicCredentialsMissing,
	http.StatusForbidden:             TopicInsufficientPermissions,
	http.StatusNotFound:              TopicNotFound,
	http.StatusMethodNotAllowed:      TopicMethodNotAllowed,
	http.StatusConflict:              TopicConflict,
	http.StatusPreconditionFailed:    TopicPreconditionFailed,
	http.StatusRequestEntityTooLarge: TopicBodyTooLarge,
	http.StatusUnsupportedMediaType:  TopicMediaTypeUnsupported,
	http.StatusUnprocessableEntity:   TopicValidationFailed,
	http.StatusTooManyRequests:       TopicQuotaExceeded,
	http.StatusServiceUnavailable:    TopicTemporarilyUnavailable,
}

// explanation is the error's topic: its own, else the one of its code, else the
// one of its status.
func (e *Error) explanation() Topic {
	byStatus := cmp.Or(statusTopics[e.Status], TopicServerError)
	if byStatus == TopicServerError && e.Status < http.StatusInternalServerError {
		byStatus = TopicRequestMalformed
	}
	switch {
	case e.Topic != "":
		return e.Topic
	case e.Code == "", e.Code == InvalidRequest:
		return byStatus
	}
	return cmp.Or(codeTopics[e.Code], byStatus)
}
