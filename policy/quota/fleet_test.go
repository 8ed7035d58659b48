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
