package keys

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Expiring counts the live keys that end soon. Each number includes the one before.
type Expiring struct {
	Day       int `db:"day"`       // within a day
	Week      int `db:"week"`      // within 7 days
	Fortnight int `db:"fortnight"` // within 14 days
}

// CountExpiring counts the live keys that end soon, as of now. It reads the index of
// those that end within 14 days, and no more.
func CountExpiring(ctx context.Context, q sqlx.ExtContext, now time.Time) (counted Expiring, err error) {
	in := func(days int) workspace.Time { return workspace.At(now.Add(time.Duration(days) * 24 * time.Hour)) }
	err = sqlx.GetContext(ctx, q, &counted, `SELECT COALESCE(SUM(CASE WHEN k.expires_at <= ? THEN 1 ELSE 0 END), 0) AS day,
			COALESCE(SUM(CASE WHEN k.expires_at <= ? THEN 1 ELSE 0 END), 0) AS week, COUNT(*) AS fortnight
		FROM keys k JOIN workspaces w ON w.id = k.workspace_id
		WHERE k.expires_at > ? AND k.expires_at <= ? AND k.revoked_at IS NULL AND k.deleted_at IS NULL AND w.deleted_at IS NULL`,
		in(1), in(7), workspace.At(now), in(14))
	if err != nil {
		return counted, fmt.Errorf("count the keys that expire: %w", err)
	}
	return counted, nil
}
