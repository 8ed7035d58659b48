package quota_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// A refusal is known until the instant at which there is more, and not longer.
func TestRefusalsNeedNoRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, quota.Limits{PerMinute: n(6), Burst: n(3)})
		f.line.delay = 20 * time.Millisecond
		if got := f.burst(0); got != 3 {
			t.Fatalf("%d were admitted at once, want 3", got)
		}
		before := f.replicas[0].RoundTrips()
		for range 100 {
			d := f.spend(0)
			if d.Allowed || !slices.Equal(d.Violated, []string{"minute"}) {
				t.Fatalf("%+v", d)
			}
			reset := d.Windows()[0].Reset
			if reset > 10*time.Second || d.Wait < reset || d.Wait > reset+2*time.Second {
				t.Fatalf("wait %s, reset %s", d.Wait, reset)
			}
		}
		if trips := f.replicas[0].RoundTrips() - before; trips != 0 {
			t.Errorf("%d round trips for 100 refusals", trips)
		}
		d := f.spend(0)
		pass(d.Windows()[0].Reset)
		if !f.spend(0).Allowed || f.spend(0).Allowed {
			t.Error("after the reset not exactly one is admitted")
		}
		if f.replicas[0].Refused() != 103 {
			t.Errorf("%d refused", f.replicas[0].Refused())
		}
	})
}

// Clients of a workspace do not come back at the same instant, and none too early.
func TestWaitsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			limits quota.Limits
			spread time.Duration
		}{
			{quota.Limits{PerMinute: n(60), Burst: n(1)}, 2 * time.Second},
			{quota.Limits{PerMinute: n(1), Burst: n(1)}, 6 * time.Second},
			{quota.Limits{PerDay: n(1)}, time.Minute},
		} {
			f := newFleet(t, 1, c.limits)
			f.spend(0)
			seen := map[time.Duration]bool{}
			for range 1000 {
				d := f.spend(0)
				late := d.Wait - d.Windows()[0].Reset
				if late < 0 || late >= c.spread {
					t.Fatalf("wait %s for what is there in %s", d.Wait, d.Windows()[0].Reset)
				}
				seen[late/(c.spread/10)] = true
			}
			if len(seen) != 10 {
				t.Errorf("waits fall into %d tenths of the spread", len(seen))
			}
		}
	})
}

func TestSoftOnlyCounts(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, replicas, quota.Limits{PerMinute: n(10), PerDay: n(12), PerMonth: n(20), Mode: quota.Soft})
			for i := range 30 {
				d := f.spend(0)
				var want []string
				for _, l := range []struct {
					name string
					most int
				}{{"minute", 10}, {"day", 12}, {"month", 20}} {
					if i >= l.most {
						want = append(want, l.name)
					}
				}
				if !d.Allowed || !d.Soft || !slices.Equal(d.Violated, want) || d.Wait != 0 {
					t.Fatalf("exchange %d: %+v, want %q violated", i+1, d, want)
				}
				for _, w := range d.Windows() {
					if w.Left != max(0, map[string]int64{"minute": 10, "day": 12, "month": 20}[w.Name]-int64(i)-1) {
						t.Fatalf("exchange %d: %+v", i+1, w)
					}
				}
			}
			if f.replicas[0].SoftExceeded() != 20 || f.replicas[0].Refused() != 0 {
				t.Errorf("%d exceeded, %d refused", f.replicas[0].SoftExceeded(), f.replicas[0].Refused())
			}
			// What came of it is over a minute later, whatever came meanwhile.
			f.set(quota.Limits{PerMinute: n(10)})
			if f.spend(0).Allowed {
				t.Error("the burst is not spent")
			}
			pass(time.Minute)
			if got := f.burst(0); got != 10 {
				t.Errorf("%d of 10 a minute later", got)
			}
		})
	}
}

func TestSoftWithoutItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, quota.Limits{PerMinute: n(4), Mode: quota.Soft})
		f.line.down = true
		for i := range 10 {
			d := f.spend(0)
			if !d.Allowed || !d.Degraded || (len(d.Violated) > 0) != (i >= 2) {
				t.Fatalf("exchange %d: %+v", i+1, d)
			}
		}
	})
}

// New limits count at once, with what is spent already.
func TestNewLimitsApplyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, quota.Limits{PerMinute: n(60), Burst: n(2), PerDay: n(3)})
		if got := f.burst(0); got != 2 {
			t.Fatalf("%d of 2", got)
		}
		f.set(quota.Limits{PerMinute: n(60), Burst: n(10), PerDay: n(3)})
		if got := f.burst(0); got != 1 {
			t.Errorf("%d of the one that the day leaves", got)
		}
		f.set(quota.Limits{PerMinute: n(60), Burst: n(10)})
		if got := f.burst(0); got != 7 {
			t.Errorf("%d of the 7 that the burst leaves", got)
		}
		f.set(quota.Limits{PerMinute: n(60), Burst: n(1)})
		if f.spend(0).Allowed {
			t.Error("admitted over the smaller burst")
		}
		pass(time.Second)
		if got := f.burst(0); got != 1 {
			t.Errorf("%d of 1: the debt to the larger burst is still paid", got)
		}
		f.set(quota.Limits{})
		if got := f.burst(0); got != 10_000 {
			t.Errorf("%d without a limit", got)
		}
	})
}

// A lease that was taken under other limits is not used any more.
func TestNewLimitsForgetLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, quota.Limits{PerMinute: n(600_000)})
		for range 1000 {
			f.spend(0)
		}
		f.set(quota.Limits{PerMinute: n(1)})
		if got := f.burst(0); got > 1 {
			t.Errorf("%d at once of one a minute", got)
		}
	})
}

// A day and a month are exact, and begin anew in UTC.
func TestDayAndMonth(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			pass(30*24*time.Hour + 23*time.Hour) // 2000-01-31, 23:00
			f := newFleet(t, replicas, quota.Limits{PerDay: n(100), PerMonth: n(150)})
			both := func() (admitted int) {
				for i := range f.replicas {
					admitted += f.burst(i)
				}
				return admitted
			}
			if got := both(); got != 100 {
				t.Errorf("%d on the first day, want 100", got)
			}
			d := f.spend(0)
			if w := d.Windows(); !slices.Equal(d.Violated, []string{"day"}) || w[0].Reset != time.Hour || w[1].Left != 50 || w[1].Length != 31*24*time.Hour || w[1].Reset != time.Hour {
				t.Errorf("%+v", d)
			}
			pass(time.Hour - 1)
			if got := both(); got != 0 {
				t.Errorf("%d before midnight", got)
			}
			pass(1)
			if got := both(); got != 100 {
				t.Errorf("%d on the first day of a month, want 100", got)
			}
			pass(24 * time.Hour)
			if got := both(); got != 50 {
				t.Errorf("%d of what the month leaves, want 50", got)
			}
			if d := f.spend(0); !slices.Equal(d.Violated, []string{"month"}) || d.Windows()[1].Length != 29*24*time.Hour {
				t.Errorf("%+v", d)
			}
		})
	}
}

// What a source has forgotten, replicas know.
func TestFlushedSourceGivesNoSecondBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := quota.Limits{PerMinute: n(600), PerDay: n(900)}
		f := newFleet(t, 3, limits)
		f.press(5, 10*time.Millisecond, 5*time.Second)
		if len(f.admitted) < 600 {
			t.Fatalf("only %d were admitted", len(f.admitted))
		}
		f.line.flush()
		f.press(5, 10*time.Millisecond, 5*time.Second)
		if over := within(f.admitted, rateOf(limits), lease+250*time.Millisecond+time.Duration(3)*rateOf(limits).Interval); over != "" {
			t.Error(over)
		}
		f.press(5, 10*time.Millisecond, 15*time.Second)
		f.line.flush()
		f.press(5, 10*time.Millisecond, 15*time.Second)
		if got := len(f.admitted); got != 900 {
			t.Errorf("%d of 900 a day although the replicas know better", got)
		}
	})
}

// A key has what its own limit gives, and all count for the workspace.
func TestKeysWithinTheirWorkspace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, quota.Limits{PerMinute: n(60), Burst: n(50)})
		spend := func(key keys.ID, perMinute int64) (admitted int, last quota.Decision) {
			for {
				if last = f.spendKey(0, key, perMinute); !last.Allowed {
					return admitted, last
				}
				admitted++
			}
		}
		if got, d := spend("a", 20); got != 20 || !slices.Equal(d.Violated, []string{"key"}) || d.Windows()[0].Left != 30 || d.Windows()[1].Quota != 20 {
			t.Errorf("%d of 20, then %+v", got, d)
		}
		if got, d := spend("b", 25); got != 25 || !slices.Equal(d.Violated, []string{"key"}) {
			t.Errorf("%d of 25, then %+v", got, d)
		}
		if got, d := spend("c", 0); got != 5 || !slices.Equal(d.Violated, []string{"minute"}) {
			t.Errorf("%d of the 5 that are left, then %+v", got, d)
		}
		if got, d := spend("a", 20); got != 0 || !slices.Equal(d.Violated, []string{"minute", "key"}) {
			t.Errorf("%d, then %+v", got, d)
		}
		pass(3 * time.Second)
		if got, d := spend("a", 20); got != 1 || !slices.Equal(d.Violated, []string{"key"}) || d.Wait < 3*time.Second {
			t.Errorf("%d of 1 that has grown back, then %+v", got, d)
		}
		if got, _ := spend("c", 0); got != 2 {
			t.Errorf("%d of the 2 that the key leaves", got)
		}
	})
}

func TestKeyWithoutLimitsOfItsWorkspace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, quota.Limits{})
		limit := quota.PerMinute(600, 600)
		for range 3 {
			for time.Now().UnixMilli()%5000 < 4990 {
				f.spendKey(int(time.Now().UnixMilli())%3, "a", 600)
				pass(time.Millisecond)
			}
			pass(20 * time.Millisecond)
		}
		if over := within(f.admitted, limit, lease); over != "" {
			t.Error(over)
		}
		if most := 600 + 15*10; len(f.admitted) < most*99/100 {
			t.Errorf("%d of %d", len(f.admitted), most)
		}
		if d := f.spendKey(0, "a", 0); !d.Allowed || len(d.Windows()) != 0 {
			t.Errorf("%+v without a limit", d)
		}
		if d := f.spendKey(0, "", 600); !d.Allowed || len(d.Windows()) != 0 {
			t.Errorf("%+v for no key", d)
		}
	})
}

// What owes nothing is forgotten; what still counts is not.
func TestIdleWorkspacesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, quota.Limits{PerMinute: n(1), Burst: n(5)})
		l := f.replicas[0]
		ask := func(i int, key keys.ID, perMinute int64) {
			if _, err := l.Spend(context.Background(), quota.Demand{Workspace: workspace.ID(fmt.Sprint("ws_", i)), Key: key, PerMinute: perMinute}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 1000 {
			ask(i, "", 0)
			ask(i, "tbk_a", 60)
		}
		if l.Len() != 2000 {
			t.Errorf("%d are remembered, want 2000", l.Len())
		}
		touch := func() { // every part of the memory sweeps when it is used
			for i := range 200 {
				ask(1_000_000+i, "", 0)
			}
		}
		pass(59 * time.Second)
		touch()
		if l.Len() != 2200 {
			t.Errorf("%d are remembered before a minute is over", l.Len())
		}
		pass(61 * time.Second)
		touch()
		pass(time.Minute)
		touch()
		if l.Len() > 200 {
			t.Errorf("%d are remembered of 200 in use", l.Len())
		}
	})
}

func TestMemoryOfALimiterIsBounded(t *testing.T) {
	f := newFleet(t, 1, quota.Limits{PerMinute: n(60)}, func(o *quota.Options) { o.Source = quota.NewMemory(nil) })
	l := f.replicas[0]
	for i := range 70_000 { // each a workspace and a key
		d, err := l.Spend(t.Context(), quota.Demand{Workspace: workspace.ID(fmt.Sprint("ws_", i)), Key: "tbk_a", PerMinute: 1})
		if err != nil || !d.Allowed {
			t.Fatalf("%+v, %v", d, err)
		}
	}
	if l.Len() > 100_000 {
		t.Errorf("%d are remembered", l.Len())
	}
}
