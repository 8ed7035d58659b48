package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// A frozen Redis costs three calls their time limit; the others cost nothing, and
// nothing more is sent until it answers again.
func TestRedisFrozen(t *testing.T) {
	t.Parallel()
	server := schematest.PrivateRedis(t)
	w := watch(t, "redis://"+server.Address(), "")
	w.works()
	before := w.count()
	server.Freeze()
	for i := range breakerFailures {
		began := time.Now()
		if err := w.incr(t.Context()); err == nil || errors.Is(err, errRedisAway) {
			t.Fatalf("call %d to a frozen Redis says %v", i, err)
		}
		t.Logf("call %d took %v", i, time.Since(began))
	}
	const more = 1000
	began := time.Now()
	for range more {
		if err := w.incr(t.Context()); !errors.Is(err, errRedisAway) {
			t.Fatalf("after %d failures a call says %v", breakerFailures, err)
		}
	}
	t.Logf("%d more took %v, %v each", more, time.Since(began), time.Since(began)/more)
	server.Thaw()
	eventually(t, "a Redis that answers past the breaker", func() bool { return w.client.Ping(passing(t.Context())).Err() == nil })
	if sent := w.count() - before; sent > breakerFailures {
		t.Errorf("%d commands reached the wire, want at most %d", sent, breakerFailures)
	}
	if err := w.incr(t.Context()); !errors.Is(err, errRedisAway) {
		t.Errorf("a call closed the breaker: %v", err)
	}
	began = time.Now()
	w.start()
	w.works()
	t.Logf("closed %v after the first probe", time.Since(began))
	if w.outages() != 1 || !strings.Contains(w.log.String(), "Redis is back") {
		t.Errorf("%d outages, log:\n%s", w.outages(), w.log)
	}
}

// count is how often INCR was called, past the breaker.
func (w *watched) count() int64 {
	w.t.Helper()
	n, err := w.client.Get(passing(w.t.Context()), "tokenbooth:count").Int64()
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestRedisFrozenUnderLoad(t *testing.T) {
	t.Parallel()
	server := schematest.PrivateRedis(t)
	w := watch(t, "redis://"+server.Address(), "")
	w.works()
	server.Freeze()
	began := time.Now()
	var calls sync.WaitGroup
	for range 100 {
		calls.Go(func() {
			if err := w.incr(t.Context()); err == nil {
				t.Error("a frozen Redis answers")
			}
		})
	}
	calls.Wait()
	t.Logf("100 calls at once took %v", time.Since(began))
	if !w.breaker.open.Load() || w.outages() != 1 {
		t.Errorf("open %t, %d outages", w.breaker.open.Load(), w.outages())
	}
}

// Redis may be away at a start, and come and go.
func TestRedisRefuses(t *testing.T) {
	t.Parallel()
	server := schematest.PrivateRedis(t)
	server.Kill()
	w := watch(t, "redis://:hunter2@"+server.Address(), "")
	w.wantReady("does not answer")
	if err := w.incr(t.Context()); !errors.Is(err, errRedisAway) {
		t.Errorf("the first request after a start without Redis waits for it: %v", err)
	}
	if !strings.Contains(w.log.String(), "connection refused") {
		t.Errorf("the log does not say why:\n%s", w.log)
	}
	w.start()
	for outages := range uint64(2) {
		server.Start()
		began := time.Now()
		w.works()
		t.Logf("back %v after its start", time.Since(began))
		eventually(t, "a good state", func() bool { return w.text() == "ok" })
		server.Kill()
		eventually(t, "an open breaker", func() bool { return errors.Is(w.incr(t.Context()), errRedisAway) })
		eventually(t, "a bad state", func() bool { return w.text() == "does not answer" })
		if w.outages() < outages+2 {
			t.Errorf("%d outages", w.outages())
		}
	}
}

// A caller's deadline is kept, and is no word about Redis.
func TestRedisContext(t *testing.T) {
	t.Parallel()
	server := schematest.PrivateRedis(t)
	w := watch(t, "redis://"+server.Address(), "")
	w.works()
	server.Freeze()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 * breakerFailures {
		late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		began := time.Now()
		err := w.incr(late)
		cancel()
		if err == nil || errors.Is(err, errRedisAway) {
			t.Errorf("a call with 1 ms says %v", err)
		}
		t.Logf("a call with 1 ms took %v", time.Since(began))
		if err := w.incr(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("a call of nobody says %v", err)
		}
	}
	if w.breaker.open.Load() {
		t.Error("impatient callers open the breaker")
	}
	for range breakerFailures { // who has waited long enough has a say
		late, cancel := context.WithTimeout(t.Context(), redisSlow+10*time.Millisecond)
		_ = w.incr(late)
		cancel()
	}
	if !w.breaker.open.Load() {
		t.Error("patient callers do not open the breaker")
	}
}

// A Redis that answers PING and takes no writes is away all the same.
func TestRedisReplica(t *testing.T) {
	t.Parallel()
	host, port, _ := strings.Cut(schematest.PrivateRedis(t).Address(), ":")
	w := watch(t, "redis://"+schematest.PrivateRedis(t, "--replicaof", host, port).Address(), "")
	w.wantReady("does not work: READONLY")
	w.start()
	eventually(t, "probes", func() bool { return w.client.Ping(passing(t.Context())).Err() == nil })
	if err := w.incr(t.Context()); !errors.Is(err, errRedisAway) || w.outages() != 1 {
		t.Errorf("a call to a replica says %v, after %d outages", err, w.outages())
	}
}

// Without an answer a command is not sent again, though redirections are followed.
func TestRedisClusterSendsOnce(t *testing.T) {
	t.Parallel()
	server := startDeaf(t)
	w := watch(t, "redis://"+server.listener.Addr().String()+"?cluster=true", "")
	for range 2 {
		began := time.Now()
		if err := w.incr(t.Context()); err == nil {
			t.Error("a deaf Redis answers")
		}
		t.Logf("a call took %v", time.Since(began))
	}
	if n := server.counted.Load(); n != 2 {
		t.Errorf("two calls were sent %d times", n)
	}
	server.counted.Store(0)
	if err := w.client.Get(t.Context(), "tokenbooth:a").Err(); err != nil || server.counted.Load() != 2 {
		t.Errorf("a call that is sent elsewhere says %v, and was sent %d times", err, server.counted.Load())
	}
}

// When the master dies, the replica that Sentinel promotes is found. Not parallel,
// so that only its own goroutines are new.
func TestRedisSentinel(t *testing.T) {
	master := schematest.PrivateRedis(t, "--repl-diskless-sync-delay", "0")
	host, port, _ := strings.Cut(master.Address(), ":")
	replica := schematest.PrivateRedis(t, "--replicaof", host, port)
	sentinel := startSentinel(t, master.Address())
	before := goleak.IgnoreCurrent()
	ask := redis.NewSentinelClient(&redis.Options{Addr: sentinel})
	eventually(t, "a replica that Sentinel knows", func() bool {
		replicas, err := ask.Replicas(t.Context(), "booth").Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	})
	if err := ask.Close(); err != nil {
		t.Fatal(err)
	}
	w := watch(t, "redis://"+sentinel+"/0?master_name=booth", "")
	w.wantReady("ok")
	stop := w.start()
	w.works()
	master.Kill()
	began := time.Now()
	eventually(t, "an open breaker", func() bool { return errors.Is(w.incr(t.Context()), errRedisAway) })
	opened := time.Since(began)
	w.works()
	t.Logf("the breaker opened after %v, calls work again after %v", opened, time.Since(began))
	if n := watch(t, "redis://"+replica.Address(), "").count(); n == 0 {
		t.Error("the calls did not reach the promoted replica")
	}
	stop()
	w.close()
	wantNoGoroutines(t, before)
}
