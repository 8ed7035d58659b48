package quota_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// full is an order of each kind of limit, with nine units of each.
func full(id workspace.ID, units int64) quota.Order {
	return quota.Order{Workspace: id, Units: units, Rates: rates{hourly("", 9, 0), hourly("tbk_1", 9, 0)}, Counts: counts{window("2026-11-24", 9, 0), window("2026-11", 9, 0)}}
}

// keysOf are the keys of a full order.
func keysOf(id workspace.ID) []string {
	prefix := "tokenbooth:quota:{" + string(id) + "}:"
	return []string{prefix + "rate", prefix + "rate:tbk_1", prefix + "count:2026-11-24", prefix + "count:2026-11"}
}

// expiry is how long a key lives yet.
func expiry(t *testing.T, client redis.UniversalClient, key string) time.Duration {
	t.Helper()
	ttl, err := client.PTTL(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return ttl
}

func expires(t *testing.T, client redis.UniversalClient, key string, want time.Duration) {
	t.Helper()
	if ttl := expiry(t, client, key); ttl > want || ttl < want-time.Minute {
		t.Errorf("%s expires in %s, want %s", key, ttl, want)
	}
}

func TestRedisKeys(t *testing.T) {
	client := redisClient(t, schematest.PrivateRedis(t).Address())
	id := workspace.NewID()
	take(t, quota.NewRedis(client), full(id, 3))
	if n, err := client.DBSize(t.Context()).Result(); err != nil || n != 4 {
		t.Errorf("%d keys, %v", n, err)
	}
	now, err := client.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range keysOf(id) {
		held, err := client.Get(t.Context(), key).Int64()
		if err != nil {
			t.Fatal(err)
		}
		if i >= 2 {
			if held != 3 {
				t.Errorf("%s is %d", key, held)
			}
			expires(t, client, key, time.Hour)
			continue
		}
		if debt := time.UnixMicro(held).Sub(now); debt > 3*time.Hour || debt < 3*time.Hour-time.Minute {
			t.Errorf("%s is %d, %s from now", key, held, debt)
		}
		expires(t, client, key, 3*time.Hour)
	}
}

// A count expires by its first order; should something have taken that away, by
// the next.
func TestRedisCountsExpire(t *testing.T) {
	client := redisClient(t, sharedRedis(t))
	source := quota.NewRedis(client)
	id := workspace.NewID()
	key := keysOf(id)[3]
	o := quota.Order{Workspace: id, Units: 1, Counts: counts{window("2026-11", 9, 0)}}
	take(t, source, o)
	o.Counts[0].Keep = 5 * time.Hour
	take(t, source, o)
	expires(t, client, key, time.Hour)
	if err := client.Persist(t.Context(), key).Err(); err != nil {
		t.Fatal(err)
	}
	take(t, source, o)
	expires(t, client, key, 5*time.Hour)
}

// A workspace at its limits costs reads alone, however often it asks.
func TestRedisWritesChangesOnly(t *testing.T) {
	client := redisClient(t, schematest.PrivateRedis(t).Address())
	source := quota.NewRedis(client)
	id := workspace.NewID()
	changes := func() string {
		t.Helper()
		info, err := client.Info(t.Context(), "persistence").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(info, "rdb_changes_since_last_save:")
		n, _, _ := strings.Cut(rest, "\r\n")
		return n
	}
	take(t, source, full(id, 0))
	if n := changes(); n != "0" {
		t.Errorf("%s changes by an order of nothing", n)
	}
	take(t, source, full(id, 9))
	before := changes()
	for range 10 {
		o := full(id, 5)
		o.Rates[0].Debt, o.Counts[0].Floor = time.Hour, 9 // nothing new
		if a := take(t, source, o); a.Granted != 0 {
			t.Fatalf("%+v", a)
		}
	}
	if after := changes(); after != before || before == "0" {
		t.Errorf("%s changes, and %s after refusals", before, after)
	}
}

// What is not ours is an error, at whichever key it is, and nothing is spent of
// the others.
func TestRedisRefusesGarbage(t *testing.T) {
	client := redisClient(t, sharedRedis(t))
	source := quota.NewRedis(client)
	for _, garbage := range []string{"", "x", "-1", "-0", "1.5", "1e3", "0x10", "007", " 1", "1 ", "1\n", "nan", "inf", "9007199254740992", "99999999999999999999"} {
		id := workspace.NewID()
		for _, key := range keysOf(id) {
			if err := client.Set(t.Context(), key, garbage, time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
			fails(t, client, source, id, key, "holds no number")
		}
	}
	id := workspace.NewID()
	for _, key := range keysOf(id) {
		if err := client.LPush(t.Context(), key, 1).Err(); err != nil {
			t.Fatal(err)
		}
		fails(t, client, source, id, key, "WRONGTYPE")
	}
}

// fails takes in spite of a bad key, removes that, and looks for what was spent.
func fails(t *testing.T, client redis.UniversalClient, source quota.Source, id workspace.ID, key, saying string) {
	t.Helper()
	if a, err := source.Take(t.Context(), full(id, 1)); !errors.Is(err, quota.ErrSpoiled) || !strings.Contains(err.Error(), saying) {
		t.Errorf("%s is bad: %+v, %v", key, a, err)
	}
	if err := client.Del(t.Context(), key).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Exists(t.Context(), keysOf(id)...).Result(); err != nil || n != 0 {
		t.Errorf("%s was bad, and %d others were written: %v", key, n, err)
	}
}

// A full server is an error too, and spends nothing either; reading it can.
func TestRedisOutOfMemory(t *testing.T) {
	client := redisClient(t, schematest.PrivateRedis(t).Address())
	source := quota.NewRedis(client)
	id := workspace.NewID()
	take(t, source, full(id, 1))
	limit := func(bytes string) {
		t.Helper()
		if err := client.ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("1")
	if a, err := source.Take(t.Context(), full(id, 1)); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("%+v, %v", a, err)
	}
	limit("0")
	(exchange{full(id, 1), 1, []int{2, 2}, []int64{2, 2}}).run(t, source)
}

// answers makes a client whose scripts return something, without a server.
type answers struct{ value any }

func (answers) DialHook(next redis.DialHook) redis.DialHook { return next }

func (answers) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a answers) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		cmd.(interface{ SetVal(any) }).SetVal(a.value)
		return nil
	}
}

func TestRedisAnswersAreParsedStrictly(t *testing.T) {
	for _, c := range []struct {
		value any
		valid bool
	}{
		{[]any{int64(1), int64(1000), int64(1)}, true},
		{[]any{int64(0), int64(0), int64(0)}, true},
		{nil, false}, {"OK", false}, {int64(1), false}, {[]any{}, false}, {[]any{nil, nil, nil}, false},
		{[]any{int64(1), int64(1000)}, false},
		{[]any{int64(1), int64(1000), int64(1), int64(1)}, false},
		{[]any{int64(1), "1000", int64(1)}, false},
		{[]any{1.0, int64(1000), int64(1)}, false},
		{[]any{int64(1), int64(1000), []any{int64(1)}}, false},
		{[]any{int64(-1), int64(1000), int64(1)}, false},
		{[]any{int64(1), int64(-1000), int64(1)}, false},
		{[]any{int64(1), int64(1000), int64(-1)}, false},
		{[]any{int64(1), int64(10_801_000_000), int64(1)}, false},
		{[]any{int64(3), int64(1000), int64(1)}, false},
	} {
		client := redisClient(t, "127.0.0.1:0")
		client.AddHook(answers{c.value})
		o := quota.Order{Workspace: "ws_1", Units: 2, Rates: rates{hourly("", 3, 0)}, Counts: counts{window("2026", 9, 0)}}
		a, err := quota.NewRedis(client).Take(t.Context(), o)
		if (err == nil) != c.valid {
			t.Errorf("%v: %+v, %v", c.value, a, err)
		}
		if want := "{1 [1ms] [1]}"; c.valid && a.Granted == 1 && fmt.Sprint(a) != want {
			t.Errorf("%v: %v, want %s", c.value, a, want)
		}
	}
}
