package grant

import (
	"context"
	"crypto/subtle"
	"errors"

	"github.com/go-oauth2/oauth2/v4"

	"github.com/tokenbooth/tokenbooth/policy"
)

// What go-oauth2's manager needs of us. An exchange travels through it as the
// context: it was authenticated and decided before, so that an unauthenticated
// client learns nothing from the order of the library's checks.

// exchange is one request that is authenticated and decided, with all that is made for
// it: in one piece, since there are many.
type exchange struct {
	context.Context // that it travels in, once it does

	client  Client
	secret  string // as it was presented and proven
	grant   policy.Grant
	jti     string // of the token
	request oauth2.TokenGenerateRequest
	token   Token
}

type exchangeKey struct{}

func withExchange(ctx context.Context, e *exchange) context.Context {
	e.Context = ctx
	return e
}

// Value implements context.Context: the exchange is a value of itself.
func (e *exchange) Value(key any) any {
	if key == (exchangeKey{}) {
		return e
	}
	return e.Context.Value(key)
}

// errNoExchange means that the manager was called without Issue.
var errNoExchange = errors.New("no authenticated exchange in the context")

func exchangeFrom(ctx context.Context) (*exchange, error) {
	if e, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return e, nil
	}
	return nil, errNoExchange
}

// clientStore gives the manager the client that has proven itself.
type clientStore struct{}

func (clientStore) GetByID(ctx context.Context, id string) (oauth2.ClientInfo, error) {
	e, err := exchangeFrom(ctx)
	if err != nil {
		return nil, err
	}
	if string(e.client.ID) != id {
		return nil, ErrCredentials
	}
	return clientInfo{e}, nil
}

// clientInfo is that client. Its secret is never empty and it is never public,
// since the library lets both in without a password.
type clientInfo struct{ *exchange }

func (c clientInfo) GetID() string     { return string(c.client.ID) }
func (c clientInfo) GetSecret() string { return "[redacted]" }
func (c clientInfo) GetDomain() string { return "" }
func (c clientInfo) IsPublic() bool    { return false }
func (c clientInfo) GetUserID() string { return c.client.OwnerID() }

// VerifyPassword implements oauth2.ClientPasswordVerifier: the secret must be
// the one that was proven.
func (c clientInfo) VerifyPassword(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(secret), []byte(c.secret)) == 1
}

// accessGenerate makes the token. There is no refresh token (RFC 6749 §4.4.3).
type accessGenerate struct{ issuer *Issuer }

func (g accessGenerate) Token(ctx context.Context, _ *oauth2.GenerateBasic, _ bool) (access, refresh string, err error) {
	e, err := exchangeFrom(ctx)
	if err != nil {
		return "", "", err
	}
	access, err = g.issuer.sign(ctx, e)
	return access, "", err
}

// noTokens stores nothing: a token stands for itself until it expires, and
// denying one earlier is policy/revocation's work.
type noTokens struct{}

var errNotStored = errors.New("tokens are not stored")

func (noTokens) Create(context.Context, oauth2.TokenInfo) error { return nil }
func (noTokens) RemoveByCode(context.Context, string) error     { return errNotStored }
func (noTokens) RemoveByAccess(context.Context, string) error   { return errNotStored }
func (noTokens) RemoveByRefresh(context.Context, string) error  { return errNotStored }
func (noTokens) GetByCode(context.Context, string) (oauth2.TokenInfo, error) {
	return nil, errNotStored
}
func (noTokens) GetByAccess(context.Context, string) (oauth2.TokenInfo, error) {
	return nil, errNotStored
}
func (noTokens) GetByRefresh(context.Context, string) (oauth2.TokenInfo, error) {
	return nil, errNotStored
}
