package webhook

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Bound is how many events may wait. A receiver that is away for long must not
// fill the database.
const Bound = 100_000

// dropped counts the events that found the outbox full.
var dropped atomic.Uint64

// Dropped counts the events that this process did not put into a full outbox.
func Dropped() uint64 { return dropped.Load() }

// Enqueue puts an event into the outbox, in the transaction of the change that
// it tells of. A full outbox does not fail the change: the event is dropped and
// counted.
func Enqueue(ctx context.Context, tx sqlx.ExtContext, e Event) error {
	stored, err := insert(ctx, tx, e)
	if err == nil && !stored {
		dropped.Add(1)
	}
	return err
}

// insert reports false when the outbox is full.
func insert(ctx context.Context, tx sqlx.ExtContext, e Event) (stored bool, err error) {
	id := "msg_" + workspace.Unique()
	payload, err := e.payload(id)
	if err != nil {
		return false, err
	}
	result, err := tx.ExecContext(ctx, `INSERT INTO webhook_outbox (id, type, payload, created_at, next_at)
		SELECT CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT)
		WHERE NOT EXISTS (SELECT 1 FROM webhook_outbox LIMIT 1 OFFSET ?)`, id, e.Type, payload, e.At, e.At, Bound-1)
	if err != nil {
		return false, fmt.Errorf("put %s into the webhook's outbox: %w", e.Type, err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// message is a row of the outbox that is to be sent now.
type message struct {
	ID        string         `db:"id"`
	Type      string         `db:"type"`
	Payload   string         `db:"payload"`
	CreatedAt workspace.Time `db:"created_at"`
	Attempts  int            `db:"attempts"` // with the one to come
}

// due lists some of the events whose time has come, the oldest first.
func due(ctx context.Context, q sqlx.ExtContext, now workspace.Time) ([]string, error) {
	var ids []string
	err := sqlx.SelectContext(ctx, q, &ids, `SELECT id FROM webhook_outbox WHERE next_at <= ? ORDER BY next_at, id LIMIT 100`, now)
	if err != nil {
		return nil, fmt.Errorf("read the webhook's outbox: %w", err)
	}
	return ids, nil
}

// claim takes an event for an attempt: until then, no other replica sends it. It
// reports false when another one was first.
func claim(ctx context.Context, w sqlx.ExtContext, id string, now, until workspace.Time) (message, bool, error) {
	var claimed []message
	err := sqlx.SelectContext(ctx, w, &claimed, `UPDATE webhook_outbox SET attempts = attempts + 1, next_at = ?
		WHERE id = ? AND next_at <= ? RETURNING id, type, payload, created_at, attempts`, until, id, now)
	if err != nil {
		return message{}, false, fmt.Errorf("claim the event %s: %w", id, err)
	}
	if len(claimed) == 0 {
		return message{}, false, nil
	}
	return claimed[0], true, nil
}

// postpone puts an event back. When the claim had run out and another replica
// has it now, its claim stays.
func postpone(ctx context.Context, w sqlx.ExtContext, m message, at workspace.Time, why string) error {
	_, err := w.ExecContext(ctx, `UPDATE webhook_outbox SET next_at = ?, last_error = ? WHERE id = ? AND attempts = ?`,
		at, why, m.ID, m.Attempts)
	if err != nil {
		return fmt.Errorf("postpone the event %s: %w", m.ID, err)
	}
	return nil
}

// release gives a claim back as if it had not been.
func release(ctx context.Context, w sqlx.ExtContext, m message, now workspace.Time) error {
	_, err := w.ExecContext(ctx, `UPDATE webhook_outbox SET next_at = ?, attempts = attempts - 1 WHERE id = ? AND attempts = ?`,
		now, m.ID, m.Attempts)
	if err != nil {
		return fmt.Errorf("release the event %s: %w", m.ID, err)
	}
	return nil
}

// remove ends an event: it was taken, or given up.
func remove(ctx context.Context, w sqlx.ExtContext, m message) error {
	if _, err := w.ExecContext(ctx, `DELETE FROM webhook_outbox WHERE id = ?`, m.ID); err != nil {
		return fmt.Errorf("remove the event %s: %w", m.ID, err)
	}
	return nil
}

func count(ctx context.Context, q sqlx.ExtContext) (n int64, err error) {
	if err := sqlx.GetContext(ctx, q, &n, `SELECT count(*) FROM webhook_outbox`); err != nil {
		return 0, fmt.Errorf("count the webhook's outbox: %w", err)
	}
	return n, nil
}
