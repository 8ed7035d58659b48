package revocation_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
)

// listeners are how many have subscribed to the hints.
func listeners(t *testing.T, client redis.UniversalClient) int64 {
	t.Helper()
	n, err := client.PubSubNumSub(t.Context(), topic).Result()
	check(t, err)
	return n[topic]
}

func hinted(hints *atomic.Int64) func(*revocation.ProjectionOptions) {
	return func(o *revocation.ProjectionOptions) { o.Hint = func() { hints.Add(1) } }
}

// Whoever lacks a change that another replica has pushed is told, also after the
// connection was lost; nobody is told of what it has.
func TestHints(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	server := schematest.PrivateRedis(t)
	client := clientOf(t, server.Address())
	var toFirst, toSecond atomic.Int64
	first := newReplica(t, b, client, hinted(&toFirst))
	first.settled(t)
	second := newReplica(t, b, client, hinted(&toSecond))
	second.settled(t)
	eventually(t, "both listen", func() bool { return listeners(t, client) == 2 })
	ctx := t.Context()
	check(t, client.Publish(ctx, topic, "no number").Err())
	check(t, client.Publish(ctx, topic, "1").Err()) // known
	check(t, client.Publish(ctx, topic, "1000000").Err())
	eventually(t, "both are told", func() bool { return toFirst.Load() > 0 && toSecond.Load() > 0 })
	if a, b := toFirst.Load(), toSecond.Load(); a > 2 || b > 2 { // also of the subscription
		t.Errorf("%d and %d hints of one change", a, b)
	}
	check(t, client.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err())
	eventually(t, "both listen again", func() bool { return listeners(t, client) == 2 })
	before := toFirst.Load()
	eventually(t, "they are told again", func() bool {
		check(t, client.Publish(ctx, topic, "1000001").Err())
		return toFirst.Load() > before
	})
}

// A push tells the others.
func TestPushHints(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	r := newReplica(t, b, client)
	r.settled(t)
	sub := client.Subscribe(t.Context(), topic)
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	seq := b.revoke("key")
	m, err := sub.ReceiveMessage(t.Context())
	if err != nil || number(t, m.Payload) != seq {
		t.Errorf("%+v, %v; want %d", m, err, seq)
	}
}

// Without pub/sub everything arrives all the same: it is forbidden here, and nothing
// else that the service may not do is needed.
func TestHintsAreSilenced(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	server := schematest.PrivateRedis(t)
	admin := clientOf(t, server.Address())
	command := []any{"ACL", "SETUSER", "tokenbooth"}
	for word := range strings.FieldsSeq(
		"on >secret resetkeys ~tokenbooth:* resetchannels -@all +@read +@write +@connection -@dangerous +eval +evalsha +script|load +time +ping +info +config|get +cluster|slots") {
		command = append(command, word)
	}
	check(t, admin.Do(t.Context(), command...).Err())
	var address atomic.Pointer[string]
	at := server.Address()
	address.Store(&at)
	o := options(&address)
	o.Username, o.Password = "tokenbooth", "secret"
	client := connect(t, o)
	var log lockedBuffer
	var hints atomic.Int64
	var replicas []*replica
	for range 2 {
		replicas = append(replicas, newReplica(t, b, client, hinted(&hints), func(o *revocation.ProjectionOptions) {
			o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}))
	}
	for i, r := range replicas {
		name := r.settled(t)
		seq := b.revoke("key")
		eventually(t, "it is told", func() bool { told, err := r.Tell(t.Context(), seq); return err == nil && told == name })
		if hints.Load() != 0 {
			t.Errorf("replica %d: %d hints", i, hints.Load())
		}
	}
	sameAsSQL(t, b, admin)
	old := b.newest().Epoch
	check(t, admin.FlushAll(t.Context()).Err())
	eventually(t, "a new epoch is begun", func() bool { return b.newest().Epoch > old })
	replicas[1].settled(t)
	sameAsSQL(t, b, admin)
	eventually(t, "each says so once", func() bool { return strings.Count(log.String(), "does not permit to subscribe") == 2 })
	if text := log.String(); strings.Contains(text, "secret") {
		t.Errorf("the log has the password: %s", text)
	}
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
