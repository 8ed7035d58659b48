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
	"go.uber.org/goleak"

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

func TestLoad(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		other := newCounters(db)
		add(other, acme, 9)
		flush(t, other)

		c := newCounters(db)
		add(c, acme, 1)
		before := db.Queries()
		for range 3 {
			if err := c.Load(t.Context(), acme); err != nil {
				t.Fatal(err)
			}
		}
		if c.Total(acme, today) != 10 || c.Total(acme, month) != 10 {
			t.Errorf("total %d, want 10", c.Total(acme, today))
		}
		if sent := db.Queries() - before; sent != 1 {
			t.Errorf("%d queries for three loads", sent)
		}
		flush(t, c)
		wantStored(t, db, acme, 10)
		if c.Total(acme, today) != 10 {
			t.Errorf("total %d after it was written, want 10", c.Total(acme, today))
		}
	})
}

func TestLoadTriesAgainAfterAWhile(t *testing.T) {
	now := noon
	c := quota.NewCounters(noDatabase{}, time.Hour, discard, func() time.Time { return now })
	if err := c.Load(t.Context(), acme); !errors.Is(err, errAway) {
		t.Errorf("load: %v", err)
	}
	if err := c.Load(t.Context(), acme); err == nil || errors.Is(err, errAway) {
		t.Errorf("load at once again: %v", err)
	}
	now = now.Add(time.Second)
	if err := c.Load(t.Context(), acme); !errors.Is(err, errAway) {
		t.Errorf("load a second later: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	now = now.Add(time.Second)
	if err := c.Load(ended, acme); err == nil {
		t.Error("loaded from nowhere")
	}
}

func TestPrune(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		c := newCounters(db)
		for _, at := range []string{"2025-09-30", "2025-10-01", "2025-10-19", "2025-10-20", "2025-11-01", "2026-11-24"} {
			day, err := time.Parse("2006-01-02", at)
			if err != nil {
				t.Fatal(err)
			}
			c.Add(acme, day)
		}
		flush(t, c)
		gone, err := c.Prune(t.Context(), "2025-10-20")
		if err != nil || gone != 5 {
			t.Errorf("%d rows were deleted, %v; want three days and two months", gone, err)
		}
		var left []string
		if err := sqlx.SelectContext(t.Context(), db.Reader(), &left, "SELECT period FROM exchange_counts ORDER BY period"); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(left) != "[2025-10-20 2025-11 2025-11-01 2026-11 2026-11-24]" {
			t.Errorf("left are %v", left)
		}
	})
}

func TestRunOfCounters(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		leak := goleak.IgnoreCurrent()
		_, err := db.Writer().ExecContext(t.Context(), "INSERT INTO exchange_counts (workspace_id, period, exchanges) VALUES (?, ?, ?)", "ws_old", "2025-10-01", 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		c := quota.NewCounters(db, time.Millisecond, discard, atNoon)
		var running sync.WaitGroup
		running.Go(func() { c.Run(ctx) })
		add(c, acme, 1)
		old := func() (n int) {
			if err := sqlx.GetContext(t.Context(), db.Reader(), &n, "SELECT COUNT(*) FROM exchange_counts WHERE period < ?", "2025-10-20"); err != nil {
				t.Fatal(err)
			}
			return n
		}
		for deadline := time.Now().Add(20 * time.Second); ; <-time.After(time.Millisecond) {
			if day, _ := stored(t, db, acme); day == 1 && old() == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("not written, or old rows not deleted")
			}
		}
		add(c, acme, 1)
		stop()
		running.Wait()
		wantStored(t, db, acme, 2)

		ended, end := context.WithCancel(t.Context())
		end()
		last := newCounters(db)
		add(last, acme, 1)
		last.Run(ended)
		wantStored(t, db, acme, 3)
		goleak.VerifyNone(t, leak)
	})
}

// What does not fit is counted as missing; what is known needs no room.
func TestCountersAreBounded(t *testing.T) {
	c := quota.NewCounters(noDatabase{}, time.Hour, discard, atNoon)
	for i := range 100_003 {
		c.Add(workspace.ID(fmt.Sprint("ws_", i)), noon)
	}
	add(c, "ws_0", 1)
	if c.Dropped() != 6 || c.Total("ws_0", today) != 2 {
		t.Errorf("%d dropped, want a day and a month of three", c.Dropped())
	}
	if err := c.Flush(t.Context()); err == nil {
		t.Error("written to nowhere")
	}
	if c.Dropped() != 6 {
		t.Errorf("%d dropped after a flush that failed", c.Dropped())
	}
}

// What SQL knows counts, though the source has never heard of it.
func TestCountersAreTheFloor(t *testing.T) {
	db := schematest.SQLite(t)
	before := newCounters(db)
	add(before, acme, 7)
	flush(t, before)
	for _, down := range []bool{false, true} {
		c := newCounters(db)
		f := newFleet(t, 1, quota.Limits{PerDay: n(10)}, func(o *quota.Options) { o.Counters, o.Now = c, atNoon })
		f.line.down = down
		if got := f.burst(0); got != 3 {
			t.Errorf("%d of the 3 that are left (source down: %t)", got, down)
		}
		if c.Total(acme, today) != 10 {
			t.Errorf("%d are counted, want 10", c.Total(acme, today))
		}
	}
}

// Exchanges without a limit are counted too, and a database that is away stops none.
func TestCountersWithoutLimitsOrDatabase(t *testing.T) {
	c := quota.NewCounters(noDatabase{}, time.Hour, discard, atNoon)
	f := newFleet(t, 1, quota.Limits{}, func(o *quota.Options) { o.Counters, o.Now = c, atNoon })
	f.spend(0)
	f.set(quota.Limits{PerMonth: n(5)})
	if got := f.burst(0); got != 4 || c.Total(acme, month) != 5 {
		t.Errorf("%d of the 4 that are left; %d are counted", got, c.Total(acme, month))
	}
}
