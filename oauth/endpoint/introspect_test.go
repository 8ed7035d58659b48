package endpoint_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// inactive is the whole answer about any token that is not good.
const inactive = "{\"active\":false}\n"

// RFC 7662 §2.2: what is told of a good token, of whichever audience and form, and
// nothing else.
func TestIntrospectActive(t *testing.T) {
	b := newBooth(t, options{now: clock(noon), forms: map[string]policy.FormOptions{
		"urn:spring": {Profile: "spring"}, "urn:rest": {Profile: "postgrest", Claims: map[string]any{"groups": []string{"a"}}},
	}})
	mate := b.key(nil)
	for _, audience := range []string{apiURL, reports, "urn:spring", "urn:rest", issuer} {
		token := b.token(b.active, "audience", audience)
		claims := claimsOf(t, token)
		want := map[string]any{
			"active": true, "iss": issuer, "sub": b.active.OwnerID(), "aud": audience, "exp": claims["exp"], "iat": claims["iat"],
			"jti": claims["jti"], "client_id": string(b.active.ID), "scope": claims["scope"], "token_type": "Bearer",
			"workspace_id": string(b.workspace.ID), "workspace": "acme",
		}
		for name, a := range map[string]answer{
			"own": b.introspect(b.active, token), "of a mate": b.introspect(mate, token),
			"by Basic":      b.about(endpoint.IntrospectPath, url.Values{"token": {token}}, basic(string(mate.ID), mate.Secret.Reveal())),
			"by a raw key":  b.about(endpoint.IntrospectPath, url.Values{"token": {token}}, bearing(mate.Secret.Reveal())),
			"by a token":    b.about(endpoint.IntrospectPath, url.Values{"token": {token}}, bearing(b.token(mate, "audience", issuer))),
			"by the ID too": b.about(endpoint.IntrospectPath, url.Values{"token": {token}, "client_id": {string(mate.ID)}}, bearing(mate.Secret.Reveal())),
		} {
			a.want(b, http.StatusOK, "")
			if diff := cmp.Diff(want, a.object(t)); diff != "" {
				t.Errorf("%s, %s: %s", audience, name, diff)
			}
			if a.header.Get("Content-Type") != "application/json" {
				t.Errorf("Content-Type is %q", a.header.Get("Content-Type"))
			}
		}
	}
}

// RFC 7662 §2.2: of any other, not even why.
func TestIntrospectInactive(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		f := newForger()
		b := newBooth(t, options{database: db, now: clock(noon), trusted: []jwk.Key{f.public}})
		good := claimsOf(t, b.token(b.active))
		b.wantActive(b.active, f.sign(good, nil, nil), true)
		bad := b.bad(f, good)
		// Verifiers elsewhere may go by another clock; ours is the one that it expires by.
		bad["just expired"] = f.sign(good, nil, map[string]any{"exp": noon.Unix()})
		bad["no such key"] = f.sign(good, nil, map[string]any{"client_id": string(b.format.NewID())})
		bad["older key"] = f.sign(good, nil, map[string]any{"key_gen": 0})
		bad["older owner"] = f.sign(good, nil, map[string]any{"sub_gen": 0})
		bad["older workspace"] = f.sign(good, nil, map[string]any{"ws_gen": nil})
		bad["secret"] = b.active.Secret.Reveal()
		for name, token := range bad {
			if a := b.introspect(b.active, token); a.status != http.StatusOK || a.body != inactive {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
		b.wantActive(b.active, f.sign(good, nil, map[string]any{"exp": noon.Unix() + 1}), true)

		// The key that signed it is denied, however the token names it.
		b.deny(revocation.Entry{Kind: oauth.RevocableSigningKey, SubjectID: f.public.ID, Cause: revocation.Revoked, At: workspace.At(noon)})
		for name, header := range map[string]map[string]any{"kid": nil, "kid, and another": {"KID": "other", "Kid": "other"}} {
			token := f.sign(good, header, nil)
			if a := b.introspect(b.active, token); a.body != inactive {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
			if a := b.whoami("Bearer " + token); a.status != http.StatusUnauthorized || !strings.Contains(a.body, "it was revoked") {
				t.Errorf("%s: whoami: %d %s", name, a.status, a.body)
			}
		}
		b.wantActive(b.active, b.token(b.active), true)
	})
}

// deny appends an entry, and returns when the booth has taken it in.
func (b *booth) deny(e revocation.Entry) {
	b.Helper()
	var seq int64
	b.check(b.db.InTx(b.Context(), func(ctx context.Context, tx sqlx.ExtContext) (err error) {
		if seq, err = change.Lock(ctx, tx); err != nil {
			return err
		}
		if _, err := revocation.Append(ctx, tx, e); err != nil {
			return err
		}
		return change.Record(ctx, tx, seq, e.At, revocation.Subject)
	}))
	must(change.Await(b.Context(), b.db, seq, b.manager.Timing))
}

// A token of another workspace is none of the caller's business, unless an
// organization admin has given them the right to look into all of them.
func TestIntrospectAcrossWorkspaces(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		b := newBooth(t, options{database: db})
		ws := must(b.manager.CreateWorkspace(t.Context(), operator, "Other", ""))
		stranger := b.keyOf(b.manager, ws.ID, nil)
		token := b.token(b.active)
		if a := b.introspect(stranger, token); a.body != inactive {
			t.Errorf("a stranger: %d %s", a.status, a.body)
		}

		const all = "organization:introspect"
		n := manage.NewServiceAccount{Name: "gateway", Scopes: oauth.NewScope(all, "collectors:read")}
		for _, who := range []struct {
			name string
			by   manage.Caller
			may  bool
		}{
			{"an owner", manage.User(b.person(ws.ID, "owner", false)), false},
			{"an organization admin", manage.User(b.person(ws.ID, "admin", true)), true},
		} {
			account, err := b.manager.CreateServiceAccount(t.Context(), who.by, ws.ID, n)
			if (err == nil) != who.may {
				t.Errorf("%s grants it: %v", who.name, err)
			}
			if err != nil {
				continue
			}
			k := must(b.manager.CreateKey(t.Context(), who.by, ws.ID, manage.NewKey{ServiceAccountID: account.ID, Name: "gateway"}))
			b.hide(k.Secret.Reveal())
			b.wantActive(k, token, true)
			wide, narrow := b.token(k, "audience", issuer), b.token(k, "audience", issuer, "scope", "collectors:read")
			for credential, want := range map[string]bool{k.Secret.Reveal(): true, wide: true, narrow: false} {
				a := b.about(endpoint.IntrospectPath, url.Values{"token": {token}}, bearing(credential)).want(b, http.StatusOK, "")
				if a.object(t)["active"] != want {
					t.Errorf("want %v: %s", want, a.body)
				}
			}

			// What they hold now counts, not what they held once.
			role := "viewer"
			must(b.manager.UpdateServiceAccount(t.Context(), operator, ws.ID, account.ID, manage.ServiceAccountChange{Role: &role}))
			if a := b.introspect(k, token); a.body != inactive {
				t.Errorf("after it was taken away: %d %s", a.status, a.body)
			}
		}
	})
}

// person makes an owner of a workspace.
func (b *booth) person(in workspace.ID, name string, organizationAdmin bool) workspace.UserID {
	b.Helper()
	user := must(b.manager.CreateUser(b.Context(), operator, name+"@example.com", organizationAdmin))
	b.check(b.manager.AddMember(b.Context(), operator, in, user.ID, workspace.Owner))
	return user.ID
}

// Whatever is revoked, its tokens are inactive when that returns, and no others are.
func TestIntrospectFollowsRevocations(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		b := newBooth(t, options{database: db})
		ws := must(b.manager.CreateWorkspace(t.Context(), operator, "Other", ""))
		observer := b.holder(ws.ID, operator, "organization:introspect")
		revoked, disabled, narrow := b.key(nil), b.key(nil), b.key(nil)
		tokens := map[string]string{
			"key": b.token(revoked), "owner": b.token(disabled), "narrowed": b.token(narrow), "workspace": b.token(b.active, "audience", reports),
			"other": b.token(b.keyOf(b.manager, ws.ID, nil)),
		}
		dead := map[string]bool{}
		ends := func(what string, err error, ended ...string) {
			t.Helper()
			b.check(err)
			for _, name := range ended {
				dead[name] = true
			}
			for name, token := range tokens {
				if a := b.introspect(observer, token).want(b, http.StatusOK, ""); a.object(t)["active"] == dead[name] {
					t.Errorf("%s: the token %s: %s", what, name, a.body)
				}
			}
		}
		ends("before", nil)
		ends("the key is revoked", b.manager.RevokeKey(t.Context(), operator, b.workspace.ID, revoked.ID, "a test"), "key")
		b.login(formOf(revoked)).want(b, http.StatusUnauthorized, "invalid_client")
		ends("the owner is disabled", b.manager.DisableServiceAccount(t.Context(), operator, b.workspace.ID, disabled.ServiceAccountID), "owner")
		ends("the key is narrowed", b.manager.SetKeyScopes(t.Context(), operator, b.workspace.ID, narrow.ID, ptr(narrowed())), "narrowed")
		tokens["narrowed since"] = b.token(narrow)
		ends("there is a new token", nil)
		ends("the workspace is deleted", b.manager.DeleteWorkspace(t.Context(), operator, b.workspace.ID), "workspace", "narrowed since")
	})
}

// When it cannot be known, the answer is neither yes nor no.
func TestIntrospectWithoutKnowledge(t *testing.T) {
	b := newBooth(t, options{idle: true})
	cold := b.key(nil)
	token := b.token(cold)
	b.check(b.directory.Forget(t.Context(), change.Batch{}))
	known := b.token(b.active)
	b.check(b.db.Close())
	b.wantActive(b.active, known, true) // from memory, within the lease
	a := b.introspect(b.active, token).want(b, http.StatusServiceUnavailable, "temporarily_unavailable")
	if a.header.Get("Retry-After") == "" || strings.Contains(a.body, "active") {
		t.Errorf("Retry-After is %q: %s", a.header.Get("Retry-After"), a.body)
	}
}

// Nor when the lease runs out: at no moment is it wrong.
func TestIntrospectPastTheLease(t *testing.T) {
	b := newBooth(t, options{})
	token := b.token(b.active)
	b.check(b.db.Close())
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		switch a := b.introspect(b.active, token); {
		case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "":
			return
		case a.status != http.StatusOK || !strings.HasPrefix(a.body, `{"active":true,`):
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	t.Fatal("it goes on from memory past the lease")
}

// A key that only looks into tokens is in use.
func TestIntrospectIsUse(t *testing.T) {
	b := newBooth(t, options{})
	b.wantActive(b.active, b.token(b.key(nil)), true)
	b.usage.Flush(t.Context())
	found := must(b.manager.Key(t.Context(), operator, b.workspace.ID, b.active.ID))
	if found.LastUsedAt.IsZero() {
		t.Error("the key counts as unused")
	}
}
