package quota_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// patience is how long a client of these tests waits for anything.
const patience = 10 * time.Second

// redisClient is a client as the server configures one, which leaves it to the
// caller to give up and to try again; but it waits for longer, since what these
// tests count must not depend on how busy the machine is. Several addresses are a
// cluster.
func redisClient(t *testing.T, addresses ...string) redis.UniversalClient {
	t.Helper()
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:                 addresses,
		DialTimeout:           patience,
		DialerRetries:         1,
		ReadTimeout:           patience,
		WriteTimeout:          patience,
		PoolTimeout:           patience,
		MaxRetries:            -1,
		ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func sharedRedis(t *testing.T) string {
	t.Helper()
	return strings.TrimPrefix(schematest.Redis(t), "redis://")
}

// replicas are sources that count together, as three replicas have them.
type replicas []quota.Source

func redisReplicas(t *testing.T, addresses ...string) (r replicas) {
	t.Helper()
	for range 3 {
		r = append(r, quota.NewRedis(redisClient(t, addresses...)))
	}
	return r
}

// eachSource runs f with every kind of source.
func eachSource(t *testing.T, f func(t *testing.T, r replicas)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		memory := quota.NewMemory(nil)
		f(t, replicas{memory, memory, memory})
	})
	t.Run("redis", func(t *testing.T) { f(t, redisReplicas(t, sharedRedis(t))) })
	t.Run("cluster", func(t *testing.T) { f(t, redisReplicas(t, schematest.RedisCluster(t)...)) })
}

func take(t *testing.T, s quota.Source, o quota.Order) quota.Answer {
	t.Helper()
	a, err := s.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// hourly is a rate so slow that a test sees no time pass. debt is in hours.
func hourly(subject string, burst, debt int) quota.RateOrder {
	return quota.RateOrder{Subject: subject, Rate: quota.Rate{Burst: burst, Interval: time.Hour}, Debt: time.Duration(debt) * time.Hour}
}

func window(period string, limit, floor int64) quota.CountOrder {
	return quota.CountOrder{Period: period, Limit: limit, Floor: floor, Keep: time.Hour}
}

type (
	rates  = []quota.RateOrder
	counts = []quota.CountOrder
)

// exchange is an order and what comes of it. Debts are whole hours, and no test
// takes a minute.
type exchange struct {
	order   quota.Order
	granted int64
	debts   []int
	counts  []int64
}

func (e exchange) run(t *testing.T, s quota.Source) {
	t.Helper()
	a := take(t, s, e.order)
	if a.Granted != e.granted || !slices.Equal(a.Counts, e.counts) || len(a.Debts) != len(e.debts) {
		t.Fatalf("%+v: got %+v, want %d granted, debts of %d hours, counts %d", e.order, a, e.granted, e.debts, e.counts)
	}
	for i, debt := range a.Debts {
		if late := time.Duration(e.debts[i])*time.Hour - debt; late < 0 || late > time.Minute {
			t.Fatalf("%+v: debts %s, want %d hours", e.order, a.Debts, e.debts)
		}
	}
}

func TestTake(t *testing.T) {
	const day, month = "2026-11-24", "2026-11"
	for _, c := range []struct {
		name      string
		exchanges []exchange
	}{
		{"a rate up to its burst", []exchange{
			{quota.Order{Units: 1, Rates: rates{hourly("", 3, 0)}}, 1, []int{1}, nil},
			{quota.Order{Units: 5, Rates: rates{hourly("", 3, 0)}}, 2, []int{3}, nil},
			{quota.Order{Units: 1, Rates: rates{hourly("", 3, 0)}}, 0, []int{3}, nil},
			{quota.Order{Units: 1, Rates: rates{hourly("", 4, 0)}}, 1, []int{4}, nil},
		}},
		{"a count up to its limit", []exchange{
			{quota.Order{Units: 2, Counts: counts{window(day, 3, 0)}}, 2, nil, []int64{2}},
			{quota.Order{Units: 2, Counts: counts{window(day, 3, 0)}}, 1, nil, []int64{3}},
			{quota.Order{Units: 2, Counts: counts{window(day, 3, 0)}}, 0, nil, []int64{3}},
			{quota.Order{Units: 2, Counts: counts{window(day, 1, 0)}}, 0, nil, []int64{3}},
			{quota.Order{Units: 2, Counts: counts{window(day, 9, 0)}}, 2, nil, []int64{5}},
		}},
		{"all limits alike or none", []exchange{
			{quota.Order{Units: 4, Rates: rates{hourly("", 9, 0), hourly("tbk_1", 3, 0)}, Counts: counts{window(day, 2, 0), window(month, 9, 0)}}, 2, []int{2, 2}, []int64{2, 2}},
			{quota.Order{Units: 4, Rates: rates{hourly("", 9, 0), hourly("tbk_1", 3, 0)}, Counts: counts{window(day, 2, 0), window(month, 9, 0)}}, 0, []int{2, 2}, []int64{2, 2}},
			{quota.Order{Units: 4, Rates: rates{hourly("", 9, 0), hourly("tbk_1", 3, 0)}, Counts: counts{window(day, 9, 0), window(month, 9, 0)}}, 1, []int{3, 3}, []int64{3, 3}},
			{quota.Order{Units: 4, Rates: rates{hourly("", 9, 0), hourly("tbk_2", 3, 0)}, Counts: counts{window(day, 9, 0), window(month, 5, 0)}}, 2, []int{5, 2}, []int64{5, 5}},
		}},
		{"keys apart", []exchange{
			{quota.Order{Units: 2, Rates: rates{hourly("tbk_1", 2, 0)}}, 2, []int{2}, nil},
			{quota.Order{Units: 1, Rates: rates{hourly("tbk_2", 2, 0)}}, 1, []int{1}, nil},
			{quota.Order{Units: 1, Rates: rates{hourly("", 2, 0)}}, 1, []int{1}, nil},
			{quota.Order{Units: 1, Rates: rates{hourly("tbk_1", 2, 0)}}, 0, []int{2}, nil},
		}},
		{"windows apart", []exchange{
			{quota.Order{Units: 2, Counts: counts{window(day, 2, 0)}}, 2, nil, []int64{2}},
			{quota.Order{Units: 2, Counts: counts{window("2026-11-25", 2, 0), window(month, 3, 2)}}, 1, nil, []int64{1, 3}},
		}},
		{"force", []exchange{
			{quota.Order{Units: 7, Force: true, Rates: rates{hourly("", 3, 0)}, Counts: counts{window(day, 2, 0)}}, 7, []int{3}, []int64{7}},
			{quota.Order{Units: 1, Rates: rates{hourly("", 4, 0)}}, 1, []int{4}, nil},
			{quota.Order{Units: 1, Counts: counts{window(day, 7, 0)}}, 0, nil, []int64{7}},
			{quota.Order{Units: 1 << 52, Force: true, Rates: rates{hourly("", 4, 0)}, Counts: counts{window(day, 2, 0)}}, 1 << 52, []int{4}, []int64{1<<52 + 7}},
			{quota.Order{Units: 1 << 52, Force: true, Counts: counts{window(day, 2, 0)}}, 1 << 52, nil, []int64{1<<53 - 1}},
		}},
		{"what the asker knows is kept", []exchange{
			{quota.Order{Units: 1, Rates: rates{hourly("", 3, 3)}, Counts: counts{window(day, 9, 5)}}, 0, []int{3}, []int64{5}},
			{quota.Order{Units: 1, Rates: rates{hourly("", 3, 0)}, Counts: counts{window(day, 9, 0)}}, 0, []int{3}, []int64{5}},
			{quota.Order{Units: 1, Rates: rates{hourly("", 5, 4)}, Counts: counts{window(day, 9, 7)}}, 1, []int{5}, []int64{8}},
			{quota.Order{Units: 1, Rates: rates{hourly("", 9, 1)}, Counts: counts{window(day, 9, 2)}}, 1, []int{6}, []int64{9}},
		}},
		{"an asker who knows too much", []exchange{
			{quota.Order{Units: 1, Rates: rates{hourly("", 3, 100)}, Counts: counts{window(day, 9, 10)}}, 0, []int{3}, []int64{10}},
			{quota.Order{Units: 1, Rates: rates{{Rate: quota.Rate{Burst: 3, Interval: time.Hour}, Debt: 1<<63 - 1}}}, 0, []int{3}, nil},
			{quota.Order{Units: 1, Rates: rates{hourly("", 4, -100)}, Counts: counts{window(day, 11, -10)}}, 1, []int{4}, []int64{11}},
		}},
		{"a limit that is lowered", []exchange{
			{quota.Order{Units: 9, Rates: rates{hourly("", 9, 0)}}, 9, []int{9}, nil},
			{quota.Order{Units: 1, Rates: rates{hourly("", 2, 0)}}, 0, []int{2}, nil},
			{quota.Order{Units: 9, Rates: rates{hourly("", 9, 0)}}, 7, []int{9}, nil},
		}},
		{"nothing wanted", []exchange{
			{quota.Order{Rates: rates{hourly("", 2, 0)}, Counts: counts{window(day, 2, 0)}}, 0, []int{0}, []int64{0}},
			{quota.Order{Units: 1, Rates: rates{hourly("", 2, 0)}, Counts: counts{window(day, 2, 0)}}, 1, []int{1}, []int64{1}},
			{quota.Order{Force: true, Rates: rates{hourly("", 2, 0)}, Counts: counts{window(day, 2, 0)}}, 0, []int{1}, []int64{1}},
		}},
		{"no limits", []exchange{
			{quota.Order{Units: 12}, 12, nil, nil},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSource(t, func(t *testing.T, r replicas) {
				id := workspace.NewID()
				for i, e := range c.exchanges {
					e.order.Workspace = id
					e.run(t, r[i%len(r)])
				}
			})
		})
	}
}

// A limit may be as wide as policy allows, and counts as large.
func TestTakeEnormousNumbers(t *testing.T) {
	eachSource(t, func(t *testing.T, r replicas) {
		slow := quota.PerMinute(1, 600_000)
		o := quota.Order{Workspace: workspace.NewID(), Units: quota.MaxExchanges, Rates: rates{{Rate: slow}}, Counts: counts{window("2026", quota.MaxExchanges, quota.MaxExchanges-600_001)}}
		a := take(t, r[0], o)
		if a.Granted != 600_000 || a.Counts[0] != quota.MaxExchanges-1 || a.Debts[0] != slow.Capacity() {
			t.Fatalf("%+v", a)
		}
		o.Force = true
		if a = take(t, r[1], o); a.Granted != quota.MaxExchanges || a.Counts[0] != 2*quota.MaxExchanges-1 || a.Debts[0] != slow.Capacity() {
			t.Fatalf("%+v", a)
		}
	})
}

func TestTakeRefusesNonsense(t *testing.T) {
	rate := func(burst int, interval time.Duration) quota.Order {
		return quota.Order{Units: 1, Rates: rates{{Rate: quota.Rate{Burst: burst, Interval: interval}}}}
	}
	eachSource(t, func(t *testing.T, r replicas) {
		for _, o := range []quota.Order{
			{Units: -1}, {Units: 1 << 53},
			rate(0, time.Second), rate(-1, time.Second), rate(1, 0), rate(1, -time.Second), rate(1, 1), rate(1, time.Second+1), rate(1<<40, time.Minute),
			{Units: 1, Counts: counts{{Period: "2026", Limit: 1}}},
			{Units: 1, Counts: counts{{Period: "2026", Limit: 1 << 53, Keep: time.Hour}}},
			{Units: 1, Counts: counts{{Period: "2026", Floor: 1 << 53, Keep: time.Hour}}},
		} {
			if a, err := r[0].Take(t.Context(), o); err == nil {
				t.Errorf("%+v: %+v", o, a)
			}
		}
	})
}

func TestTakeKeepsWorkspacesApart(t *testing.T) {
	eachSource(t, func(t *testing.T, r replicas) {
		order := func() quota.Order {
			return quota.Order{Workspace: workspace.NewID(), Units: 5, Rates: rates{hourly("", 3, 0), hourly("tbk_1", 3, 0)}, Counts: counts{window("2026-11", 4, 0)}}
		}
		for i := range 100 {
			o := order()
			(exchange{o, 3, []int{3, 3}, []int64{3}}).run(t, r[i%3])
			(exchange{o, 0, []int{3, 3}, []int64{3}}).run(t, r[(i+1)%3])
		}
	})
}

// Many askers at once get exactly what is there, whatever they ask for.
func TestTakeAtOnce(t *testing.T) {
	eachSource(t, func(t *testing.T, r replicas) {
		id := workspace.NewID()
		var granted, refused atomic.Int64
		var running sync.WaitGroup
		for worker := range 64 {
			running.Go(func() {
				for i := range 10 {
					o := quota.Order{Workspace: id, Units: int64(1 + i%3), Rates: rates{hourly("", 500, 0)}, Counts: counts{window("2026-11", 700, 0)}}
					a, err := r[worker%len(r)].Take(t.Context(), o)
					if err != nil {
						t.Error(err)
						return
					}
					granted.Add(a.Granted)
					refused.Add(o.Units - a.Granted)
				}
			})
		}
		running.Wait()
		if granted.Load() != 500 || refused.Load() != 64*19-500 {
			t.Errorf("%d units were granted and %d refused, want 500 and %d", granted.Load(), refused.Load(), 64*19-500)
		}
	})
}

// A count is kept for a time from its first unit on, whatever is asked later.
func TestTakeKeepsCountsForATime(t *testing.T) {
	eachSource(t, func(t *testing.T, r replicas) {
		o := quota.Order{Workspace: workspace.NewID(), Units: 1, Counts: counts{{Period: "2026-11", Limit: 1, Keep: 200 * time.Millisecond}}}
		if a := take(t, r[0], o); a.Granted != 1 {
			t.Fatalf("%+v", a)
		}
		begin := time.Now()
		o.Counts[0].Keep = time.Hour
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for take(t, r[1], o).Granted == 0 {
			if time.Since(begin) > 10*time.Second {
				t.Fatal("a count outlives its use")
			}
			<-ticker.C
		}
		if a := take(t, r[2], o); a.Granted != 0 || a.Counts[0] != 1 {
			t.Errorf("the next count: %+v", a)
		}
	})
}
