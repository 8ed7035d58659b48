package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// A server is killed while managers work: what it acknowledged is there, in the
// audit log too, and nothing is half there.
func TestServeKilledWhileManaging(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		data := t.TempDir()
		killManagement(t, onSQLite(data), embedded(data))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := schematest.PostgresURL(t)
		killManagement(t, onPostgres(url), url)
	})
}

func killManagement(t *testing.T, env []string, url string) {
	owner := bootstrapped(t, env, bootstrapArgs("Acme", "ci")...).ownerKey().secret
	var mu sync.Mutex
	created, revoked := map[string]bool{}, map[string]bool{}
	for round := range 3 {
		r := serveReady(t, env)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for worker := range 3 {
			running.Go(func() {
				client, err := admin.New(admin.Config{URL: r.url, Credential: owner})
				if err != nil {
					t.Error(err)
					return
				}
				for i := 0; ctx.Err() == nil; i++ {
					key, err := client.CreateKey(ctx, "acme", admin.NewKey{Name: fmt.Sprintf("k-%d-%d-%d", round, worker, i)})
					if err != nil {
						continue // it is dead, or about to be
					}
					mu.Lock()
					created[key.ClientID] = true
					mu.Unlock()
					if _, err := client.RevokeKey(ctx, "acme", key.ClientID, admin.Revocation{}); err == nil {
						mu.Lock()
						revoked[key.ClientID] = true
						mu.Unlock()
					}
				}
			})
		}
		// The lease of the one that was killed before has to run out first.
		death := time.NewTimer(change.DefaultTiming.Lease + 500*time.Millisecond + rand.N(time.Second))
		<-death.C
		r.kill()
		cancel()
		running.Wait()
		wantManaged(t, url, created, revoked)
	}
	if len(created) < 8 || len(revoked) < 4 {
		t.Errorf("only %d keys were created and %d revoked", len(created), len(revoked))
	}
	t.Logf("%d creations and %d revocations were acknowledged", len(created), len(revoked))
}

// A server is killed before each of the messages that it sends to its database for
// a change: what it was about to do is done or not begun, and is done when somebody
// asks again.
func TestServeKilledAtEveryStatement(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]keyChange{
		"create": func(ctx context.Context, c *admin.Client, _ string) (admin.IssuedKey, error) {
			return c.CreateKey(ctx, "acme", admin.NewKey{ServiceAccount: "ci", Name: "created"})
		},
		"rotate": func(ctx context.Context, c *admin.Client, id string) (admin.IssuedKey, error) {
			return c.RotateKey(ctx, "acme", id, admin.Rotation{GracePeriod: 3600})
		},
		"roll": func(ctx context.Context, c *admin.Client, id string) (admin.IssuedKey, error) {
			return c.RotateKey(ctx, "acme", id, admin.Rotation{RevokeTokens: true})
		},
		"revoke": func(ctx context.Context, c *admin.Client, id string) (none admin.IssuedKey, err error) {
			_, err = c.RevokeKey(ctx, "acme", id, admin.Revocation{})
			return none, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killAtEveryStatement(t, change)
		})
	}
}

// keyChange changes a key, or makes one; what it issues has a secret.
type keyChange func(ctx context.Context, c *admin.Client, id string) (admin.IssuedKey, error)

func killAtEveryStatement(t *testing.T, change keyChange) {
	direct := schematest.PostgresURL(t)
	wire, through := proxied(t, direct)
	env := onPostgres(direct)
	made := bootstrapped(t, env, bootstrapArgs("Acme", "ci")...)
	b := participant(t, env)
	env = append(env, "TOKENBOOTH_DATABASE_URL="+through)
	killed, cut := 0, "" // cut is the key whose change was cut off
	for {
		key := newKeyOf(t, b, workspace.ID(made.WorkspaceID))
		execute(t, b.db, "DELETE FROM replicas") // of those that were killed
		r := serveReady(t, env)
		client, err := admin.New(admin.Config{URL: r.url, Credential: made.ownerKey().secret})
		if err != nil {
			t.Fatal(err)
		}
		if cut != "" {
			if _, err := change(t.Context(), client, cut); err != nil {
				t.Errorf("once more after the kill: %v", err)
			}
		}
		left := atomic.Int32{}
		left.Store(int32(killed))
		mayPass := func() bool {
			if left.Add(-1) >= 0 {
				return true
			}
			r.signal(syscall.SIGKILL)
			return false
		}
		wire.ask.Store(&mayPass)
		issued, err := change(t.Context(), client, key.id)
		wire.ask.Store(nil)
		if err == nil {
			if issued.ClientSecret != nil {
				wantToken(t, r.url, credential{issued.ClientID, *issued.ClientSecret})
			}
			break
		}
		eventually(t, "the end of the server", r.hasExited)
		wantManaged(t, direct, nil, nil)
		killed, cut = killed+1, key.id
	}
	wantManaged(t, direct, nil, nil)
	t.Logf("killed before each of %d messages", killed)
	if killed < 8 {
		t.Error("a change takes more statements than that")
	}
}

func wantManaged(t *testing.T, url string, created, revoked map[string]bool) {
	t.Helper()
	db := openDB(t, url)
	for id := range created {
		wantKey(t, db, id, revoked[id])
	}
	for what, statement := range map[string]string{
		"keys without a secret":                              `SELECT COUNT(*) FROM keys k WHERE NOT EXISTS (SELECT 1 FROM key_secrets s WHERE s.key_id = k.id)`,
		"keys without an event":                              `SELECT COUNT(*) FROM keys k WHERE NOT EXISTS (SELECT 1 FROM audit_events e WHERE e.subject_id = k.id AND e.action = 'key.create')`,
		"revoked keys without an event":                      `SELECT COUNT(*) FROM keys k WHERE k.revoked_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM audit_events e WHERE e.subject_id = k.id AND e.action = 'key.revoke')`,
		"revoked keys without a row that tells":              `SELECT COUNT(*) FROM keys k WHERE k.revoked_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.subject_id = k.id AND r.generation = k.generation)`,
		"keys with another number of secrets than were made": `SELECT COUNT(*) FROM keys k WHERE (SELECT COUNT(*) FROM key_secrets s WHERE s.key_id = k.id) <> (SELECT COUNT(*) FROM audit_events e WHERE e.subject_id = k.id AND e.action IN ('key.create', 'key.rotate'))`,
		"generations that nobody is told of":                 `SELECT COUNT(*) FROM keys k WHERE k.generation > 1 AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.subject_id = k.id AND r.generation = k.generation)`,
		"gaps in the revocations":                            `SELECT (SELECT seq FROM revocation_counter) - (SELECT COUNT(*) FROM revocations)`,
		"service accounts without a key":                     `SELECT COUNT(*) FROM service_accounts a WHERE NOT EXISTS (SELECT 1 FROM keys k WHERE k.service_account_id = a.id)`,
	} {
		if n := query[int](t, db, statement); n != 0 {
			t.Errorf("there are %d %s", n, what)
		}
	}
	report, err := audit.Verify(t.Context(), db.Reader(), nil)
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("audit: %v, %v", report.Findings, err)
	}
}

func wantKey(t *testing.T, db *schema.DB, id string, revoked bool) {
	t.Helper()
	if n := query[int](t, db, `SELECT COUNT(*) FROM keys WHERE id = ? AND (revoked_at IS NOT NULL OR ? = FALSE)`, id, revoked); n != 1 {
		t.Errorf("the key %s was acknowledged (revoked: %t) and is not so", id, revoked)
	}
}
