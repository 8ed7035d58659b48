package quota_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/policy/quota"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// bucket is the naive model of a Rate: it holds at most Burst events' worth of
// time and fills as time passes.
type bucket struct {
	rate  quota.Rate
	level time.Duration
	last  time.Time
}

func (b *bucket) spend(now time.Time) (wait time.Duration) {
	b.level = min(b.level+now.Sub(b.last), time.Duration(b.rate.Burst)*b.rate.Interval)
	b.last = now
	if b.level < b.rate.Interval {
		return b.rate.Interval - b.level
	}
	b.level -= b.rate.Interval
	return 0
}

func TestSpendIsATokenBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := quota.Rate{
			Burst:    rapid.IntRange(1, 8).Draw(t, "burst"),
			Interval: time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "interval")),
		}
		model := bucket{rate: rate, level: time.Duration(rate.Burst) * rate.Interval, last: start}
		var stored time.Time
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.Int64Range(0, 2*int64(rate.Interval)).Draw(t, "pause")))
			next, wait := rate.Spend(stored, now)
			if want := model.spend(now); wait != want {
				t.Fatalf("at %s: wait %s, want %s", now.Sub(start), wait, want)
			}
			if wait > 0 {
				if next != stored {
					t.Fatal("a refused event cost something")
				}
				if _, early := rate.Spend(stored, now.Add(wait-1)); early == 0 {
					t.Fatalf("allowed 1 ns before the wait of %s was over", wait)
				}
				if _, late := rate.Spend(stored, now.Add(wait)); late != 0 {
					t.Fatalf("after the wait of %s, another of %s", wait, late)
				}
			}
			stored = next
		}
	})
}

func TestPerMinute(t *testing.T) {
	rate := quota.PerMinute(20, 120)
	if rate != (quota.Rate{Burst: 120, Interval: 3 * time.Second}) {
		t.Fatalf("%+v", rate)
	}
	var stored time.Time
	allowed := 0
	for second := range 600 {
		for range 10 {
			next, wait := rate.Spend(stored, start.Add(time.Duration(second)*time.Second))
			if stored = next; wait == 0 {
				allowed++
			}
		}
	}
	if want := 120 + 599/3; allowed != want {
		t.Errorf("%d of 6000 events in ten minutes were allowed, want %d", allowed, want)
	}
}

// A clock that steps back neither frees nor blocks for longer than the burst.
func TestSpendWhenTheClockStepsBack(t *testing.T) {
	rate := quota.Rate{Burst: 2, Interval: time.Second}
	stored, _ := rate.Spend(time.Time{}, start)
	next, wait := rate.Spend(stored, start.Add(-time.Hour))
	if wait != time.Hour || next != stored {
		t.Errorf("wait %s", wait)
	}
}
