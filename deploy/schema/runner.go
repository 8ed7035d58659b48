package schema

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jmoiron/sqlx"
)

// A runner counts statements and gives them the dialect's placeholders.
type runner struct {
	sqlx.ExtContext
	db *DB
}

func (r runner) send(query string) string {
	r.db.sent.Add(1)
	return r.Rebind(query)
}

// QueryContext implements [sqlx.QueryerContext].
func (r runner) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx, end := r.db.traced(ctx, query)
	rows, err := r.ExtContext.QueryContext(ctx, r.send(query), args...)
	end(err)
	return rows, err
}

// QueryxContext implements [sqlx.QueryerContext].
func (r runner) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	ctx, end := r.db.traced(ctx, query)
	rows, err := r.ExtContext.QueryxContext(ctx, r.send(query), args...)
	end(err)
	return rows, err
}

// QueryRowxContext implements [sqlx.QueryerContext].
func (r runner) QueryRowxContext(ctx context.Context, query string, args ...any) *sqlx.Row {
	ctx, end := r.db.traced(ctx, query)
	row := r.ExtContext.QueryRowxContext(ctx, r.send(query), args...)
	end(row.Err())
	return row
}

// ExecContext implements [sqlx.ExecerContext].
func (r runner) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	ctx, end := r.db.traced(ctx, query)
	result, err := r.ExtContext.ExecContext(ctx, r.send(query), args...)
	end(err)
	return result, err
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

// traced begins the span of a statement or of a whole transaction.
func (db *DB) traced(ctx context.Context, query string) (_ context.Context, end func(error)) {
	if db.Trace == nil {
		return ctx, unwatched
	}
	return db.Trace(ctx, query)
}

func unwatched(error) {}

// Pools are the connections of each pool now, by its name: "main", or for SQLite "reader" and
// "writer".
func (db *DB) Pools() map[string]sql.DBStats {
	if db.reader == db.writer {
		return map[string]sql.DBStats{"main": db.writer.Stats()}
	}
	return map[string]sql.DBStats{"reader": db.reader.Stats(), "writer": db.writer.Stats()}
}
