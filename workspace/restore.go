package workspace

import (
	"context"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"
)

// Stoppable is what a workspace, a service account and a user have in common: their
// tokens have a generation, and they can be stopped. A deleted one is found too.
type Stoppable struct {
	ID          string `db:"id"`
	Name        string `db:"name"` // of a workspace its slug, of a user the address
	WorkspaceID ID     `db:"workspace_id"`
	Generation  int64  `db:"generation"`
	StoppedAt   Time   `db:"stopped_at"` // suspended or disabled
	DeletedAt   Time   `db:"deleted_at"`
}

// stoppables are the tables, by how their IDs begin.
var stoppables = map[string]struct{ table, name, workspace, stopped string }{
	"ws":  {"workspaces", "slug", "id", "suspended_at"},
	"sa":  {"service_accounts", "name", "workspace_id", "disabled_at"},
	"usr": {"users", "email", "''", "disabled_at"},
}

// FindStoppable reads one by its ID. ErrNotFound: there never was one.
func FindStoppable(ctx context.Context, q sqlx.ExtContext, id string) (Stoppable, error) {
	prefix, _, _ := strings.Cut(id, "_")
	t, known := stoppables[prefix]
	if !known {
		return Stoppable{}, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	return get[Stoppable](ctx, q, id, `SELECT id, `+t.name+` AS name, `+t.workspace+` AS workspace_id, generation, `+t.stopped+` AS stopped_at, deleted_at
		FROM `+t.table+` WHERE id = ?`, id)
}

// SetStopped stores when one was stopped, and its generation.
func SetStopped(ctx context.Context, tx sqlx.ExtContext, s Stoppable, at Time) error {
	prefix, _, _ := strings.Cut(s.ID, "_")
	t := stoppables[prefix]
	_, err := updateOne(ctx, tx, `UPDATE `+t.table+` SET `+t.stopped+` = ?, generation = ?, updated_at = ? WHERE id = ?`, s.StoppedAt, s.Generation, at, s.ID)
	return err
}
