package quota_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/quota"
)

// Replicas that share no source admit together what the limit is, also when one
// comes or goes.
func TestReplicasWithSourcesOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var living atomic.Int64
		living.Store(3)
		apart := func(o *quota.Options) {
			o.Source, o.Shared, o.Replicas = quota.NewMemory(nil), false, func() int { return int(living.Load()) }
		}
		f := newFleet(t, 3, quota.Limits{PerMinute: n(6000), Burst: n(60)}, apart)
		for replica := range 3 {
			if got := f.burst(replica); got != 20 {
				t.Errorf("replica %d admits %d of a burst of 60", replica, got)
			}
		}
		d := f.spend(0)
		if w := d.Windows()[0]; d.Allowed || w.Quota != 6000 || w.Reset > 30*time.Millisecond || d.Degraded {
			t.Errorf("%+v", d)
		}
		pass(time.Second)
		for replica := range 3 {
			if got := f.burst(replica); got != 20 { // 33 have grown back, of which a burst holds 20
				t.Errorf("a second later replica %d admits %d", replica, got)
			}
		}
		living.Store(1)
		pass(time.Second)
		if got := f.burst(0); got < 59 || got > 60 {
			t.Errorf("alone it admits %d of a burst of 60", got)
		}
	})
}

// What others have counted is known soon enough, also by a replica that had nothing
// to do for hours.
func TestCountsOfReplicasApart(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		now := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
		clock := func() time.Time { return now }
		var counters []*quota.Counters
		f := newFleet(t, 2, quota.Limits{PerDay: n(100)}, func(o *quota.Options) {
			o.Source, o.Shared, o.Replicas, o.Now = quota.NewMemory(clock), false, func() int { return 2 }, clock
			o.Counters = quota.NewCounters(db, time.Second, discard, clock)
			counters = append(counters, o.Counters)
		})
		for range 10 {
			f.spend(1)
		}
		flush := func(c *quota.Counters) {
			t.Helper()
			if err := c.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		flush(counters[1])
		for range 80 {
			f.spend(0)
		}
		flush(counters[0])
		now = now.Add(2 * time.Hour)
		if !f.spend(1).Allowed {
			t.Fatal("the 91st of 100 is refused")
		}
		for deadline := time.Now().Add(10 * time.Second); counters[1].Total(acme, quota.Day(now)) < 91; {
			if time.Now().After(deadline) {
				t.Fatal("the other's 80 do not become known")
			}
			<-time.After(time.Millisecond)
		}
		if got := f.burst(1); got != 9 {
			t.Errorf("%d more are admitted after 91 of 100", got)
		}
		if d := f.spend(1); !slices.Equal(d.Violated, []string{"day"}) {
			t.Errorf("%+v", d)
		}
	})
}
