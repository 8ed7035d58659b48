package adminhttp

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// kinds maps each kind of error of a use case to what the wire calls it, the
// narrower ones first.
var kinds = []struct {
	err   error
	topic oauth.Topic
}{
	{manage.ErrReused, oauth.TopicIdempotencyKeyReused},
	{workspace.ErrLastOwner, oauth.TopicLastOwner},
	{manage.ErrNotLive, oauth.TopicKeyNotLive},
	{manage.ErrLimit, oauth.TopicLimitReached},
	{workspace.ErrConflict, oauth.TopicConflict},
	{workspace.ErrChanged, oauth.TopicPreconditionFailed},
	{policy.ErrPolicy, oauth.TopicPolicyViolated},
	{workspace.ErrInvalid, oauth.TopicValidationFailed},
	{workspace.ErrForbidden, oauth.TopicInsufficientPermissions},
}

// notFound is one sentence for everything that is not there or not the caller's
// business: the two must not be told apart.
const notFound = "There is nothing here, or you may not see it: check the address and every ID in it, and that the credential belongs to that workspace."

// wireError maps every error of a request to the wire, once. What is not known
// here becomes server_error without a word: its text is for the log.
func wireError(err error) *oauth.Error {
	var wire *oauth.Error
	switch {
	case errors.As(err, &wire):
		return wire
	case errors.Is(err, workspace.ErrNotFound):
		return oauth.TopicNotFound.Errorf(notFound)
	case schema.IsUnavailable(err):
		e := oauth.Errorf(oauth.TemporarilyUnavailable, "The service cannot read or write its database now, and nothing was changed. Try again shortly.")
		e.Status, e.RetryAfter = http.StatusServiceUnavailable, grant.RetrySoon()
		return e
	}
	for _, kind := range kinds {
		if errors.Is(err, kind.err) {
			e := kind.topic.Errorf("%s", sentence(err, kind.err))
			if kind.topic == oauth.TopicInsufficientPermissions {
				e.Code = oauth.InsufficientScope
				e.Description = "Insufficient permissions: " + lower(e.Description)
			}
			return e
		}
	}
	return grant.ResourceError(err)
}

// sentence is the text of an error without the name of its kind.
func sentence(err, kind error) string {
	text := strings.TrimSuffix(strings.TrimPrefix(err.Error(), kind.Error()+": "), ": "+kind.Error())
	first, size := utf8.DecodeRuneInString(text)
	return strings.TrimRight(string(unicode.ToUpper(first))+text[size:], ".") + "."
}

func lower(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToLower(first)) + text[size:]
}

// pending reports whether a change is committed although there is an error.
func pending(err error) bool { return errors.Is(err, manage.ErrPending) }

// refuse writes an error as problem+json (RFC 9457), with the challenge of RFC
// 6750 §3 where there is one.
func (h *Handler) refuse(c echo.Context, err error) error {
	wire := wireError(err).Explained(h.Issuer)
	if h.Grant.Format.QuotedIn(wire.Description) {
		wire.Description = "A value holds a secret, which belongs in the Authorization header alone: check how your variables are assigned."
	}
	if wire.Status >= http.StatusInternalServerError && c.Request().Context().Err() == nil {
		h.Log.ErrorContext(c.Request().Context(), "request failed", "error", err, "request_id", requestID(c))
	}
	wire.SetHeaders(c.Response().Header(), realm)
	problem := wire.Problem(requestID(c))
	var invalid *validationError
	switch {
	case errors.As(err, &invalid):
		problem.Errors = slices.DeleteFunc(invalid.fields, func(f oauth.FieldError) bool { return h.Grant.Format.QuotedIn(f.Detail) })
	case wire.Topic == oauth.TopicValidationFailed:
		problem.Errors = []oauth.FieldError{{Pointer: "", Detail: wire.Description}}
	}
	return writeJSON(c, wire.Status, oauth.ProblemType, problem)
}
