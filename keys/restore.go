package keys

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// SetRevoked stores whether a key is revoked, why, and its generation, as they are
// in k: a database that was restored has them from before.
func SetRevoked(ctx context.Context, tx sqlx.ExtContext, k Key, reason string, at workspace.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE keys SET revoked_at = ?, revoked_reason = CASE WHEN revoked_at IS NULL THEN ? ELSE revoked_reason END,
		generation = ?, updated_at = ? WHERE id = ?`, k.RevokedAt, reason, k.Generation, at, k.ID)
	if err != nil {
		return fmt.Errorf("restore key %s: %w", k.ID, err)
	}
	return nil
}
