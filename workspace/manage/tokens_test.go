package manage_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// claims are those of a token that a key has got just now.
func (h *house) claims(id keys.ID) *oauth.Claims {
	h.t.Helper()
	r := h.read(id)
	return &oauth.Claims{
		ID: workspace.Unique(), ClientID: string(id), Subject: r.OwnerID(), WorkspaceID: string(r.WorkspaceID),
		IssuedAt: h.now.Unix(), Expiry: h.now.Add(10 * time.Minute).Unix(),
		KeyGeneration: r.Generation, SubjectGeneration: r.OwnerGeneration, WorkspaceGeneration: r.WorkspaceGeneration,
	}
}

func (h *house) entries() []revocation.Entry {
	h.t.Helper()
	found, err := revocation.Since(h.t.Context(), h.Database.Reader(), 0, 100)
	check(h.t, err)
	return found
}

// A key revokes its own tokens, and whoever holds tokens:revoke in the workspace any
// of its tokens; nobody else does. A token of a key has the rights that it names, and
// no others.
func TestWhoMayRevokeATokenOf(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		other, err := h.CreateWorkspace(t.Context(), operator, "Other", "")
		check(t, err)
		may := oauth.NewScope(manage.RevokeTokens)
		holder := h.key(h.account("holder", manage.NewServiceAccount{Scopes: may.Union(oauth.NewScope("collectors:read"))}))
		key, mate := h.key(h.sa), h.key(h.account("mate", manage.NewServiceAccount{Role: "admin"}))
		account, err := h.CreateServiceAccount(t.Context(), operator, other.ID, manage.NewServiceAccount{Name: "far", Scopes: may})
		check(t, err)
		far, err := h.CreateKey(t.Context(), operator, other.ID, manage.NewKey{ServiceAccountID: account.ID, Name: "far"})
		check(t, err)
		none, read := oauth.NewScope(), oauth.NewScope("collectors:read")
		for _, c := range []struct {
			who  string
			by   manage.Caller
			kind error
		}{
			{"the key itself", manage.Bearer(key.Key, nil), nil},
			{"a token of it", manage.Bearer(key.Key, &read), workspace.ErrForbidden},
			{"a token of it that carries nothing", manage.Bearer(key.Key, &none), workspace.ErrForbidden},
			{"another key", manage.Bearer(mate.Key, nil), workspace.ErrForbidden},
			{"a key that may", manage.Bearer(holder.Key, nil), nil},
			{"a token that may", manage.Bearer(holder.Key, &may), nil},
			{"a token of a key that may", manage.Bearer(holder.Key, &read), workspace.ErrForbidden},
			{"a key that may elsewhere", manage.Bearer(far.Key, nil), workspace.ErrNotFound},
			{"an owner", manage.User(h.owner), nil},
			{"a manager", manage.User(h.manager), nil},
			{"a viewer", manage.User(h.viewer), workspace.ErrForbidden},
			{"somebody outside", manage.User(h.outsider), workspace.ErrNotFound},
			{"an organization admin", manage.User(h.admin), workspace.ErrNotFound},
			{"the operator", operator, nil},
		} {
			before := len(h.entries())
			d, err := h.RevokeToken(t.Context(), c.by, h.claims(key.ID))
			want(t, c.who, c.kind, err)
			if n := len(h.entries()) - before; (n == 1) != (c.kind == nil) || (d.Sequence > 0) != (c.kind == nil) {
				t.Errorf("%s: %d entries, %+v", c.who, n, d)
			}
		}
	})
}

// So many tokens of a workspace are denied one by one at a time, however many ask at
// once, and no more; those of others do not count, nor what is good nowhere any more.
func TestRevokeTooManyTokens(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		const free = 3
		h := newHouse(t, db)
		key := h.key(h.sa)
		var entries []revocation.Entry
		add := func(n int, e revocation.Entry) {
			for range n {
				e.SubjectID, e.Cause, e.At = workspace.Unique(), revocation.Revoked, workspace.At(h.now)
				entries = append(entries, e)
			}
		}
		add(manage.MaxRevokedTokens-free, revocation.Entry{Kind: oauth.RevocableToken, WorkspaceID: h.ws})
		add(10, revocation.Entry{Kind: oauth.RevocableToken, WorkspaceID: h.ws, ExpiresAt: workspace.At(h.now)})
		add(10, revocation.Entry{Kind: oauth.RevocableKey, WorkspaceID: h.ws})
		add(10, revocation.Entry{Kind: oauth.RevocableToken, WorkspaceID: "ws_other"})
		check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
			_, err := revocation.Append(ctx, tx, entries...)
			return err
		}))

		tokens := make([]*oauth.Claims, free+5)
		errs := make([]error, len(tokens))
		var running sync.WaitGroup
		for i := range tokens {
			tokens[i] = h.claims(key.ID)
			running.Go(func() { _, errs[i] = h.RevokeToken(t.Context(), operator, tokens[i]) })
		}
		running.Wait()
		var done *oauth.Claims
		refused := 0
		for i, err := range errs {
			if err == nil {
				done = tokens[i]
				continue
			}
			refused++
			want(t, "one more", manage.ErrLimit, err)
		}
		if refused != len(tokens)-free || done == nil {
			t.Fatalf("%d of %d were refused, want %d", refused, len(tokens), len(tokens)-free)
		}
		if d, err := h.RevokeToken(t.Context(), operator, done); err != nil || d.Sequence == 0 {
			t.Errorf("once again: %+v, %v", d, err)
		}
		h.now = h.now.Add(2 * time.Hour)
		if d, err := h.RevokeToken(t.Context(), operator, h.claims(key.ID)); err != nil || d.Sequence == 0 {
			t.Errorf("when the others are dead: %+v, %v", d, err)
		}
	})
}

// What is denied already is not denied again; the answer is the same.
func TestRevokeTokenTwice(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		by, claims, expired := manage.Bearer(key.Key, nil), h.claims(key.ID), h.claims(key.ID)
		first, err := h.RevokeToken(t.Context(), by, claims)
		check(t, err)
		if first.Sequence != 1 || !first.DeadBy.Equal(revocation.Good(h.now.Add(10*time.Minute)).Time) {
			t.Errorf("the denial is %+v", first)
		}
		h.now = h.now.Add(time.Minute)
		again, err := h.RevokeToken(t.Context(), operator, claims)
		check(t, err)
		if again.Sequence != first.Sequence || !again.DeadBy.Equal(first.DeadBy) {
			t.Errorf("the second denial is %+v, want %+v", again, first)
		}

		// One that nobody takes any more, whatever his clock says; one that is denied with
		// its key, and one of no key at all.
		expired.Expiry = h.now.Add(-time.Hour).Unix()
		old, lost := h.claims(key.ID), h.claims(key.ID)
		old.KeyGeneration, lost.ClientID = 0, string(h.Format.NewID())
		for name, c := range map[string]*oauth.Claims{"expired": expired, "of an older generation": old, "of no key": lost} {
			if d, err := h.RevokeToken(t.Context(), operator, c); err != nil || d != (manage.Denial{}) {
				t.Errorf("%s: %+v, %v", name, d, err)
			}
		}
		if n := len(h.entries()); n != 1 {
			t.Errorf("%d entries", n)
		}
		events, err := audit.List(t.Context(), db.Reader(), audit.Filter{Chain: string(h.ws), Action: "token.revoke"}, audit.Position{}, 10)
		check(t, err)
		if len(events) != 1 || events[0].SubjectID != claims.ID || events[0].OwnerID != string(h.sa) || events[0].KeyID != string(key.ID) {
			t.Errorf("the events are %+v", events)
		}
	})
}

// Whoever asks again and again about one token does not wait for those who change
// something, nor they for him.
func TestRevokeTokenAgainNeedsNoLock(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		by, claims := manage.Bearer(key.Key, nil), h.claims(key.ID)
		first, err := h.RevokeToken(t.Context(), by, claims)
		check(t, err)
		h.now = h.now.Add(time.Minute)
		check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
			if _, err := change.Lock(ctx, tx); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			again, err := h.RevokeToken(ctx, by, claims)
			if err != nil || again.Sequence != first.Sequence || !again.DeadBy.Equal(first.DeadBy) {
				t.Errorf("%+v, %v; want %+v", again, err, first)
			}
			return nil
		}))
	})
}
