package main

import (
	"bufio"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// What is done to servers while keys are exchanged, revoked and verified. Whatever
// it is, the history holds.

// Redis is stopped, and comes back empty: nobody notices, and what was revoked
// meanwhile is there when it is back.
func TestSiegeWithoutRedis(t *testing.T) {
	t.Parallel()
	s := besiege(t, 60)
	s.until(func() {
		s.lasts(time.Second)
		s.redis.Kill()
		s.lasts(3 * time.Second)
		s.redis.Start()
		s.completes()
		s.lasts(time.Second)
	})
	s.holds()
	s.nothingFailed()
}

// completes waits until Redis has everything again, and everybody knows.
func (s *siege) completes() {
	s.t.Helper()
	for _, r := range s.replicas {
		eventually(s.t, "a projection that is complete", func() bool {
			return r.metric("tokenbooth_revocation_unknown") == 0 && r.metric("tokenbooth_revocation_lag") == 0
		})
	}
}

// nothingFailed wants every exchange to have had an answer that is not 503, but for
// those that were cut off at the end, and one in a hundred for a machine so busy
// that a lease is late.
func (s *siege) nothingFailed() {
	s.t.Helper()
	if issued, unavailable, _, _, _, _ := s.counts(); unavailable > len(s.replicas)*3+issued/100 {
		s.t.Errorf("%d exchanges had no answer, or were told to come again, beside %d tokens", unavailable, issued)
	}
}

func TestSiegeFlushed(t *testing.T) {
	t.Parallel()
	s := besiege(t, 60)
	s.until(func() {
		s.lasts(time.Second)
		epoch := s.replicas[0].metric("tokenbooth_revocation_epoch")
		for range 2 {
			s.command("FLUSHALL")
			eventually(t, "a new epoch", func() bool { return s.replicas[0].metric("tokenbooth_revocation_epoch") > epoch })
			epoch = s.replicas[0].metric("tokenbooth_revocation_epoch")
			s.completes()
		}
		s.lasts(time.Second)
	})
	s.holds()
	s.nothingFailed()
}

// An eviction is silent, so a Redis that evicts is not believed.
func TestSiegeEvicting(t *testing.T) {
	t.Parallel()
	s := besiege(t, 60)
	s.until(func() {
		s.lasts(time.Second)
		s.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
		eventually(t, "it is not believed", func() bool { return s.replicas[1].metric("tokenbooth_revocation_unknown") == 1 })
		s.lasts(time.Second)
		s.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
		s.completes()
		s.lasts(time.Second)
	})
	s.holds()
	s.nothingFailed()
}

// A failover loses what was acknowledged and not copied yet.
func TestSiegeFailover(t *testing.T) {
	t.Parallel()
	s := besiege(t, 60)
	host, port, _ := strings.Cut(s.redis.Address(), ":")
	second := schematest.PrivateRedis(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0")
	s.until(func() {
		s.lasts(time.Second)
		redisDo(t, second.Address(), "REPLICAOF", "NO", "ONE") // from here on it misses what comes
		s.lasts(time.Second)
		for _, r := range s.replicas {
			r.redis.cut()
		}
		for _, r := range s.replicas {
			r.redis.retarget(second.Address())
			r.redis.mend()
		}
		s.completes()
		s.lasts(time.Second)
	})
	s.holds()
	s.nothingFailed()
}

// Redis and the database answer late, or break off in the middle of an answer.
func TestSiegeOnBadWires(t *testing.T) {
	t.Parallel()
	s := besiege(t, 80)
	s.until(func() {
		for i := range 12 {
			r := s.replicas[i%3]
			for _, wire := range []*proxy{r.sql, r.redis} {
				wire.breakAll()
				s.lasts(100 * time.Millisecond)
				wire.gate.Lock()
				s.lasts(time.Duration(50+40*i) * time.Millisecond)
				wire.gate.Unlock()
			}
		}
		s.recovers()
		s.lasts(time.Second)
	})
	s.holds()
}

// recovers waits until every replica holds its lease and exchanges.
func (s *siege) recovers() {
	s.t.Helper()
	for _, r := range s.replicas {
		eventually(s.t, "a replica that is ready", func() bool { return r.ready() == http.StatusOK && r.metric("tokenbooth_lease_held") == 1 })
	}
	s.completes()
}

// Hints are only hints: without them everything is as prompt as a poll.
func TestSiegeWithoutHints(t *testing.T) {
	t.Parallel()
	s := besiege(t, 60)
	s.command("ACL", "SETUSER", "default", "resetchannels")
	s.command("CLIENT", "KILL", "TYPE", "pubsub")
	s.until(func() { s.lasts(4 * time.Second) })
	s.holds()
	s.nothingFailed()
}

// Without the database keys that are known are exchanged, by the word of Redis;
// others cannot be told, and nothing is revoked.
func TestSiegeWithoutDatabase(t *testing.T) {
	t.Parallel()
	s := besiege(t, 60)
	known, fresh := s.keys[len(s.keys)-1], s.newKey()
	s.until(func() {
		s.lasts(time.Second)
		for _, r := range s.replicas {
			wantToken(t, r.url, known)
			r.sql.cut()
		}
		for _, r := range s.replicas {
			eventually(t, "the lease is lost", func() bool { return r.metric("tokenbooth_lease_held") == 0 })
		}
		for _, r := range s.replicas {
			r.goesOn(known)
			if a := login(t, r.url, fresh); a.status != http.StatusServiceUnavailable {
				t.Errorf("a key that was never used: %d, want 503", a.status)
			}
			if seen := s.revoke(t.Context(), r, known); seen.status != http.StatusServiceUnavailable {
				t.Errorf("a revocation without the database answers %d", seen.status)
			}
			eventually(t, "readiness of a replica that exchanges", func() bool { return r.ready() == http.StatusOK })
		}
		s.lasts(2 * time.Second)
		for _, r := range s.replicas {
			r.sql.mend()
		}
		s.recovers()
		s.lasts(2 * time.Second)
	})
	s.holds()
}

// goesOn waits for a token: on a busy machine Redis may be too late for one exchange,
// which is told to come again.
func (r *besieged) goesOn(key credential) {
	r.t.Helper()
	eventually(r.t, "a token without the lease", func() bool {
		return login(r.t, r.url, key).status == http.StatusOK && r.metric("tokenbooth_lease_held") == 0
	})
}

// For as long as Redis vouches, and no longer.
func TestSiegeVouchedIsBounded(t *testing.T) {
	t.Parallel()
	s := besiege(t, 10, "TOKENBOOTH_EXCHANGE_VOUCHED=10s")
	r, key := s.replicas[0], s.keys[0]
	wantToken(t, r.url, key)
	r.sql.cut()
	eventually(t, "the lease is lost", func() bool { return r.metric("tokenbooth_lease_held") == 0 })
	r.goesOn(key)
	eventually(t, "its end", func() bool { return login(t, r.url, key).status == http.StatusServiceUnavailable })
	eventually(t, "the end of readiness", func() bool { return r.ready() == http.StatusServiceUnavailable })
	r.sql.mend()
	s.recovers()
	wantToken(t, r.url, key)
}

// A replica that lost the database alone learns from Redis what the others revoke.
func TestSiegeOneWithoutDatabase(t *testing.T) {
	t.Parallel()
	s := besiege(t, 80)
	alone := s.replicas[2]
	s.until(func() {
		s.lasts(time.Second)
		alone.sql.cut()
		s.lasts(4 * time.Second)
		if status := s.exchange(t.Context(), alone, s.keys[len(s.keys)-1]); status != http.StatusOK && status != http.StatusServiceUnavailable {
			t.Errorf("the replica without the database answers %d", status)
		}
		alone.sql.mend()
		s.recovers()
		s.lasts(time.Second)
	})
	s.holds()
	if _, _, acknowledged, pending, _, _ := s.counts(); acknowledged == 0 {
		t.Errorf("of %d revocations none was in force at once: Redis was there all the time", pending)
	}
}

// isolate cuts a replica off so that it goes on alone. One that was about to take in a
// change does not, since it knows that what it remembers is old.
func (s *siege) isolate(r *besieged, key credential) (began time.Time) {
	s.t.Helper()
	for range 5 {
		r.sql.cut()
		r.redis.cut()
		began = time.Now()
		eventually(s.t, "the lease is lost", func() bool { return r.metric("tokenbooth_lease_held") == 0 })
		for range 5 { // a busy machine may be too late for one
			if login(s.t, r.url, key).status == http.StatusOK {
				return began
			}
		}
		r.sql.mend()
		r.redis.mend()
		s.recovers()
	}
	s.t.Fatal("cut off five times, the replica never went on alone")
	return began
}

// A replica that lost both stops by itself, and who revokes is told when.
func TestSiegeOneIsolated(t *testing.T) {
	t.Parallel()
	s := besiege(t, 80, "TOKENBOOTH_EXCHANGE_ALONE=8s", "TOKENBOOTH_EXCHANGE_VOUCHED=20s")
	alone, key := s.replicas[2], s.keys[len(s.keys)-1]
	s.until(func() {
		s.lasts(time.Second)
		wantToken(t, alone.url, key)
		began := s.isolate(alone, key)
		wantOnlyUntilUnavailable(t, alone.replica, key)
		if after := time.Since(began); after > 25*time.Second {
			t.Errorf("it stopped after %v, and goes on alone for 8 s", after)
		}
		s.lasts(time.Second)
		alone.sql.mend()
		alone.redis.mend()
		s.recovers()
		s.lasts(time.Second)
	})
	s.holds()
	if _, _, _, pending, _, _ := s.counts(); pending == 0 {
		t.Error("nobody who revoked was told to wait for the replica that goes on alone")
	}
}

// The clocks of two replicas are wrong, one by 90 seconds in either direction.
func TestSiegeWrongClocks(t *testing.T) {
	t.Parallel()
	s := besiege(t, 60)
	s.serveAhead(90 * time.Second)
	s.serveAhead(-90 * time.Second)
	for _, r := range s.replicas[3:] {
		v := s.newFollower("of the wrong clock", r.url)
		err := v.feed.Refresh(t.Context())
		if v.feed.Fresh(t.Context()) == nil || (err == nil && r.ahead > 0) {
			t.Errorf("by a clock that is %v ahead a verifier is fresh: %v", r.ahead, err)
		}
	}
	s.until(func() { s.lasts(4 * time.Second) })
	s.holds()
	s.nothingFailed()
}

// Replicas are killed, frozen and started again.
func TestSiegeKilled(t *testing.T) {
	t.Parallel()
	s := besiege(t, 60)
	s.until(func() {
		s.lasts(2 * time.Second)
		s.replicas[1].freeze()
		s.lasts(3 * time.Second)
		s.replicas[1].signal(syscall.SIGCONT)
		s.lasts(2 * time.Second)
		s.replicas[2].kill()
		s.lasts(3 * time.Second)
	})
	s.holds()
}

// From the answer on no replica issues, however many exchanges are under way.
func TestRevokeWhileHundredExchange(t *testing.T) {
	t.Parallel()
	s, verified := besiege(t, 12), 0
	for _, key := range s.keys[:3] {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for i := range 102 {
			running.Go(func() {
				for ctx.Err() == nil {
					s.exchange(ctx, s.replicas[i%3], key)
				}
			})
		}
		s.lasts(500 * time.Millisecond)
		// On a machine that is too busy for leases it may be pending, with the time.
		seen := s.revoke(ctx, s.replicas[0], key)
		if seen.inForce().IsZero() {
			t.Errorf("revoking answers %d", seen.status)
		}
		wait(ctx, time.Until(seen.inForce()))
		s.lasts(300 * time.Millisecond)
		cancel()
		running.Wait()
		s.mu.Lock()
		tokens := slices.Clone(s.tokens[key.id])
		s.mu.Unlock()
		sequence := s.revocations[len(s.revocations)-1].sequence
		for _, v := range s.verifiers {
			eventually(t, "a verifier that knows", func() bool { return v.feed.Position().Sequence >= sequence })
		}
		tokens = tokens[max(0, len(tokens)-300):] // those that were signed in flight among them
		verified += len(tokens)
		for _, token := range tokens {
			s.verify(t.Context(), key.id, token)
		}
	}
	for _, fault := range s.faults(siegeStaleness) {
		t.Error(fault)
	}
	issued, _, acknowledged, pending, accepted, refused := s.counts()
	t.Logf("%d tokens; %d revocations in force at once, %d later; of the last %d together %d accepted by verifiers afterwards, %d refused", issued, acknowledged, pending, verified, accepted, refused)
	if verified < 100 || acknowledged+pending != 3 || refused != 3*verified {
		t.Error("not every token was refused by every verifier")
	}
}

// How long it takes from the request that revokes until a verifier refuses.
func TestRevokedUntilRefused(t *testing.T) {
	t.Parallel()
	s := besiege(t, 60)
	var took []time.Duration
	for i, key := range s.keys {
		s.exchange(t.Context(), s.replicas[i%3], key)
		token := s.tokens[key.id][0]
		v := s.verifiers[(i+1)%3]
		began := time.Now()
		go s.revoke(t.Context(), s.replicas[i%3], key)
		for {
			if _, err := v.verifier.Verify(t.Context(), token); err != nil {
				break
			}
			wait(t.Context(), time.Millisecond)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))].Round(time.Millisecond) }
	t.Logf("from revoking to refusal at a verifier, of %d: p50 %v, p90 %v, p99 %v, longest %v", len(took), at(0.5), at(0.9), at(0.99), at(1))
	if at(1) > 20*time.Second {
		t.Error("that is not promptly")
	}
}

// command sends a command to the Redis of the siege.
func (s *siege) command(words ...any) {
	s.t.Helper()
	redisDo(s.t, s.redis.Address(), words...)
}

// redisDo sends a command to a Redis.
func redisDo(t *testing.T, address string, words ...any) {
	t.Helper()
	direct := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1})
	defer func() { _ = direct.Close() }()
	if err := direct.Do(t.Context(), words...).Err(); err != nil {
		t.Fatalf("%v: %v", words, err)
	}
}

// metric is the value of a metric without labels; -1 if there is none now.
func (r *replica) metric(name string) float64 {
	response, err := client.Get(r.ops + "/metrics")
	if err != nil {
		return -1
	}
	defer func() { _ = response.Body.Close() }()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			if value, err := strconv.ParseFloat(text, 64); err == nil {
				return value
			}
		}
	}
	return -1
}
