package grant

import (
	"context"
	"errors"
	"fmt"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// Direct authenticates a raw key that is used in place of a token at our own API:
// like Authenticate, but it spends, notes and records the use. When the record is strict
// and cannot be written, the error wraps keys.ErrUnavailable.
func (a *Authenticator) Direct(ctx context.Context, c Credentials, from Origin) (*Client, error) {
	known, err := a.authenticate(ctx, c, from)
	if err == nil {
		known.spent, err = a.spend(ctx, known.record)
	}
	use := known.use(from, audit.KeyUse, audit.KeyRefuse, err)
	if failed := a.record(ctx, use); failed != nil {
		if err == nil {
			a.refund(ctx, known.record)
		}
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	a.used(use)
	client := known.client()
	return &client, nil
}

// Standing looks up the key of a verified token, and checks the token against
// what is known of its key, owner and workspace now: an older generation is denied
// whatever its iat. Errors wrap bearer.ErrInvalid, or keys.ErrUnavailable when it
// cannot be known.
func (a *Authenticator) Standing(ctx context.Context, claims *oauth.Claims) (*keys.Record, error) {
	record, err := a.Directory.Lookup(ctx, keys.ID(claims.ClientID))
	if errors.Is(err, workspace.ErrNotFound) {
		return nil, fmt.Errorf("%w: its key does not exist any more", bearer.ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	if record.Denies(claims) {
		return nil, fmt.Errorf("%w: it was revoked", bearer.ErrInvalid)
	}
	return record, nil
}

// used notes when, from where and by what a key was used: as it is recorded.
func (a *Authenticator) used(e audit.Exchange) {
	a.Usage.Used(keys.Use{SecretID: e.SecretID, At: e.At, Address: e.Address, Agent: e.Agent})
}

// record writes down a use. It fails only when the record is strict, and then as
// something that the answer depends on.
func (a *Authenticator) record(ctx context.Context, e audit.Exchange) error {
	if a.Exchanges == nil {
		return nil
	}
	ctx, end := a.step(ctx, "record")
	err := a.Exchanges.Record(ctx, e)
	end(err)
	if err != nil {
		return fmt.Errorf("%w: %w", keys.ErrUnavailable, err)
	}
	return nil
}

// use is the record of an attempt. Of a key that is not known it holds where the
// attempt came from, and nothing that was presented.
func (k *attempt) use(from Origin, allowed, refused string, err error) audit.Exchange {
	e := audit.Exchange{
		At: workspace.At(k.at), Action: allowed, Outcome: Outcome(err), SecretID: k.secret.ID,
		Address: from.Address.String(), Agent: from.Agent, RequestID: from.RequestID,
		Fold: k.secret.ID == "" || (err != nil && errors.As(err, new(*QuotaError))),
	}
	if err != nil {
		e.Action = refused
	}
	e.KeyID = string(k.named)
	if k.record != nil {
		e.WorkspaceID, e.KeyID, e.OwnerID = k.record.WorkspaceID, string(k.record.ID), k.record.OwnerID()
	}
	return e
}

// tokenUse is the record of an exchange; of one that gave a token it tells which.
func (k *attempt) tokenUse(from Origin, issued *exchange, err error) audit.Exchange {
	e := k.use(from, audit.TokenIssue, audit.TokenRefuse, err)
	if err == nil {
		e.Detail = issued.detail()
	}
	return e
}

func (e *exchange) detail() string {
	d := oauth.TokenDetail{Audience: e.grant.Audience, ID: e.jti, Scope: e.grant.Scope}
	var room [usualClaims / 2]byte
	return string(d.AppendJSON(room[:0]))
}
