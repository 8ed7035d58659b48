package quota_test

import (
	"context"
	"errors"
	"fmt"
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

// What is read while it is being written does not count twice.
func TestLoadDuringAFlush(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		other := newCounters(db)
		add(other, acme, 9)
		flush(t, other)
		line := newWired(db)
		c := newCounters(line)
		add(c, acme, 5)
		line.wire.after = func(query string) error {
			if !isInsert(query) {
				return nil
			}
			return c.Load(t.Context(), acme)
		}
		flush(t, c)
		if got := c.Total(acme, today); got != 14 {
			t.Errorf("total %d, want 14", got)
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
