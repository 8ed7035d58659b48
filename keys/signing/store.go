package signing

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

const columns = `kid, alg, state, public_jwk, sealed, kek_id, created_at, activated_at`

// Insert stores a new key. It reports false when the algorithm has an active key
// already, and then stores nothing.
func Insert(ctx context.Context, tx sqlx.ExtContext, s Stored) (bool, error) {
	result, err := tx.ExecContext(ctx, `INSERT INTO signing_keys (`+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		s.ID, s.Algorithm, s.State, s.PublicJWK, s.Sealed, s.SealerID, s.CreatedAt, s.ActivatedAt)
	if err != nil {
		return false, fmt.Errorf("insert signing key %s: %w", s.ID, err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// Published reads the keys that are not removed, oldest first.
func Published(ctx context.Context, q sqlx.ExtContext) ([]Stored, error) {
	var stored []Stored
	err := sqlx.SelectContext(ctx, q, &stored, `SELECT `+columns+` FROM signing_keys WHERE state <> 'removed' ORDER BY created_at, kid`)
	if err != nil {
		return nil, fmt.Errorf("read the signing keys: %w", err)
	}
	return stored, nil
}
