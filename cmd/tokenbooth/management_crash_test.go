package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
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

func wantManaged(t *testing.T, url string, created, revoked map[string]bool) {
	t.Helper()
	db := openDB(t, url)
	for id := range created {
		wantKey(t, db, id, revoked[id])
	}
	for what, statement := range map[string]string{
		"keys without a secret":                 `SELECT COUNT(*) FROM keys k WHERE NOT EXISTS (SELECT 1 FROM key_secrets s WHERE s.key_id = k.id)`,
		"keys without an event":                 `SELECT COUNT(*) FROM keys k WHERE NOT EXISTS (SELECT 1 FROM audit_events e WHERE e.subject_id = k.id AND e.action = 'key.create')`,
		"revoked keys without an event":         `SELECT COUNT(*) FROM keys k WHERE k.revoked_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM audit_events e WHERE e.subject_id = k.id AND e.action = 'key.revoke')`,
		"revoked keys without a row that tells": `SELECT COUNT(*) FROM keys k WHERE k.revoked_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.subject_id = k.id AND r.generation = k.generation)`,
		"gaps in the revocations":               `SELECT (SELECT seq FROM revocation_counter) - (SELECT COUNT(*) FROM revocations)`,
		"service accounts without a key":        `SELECT COUNT(*) FROM service_accounts a WHERE NOT EXISTS (SELECT 1 FROM keys k WHERE k.service_account_id = a.id)`,
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
