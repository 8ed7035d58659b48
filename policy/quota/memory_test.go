package quota_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// What is over is forgotten, without being asked for again.
func TestMemoryIsBounded(t *testing.T) {
	now := start
	memory := quota.NewMemory(func() time.Time { return now })
	o := quota.Order{Units: 1, Rates: rates{{Rate: quota.Rate{Burst: 1, Interval: time.Second}}, {Subject: "tbk_1", Rate: quota.Rate{Burst: 1, Interval: 2 * time.Second}}},
		Counts: counts{{Period: "2026-11-24", Limit: 1, Keep: 3 * time.Second}}}
	largest := 0
	for i := range 100_000 {
		now = now.Add(time.Millisecond)
		o.Workspace = workspace.ID(fmt.Sprint("ws_", i))
		take(t, memory, o)
		if i%100 == 0 {
			largest = max(largest, memory.Size())
		}
	}
	// 1000, 2000 and 3000 are in use at a time; a shard may double, or hold 256 more.
	if largest > 6000+64*256+64*3 {
		t.Errorf("%d limits were remembered of 6000", largest)
	}
	now = now.Add(time.Hour)
	for i := range 2000 {
		o.Workspace = workspace.ID(fmt.Sprint("ws_late_", i))
		take(t, memory, o)
	}
	if size := memory.Size(); size > 6000+64*3 {
		t.Errorf("an hour later %d limits are remembered, 6000 of them new", size)
	}
}

// Sweeping forgets nothing that counts.
func TestMemoryKeepsWhatCounts(t *testing.T) {
	now := start
	memory := quota.NewMemory(func() time.Time { return now })
	slow := quota.Order{Workspace: "ws_slow", Units: 9, Rates: rates{hourly("", 9, 0)}, Counts: counts{window("2026-11", 20, 0)}}
	take(t, memory, slow)
	for i := range 100_000 {
		now = now.Add(time.Millisecond)
		take(t, memory, quota.Order{Workspace: workspace.ID(fmt.Sprint("ws_", i)), Units: 1, Rates: rates{{Rate: quota.Rate{Burst: 1, Interval: time.Millisecond}}}})
	}
	a := take(t, memory, slow)
	if want := 9*time.Hour - now.Sub(start); a.Granted != 0 || a.Debts[0] != want || a.Counts[0] != 9 {
		t.Errorf("%+v, want a debt of %s", a, want)
	}
}

// A clock that is set back delays nobody by more than the bucket, even before the
// Memory began.
func TestMemoryWhenTheClockIsSetBack(t *testing.T) {
	now := start
	memory := quota.NewMemory(func() time.Time { return now })
	o := quota.Order{Workspace: "ws_1", Units: 1, Rates: rates{{Rate: quota.Rate{Burst: 2, Interval: time.Second}}}, Counts: counts{window("2026", 9, 0)}}
	take(t, memory, o)
	now = start.Add(-24 * time.Hour)
	if a := take(t, memory, o); a.Granted != 0 || a.Debts[0] != 2*time.Second || a.Counts[0] != 1 {
		t.Errorf("a day back: %+v", a)
	}
	now = now.Add(time.Second)
	if a := take(t, memory, o); a.Granted != 1 || a.Debts[0] != 2*time.Second || a.Counts[0] != 2 {
		t.Errorf("a second later: %+v", a)
	}
	o.Workspace = "ws_2"
	if a := take(t, memory, o); a.Granted != 1 || a.Debts[0] != time.Second || a.Counts[0] != 1 {
		t.Errorf("a new workspace: %+v", a)
	}
	if a := take(t, memory, o); a.Granted != 1 || a.Counts[0] != 2 {
		t.Errorf("a new workspace again: %+v", a)
	}
}

// Times are whole microseconds, and no debt gets smaller by that.
func TestMemoryRoundsUp(t *testing.T) {
	memory := quota.NewMemory(func() time.Time { return start })
	o := quota.Order{Workspace: "ws_1", Rates: rates{{Rate: quota.Rate{Burst: 2, Interval: time.Second}, Debt: time.Millisecond + 1}}}
	if a := take(t, memory, o); a.Debts[0] != time.Millisecond+time.Microsecond {
		t.Errorf("%+v", a)
	}
}

func TestMemoryAllocatesTheAnswer(t *testing.T) {
	memory := quota.NewMemory(nil)
	o := quota.Order{Workspace: workspace.NewID(), Units: 1, Rates: rates{hourly("", 9, 0), hourly("tbk_1", 9, 0)}, Counts: counts{window("2026-11", 9, 0)}}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { _, _ = memory.Take(ctx, o) }); n > 1 {
		t.Errorf("%v allocations, want one for both lists", n)
	}
}

func TestMemoryMindsItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := quota.Order{Workspace: "ws_1", Units: 1, Rates: rates{hourly("", 1, 0)}}
	memory := quota.NewMemory(nil)
	if _, err := memory.Take(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if a := take(t, memory, o); a.Granted != 1 {
		t.Errorf("something was spent: %+v", a)
	}
}

func BenchmarkMemory(b *testing.B) {
	memory := quota.NewMemory(nil)
	o := quota.Order{Workspace: workspace.NewID(), Units: 1, Rates: rates{{Rate: quota.PerMinute(600_000, 600_000)}, {Subject: "tbk_1", Rate: quota.PerMinute(600, 600)}}, Counts: counts{window("2026-11", 1<<40, 0)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := memory.Take(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}
