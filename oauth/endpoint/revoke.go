package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// revoked is the answer of revocation. Without members there was nothing to revoke:
// what was sent is no token that anybody takes.
type revoked struct {
	Sequence    int64     `json:"sequence,omitempty"`             // in the feed of revocations
	DeadBy      time.Time `json:"dead_by,omitzero"`               // after that the token is good nowhere
	EffectiveBy time.Time `json:"exchange_effective_by,omitzero"` // with 202: some replica may take it until then
}

// revoke is the revocation endpoint (RFC 7009). An answer of success means that the
// revocation is committed; one of 200 that every replica knows of it.
func (h *Handler) revoke(c echo.Context) error {
	noStore(c)
	denial, err := h.revokeToken(c)
	var pending *manage.PendingError
	if err != nil && !errors.As(err, &pending) {
		return h.refuseClient(c, "revocation", err)
	}
	answer := revoked{Sequence: denial.Sequence, DeadBy: denial.DeadBy.UTC()}
	if pending == nil {
		return writeJSON(c, http.StatusOK, answer)
	}
	h.Log.WarnContext(c.Request().Context(), "a revocation is not confirmed by every replica", "error", err)
	answer.EffectiveBy = pending.Until.UTC().Truncate(time.Second).Add(time.Second)
	return writeJSON(c, http.StatusAccepted, answer)
}

// revokeToken denies the token of a request. What is no token of ours, or has
// expired for everybody, needs no revocation (RFC 7009 §2.2).
func (h *Handler) revokeToken(c echo.Context) (manage.Denial, error) {
	nothing := manage.Denial{}
	who, token, err := h.readClientRequest(c)
	if err != nil {
		return nothing, err
	}
	if who.limit != nil && !h.holds(who).Has(manage.RevokeTokens) {
		e := oauth.Errorf(oauth.InsufficientScope, "To revoke with a token, that token needs the scope %s; the credentials of the key itself need none for its own tokens.", manage.RevokeTokens)
		e.Scope = oauth.NewScope(manage.RevokeTokens)
		return nothing, e
	}
	if _, err := h.Grant.Format.ParseSecret(token); !errors.Is(err, keys.ErrForeignSecret) {
		return nothing, oauth.Errorf(oauth.UnsupportedTokenType, "This is the secret of an API key, and only access tokens are revoked here: revoke the key (tokenbooth keys revoke, or the management API), which ends its tokens too.")
	}
	claims, err := h.signed(c.Request().Context(), token)
	if errors.Is(err, bearer.ErrInvalid) {
		return nothing, nil
	}
	if err != nil {
		return nothing, err
	}
	release, err := h.takeTurn(c.Request().Context())
	if err != nil {
		return nothing, refusedRevocation(err)
	}
	defer release()
	denial, err := h.Manager.RevokeToken(c.Request().Context(), h.managing(c, who), claims)
	return denial, refusedRevocation(err)
}

// How many revocations of tokens run at once, and for how long others wait for their
// turn. Each holds the one lock of all changes for a moment, and then waits for the
// replicas: any key may ask for as many as it likes.
const (
	maxRevoking  = 32
	turnPatience = 2 * time.Second
)

// takeTurn waits for the turn to revoke.
func (h *Handler) takeTurn(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, turnPatience)
	defer cancel()
	if err := h.revoking.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("%d revocations run at once: %w", maxRevoking, err)
	}
	return func() { h.revoking.Release(1) }, nil
}

// signed reads an access token that we have signed. Whether it is good is for others
// to say: somebody takes it whose clock is not ours, or who is an audience that this
// replica does not know any more, or not yet. Errors are as those of verify.
func (h *Handler) signed(ctx context.Context, token string) (*oauth.Claims, error) {
	_, payload, err := bearer.Open(ctx, h.Keys, token)
	if err != nil {
		return nil, orUnavailable(err)
	}
	claims, err := oauth.ParseClaims(payload)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", bearer.ErrInvalid, err)
	case claims.Issuer != h.Issuer:
		return nil, fmt.Errorf("%w: another issuer signed it with our key", bearer.ErrInvalid)
	case claims.ID == "" || claims.Subject == "" || claims.ClientID == "":
		return nil, fmt.Errorf("%w: it is no access token", bearer.ErrInvalid)
	}
	return claims, nil
}

// slower is when to try again what is refused because others have to end first.
const slower = time.Minute

// refusedRevocation is what the wire calls an error of the use case. Whether the
// token is of another workspace or only of another key is not told.
func refusedRevocation(err error) error {
	switch {
	case err == nil || errors.Is(err, manage.ErrPending):
		return err
	case errors.Is(err, workspace.ErrNotFound), errors.Is(err, workspace.ErrForbidden):
		return fmt.Errorf("%w (%w)", oauth.Errorf(oauth.InvalidGrant, "The token was issued to another API key: send the credentials of that key, or of one of the same workspace that holds %s.", manage.RevokeTokens), err)
	}
	if errors.Is(err, manage.ErrLimit) {
		e := oauth.Errorf(oauth.QuotaExceeded, "%s.", grant.Sentence(err, manage.ErrLimit))
		e.Status, e.RetryAfter = http.StatusTooManyRequests, slower
		return fmt.Errorf("%w (%w)", e, err)
	}
	// Whatever it was, the token is still good, which the client has to know.
	e := oauth.Errorf(oauth.TemporarilyUnavailable, "The revocation could not be stored, so the token is still good. Try again shortly.")
	e.Status, e.RetryAfter = http.StatusServiceUnavailable, grant.RetrySoon()
	return fmt.Errorf("%w: %w", e, err)
}
