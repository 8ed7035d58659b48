package schema

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"

	"github.com/jmoiron/sqlx"
)

// A runner counts statements and gives them the dialect's placeholders.
type runner struct {
	sqlx.ExtContext
	sent *atomic.Uint64
}

func (r runner) send(query string) string {
	r.sent.Add(1)
	return r.Rebind(query)
}

// QueryContext implements [sqlx.QueryerContext].
func (r runner) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return r.ExtContext.QueryContext(ctx, r.send(query), args...)
}

// QueryxContext implements [sqlx.QueryerContext].
func (r runner) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	return r.ExtContext.QueryxContext(ctx, r.send(query), args...)
}

// QueryRowxContext implements [sqlx.QueryerContext].
func (r runner) QueryRowxContext(ctx context.Context, query string, args ...any) *sqlx.Row {
	return r.ExtContext.QueryRowxContext(ctx, r.send(query), args...)
}

// ExecContext implements [sqlx.ExecerContext].
func (r runner) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return r.ExtContext.ExecContext(ctx, r.send(query), args...)
}

// PrepareContext implements [sqlx.PreparerContext], for what one transaction does many
// times. How often the statement is executed is not counted.
func (r runner) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	preparer, ok := r.ExtContext.(sqlx.PreparerContext)
	if !ok {
		return nil, errors.New("the connection cannot prepare statements")
	}
	return preparer.PrepareContext(ctx, r.send(query))
}
