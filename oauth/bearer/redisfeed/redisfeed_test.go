package redisfeed_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/bearer/redisfeed"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

const (
	issuer    = "https://tokens.example.com"
	stateKey  = "tokenbooth:{revocation}:state"
	deniedKey = "tokenbooth:{revocation}:denied"
)

// The library reports on standard error what it returns as well.
func init() { logging.Disable() }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

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

func connect(t testing.TB, change func(o *redis.UniversalOptions), addresses ...string) redis.UniversalClient {
	t.Helper()
	o := &redis.UniversalOptions{
		Addrs: addresses, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true,
		DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second, PoolTimeout: time.Second,
	}
	change(o)
	client := redis.NewUniversalClient(o)
	t.Cleanup(func() { check(t, client.Close()) })
	return client
}

func asItIs(*redis.UniversalOptions) {}

// installation is what fills Redis: a database and one instance of the issuer.
type installation struct {
	t    testing.TB
	db   *schema.DB
	list *revocation.List
	p    *revocation.Projection
	stop func()
}

func install(t testing.TB, client redis.UniversalClient) *installation {
	t.Helper()
	in := &installation{t: t, db: schematest.SQLite(t)}
	in.list = &revocation.List{Issuer: issuer, Reader: in.db.Reader()}
	in.p = revocation.NewProjection(revocation.ProjectionOptions{
		Client: client, List: in.list, Renew: in.renew, Interval: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	in.follow(0)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { in.p.Run(ctx) })
	in.stop = func() { cancel(); running.Wait() }
	t.Cleanup(in.stop)
	eventually(t, "Redis is filled", func() bool { return in.p.Name() != "" })
	return in
}

// follow takes in what is in the database.
func (in *installation) follow(since int64) {
	check(in.t, in.list.Load(context.Background()))
	seq, err := change.Newest(context.Background(), in.db.Reader())
	check(in.t, err)
	check(in.t, in.p.Follow(context.Background(), change.Batch{Since: since, Seq: seq, Complete: since > 0}))
}

// commit makes one change.
func (in *installation) commit(ctx context.Context, do func(ctx context.Context, tx sqlx.ExtContext) error) (seq int64, err error) {
	err = in.db.InTx(ctx, func(ctx context.Context, tx sqlx.ExtContext) error {
		if seq, err = change.Lock(ctx, tx); err != nil {
			return err
		}
		return do(ctx, tx)
	})
	if err == nil {
		in.follow(seq - 1)
	}
	return seq, err
}

func (in *installation) renew(ctx context.Context, old int64) (epoch int64, err error) {
	_, err = in.commit(ctx, func(ctx context.Context, tx sqlx.ExtContext) error {
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

// revoke returns when the revocations of keys are in Redis.
func (in *installation) revoke(keys ...string) {
	in.t.Helper()
	var entries []revocation.Entry
	for _, key := range keys {
		entries = append(entries, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: key, Generation: 2, At: workspace.At(time.Now())})
	}
	seq, err := in.commit(in.t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		_, err := revocation.Append(ctx, tx, entries...)
		return err
	})
	check(in.t, err)
	_, err = in.p.Tell(in.t.Context(), seq)
	check(in.t, err)
}

func hashes(u bearer.FeedUpdate) []string {
	found := []string{}
	for _, e := range u.Entries {
		found = append(found, e.Hash)
	}
	return found
}

func hashOf(keys ...string) []string {
	found := []string{}
	for _, key := range keys {
		found = append(found, oauth.RevocationHash(issuer, oauth.RevocableKey, key))
	}
	return found
}

func TestFetch(t *testing.T) {
	eachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		in := install(t, client)
		source := redisfeed.New(client, issuer)
		in.revoke("a", "b")
		full, err := source.Fetch(t.Context(), oauth.Position{}, 0)
		check(t, err)
		if full.Position != in.list.Position() || full.From != 0 || !slices.Equal(hashes(full), hashOf("a", "b")) {
			t.Errorf("%+v", full)
		}
		for _, e := range full.Entries {
			if e.Generation != 2 || time.Until(time.Unix(e.Expiry, 0)) < time.Hour-time.Minute {
				t.Errorf("%+v", e)
			}
		}
		in.revoke("c")
		news, err := source.Fetch(t.Context(), full.Position, time.Minute)
		check(t, err)
		if news.From != full.Sequence || news.Sequence != full.Sequence+1 || !slices.Equal(hashes(news), hashOf("c")) {
			t.Errorf("%+v", news)
		}
		none, err := source.Fetch(t.Context(), news.Position, time.Millisecond)
		check(t, err)
		if none.Position != news.Position || none.From != news.Sequence || len(none.Entries) != 0 {
			t.Errorf("%+v", none)
		}
		another, err := source.Fetch(t.Context(), oauth.Position{Epoch: full.Epoch - 1, Sequence: 2}, 0)
		check(t, err)
		if another.From != 0 || !slices.Equal(hashes(another), hashOf("a", "b", "c")) {
			t.Errorf("after another epoch: %+v", another)
		}
	})
}

func eachRedis(t *testing.T, f func(t *testing.T, client redis.UniversalClient)) {
	t.Run("one", func(t *testing.T) { f(t, connect(t, asItIs, schematest.PrivateRedis(t).Address())) })
	t.Run("cluster", func(t *testing.T) { f(t, connect(t, asItIs, schematest.RedisCluster(t)...)) })
}

// Fetch waits for news, and ends with its context.
func TestFetchWaits(t *testing.T) {
	client := connect(t, asItIs, schematest.PrivateRedis(t).Address())
	in := install(t, client)
	source := redisfeed.New(client, issuer)
	now, err := source.Fetch(t.Context(), oauth.Position{}, 0)
	check(t, err)
	type answer struct {
		bearer.FeedUpdate
		error
	}
	answers := make(chan answer)
	go func() {
		u, err := source.Fetch(t.Context(), now.Position, time.Hour)
		answers <- answer{u, err}
	}()
	in.revoke("a")
	if a := <-answers; a.error != nil || !slices.Equal(hashes(a.FeedUpdate), hashOf("a")) {
		t.Errorf("%+v", a)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := source.Fetch(ctx, in.list.Position(), time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}
}

// What cannot prove that it is whole is unknown; what nobody feeds grows stale.
func TestFetchUnknown(t *testing.T) {
	client := connect(t, asItIs, schematest.PrivateRedis(t).Address())
	in := install(t, client)
	source := redisfeed.New(client, issuer)
	in.revoke("a", "b", "c")
	var fed bearer.FeedUpdate
	eventually(t, "it is confirmed", func() bool {
		var err error
		fed, err = source.Fetch(t.Context(), oauth.Position{}, 0)
		return err == nil && time.Since(fed.At) < 10*time.Second
	})
	in.stop()
	eventually(t, "it grows older", func() bool {
		now, err := source.Fetch(t.Context(), oauth.Position{}, 0)
		return err == nil && time.Since(now.At) > 200*time.Millisecond
	})

	ahead := in.list.Position()
	ahead.Sequence++
	var failure *bearer.FeedError
	if _, err := source.Fetch(t.Context(), ahead, 0); !errors.As(err, &failure) || failure.Kind != bearer.FeedBackwards {
		t.Errorf("behind what is known: %v", err)
	}
	if _, err := redisfeed.New(client, issuer+"/").Fetch(t.Context(), oauth.Position{}, 0); !errors.As(err, &failure) || failure.Kind != bearer.FeedRefused {
		t.Errorf("of another issuer: %v", err)
	}

	ctx := t.Context()
	unknown := func(what string) {
		t.Helper()
		if u, err := source.Fetch(ctx, oauth.Position{}, 0); !errors.Is(err, redisfeed.ErrUnknown) {
			t.Errorf("%s: %+v, %v", what, u, err)
		}
	}
	check(t, client.HSet(ctx, stateKey, "confirmed", 0).Err())
	if u, err := source.Fetch(ctx, oauth.Position{}, 0); err != nil || !u.At.IsZero() || len(u.Entries) != 3 {
		t.Errorf("without a confirmation: %+v, %v", u, err)
	}
	check(t, client.HSet(ctx, stateKey, "confirmed", time.Now().Add(time.Hour).UnixMicro()).Err())
	if u, err := source.Fetch(ctx, oauth.Position{}, 0); err != nil || !u.At.IsZero() {
		t.Errorf("with a confirmation of the future: %+v, %v", u, err)
	}
	member := client.ZRange(ctx, deniedKey, 1, 1).Val()[0]
	check(t, client.ZRem(ctx, deniedKey, member).Err())
	unknown("a member is missing")
	check(t, client.ZAdd(ctx, deniedKey, redis.Z{Score: 2, Member: "nonsense"}).Err())
	unknown("a member is nonsense")
	check(t, client.HSet(ctx, stateKey, "seq", "many").Err())
	unknown("a number is nonsense")
	check(t, client.FlushAll(ctx).Err())
	unknown("empty")
}

// readOnly is the user of the package's documentation.
const readOnly = "on >secret resetkeys ~tokenbooth:{revocation}:* resetchannels -@all +eval +evalsha +hmget +zcard +zrangebyscore +time"

// A user who may only read is enough, also for the script's first use, and can take
// nothing back.
func TestReadOnlyUser(t *testing.T) {
	server := schematest.PrivateRedis(t)
	admin := connect(t, asItIs, server.Address())
	in := install(t, admin)
	in.revoke("a")
	command := []any{"ACL", "SETUSER", "service"}
	for word := range strings.FieldsSeq(readOnly) {
		command = append(command, word)
	}
	check(t, admin.Do(t.Context(), command...).Err())
	check(t, admin.ScriptFlush(t.Context()).Err())
	client := connect(t, func(o *redis.UniversalOptions) { o.Username, o.Password = "service", "secret" }, server.Address())

	feed, err := bearer.NewFeed(bearer.FeedConfig{Issuer: issuer, Source: redisfeed.New(client, issuer)})
	check(t, err)
	claims := func(key string) *oauth.Claims {
		return &oauth.Claims{Issuer: issuer, ID: "jti", ClientID: key, KeyGeneration: 1}
	}
	if err := feed.Revoked(t.Context(), "kid", claims("a")); !errors.Is(err, bearer.ErrRevoked) {
		t.Errorf("of a revoked key: %v", err)
	}
	if err := feed.Revoked(t.Context(), "kid", claims("b")); err != nil {
		t.Errorf("of another: %v", err)
	}
	check(t, feed.Fresh(t.Context()))

	for name, cmd := range map[string]redis.Cmder{
		"DEL":         client.Del(t.Context(), stateKey),
		"ZREM":        client.ZRem(t.Context(), deniedKey, "x"),
		"a script":    client.Eval(t.Context(), `return redis.call('DEL', KEYS[1])`, []string{stateKey}),
		"another key": client.Eval(t.Context(), `return redis.call('ZCARD', KEYS[1])`, []string{"tokenbooth:quota:{ws_1}:rate"}),
		"PUBLISH":     client.Publish(t.Context(), "tokenbooth:revocation", "1"),
	} {
		if cmd.Err() == nil {
			t.Errorf("the user may: %s", name)
		}
	}
}

// Two issuers would know one another's keys by other names, and nothing would be
// denied.
func TestSourceOfAnotherIssuer(t *testing.T) {
	source := redisfeed.New(nil, "https://login.example.com")
	for issuer, good := range map[string]bool{"https://login.example.com": true, "https://login.example.com/": false, "https://other.example.com": false} {
		if _, err := bearer.NewFeed(bearer.FeedConfig{Issuer: issuer, Source: source}); (err == nil) != good {
			t.Errorf("a feed of %s: %v", issuer, err)
		}
	}
}
