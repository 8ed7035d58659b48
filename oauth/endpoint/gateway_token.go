package endpoint

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// How long the token of a raw key is used again, and for how many keys. A token is
// used for half of its life at most, so that a service gets none that is about to
// expire.
const (
	keepFor = time.Minute
	maxKept = 10_000 // a generation, about 1 KB each

	gatewayPatience = 10 * time.Second // for an exchange that several requests wait for
)

// secretDigest names a secret in memory, which holds nothing that could be used as one.
type secretDigest [sha256.Size]byte

// keptToken is a token that was issued for a raw key.
type keptToken struct {
	token  string
	claims *oauth.Claims
	until  time.Time
}

// keptTokens knows the tokens that were issued for raw keys a moment ago. It has two
// generations: the young one becomes the old one when it is full or as old as a token
// is kept, and the old one is forgotten.
type keptTokens struct {
	mu         sync.Mutex
	young, old map[secretDigest]keptToken
	began      time.Time // the young generation
}

func (k *keptTokens) get(secret secretDigest) (keptToken, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept, ok := k.young[secret]
	if !ok {
		kept, ok = k.old[secret]
	}
	return kept, ok
}

func (k *keptTokens) put(secret secretDigest, token keptToken, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.young == nil || len(k.young) >= maxKept || now.Sub(k.began) > keepFor {
		k.young, k.old, k.began = map[secretDigest]keptToken{}, k.young, now
	}
	k.young[secret] = token
}

// drop forgets the token of a key that is refused.
func (k *keptTokens) drop(secret secretDigest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.young, secret)
	delete(k.old, secret)
}

// keyToken is a token for a raw key: the one that was issued for it a moment ago, if
// a new one would say the same, else a new one. The key is authenticated each time,
// from where this request comes; the exchange, which counts in the quota and in the
// audit log, is what gives a new token.
func (h *Handler) keyToken(c echo.Context, secret string) (string, *oauth.Claims, error) {
	ctx, from := c.Request().Context(), origin(c)
	if h.Grant.Stand != nil {
		ctx = h.Grant.Stand(ctx)
	}
	name := secretDigest(sha256.Sum256([]byte(secret)))
	if kept, ok := h.keptToken(ctx, name, secret, from); ok {
		return h.withClaims(ctx, kept)
	}
	// Requests that come at once share an exchange if everything that it depends on
	// is the same: the whole secret, and the address. The digest has a fixed length.
	shared, err, _ := h.Gateway.flights.Do(string(name[:])+from.Address.String(), func() (any, error) {
		// The first of them may leave before the others have their answer.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gatewayPatience)
		defer cancel()
		if kept, ok := h.keptToken(ctx, name, secret, from); ok {
			return kept, nil
		}
		return h.issueToken(ctx, name, secret, from)
	})
	if err != nil {
		return "", nil, err
	}
	token, _ := shared.(string)
	return h.withClaims(ctx, token)
}

func (h *Handler) withClaims(ctx context.Context, token string) (string, *oauth.Claims, error) {
	claims, err := h.passing(ctx, token)
	return token, claims, err
}

// keptToken finds the token that was issued for a key. The key may be used from there
// now, and a new token would be for the same: what the key or its workspace may do
// can have changed since. The rest is for the verifier to say, as of any token.
func (h *Handler) keptToken(ctx context.Context, name secretDigest, secret string, from grant.Origin) (string, bool) {
	kept, ok := h.Gateway.kept.get(name)
	if !ok {
		return "", false
	}
	client, err := h.Grant.Authenticate(ctx, grant.Credentials{Secret: secret}, from)
	if err != nil {
		h.Gateway.kept.drop(name)
		return "", false // an exchange says why, and records it
	}
	if !client.At.Before(kept.until) || client.Denies(kept.claims) || client.WorkspaceSlug != kept.claims.Workspace {
		return "", false
	}
	granted, err := h.Policy.Decide(&client.Bounds, client.Record, h.Gateway.request(), client.At)
	if err != nil || !slices.Equal(granted.Scope, kept.claims.Scope) {
		return "", false
	}
	h.Grant.Usage.Used(keys.Use{SecretID: client.SecretID, At: workspace.At(client.At), Address: from.Address.String(), Agent: from.Agent})
	return kept.token, true
}

// request asks for everything that a key holds for the services behind the gateways.
func (g *Gateway) request() policy.Request { return policy.Request{Audience: []string{g.Audience}} }

// issueToken exchanges a key, as a login does, and keeps the token.
func (h *Handler) issueToken(ctx context.Context, name secretDigest, secret string, from grant.Origin) (string, error) {
	issued, err := h.Grant.Issue(ctx, grant.Request{Credentials: grant.Credentials{Secret: secret}, Origin: from, Request: h.Gateway.request()})
	h.Count(grant.Outcome(err))
	if err != nil {
		return "", err
	}
	claims, err := h.passing(ctx, issued.AccessToken)
	if err != nil {
		return "", err
	}
	now := issued.Client.At
	h.Gateway.kept.put(name, keptToken{issued.AccessToken, claims, now.Add(min(keepFor, issued.ExpiresIn/2))}, now)
	return issued.AccessToken, nil
}
