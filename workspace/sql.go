package workspace

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

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

// Bump runs an UPDATE … RETURNING of a generation. It reports whether there was
// a row.
func Bump(ctx context.Context, tx sqlx.ExtContext, query string, args ...any) (generation int64, found bool, err error) {
	err = sqlx.GetContext(ctx, tx, &generation, query, args...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("update: %w", err)
	}
	return generation, true, nil
}

func count(ctx context.Context, q sqlx.ExtContext, query string, args ...any) (n int64, err error) {
	if err := sqlx.GetContext(ctx, q, &n, query, args...); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return n, nil
}

// Position is a place in a list that is ordered by time, then ID. The zero value
// is before the first.
type Position struct {
	At Time   `json:"at"`
	ID string `json:"id"`
}

// Page is a part of a list: what comes after a position, at most Limit of it.
type Page struct {
	After Position
	Limit int
}

// Where gathers conditions that all have to hold. It is for the stores of other
// packages too.
type Where struct {
	conditions []string
	args       []any
}

// Add adds a condition with its arguments.
func (w *Where) Add(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

// SQL is the WHERE clause, empty if nothing is asked, with its arguments.
func (w *Where) SQL() (clause string, args []any) {
	if len(w.conditions) == 0 {
		return "", nil
	}
	return ` WHERE ` + strings.Join(w.conditions, " AND "), w.args
}

// Contains asks that one of the columns has the text in it, whatever its case in
// ASCII. An empty text asks nothing.
func (w *Where) Contains(text string, columns ...string) {
	if text == "" {
		return
	}
	pattern := "%" + strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(lowerASCII(text)) + "%"
	var each []string
	for _, column := range columns {
		each = append(each, `lower(`+column+`) LIKE ? ESCAPE '\'`)
		w.args = append(w.args, pattern)
	}
	w.conditions = append(w.conditions, "("+strings.Join(each, " OR ")+")")
}

// lowerASCII is what both databases' lower makes of a text: SQLite's knows no
// other letters, and what it leaves alone PostgreSQL leaves in the C collation.
func lowerASCII(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, text)
}

// Set asks for rows where a column has a value, or if want is false, none. A nil
// want asks nothing.
func (w *Where) Set(column string, want *bool) {
	switch {
	case want == nil:
	case *want:
		w.Add(column + " IS NOT NULL")
	default:
		w.Add(column + " IS NULL")
	}
}

// Select reads a page of rows, the newest first. time and id name the columns of
// the order.
func Select[T any](ctx context.Context, q sqlx.ExtContext, what, query string, w Where, page Page, time, id string) ([]T, error) {
	if page.After != (Position{}) {
		w.Add(`(`+time+`, `+id+`) < (?, ?)`, page.After.At, page.After.ID)
	}
	where, args := w.SQL()
	query += where + ` ORDER BY ` + time + ` DESC, ` + id + ` DESC LIMIT ?`
	rows := []T{}
	if err := sqlx.SelectContext(ctx, q, &rows, query, append(args, page.Limit)...); err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	return rows, nil
}
