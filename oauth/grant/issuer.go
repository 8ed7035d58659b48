package grant

import (
	"context"
	"fmt"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/manage"

	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Request is one exchange, read and checked for syntax.
type Request struct {
	Credentials
	Origin
	policy.Request
}

// Token is what comes out.
type Token struct {
	AccessToken  string
	ExpiresIn    time.Duration // whole seconds
	Scope        oauth.Scope
	KeyExpiresAt workspace.Time // zero: the key never expires
	Client       *Client
}

// Issuer issues access tokens.
type Issuer struct {
	*Authenticator
	name    string
	policy  *policy.Policy
	ring    *signing.Ring
	manager *manage.Manager
}

// NewIssuer makes an issuer with that iss claim.
func NewIssuer(name string, a *Authenticator, p *policy.Policy, ring *signing.Ring) *Issuer {
	i := &Issuer{Authenticator: a, name: name, policy: p, ring: ring, manager: manage.NewManager()}
	i.manager.MapClientStorage(clientStore{})
	i.manager.MapTokenStorage(noTokens{})
	i.manager.MapAccessGenerate(accessGenerate{i})
	i.manager.SetClientTokenCfg(&manage.Config{AccessTokenExp: p.TokenTTL}) // and no refresh token: RFC 6749 §4.4.3
	return i
}

// Issue exchanges a key for a token: authenticate, decide, spend, sign, record.
//
// Besides the errors of Authenticate it returns what policy.Decide refuses, a
// *QuotaError, a *RefusedError when the uses of the key are used up, and
// signing.ErrNoKey. When the record is strict and cannot be written, there is
// neither a token nor a refusal: the error wraps keys.ErrUnavailable.
func (i *Issuer) Issue(ctx context.Context, r Request) (*Token, error) {
	if i.Stand != nil {
		ctx = i.Stand(ctx)
	}
	known, err := i.authenticate(ctx, r.Credentials, r.Origin)
	var issued *exchange
	if err == nil {
		issued = &exchange{client: known.client(), secret: r.Secret}
		err = i.issue(ctx, issued, r.Request)
	}
	use := known.tokenUse(r.Origin, issued, err)
	if failed := i.record(ctx, use); failed != nil {
		if err == nil {
			i.refund(ctx, known.record)
		}
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	i.used(use)
	return &issued.token, nil
}

// issue decides, spends and signs for a client that has proven itself.
func (i *Issuer) issue(ctx context.Context, e *exchange, asked policy.Request) error {
	client := &e.client
	_, end := i.step(ctx, "decide")
	granted, err := i.policy.Decide(&client.Bounds, client.Record, asked, client.At)
	end(err)
	if err != nil {
		i.Usage.Failed(client.ID, workspace.At(client.At))
		return err
	}
	if client.Quota, err = i.spend(ctx, client.Record); err != nil {
		i.Usage.Failed(client.ID, workspace.At(client.At))
		return err
	}
	e.grant, e.jti = granted, workspace.Unique()
	signing, end := i.step(ctx, "sign")
	signed, err := i.run(signing, e)
	end(err)
	if err != nil {
		i.refund(ctx, client.Record)
		return err
	}
	e.token = Token{AccessToken: signed, ExpiresIn: granted.TTL, Scope: granted.Scope, KeyExpiresAt: client.ExpiresAt, Client: client}
	return nil
}

// run lets go-oauth2's manager perform the grant for an exchange that is decided. What
// the token carries is in the exchange: the manager would only hand the scope through.
func (i *Issuer) run(ctx context.Context, e *exchange) (string, error) {
	e.request = oauth2.TokenGenerateRequest{
		ClientID:       string(e.client.ID),
		ClientSecret:   e.secret,
		AccessTokenExp: e.grant.TTL,
	}
	info, err := i.manager.GenerateAccessToken(withExchange(ctx, e), oauth2.ClientCredentials, &e.request)
	if err != nil {
		return "", fmt.Errorf("grant: %w", err)
	}
	return info.GetAccess(), nil
}

// sign makes the token of a decided exchange (RFC 9068 §2).
func (i *Issuer) sign(ctx context.Context, e *exchange) (string, error) {
	form := e.grant.Form
	key, err := i.ring.Active(ctx, form.Algorithm)
	if err != nil {
		return "", err
	}
	claims := oauth.Claims{
		Issuer:              i.name,
		Subject:             e.client.OwnerID(),
		Audience:            e.grant.Audience,
		ClientID:            string(e.client.ID),
		IssuedAt:            e.client.At.Unix(),
		Expiry:              e.client.At.Unix() + int64(e.grant.TTL/time.Second),
		ID:                  e.jti,
		Scope:               e.grant.Scope,
		WorkspaceID:         string(e.client.WorkspaceID),
		Workspace:           e.client.WorkspaceSlug,
		KeyGeneration:       e.client.Generation,
		SubjectGeneration:   e.client.OwnerGeneration,
		WorkspaceGeneration: e.client.WorkspaceGeneration,
	}
	var room [usualClaims]byte // on the stack, if they fit
	return key.Sign(form.Type, withClaims(claims.AppendJSON(room[:0]), form.Claims))
}

// usualClaims is what most tokens need for their claims, in bytes.
const usualClaims = 1024

// withClaims adds members to a JSON object that has some.
func withClaims(object []byte, members string) []byte {
	if members == "" {
		return object
	}
	return append(append(append(object[:len(object)-1], ','), members...), '}')
}
