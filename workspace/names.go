package workspace

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// UsersOf reads users by their IDs, deleted ones too, in any order. IDs of nobody
// are left out.
func UsersOf(ctx context.Context, q sqlx.ExtContext, ids []UserID) ([]User, error) {
	return among[User](ctx, q, "users", `SELECT `+userColumns+` FROM users WHERE id IN (?)`, len(ids), ids)
}

// ServiceAccountsOf reads service accounts of a workspace by their IDs, deleted ones
// too, in any order. IDs of none are left out.
func ServiceAccountsOf(ctx context.Context, q sqlx.ExtContext, in ID, ids []ServiceAccountID) ([]ServiceAccount, error) {
	return among[ServiceAccount](ctx, q, "service accounts",
		`SELECT `+serviceAccountColumns+` FROM service_accounts WHERE id IN (?) AND workspace_id = ?`, len(ids), ids, in)
}

// among reads the rows of a query that names a list of n IDs, which may be empty.
func among[T any](ctx context.Context, q sqlx.ExtContext, what, query string, n int, args ...any) ([]T, error) {
	if n == 0 {
		return nil, nil
	}
	query, args, err := sqlx.In(query, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	var rows []T
	if err := sqlx.SelectContext(ctx, q, &rows, query, args...); err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return rows, nil
}
