package manage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// RevokeTokens is the right to revoke any token of a workspace. A key needs none
// for tokens of its own.
const RevokeTokens = "tokens:revoke"

// MaxRevokedTokens is how many tokens of one workspace are denied one by one at a
// time: each is in the feed until nobody takes it any more, and the feed is for the
// verifiers of all workspaces.
const MaxRevokedTokens = 10_000

// RevokeToken denies one token before it expires, given its claims, which the caller
// has verified. When it returns, no replica takes it for good, and verifiers learn
// of it in their time.
//
// A token that is denied already changes nothing: the denial is the one that is
// there, or zero if it was denied with its key, its owner or its workspace, or has
// expired for everybody. ErrNotFound and ErrForbidden mean that it is not the caller's
// to revoke; ErrLimit that MaxRevokedTokens are denied, and the token is still good.
func (m *Manager) RevokeToken(ctx context.Context, by Caller, claims *oauth.Claims) (d Denial, err error) {
	in := workspace.ID(claims.WorkspaceID)
	op := operation{need: RevokeTokens, in: in, own: true}
	mine := func(u *unit) error {
		if u.lacks != nil && !u.ownToken(claims) {
			return u.lacks
		}
		return nil
	}
	// Whoever asks again and again about one token keeps nobody from changing something.
	nothing := false
	err = m.view(ctx, by, op, func(ctx context.Context, u *unit) error {
		if err := mine(u); err != nil {
			return err
		}
		d, nothing, err = u.nothingToRevoke(ctx, claims)
		return err
	})
	if err != nil || nothing {
		return d, err
	}
	err = m.do(ctx, by.Denying(&d), op, func(ctx context.Context, u *unit) error {
		if err := mine(u); err != nil {
			return err
		}
		return u.revokeToken(ctx, in, claims)
	})
	return d, err
}

// nothingToRevoke reports whether a token is denied already, for so long that every
// replica has taken it in or has no lease, or is good for nobody.
func (u *unit) nothingToRevoke(ctx context.Context, claims *oauth.Claims) (Denial, bool, error) {
	entries, err := revocation.Of(ctx, u.tx, oauth.RevocableToken, claims.ID)
	if err != nil {
		return Denial{}, false, err
	}
	if len(entries) > 0 {
		first := entries[0]
		return Denial{Sequence: first.Seq, DeadBy: first.ExpiresAt.Time}, u.now.Sub(first.At.Time) > 2*u.timing().Lease+clocks, nil
	}
	if !u.now.Before(revocation.Good(time.Unix(claims.Expiry, 0)).Time) {
		return Denial{}, true, nil
	}
	denied, err := u.deniedBefore(ctx, claims)
	return Denial{}, denied, err
}

// clocks is how far the clocks of replicas may differ.
const clocks = 5 * time.Second

// ownToken reports whether the caller uses the very key that the token is of; a
// token of that key carries only the rights that it names.
func (u *unit) ownToken(claims *oauth.Claims) bool {
	return u.by.key != "" && string(u.by.key) == claims.ClientID && u.by.limit == nil
}

func (u *unit) revokeToken(ctx context.Context, in workspace.ID, claims *oauth.Claims) error {
	u.denies = true // somebody else may have revoked it just now, and may be waiting still
	if err := u.repeats(ctx, oauth.RevocableToken, claims.ID); err != nil || u.before.Sequence > 0 {
		return err
	}
	until := revocation.Good(time.Unix(claims.Expiry, 0))
	if denied, err := u.deniedBefore(ctx, claims); err != nil || denied || !u.now.Before(until.Time) {
		return err
	}
	if err := u.oneMoreToken(ctx, in); err != nil {
		return err
	}
	u.denied = append(u.denied, revocation.Entry{
		Kind: oauth.RevocableToken, SubjectID: claims.ID, WorkspaceID: in, Cause: revocation.Revoked, At: u.now, ExpiresAt: until,
	})
	u.record("token.revoke", in, claims.ID, map[string]any{
		"jti": claims.ID, "exp": claims.Expiry, "client_id": claims.ClientID,
	})
	u.concerning(claims.Subject)
	return nil
}

// oneMoreToken refuses a token more than may be denied. Transactions that change
// anything run one by one, so that the count is exact.
func (u *unit) oneMoreToken(ctx context.Context, in workspace.ID) error {
	n, err := revocation.CountLive(ctx, u.tx, in, oauth.RevocableToken, u.now)
	if err != nil || n < MaxRevokedTokens {
		return err
	}
	return fmt.Errorf("%w: %d tokens of the workspace are revoked one by one, which is the most, so this one is still good: revoke all tokens of its key instead (rotate the key with revoke_tokens, or revoke it)",
		ErrLimit, n)
}

// deniedBefore reports whether a token is denied already with its key, its owner or its
// workspace.
func (u *unit) deniedBefore(ctx context.Context, claims *oauth.Claims) (bool, error) {
	record, err := keys.Read(ctx, u.tx, keys.ID(claims.ClientID))
	if errors.Is(err, workspace.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return record.Denies(claims), nil
}
