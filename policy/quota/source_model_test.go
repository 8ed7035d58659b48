package quota_test

import (
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// tokens is the naive model of an order's limits: buckets that fill, of which
// units are taken one by one.
type tokens struct {
	rates   []quota.Rate
	levels  []time.Duration // what is in each bucket
	limits  []int64
	counted []int64
	last    time.Time
}

func (m *tokens) fill(now time.Time) {
	for i, r := range m.rates {
		m.levels[i] = min(m.levels[i]+now.Sub(m.last), r.Capacity())
	}
	m.last = now
}

// learn believes an asker who knows more.
func (m *tokens) learn(o quota.Order) {
	for i, r := range o.Rates {
		m.levels[i] = max(0, min(m.levels[i], r.Rate.Capacity()-r.Debt))
	}
	for i, c := range o.Counts {
		m.counted[i] = max(m.counted[i], c.Floor)
	}
}

// one takes one unit of everything, if everything has one.
func (m *tokens) one(force bool) bool {
	for i, r := range m.rates {
		if !force && m.levels[i] < r.Interval {
			return false
		}
	}
	for i, limit := range m.limits {
		if !force && m.counted[i] >= limit {
			return false
		}
	}
	for i, r := range m.rates {
		m.levels[i] = max(0, m.levels[i]-r.Interval)
	}
	for i := range m.counted {
		m.counted[i]++
	}
	return true
}

func (m *tokens) take(o quota.Order, now time.Time) quota.Answer {
	m.fill(now)
	m.learn(o)
	a := quota.Answer{Debts: []time.Duration{}, Counts: append([]int64{}, m.counted...)}
	for a.Granted < o.Units && m.one(o.Force) {
		a.Granted++
	}
	for i, r := range m.rates {
		a.Debts = append(a.Debts, r.Capacity()-m.levels[i])
	}
	copy(a.Counts, m.counted)
	return a
}

var anyRate = rapid.Custom(func(t *rapid.T) quota.Rate {
	return quota.Rate{
		Burst:    rapid.IntRange(1, 9).Draw(t, "burst"),
		Interval: time.Duration(rapid.Int64Range(1, 60_000_000).Draw(t, "interval")) * time.Microsecond,
	}
})

// pause is nothing, a little, or more than a bucket.
func pause(t *rapid.T, r quota.Rate) time.Duration {
	most := rapid.SampledFrom([]time.Duration{0, r.Interval, 2 * r.Capacity()}).Draw(t, "most")
	return time.Duration(rapid.Int64Range(0, most.Microseconds()).Draw(t, "pause")) * time.Microsecond
}

func TestMemoryIsTokenBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := start
		memory := quota.NewMemory(func() time.Time { return now })
		limits := rapid.SliceOfN(rapid.Int64Range(0, 30), 0, 2).Draw(t, "limits")
		model := &tokens{rates: rapid.SliceOfN(anyRate, 1, 3).Draw(t, "rates"), limits: limits, counted: make([]int64, len(limits)), last: start}
		o := quota.Order{Workspace: "ws_1"}
		for i, r := range model.rates {
			model.levels = append(model.levels, r.Capacity())
			o.Rates = append(o.Rates, quota.RateOrder{Subject: fmt.Sprint(i), Rate: r})
		}
		for i, limit := range limits {
			o.Counts = append(o.Counts, quota.CountOrder{Period: fmt.Sprint(i), Limit: limit, Keep: 24 * time.Hour})
		}
		for range rapid.IntRange(1, 60).Draw(t, "orders") {
			now = now.Add(pause(t, model.rates[0]))
			drawOrder(t, &o, 0)
			want := model.take(o, now)
			if got, err := memory.Take(t.Context(), o); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("at %s, %+v: %+v (%v), want %+v", now.Sub(start), o, got, err, want)
			}
		}
	})
}

// drawOrder draws what varies between orders of the same limits. A debt that the
// asker knows of is at least so much.
func drawOrder(t *rapid.T, o *quota.Order, least time.Duration) {
	o.Units = rapid.Int64Range(0, 12).Draw(t, "units")
	o.Force = rapid.IntRange(0, 9).Draw(t, "force") == 0
	for i := range o.Rates {
		o.Rates[i].Debt = 0
		if r := o.Rates[i].Rate; rapid.IntRange(0, 9).Draw(t, "knows") == 0 {
			o.Rates[i].Debt = least + time.Duration(rapid.Int64Range(0, 2*r.Capacity().Microseconds()).Draw(t, "debt"))*time.Microsecond
		}
	}
	for i := range o.Counts {
		o.Counts[i].Floor = 0
		if rapid.IntRange(0, 9).Draw(t, "knows") == 0 {
			o.Counts[i].Floor = rapid.Int64Range(0, 40).Draw(t, "floor")
		}
	}
}

// In any window, from one order to another, no more is granted than fits.
func TestArrivalCurve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := start
		memory := quota.NewMemory(func() time.Time { return now })
		rate := anyRate.Draw(t, "rate")
		type grant struct {
			at    time.Time
			units int64
		}
		var grants []grant
		for range rapid.IntRange(1, 60).Draw(t, "orders") {
			now = now.Add(pause(t, rate))
			o := quota.Order{Workspace: "ws_1", Units: rapid.Int64Range(1, 12).Draw(t, "units"), Rates: rates{{Rate: rate}}}
			a, err := memory.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			grants = append(grants, grant{now, a.Granted})
			sum := int64(0)
			for i := len(grants) - 1; i >= 0; i-- {
				sum += grants[i].units
				window := now.Sub(grants[i].at)
				if most := int64(rate.Burst) + int64(window/rate.Interval); sum > most {
					t.Fatalf("%d units in %s, at most %d by %+v", sum, window, most, rate)
				}
			}
		}
	})
}

var lists atomic.Int64

// scriptClock is a Redis whose script has a clock that a test sets.
func scriptClock(t *testing.T) (s quota.Source, set func(time.Time)) {
	t.Helper()
	list := fmt.Sprintf("clock:%d", lists.Add(1))
	client := redisClient(t, sharedRedis(t))
	return quota.NewRedisAt(client, list), func(now time.Time) {
		_, err := client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Del(t.Context(), list)
			p.RPush(t.Context(), list, now.Unix(), now.Nanosecond()/1000)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Limits change from order to order, clocks are set back, askers know more or
// less: Redis and Memory give the same answers, to the microsecond. All is so long
// that no key expires by the real clock of the server.
func TestRedisIsMemory(t *testing.T) {
	source, set := scriptClock(t)
	rapid.Check(t, func(t *rapid.T) {
		now := start
		memory := quota.NewMemory(func() time.Time { return now })
		memory.NeverSweep()
		set(now)
		id := workspace.NewID()
		for range rapid.IntRange(1, 25).Draw(t, "orders") {
			if step := drawStep(t); step != 0 {
				now = now.Add(step)
				set(now)
			}
			o := quota.Order{Workspace: id, Rates: drawRates(t), Counts: drawCounts(t)}
			drawOrder(t, &o, time.Minute)
			got, err := source.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if want, err := memory.Take(t.Context(), o); err != nil || got.Granted != want.Granted || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("at %s, %+v: Redis says %+v, Memory %+v (%v)", now.Sub(start), o, got, want, err)
			}
		}
	})
}

// drawStep is how far the clock goes, now and then backwards.
func drawStep(t *rapid.T) time.Duration {
	most := rapid.SampledFrom([]time.Duration{0, time.Second, time.Hour, 100 * time.Hour}).Draw(t, "most")
	step := time.Duration(rapid.Int64Range(0, most.Microseconds()).Draw(t, "step")) * time.Microsecond
	if rapid.IntRange(0, 9).Draw(t, "back") == 0 {
		return -step
	}
	return step
}

func drawRates(t *rapid.T) (list rates) {
	for _, subject := range []string{"", "tbk_1", "tbk_2"} {
		if rapid.Bool().Draw(t, "rate") {
			list = append(list, quota.RateOrder{Subject: subject, Rate: quota.Rate{
				Burst:    rapid.IntRange(1, 9).Draw(t, "burst"),
				Interval: time.Hour + time.Duration(rapid.Int64Range(0, 1_000_000_000).Draw(t, "interval"))*time.Microsecond,
			}})
		}
	}
	return list
}

func drawCounts(t *rapid.T) (list counts) {
	for _, period := range []string{"2026-11-24", "2026-11"} {
		if rapid.Bool().Draw(t, "count") {
			list = append(list, quota.CountOrder{Period: period, Limit: rapid.Int64Range(0, 50).Draw(t, "limit"), Keep: 100_000 * time.Hour})
		}
	}
	return list
}
