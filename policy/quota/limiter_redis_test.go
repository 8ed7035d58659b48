package quota_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Three replicas over a real Redis, with as many exchanges at once as they can take.
func TestReplicasOverRedis(t *testing.T) {
	limits := quota.Limits{PerMinute: n(60_000), Burst: n(500)}
	in := workspace.NewID()
	var mu sync.Mutex
	var admitted []time.Time
	var running sync.WaitGroup
	var limiters []*quota.Limiter
	end := time.Now().Add(500 * time.Millisecond)
	for _, source := range redisReplicas(t, sharedRedis(t)) {
		l := quota.NewLimiter(quota.Options{
			Limits: func(context.Context, workspace.ID) (quota.Limits, int64, error) { return limits, 1, nil },
			Source: source, Shared: true, Replicas: func() int { return 3 }, Log: discard,
		})
		limiters = append(limiters, l)
		for range 8 {
			running.Go(func() {
				for now := time.Now(); now.Before(end); now = time.Now() {
					d, err := l.Spend(t.Context(), quota.Demand{Workspace: in})
					if err != nil {
						t.Error(err)
						return
					}
					if d.Allowed {
						mu.Lock()
						admitted = append(admitted, now)
						mu.Unlock()
					}
				}
			})
		}
	}
	running.Wait()
	r, slack := rateOf(limits), lease+250*time.Millisecond // so long a request may take
	for _, l := range limiters {
		t.Logf("%d admitted, %d refused, %d round trips, %d failed", l.Admitted(), l.Refused(), l.RoundTrips(), l.SourceErrors())
		if l.SourceErrors() > 0 { // a machine that is busy
			r = twice(limits, 3)
		}
	}
	if over := within(admitted, r, slack); over != "" {
		t.Error(over)
	}
	if len(admitted) < 500 {
		t.Errorf("only %d were admitted", len(admitted))
	}
}

// What somebody has written under one workspace's name concerns that workspace alone.
func TestOneSpoiledWorkspace(t *testing.T) {
	client := redisClient(t, sharedRedis(t))
	limits := quota.Limits{PerMinute: n(6000), Burst: n(10)}
	l := quota.NewLimiter(quota.Options{
		Limits: func(context.Context, workspace.ID) (quota.Limits, int64, error) { return limits, 1, nil },
		Source: quota.NewRedis(client), Shared: true, Log: discard,
	})
	spoiled, sound := workspace.NewID(), workspace.NewID()
	if err := client.LPush(t.Context(), "tokenbooth:quota:{"+string(spoiled)+"}:rate", 1).Err(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		for _, in := range []workspace.ID{spoiled, sound} {
			d, err := l.Spend(t.Context(), quota.Demand{Workspace: in})
			if err != nil || !d.Allowed || d.Degraded != (in == spoiled) {
				t.Errorf("spoiled %v: %+v, %v", in == spoiled, d, err)
			}
		}
	}
	if l.Degraded() {
		t.Error("the source counts as away")
	}
}
