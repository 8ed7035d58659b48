package keys_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

var noon = workspace.At(time.Date(2030, 1, 2, 12, 0, 0, 123456000, time.UTC))

func TestStoredKeyIsReadAsItWas(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		none, some := oauth.NewScope(), oauth.NewScope("collectors:create", "collectors:read")
		for name, scopes := range map[string]*oauth.Scope{"all scopes": nil, "no scopes": &none, "some scopes": &some} {
			want := keys.Key{
				ID: h.Format.NewID(), WorkspaceID: h.ws.ID, ServiceAccountID: h.sa.ID, Name: name, Scopes: scopes,
				Audiences:    []string{"https://b.example.com", "https://a.example.com"},
				AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
				TokenTTL:     7 * time.Minute, PerMinute: 60, MaxUses: 9, Generation: 3, ExpiresAt: noon, CreatedAt: noon, UpdatedAt: noon,
			}
			h.inTx(func(tx sqlx.ExtContext) error { return keys.Insert(t.Context(), tx, want) })
			got := h.read(want.ID)
			want.UpdatedAt = workspace.Time{} // an exchange does not need it
			if diff := cmp.Diff(want, got.Key, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			if (got.Scopes == nil) != (scopes == nil) {
				t.Errorf("%s: no scopes and all scopes are confused", name)
			}
			if got.WorkspaceSlug != "acme" || got.OwnerRole != "admin" || got.OwnerGone {
				t.Errorf("%s: it is read with another owner: %+v", name, got)
			}
		}
		if _, err := keys.Read(t.Context(), db.Reader(), h.Format.NewID()); !errors.Is(err, workspace.ErrNotFound) {
			t.Errorf("an unknown key: %v, want ErrNotFound", err)
		}
	})
}

// Callers at once get exactly as many uses as there are, and none of a revoked key.
func TestSpendUse(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		id := h.key().ID
		spend := func() bool {
			left, err := keys.SpendUse(t.Context(), db.Writer(), id)
			if err != nil {
				t.Error(err)
			}
			return left
		}
		exec(t, db, `UPDATE keys SET max_uses = 7 WHERE id = ?`, id)
		var spent atomic.Int64
		var running sync.WaitGroup
		for range 30 {
			running.Go(func() {
				if spend() {
					spent.Add(1)
				}
			})
		}
		running.Wait()
		if spent.Load() != 7 || h.read(id).Uses != 7 {
			t.Errorf("%d were spent, %d are counted, want 7", spent.Load(), h.read(id).Uses)
		}
		if err := keys.RefundUse(t.Context(), db.Writer(), id); err != nil {
			t.Fatal(err)
		}
		if !spend() || spend() {
			t.Error("one that was given back is not there, or two are")
		}
		exec(t, db, `UPDATE keys SET max_uses = 100, revoked_at = 1 WHERE id = ?`, id)
		if spend() {
			t.Error("a revoked key has a use left")
		}
	})
}

// Each live key comes once, with what Read says of it.
func TestEachLive(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		want := map[keys.ID]*keys.Record{}
		for i := range 5 {
			id := h.key().ID
			for range i { // with so many secrets more
				h.inTx(func(tx sqlx.ExtContext) error {
					return keys.InsertSecret(t.Context(), tx, id, keys.StoredSecret{ID: workspace.Unique(), Digest: keys.Digest{Pepper: 1, Sum: []byte{1}}, CreatedAt: noon, ExpiresAt: noon})
				})
			}
			want[id] = h.read(id)
		}
		revoked, expired := h.key().ID, h.key().ID
		exec(t, db, `UPDATE keys SET revoked_at = 1 WHERE id = ?`, revoked)
		exec(t, db, `UPDATE keys SET expires_at = ? WHERE id = ?`, noon, expired)
		for in, n := range map[workspace.ID]int{"": 5, h.ws.ID: 5, "ws_other": 0} {
			seen := map[keys.ID]bool{}
			err := keys.EachLive(t.Context(), db.Reader(), in, noon, func(r *keys.Record) {
				if diff := cmp.Diff(want[r.ID], r, cmpopts.IgnoreUnexported(keys.Record{}), cmpopts.EquateEmpty()); diff != "" || seen[r.ID] {
					t.Errorf("%s, seen before: %v: %s", r.ID, seen[r.ID], diff)
				}
				seen[r.ID] = true
			})
			if err != nil || len(seen) != n {
				t.Errorf("in %q: %d keys, %v", in, len(seen), err)
			}
		}
		if n, err := keys.CountLive(t.Context(), db.Reader(), h.ws.ID, noon); err != nil || n != 5 {
			t.Errorf("%d are counted, %v", n, err)
		}
	})
}

func exec(t *testing.T, db *schema.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Writer().ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func TestRevokeOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		id := h.key().ID
		for i, want := range []bool{true, false} {
			h.inTx(func(tx sqlx.ExtContext) error {
				_, live, err := keys.Revoke(t.Context(), tx, id, "lost", workspace.At(noon.Add(time.Duration(i)*time.Hour)))
				if live != want {
					t.Errorf("call %d reports %v, want %v", i+1, live, want)
				}
				return err
			})
		}
		if got := h.read(id); got.Generation != 2 || !got.RevokedAt.Equal(noon.Time) {
			t.Errorf("generation %d, revoked at %s; want 2 and the first instant", got.Generation, got.RevokedAt)
		}
	})
}

func TestFindLive(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		first, second := h.key(), h.key()
		id, err := keys.FindLive(t.Context(), db.Reader(), h.ws.ID, string(h.sa.ID), "ci", noon)
		if check(t, err); id != second.ID || id == first.ID {
			t.Errorf("found %s, want the newest, %s", id, second.ID)
		}
		check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
			_, _, err := keys.Revoke(ctx, tx, second.ID, "lost", noon)
			return err
		}))
		if id, err := keys.FindLive(t.Context(), db.Reader(), h.ws.ID, string(h.sa.ID), "ci", noon); err != nil || id != first.ID {
			t.Errorf("found %s, %v; want the one that is not revoked", id, err)
		}
		for name, find := range map[string]struct {
			ws          workspace.ID
			owner, name string
		}{
			"another name":      {h.ws.ID, string(h.sa.ID), "cd"},
			"another owner":     {h.ws.ID, "sa_other", "ci"},
			"another workspace": {"ws_other", string(h.sa.ID), "ci"},
		} {
			if id, err := keys.FindLive(t.Context(), db.Reader(), find.ws, find.owner, find.name, noon); !errors.Is(err, workspace.ErrNotFound) {
				t.Errorf("%s: %q, %v; want ErrNotFound", name, id, err)
			}
		}
	})
}

// However often and with whatever grace a key is rotated, its newest secret
// lives, at most one other does, and that is the one before.
func TestAtMostTwoSecretsLive(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	rapid.Check(t, func(rt *rapid.T) {
		h.inTx(func(tx sqlx.ExtContext) error {
			id, now := h.Format.NewID(), noon.Time
			key := keys.Key{ID: id, WorkspaceID: h.ws.ID, ServiceAccountID: h.sa.ID, Name: "ci", Generation: 1, CreatedAt: noon, UpdatedAt: noon}
			check(rt, keys.Insert(t.Context(), tx, key))
			addSecret(rt, tx, id, now)
			for range rapid.IntRange(1, 10).Draw(rt, "rotations") {
				now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(rt, "pause")) * time.Second)
				grace := time.Duration(rapid.IntRange(0, 100).Draw(rt, "grace")) * time.Second
				before := readSecrets(rt, tx, id)[0].ID
				check(rt, keys.EndSecrets(t.Context(), tx, id, workspace.At(now.Add(grace)), keys.MaxLiveSecrets-1, workspace.At(now)))
				addSecret(rt, tx, id, now)
				for i, s := range readSecrets(rt, tx, id) {
					if want := i == 0 || s.ID == before && grace > 0; s.Live(now) != want {
						rt.Fatalf("secret %d is live: %v, want %v", i, s.Live(now), want)
					}
					if i == 1 && s.Live(now.Add(grace)) {
						rt.Fatal("the secret before outlives its grace")
					}
				}
			}
			return nil
		})
	})
}

func addSecret(t *rapid.T, tx sqlx.ExtContext, id keys.ID, now time.Time) {
	check(t, keys.InsertSecret(t.Context(), tx, id, keys.StoredSecret{
		ID: workspace.Unique(), Digest: keys.Digest{Sum: []byte{1}}, CreatedAt: workspace.At(now),
	}))
}

func readSecrets(t *rapid.T, tx sqlx.ExtContext, id keys.ID) []keys.StoredSecret {
	record, err := keys.Read(t.Context(), tx, id)
	return must(t, record, err).Secrets
}

// The newest secrets are the ones that are read, of however many there were.
func TestReadFindsTheLiveSecretsAmongMany(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		id := h.key().ID
		var ids []string
		for range 30 {
			issued, err := h.RotateKey(t.Context(), operator, h.ws.ID, id, manage.Rotation{Grace: time.Hour})
			check(t, err)
			ok, err := h.Peppers.Matches(id, issued.Secret, h.read(id).Secrets[0].Digest)
			if check(t, err); !ok {
				t.Fatal("the newest secret is not read first")
			}
			ids = append(ids, h.read(id).Secrets[0].ID)
		}
		live := slices.DeleteFunc(h.read(id).Secrets, func(s keys.StoredSecret) bool { return !s.Live(time.Now()) })
		if len(live) != 2 || live[0].ID != ids[29] || live[1].ID != ids[28] {
			t.Errorf("%d secrets are live, want the two newest", len(live))
		}
	})
}
