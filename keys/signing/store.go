package signing

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

const columns = `kid, purpose, alg, state, public_jwk, sealed, kek_id, created_at, published_at, activated_at, retired_at, needed_until, removed_at`

// Insert stores a new key. It reports false when its slot has a key in that state
// already, of which there can be one, and then stores nothing.
func Insert(ctx context.Context, tx sqlx.ExtContext, s Stored) (bool, error) {
	return changes(tx.ExecContext(ctx, `INSERT INTO signing_keys (`+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		s.ID, s.Purpose, s.Algorithm, s.State, s.PublicJWK, s.Sealed, s.SealerID, s.CreatedAt, s.PublishedAt, s.ActivatedAt, s.RetiredAt, s.NeededUntil, s.RemovedAt))
}

// All reads every key there ever was, oldest first. Removed ones have no private
// part.
func All(ctx context.Context, q sqlx.ExtContext) ([]Stored, error) {
	return query(ctx, q, `SELECT `+columns+` FROM signing_keys ORDER BY created_at, kid`)
}

// Published reads the keys of every purpose that are not removed, oldest first.
func Published(ctx context.Context, q sqlx.ExtContext) ([]Stored, error) {
	return query(ctx, q, `SELECT `+columns+` FROM signing_keys WHERE state <> 'removed' ORDER BY created_at, kid`)
}

func query(ctx context.Context, q sqlx.ExtContext, text string) ([]Stored, error) {
	var stored []Stored
	if err := sqlx.SelectContext(ctx, q, &stored, text); err != nil {
		return nil, fmt.Errorf("read the signing keys: %w", err)
	}
	return stored, nil
}

// The steps of a key's life. Each changes a key only in the state that comes
// before, and reports whether it did; what has to be true besides is in its
// condition, so that two who try at once cannot both succeed.

// MarkPublished notes when every replica was known to publish a pending key.
func MarkPublished(ctx context.Context, tx sqlx.ExtContext, kid string, at workspace.Time) (bool, error) {
	return changes(tx.ExecContext(ctx, `UPDATE signing_keys SET published_at = ? WHERE kid = ? AND state = 'pending' AND published_at IS NULL`, at, kid))
}

// Activate makes a pending key sign that has been published for long enough: no
// later than the given time. No other key of its slot may be active.
func Activate(ctx context.Context, tx sqlx.ExtContext, kid string, at, published workspace.Time) (bool, error) {
	return changes(tx.ExecContext(ctx, `UPDATE signing_keys SET state = 'active', activated_at = ? WHERE kid = ? AND state = 'pending' AND published_at <= ?`, at, kid, published))
}

// Retire makes an active key stop signing.
func Retire(ctx context.Context, tx sqlx.ExtContext, kid string, at workspace.Time) (bool, error) {
	return changes(tx.ExecContext(ctx, `UPDATE signing_keys SET state = 'retiring', retired_at = ? WHERE kid = ? AND state = 'active'`, at, kid))
}

// MarkNeeded notes until when tokens of a retiring key may be good. Every
// replica must be known to have stopped signing with it.
func MarkNeeded(ctx context.Context, tx sqlx.ExtContext, kid string, until workspace.Time) (bool, error) {
	return changes(tx.ExecContext(ctx, `UPDATE signing_keys SET needed_until = ? WHERE kid = ? AND state = 'retiring' AND needed_until IS NULL`, until, kid))
}

// Rewrap replaces the seal of a key that another key-encryption key has sealed. It is
// no step of its life: its state stays as it is.
func Rewrap(ctx context.Context, tx sqlx.ExtContext, key Stored) (bool, error) {
	return changes(tx.ExecContext(ctx, `UPDATE signing_keys SET sealed = ?, kek_id = ? WHERE kid = ? AND state <> 'removed' AND kek_id <> ?`, key.Sealed, key.SealerID, key.ID, key.SealerID))
}

// Remove destroys the private part of a key that no live token needs: one that
// never signed, or one whose tokens have all expired by now.
func Remove(ctx context.Context, tx sqlx.ExtContext, kid string, now workspace.Time) (bool, error) {
	return changes(tx.ExecContext(ctx, `UPDATE signing_keys SET state = 'removed', removed_at = ?, sealed = NULL WHERE kid = ? AND (state = 'pending' OR (state = 'retiring' AND needed_until <= ?))`, now, kid, now))
}

// Distrust removes a key whatever still needs it.
func Distrust(ctx context.Context, tx sqlx.ExtContext, kid string, now workspace.Time) (bool, error) {
	return changes(tx.ExecContext(ctx, `UPDATE signing_keys SET state = 'removed', removed_at = ?, sealed = NULL WHERE kid = ? AND state <> 'removed'`, now, kid))
}

func changes(result interface{ RowsAffected() (int64, error) }, err error) (bool, error) {
	if err != nil {
		return false, fmt.Errorf("change a signing key: %w", err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}
