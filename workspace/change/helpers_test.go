package change_test

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// timing is short, so that a test waits little for a lease.
var timing = change.Timing{Lease: 50 * time.Millisecond, Renewal: 10 * time.Millisecond}

var (
	noon    = workspace.At(time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC))
	discard = slog.New(slog.DiscardHandler)
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// commit makes one change and returns its number.
func commit(t testing.TB, db *schema.DB, subjects ...string) (seq int64) {
	t.Helper()
	check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) (err error) {
		if seq, err = change.Lock(ctx, tx); err != nil {
			return err
		}
		return change.Record(ctx, tx, seq, noon, subjects...)
	}))
	return seq
}

// await waits for a change, and returns the replicas that cannot be waited for.
func await(t testing.TB, db change.Database, seq int64, timing change.Timing) []change.Lapsed {
	t.Helper()
	lapsed, err := change.Await(t.Context(), db, seq, timing)
	check(t, err)
	return lapsed
}

func exec(t testing.TB, db *schema.DB, query string, args ...any) {
	t.Helper()
	_, err := db.Writer().ExecContext(t.Context(), query, args...)
	check(t, err)
}

func get[T any](t testing.TB, db *schema.DB, query string, args ...any) (v T) {
	t.Helper()
	check(t, sqlx.GetContext(t.Context(), db.Reader(), &v, query, args...))
	return v
}

// rows is how many replicas are waited for.
func rows(t testing.TB, db *schema.DB) int {
	t.Helper()
	return get[int](t, db, `SELECT count(*) FROM replicas`)
}

func newFollower(t testing.TB, db change.Database, onChange ...func(change.Batch)) *change.Follower {
	t.Helper()
	f := &change.Follower{Database: db, Host: t.Name(), Timing: timing, Log: discard}
	for _, apply := range onChange {
		f.OnChange = append(f.OnChange, func(_ context.Context, b change.Batch) error { apply(b); return nil })
	}
	check(t, f.Start(t.Context()))
	return f
}

// run runs a follower until the function that it returns is called.
func run(t testing.TB, f *change.Follower) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

// mustNotServeOld fails if a cache of the replica may answer by what was before.
func mustNotServeOld(t testing.TB, f *change.Follower, seq int64) {
	t.Helper()
	held, applied := f.Held(), f.Applied() // in this order: what is applied only grows
	if held && applied < seq {
		t.Errorf("the lease is held and change %d applied, after everybody had waited for %d", applied, seq)
	}
}

// tap is a database of which a test sees each statement before it is written.
type tap struct {
	*schema.DB
	before func(query string)
}

func (d tap) Writer() sqlx.ExtContext { return tapped{d.DB.Writer(), d.before} }

type tapped struct {
	sqlx.ExtContext
	before func(query string)
}

func (w tapped) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	w.before(query)
	return w.ExtContext.ExecContext(ctx, query, args...)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not: %s", what)
		}
	}
}
