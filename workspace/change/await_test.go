package change_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

func TestAwaitWithoutReplicas(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		await(t, db, commit(t, db, "key"), timing)
	})
}

// With a lease of an hour Await cannot wait for its end: it returns because the
// replicas acknowledge.
func TestAwaitReturnsWhenAcknowledged(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		long := change.Timing{Lease: time.Hour, Renewal: 10 * time.Millisecond}
		var followers []*change.Follower
		for range 3 {
			f := &change.Follower{Database: db, Timing: long, Log: discard}
			check(t, f.Start(t.Context()))
			run(t, f)
			followers = append(followers, f)
		}
		for range 5 {
			seq := commit(t, db, "key")
			await(t, db, seq, long)
			for _, f := range followers {
				if f.Applied() < seq {
					t.Errorf("a replica has applied %d when Await(%d) returns", f.Applied(), seq)
				}
				if !f.Held() {
					t.Error("a replica lost its lease")
				}
			}
		}
	})
}

// Whoever waits on the same replica does not wait for its next tick, which would
// take an hour here.
func TestHurry(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		f := &change.Follower{Database: db, Timing: change.Timing{Lease: time.Hour, Renewal: time.Hour}, Log: discard}
		check(t, f.Start(t.Context()))
		run(t, f)
		for range 3 {
			seq := commit(t, db, "key")
			f.Hurry()
			f.Hurry()
			await(t, db, seq, change.Timing{Lease: time.Hour, Renewal: 10 * time.Millisecond})
			if f.Applied() < seq {
				t.Errorf("change %d is awaited, and %d applied", seq, f.Applied())
			}
		}
	})
}

// A replica that died is waited for until its lease has run out, and only once.
func TestAwaitOutlastsTheDead(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		dead := newFollower(t, db) // it never renews
		seq := commit(t, db, "key")
		await(t, db, seq, timing)
		if dead.Held() {
			t.Error("the lease of the dead replica is held when Await returns")
		}
		if n := rows(t, db); n != 0 {
			t.Errorf("%d rows are left of the dead replica", n)
		}
	})
}

// A replica whose caches are slow to take a change in loses its lease first, and
// goes on when they are done.
func TestAwaitWithASlowReplica(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		release := make(chan struct{})
		slow := newFollower(t, db, func(b change.Batch) {
			if b.Complete { // not the first one, at the start
				<-release
			}
		})
		run(t, slow)
		quick := newFollower(t, db)
		run(t, quick)
		seq := commit(t, db, "key")
		await(t, db, seq, timing)
		mustNotServeOld(t, slow, seq)
		mustNotServeOld(t, quick, seq)
		if slow.Applied() >= seq {
			t.Error("the slow replica has applied the change already")
		}
		close(release)
		eventually(t, "the slow replica is back", func() bool { return slow.Held() && slow.Applied() >= seq })
	})
}

// A renewal that was under way when the change was committed does not count as
// having seen it.
func TestAwaitIsNotMisledByAnOldRenewal(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var once sync.Once
		var seq int64
		f := newFollower(t, tap{db, func(query string) {
			if strings.HasPrefix(query, "UPDATE replicas") && rows(t, db) == 1 {
				once.Do(func() { seq = commit(t, db, "key") }) // read before, acknowledged after
			}
		}})
		if f.Applied() >= seq {
			t.Fatalf("change %d came too early", seq)
		}
		await(t, db, seq, timing)
		mustNotServeOld(t, f, seq)
	})
}

// Replicas that register after the change have read it: those that come while it
// waits for a dead one are still there when it returns.
func TestAwaitDoesNotWaitForNewcomers(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		register := func(id string) {
			exec(t, db, `INSERT INTO replicas (id, host, renewals, acked_seq, renewed_at) VALUES (?, '', 0, -1, 0)`, id)
		}
		register("dead")
		seq := commit(t, db, "key")
		done := make(chan error)
		go func() {
			_, err := change.Await(t.Context(), db, seq, timing)
			done <- err
		}()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case err := <-done:
				check(t, err)
				if left := rows(t, db); left == 0 {
					t.Errorf("of %d newcomers none is left", i)
				}
				return
			case <-tick.C:
				if i < 100 {
					register(fmt.Sprint("newcomer", i))
				}
			}
		}
	})
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		newFollower(t, db)
		seq := commit(t, db, "key")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		_, err := change.Await(ctx, db, seq, change.Timing{Lease: time.Hour, Renewal: time.Millisecond})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Await: %v, want the deadline", err)
		}
		if rows(t, db) != 1 {
			t.Error("a replica whose lease has not run out was removed")
		}
	})
}

// Replicas come, crash and stop while changes are made: when Await returns, none
// serves what was before.
func TestNobodyServesOldAfterAwait(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var followers []*change.Follower
		stops := []func(){}
		for i := range 12 {
			f := newFollower(t, db)
			followers = append(followers, f)
			switch {
			case i%3 == 0: // crashed: it never renews
			case len(stops) > 2:
				stops[0]()
				stops = stops[1:]
				fallthrough
			default:
				stops = append(stops, run(t, f))
			}
			seq := commit(t, db, "key")
			await(t, db, seq, timing)
			for _, f := range followers {
				mustNotServeOld(t, f, seq)
			}
		}
	})
}
