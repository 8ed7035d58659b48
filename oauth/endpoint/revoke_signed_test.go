package endpoint_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// What we signed and somebody somewhere takes is revoked, also if we would not take
// it: the clocks of replicas and verifiers differ by minutes, and the configurations
// of replicas by what is being rolled out.
func TestRevokeWhatSomebodyTakes(t *testing.T) {
	f := newForger()
	b := newBooth(t, options{now: clock(noon), trusted: []jwk.Key{f.public}})
	good := claimsOf(t, b.token(b.active))
	for name, c := range map[string]struct {
		header, claims map[string]any
		audience       string        // of who takes it
		typ            string        // that they want
		clock          time.Duration // by which they differ
	}{
		"issued by a replica that is ahead":     {claims: map[string]any{"iat": noon.Add(90 * time.Second).Unix()}, clock: time.Minute},
		"expired for us, not for a slow clock":  {claims: map[string]any{"exp": noon.Add(-59 * time.Second).Unix()}},
		"expired for a slow clock with leeway":  {claims: map[string]any{"iat": noon.Add(-12 * time.Minute).Unix(), "exp": noon.Add(-150 * time.Second).Unix()}, clock: -2 * time.Minute},
		"an audience that we do not know":       {claims: map[string]any{"aud": "https://old.example.com"}, audience: "https://old.example.com"},
		"audiences that we do not know":         {claims: map[string]any{"aud": []string{"https://old.example.com", "https://older.example.com"}}, audience: "https://older.example.com"},
		"an audience that had another form":     {header: map[string]any{"typ": "JWT"}, typ: "JWT"},
		"a form that is not configured anymore": {header: map[string]any{"typ": "old+jwt"}, typ: "old+jwt"},
	} {
		t.Run(name, func(t *testing.T) {
			claims := map[string]any{"jti": "jti " + name}
			for member, value := range c.claims {
				claims[member] = value
			}
			token := f.sign(good, c.header, claims)
			if c.audience == "" {
				c.audience = apiURL
			}
			verifier := must(bearer.New(bearer.Config{
				Issuer: issuer, Audience: c.audience, Type: c.typ, Leeway: bearer.MaxLeeway, Now: clock(noon.Add(c.clock)),
				Keys: bearer.KeySetFunc(func(context.Context, string) (bearer.Key, error) {
					return bearer.Key{ID: f.public.ID, Algorithm: f.public.Algorithm, Public: must(f.public.Public())}, nil
				}),
			}))
			if _, err := verifier.Verify(t.Context(), token); err != nil {
				t.Fatalf("nobody takes it: %v", err)
			}
			a := b.revoke(b.active, token).want(b, http.StatusOK, "")
			if members := a.object(t); members["sequence"] == nil || members["dead_by"] == nil {
				t.Errorf("it is answered with %s", a.body)
			}
			if found := must(revocation.Of(t.Context(), b.db.Reader(), oauth.RevocableToken, "jti "+name)); len(found) != 1 {
				t.Errorf("the entries are %+v", found)
			}
		})
	}
}

// The bound of tokens that are revoked one by one: those beyond it are still good,
// and the answer says so, and what to do.
func TestRevokeTooManyTokens(t *testing.T) {
	b := newBooth(t, options{now: clock(noon)})
	entries := make([]revocation.Entry, manage.MaxRevokedTokens)
	for i := range entries {
		entries[i] = revocation.Entry{
			Kind: oauth.RevocableToken, SubjectID: fmt.Sprint("jti ", i), WorkspaceID: b.workspace.ID, Cause: revocation.Revoked, At: workspace.At(noon),
		}
	}
	b.check(b.db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		_, err := revocation.Append(ctx, tx, entries...)
		return err
	}))
	token := b.token(b.active)
	a := b.revoke(b.active, token).want(b, http.StatusTooManyRequests, "quota_exceeded")
	if a.header.Get("Retry-After") != "60" || !strings.Contains(a.body, "still good") || !strings.Contains(a.body, "rotate the key with revoke_tokens, or revoke it") {
		t.Errorf("Retry-After is %q: %s", a.header.Get("Retry-After"), a.body)
	}
	b.wantActive(b.active, token, true)
	b.check(b.manager.RevokeKey(t.Context(), operator, b.workspace.ID, b.active.ID, "a test"))
	if a := b.whoami("Bearer " + token); a.status != http.StatusUnauthorized {
		t.Errorf("the key is revoked, and whoami answers %d %s", a.status, a.body)
	}
}
