package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// nobody is a failure at a key that does not exist.
func nobody(address string) audit.Exchange {
	return audit.Exchange{At: noon, Action: audit.TokenRefuse, Outcome: "wrong_credentials", Address: address, Agent: "x", RequestID: "y"}
}

// guessed is a wrong secret of a key that exists.
func guessed(key, address string) audit.Exchange {
	e := use(key, 0)
	e.Action, e.Outcome, e.Address, e.SecretID, e.Fold = audit.TokenRefuse, "wrong_credentials", address, "", true
	return e
}

func count(t testing.TB, db *schema.DB, query string, args ...any) (n int64) {
	t.Helper()
	check(t, sqlx.GetContext(t.Context(), db.Reader(), &n, query, args...))
	return n
}

func wantCount(t testing.TB, db *schema.DB, want int64, query string, args ...any) {
	t.Helper()
	if n := count(t, db, query, args...); n != want {
		t.Errorf("%s: %d, want %d", query, n, want)
	}
}

func TestRecordWritesBehind(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		sent := db.Queries()
		for i := range 1000 {
			check(t, w.Record(t.Context(), use(fmt.Sprint("tbk_", i), 0)))
		}
		if db.Queries() != sent || w.Pending() != 1000 {
			t.Errorf("%d statements before the flush, %d pending", db.Queries()-sent, w.Pending())
		}
		check(t, w.Flush(t.Context()))
		wantCount(t, db, 1000, `SELECT COUNT(*) FROM exchange_events`)
		wantCount(t, db, 1, `SELECT COUNT(*) FROM audit_events`)
		check(t, w.Flush(t.Context())) // nothing is left to write
		wantCount(t, db, 1, `SELECT COUNT(*) FROM audit_events`)
		wantFindings(t, verify(t, db))
	})
}

// A key that was only named, with a secret not even of its form, is its
// workspace's business; one that does not exist any more is nobody's.
func TestNamedKeysAreAttributed(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		asked := 0
		w := audit.NewWriter(db, audit.WriterOptions{Owners: func(_ context.Context, _ sqlx.ExtContext, ids []string) (map[string]audit.Owner, error) {
			if asked++; asked == 1 {
				return nil, errors.New("away")
			}
			if len(ids) != 2 {
				t.Errorf("asked for %q", ids)
			}
			return map[string]audit.Owner{"tbk_1": {WorkspaceID: "ws_1", OwnerID: "sa_1"}}, nil
		}})
		for _, id := range []string{"tbk_1", "tbk_1", "tbk_gone"} {
			e := nobody("10.0.0.1")
			e.KeyID = id
			check(t, w.Record(t.Context(), e))
		}
		if err := w.Flush(t.Context()); err == nil {
			t.Error("a flush succeeds that does not know whose the keys are")
		}
		check(t, w.Flush(t.Context()))
		wantCount(t, db, 2, `SELECT count FROM exchange_events WHERE workspace_id = 'ws_1' AND key_id = 'tbk_1' AND owner_id = 'sa_1'`)
		wantCount(t, db, 1, `SELECT count FROM exchange_events WHERE workspace_id = '' AND key_id = ''`)
		wantFindings(t, verify(t, db))
	})
}

// However many keys are invented from however many addresses, a flush writes few
// rows, and each failure counts.
func TestInventedKeysBecomeFewRows(t *testing.T) {
	db := schematest.SQLite(t)
	w := writer(db)
	for i := range 100_000 {
		e := nobody(fmt.Sprint("10.0.", i%500))
		e.OwnerID = "invented" // an invented ID is not genuine, so it never gets here
		check(t, w.Record(t.Context(), e))
	}
	check(t, w.Record(t.Context(), use("tbk_1", 0)))
	check(t, w.Flush(t.Context()))
	wantCount(t, db, 102, `SELECT COUNT(*) FROM exchange_events`)
	wantCount(t, db, 100_000, `SELECT SUM(count) FROM exchange_events WHERE workspace_id = ''`)
	wantCount(t, db, 80_000, `SELECT count FROM exchange_events WHERE workspace_id = '' AND address = ''`)
	wantCount(t, db, 0, `SELECT COUNT(*) FROM exchange_events WHERE workspace_id = '' AND (key_id <> '' OR owner_id <> '' OR agent <> '' OR request_id <> '')`)
	if w.Dropped() != 0 {
		t.Errorf("%d dropped", w.Dropped())
	}
}

// Nor does somebody who knows a key's ID fill the database.
func TestWrongSecretsBecomeFewRows(t *testing.T) {
	db := schematest.SQLite(t)
	w := writer(db)
	for i := range 10_000 {
		check(t, w.Record(t.Context(), guessed("tbk_1", fmt.Sprint("10.0.", i%5))))
	}
	for i := range 10_000 {
		check(t, w.Record(t.Context(), guessed("tbk_2", fmt.Sprint("10.0.", i))))
	}
	check(t, w.Record(t.Context(), nobody("10.0.0.1")))
	check(t, w.Flush(t.Context()))
	wantCount(t, db, 1002, `SELECT COUNT(*) FROM exchange_events`)
	wantCount(t, db, 20_001, `SELECT SUM(count) FROM exchange_events`)
	wantCount(t, db, 2000, `SELECT count FROM exchange_events WHERE key_id = 'tbk_1' AND address = '10.0.3'`)
	wantCount(t, db, 1, `SELECT COUNT(*) FROM exchange_events WHERE key_id = 'tbk_2' AND address = ''`)
}

// A database that is away costs nothing but memory, and that is bounded; what had
// no room is told by the next batch.
func TestFailedFlushKeepsWhatItCan(t *testing.T) {
	const room = 7_000
	db := schematest.SQLite(t)
	w := writer(db)
	w.SetRoom(room)
	exec(t, db, `ALTER TABLE exchange_bundles RENAME TO away`)
	for i := range room + 2 {
		check(t, w.Record(t.Context(), use(fmt.Sprint("tbk_", i%7), 0)))
	}
	check(t, w.Record(t.Context(), nobody("10.0.0.1")))
	if err := w.Flush(t.Context()); err == nil {
		t.Fatal("no error")
	}
	check(t, w.Record(t.Context(), use("tbk_9", 0)))
	if w.Dropped() != 4 || w.Pending() != room {
		t.Errorf("%d dropped, %d pending", w.Dropped(), w.Pending())
	}
	exec(t, db, `ALTER TABLE away RENAME TO exchange_bundles`)
	check(t, w.Flush(t.Context()))
	check(t, w.Record(t.Context(), use("tbk_1", 0)))
	check(t, w.Flush(t.Context()))
	list := events(t, db, audit.Exchanges)
	if len(list) != 8 || !strings.Contains(list[0].Detail, `"count":1000,"dropped":4`) || strings.Contains(list[1].Detail, `dropped`) {
		t.Errorf("%+v", list)
	}
	wantFindings(t, verify(t, db))
}

// Failures that are counted while the database is away stay one row.
func TestFailedFlushJoinsGuesses(t *testing.T) {
	db := schematest.SQLite(t)
	w := writer(db)
	exec(t, db, `ALTER TABLE exchange_bundles RENAME TO away`)
	for range 3 {
		check(t, w.Record(t.Context(), nobody("10.0.0.1")))
		if err := w.Flush(t.Context()); err == nil {
			t.Fatal("no error")
		}
	}
	exec(t, db, `ALTER TABLE away RENAME TO exchange_bundles`)
	check(t, w.Flush(t.Context()))
	wantCount(t, db, 3, `SELECT count FROM exchange_events`)
}

func TestRunFlushesAtTheEnd(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		check(t, w.Record(ctx, use("tbk_1", 0)))
		w.Run(ctx)
		wantCount(t, db, 1, `SELECT COUNT(*) FROM exchange_events`)
	})
}

func strict(db *schema.DB, interval time.Duration) *audit.Writer {
	return audit.NewWriter(db, audit.WriterOptions{Interval: interval, Strict: true, Log: slog.New(slog.DiscardHandler)})
}

// All who wait at the same time share commits, and each finds its own when
// Record returns.
func TestStrictCommitsFirst(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := strict(db, time.Hour)
		var running sync.WaitGroup
		for i := range 100 {
			running.Go(func() {
				key := fmt.Sprint("tbk_", i)
				if err := w.Record(t.Context(), use(key, 0)); err != nil {
					t.Error(err)
				}
				wantCount(t, db, 1, `SELECT COUNT(*) FROM exchange_events WHERE key_id = ?`, key)
			})
		}
		running.Wait()
		wantFindings(t, verify(t, db))
	})
}

// What is not proven waits for the interval, so that a flood of it costs no
// commit each, and a wrong secret takes as long as an unknown key.
func TestStrictIsInNoHurryForGuesses(t *testing.T) {
	db := schematest.SQLite(t)
	w := strict(db, 10*time.Millisecond)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, e := range []audit.Exchange{nobody("10.0.0.1"), guessed("tbk_1", "10.0.0.1")} {
		running.Go(func() {
			if err := w.Record(t.Context(), e); err != nil {
				t.Error(err)
			}
			wantCount(t, db, 1, `SELECT COUNT(*) FROM exchange_events WHERE key_id = ?`, e.KeyID)
		})
	}
	for w.Pending() < 2 { // neither writes by itself
		runtime.Gosched()
	}
	wantCount(t, db, 0, `SELECT COUNT(*) FROM exchange_events`)
	ran := make(chan struct{})
	go func() { w.Run(ctx); close(ran) }()
	running.Wait()
	stop()
	<-ran
}

func TestStrictSaysWhenItCannotRecord(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := strict(db, time.Hour)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Record(gone, nobody("10.0.0.1")); !errors.Is(err, audit.ErrNotRecorded) || !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		exec(t, db, `ALTER TABLE exchange_bundles RENAME TO away`)
		for range 2 {
			if err := w.Record(t.Context(), use("tbk_1", 0)); !errors.Is(err, audit.ErrNotRecorded) {
				t.Errorf("%v", err)
			}
		}
		exec(t, db, `ALTER TABLE away RENAME TO exchange_bundles`)
		check(t, w.Record(t.Context(), use("tbk_2", 0)))
		wantCount(t, db, 0, `SELECT COUNT(*) FROM exchange_events WHERE key_id = 'tbk_1'`) // its client was told
		wantCount(t, db, 1, `SELECT COUNT(*) FROM exchange_events WHERE key_id = 'tbk_2'`)
	})
}

// Two replicas append to one chain, and neither loses anything.
func TestWritersAtOnce(t *testing.T) {
	const writers, flushes, each = 3, 10, 20
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var running sync.WaitGroup
		for n := range writers {
			running.Go(func() {
				w := writer(db)
				for i := range flushes * each {
					if err := w.Record(t.Context(), use(fmt.Sprint("tbk_", n), 0)); err != nil {
						t.Error(err)
					}
					if i%each == each-1 {
						if err := w.Flush(t.Context()); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		running.Wait()
		report := verify(t, db)
		wantFindings(t, report)
		if report.Events != writers*flushes || report.Exchanges != writers*flushes*each {
			t.Errorf("%+v", report)
		}
	})
}

// Records that come while a flush runs are in one batch or the other.
func TestRecordDuringFlushes(t *testing.T) {
	db := schematest.SQLite(t)
	w := writer(db)
	var running sync.WaitGroup
	for n := range 4 {
		running.Go(func() {
			for i := range 500 {
				_ = w.Record(t.Context(), use(fmt.Sprint("tbk_", n), 0))
				_ = w.Record(t.Context(), nobody(fmt.Sprint("10.0.0.", i%3)))
				if i%100 == 99 {
					_ = w.Flush(t.Context())
				}
			}
		})
	}
	running.Wait()
	check(t, w.Flush(t.Context()))
	wantCount(t, db, 2000, `SELECT COUNT(*) FROM exchange_events WHERE workspace_id <> ''`)
	wantCount(t, db, 2000, `SELECT SUM(count) FROM exchange_events WHERE workspace_id = ''`)
	wantFindings(t, verify(t, db))
}
