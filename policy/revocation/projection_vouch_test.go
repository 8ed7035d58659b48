package revocation_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
)

// counter counts what a client sends.
type counter struct{ commands atomic.Int64 }

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.commands.Add(1)
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.commands.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}
func (c *counter) DialHook(next redis.DialHook) redis.DialHook { return next }

// Redis vouches only if everything proves that nothing is missing.
func TestVouch(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	server := schematest.PrivateRedis(t)
	client, plain := clientOf(t, server.Address()), clientOf(t, server.Address())
	r := newReplica(t, b, client)
	b.revoke("a", "b")
	name := r.settled(t)
	since := b.touch("c")
	newest := b.touch("d")
	if _, err := r.Tell(t.Context(), newest); err != nil {
		t.Fatal(err)
	}
	r.stop() // nobody mends anything from here on
	var sent counter
	client.AddHook(&sent)

	set := func(field string, value any) func(ctx context.Context) error {
		return func(ctx context.Context) error { return plain.HSet(ctx, stateKey, field, value).Err() }
	}
	for _, test := range []struct {
		what   string
		name   string
		since  int64
		change func(ctx context.Context) error
		why    string // empty: it vouches
	}{
		{what: "all is well", name: name, since: since},
		{what: "nothing is newer", name: name, since: newest},
		{what: "no name", since: since, why: "another server"},
		{what: "the name of another process", name: "x" + name[1:], since: since, why: "another server"},
		{what: "more is known", name: name, since: newest + 1, why: "it has the changes up to"},
		{what: "more was forgotten", name: name, since: since, change: set("floor", newest), why: "only"},
		{what: "an older epoch", name: name, since: since, change: set("epoch", 1), why: "it is of epoch 1"},
		{what: "a newer epoch", name: name, since: since, change: set("epoch", 1<<40), why: "it is of epoch"},
		{what: "rolled back", name: name, since: since, change: set("seq", 1), why: "and was at 2"},
		{what: "the change rolled back", name: name, since: since, change: set("change", since-1), why: "it has the changes up to"},
		{what: "a revocation is missing", name: name, since: since, change: func(ctx context.Context) error { return plain.ZPopMax(ctx, deniedKey).Err() }, why: "missing"},
		{what: "a subject is missing", name: name, since: since, change: func(ctx context.Context) error { return plain.ZPopMax(ctx, changedKey).Err() }, why: "missing"},
		{what: "emptied", name: name, since: since, change: func(ctx context.Context) error { return plain.FlushAll(ctx).Err() }, why: "empty"},
		{what: "a replica", name: name, since: since, change: func(ctx context.Context) error { return plain.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err() }, why: "replica"},
		{what: "restarted", name: name, since: since, change: func(context.Context) error { server.Kill(); server.Start(); return nil }, why: "another server"},
	} {
		t.Run(test.what, func(t *testing.T) {
			if test.change != nil {
				saved := dump(t, plain)
				check(t, test.change(t.Context()))
				defer func() {
					check(t, plain.Do(context.Background(), "REPLICAOF", "NO", "ONE").Err())
					restore(t, plain, saved)
				}()
			}
			sent.commands.Store(0)
			batch, err := r.Vouch(t.Context(), test.name, test.since)
			if test.why != "" {
				if !errors.Is(err, revocation.ErrNotVouched) || !strings.Contains(err.Error(), test.why) {
					t.Errorf("%v, want it to say %q", err, test.why)
				}
				return
			}
			check(t, err)
			if n := sent.commands.Load(); n != 1 {
				t.Errorf("%d commands were sent", n)
			}
			if batch.Since != test.since || batch.Seq != newest || !batch.Complete || batch.Subjects["d"] != (test.since < newest) || batch.Subjects["a"] {
				t.Errorf("%+v", batch)
			}
		})
	}
	server.Kill()
	if _, err := r.Vouch(t.Context(), name, since); !errors.Is(err, revocation.ErrNotVouched) {
		t.Errorf("without Redis: %v", err)
	}
}

var allKeys = []string{stateKey, deniedKey, changedKey}

func dump(t *testing.T, client redis.UniversalClient) (saved []string) {
	t.Helper()
	for _, key := range allKeys {
		text, err := client.Dump(t.Context(), key).Result()
		check(t, err)
		saved = append(saved, text)
	}
	return saved
}

func restore(t *testing.T, client redis.UniversalClient, saved []string) {
	t.Helper()
	for i, key := range allKeys {
		check(t, client.RestoreReplace(context.Background(), key, 0, saved[i]).Err())
	}
}

// What was seen in Redis is not unseen: less is refused also by a replica whose own
// list is further behind.
func TestVouchIsMonotonic(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	apart, other := newReplica(t, b, client), newReplica(t, b, client)
	b.revoke("a")
	apart.settled(t)
	other.settled(t)
	if _, err := other.Tell(t.Context(), b.touch("c")); err != nil {
		t.Fatal(err)
	}
	name := apart.settled(t)
	eventually(t, "it is taken in", func() bool { return apart.follower.Applied() == other.follower.Applied() })
	since := apart.follower.Applied()
	apart.stop()
	saved := dump(t, client)
	if _, err := other.Tell(t.Context(), b.revoke("b")); err != nil {
		t.Fatal(err)
	}
	other.stop()
	batch, err := apart.Vouch(t.Context(), name, since)
	if err != nil || !batch.Subjects["b"] {
		t.Fatalf("%+v, %v", batch, err)
	}
	restore(t, client, saved)
	if batch, err := apart.Vouch(t.Context(), name, since); !errors.Is(err, revocation.ErrNotVouched) {
		t.Errorf("%+v, %v", batch, err)
	}
}
