package manage_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func TestCreateKey(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		scopes := oauth.NewScope("collectors:read")
		service, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{
			ServiceAccountID: h.sa, Name: "ci", Scopes: &scopes, Audiences: []string{"https://api.example.com"},
			AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, TokenTTL: 2 * time.Minute, ExpiresAt: h.now.Add(time.Hour),
		})
		check(t, err)
		_, err = h.CreateKey(t.Context(), manage.User(h.viewer), h.ws, manage.NewKey{UserID: h.viewer, Name: "mine"})
		want(t, "a viewer makes a key", workspace.ErrForbidden, err)
		personal, err := h.CreateKey(t.Context(), manage.User(h.manager), h.ws, manage.NewKey{UserID: h.manager, Name: "mine"})
		check(t, err)
		for _, test := range []struct {
			issued manage.Issued
			kind   keys.Kind
		}{{service, keys.ServiceKey}, {personal, keys.PersonalKey}} {
			if !h.works(test.issued) || !test.issued.Secret.Names(test.issued.ID) || test.issued.Secret.Kind() != test.kind {
				t.Errorf("the secret of %s is not right", test.issued.ID)
			}
			if _, err := h.Format.ParseID(string(test.issued.ID)); err != nil {
				t.Errorf("%s: %v", test.issued.ID, err)
			}
		}
		got := h.read(service.ID)
		if got.Generation != 1 || got.TokenTTL != 2*time.Minute || !got.ExpiresAt.Equal(h.now.Add(time.Hour)) || got.Scopes.String() != "collectors:read" || len(got.Secrets) != 1 {
			t.Errorf("stored is %+v", got)
		}
		if service.Secret.Hint() != got.Secrets[0].Hint {
			t.Errorf("the stored hint is %q, want %q", got.Secrets[0].Hint, service.Secret.Hint())
		}
	})
}

func TestRotateKey(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		rotate := func(id keys.ID, grace time.Duration) manage.Issued {
			t.Helper()
			h.now = h.now.Add(time.Second)
			issued, err := h.RotateKey(t.Context(), operator, h.ws, id, manage.Rotation{Grace: grace})
			check(t, err)
			if issued.ID != id || h.read(id).Generation != 1 {
				t.Error("rotation changed the ID or denied tokens")
			}
			return issued
		}
		mustWork := func(what string, want bool, issued manage.Issued) {
			t.Helper()
			if h.works(issued) != want {
				t.Errorf("%s works: %v, want %v", what, !want, want)
			}
		}

		first := h.key(h.sa)
		second := rotate(first.ID, 0)
		mustWork("without grace the old secret", false, first)
		mustWork("the new secret", true, second)

		third := rotate(first.ID, time.Hour)
		h.now = h.now.Add(time.Hour - time.Microsecond)
		mustWork("within its grace the old secret", true, second)
		mustWork("the new secret", true, third)
		h.now = h.now.Add(time.Microsecond)
		mustWork("after its grace the old secret", false, second)
		mustWork("the new secret", true, third)

		fourth := rotate(first.ID, time.Hour)
		fifth := rotate(first.ID, time.Hour)
		mustWork("the oldest of three", false, third)
		mustWork("the one before", true, fourth)
		mustWork("the newest", true, fifth)

		sixth := rotate(first.ID, 0)
		mustWork("a secret in its grace, after a rotation without,", false, fourth)
		mustWork("the one before", false, fifth)
		mustWork("the newest", true, sixth)

		seventh := rotate(first.ID, time.Minute)
		eighth := rotate(first.ID, manage.MaxGrace)
		mustWork("a secret whose grace was shorter", false, sixth)
		mustWork("the one before", true, seventh)
		mustWork("the newest", true, eighth)
	})
}

func TestRotateKeyRefuses(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key, revoked := h.key(h.sa), h.key(h.sa)
		ending, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "x", ExpiresAt: h.now.Add(time.Second)})
		check(t, err)
		check(t, h.RevokeKey(t.Context(), operator, h.ws, revoked.ID, ""))
		h.now = h.now.Add(time.Second)
		before := h.dump()
		for name, test := range map[string]struct {
			id    keys.ID
			grace time.Duration
			kind  error
		}{
			"a negative grace": {key.ID, -1, workspace.ErrInvalid},
			"a long grace":     {key.ID, manage.MaxGrace + 1, workspace.ErrInvalid},
			"a revoked key":    {revoked.ID, 0, workspace.ErrConflict},
			"an expired key":   {ending.ID, 0, workspace.ErrConflict},
			"an unknown key":   {h.Format.NewID(), 0, workspace.ErrNotFound},
		} {
			_, err := h.RotateKey(t.Context(), operator, h.ws, test.id, manage.Rotation{Grace: test.grace})
			want(t, name, test.kind, err)
		}
		none := oauth.NewScope()
		want(t, "scopes of a revoked key", workspace.ErrConflict, h.SetKeyScopes(t.Context(), operator, h.ws, revoked.ID, &none))
		want(t, "scopes of an expired key", workspace.ErrConflict, h.SetKeyScopes(t.Context(), operator, h.ws, ending.ID, &none))
		if h.dump() != before {
			t.Error("a refusal changed something")
		}
	})
}

func TestRevokeKey(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		check(t, h.RevokeKey(t.Context(), operator, h.ws, key.ID, "lost"))
		events, at := len(h.events(string(h.ws))), h.now
		h.now = h.now.Add(time.Hour)
		check(t, h.RevokeKey(t.Context(), operator, h.ws, key.ID, "again"))
		got := h.read(key.ID)
		if !got.RevokedAt.Equal(at) || got.Generation != 2 || len(h.events(string(h.ws))) != events {
			t.Errorf("revoked at %s, generation %d, %d events; want the first revocation alone", got.RevokedAt, got.Generation, len(h.events(string(h.ws))))
		}
		if reason := get[string](h, `SELECT revoked_reason FROM keys WHERE id = ?`, key.ID); reason != "lost" {
			t.Errorf("the reason is %q", reason)
		}
		want(t, "an unknown key", workspace.ErrNotFound, h.RevokeKey(t.Context(), operator, h.ws, h.Format.NewID(), ""))
	})
}

// A key that is narrowed denies the tokens that it has; one that is widened has no
// reason to.
func TestSetKeyScopes(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		read, none := oauth.NewScope("collectors:read"), oauth.NewScope()
		for i, scopes := range []*oauth.Scope{&read, &none, nil} {
			check(t, h.SetKeyScopes(t.Context(), operator, h.ws, key.ID, scopes))
			got := h.read(key.ID)
			if want := []int64{2, 3, 3}[i]; got.Generation != want {
				t.Errorf("generation %d after change %d", got.Generation, i+1)
			}
			if (got.Scopes == nil) != (scopes == nil) || scopes != nil && got.Scopes.String() != scopes.String() {
				t.Errorf("the scopes are %v, want %v", got.Scopes, scopes)
			}
		}
		if !h.works(key) {
			t.Error("the secret stopped working")
		}
	})
}

func TestClosingDeniesTokens(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		check(t, h.DisableServiceAccount(t.Context(), operator, h.ws, h.sa))
		check(t, h.SuspendWorkspace(t.Context(), operator, h.ws))
		got := h.read(key.ID)
		if got.OwnerGeneration != 2 || !got.OwnerDisabledAt.Equal(h.now) || got.WorkspaceGeneration != 2 || !got.WorkspaceSuspendedAt.Equal(h.now) {
			t.Errorf("read is %+v", got)
		}
	})
}
