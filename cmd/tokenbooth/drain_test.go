package main

import (
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// A server that is asked to end under load answers everything that it has accepted,
// and has recorded just that when it ends.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		data := t.TempDir()
		drainUnderLoad(t, embedded(data), onSQLite(data, "TOKENBOOTH_HTTP_SHUTDOWN_DELAY=1s"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := schematest.PostgresURL(t)
		drainUnderLoad(t, url, onPostgres(url, "TOKENBOOTH_HTTP_SHUTDOWN_DELAY=1s"))
	})
}

func drainUnderLoad(t *testing.T, url string, env []string) {
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	r := serveReady(t, env)
	l := beginTraffic(t, r.url, key)
	l.more(100)
	r.signal(syscall.SIGTERM)
	eventually(t, "a server that drains", func() bool { _, ok := r.event("shutting down"); return ok })
	if status := r.ready(); status != http.StatusServiceUnavailable {
		t.Errorf("a server that drains is ready: %d", status)
	}
	l.more(20)
	l.clients.Wait() // each until nobody listens
	if code := r.wait(); code != exitOK {
		t.Errorf("exit code %d, want 0:\n%s", code, &r.log)
	}
	t.Logf("%d tokens, %d failures, %d of %d clients found nobody", len(l.issued), len(l.failed), l.gone, kept+fresh)
	for id, what := range l.failed {
		t.Errorf("%s: %s", id, what)
	}
	db := openDB(t, url)
	l.wantRecorded(db)
	wantLastUse(t, db, key, l.issued)
}

// wantRecorded wants a record of every token that clients got, and of no other.
func (l *traffic) wantRecorded(db *schema.DB) {
	l.t.Helper()
	var recorded []string
	if err := sqlx.SelectContext(l.t.Context(), db.Reader(), &recorded, `SELECT request_id FROM exchange_events WHERE action = 'token.issue'`); err != nil {
		l.t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, id := range recorded {
		if _, ok := l.issued[id]; !ok || seen[id] {
			l.t.Errorf("the exchange %s is recorded and was not answered, or is recorded twice", id)
		}
		seen[id] = true
	}
	for id := range l.issued {
		if !seen[id] {
			l.t.Errorf("the exchange %s was answered and is not recorded", id)
		}
	}
}

// wantLastUse wants the last use of the key to be that of the last token.
func wantLastUse(t *testing.T, db *schema.DB, key credential, issued map[string]time.Time) {
	t.Helper()
	var last time.Time
	for _, began := range issued {
		if began.After(last) {
			last = began
		}
	}
	used := query[workspace.Time](t, db, "SELECT last_used_at FROM key_secrets WHERE key_id = ?", key.id)
	if used.Before(last.Truncate(time.Microsecond)) {
		t.Errorf("the key was last used at %v and that is noted as %v", last, used)
	}
}
