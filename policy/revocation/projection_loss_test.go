package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
)

// auditor looks at Redis all the time as a reader does: what says that it is whole
// has every entry up to the number that it names.
func auditor(t *testing.T, client redis.UniversalClient) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			var held *redis.MapStringStringCmd
			var members *redis.StringSliceCmd
			_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
				held, members = p.HGetAll(ctx, stateKey), p.ZRange(ctx, deniedKey, 0, -1)
				return nil
			})
			if err != nil || len(held.Val()) == 0 || held.Val()["count"] != fmt.Sprint(len(members.Val())) {
				continue // unknown, and that is what it says
			}
			if held.Val()["seq"] != fmt.Sprint(len(members.Val())) {
				t.Errorf("Redis says that it is whole at %s, with %d members", held.Val()["seq"], len(members.Val()))
				return
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// However Redis loses everything or anything, it is unknown until it has everything
// again, under another epoch.
func TestLossIsMended(t *testing.T) {
	server := schematest.PrivateRedis(t)
	client := clientOf(t, server.Address())
	for name, test := range map[string]struct {
		lose     func(ctx context.Context) error
		diverges uint64 // how many replicas may count it
	}{
		"FLUSHALL":                {func(ctx context.Context) error { return client.FlushAll(ctx).Err() }, 0},
		"kill -9 and empty again": {func(context.Context) error { server.Kill(); server.Start(); return nil }, 0},
		"DEL of the state":        {func(ctx context.Context) error { return client.Del(ctx, stateKey).Err() }, 0},
		"DEL of the members":      {func(ctx context.Context) error { return client.Del(ctx, deniedKey).Err() }, 0},
		"DEL of the subjects":     {func(ctx context.Context) error { return client.Del(ctx, changedKey).Err() }, 0},
		"one member":              {func(ctx context.Context) error { return client.ZRemRangeByRank(ctx, deniedKey, 7, 7).Err() }, 0},
		"one field":               {func(ctx context.Context) error { return client.HDel(ctx, stateKey, "floor").Err() }, 0},
		"a field with nonsense":   {func(ctx context.Context) error { return client.HSet(ctx, stateKey, "seq", "many").Err() }, 0},
		"a number that is ahead":  {func(ctx context.Context) error { return client.HIncrBy(ctx, stateKey, "seq", 1000).Err() }, 2},
		"an epoch that is ahead":  {func(ctx context.Context) error { return client.HIncrBy(ctx, stateKey, "epoch", 1).Err() }, 2},
		"one member for another": {func(ctx context.Context) error {
			member := client.ZRange(ctx, deniedKey, 7, 7).Val()[0]
			_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.ZRem(ctx, deniedKey, member)
				return p.ZAdd(ctx, deniedKey, redis.Z{Score: 8, Member: strings.Replace(member, ":2:", ":1:", 1)}).Err()
			})
			return err
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := booth{t, schematest.SQLite(t)}
			check(t, client.FlushAll(t.Context()).Err())
			one, two := newReplica(t, b, client), newReplica(t, b, client)
			one.settled(t)
			two.settled(t)
			for i := range 20 {
				b.revoke(fmt.Sprint("key", i))
			}
			one.settled(t)
			two.settled(t)
			epoch := b.newest().Epoch
			if test.diverges == 0 && !strings.Contains(name, "a field") { // those lie
				stop := auditor(t, client)
				defer stop()
			}
			check(t, test.lose(t.Context()))
			for _, r := range []*replica{one, two} {
				eventually(t, "a new epoch is whole", func() bool {
					return b.newest().Epoch > epoch && r.list.Position() == b.newest() && r.Name() != "" && r.State().Lag == 0
				})
			}
			seq := b.revoke("after")
			_, err := two.Tell(t.Context(), seq)
			check(t, err)
			sameAsSQL(t, b, client)
			if n := one.State().Diverged + two.State().Diverged; n > test.diverges || (n == 0) != (test.diverges == 0) {
				t.Errorf("%d divergences are counted, %d expected at most", n, test.diverges)
			}
			if n := one.State().Rebuilds + two.State().Rebuilds; n > 4 {
				t.Errorf("it was built %d times", n)
			}
		})
	}
}

// A number that went back is no failover when the server is the same. Whoever replays
// the gap before that is noticed does no harm.
func TestNumberGoesBack(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	r := newReplica(t, b, client)
	for i := range 5 {
		b.revoke(fmt.Sprint("key", i))
	}
	r.settled(t)
	check(t, client.HSet(t.Context(), stateKey, "seq", 3).Err())
	eventually(t, "it is mended", func() bool { return state(t, client)["seq"] == "5" })
	r.settled(t)
	sameAsSQL(t, b, client)
}

// Until it is built, nobody is told that Redis knows, and nobody vouches.
func TestLossIsUnknown(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	server := schematest.PrivateRedis(t)
	client := clientOf(t, server.Address())
	var held atomic.Bool
	r := newReplica(t, b, client, func(o *revocation.ProjectionOptions) {
		o.Renew = func(ctx context.Context, old int64) (int64, error) {
			if held.Load() {
				return 0, errors.New("the database is away")
			}
			return b.renew(ctx, old)
		}
	})
	since := b.revoke("key")
	name := r.settled(t)
	held.Store(true)
	check(t, client.FlushAll(t.Context()).Err())
	if _, err := r.Vouch(t.Context(), name, since); !errors.Is(err, revocation.ErrNotVouched) {
		t.Errorf("an empty Redis vouches: %v", err)
	}
	eventually(t, "it is noticed", func() bool { return r.State().Unknown })
	seq := b.revoke("another")
	if told, err := r.Tell(t.Context(), seq); !errors.Is(err, revocation.ErrNotTold) || told != "" || r.Name() != "" {
		t.Errorf("told %q of %q, %v", told, r.Name(), err)
	}
	if s := r.State(); !s.Unknown || s.Why == "" || s.Lag != 2 {
		t.Errorf("%+v", s)
	}
	if fields := state(t, client); len(fields) != 0 {
		t.Errorf("there is a state: %v", fields)
	}
	held.Store(false)
	r.settled(t)
	sameAsSQL(t, b, client)
}

// The epoch was begun by a replica that does not build it: another takes over.
func TestTakeOver(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	r := newReplica(t, b, client)
	r.settled(t)
	old := b.newest().Epoch
	if _, err := b.renew(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another epoch is whole", func() bool { return r.State().EpochChanges == 2 && r.Name() != "" })
	sameAsSQL(t, b, client)
}

// pair is a primary and its replica, which a client reaches by one address.
type pair struct {
	one, two          *schematest.RedisServer
	first, second     redis.UniversalClient
	current           atomic.Pointer[string]
	client            redis.UniversalClient
	firstAt, secondAt string
}

func newPair(t *testing.T) *pair {
	p := &pair{one: schematest.PrivateRedis(t, "--repl-diskless-sync-delay", "0")}
	p.firstAt = p.one.Address()
	host, port, err := net.SplitHostPort(p.firstAt)
	check(t, err)
	p.two = schematest.PrivateRedis(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0")
	p.secondAt = p.two.Address()
	p.first, p.second = clientOf(t, p.firstAt), clientOf(t, p.secondAt)
	p.current.Store(&p.firstAt)
	p.client = connect(t, options(&p.current))
	return p
}

// same waits until the replica of a pair has what the primary has.
func (p *pair) same(t *testing.T, primary, replica redis.UniversalClient) {
	t.Helper()
	eventually(t, "the replica follows", func() bool {
		return strings.Contains(replica.Info(t.Context(), "replication").Val(), "master_link_status:up") &&
			primary.Do(t.Context(), "WAIT", 1, 500).Val() == int64(1)
	})
}

// A failover loses what was acknowledged last, while the epoch survives: the gap is
// noticed and replayed, and the server has another name.
func TestFailover(t *testing.T) {
	p := newPair(t)
	b := booth{t, schematest.SQLite(t)}
	one, two := newReplica(t, b, p.client), newReplica(t, b, p.client)
	for i := range 10 {
		b.revoke(fmt.Sprint("key", i))
	}
	name := one.settled(t)
	two.settled(t)
	p.same(t, p.first, p.second)
	check(t, p.second.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err()) // the link is cut
	lost := b.revoke("lost", "lost as well")
	for _, r := range []*replica{one, two} {
		told, err := r.Tell(t.Context(), lost)
		if err != nil || told != name {
			t.Fatalf("%q, %v", told, err)
		}
	}
	if at := number(t, state(t, p.second)["seq"]); at != 10 {
		t.Fatalf("the promoted one is at %d", at)
	}
	epoch := b.newest().Epoch
	p.one.Kill()
	p.current.Store(&p.secondAt)
	if batch, err := one.Vouch(t.Context(), name, lost-1); err == nil {
		t.Errorf("the promoted one vouches under the name of the lost: %+v", batch)
	}
	for _, r := range []*replica{one, two} {
		eventually(t, "the gap is replayed", func() bool { now := r.Name(); return now != "" && now != name && r.State().Lag == 0 })
	}
	sameAsSQL(t, b, p.second)
	if at := b.newest(); at.Epoch != epoch {
		t.Errorf("epoch %d followed %d", at.Epoch, epoch)
	}
	if s := one.State(); s.Diverged != 0 {
		t.Errorf("%+v", s)
	}
}

// A failover back and forth loses what was written between, in a process that has
// never been restarted.
func TestFailoverBackAndForth(t *testing.T) {
	p := newPair(t)
	b := booth{t, schematest.SQLite(t)}
	r := newReplica(t, b, p.client)
	b.revoke("key")
	name := r.settled(t)
	since := r.follower.Applied()
	p.same(t, p.first, p.second)
	check(t, p.second.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
	seq := b.revoke("lost")
	if told, err := r.Tell(t.Context(), seq); err != nil || told != name {
		t.Fatalf("%q, %v", told, err)
	}
	if batch, err := r.Vouch(t.Context(), name, since); err != nil || !batch.Subjects["lost"] {
		t.Fatalf("%+v, %v", batch, err)
	}
	r.stop()
	host, port, err := net.SplitHostPort(p.secondAt)
	check(t, err)
	check(t, p.first.Do(t.Context(), "REPLICAOF", host, port).Err())
	if _, err := r.Vouch(t.Context(), name, since); !errors.Is(err, revocation.ErrNotVouched) {
		t.Errorf("a replica vouches: %v", err)
	}
	p.same(t, p.second, p.first)
	check(t, p.first.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
	if batch, err := r.Vouch(t.Context(), name, since); !errors.Is(err, revocation.ErrNotVouched) {
		t.Errorf("what has lost the change vouches: %+v, %v", batch, err)
	}
}

// A Redis that drops keys when its memory is full is not relied on, and what it holds
// of us is not there; when it is mended there is another epoch.
func TestEviction(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	server := schematest.PrivateRedis(t)
	client := clientOf(t, server.Address())
	one, two := newReplica(t, b, client), newReplica(t, b, client)
	for i := range 20 {
		b.revoke(fmt.Sprint("key", i))
	}
	one.settled(t)
	two.settled(t)
	epoch := b.newest().Epoch
	check(t, client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
	check(t, client.ConfigSet(t.Context(), "maxmemory", "3mb").Err())
	text := strings.Repeat("x", 1000)
	for i := range 5000 {
		check(t, client.Set(t.Context(), fmt.Sprint("filler", i), text, 0).Err())
	}
	eventually(t, "it is noticed", func() bool {
		return one.State().Unknown && two.State().Unknown && one.State().Evicted > 0 && len(state(t, client)) == 0
	})
	seq := b.revoke("meanwhile")
	if _, err := one.Tell(t.Context(), seq); !errors.Is(err, revocation.ErrNotTold) {
		t.Errorf("told: %v", err)
	}
	if at := b.newest().Epoch; at != epoch {
		t.Errorf("an epoch was begun for a Redis that evicts: %d after %d", at, epoch)
	}
	check(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	check(t, client.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	one.settled(t)
	two.settled(t)
	if at := b.newest().Epoch; at == epoch {
		t.Error("it is relied on in the epoch in which it evicted")
	}
	sameAsSQL(t, b, client)
}

// Redis may hide its policy, and somebody else knows it.
func TestEvictionKnownOtherwise(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	var evicts atomic.Bool
	r := newReplica(t, b, client, func(o *revocation.ProjectionOptions) { o.Evicts = evicts.Load })
	r.settled(t)
	evicts.Store(true)
	eventually(t, "it is not relied on", func() bool { return r.Name() == "" && len(state(t, client)) == 0 })
	evicts.Store(false)
	r.settled(t)
	sameAsSQL(t, b, client)
}

// A Redis whose memory is full refuses, which is no loss.
func TestFullRedis(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	r := newReplica(t, b, client)
	r.settled(t)
	epoch := b.newest().Epoch
	check(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	seq := b.revoke("key")
	if _, err := r.Tell(t.Context(), seq); !errors.Is(err, revocation.ErrNotTold) {
		t.Errorf("told: %v", err)
	}
	check(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	r.settled(t)
	sameAsSQL(t, b, client)
	if at := b.newest().Epoch; at != epoch {
		t.Errorf("epoch %d followed %d", at, epoch)
	}
}

// A user who may do everything but ask which server it is: the reason says that a right
// is missing, and repeats nothing of the reply.
func TestUserWithoutARight(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	r := schematest.PrivateRedis(t)
	check(t, clientOf(t, r.Address()).Do(t.Context(), "ACL", "SETUSER", "poor", "on", ">hunter2", "~tokenbooth:*", "+@all", "-info").Err())
	address := r.Address()
	var current atomic.Pointer[string]
	current.Store(&address)
	o := options(&current)
	o.Username, o.Password = "poor", "hunter2"
	p := newReplica(t, b, connect(t, o))
	eventually(t, "a reason that names the missing right", func() bool { return strings.Contains(p.State().Why, "NOPERM") })
	if s := p.State(); !s.Unknown || strings.Contains(s.Why, "poor") || strings.Contains(s.Why, "user_script") {
		t.Errorf("the state is %+v", s)
	}
}

// A key of another type in the place of one of ours is taken away, and all is made
// anew.
func TestForeignKeysAreMended(t *testing.T) {
	for _, key := range []string{stateKey, deniedKey, changedKey} {
		t.Run(key, func(t *testing.T) {
			b, server := booth{t, schematest.SQLite(t)}, schematest.PrivateRedis(t)
			admin := clientOf(t, server.Address())
			p := newReplica(t, b, clientOf(t, server.Address()))
			p.settled(t)
			check(t, admin.Del(t.Context(), key).Err())
			check(t, admin.Set(t.Context(), key, "x", 0).Err())
			b.revoke("tbk_1")
			p.settled(t)
			sameAsSQL(t, b, admin)
		})
	}
}
