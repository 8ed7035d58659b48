package keys_test

import (
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Live keys that end soon are counted, each with those before it; the borders belong
// to the nearer count.
func TestCountExpiring(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		const day = 24 * time.Hour
		now := time.Now().Truncate(time.Microsecond)
		want := func(want keys.Expiring) {
			t.Helper()
			got, err := keys.CountExpiring(t.Context(), db.Reader(), now)
			if must(t, got, err) != want {
				t.Errorf("counted %+v, want %+v", got, want)
			}
		}
		h.key() // which never ends
		want(keys.Expiring{})
		for _, in := range []time.Duration{-time.Hour, 0, time.Hour, day, day + time.Microsecond, 7 * day, 14 * day, 14*day + time.Microsecond} {
			exec(t, db, `UPDATE keys SET expires_at = ? WHERE id = ?`, workspace.At(now.Add(in)), h.key().ID)
		}
		want(keys.Expiring{Day: 2, Week: 4, Fortnight: 5})
		exec(t, db, `UPDATE keys SET revoked_at = ? WHERE expires_at <= ?`, workspace.At(now), workspace.At(now.Add(day)))
		want(keys.Expiring{Week: 2, Fortnight: 3})
		exec(t, db, `UPDATE workspaces SET deleted_at = ?`, workspace.At(now))
		want(keys.Expiring{})
	})
}
