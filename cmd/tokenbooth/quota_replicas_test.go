package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// fleet is three servers on one PostgreSQL and one Redis, and this process beside
// them, which sets quotas.
type fleet struct {
	*backend
	t        *testing.T
	replicas []*replica
}

func newFleet(t *testing.T, redisURL string) *fleet {
	t.Helper()
	env := onPostgres(schematest.PostgresURL(t), "TOKENBOOTH_REDIS_URL="+redisURL)
	f := &fleet{t: t, backend: participant(t, env)}
	for range 3 {
		f.replicas = append(f.replicas, serveReady(t, env))
	}
	return f
}

// tenant makes a workspace with a quota and a key.
func (f *fleet) tenant(name string, limits quota.Limits) credential {
	f.t.Helper()
	ws, err := f.manager.CreateWorkspace(f.t.Context(), tester, name, "")
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.manager.SetQuota(f.t.Context(), tester, ws.ID, limits); err != nil {
		f.t.Fatal(err)
	}
	issued, err := f.manager.CreateAccountWithKey(f.t.Context(), tester, ws.ID, manage.NewServiceAccount{Name: "ci", Role: "admin"}, manage.NewKey{Name: "ci"})
	if err != nil {
		f.t.Fatal(err)
	}
	return credential{string(issued.ID), issued.Secret.Reveal()}
}

func of[T any](v T) *T { return &v }

// attempts are exchanges of one tenant.
type attempts struct {
	mu   sync.Mutex
	list []exchanged
}

// exchanged is one exchange: when it was asked for and answered, and how.
type exchanged struct {
	sent, received time.Time
	status         int
	degraded       bool
}

// ask makes one exchange, or notes status 0 if there is no answer.
func (a *attempts) ask(base string, c credential) exchanged {
	e := exchanged{sent: time.Now()}
	request, err := http.NewRequest(http.MethodPost, base+"/api/login", strings.NewReader(c.form().Encode()))
	if err == nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		var response *http.Response
		if response, err = client.Do(request); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			e.status, e.degraded = response.StatusCode, strings.Contains(response.Header.Get("RateLimit"), ";degraded")
		}
	}
	e.received = time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, e)
	return e
}

// between are the attempts that were asked for within a time.
func (a *attempts) between(from, to time.Time) (found []exchanged) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.list {
		if !e.sent.Before(from) && e.sent.Before(to) {
			found = append(found, e)
		}
	}
	return found
}

// admitted are those that gave a token, in the order of their answers.
func (a *attempts) admitted() (found []exchanged) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.list {
		if e.status == http.StatusOK {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b exchanged) int { return a.received.Compare(b.received) })
	return found
}

// hammer asks every replica for tokens of a tenant until ctx ends, from several
// clients each, with a pause between the attempts of each.
func (f *fleet) hammer(ctx context.Context, running *sync.WaitGroup, c credential, clients int, pause time.Duration) *attempts {
	a := &attempts{}
	for _, r := range f.replicas {
		for range clients {
			running.Go(func() {
				for ctx.Err() == nil {
					a.ask(r.url, c)
					select {
					case <-time.After(pause):
					case <-ctx.Done():
					}
				}
			})
		}
	}
	return a
}

// most is the largest excess over so many times a rate, of the units that were
// certainly admitted within any window: asked for after it began and answered before
// it ended. 0 and less keep the rate.
func most(admitted []exchanged, rate quota.Rate, times float64) (excess float64) {
	excess = -1e9
	for _, first := range admitted {
		n := 0
		for _, last := range admitted {
			if last.sent.Before(first.sent) {
				continue
			}
			n++
			window := last.received.Sub(first.sent)
			bound := times * (float64(rate.Burst) + float64(window)/float64(rate.Interval))
			excess = max(excess, float64(n)-bound)
		}
	}
	return excess
}

// lease is by how much longer a window may be, for units that are taken ahead.
const lease = 100 * time.Millisecond

// Three servers that are asked for far more admit what the quota is, no more in any
// window and no less in total, and one tenant takes nothing from another.
func TestReplicasShareAQuota(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{
		"one Redis": func(t *testing.T) string { return "redis://" + schematest.PrivateRedis(t).Address() },
		"a cluster": func(t *testing.T) string {
			nodes := schematest.RedisCluster(t)
			return "redis://" + nodes[0] + "?addr=" + strings.Join(nodes[1:], "&addr=")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, url(t))
			// The bursts are large enough that nothing is lost while a busy machine lets nobody ask.
			rates := []quota.Rate{quota.PerMinute(3000, 150), quota.PerMinute(1800, 90)}
			one := f.tenant("One", quota.Limits{PerMinute: of[int64](3000), Burst: of[int64](150)})
			other := f.tenant("Other", quota.Limits{PerMinute: of[int64](1800), Burst: of[int64](90)})
			ctx, stop := context.WithTimeout(t.Context(), 4*time.Second)
			defer stop()
			var running sync.WaitGroup
			all := []*attempts{f.hammer(ctx, &running, one, 2, 2*time.Millisecond), f.hammer(ctx, &running, other, 2, 2*time.Millisecond)}
			running.Wait()
			for i, a := range all {
				admitted, rate := a.admitted(), rates[i]
				took := admitted[len(admitted)-1].received.Sub(admitted[0].received) // before the first nothing grows back
				whole := float64(rate.Burst) + float64(took)/float64(rate.Interval)
				t.Logf("tenant %d: %d of %d attempts in %s were admitted, %.3f of the quota", i+1, len(admitted), len(a.list), took, float64(len(admitted))/whole)
				if excess := most(admitted, rate, 1); excess > float64(lease)/float64(rate.Interval) {
					t.Errorf("tenant %d: %.1f too many in some window", i+1, excess)
				}
				if float64(len(admitted)) < 0.99*math.Floor(whole) {
					t.Errorf("tenant %d: %d were admitted, want at least 0.99 of %.1f", i+1, len(admitted), whole)
				}
				for _, e := range a.list {
					if e.status != http.StatusOK && e.status != http.StatusTooManyRequests {
						t.Fatalf("status %d", e.status)
					}
				}
			}
		})
	}
}

// Whatever happens to Redis, no exchange fails for it, and no more are admitted than
// twice the quota.
func TestExchangesWithoutRedis(t *testing.T) {
	server := schematest.PrivateRedis(t)
	f := newFleet(t, "redis://"+server.Address()+"/0")
	rate := quota.PerMinute(3000, 50)
	free := f.tenant("Free", quota.Limits{PerMinute: of[int64](quota.MaxPerMinute)})
	limited := f.tenant("Limited", quota.Limits{PerMinute: of[int64](3000), Burst: of[int64](50)})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	steady := f.hammer(ctx, &running, free, 1, 5*time.Millisecond)
	hammered := f.hammer(ctx, &running, limited, 2, time.Millisecond)

	direct := redis.NewClient(&redis.Options{Addr: server.Address(), MaxRetries: -1})
	defer direct.Close()
	phases := []struct {
		name string
		do   func()
		last time.Duration
	}{
		{"before", func() {}, 1500 * time.Millisecond},
		{"stopped, the breaker opens", server.Kill, 500 * time.Millisecond},
		{"stopped", func() {}, 1500 * time.Millisecond},
		{"started again, empty", server.Start, 2500 * time.Millisecond},
		{"frozen, the breaker opens", server.Freeze, 500 * time.Millisecond},
		{"frozen", func() {}, 1500 * time.Millisecond},
		{"thawed", server.Thaw, 2500 * time.Millisecond},
		{"flushed", func() {
			if err := direct.FlushAll(t.Context()).Err(); err != nil {
				t.Error(err)
			}
		}, 1500 * time.Millisecond},
	}
	for _, p := range phases {
		began := time.Now()
		p.do()
		<-time.After(p.last) // what is measured is what happens meanwhile
		f.report(p.name, steady.between(began, time.Now()))
		switch p.name {
		case "stopped", "frozen":
			f.wantDegraded(hammered, true)
		case "before", "started again, empty", "thawed":
			f.wantDegraded(hammered, false)
		}
	}
	stop()
	running.Wait()
	for _, e := range steady.list {
		if e.status != http.StatusOK {
			t.Errorf("an exchange within its quota is answered %d after %s", e.status, e.received.Sub(e.sent))
		}
	}
	for _, e := range hammered.list {
		if e.status != http.StatusOK && e.status != http.StatusTooManyRequests {
			t.Errorf("an exchange beyond the quota is answered %d", e.status)
		}
	}
	admitted := hammered.admitted()
	once, twice := most(admitted, rate, 1), most(admitted, rate, 2)
	t.Logf("beyond the quota: %d of %d attempts were admitted; at most %.0f more than the quota in any window", len(admitted), len(hammered.list), max(0, once))
	if twice > float64(lease)/float64(rate.Interval) {
		t.Errorf("%.1f more than twice the quota in some window", twice)
	}
}

// report prints how long exchanges took.
func (f *fleet) report(phase string, list []exchanged) {
	f.t.Helper()
	if len(list) == 0 {
		f.t.Errorf("%s: there was no exchange", phase)
		return
	}
	var took []time.Duration
	for _, e := range list {
		took = append(took, e.received.Sub(e.sent).Round(10*time.Microsecond))
	}
	slices.Sort(took)
	f.t.Logf("%-28s %5d exchanges, p50 %9s, p99 %9s, longest %9s", phase, len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}

// wantDegraded checks what the newest answers and the metrics say.
func (f *fleet) wantDegraded(a *attempts, want bool) {
	f.t.Helper()
	for _, r := range f.replicas {
		line := fmt.Sprintf("tokenbooth_quota_degraded %d\n", map[bool]int{false: 0, true: 1}[want])
		if text := page(f.t, r.ops+"/metrics"); !strings.Contains(text, line) {
			f.t.Errorf("%s does not show %s", r.ops, line)
		}
	}
	recent := a.between(time.Now().Add(-200*time.Millisecond), time.Now())
	degraded := 0
	for _, e := range recent {
		if e.degraded {
			degraded++
		}
	}
	if len(recent) == 0 || (degraded == len(recent)) != want {
		f.t.Errorf("of %d answers %d say that they are degraded, want all: %v", len(recent), degraded, want)
	}
}
