package main

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

func TestRedisPolicy(t *testing.T) {
	t.Parallel()
	rights := []string{"~tokenbooth:*", "+ping", "+eval", "+evalsha", "+set", "+time"}
	user := func(more ...string) []string {
		args := append([]string{"--maxmemory-policy", "volatile-ttl", "--user", "tb", "on", ">hunter2"}, rights...)
		return append(args, more...)
	}
	for name, test := range map[string]struct {
		args    []string
		refused bool
	}{
		"asked by CONFIG": {user("+config|get"), true},
		"asked by INFO":   {user("+info"), true},
		"not told":        {user(), false},
		"hidden": {append(user("+config|get", "+info"),
			"--rename-command", "CONFIG", "", "--rename-command", "INFO", ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, "redis://tb:hunter2@"+schematest.PrivateRedis(t, test.args...).Address(), "")
			if test.refused {
				w.wantRefused("the maxmemory-policy of Redis is volatile-ttl, and noeviction is required")
				return
			}
			w.wantReady("ok")
			if !strings.Contains(w.log.String(), "level=WARN") || !strings.Contains(w.log.String(), "does not tell its maxmemory-policy") {
				t.Errorf("the log does not say that the policy is unknown:\n%s", w.log)
			}
			if !strings.Contains(w.log.String(), "does not permit INFO") {
				t.Errorf("the log does not say that nobody vouches:\n%s", w.log)
			}
		})
	}
}

// One master of three is enough to lose something. Not parallel: the cluster is
// shared.
func TestRedisPolicyOfCluster(t *testing.T) {
	cluster := schematest.RedisCluster(t)
	one := redis.NewClient(&redis.Options{Addr: cluster[1]})
	set := func(policy string) {
		t.Helper()
		if err := one.ConfigSet(t.Context(), "maxmemory-policy", policy).Err(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = one.ConfigSet(context.Background(), "maxmemory-policy", noEviction).Err(); _ = one.Close() })
	set("allkeys-lfu")
	watch(t, "redis://"+cluster[0]+"?cluster=true", "").wantRefused("is allkeys-lfu")
	set(noEviction)
	watch(t, "redis://"+cluster[0]+"?cluster=true", "").wantReady("ok")
}

// A Redis that is away at the start may turn out to evict. That is shown, and ends
// nothing, since a server that runs is worth more.
func TestRedisPolicyFoundLater(t *testing.T) {
	t.Parallel()
	server := schematest.PrivateRedis(t, "--maxmemory-policy", "allkeys-lru")
	server.Kill()
	r := serveReady(t, onSQLite(t.TempDir(), "TOKENBOOTH_REDIS_URL=redis://"+server.Address()))
	eventually(t, "an outage in the metrics", func() bool {
		metrics := page(t, r.ops+"/metrics")
		return strings.Contains(metrics, "tokenbooth_redis_away 1\n") && strings.Contains(metrics, "tokenbooth_redis_outages_total 1\n")
	})
	server.Start()
	eventually(t, "a report of the policy", func() bool {
		return strings.Contains(page(t, r.ops+"/readyz"), `"redis":"evicts keys: its maxmemory-policy is allkeys-lru, not noeviction"`)
	})
	eventually(t, "the policy in the metrics", func() bool {
		metrics := page(t, r.ops+"/metrics")
		return strings.Contains(metrics, "tokenbooth_redis_evicts 1\n") && strings.Contains(metrics, "tokenbooth_redis_away 0\n")
	})
	if _, ok := r.event("Redis evicts keys"); !ok || r.ready() != http.StatusOK {
		t.Errorf("ready %d, log:\n%s", r.ready(), &r.log)
	}
	r.stop()
}

// A policy that is mended is noticed when Redis comes back, and each minute.
func TestRedisPolicyMended(t *testing.T) {
	t.Parallel()
	server := schematest.PrivateRedis(t, "--maxmemory-policy", "allkeys-lru")
	w := watch(t, "redis://"+server.Address(), "")
	w.wantRefused("is allkeys-lru")
	if err := w.client.ConfigSet(passing(t.Context()), "maxmemory-policy", noEviction).Err(); err != nil {
		t.Fatal(err)
	}
	for range policyProbes {
		w.learn(t.Context(), nil)
	}
	if w.text() == "ok" {
		t.Errorf("asked with every probe")
	}
	eventually(t, "a good state", func() bool {
		w.learn(t.Context(), nil)
		return w.text() == "ok"
	})
	if !strings.Contains(w.log.String(), "has the required maxmemory-policy now") {
		t.Errorf("the log does not say so:\n%s", w.log)
	}
}
