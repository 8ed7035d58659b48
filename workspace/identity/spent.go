package identity

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Spend notes that something which may be used once was used: on any replica, and
// whoever comes second gets ErrConflict. digest names it without telling it; after
// expires it is refused for its age anyhow, and the note may be forgotten.
func Spend(ctx context.Context, tx sqlx.ExtContext, digest []byte, expires workspace.Time) error {
	result, err := tx.ExecContext(ctx, `INSERT INTO spent (digest, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING`, digest, expires)
	if err != nil {
		return fmt.Errorf("spend: %w", err)
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: this was used before", workspace.ErrConflict)
	}
	return err
}

// ForgetSpent removes notes that are of no use any more.
func ForgetSpent(ctx context.Context, tx sqlx.ExtContext, now workspace.Time) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM spent WHERE expires_at <= ?`, now); err != nil {
		return fmt.Errorf("forget what was spent: %w", err)
	}
	return nil
}
