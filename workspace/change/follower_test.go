package change_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// recorder is a cache that notes what it was told.
type recorder struct {
	mu      sync.Mutex
	batches []change.Batch
}

func (r *recorder) take(b change.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, b)
}

func (r *recorder) all() []change.Batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.batches
}

// saw reports whether a subject came in a complete batch.
func (r *recorder) saw(subject string) bool {
	for _, b := range r.all() {
		if b.Complete && b.Subjects[subject] {
			return true
		}
	}
	return false
}

// forgotEverything returns the number of the last incomplete batch, or 0.
func (r *recorder) forgotEverything() (seq int64) {
	for _, b := range r.all() {
		if !b.Complete {
			seq = b.Seq
		}
	}
	return seq
}

func acked(t testing.TB, db *schema.DB) int64 {
	return get[int64](t, db, `SELECT COALESCE(MAX(acked_seq), -1) FROM replicas`)
}

// The caches take a change in before it is acknowledged, each subject once.
func TestFollowerAppliesThenAcknowledges(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		before := commit(t, db, "before")
		var r recorder
		f := newFollower(t, db, r.take, func(b change.Batch) {
			if got := acked(t, db); got >= b.Seq {
				t.Errorf("change %d is acknowledged while it is taken in: acked is %d", b.Seq, got)
			}
		})
		if f.Applied() != before || acked(t, db) != before || r.forgotEverything() != before {
			t.Errorf("after Start %d is applied and %d acknowledged, want %d", f.Applied(), acked(t, db), before)
		}
		run(t, f)
		var last int64
		for _, subject := range []string{"a", "b", "c"} {
			last = commit(t, db, subject)
		}
		eventually(t, "the last change is acknowledged", func() bool { return acked(t, db) == last })
		for _, subject := range []string{"a", "b", "c"} {
			if !r.saw(subject) {
				t.Errorf("the change of %s did not reach the cache", subject)
			}
		}
		if f.Applied() != last {
			t.Errorf("applied is %d, want %d", f.Applied(), last)
		}
		if r.forgotEverything() != before {
			t.Error("the cache was told to forget everything again")
		}
	})
}

// A cache that cannot take a change in holds back the acknowledgement, and with
// it the lease, until it can.
func TestChangeThatIsNotTakenInIsNotAcknowledged(t *testing.T) {
	db := schematest.SQLite(t)
	var broken atomic.Bool
	f := &change.Follower{Database: db, Timing: timing, Log: discard, OnChange: []func(context.Context, change.Batch) error{
		func(context.Context, change.Batch) error {
			if broken.Load() {
				return errors.New("broken")
			}
			return nil
		},
	}}
	check(t, f.Start(t.Context()))
	broken.Store(true)
	run(t, f)
	seq := commit(t, db, "key")
	eventually(t, "the lease has run out", func() bool { return !f.Held() })
	if acked(t, db) >= seq || f.Applied() >= seq {
		t.Error("the change is acknowledged although it was not taken in")
	}
	broken.Store(false)
	eventually(t, "it is taken in", func() bool { return f.Held() && acked(t, db) >= seq })
}

func TestQuietFollowerDisturbsNoCache(t *testing.T) {
	db := schematest.SQLite(t)
	var calls atomic.Int64
	run(t, newFollower(t, db, func(change.Batch) { calls.Add(1) }))
	eventually(t, "some renewals", func() bool { return get[int](t, db, `SELECT renewals FROM replicas`) > 5 })
	if n := calls.Load(); n != 1 {
		t.Errorf("the cache was called %d times although nothing changed after the start", n)
	}
}

// Too far behind, or another database than before: nothing cached is trusted.
func TestFollowerForgetsEverything(t *testing.T) {
	for name, test := range map[string]struct{ from, to int64 }{
		"a gap beyond the retention":  {3, change.Retention + 100},
		"a counter that went back":    {500, 20},
		"a counter that went to zero": {500, 0},
	} {
		t.Run(name, func(t *testing.T) {
			schematest.Each(t, func(t *testing.T, db *schema.DB) {
				exec(t, db, `UPDATE change_counter SET seq = ?`, test.from)
				var r recorder
				f := newFollower(t, db, r.take)
				if r.forgotEverything() != test.from || f.Applied() != test.from {
					t.Fatal("it did not begin where the counter was")
				}
				run(t, f)
				exec(t, db, `UPDATE change_counter SET seq = ?`, test.to)
				eventually(t, "the new number is acknowledged", func() bool { return acked(t, db) == test.to })
				got := r.all()
				if len(got) != 2 || got[1].Complete || got[1].Seq != test.to {
					t.Errorf("the cache was told %+v, want to forget everything at %d", got, test.to)
				}
			})
		})
	}
}

// Without the database the lease runs out, and is held again when it is back.
func TestLeaseLapsesWithoutTheDatabase(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var gone atomic.Bool
		back := make(chan struct{})
		f := newFollower(t, tap{db, func(string) {
			if gone.Load() {
				<-back
			}
		}})
		if !f.Held() {
			t.Fatal("the lease is not held after Start")
		}
		run(t, f)
		gone.Store(true)
		eventually(t, "the lease has lapsed", func() bool { return !f.Held() })
		gone.Store(false)
		close(back)
		eventually(t, "the lease is held again", f.Held)
		check(t, db.Close())
		eventually(t, "the lease has lapsed again", func() bool { return !f.Held() })
	})
}

// A lease counts from before the renewal was sent: one that took longer than a
// lease gives none.
func TestSlowRenewalGivesNoLease(t *testing.T) {
	db := schematest.SQLite(t)
	f := &change.Follower{Timing: timing, Log: discard, Database: tap{db, func(query string) {
		if strings.HasPrefix(query, "UPDATE replicas") {
			<-time.After(timing.Lease)
		}
	}}}
	check(t, f.Start(t.Context()))
	if f.Held() {
		t.Error("the lease is held after a renewal that lasted as long as a lease")
	}
}

// The wall clock is for people: it may stand or jump.
func TestLeaseIgnoresTheWallClock(t *testing.T) {
	db := schematest.SQLite(t)
	var wall atomic.Int64
	f := &change.Follower{
		Database: db, Timing: change.Timing{Lease: time.Hour, Renewal: time.Millisecond}, Log: discard,
		Now: func() time.Time { return time.Unix(wall.Load(), 0) },
	}
	check(t, f.Start(t.Context()))
	run(t, f)
	for _, second := range []int64{-1e9, 0, 9e9} {
		wall.Store(second)
		eventually(t, "the clock shows in the table", func() bool {
			return get[int64](t, db, `SELECT renewed_at FROM replicas`) == second*1e6
		})
		if !f.Held() {
			t.Errorf("the lease is lost when the clock shows %d", second)
		}
	}
}

// A replica that was taken for dead comes back under another name, and has
// taken in what changed meanwhile.
func TestRemovedReplicaRegistersAgain(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var r recorder
		f := newFollower(t, db, r.take)
		old := get[string](t, db, `SELECT id FROM replicas`)
		exec(t, db, `DELETE FROM replicas`)
		seq := commit(t, db, "meanwhile")
		run(t, f)
		eventually(t, "it is registered again", func() bool { return rows(t, db) == 1 })
		if id := get[string](t, db, `SELECT id FROM replicas`); id == old {
			t.Error("it came back under its old name")
		}
		eventually(t, "the lease is held", f.Held)
		eventually(t, "the change is acknowledged", func() bool { return acked(t, db) == seq })
		if !r.saw("meanwhile") {
			t.Error("the change did not reach the cache")
		}
	})
}

// While a replica has no row nobody waits for it, so it must not take a lease
// for what it read before it had one.
func TestChangeWhileAReplicaRegistersAgain(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var seq int64
		before := func(string) {}
		f := newFollower(t, tap{db, func(query string) { before(query) }})
		exec(t, db, `DELETE FROM replicas`)
		before = func(query string) {
			if strings.HasPrefix(query, "INSERT INTO replicas") {
				seq = commit(t, db, "key")
				await(t, db, seq, timing)
			}
		}
		check(t, f.Start(t.Context())) // a renewal
		if seq == 0 {
			t.Fatal("it did not register again")
		}
		mustNotServeOld(t, f, seq)
	})
}

func TestRunGivesTheLeaseUp(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		leak := goleak.IgnoreCurrent()
		f := newFollower(t, db)
		stop := run(t, f)
		eventually(t, "a renewal", func() bool { return get[int](t, db, `SELECT renewals FROM replicas`) > 2 })
		stop()
		if f.Held() || rows(t, db) != 0 {
			t.Errorf("after Run the lease is held: %v, and %d rows are left", f.Held(), rows(t, db))
		}
		goleak.VerifyNone(t, leak)
	})
}

func TestFollowerCountsThoseThatLive(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		first := newFollower(t, db)
		if first.Replicas() != 1 {
			t.Errorf("alone there are %d", first.Replicas())
		}
		run(t, first)
		second, third := newFollower(t, db), newFollower(t, db)
		stop := run(t, second)
		eventually(t, "three are seen", func() bool { return first.Replicas() == 3 })
		stop() // it says goodbye
		// The third never renews: it has crashed, and its row stays.
		eventually(t, "one is left", func() bool { return first.Replicas() == 1 })
		if n := rows(t, db); n < 2 {
			t.Errorf("%d rows: the row of the dead is gone, so that this shows nothing", n)
		}
		_ = third
	})
}
