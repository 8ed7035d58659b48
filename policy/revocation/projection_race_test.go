package revocation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Replicas race to push and to build while Redis loses now this and now that. What
// was told to a server that still vouches is never missing, and in the end Redis has
// what the database has.
func TestProjectionsRace(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	var replicas []*replica
	for range 3 {
		replicas = append(replicas, newReplica(t, b, client))
	}
	for _, r := range replicas {
		r.settled(t)
	}
	losses := []func(ctx context.Context) error{
		func(ctx context.Context) error { return client.FlushAll(ctx).Err() },
		func(ctx context.Context) error { return client.Del(ctx, stateKey).Err() },
		func(ctx context.Context) error { return client.ZRemRangeByRank(ctx, deniedKey, 0, 0).Err() },
		func(ctx context.Context) error { return client.Del(ctx, changedKey).Err() },
	}
	ctx, cancel := context.WithCancel(t.Context())
	var told, vouched int
	var mu sync.Mutex
	var writers, losing sync.WaitGroup
	losing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(rand.IntN(int(8 * interval)))):
				if err := losses[i%len(losses)](ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		}
	})
	for w, r := range replicas {
		writers.Go(func() {
			for i := range 40 {
				key := fmt.Sprintf("key_%d_%d", w, i)
				seq := b.revoke(key)
				name, err := r.Tell(ctx, seq)
				if err != nil {
					continue // it was lost meanwhile, and nobody is told that it was not
				}
				for _, asked := range replicas {
					batch, err := asked.Vouch(ctx, name, seq-1)
					if err == nil && !batch.Subjects[key] {
						t.Errorf("change %d is told to a server that vouches for %+v", seq, batch)
					}
					mu.Lock()
					if told++; err == nil {
						vouched++
					}
					mu.Unlock()
				}
			}
		})
	}
	writers.Wait()
	cancel()
	losing.Wait()
	eventually(t, "all agree", func() bool {
		for _, r := range replicas {
			if s := r.State(); r.list.Position() != b.newest() || r.Name() == "" || s.Lag != 0 {
				return false
			}
		}
		return state(t, client)["epoch"] == fmt.Sprint(b.newest().Epoch)
	})
	sameAsSQL(t, b, client)
	var all revocation.ProjectionState
	for _, r := range replicas {
		s := r.State()
		all.Rebuilds, all.EpochChanges, all.Diverged = all.Rebuilds+s.Rebuilds, all.EpochChanges+s.EpochChanges, all.Diverged+s.Diverged
	}
	if all.Diverged != 0 || all.Rebuilds > all.EpochChanges {
		t.Errorf("%+v", all)
	}
	t.Logf("told %d times, vouched for %d times, %d epochs, %d built", told, vouched, all.EpochChanges, all.Rebuilds)
}

// A list is loaded by the follower and by others at the same time: it has each entry
// once, and never goes back, also while epochs change.
func TestListLoadsAtTheSameTime(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	l := &revocation.List{Issuer: issuer, Reader: b.Reader()}
	ctx, cancel := context.WithCancel(t.Context())
	var loading sync.WaitGroup
	for range 4 {
		loading.Go(func() {
			for ctx.Err() == nil {
				before := l.Position()
				if err := l.Load(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				if after := l.Position(); after.Epoch < before.Epoch || after.Sequence < before.Sequence {
					t.Errorf("from %+v to %+v", before, after)
				}
			}
		})
	}
	const changes = 60
	for i := range changes {
		b.revoke(fmt.Sprint("key", i))
		if _, err := b.renew(ctx, b.newest().Epoch); err != nil {
			t.Error(err)
		}
	}
	cancel()
	loading.Wait()
	load(t, l)
	if _, items := l.Since(0); len(items) != changes {
		t.Errorf("%d entries of %d revocations", len(items), changes)
	}
}

// many appends entries, and returns the number of the last change.
func (b booth) many(n int) (seq int64) {
	b.Helper()
	seq, err := b.transact(b.Context(), []string{revocation.Subject}, func(ctx context.Context, tx sqlx.ExtContext) error {
		entries := make([]revocation.Entry, n)
		for i := range entries {
			entries[i] = revocation.Entry{Kind: oauth.RevocableKey, SubjectID: fmt.Sprint("key", i), Generation: 2, At: workspace.At(time.Now())}
		}
		_, err := revocation.Append(ctx, tx, entries...)
		return err
	})
	check(b, err)
	return seq
}

// 100 000 entries are there again within seconds.
func TestRebuildMany(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	b.many(100_000)
	r := newReplica(t, b, client)
	r.settled(t)
	began := time.Now()
	check(t, client.FlushAll(t.Context()).Err())
	eventually(t, "it is built again", func() bool { return r.State().Rebuilds == 2 })
	r.settled(t)
	t.Logf("noticed and built in %s, of which building took %s", time.Since(began), r.State().RebuildTook)
	sameAsSQL(t, b, client)
}

// One push of one revocation, from the follower's call until Redis has it.
func BenchmarkTell(bench *testing.B) {
	b := booth{bench, schematest.SQLite(bench)}
	r := newReplica(bench, b, redisAt(bench))
	r.settled(bench)
	for bench.Loop() {
		seq := b.revoke("key")
		r.follower.Hurry()
		if _, err := r.Tell(bench.Context(), seq); err != nil {
			bench.Fatal(err)
		}
	}
}

// What a replica without the database pays for each exchange.
func BenchmarkVouch(bench *testing.B) {
	b := booth{bench, schematest.SQLite(bench)}
	r := newReplica(bench, b, redisAt(bench))
	name := r.settled(bench)
	since := r.follower.Applied()
	for bench.Loop() {
		if _, err := r.Vouch(bench.Context(), name, since); err != nil {
			bench.Fatal(err)
		}
	}
}

func redisAt(tb testing.TB) redis.UniversalClient {
	return clientOf(tb, schematest.PrivateRedis(tb).Address())
}
