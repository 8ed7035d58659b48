package workspace

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// get reads one row; what names it in the error.
func get[T any](ctx context.Context, q sqlx.ExtContext, what, query string, args ...any) (T, error) {
	var row T
	err := sqlx.GetContext(ctx, q, &row, query, args...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return row, fmt.Errorf("%s: %w", what, ErrNotFound)
	case err != nil:
		return row, fmt.Errorf("read %s: %w", what, err)
	}
	return row, nil
}

// insertOnce runs an INSERT … ON CONFLICT DO NOTHING and tells a conflict by
// the rows it did not insert, which both databases report alike.
func insertOnce(ctx context.Context, tx sqlx.ExtContext, what, query string, args ...any) error {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("insert %s: %w", what, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("insert %s: %w", what, err)
	}
	if n == 0 {
		return fmt.Errorf("%s exists already: %w", what, ErrConflict)
	}
	return nil
}

// updateOne runs an UPDATE of at most one row and reports whether there was one.
func updateOne(ctx context.Context, tx sqlx.ExtContext, query string, args ...any) (bool, error) {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return false, fmt.Errorf("update: %w", err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}
