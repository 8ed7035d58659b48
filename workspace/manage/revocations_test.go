package manage_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// What takes something away leaves rows in the same transaction, each with the
// generation that the database then has; what does not leaves none.
func TestWhatIsTakenAwayIsDenied(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		ctx, key := t.Context(), h.key(h.sa)
		personal, err := h.CreateKey(ctx, operator, h.ws, manage.NewKey{UserID: h.manager, Name: "mine"})
		check(t, err)
		read, none := oauth.NewScope("collectors:read"), oauth.NewScope()
		no, yes, role, text := false, true, "viewer", "x"
		later := h.now.Add(time.Hour)
		names := strings.NewReplacer(string(key.ID), "key", string(personal.ID), "mine", string(h.sa), "account", string(h.ws), "workspace", string(h.manager), "manager")
		seen := int64(0)
		account := func(c manage.ServiceAccountChange) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := h.UpdateServiceAccount(ctx, operator, h.ws, h.sa, c)
				return err
			}
		}
		update := func(c manage.KeyChange) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := h.UpdateKey(ctx, operator, h.ws, key.ID, c)
				return err
			}
		}
		networks := func(list ...string) func(context.Context) error {
			var prefixes []netip.Prefix
			for _, text := range list {
				prefixes = append(prefixes, netip.MustParsePrefix(text))
			}
			return update(manage.KeyChange{AllowedCIDRs: &prefixes})
		}
		scopes := func(s *oauth.Scope) manage.KeyChange { return manage.KeyChange{Scopes: &s} }
		for i, c := range []struct {
			do   func(context.Context) error
			want string
		}{
			{update(manage.KeyChange{Description: &text}), ""},
			{update(scopes(&read)), "key key 2"},
			{update(scopes(nil)), ""},
			{update(manage.KeyChange{ExpiresAt: &later}), "key key 3"},
			{update(manage.KeyChange{ExpiresAt: new(time.Time)}), ""},
			{update(manage.KeyChange{Audiences: &[]string{"https://api.example.com"}}), "key key 4"},
			{update(manage.KeyChange{Audiences: &[]string{}}), ""},
			{networks("10.0.0.0/8"), "key key 5"},
			{networks("10.1.0.0/16"), "key key 6"},
			{networks("10.1.2.3/32", "10.1.0.0/16"), ""},
			{networks("10.0.0.0/8"), ""},
			{networks(), ""},
			{func(ctx context.Context) error {
				_, err := h.RotateKey(ctx, operator, h.ws, key.ID, manage.Rotation{})
				return err
			}, ""},
			{func(ctx context.Context) error {
				_, err := h.RotateKey(ctx, operator, h.ws, key.ID, manage.Rotation{RevokeTokens: true})
				return err
			}, "key key 7"},
			{account(manage.ServiceAccountChange{Name: &text}), ""},
			{account(manage.ServiceAccountChange{Role: &role}), "sub account 2"},
			{account(manage.ServiceAccountChange{Enabled: &no}), "sub account 3"},
			{account(manage.ServiceAccountChange{Enabled: &yes}), ""},
			{account(manage.ServiceAccountChange{Scopes: &none}), "sub account 4"},
			{func(ctx context.Context) error {
				_, err := h.SetMemberRole(ctx, operator, h.ws, h.manager, workspace.Viewer)
				return err
			}, "key mine 2"},
			{func(ctx context.Context) error {
				_, err := h.UpdateUser(ctx, operator, h.manager, manage.UserChange{Enabled: &no})
				return err
			}, "sub manager 2"},
			{func(ctx context.Context) error { return h.RemoveMember(ctx, operator, h.ws, h.manager) }, "key mine 3"},
			{func(ctx context.Context) error { return h.RevokeKey(ctx, operator, h.ws, key.ID, "") }, "key key 8"},
			{func(ctx context.Context) error { return h.RevokeKey(ctx, operator, h.ws, key.ID, "") }, ""},
			{func(ctx context.Context) error { return h.SuspendWorkspace(ctx, operator, h.ws) }, "ws workspace 2"},
			{func(ctx context.Context) error { return h.ResumeWorkspace(ctx, operator, h.ws) }, ""},
			{func(ctx context.Context) error { return h.DeleteServiceAccount(ctx, operator, h.ws, h.sa) }, "sub account 5"},
			{func(ctx context.Context) error { return h.DeleteWorkspace(ctx, operator, h.ws) }, "ws workspace 3"},
		} {
			if err := c.do(ctx); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			entries, err := revocation.Since(ctx, db.Reader(), seen, 100)
			check(t, err)
			var got []string
			for _, e := range entries {
				if seen++; e.Seq != seen || !e.At.Equal(h.now) {
					t.Errorf("step %d: entry %+v, want number %d", i, e, seen)
				}
				got = append(got, names.Replace(fmt.Sprint(e.Kind, " ", e.SubjectID, " ", e.Generation)))
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("step %d denies %q, want %q", i, got, c.want)
			}
		}
		if got := h.read(key.ID); got.Generation != 8 || got.WorkspaceGeneration != 3 {
			t.Errorf("the key ends at %d, the workspace at %d", got.Generation, got.WorkspaceGeneration)
		}
		var gen int64
		check(t, sqlx.GetContext(ctx, db.Reader(), &gen, `SELECT generation FROM service_accounts WHERE id = ?`, h.sa))
		if gen != 5 {
			t.Errorf("the account ends at %d", gen)
		}
	})
}

// Of all that happens at once, somebody stays in charge.
func TestSomebodyStaysInCharge(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		second := h.user("second", false)
		check(t, h.AddMember(t.Context(), operator, h.ws, second, workspace.Owner))
		done := make(chan error, 2)
		for _, id := range []workspace.UserID{h.owner, second} {
			go func() { done <- h.RemoveMember(context.Background(), operator, h.ws, id) }()
		}
		first, other := <-done, <-done
		if (first == nil) == (other == nil) {
			t.Errorf("two owners removed at once: %v and %v", first, other)
		}
		if n := get[int](h, `SELECT count(*) FROM members WHERE role = 'owner'`); n != 1 {
			t.Errorf("%d owners are left", n)
		}
	})
}

// The webhook is told of what happens to keys, in the same transaction.
func TestAnnouncements(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.key(h.sa)
		if n := get[int](h, `SELECT count(*) FROM webhook_outbox`); n != 0 {
			t.Errorf("%d announcements although nobody listens", n)
		}
		h.Announce = true
		key := h.key(h.sa)
		_, err := h.RotateKey(t.Context(), operator, h.ws, key.ID, manage.Rotation{})
		check(t, err)
		check(t, h.DeleteKey(t.Context(), operator, h.ws, key.ID))
		var types []string
		check(t, sqlx.SelectContext(t.Context(), db.Reader(), &types, `SELECT type FROM webhook_outbox ORDER BY id`))
		if got := strings.Join(types, " "); got != "key.created key.rotated key.revoked key.deleted" {
			t.Errorf("announced: %s", got)
		}
	})
}
