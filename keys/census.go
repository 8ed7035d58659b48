package keys

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// CountLiveOf is CountLive of many workspaces in one statement; one without any is
// missing.
func CountLiveOf(ctx context.Context, q sqlx.ExtContext, workspaces []workspace.ID, now workspace.Time) (map[workspace.ID]int64, error) {
	return workspace.CountBy[workspace.ID](ctx, q, "live keys", `SELECT workspace_id AS id, count(*) AS n FROM keys
		WHERE workspace_id IN (?) AND revoked_at IS NULL AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > ?)
		GROUP BY workspace_id`, workspaces, now)
}
