package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace/webhook"
)

// An event goes with the change that it tells of.
func TestRollbackLeavesNoEvent(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		giveUp := errors.New("given up")
		err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
			if err := webhook.Enqueue(ctx, tx, event(webhook.KeyCreated)); err != nil {
				return err
			}
			return giveUp
		})
		if !errors.Is(err, giveUp) || rows(t, db) != 0 {
			t.Errorf("%v, and %d events are left", err, rows(t, db))
		}
		enqueue(t, db, event(webhook.KeyCreated))
		if rows(t, db) != 1 {
			t.Errorf("%d events after a commit, want 1", rows(t, db))
		}
	})
}

// fill leaves room for so many events.
func fill(t testing.TB, db *schema.DB, room int) {
	t.Helper()
	exec(t, db, fmt.Sprintf(`INSERT INTO webhook_outbox (id, type, payload, created_at, next_at)
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		SELECT 'msg_' || i, 'key.created', '{}', 0, 9000000000000000 FROM n`, webhook.Bound-room))
}

// A full outbox costs events, never the change. The announcement of an expiry
// only waits.
func TestFullOutbox(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h, s := newHouse(t, db), newSending(t, db, "http://localhost")
		id := h.key(3 * day)
		fill(t, db, 1)
		before := webhook.Dropped()
		enqueue(t, db, event(webhook.KeyCreated))
		if rows(t, db) != webhook.Bound || webhook.Dropped() != before {
			t.Fatalf("%d events wait, %d were dropped: the last one should fit", rows(t, db), webhook.Dropped()-before)
		}
		enqueue(t, db, event(webhook.KeyRotated), event(webhook.KeyRevoked))
		if err := s.AnnounceExpiries(t.Context()); err == nil {
			t.Error("an expiry was announced")
		}
		if rows(t, db) != webhook.Bound || webhook.Dropped() != before+2 {
			t.Errorf("%d events wait, %d were dropped, want %d and 2", rows(t, db), webhook.Dropped()-before, webhook.Bound)
		}
		exec(t, db, `DELETE FROM webhook_outbox`)
		s.announceAt(time.Hour)
		if diff := cmp.Diff(map[keys.ID][]string{id: {"key.expiring 7"}}, h.announced()); diff != "" {
			t.Errorf("announced (-want +got):\n%s", diff)
		}
	})
}
