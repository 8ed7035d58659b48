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

// A workspace is remembered as long as one of its keys is.
func TestWorkspaceOfAKeyInUseIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, quota.Limits{PerMinute: n(600)})
		for range 20 {
			f.spendKey(0, "tbk_a", 600)
			pass(20 * time.Second)
		}
		if got := f.replicas[0].Len(); got != 2 {
			t.Errorf("%d are remembered, want the workspace and its key", got)
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
