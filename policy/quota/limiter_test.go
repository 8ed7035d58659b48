package quota_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

var (
	discard = slog.New(slog.DiscardHandler)
	acme    = workspace.ID("ws_acme")
	errDown = errors.New("the source is down")
)

func n(value int64) *int64 { return &value }

// line is the way to a source. It can be cut, frozen or slow, and counts orders.
type line struct {
	mu     sync.Mutex
	source quota.Source
	down   bool
	frozen bool
	delay  time.Duration
	orders []quota.Order
}

func (s *line) Take(ctx context.Context, o quota.Order) (quota.Answer, error) {
	s.mu.Lock()
	source, down, frozen, delay := s.source, s.down, s.frozen, s.delay
	s.orders = append(s.orders, o)
	s.mu.Unlock()
	if frozen {
		<-ctx.Done()
		return quota.Answer{}, ctx.Err()
	}
	if down {
		return quota.Answer{}, errDown
	}
	pass(delay / 2)
	defer pass(delay - delay/2)
	return source.Take(ctx, o)
}

func (s *line) set(change func(s *line)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// flush replaces the source by an empty one.
func (s *line) flush() { s.set(func(s *line) { s.source = quota.NewMemory(nil) }) }

// pass lets time pass: that of the bubble.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// reporter is a test, of whichever kind.
type reporter interface {
	Helper()
	Error(...any)
	Fatal(...any)
}

// fleet are replicas that draw from one source and obey the same limits.
type fleet struct {
	t        reporter
	line     line
	replicas []*quota.Limiter
	version  atomic.Int64
	limits   atomic.Pointer[quota.Limits]

	mu       sync.Mutex
	admitted []time.Time // within the order of time
}

func newFleet(t reporter, replicas int, limits quota.Limits, change ...func(*quota.Options)) *fleet {
	f := &fleet{t: t}
	f.line.source = quota.NewMemory(nil)
	f.set(limits)
	for range replicas {
		o := quota.Options{
			Limits: func(context.Context, workspace.ID) (quota.Limits, int64, error) {
				return *f.limits.Load(), f.version.Load(), nil
			},
			Source: &f.line, Shared: replicas > 1, Replicas: func() int { return replicas }, Log: discard,
		}
		for _, c := range change {
			c(&o)
		}
		f.replicas = append(f.replicas, quota.NewLimiter(o))
	}
	return f
}

func (f *fleet) set(limits quota.Limits) {
	if err := limits.Validate(); err != nil {
		f.t.Fatal(err)
	}
	f.limits.Store(&limits)
	f.version.Add(1)
}

func (f *fleet) spendKey(replica int, key keys.ID, perMinute int64) quota.Decision {
	f.t.Helper()
	d, err := f.replicas[replica].Spend(context.Background(), quota.Demand{Workspace: acme, Key: key, PerMinute: perMinute})
	if err != nil {
		f.t.Error(err)
	}
	if d.Allowed {
		f.mu.Lock()
		f.admitted = append(f.admitted, time.Now())
		f.mu.Unlock()
	}
	return d
}

func (f *fleet) spend(replica int) quota.Decision {
	f.t.Helper()
	return f.spendKey(replica, "tbk_any", 0)
}

// burst spends until it is refused, and returns how many were admitted before.
func (f *fleet) burst(replica int) (admitted int) {
	f.t.Helper()
	for admitted < 10_000 && f.spend(replica).Allowed {
		admitted++
	}
	return admitted
}

// press has clients ask all replicas each few milliseconds for a time.
func (f *fleet) press(clients int, pause, duration time.Duration) {
	var running sync.WaitGroup
	end := time.Now().Add(duration)
	for i := range f.replicas {
		for range clients {
			running.Go(func() {
				for pass(rand.N(pause)); time.Now().Before(end); pass(pause) {
					f.spend(i)
				}
			})
		}
	}
	running.Wait()
}

func (f *fleet) sum(of func(*quota.Limiter) uint64) (sum uint64) {
	for _, l := range f.replicas {
		sum += of(l)
	}
	return sum
}

// within reports the first instant at which more was admitted in any time t than
// burst + (t + slack)/interval, or "".
func within(admitted []time.Time, r quota.Rate, slack time.Duration) string {
	slices.SortFunc(admitted, time.Time.Compare)
	var arrival time.Time
	for i, at := range admitted {
		if arrival.Before(at) {
			arrival = at
		}
		arrival = arrival.Add(r.Interval)
		if over := arrival.Sub(at) - r.Capacity() - slack; over > 0 {
			return fmt.Sprintf("unit %d of %d at %s is %s too early", i+1, len(admitted), at.Format("15:04:05.000000"), over)
		}
	}
	return ""
}

func rateOf(l quota.Limits) quota.Rate {
	r, _ := l.Rate()
	return r
}

const lease = 100 * time.Millisecond

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
