package quota_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy/quota"
)

// twice is the bound while the source is away: 2 * (burst + t/interval), and one
// unit of each replica where the shares would be less than that.
func twice(l quota.Limits, replicas int) quota.Rate {
	r := rateOf(l)
	return quota.Rate{Burst: 2*r.Burst + 2*replicas, Interval: r.Interval / 2}
}

func TestShareOfAReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, quota.Limits{PerMinute: n(60), Burst: n(30)})
		f.line.down = true
		if got := f.burst(0); got != 10 {
			t.Errorf("%d at once, want a third of 30", got)
		}
		d := f.spend(0)
		if !d.Degraded || d.Allowed || d.Windows()[0].Reset != 3*time.Second || d.Wait < 3*time.Second {
			t.Errorf("%+v", d)
		}
		pass(3 * time.Second)
		if got := f.burst(0); got != 1 {
			t.Errorf("%d after three seconds, want 1", got)
		}
		if got := f.burst(1) + f.burst(2); got != 20 {
			t.Errorf("the others have %d, want 20", got)
		}
	})
}

// What was spent before counts, as full a debt to the share as to the whole.
func TestShareCarriesTheDebt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, quota.Limits{PerMinute: n(60), Burst: n(30)})
		for range 15 {
			f.spend(0)
		}
		f.line.down = true
		if got := f.burst(0); got != 5 {
			t.Errorf("%d at once after half of the burst, want half of a share of 10", got)
		}
	})
}

// An outage, with shares in use, and the source back with what it knew.
func TestOutage(t *testing.T) {
	for _, empty := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			limits := quota.Limits{PerMinute: n(6000), Burst: n(300)}
			f := newFleet(t, 3, limits)
			f.line.delay = time.Millisecond
			f.press(3, 5*time.Millisecond, 5*time.Second)
			normal := len(f.admitted)

			f.line.set(func(s *line) { s.down = true })
			f.press(3, 5*time.Millisecond, 10*time.Second)
			away := len(f.admitted) - normal
			if away < 990 {
				t.Errorf("only %d in ten seconds without the source", away)
			}
			if over := within(f.admitted, twice(limits, 3), lease); over != "" {
				t.Error(over)
			}

			if empty {
				f.line.flush()
			}
			f.line.set(func(s *line) { s.down = false })
			f.press(3, 5*time.Millisecond, 10*time.Second)
			back := len(f.admitted) - normal - away
			// As much as has grown, and no second burst.
			if most := 1000 + 60 + 3; back > most || back < 950 {
				t.Errorf("%d in ten seconds after the source came back (empty: %t), want about 1000", back, empty)
			}
			if over := within(f.admitted, twice(limits, 3), lease); over != "" {
				t.Error(over)
			}
			for i, l := range f.replicas {
				if l.Degraded() {
					t.Errorf("replica %d has not noticed that the source is back", i)
				}
			}
			t.Logf("%d, %d while away, %d after", normal, away, back)
		})
	}
}

// What is admitted here while the source is asked again counts afterwards.
func TestLocalUnitsDuringTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, quota.Limits{PerMinute: n(60), Burst: n(100)})
		f.line.down = true
		f.spend(0)
		f.line.set(func(s *line) { s.down, s.delay = false, 100*time.Millisecond })
		pass(time.Second)
		var probe sync.WaitGroup
		probe.Go(func() { f.spend(0) })
		pass(50 * time.Millisecond)
		if got := f.burst(0); got != 49 {
			t.Errorf("%d of the 49 that are left of the share", got)
		}
		probe.Wait()
		if got := f.burst(0); got > 1 {
			t.Errorf("%d by the source after the whole share", got)
		}
	})
}

// Day and month go on by what is known and by what was admitted since.
func TestCountsWithoutTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, quota.Limits{PerDay: n(10), PerMonth: n(12)})
		for range 4 {
			f.spend(0)
		}
		f.line.set(func(s *line) { s.down = true })
		if got := f.burst(0); got != 6 {
			t.Errorf("%d of the 6 that are left", got)
		}
		f.line.flush()
		f.line.set(func(s *line) { s.down = false })
		pass(time.Second)
		if d := f.spend(0); d.Allowed || d.Degraded || !slices.Equal(d.Violated, []string{"day"}) {
			t.Errorf("%+v after the source is back, empty", d)
		}
		pass(24 * time.Hour)
		if got := f.burst(0); got != 2 {
			t.Errorf("%d of the 2 that the month leaves", got)
		}
	})
}

// Whatever happens, in any order: the bounds hold.
func TestBoundsHold(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		inBubble(t, func() { checkBounds(r) })
	})
}

// inBubble runs a part of a rapid test in a bubble; it ends such a part by a panic.
func inBubble(t *testing.T, f func()) {
	var ended any
	synctest.Test(t, func(*testing.T) {
		defer func() { ended = recover() }()
		f()
	})
	if ended != nil {
		panic(ended)
	}
}

func checkBounds(t *rapid.T) {
	replicas := rapid.IntRange(1, 4).Draw(t, "replicas")
	limits := quota.Limits{
		PerMinute: n(rapid.Int64Range(1, 6000).Draw(t, "per minute")),
		Burst:     n(rapid.Int64Range(1, 50).Draw(t, "burst")),
		PerDay:    n(rapid.Int64Range(1, 300).Draw(t, "per day")),
	}
	keyLimit := rapid.Int64Range(1, 600).Draw(t, "per minute of the key")
	f := newFleet(t, replicas, limits)
	f.line.delay = time.Duration(rapid.IntRange(0, 40).Draw(t, "delay")) * time.Millisecond
	steady, ofKey := true, []time.Time{}
	for range rapid.IntRange(1, 25).Draw(t, "steps") {
		switch rapid.SampledFrom([]string{"burst", "burst", "key", "pass", "fail", "limits", "at once"}).Draw(t, "step") {
		case "burst":
			for range rapid.IntRange(1, 60).Draw(t, "demands") {
				f.spend(rapid.IntRange(0, replicas-1).Draw(t, "of"))
			}
		case "at once":
			var running sync.WaitGroup
			for i := range rapid.IntRange(1, 60).Draw(t, "demands") {
				running.Go(func() { f.spend(i % replicas) })
			}
			running.Wait()
		case "key":
			for range rapid.IntRange(1, 60).Draw(t, "demands") {
				if f.spendKey(rapid.IntRange(0, replicas-1).Draw(t, "of"), keys.ID("tbk_a"), keyLimit).Allowed {
					ofKey = append(ofKey, time.Now())
				}
			}
		case "pass":
			pass(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
		case "fail":
			steady = false
			down := rapid.Bool().Draw(t, "down")
			f.line.set(func(s *line) { s.down = down })
		case "limits": // the same ones: what was leased is forgotten
			f.set(limits)
		}
	}
	r, slack := rateOf(limits), lease
	if !steady {
		r, slack = twice(limits, replicas), lease+250*time.Millisecond
	}
	if over := within(f.admitted, r, slack); over != "" {
		t.Fatalf("%s (always well: %t)", over, steady)
	}
	if steady && int64(len(f.admitted)) > *limits.PerDay {
		t.Fatalf("%d of %d a day", len(f.admitted), *limits.PerDay)
	}
	if r := quota.PerMinute(int(keyLimit), int(keyLimit)); steady {
		if over := within(ofKey, r, lease); over != "" {
			t.Fatalf("key: %s", over)
		}
	}
}
