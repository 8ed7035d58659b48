package keys

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Named is what people call a key.
type Named struct {
	ID        ID             `db:"id"`
	Name      string         `db:"name"`
	DeletedAt workspace.Time `db:"deleted_at"`
}

// NamesOf reads the names of keys of a workspace by their IDs, of deleted ones too,
// in any order. IDs of none are left out.
func NamesOf(ctx context.Context, q sqlx.ExtContext, in workspace.ID, ids []ID) ([]Named, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	query, args, err := sqlx.In(`SELECT id, name, deleted_at FROM keys WHERE id IN (?) AND workspace_id = ?`, ids, in)
	if err != nil {
		return nil, fmt.Errorf("read the names of keys: %w", err)
	}
	var rows []Named
	if err := sqlx.SelectContext(ctx, q, &rows, query, args...); err != nil {
		return nil, fmt.Errorf("read the names of keys: %w", err)
	}
	return rows, nil
}

// CountLiveByOwner counts the live keys of service accounts or users in a workspace;
// an owner without any is missing.
func CountLiveByOwner(ctx context.Context, q sqlx.ExtContext, in workspace.ID, owners []string, now workspace.Time) (map[string]int64, error) {
	return workspace.CountBy[string](ctx, q, "live keys", `SELECT COALESCE(service_account_id, user_id) AS id, count(*) AS n FROM keys
		WHERE COALESCE(service_account_id, user_id) IN (?) AND workspace_id = ? AND revoked_at IS NULL AND deleted_at IS NULL
		AND (expires_at IS NULL OR expires_at > ?) GROUP BY 1`, owners, in, now)
}
