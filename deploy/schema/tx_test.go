package schema_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"
	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

const addSeq = "UPDATE change_counter SET seq = seq + ? WHERE id = 1"

func seq(t *testing.T, db *schema.DB) int {
	t.Helper()
	return get[int](t, db.Reader(), "SELECT seq FROM change_counter")
}

func TestInTx(t *testing.T) {
	wrong := errors.New("wrong")
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		add := func(then func() error) func(context.Context, sqlx.ExtContext) error {
			return func(ctx context.Context, tx sqlx.ExtContext) error {
				if _, err := tx.ExecContext(ctx, addSeq, 1); err != nil {
					return err
				}
				return then()
			}
		}
		if err := db.InTx(t.Context(), add(func() error { return wrong })); err != wrong { //nolint:errorlint // the very error, not a wrapped one
			t.Errorf("InTx returns %v, want fn's error itself", err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("InTx swallowed a panic")
				}
			}()
			_ = db.InTx(t.Context(), add(func() error { panic(wrong) }))
		}()
		if got := seq(t, db); got != 0 {
			t.Errorf("seq = %d after two roll-backs", got)
		}
		if err := db.InTx(t.Context(), add(func() error { return nil })); err != nil {
			t.Error(err)
		}
		if got := seq(t, db); got != 1 {
			t.Errorf("seq = %d after a commit, want 1", got)
		}
	})
}

func TestInTxInsideInTxIsRefused(t *testing.T) {
	other := schematest.SQLite(t)
	nothing := func(context.Context, sqlx.ExtContext) error { return nil }
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		err := db.InTx(t.Context(), func(ctx context.Context, _ sqlx.ExtContext) error {
			if err := other.InTx(ctx, nothing); err != nil {
				t.Errorf("another database: %v", err)
			}
			return db.InTx(ctx, nothing)
		})
		if err == nil {
			t.Error("a transaction inside another was begun")
		}
	})
}

func TestInTxOutOfTime(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(50*time.Millisecond))
		defer cancel()
		err := db.InTx(ctx, func(_ context.Context, tx sqlx.ExtContext) (err error) {
			// Until the driver has ended the transaction: then only COMMIT is left to notice.
			for err == nil {
				_, err = tx.ExecContext(context.Background(), addSeq, 1)
			}
			return nil
		})
		if !errors.Is(err, context.DeadlineExceeded) || !schema.IsUnavailable(err) {
			t.Errorf("InTx past its deadline returns %v", err)
		}
		if got := seq(t, db); got != 0 {
			t.Errorf("seq = %d past the deadline", got)
		}
	})
}

func TestWritersTakeTurns(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 10 {
					err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
						_, err := tx.ExecContext(ctx, addSeq, 1)
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if got := seq(t, db); got != 80 {
			t.Errorf("seq = %d, want 80", got)
		}
	})
}

func TestInTxGivesUp(t *testing.T) {
	db := schematest.SQLite(t)
	for code, want := range map[string]int{"40001": 5, "40P01": 5, "0A000": 5, "23505": 1} {
		attempts := 0
		err := db.InTx(t.Context(), func(context.Context, sqlx.ExtContext) error {
			attempts++
			return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})
		})
		if err == nil || attempts != want {
			t.Errorf("%s: %d attempts, want %d; error %v", code, attempts, want, err)
		}
	}
}

// race runs fn in two transactions at once and counts the calls. together returns once both are in
// their first call, so that they meet; later calls pass.
func race(t *testing.T, db *schema.DB, fn func(ctx context.Context, tx sqlx.ExtContext, i int, together func()) error) int64 {
	t.Helper()
	var calls atomic.Int64
	var meeting, group sync.WaitGroup
	meeting.Add(2)
	for i := range 2 {
		meet := sync.OnceFunc(func() {
			meeting.Done()
			meeting.Wait()
		})
		group.Go(func() {
			err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
				calls.Add(1)
				return fn(ctx, tx, i, meet)
			})
			if err != nil {
				t.Errorf("transaction %d: %v", i, err)
			}
		})
	}
	group.Wait()
	return calls.Load()
}

func TestInTxRunsAgainAfterADeadlock(t *testing.T) {
	db := schematest.Postgres(t)
	exec(t, db.Writer(), "INSERT INTO changes (seq, subject_id, at) VALUES (0, 'x', 0), (1, 'x', 0)")
	calls := race(t, db, func(ctx context.Context, tx sqlx.ExtContext, i int, together func()) error {
		const add = "UPDATE changes SET at = at + 1 WHERE seq = ?"
		if _, err := tx.ExecContext(ctx, add, i); err != nil {
			return err
		}
		together()
		_, err := tx.ExecContext(ctx, add, 1-i)
		return err
	})
	if calls < 3 {
		t.Errorf("%d calls: there was no deadlock", calls)
	}
	if sum := get[int](t, db.Reader(), "SELECT SUM(at) FROM changes"); sum != 4 {
		t.Errorf("the sum is %d, want 4", sum)
	}
}

func TestInTxRunsAgainAfterASerializationFailureAtCommit(t *testing.T) {
	db := schematest.Postgres(t)
	calls := race(t, db, func(ctx context.Context, tx sqlx.ExtContext, i int, together func()) error {
		if _, err := tx.ExecContext(ctx, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"); err != nil {
			return err
		}
		var n int
		if err := sqlx.GetContext(ctx, tx, &n, "SELECT COUNT(*) FROM changes"); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO changes (seq, subject_id, at) VALUES (?, 'x', ?)", i, n)
		together() // every statement has succeeded: only a COMMIT is left to fail
		return err
	})
	if calls != 3 {
		t.Errorf("%d calls, want 3", calls)
	}
	if n := get[int](t, db.Reader(), "SELECT SUM(at) FROM changes"); n != 1 {
		t.Errorf("the counts sum to %d, want 0 + 1: they were not serial", n)
	}
}

func TestInTxRunsAgainWhenColumnsChange(t *testing.T) {
	db := schematest.Postgres(t)
	calls := 0
	read := func(ctx context.Context, tx sqlx.ExtContext) error {
		calls++
		var at string
		return sqlx.GetContext(ctx, tx, &at, "SELECT seq FROM change_counter WHERE id = ?", 1)
	}
	if err := db.InTx(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	exec(t, db.Writer(), "ALTER TABLE change_counter ALTER COLUMN seq TYPE TEXT")
	if err := db.InTx(t.Context(), read); err != nil {
		t.Error(err)
	}
	if calls != 3 {
		t.Errorf("%d calls, want 3: the old plan failed once", calls)
	}
}
