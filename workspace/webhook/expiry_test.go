package webhook_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
)

const day = 24 * time.Hour

func (s *sending) announceAt(d time.Duration) {
	s.t.Helper()
	s.clock.set(after(d))
	check(s.t, s.AnnounceExpiries(s.t.Context()))
}

// Each stage is announced once, and only the tightest that applies.
func TestExpiryIsAnnouncedInStages(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h, s := newHouse(t, db), newSending(t, db, "http://localhost")
		long, short, brief, far := h.key(30*day), h.key(3*day), h.key(time.Hour), h.key(90*day)
		h.key(0)
		for hour := time.Duration(0); hour <= 31*24; hour += 6 {
			s.announceAt(hour * time.Hour)
		}
		want := map[keys.ID][]string{
			long:  {"key.expiring 14", "key.expiring 7", "key.expiring 1"},
			short: {"key.expiring 7", "key.expiring 1"},
			brief: {"key.expiring 1"},
		}
		if diff := cmp.Diff(want, h.announced()); diff != "" {
			t.Errorf("announced (-want +got):\n%s", diff)
		}
		s.announceAt(80 * day) // after a long pause
		want[far] = []string{"key.expiring 14"}
		if diff := cmp.Diff(want, h.announced()); diff != "" {
			t.Errorf("announced after a pause (-want +got):\n%s", diff)
		}
		s.announceAt(100 * day)
		if n := get[int](t, db, `SELECT count(*) FROM webhook_expiry_notices`); n != 0 {
			t.Errorf("%d notes of expired keys are kept", n)
		}
	})
}

// The borders of the stages: exactly so many days before belongs to the stage.
func TestExpiryStagesHaveBorders(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h, s := newHouse(t, db), newSending(t, db, "http://localhost")
		tick := time.Microsecond
		want := map[keys.ID][]string{
			h.key(14 * day): {"key.expiring 14"}, h.key(7*day + tick): {"key.expiring 14"},
			h.key(7 * day): {"key.expiring 7"}, h.key(day + tick): {"key.expiring 7"},
			h.key(day): {"key.expiring 1"}, h.key(tick): {"key.expiring 1"},
		}
		h.key(14*day + tick)
		h.key(-tick)
		s.announceAt(0)
		if diff := cmp.Diff(want, h.announced()); diff != "" {
			t.Errorf("announced (-want +got):\n%s", diff)
		}
	})
}

func TestOnlyLiveKeysAreAnnounced(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h, s := newHouse(t, db), newSending(t, db, "http://localhost")
		revoked, deleted, live := h.key(3*day), h.key(3*day), h.key(3*day)
		exec(t, db, `UPDATE keys SET revoked_at = 1 WHERE id = ?`, revoked)
		exec(t, db, `UPDATE keys SET deleted_at = 1 WHERE id = ?`, deleted)
		s.announceAt(0)
		exec(t, db, `UPDATE keys SET expires_at = ? WHERE id = ?`, after(5*day), live) // another end: it is news
		s.announceAt(time.Hour)
		want := map[keys.ID][]string{live: {"key.expiring 7", "key.expiring 7"}}
		if diff := cmp.Diff(want, h.announced()); diff != "" {
			t.Errorf("announced (-want +got):\n%s", diff)
		}
		exec(t, db, `UPDATE workspaces SET deleted_at = 1`)
		h.key(2 * day)
		s.announceAt(time.Hour)
		if diff := cmp.Diff(want, h.announced()); diff != "" {
			t.Errorf("announced of a deleted workspace (-want +got):\n%s", diff)
		}
	})
}

// Replicas that look at once announce each key once, also more than go into one
// transaction.
func TestReplicasAnnounceOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		const number = 250
		h := newHouse(t, db)
		for range number {
			h.key(3 * day)
		}
		var running sync.WaitGroup
		for range 3 {
			s := newSending(t, db, "http://localhost")
			running.Go(func() {
				if err := s.AnnounceExpiries(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		for id, got := range h.announced() {
			if len(got) != 1 {
				t.Errorf("key %s was announced %d times", id, len(got))
			}
		}
		if n := len(h.announced()); n != number {
			t.Errorf("%d keys were announced, want %d", n, number)
		}
	})
}
