package revocation_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// The keys of the projection.
const (
	stateKey   = "tokenbooth:{revocation}:state"
	deniedKey  = "tokenbooth:{revocation}:denied"
	changedKey = "tokenbooth:{revocation}:changed"
	topic      = "tokenbooth:revocation"
)

// The library reports on standard error what it returns as well.
func init() { logging.Disable() }

var discard = slog.New(slog.DiscardHandler)

// interval is that of the watchdogs here.
const interval = 20 * time.Millisecond

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// options are those of a client that goes to whichever address is current.
func options(current *atomic.Pointer[string]) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs: []string{*current.Load()}, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second, PoolTimeout: time.Second,
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, *current.Load())
		},
	}
}

func connect(t testing.TB, o *redis.UniversalOptions) redis.UniversalClient {
	t.Helper()
	client := redis.NewUniversalClient(o)
	t.Cleanup(func() { check(t, client.Close()) })
	return client
}

func clientOf(t testing.TB, address string) redis.UniversalClient {
	t.Helper()
	var current atomic.Pointer[string]
	current.Store(&address)
	return connect(t, options(&current))
}

// booth is a database with the changes that are made in it.
type booth struct {
	testing.TB
	*schema.DB
}

// transact makes one change.
func (b booth) transact(ctx context.Context, subjects []string, do func(ctx context.Context, tx sqlx.ExtContext) error) (seq int64, err error) {
	err = b.InTx(ctx, func(ctx context.Context, tx sqlx.ExtContext) error {
		if seq, err = change.Lock(ctx, tx); err != nil {
			return err
		}
		if err := do(ctx, tx); err != nil {
			return err
		}
		return change.Record(ctx, tx, seq, workspace.At(time.Now()), subjects...)
	})
	return seq, err
}

// revoke commits the revocation of keys, and returns the number of the change.
func (b booth) revoke(keys ...string) int64 {
	b.Helper()
	var entries []revocation.Entry
	for _, key := range keys {
		entries = append(entries, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: key, Generation: 2, At: workspace.At(time.Now())})
	}
	seq, err := b.transact(b.Context(), keys, func(ctx context.Context, tx sqlx.ExtContext) error {
		_, err := revocation.Append(ctx, tx, entries...)
		return err
	})
	check(b, err)
	return seq
}

// touch commits a change that denies nothing.
func (b booth) touch(subjects ...string) int64 {
	b.Helper()
	seq, err := b.transact(b.Context(), subjects, func(context.Context, sqlx.ExtContext) error { return nil })
	check(b, err)
	return seq
}

// renew begins a new epoch.
func (b booth) renew(ctx context.Context, old int64) (epoch int64, err error) {
	_, err = b.transact(ctx, []string{revocation.Subject}, func(ctx context.Context, tx sqlx.ExtContext) error {
		begun, err := revocation.NextEpoch(ctx, tx, old, workspace.At(time.Now()))
		if err == nil && begun {
			var at oauth.Position
			at, err = revocation.Newest(ctx, tx)
			epoch = at.Epoch
		}
		return err
	})
	return epoch, err
}

func (b booth) newest() oauth.Position {
	b.Helper()
	at, err := revocation.Newest(b.Context(), b.Reader())
	check(b, err)
	return at
}

// want are the members that Redis should have, in order.
func (b booth) want() []string {
	b.Helper()
	l := &revocation.List{Issuer: issuer, Reader: b.Reader()}
	load(b, l)
	_, items := l.Since(0)
	members := []string{}
	for _, i := range items {
		members = append(members, fmt.Sprintf("%d:%s:%d:%d", i.Seq, i.Hash, i.Generation, i.Expiry))
	}
	return members
}

// replica is a process with its list, projection and follower.
type replica struct {
	*revocation.Projection
	b        booth
	list     *revocation.List
	follower *change.Follower
	stop     func()
}

// newReplica starts one.
func newReplica(t testing.TB, b booth, client redis.UniversalClient, configure ...func(*revocation.ProjectionOptions)) *replica {
	t.Helper()
	r := &replica{b: b, list: &revocation.List{Issuer: issuer, Reader: b.Reader()}}
	o := revocation.ProjectionOptions{Client: client, List: r.list, Renew: b.renew, Interval: interval, Log: discard}
	for _, f := range configure {
		f(&o)
	}
	r.Projection = revocation.NewProjection(o)
	r.follower = &change.Follower{
		Database: b, Timing: change.Timing{Lease: 2 * time.Second, Renewal: interval}, Log: discard,
		OnChange: []func(context.Context, change.Batch) error{r.list.Follow, r.Follow},
	}
	r.list.Held = r.follower.Held
	check(t, r.follower.Start(t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	running.Go(func() { r.follower.Run(ctx) })
	r.stop = func() { cancel(); running.Wait() }
	t.Cleanup(r.stop)
	return r
}

// settled waits until a replica finds that Redis has everything that is in the
// database now, and returns its name.
func (r *replica) settled(t testing.TB) (name string) {
	t.Helper()
	eventually(t, "Redis has everything", func() bool {
		newest, err := change.Newest(t.Context(), r.b.Reader())
		check(t, err)
		if name, err = r.Tell(t.Context(), newest); err != nil {
			return false
		}
		s := r.State()
		return name == r.Name() && !s.Unknown && s.Lag == 0 && r.list.Position() == r.b.newest()
	})
	return name
}

// state is the hash of the state.
func state(t testing.TB, client redis.UniversalClient) map[string]string {
	t.Helper()
	fields, err := client.HGetAll(context.Background(), stateKey).Result()
	check(t, err)
	return fields
}

func number(t testing.TB, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	check(t, err)
	return n
}

// sameAsSQL checks that Redis has what the database has.
func sameAsSQL(t testing.TB, b booth, client redis.UniversalClient) {
	t.Helper()
	held := state(t, client)
	at := b.newest()
	got := oauth.Position{Epoch: number(t, held["epoch"]), Sequence: number(t, held["seq"])}
	if got != at {
		t.Errorf("Redis is at %+v, and the database at %+v", got, at)
	}
	members, err := client.ZRange(t.Context(), deniedKey, 0, -1).Result()
	check(t, err)
	if want := b.want(); !slices.Equal(members, want) {
		t.Errorf("Redis has %d members, and the database %d: %.300v\n%.300v", len(members), len(want), members, want)
	}
	if n := number(t, held["count"]); n != int64(len(members)) {
		t.Errorf("the state counts %d members of %d", n, len(members))
	}
}

// clusterOptions are those of a client that knows one node of a cluster.
func clusterOptions(address string) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs: []string{address}, IsClusterMode: true, MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second, PoolTimeout: time.Second,
	}
}
