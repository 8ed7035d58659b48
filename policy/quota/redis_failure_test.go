package quota_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// A server that has forgotten everything is told by who remembers: nobody gets a
// second burst, not even a replica that knows nothing itself.
func TestRedisFlushedGivesNoSecondBurst(t *testing.T) {
	server := schematest.PrivateRedis(t)
	r := redisReplicas(t, server.Address())
	client := redisClient(t, server.Address())
	id := workspace.NewID()
	known := full(id, 9)
	a := take(t, r[0], known)
	if a.Granted != 9 {
		t.Fatalf("%+v", a)
	}
	for i := range known.Rates {
		known.Rates[i].Debt = a.Debts[i]
	}
	for i := range known.Counts {
		known.Counts[i].Floor = a.Counts[i]
	}
	for range 3 {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		(exchange{known, 0, []int{9, 9}, []int64{9, 9}}).run(t, r[0])
		(exchange{full(id, 9), 0, []int{9, 9}, []int64{9, 9}}).run(t, r[1])
	}
	for _, key := range keysOf(id) {
		if ttl := expiry(t, client, key); ttl <= 0 {
			t.Errorf("%s was told, and expires in %s", key, ttl)
		}
	}
}

// The server may forget the script at any moment.
func TestRedisWithoutTheScript(t *testing.T) {
	server := schematest.PrivateRedis(t)
	client := redisClient(t, server.Address())
	source := quota.NewRedis(client)
	id := workspace.NewID()
	for i := range 5 {
		(exchange{full(id, 1), 1, []int{i + 1, i + 1}, []int64{int64(i + 1), int64(i + 1)}}).run(t, source)
		if err := client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// A Redis that was away is used again as soon as it is back, by the same client.
func TestRedisRestarted(t *testing.T) {
	server := schematest.PrivateRedis(t)
	source := quota.NewRedis(redisClient(t, server.Address()))
	id := workspace.NewID()
	for range 2 {
		(exchange{full(id, 2), 2, []int{2, 2}, []int64{2, 2}}).run(t, source)
		server.Kill()
		begin := time.Now()
		if a, err := source.Take(t.Context(), full(id, 1)); err == nil {
			t.Errorf("without a server: %+v", a)
		}
		t.Logf("refused after %s", time.Since(begin))
		server.Start()
		awaitRedis(t, source)
	}
}

// awaitRedis returns when the client has noticed that its connections are new ones.
func awaitRedis(t *testing.T, source quota.Source) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := source.Take(t.Context(), full(workspace.NewID(), 1))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-ticker.C
	}
}

// A server that does not answer costs no more time than the context gives.
func TestRedisFrozen(t *testing.T) {
	server := schematest.PrivateRedis(t)
	source := quota.NewRedis(redisClient(t, server.Address()))
	id := workspace.NewID()
	take(t, source, full(id, 1))
	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	a, err := source.Take(ctx, full(id, 1))
	lasted := time.Since(begin)
	if err == nil {
		t.Errorf("%+v", a)
	}
	t.Logf("given up after %s: %v", lasted, err)
	if lasted > patience/2 {
		t.Errorf("a deadline of 50 ms took %s", lasted)
	}
	server.Thaw()
	awaitRedis(t, source)
	// Nobody knows whether the unanswered order was carried out, which is at most once.
	if a := take(t, source, full(id, 1)); a.Granted != 1 || a.Counts[0] < 2 || a.Counts[0] > 3 {
		t.Errorf("%+v", a)
	}
}

func TestRedisCancelled(t *testing.T) {
	eachSource(t, func(t *testing.T, r replicas) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		id := workspace.NewID()
		if a, err := r[0].Take(ctx, full(id, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("%+v, %v", a, err)
		}
		(exchange{full(id, 1), 1, []int{1, 1}, []int64{1, 1}}).run(t, r[1])
	})
}

// deaf are connections of which each breaks when it has sent a script, before the
// answer.
type deaf struct{ scripts atomic.Int64 }

type deafConn struct {
	net.Conn
	all    *deaf
	broken atomic.Bool
}

func (d *deaf) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &deafConn{Conn: conn, all: d}, err
}

func (c *deafConn) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "evalsha") {
		c.all.scripts.Add(1)
		c.broken.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b) // the answer, so the script has been carried out
	if c.broken.Load() {
		return 0, io.EOF // which a client takes for a reason to try again
	}
	return n, err
}

// An order whose answer got lost is not sent again, though the client of a cluster
// would: what it spends, it spends once.
func TestRedisDoesNotReplay(t *testing.T) {
	for name, addresses := range map[string][]string{"redis": {sharedRedis(t)}, "cluster": schematest.RedisCluster(t)} {
		t.Run(name, func(t *testing.T) {
			id := workspace.NewID()
			source := quota.NewRedis(redisClient(t, addresses...))
			take(t, source, full(id, 1)) // the server knows the script
			broken := &deaf{}
			client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: addresses, Dialer: broken.dial, ContextTimeoutEnabled: true})
			defer client.Close()
			if a, err := quota.NewRedis(client).Take(t.Context(), full(id, 1)); err == nil {
				t.Errorf("%+v without an answer", a)
			}
			if n := broken.scripts.Load(); n != 1 {
				t.Errorf("the order was sent %d times", n)
			}
			if a := take(t, source, full(id, 0)); a.Counts[0] != 2 {
				t.Errorf("%d units were spent, want 1 and 1", a.Counts[0])
			}
		})
	}
}
