package grant

import (
	"context"

	"github.com/go-oauth2/oauth2/v4/manage"

	"github.com/tokenbooth/tokenbooth/policy"
)

// What the tests of go-oauth2's hooks need, which no caller can reach.

// ErrNoExchange is errNoExchange.
var ErrNoExchange = errNoExchange

// Manager is the library's manager with our hooks.
func (i *Issuer) Manager() *manage.Manager { return i.manager }

// Decided is the context of an exchange that is authenticated and decided.
func Decided(ctx context.Context, c *Client, secret string, g policy.Grant) context.Context {
	return withExchange(ctx, &exchange{client: *c, secret: secret, grant: g})
}
