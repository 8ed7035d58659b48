package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync/atomic"
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

// A server that had no file descriptors left for a moment lets in whoever waits when it
// is asked to end, as any other.
func TestDoorAfterFailure(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	exhausted := &exhaustedOnce{TCPListener: listener.(*net.TCPListener)}
	d := newDoor(exhausted)
	if _, err := d.Accept(); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("Accept: %v, want EMFILE", err)
	}
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	shut := make(chan struct{})
	go func() { d.shut(ctx); close(shut) }()
	eventually(t, "a door that is being shut", d.closing.Load)
	select {
	case <-shut:
		t.Error("the door is shut while somebody waits in front of it")
	case <-time.After(100 * time.Millisecond):
	}
	conn, err := d.Accept()
	if err != nil {
		t.Errorf("who waited is not let in: %v", err)
	} else {
		_ = conn.Close()
	}
	if _, err := d.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v, want that it is closed", err)
	}
	cancel()
	<-shut
}

// exhaustedOnce fails once as a listener does whose process has too many files open.
type exhaustedOnce struct {
	*net.TCPListener
	failed atomic.Bool
}

func (l *exhaustedOnce) Accept() (net.Conn, error) {
	if l.failed.CompareAndSwap(false, true) {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.TCPListener.Accept()
}
