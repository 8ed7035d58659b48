package quota_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// An admission was decided at some instant between two, by the clock of the test.
type admission struct{ sent, received time.Time }

// A siege is what a workspace got of its rate while more was asked for all the time.
type siege struct {
	rate  quota.Rate
	order quota.Order

	mu         sync.Mutex
	admissions []admission
	sent       []time.Time // all orders
	refused    time.Time   // when the first refusal was received
}

func besiege(rate quota.Rate) *siege {
	return &siege{rate: rate, order: quota.Order{Workspace: workspace.NewID(), Units: 1, Rates: rates{{Rate: rate}}}}
}

// storm asks until a time is over.
func (s *siege) storm(t *testing.T, source quota.Source, until time.Time) {
	for {
		sent := time.Now()
		if sent.After(until) {
			return
		}
		a, err := source.Take(t.Context(), s.order)
		if err != nil {
			t.Error(err)
			return
		}
		s.note(admission{sent, time.Now()}, a.Granted)
	}
}

func (s *siege) note(a admission, granted int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, a.sent)
	switch {
	case granted > 0:
		s.admissions = append(s.admissions, a)
	case s.refused.IsZero() || a.received.Before(s.refused):
		s.refused = a.received
	}
}

// most is what fits into a time. The clocks of test and server may run apart by a
// thousandth.
func (s *siege) most(t time.Duration) int {
	return s.rate.Burst + int((t+t/1000)/s.rate.Interval)
}

// notTooMany looks at every window, from the sending of one admission to the receipt
// of another: all that were sent and received within it were decided within it.
func (s *siege) notTooMany(t *testing.T) {
	t.Helper()
	received := make([]time.Time, len(s.admissions))
	for i, from := range s.admissions {
		received = received[:0]
		for _, a := range s.admissions {
			if !a.sent.Before(from.sent) {
				received = append(received, a.received)
			}
		}
		slices.SortFunc(received, time.Time.Compare)
		for n, to := range received {
			if window := to.Sub(from.sent); n+1 > s.most(window) {
				t.Fatalf("%d admissions in the %s after admission %d, at most %d by %+v", n+1, window, i, s.most(window), s.rate)
			}
		}
	}
}

// notTooFew expects the burst until the first refusal, and then all that grew back
// until the last order was sent, but for the part of a unit at the end.
func (s *siege) notTooFew(t *testing.T) {
	t.Helper()
	if s.refused.IsZero() {
		t.Fatal("nothing was refused: there was no siege")
	}
	lasted := s.besieged()
	whole := float64(s.rate.Burst) + float64(lasted)/float64(s.rate.Interval)
	got := float64(len(s.admissions))
	t.Logf("%d of %d orders in %s of siege were admitted: %.4f of %.1f", len(s.admissions), len(s.sent), lasted, got/whole, whole)
	if got < min(0.99*whole, whole-1) {
		t.Errorf("%d admissions of %.1f", len(s.admissions), whole)
	}
}

// besieged is how long orders came after the first refusal. While none came for so
// long that the bucket may have been full, as happens on a machine with much else
// to do, there was no siege, and what would have grown is lost.
func (s *siege) besieged() (lasted time.Duration) {
	slices.SortFunc(s.sent, time.Time.Compare)
	before := s.refused
	for _, sent := range s.sent {
		gap := sent.Sub(before)
		if gap <= 0 {
			continue
		}
		if gap < s.rate.Capacity()/2 {
			lasted += gap
		}
		before = sent
	}
	return lasted
}

// Three replicas that are asked as fast as can be admit what the rates of two
// workspaces allow, as one would.
func TestRedisUnderSiege(t *testing.T) {
	for name, addresses := range map[string][]string{"redis": {sharedRedis(t)}, "cluster": schematest.RedisCluster(t)} {
		t.Run(name, func(t *testing.T) {
			r := redisReplicas(t, addresses...)
			sieges := []*siege{besiege(quota.PerMinute(6000, 50)), besiege(quota.PerMinute(1200, 10))}
			until := time.Now().Add(3 * time.Second)
			var running sync.WaitGroup
			for _, s := range sieges {
				for worker := range 12 {
					running.Go(func() { s.storm(t, r[worker%len(r)], until) })
				}
			}
			running.Wait()
			for _, s := range sieges {
				s.notTooMany(t)
				s.notTooFew(t)
			}
		})
	}
}
