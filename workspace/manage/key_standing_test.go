package manage_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// What a key can do now is less than what it was given, and people are told why.
func TestHowAKeyStands(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		scopes := oauth.NewScope("collectors:create", "collectors:read")
		key, err := h.CreateKey(t.Context(), manage.User(h.manager), h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "ci", Scopes: &scopes})
		check(t, err)
		s, err := h.KeyStanding(t.Context(), manage.User(h.viewer), h.ws, key.ID)
		check(t, err)
		if !slices.Equal(s.Holds, scopes) || s.Owner.Name != "ci" || s.Owner.Role != "admin" || s.Creator != "manager@example.com" || len(s.Violations) > 0 {
			t.Errorf("at first: %+v", s)
		}
		role := "viewer"
		_, err = h.UpdateServiceAccount(t.Context(), operator, h.ws, h.sa, manage.ServiceAccountChange{Role: &role})
		check(t, err)
		_, _, err = h.SetKeyPolicy(t.Context(), operator, h.ws, policy.Rules{RequireNetworks: ptr(true), MaxGraceSeconds: ptr[int64](60)})
		check(t, err)
		check(t, h.DisableServiceAccount(t.Context(), operator, h.ws, h.sa))
		s, err = h.KeyStanding(t.Context(), manage.User(h.viewer), h.ws, key.ID)
		check(t, err)
		if !slices.Equal(s.Holds, oauth.NewScope("collectors:read")) || len(s.Violations) != 1 || s.Violations[0].Rule != policy.RuleNetworks ||
			s.Bounds.MaxGrace != time.Minute || s.Owner.DisabledAt.IsZero() || s.Owner.Gone {
			t.Errorf("then: %+v", s)
		}
		_, err = h.KeyStanding(t.Context(), manage.User(h.outsider), h.ws, key.ID)
		want(t, "an outsider", workspace.ErrNotFound, err)
		other, err := h.CreateWorkspace(t.Context(), operator, "Other", "")
		check(t, err)
		_, err = h.KeyStanding(t.Context(), operator, other.ID, key.ID)
		want(t, "another workspace", workspace.ErrNotFound, err)
	})
}

// A personal key names its person and their role, and says when they have left.
func TestHowAPersonalKeyStands(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	key, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{UserID: h.manager, Name: "mine"})
	check(t, err)
	s, err := h.KeyStanding(t.Context(), operator, h.ws, key.ID)
	check(t, err)
	if s.Owner.Name != "manager@example.com" || s.Owner.Role != "manager" || s.Owner.Gone || s.Creator != "" {
		t.Errorf("%+v", s)
	}
}

// The newest revocation of a key is found by the key, by whoever may read tokens.
func TestReceiptOfAKey(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		_, found, err := h.KeyReceipt(t.Context(), manage.User(h.viewer), h.ws, key.ID)
		check(t, err)
		if found {
			t.Error("nothing was denied, and there is a receipt")
		}
		networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		_, err = h.UpdateKey(t.Context(), operator, h.ws, key.ID, manage.KeyChange{AllowedCIDRs: &networks})
		check(t, err)
		var denial manage.Denial
		check(t, h.RevokeKey(t.Context(), operator.Denying(&denial), h.ws, key.ID, ""))
		r, found, err := h.KeyReceipt(t.Context(), manage.User(h.viewer), h.ws, key.ID)
		check(t, err)
		if !found || r.Seq != denial.Sequence || r.Cause != revocation.Revoked || !r.ExpiresAt.Equal(denial.DeadBy) {
			t.Errorf("found %v: %+v, denied %+v", found, r, denial)
		}
		_, _, err = h.KeyReceipt(t.Context(), manage.User(h.outsider), h.ws, key.ID)
		want(t, "an outsider", workspace.ErrNotFound, err)
		check(t, h.DeleteKey(t.Context(), operator, h.ws, key.ID))
		_, _, err = h.KeyReceipt(t.Context(), operator, h.ws, key.ID)
		want(t, "a deleted key", workspace.ErrNotFound, err)
	})
}
