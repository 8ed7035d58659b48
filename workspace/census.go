package workspace

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// What lists of many say of each in one statement.

// CountMembersOf counts the members of each workspace; one without any is missing.
func CountMembersOf(ctx context.Context, q sqlx.ExtContext, workspaces []ID) (map[ID]int64, error) {
	return CountBy[ID](ctx, q, "members", `SELECT workspace_id AS id, count(*) AS n FROM members WHERE workspace_id IN (?) GROUP BY workspace_id`, workspaces)
}

// CountBy reads a number for each of some IDs. The query names the columns id and
// n, and its first parameter is the list of IDs. It is for the stores of other
// packages too.
func CountBy[T ~string](ctx context.Context, q sqlx.ExtContext, what, query string, ids []T, more ...any) (map[T]int64, error) {
	counts := map[T]int64{}
	if len(ids) == 0 {
		return counts, nil
	}
	query, args, err := sqlx.In(query, append([]any{ids}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("count %s: %w", what, err)
	}
	var rows []struct {
		ID T     `db:"id"`
		N  int64 `db:"n"`
	}
	if err := sqlx.SelectContext(ctx, q, &rows, query, args...); err != nil {
		return nil, fmt.Errorf("count %s: %w", what, err)
	}
	for _, row := range rows {
		counts[row.ID] = row.N
	}
	return counts, nil
}

// Place is a workspace that a user is a member of.
type Place struct {
	UserID      UserID `db:"user_id"`
	WorkspaceID ID     `db:"workspace_id"`
	Role        Role   `db:"role"`
	Since       Time   `db:"created_at"`
	Slug        string `db:"slug"`
	Name        string `db:"name"` // of the workspace
	SuspendedAt Time   `db:"suspended_at"`
}

// PlacesOf reads the workspaces of users, by name; deleted ones do not count.
func PlacesOf(ctx context.Context, q sqlx.ExtContext, users []UserID) (map[UserID][]Place, error) {
	found := map[UserID][]Place{}
	if len(users) == 0 {
		return found, nil
	}
	query, args, err := sqlx.In(`SELECT m.user_id, m.workspace_id, m.role, m.created_at, w.slug, w.name, w.suspended_at
		FROM members m JOIN workspaces w ON w.id = m.workspace_id
		WHERE m.user_id IN (?) AND w.deleted_at IS NULL ORDER BY w.name, w.slug`, users)
	if err != nil {
		return nil, fmt.Errorf("read memberships: %w", err)
	}
	var places []Place
	if err := sqlx.SelectContext(ctx, q, &places, query, args...); err != nil {
		return nil, fmt.Errorf("read memberships: %w", err)
	}
	for _, p := range places {
		found[p.UserID] = append(found[p.UserID], p)
	}
	return found, nil
}
