package change_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// patient is long enough for a replica to keep its lease on a busy machine.
var patient = change.Timing{Lease: time.Second, Renewal: 10 * time.Millisecond}

// holding runs a replica that reports what it holds.
func holding(t *testing.T, db *schema.DB, host string, words *atomic.Value) (stop func()) {
	t.Helper()
	f := &change.Follower{Database: db, Host: host, Timing: patient, Log: discard, Holds: func() string { return words.Load().(string) }}
	check(t, f.Start(t.Context()))
	return run(t, f)
}

func TestAwaitHeld(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		check(t, change.AwaitHeld(t.Context(), db, "b", patient)) // there is nobody
		var one, two atomic.Value
		one.Store("a b c")
		two.Store("a bb")
		holding(t, db, "one", &one)
		stop := holding(t, db, "two", &two)
		check(t, change.AwaitHeld(t.Context(), db, "a", patient))
		err := change.AwaitHeld(t.Context(), db, "b", patient)
		if !errors.Is(err, change.ErrNotHeld) || !strings.HasSuffix(err.Error(), ": two") {
			t.Errorf("while two lives without it: %v, want ErrNotHeld that names it", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := change.AwaitHeld(ended, db, "b", patient); err == nil || errors.Is(err, change.ErrNotHeld) {
			t.Errorf("a call that is cancelled: %v, want the context's error", err)
		}
		two.Store("b")
		check(t, change.AwaitHeld(t.Context(), db, "b", patient))
		two.Store("")
		stop()
		check(t, change.AwaitHeld(t.Context(), db, "b", patient)) // two is gone
	})
}

// A replica that died without it is waited for until its lease has run out.
func TestAwaitHeldOutlastsTheDead(t *testing.T) {
	db := schematest.SQLite(t)
	dead := newFollower(t, db)
	check(t, change.AwaitHeld(t.Context(), db, "a", timing))
	if dead.Held() || rows(t, db) != 0 {
		t.Errorf("its lease is held: %v, rows: %d", dead.Held(), rows(t, db))
	}
	if until := dead.Until(); until.IsZero() || until.After(time.Now()) {
		t.Errorf("its lease ended at %v", until)
	}
}
