package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"
)

const (
	txAttempts = 5
	txPause    = 20 * time.Millisecond // the most that is waited after the first attempt; grows with each
)

// openTx keys a context in which a transaction of db is open.
type openTx struct{ db *DB }

// InTx runs fn in one write transaction: committed when fn returns nil, rolled back when it returns
// an error or panics.
//
// PostgreSQL may ask for the whole transaction to be run again, even at COMMIT; InTx then calls fn
// anew, up to five times in all, so fn must start from scratch each time it is called. fn reaches the
// database through tx alone: a second connection taken while it holds one can deadlock the pool, and
// a second InTx is refused.
func (db *DB) InTx(ctx context.Context, fn func(ctx context.Context, tx sqlx.ExtContext) error) error {
	if ctx.Value(openTx{db}) != nil {
		return errors.New("a transaction was begun inside another: pass the open one down instead")
	}
	ctx, end := db.traced(ctx, "TRANSACTION")
	err := db.insist(ctx, fn)
	end(err)
	return err
}

func (db *DB) insist(ctx context.Context, fn func(ctx context.Context, tx sqlx.ExtContext) error) error {
	for attempt := 1; ; attempt++ {
		err := db.try(ctx, fn)
		if attempt == txAttempts || !mustRerun(err) {
			return err
		}
		if wait(ctx, rand.N(time.Duration(attempt)*txPause)) != nil {
			return err
		}
	}
}

func (db *DB) try(ctx context.Context, fn func(ctx context.Context, tx sqlx.ExtContext) error) error {
	tx, err := db.writer.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	if err := db.bound(ctx, tx); err != nil {
		return fmt.Errorf("begin a transaction: %w", errors.Join(err, tx.Rollback()))
	}
	defer tx.Rollback() // after a commit it does nothing; otherwise the first error is the one to report
	if err := fn(context.WithValue(ctx, openTx{db}, true), runner{tx, db}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		// When ctx is done the driver only says that the transaction is over, not why.
		return fmt.Errorf("commit the transaction: %w", cmp.Or(ctx.Err(), err))
	}
	return nil
}

// bound keeps a process that hangs or whose machine is gone from holding its locks, and whoever
// needs them from waiting, for longer than ten seconds. SQLite's driver bounds the wait itself, and
// its locks end with the process.
func (db *DB) bound(ctx context.Context, tx *sqlx.Tx) error {
	if db.dialect != PostgreSQL {
		return nil
	}
	_, err := tx.ExecContext(ctx, `SET LOCAL lock_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '10s'`,
		pgx.QueryExecModeSimpleProtocol) // the one that takes two statements in one message
	return err
}

// mustRerun reports whether PostgreSQL gave the transaction up for a reason that running it again
// may cure (PostgreSQL documentation, appendix A).
func mustRerun(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "40001", // serialization_failure
		"40P01", // deadlock_detected
		"0A000": // a prepared statement's columns changed under it; the driver has dropped it by now
		return true
	}
	return false
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
