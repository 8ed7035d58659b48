package quota_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/quota"
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

// Near the limit nothing is taken ahead: what one replica leaves, another has.
func TestNothingIsTakenAheadNearTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, quota.Limits{PerMinute: n(100)})
		for range 90 {
			f.spend(0)
		}
		if got := f.burst(1); got < 9 || got > 10 {
			t.Errorf("%d of the 10 that are left", got)
		}
	})
}

// Limits that change while the source is asked: its answer is for the old ones.
func TestNewLimitsDuringAFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, quota.Limits{PerMinute: n(1), Burst: n(1)})
		f.line.delay = 100 * time.Millisecond
		f.spend(1)
		var running sync.WaitGroup
		ask := func() {
			running.Go(func() {
				if d := f.spend(0); !d.Allowed || d.Degraded {
					t.Errorf("%+v under limits that allow it", d)
				}
			})
		}
		ask() // this one is refused by the old limits, and asks again
		pass(50 * time.Millisecond)
		f.set(quota.Limits{PerMinute: n(1), Burst: n(10)})
		ask()
		running.Wait()
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
