package quota_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// noDatabase is a database that is away.
type noDatabase struct{}

var errAway = errors.New("the database is away")

func (noDatabase) Reader() sqlx.ExtContext   { return &wire{fail: func(string) error { return errAway }} }
func (d noDatabase) Writer() sqlx.ExtContext { return d.Reader() }

// wire is a connection that can fail, before or after it has carried a query.
type wire struct {
	sqlx.ExtContext
	fail  func(query string) error // asked before
	after func(query string) error // asked afterwards: its error takes the place of the answer
}

func (w *wire) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	if w.fail != nil {
		if err := w.fail(query); err != nil {
			return nil, err
		}
	}
	rows, err := w.ExtContext.QueryxContext(ctx, query, args...)
	if err == nil && w.after != nil {
		if lost := w.after(query); lost != nil {
			for rows.Next() { // the statement ends with its rows
			}
			return nil, errors.Join(lost, rows.Err(), rows.Close())
		}
	}
	return rows, err
}

// wired is a database behind such a connection.
type wired struct {
	db   *schema.DB
	wire *wire
}

func (w wired) Reader() sqlx.ExtContext { return w.db.Reader() }
func (w wired) Writer() sqlx.ExtContext { return w.wire }

func newWired(db *schema.DB) wired { return wired{db, &wire{ExtContext: db.Writer()}} }

func isInsert(query string) bool { return strings.HasPrefix(query, "INSERT") }

var (
	noon  = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	today = quota.Day(noon)
	month = quota.Month(noon)
)

func atNoon() time.Time { return noon }

func newCounters(db quota.Database) *quota.Counters {
	return quota.NewCounters(db, time.Hour, discard, atNoon)
}

func add(c *quota.Counters, in workspace.ID, times int) {
	for range times {
		c.Add(in, noon)
	}
}

func flush(t *testing.T, c *quota.Counters) {
	t.Helper()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// stored is what the database holds.
func stored(t *testing.T, db *schema.DB, in workspace.ID) (day, inMonth int64) {
	t.Helper()
	totals, err := quota.Totals(t.Context(), db.Reader(), in, today, month)
	if err != nil {
		t.Fatal(err)
	}
	return totals[0], totals[1]
}

func wantStored(t *testing.T, db *schema.DB, in workspace.ID, want int64) {
	t.Helper()
	if day, inMonth := stored(t, db, in); day != want || inMonth != want {
		t.Errorf("%s has %d a day and %d a month, want %d", in, day, inMonth, want)
	}
}

func TestCountersAddUp(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		a, b := newCounters(db), newCounters(db)
		add(a, acme, 3)
		add(b, acme, 4)
		if a.Total(acme, today) != 3 || a.Total(acme, month) != 3 {
			t.Error("what is not written yet does not count")
		}
		flush(t, a)
		flush(t, b)
		wantStored(t, db, acme, 7)
		if a.Total(acme, today) != 3 || b.Total(acme, today) != 7 {
			t.Errorf("the totals are %d and %d, want 3 and 7", a.Total(acme, today), b.Total(acme, today))
		}
		add(a, acme, 1)
		flush(t, a)
		flush(t, a) // nothing is new: nothing is written
		wantStored(t, db, acme, 8)
		if a.Total(acme, today) != 8 || a.Total(acme, month) != 8 || a.Total("ws_other", today) != 0 {
			t.Errorf("total %d, want 8", a.Total(acme, today))
		}
	})
}

func TestCountersOfDaysAndMonths(t *testing.T) {
	db := schematest.SQLite(t)
	c := newCounters(db)
	for _, at := range []time.Time{
		time.Date(2026, 11, 30, 23, 59, 59, 999, time.UTC), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 12, 1, 1, 0, 0, 0, time.FixedZone("", 7200)),
	} {
		c.Add(acme, at)
	}
	flush(t, c)
	periods := []string{"2026-11-30", "2026-11", "2026-12-01", "2026-12"}
	totals, err := quota.Totals(t.Context(), db.Reader(), acme, periods...)
	if err != nil || fmt.Sprint(totals) != "[2 2 1 1]" {
		t.Errorf("%v has %v, %v", periods, totals, err)
	}
}

// Three replicas that write at the same time, all the same rows, lose nothing.
func TestReplicasFlushAtOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var running sync.WaitGroup
		const workspaces, rounds, replicas = 300, 5, 3
		counters := make([]*quota.Counters, replicas)
		for i := range counters {
			counters[i] = newCounters(db)
			for range 2 { // of one replica, too, flushes may meet
				running.Go(func() {
					for range rounds {
						for w := range workspaces {
							add(counters[i], workspace.ID(fmt.Sprint("ws_", w)), w%3+1)
						}
						if err := counters[i].Flush(t.Context()); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		running.Wait()
		for _, c := range counters { // what a flush has kept for the next
			flush(t, c)
			if c.Dropped() != 0 {
				t.Errorf("%d were dropped", c.Dropped())
			}
		}
		for w := range workspaces {
			wantStored(t, db, workspace.ID(fmt.Sprint("ws_", w)), int64((w%3+1)*rounds*2*replicas))
		}
	})
}

// What is certainly not written is written later, once.
func TestFailedFlushIsRepeated(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		line := newWired(db)
		c := newCounters(line)
		for i := range 150 { // two statements
			add(c, workspace.ID(fmt.Sprint("ws_", i)), 2)
		}
		line.wire.fail = func(string) error { return errAway } // not even the question whether it is there is answered
		if err := c.Flush(t.Context()); err == nil {
			t.Fatal("written although the line is cut")
		}
		add(c, "ws_0", 1)
		if got := c.Total("ws_0", today); got != 3 {
			t.Errorf("total %d, want 3", got)
		}
		line.wire.fail = nil
		flush(t, c)
		wantStored(t, db, "ws_0", 3)
		wantStored(t, db, "ws_149", 2)
		if c.Dropped() != 0 {
			t.Errorf("%d were dropped", c.Dropped())
		}
	})
}

// An answer of the database that the statement failed leaves no doubt either.
func TestRefusedStatementIsRepeated(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		line := newWired(db)
		c := newCounters(line)
		add(c, acme, 2)
		line.wire.fail = func(query string) error {
			if !isInsert(query) {
				return nil
			}
			_, err := db.Writer().ExecContext(context.Background(), "INSERT INTO exchange_counts (workspace_id, period, exchanges) VALUES (?, ?, NULL)", "ws_x", "x")
			return err
		}
		if err := c.Flush(t.Context()); err == nil {
			t.Fatal("written although it was refused")
		}
		line.wire.fail = nil
		flush(t, c)
		wantStored(t, db, acme, 2)
		if c.Dropped() != 0 {
			t.Errorf("%d were dropped", c.Dropped())
		}
	})
}

// Whether a statement was executed may stay unknown. It is never repeated: of the
// two possible mistakes, counting twice is the worse.
func TestDoubtfulStatementIsNotRepeated(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		for name, executed := range map[string]bool{"executed": true, "lost": false} {
			in := workspace.ID("ws_" + name)
			line := newWired(db)
			c := newCounters(line)
			add(c, in, 5)
			doubt := func(query string) error {
				if isInsert(query) {
					return context.DeadlineExceeded
				}
				return nil
			}
			if executed {
				line.wire.after = doubt
			} else {
				line.wire.fail = doubt
			}
			if err := c.Flush(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("flush: %v", err)
			}
			line.wire.fail, line.wire.after = nil, nil
			if c.Total(in, today) != 5 || c.Dropped() != 10 {
				t.Errorf("%s: total %d, %d dropped: a day's and a month's five are in doubt, and known here", name, c.Total(in, today), c.Dropped())
			}
			add(c, in, 2)
			flush(t, c)
			want := int64(2)
			if executed {
				want = 7
			}
			wantStored(t, db, in, want)
			if c.Total(in, today) != 7 {
				t.Errorf("%s: total %d, want 7", name, c.Total(in, today))
			}
		}
	})
}
