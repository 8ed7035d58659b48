package endpoint

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
)

// WireError maps every error of an exchange to the wire, once. What is not known
// here becomes server_error without a word: its text is for the log.
func WireError(err error) *oauth.Error {
	var wire *oauth.Error
	var refused *grant.RefusedError
	var failures *grant.TooManyFailuresError
	switch {
	case errors.As(err, &wire):
		return wire
	case errors.As(err, &refused):
		return oauth.Errorf(oauth.InvalidClient, "%s", refused.Text)
	case errors.As(err, &failures):
		e := oauth.Errorf(oauth.TooManyFailures, "Too many wrong credentials came from this address: check them before you try again. Right ones are answered at any time.")
		e.Status, e.RetryAfter = http.StatusTooManyRequests, failures.RetryAfter
		return e
	case errors.Is(err, grant.ErrCredentials):
		return oauth.Errorf(oauth.InvalidClient, "Unknown key ID or wrong secret: check that client_id and client_secret belong together and were copied whole.")
	case errors.Is(err, keys.ErrMalformedSecret):
		return oauth.Errorf(oauth.InvalidClient, "The client_secret is malformed: %s", sentence(err, keys.ErrMalformedSecret))
	case errors.Is(err, policy.ErrScope):
		return oauth.Errorf(oauth.InvalidScope, "The scope is not granted: %s.", sentence(err, policy.ErrScope))
	case errors.Is(err, policy.ErrAudience):
		return oauth.Errorf(oauth.InvalidTarget, "The audience is not granted: %s.", sentence(err, policy.ErrAudience))
	case unavailable(err):
		e := oauth.Errorf(oauth.TemporarilyUnavailable, "The service cannot check credentials now; nothing is wrong with yours. Try again shortly.")
		e.Status, e.RetryAfter = http.StatusServiceUnavailable, retrySoon()
		return e
	}
	return &oauth.Error{Code: oauth.ServerError, Status: http.StatusInternalServerError}
}

// unavailable reports whether something that the answer depends on is away.
func unavailable(err error) bool {
	return errors.Is(err, keys.ErrUnavailable) || errors.Is(err, keys.ErrPepper) || errors.Is(err, signing.ErrNoKey) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// retrySoon is jittered, so that clients do not come back all at once.
func retrySoon() time.Duration {
	return time.Second + rand.N(4*time.Second) //nolint:gosec // jitter, not a secret
}

// sentence is the text of a wrapped error without the name of its kind.
func sentence(err, kind error) string {
	return strings.TrimPrefix(err.Error(), kind.Error()+": ")
}

// refuse writes an error of the token endpoint. Every 401 carries a challenge
// (RFC 6749 §5.2, RFC 9110 §15.5.2).
func (h *Handler) refuse(c echo.Context, err error) error {
	wire := WireError(err)
	if h.quotesSecret(wire.Description) {
		wire.Description = "A parameter holds a secret, which belongs in client_secret alone: check how your variables are assigned."
	}
	outcome := grant.Outcome(err)
	if wire.Status >= http.StatusInternalServerError && outcome != "client_gone" {
		h.Log.ErrorContext(c.Request().Context(), "exchange failed", "error", err)
	}
	h.Note(c, slog.String("outcome", outcome), slog.String("error", string(wire.Code)))
	header := c.Response().Header()
	if wire.Status == http.StatusUnauthorized {
		header.Set(echo.HeaderWWWAuthenticate, `Basic realm="tokenbooth", charset="UTF-8"`)
	}
	oauth.SetRetryAfter(header, wire.RetryAfter)
	return writeJSON(c, wire.Status, wire)
}

// quotesSecret finds what begins like a secret of ours. Errors quote the scopes
// and audiences that were asked for, and secrets end up there by mistake.
func (h *Handler) quotesSecret(text string) bool {
	for i := range text {
		if _, err := h.Grant.Format.ParseSecret(text[i:]); !errors.Is(err, keys.ErrForeignSecret) {
			return true
		}
	}
	return false
}
