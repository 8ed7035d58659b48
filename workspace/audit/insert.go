package audit

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
)

// insertFunc writes the bundles of a batch of so many exchanges.
type insertFunc func(ctx context.Context, tx sqlx.ExtContext, bundles []bundle, exchanges int, p *pace) error

// insertFor is the cheapest way of each database, and how many exchanges are enough for a
// transaction.
func insertFor(d schema.Dialect) (insert insertFunc, enough int) {
	if d == schema.PostgreSQL {
		return insertArrays, enoughForArrays
	}
	return insertPrepared, enoughPrepared
}

// Exchanges of a transaction and of a statement: so many that its own cost is shared, so
// few that it is short. SQLite commits on the processor that answers exchanges, which wait
// for it. When more come than it gets done, transactions grow, up to batchMax.
const (
	enoughForArrays = 1_000
	enoughPrepared  = 500
	atOnceArrays    = 500
	rowsPrepared    = 20 // when most bundles are of few exchanges
	fewInBundle     = 5
)

// insertArrays sends an array for each column. One text serves any number of rows,
// so it stays prepared, and each value is encoded once and described never.
func insertArrays(ctx context.Context, tx sqlx.ExtContext, bundles []bundle, exchanges int, p *pace) error {
	rows := max(1, len(bundles)*atOnceArrays/max(exchanges, atOnceArrays))
	for chunk := range slices.Chunk(bundles, rows) {
		if _, err := tx.ExecContext(ctx, `INSERT INTO exchange_bundles (`+bundleColumns+`)
			SELECT * FROM unnest(`+arrayMarks+`)`, arrays(chunk)...); err != nil {
			return err
		}
		p.rest()
	}
	return nil
}

const arrayMarks = `CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]),
	CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[])`

func arrays(rows []bundle) []any {
	args := make([]any, 0, numberColumns+textColumns)
	numbers, texts := make([]int64, numberColumns*len(rows)), make([]string, textColumns*len(rows))
	for i := range rows {
		for column, n := range rows[i].numbers() {
			numbers[column*len(rows)+i] = n
		}
		for column, text := range rows[i].texts() {
			texts[column*len(rows)+i] = text
		}
	}
	for column := range slices.Chunk(numbers, len(rows)) {
		args = append(args, column)
	}
	for column := range slices.Chunk(texts, len(rows)) {
		args = append(args, column)
	}
	return args
}

// insertPrepared parses the statement once for a batch. OR FAIL spares SQLite the
// copy of every page that it would need for undoing one statement of several rows:
// a failure undoes the whole transaction here.
func insertPrepared(ctx context.Context, tx sqlx.ExtContext, bundles []bundle, exchanges int, p *pace) error {
	rows := rowsPrepared
	if exchanges > len(bundles)*fewInBundle {
		rows = 1
	}
	var insert *sql.Stmt
	var args []any
	for chunk := range slices.Chunk(bundles, rows) {
		if insert == nil || len(chunk) < rows {
			next, err := prepareInsert(ctx, tx, len(chunk))
			if err != nil {
				return err
			}
			defer next.Close()
			insert = next
			p.rest()
		}
		args = appendValues(args[:0], chunk)
		if _, err := insert.ExecContext(ctx, args...); err != nil {
			return err
		}
		p.rest()
	}
	return nil
}

func prepareInsert(ctx context.Context, tx sqlx.ExtContext, rows int) (*sql.Stmt, error) {
	preparer, ok := tx.(sqlx.PreparerContext)
	if !ok {
		return nil, errors.New("the transaction cannot prepare statements")
	}
	return preparer.PrepareContext(ctx, `INSERT OR FAIL INTO exchange_bundles (`+bundleColumns+`) VALUES `+tuples(rows, numberColumns+textColumns))
}

func appendValues(args []any, rows []bundle) []any {
	for i := range rows {
		for _, n := range rows[i].numbers() {
			args = append(args, n)
		}
		for _, text := range rows[i].texts() {
			args = append(args, text)
		}
	}
	return args
}
