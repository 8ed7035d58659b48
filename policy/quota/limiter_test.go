package quota_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Three replicas keep one limit under saturation, and give away nearly nothing.
func TestThreeReplicasKeepOneRate(t *testing.T) {
	for _, c := range []struct {
		perMinute, burst int64
		delay            time.Duration
	}{{6000, 100, 0}, {6000, 100, time.Millisecond}, {60_000, 3000, 2 * time.Millisecond}, {600, 1, 500 * time.Microsecond}, {120, 240, 20 * time.Millisecond}} {
		t.Run(fmt.Sprintf("%d a minute, burst %d, round trip %s", c.perMinute, c.burst, c.delay), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limits := quota.Limits{PerMinute: n(c.perMinute), Burst: n(c.burst)}
				f := newFleet(t, 3, limits)
				f.line.delay = c.delay
				const duration = 15 * time.Second
				f.press(3, 2*time.Millisecond, duration)
				if over := within(f.admitted, rateOf(limits), lease); over != "" {
					t.Error(over)
				}
				most := float64(c.burst) + float64(duration)/float64(rateOf(limits).Interval)
				got := float64(len(f.admitted)) / most
				if got < 0.99 {
					t.Errorf("%d were admitted, %.4f of the most", len(f.admitted), got)
				}
				t.Logf("%.4f of the most; %d round trips for %d admitted and %d refused", got,
					f.sum((*quota.Limiter).RoundTrips), len(f.admitted), f.sum((*quota.Limiter).Refused))
			})
		})
	}
}

// Far from the limit most exchanges need no round trip.
func TestLeasesAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, quota.Limits{PerMinute: n(600_000), PerDay: n(10_000_000)})
		f.line.delay = time.Millisecond
		f.press(8, 5*time.Millisecond, 5*time.Second)
		admitted, trips := f.sum((*quota.Limiter).Admitted), f.sum((*quota.Limiter).RoundTrips)
		t.Logf("%d admitted with %d round trips: one for %.1f", admitted, trips, float64(admitted)/float64(trips))
		if trips*20 > admitted || int(admitted) != len(f.admitted) {
			t.Errorf("%d round trips for %d admitted", trips, admitted)
		}
	})
}

// A client that asks now and then does not spend more than it uses.
func TestRareExchangesTakeNothingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, quota.Limits{PerMinute: n(600)})
		for range 20 {
			f.spend(0)
			pass(120 * time.Millisecond)
		}
		for _, o := range f.line.orders {
			if o.Units != 1 {
				t.Errorf("an order of %d units", o.Units)
			}
		}
	})
}

// Units of a lease that are not used in time count neither as exchanges of the day
// nor twice.
func TestUnusedUnitsAreNotMissingFromTheDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, quota.Limits{PerMinute: n(600_000), PerDay: n(3000)})
		for time.Now().Before(time.Date(2000, 1, 1, 0, 10, 0, 0, time.UTC)) {
			var running sync.WaitGroup
			for range 50 {
				running.Go(func() { f.spend(rand.IntN(2)) })
				pass(time.Millisecond)
			}
			running.Wait()
			pass(2 * time.Second)
		}
		if len(f.admitted) > 3000 || len(f.admitted) < 2900 {
			t.Errorf("%d of 3000 a day were admitted", len(f.admitted))
		}
		t.Logf("%d of 3000 were admitted", len(f.admitted))
	})
}

// A frozen source costs those who wait for it one time-out, and then nobody but one
// now and then.
func TestFrozenSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, quota.Limits{PerMinute: n(6000)})
		f.line.frozen = true
		begin := time.Now()
		var running sync.WaitGroup
		for range 20 {
			running.Go(func() {
				d := f.spend(0)
				if took := time.Since(begin); took != 250*time.Millisecond || !d.Allowed || !d.Degraded {
					t.Errorf("allowed %t, degraded %t after %s", d.Allowed, d.Degraded, took)
				}
			})
		}
		running.Wait()
		if trips := f.replicas[0].RoundTrips(); trips != 1 {
			t.Errorf("%d round trips", trips)
		}
		if d := f.spend(0); !d.Degraded || time.Since(begin) != 250*time.Millisecond {
			t.Errorf("the next waited too, until %s", time.Since(begin))
		}
		pass(time.Second)
		begin = time.Now()
		slow := 0
		for range 10 {
			running.Go(func() {
				if f.spend(0); time.Since(begin) > 0 {
					slow++
				}
			})
		}
		running.Wait()
		if slow != 1 || !f.replicas[0].Degraded() || f.replicas[0].SourceErrors() != 2 {
			t.Errorf("%d of 10 tried again; %d errors", slow, f.replicas[0].SourceErrors())
		}

		f.line.set(func(s *line) { s.frozen = false })
		pass(time.Second)
		if d := f.spend(0); !d.Allowed || d.Degraded || f.replicas[0].Degraded() {
			t.Errorf("%+v after the source is well again", d)
		}
		if got := f.replicas[0].DegradedDecisions(); got != 31 {
			t.Errorf("%d degraded decisions, want 31", got)
		}
	})
}

// Who leaves does not spoil it for the others.
func TestCancelledCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, quota.Limits{PerMinute: n(60)})
		f.line.delay = 100 * time.Millisecond
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			d, err := f.replicas[0].Spend(ctx, quota.Demand{Workspace: acme})
			if !errors.Is(err, context.Canceled) || d.Allowed {
				t.Errorf("%+v, %v", d, err)
			}
		})
		pass(10 * time.Millisecond)
		running.Go(func() {
			if d := f.spend(0); !d.Allowed || d.Degraded {
				t.Errorf("%+v", d)
			}
		})
		pass(10 * time.Millisecond)
		cancel()
		running.Wait()
		if trips := f.replicas[0].RoundTrips(); trips != 1 {
			t.Errorf("%d round trips", trips)
		}
		if d := f.spend(0); d.Windows()[0].Left != 58 {
			t.Errorf("%+v left after two", d.Windows())
		}
	})
}

func TestUnknownLimits(t *testing.T) {
	unknown := errors.New("the database is away")
	l := quota.NewLimiter(quota.Options{Limits: func(context.Context, workspace.ID) (quota.Limits, int64, error) {
		return quota.Limits{}, 0, unknown
	}, Source: &line{down: true}})
	if d, err := l.Spend(t.Context(), quota.Demand{Workspace: acme}); !errors.Is(err, unknown) || d.Allowed {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestNoLimits(t *testing.T) {
	f := newFleet(t, 2, quota.Limits{MaxKeys: n(3)})
	f.line.down = true
	if d := f.spend(0); !d.Allowed || d.Degraded || len(d.Windows()) != 0 || d.Policy() != "" || d.State() != "" {
		t.Errorf("%+v", d)
	}
	if len(f.line.orders) != 0 || f.replicas[0].Admitted() != 1 || f.replicas[0].Len() != 0 {
		t.Error("the source was asked")
	}
}
