package grant_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func request(k manage.Issued, r policy.Request) grant.Request {
	return grant.Request{Credentials: right(k), Origin: home, Request: r}
}

func TestIssue(t *testing.T) {
	b := newBooth(t)
	verifier := b.open(t)
	k := b.key(t, manage.NewKey{})
	token := must(b.Issue(t.Context(), request(k, policy.Request{})))(t)
	claims := must(verifier.Verify(t.Context(), token.AccessToken))(t)
	want := &oauth.Claims{
		Issuer: issuerName, Subject: string(b.sa.ID), Audience: oauth.Audience{audience}, ClientID: string(k.ID),
		IssuedAt: b.now().Unix(), Expiry: b.now().Unix() + 600, ID: claims.ID, Scope: oauth.NewScope("charts:read", "charts:update"),
		WorkspaceID: string(b.ws.ID), Workspace: "acme", KeyGeneration: 1, SubjectGeneration: 1, WorkspaceGeneration: 1,
	}
	if diff := cmp.Diff(want, claims); diff != "" || len(claims.ID) != 26 {
		t.Error(diff)
	}
	if token.ExpiresIn != 10*time.Minute || !slices.Equal(token.Scope, claims.Scope) || !token.KeyExpiresAt.IsZero() || token.Client.ID != k.ID {
		t.Errorf("%+v", token)
	}
}

func TestIssueNarrows(t *testing.T) {
	b := newBooth(t)
	verifier := b.open(t)
	scopes := oauth.NewScope("charts:read")
	k := b.key(t, manage.NewKey{TokenTTL: time.Minute})
	token := must(b.Issue(t.Context(), request(k, policy.Request{Scope: scopes, Audience: []string{issuerName}})))(t)
	claims := must(verifier.Verify(t.Context(), token.AccessToken))(t)
	if !slices.Equal(claims.Scope, scopes) || !slices.Equal(claims.Audience, []string{issuerName}) || claims.Expiry-claims.IssuedAt != 60 {
		t.Errorf("%+v", claims)
	}
	for kind, r := range map[error]policy.Request{
		policy.ErrScope:    {Scope: oauth.NewScope("charts:read", "api-keys:read")},
		policy.ErrAudience: {Audience: []string{"https://nowhere.example.com"}},
	} {
		if token, err := b.Issue(t.Context(), request(k, r)); !errors.Is(err, kind) || token != nil {
			t.Errorf("%+v: %v, %v", r, token, err)
		}
	}
	// What a request may ask is told to those alone who hold the secret.
	r := grant.Request{Credentials: b.wrong(k), Origin: home, Request: policy.Request{Scope: oauth.NewScope("nowhere:read")}}
	if _, err := b.Issue(t.Context(), r); !errors.Is(err, grant.ErrCredentials) {
		t.Errorf("a wrong secret with a wrong scope: %v", err)
	}
}

func TestTokensNeverOutliveTheKey(t *testing.T) {
	b := newBooth(t)
	verifier := b.open(t)
	expiry := b.now().Add(11 * time.Minute)
	k := b.key(t, manage.NewKey{ExpiresAt: expiry})
	for _, left := range []time.Duration{10 * time.Minute, 90*time.Second + 123*time.Millisecond, 2*time.Second - 1, time.Second} {
		b.setClock(expiry.Add(-left))
		token := must(b.Issue(t.Context(), request(k, policy.Request{})))(t)
		claims := must(verifier.Verify(t.Context(), token.AccessToken))(t)
		if end := time.Unix(claims.Expiry, 0); end.After(expiry) || token.ExpiresIn != left.Truncate(time.Second) || !token.KeyExpiresAt.Equal(expiry) {
			t.Errorf("with %s left: ends %s after the key, expires_in %s", left, end.Sub(expiry), token.ExpiresIn)
		}
	}
	b.setClock(expiry.Add(-time.Second + 1)) // no whole second is left
	_, err := b.Issue(t.Context(), request(k, policy.Request{}))
	wantRefused(t, err, grant.Expired, "expired")
}

func TestTokensCarryTheGenerations(t *testing.T) {
	b := newBooth(t)
	verifier := b.open(t)
	k := b.key(t, manage.NewKey{})
	b.exec(t, `UPDATE keys SET generation = 5`)
	b.exec(t, `UPDATE service_accounts SET generation = 6`)
	b.exec(t, `UPDATE workspaces SET generation = 7`)
	token := must(b.Issue(t.Context(), request(k, policy.Request{})))(t)
	claims := must(verifier.Verify(t.Context(), token.AccessToken))(t)
	if claims.KeyGeneration != 5 || claims.SubjectGeneration != 6 || claims.WorkspaceGeneration != 7 {
		t.Errorf("%+v", claims)
	}
}

func TestIssueAtOnce(t *testing.T) {
	b := newBooth(t)
	verifier := b.open(t)
	k := b.key(t, manage.NewKey{})
	var mu sync.Mutex
	ids := map[string]bool{}
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() {
			token, err := b.Issue(t.Context(), request(k, policy.Request{}))
			if err != nil {
				t.Error(err)
				return
			}
			claims, err := verifier.Verify(t.Context(), token.AccessToken)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[claims.ID] = true
		})
	}
	running.Wait()
	if len(ids) != 50 {
		t.Errorf("50 tokens have %d IDs", len(ids))
	}
}

func TestIssueWithoutASigningKey(t *testing.T) {
	b := newBooth(t)
	k := b.key(t, manage.NewKey{})
	if token, err := b.Issue(t.Context(), request(k, policy.Request{})); !errors.Is(err, signing.ErrNoKey) || token != nil || grant.Outcome(err) != "unavailable" {
		t.Errorf("%v, %v (%s)", token, err, grant.Outcome(err))
	}
	if used, _ := b.notes(t, k); !used.At.IsZero() {
		t.Errorf("an exchange that failed is noted as a use: %+v", used)
	}
}

// note is what the database holds of a secret's last use.
type note struct {
	At      workspace.Time `db:"last_used_at"`
	Address string         `db:"last_used_address"`
	Agent   string         `db:"last_used_agent"`
}

// notes writes what was noted of a key's use and reads it back.
func (b *booth) notes(t *testing.T, k manage.Issued) (used note, failed workspace.Time) {
	t.Helper()
	b.Usage.Flush(t.Context())
	check(t, sqlx.GetContext(t.Context(), b.db.Reader(), &used,
		`SELECT last_used_at, last_used_address, last_used_agent FROM key_secrets WHERE key_id = ?`, k.ID))
	check(t, sqlx.GetContext(t.Context(), b.db.Reader(), &failed, `SELECT last_failed_at FROM keys WHERE id = ?`, k.ID))
	return used, failed
}

func TestUsesAreNoted(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	k := b.key(t, manage.NewKey{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	must(b.Issue(t.Context(), request(k, policy.Request{})))(t)
	used, failed := b.notes(t, k)
	if !used.At.Equal(b.now()) || used.Address != "10.1.2.3" || used.Agent != "curl/8" || !failed.IsZero() {
		t.Errorf("after an exchange: %+v, failed %v", used, failed)
	}
	first := b.now()
	for name, r := range map[string]grant.Request{
		"wrong secret":    {Credentials: b.wrong(k), Origin: home},
		"refused address": {Credentials: right(k), Origin: abroad},
		"refused scope":   request(k, policy.Request{Scope: oauth.NewScope("nowhere:read")}),
	} {
		b.pass(time.Minute)
		if _, err := b.Issue(t.Context(), r); err == nil {
			t.Fatalf("%s: no error", name)
		}
		if used, failed := b.notes(t, k); !failed.Equal(b.now()) || !used.At.Equal(first) {
			t.Errorf("%s: failed %v, used %+v", name, failed, used)
		}
	}
}

// go-oauth2's manager does nothing for those who did not come through Issue.
func TestManagerNeedsADecidedExchange(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	k, other := b.key(t, manage.NewKey{}), b.key(t, manage.NewKey{})
	client := must(b.Authenticate(t.Context(), right(k), home))(t)
	decided := grant.Decided(t.Context(), client, right(k).Secret, policy.Grant{Audience: []string{audience}, Form: policy.Form{Algorithm: jwk.ES256, Type: oauth.AccessTokenType}, TTL: time.Minute})
	for _, c := range []struct {
		name        string
		ctx         context.Context
		credentials grant.Credentials
		want        error // nil: any
	}{
		{"without Issue", t.Context(), right(k), grant.ErrNoExchange},
		{"another client_id", decided, right(other), grant.ErrCredentials},
		{"another ID, the proven secret", decided, grant.Credentials{ID: string(other.ID), Secret: right(k).Secret}, grant.ErrCredentials},
		{"another secret", decided, b.wrong(k), nil},
		{"no secret", decided, grant.Credentials{ID: string(k.ID)}, nil},
		{"what stands for the secret", decided, grant.Credentials{ID: string(k.ID), Secret: "[redacted]"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			info, err := b.Manager().GenerateAccessToken(c.ctx, oauth2.ClientCredentials,
				&oauth2.TokenGenerateRequest{ClientID: c.credentials.ID, ClientSecret: c.credentials.Secret})
			if err == nil || info != nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("%v, error %v; want %v", info, err, c.want)
			}
		})
	}
	info, err := b.Manager().GenerateAccessToken(decided, oauth2.ClientCredentials,
		&oauth2.TokenGenerateRequest{ClientID: string(k.ID), ClientSecret: right(k).Secret})
	if err != nil || info.GetAccess() == "" || info.GetRefresh() != "" {
		t.Fatalf("the decided exchange: %v, %v", info, err)
	}
	for name, load := range map[string]func(context.Context, string) (oauth2.TokenInfo, error){
		"access": b.Manager().LoadAccessToken, "refresh": b.Manager().LoadRefreshToken,
	} {
		if stored, err := load(decided, info.GetAccess()); err == nil || stored != nil {
			t.Errorf("the library stored the %s token: %v", name, stored)
		}
	}
}

func TestOutcomeOfEveryError(t *testing.T) {
	for want, err := range map[string]error{
		"issued":              nil,
		"expired":             &grant.RefusedError{Reason: grant.Expired},
		"revoked":             &grant.RefusedError{Reason: grant.Revoked},
		"secret_replaced":     &grant.RefusedError{Reason: grant.Replaced},
		"disabled":            &grant.RefusedError{Reason: grant.Disabled},
		"owner_removed":       &grant.RefusedError{Reason: grant.Removed},
		"workspace_suspended": &grant.RefusedError{Reason: grant.Suspended},
		"workspace_deleted":   &grant.RefusedError{Reason: grant.Deleted},
		"address":             &grant.RefusedError{Reason: grant.Address},
		"too_many_failures":   &grant.TooManyFailuresError{Cause: grant.ErrCredentials},
		"wrong_credentials":   grant.ErrCredentials,
		"malformed_secret":    keys.ErrMalformedSecret,
		"scope":               policy.ErrScope,
		"audience":            policy.ErrAudience,
		"unavailable":         keys.ErrUnavailable,
		"error":               errors.New("hunter2"),
	} {
		if got := grant.Outcome(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
		if err != nil {
			if got := grant.Outcome(fmt.Errorf("wrapped: %w", err)); got != want {
				t.Errorf("%v, wrapped: %s, want %s", err, got, want)
			}
		}
	}
	if got := grant.Outcome(fmt.Errorf("grant: %w", signing.ErrNoKey)); got != "unavailable" {
		t.Errorf("no signing key: %s", got)
	}
}
