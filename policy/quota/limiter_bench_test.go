package quota_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// BenchmarkSpend is the common exchange: of a lease, without a round trip. The last
// one is a source of the same process, which is asked each time.
func BenchmarkSpend(b *testing.B) {
	for _, c := range []struct {
		name   string
		limits quota.Limits
		shared bool
		counts bool
	}{
		{"none", quota.Limits{}, true, false},
		{"leased", quota.Limits{PerMinute: n(600_000)}, true, false},
		{"leased, with counts", quota.Limits{PerMinute: n(600_000), PerDay: n(1_000_000_000), PerMonth: n(1_000_000_000)}, true, true},
		{"not shared", quota.Limits{PerMinute: n(600_000)}, false, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			o := quota.Options{
				Limits: func(_ context.Context, id workspace.ID) (quota.Limits, int64, error) { return c.limits, 1, nil },
				Source: quota.NewMemory(nil), Shared: c.shared, Log: discard,
			}
			if c.counts {
				o.Counters = quota.NewCounters(noDatabase{}, 0, discard, nil)
			}
			l := quota.NewLimiter(o)
			var of []workspace.ID // enough of them that none comes near its limit
			for i := range 100 {
				of = append(of, workspace.ID("ws_"+strconv.Itoa(1_000_000_000+i)))
			}
			refused, i := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				d, err := l.Spend(context.Background(), quota.Demand{Workspace: of[i/1000%len(of)], Key: "tbk_any"})
				if err != nil {
					b.Fatal(err)
				}
				if !d.Allowed {
					refused++
				}
			}
			b.ReportMetric(float64(l.RoundTrips())/float64(b.N), "trips/op")
			if refused > b.N/100 {
				b.Errorf("%d of %d were refused", refused, b.N)
			}
		})
	}
}

// The common exchange leaves nothing for the garbage collector.
func TestALeasedExchangeAllocatesNothing(t *testing.T) {
	f := newFleet(t, 3, quota.Limits{PerMinute: n(600_000), PerDay: n(1_000_000)})
	spend := func() {
		if d, err := f.replicas[0].Spend(context.Background(), quota.Demand{Workspace: acme}); err != nil || !d.Allowed {
			t.Fatalf("%+v, %v", d, err)
		}
	}
	for range 20_000 {
		spend()
	}
	trips := f.replicas[0].RoundTrips()
	if allocs := testing.AllocsPerRun(10_000, spend); allocs >= 1 {
		t.Errorf("%g allocations with %d round trips", allocs, f.replicas[0].RoundTrips()-trips)
	}
}

// Where the source is in the process, an exchange allocates its flight and the answer.
func TestAnExchangeOfASingleProcessAllocatesLittle(t *testing.T) {
	limits := quota.Limits{PerMinute: n(600_000), PerDay: n(1_000_000), PerMonth: n(10_000_000)}
	l := quota.NewLimiter(quota.Options{
		Limits: func(context.Context, workspace.ID) (quota.Limits, int64, error) { return limits, 1, nil },
		Source: quota.NewMemory(nil), Log: discard,
	})
	allocs := testing.AllocsPerRun(1000, func() {
		d, err := l.Spend(context.Background(), quota.Demand{Workspace: acme, Key: "tbk_1", PerMinute: 600_000})
		if err != nil || !d.Allowed || d.Policy() == "" {
			t.Fatalf("%+v, %v", d, err)
		}
	})
	if allocs > 2 {
		t.Errorf("%v objects", allocs)
	}
}
