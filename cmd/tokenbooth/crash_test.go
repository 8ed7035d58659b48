package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// A bootstrap that is killed has made everything or nothing, whenever that is. A
// key that it printed works; otherwise running it again ends well.
func TestBootstrapKilled(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		data := t.TempDir()
		killBootstraps(t, onSQLite(data), embedded(data))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := schematest.PostgresURL(t)
		killBootstraps(t, onPostgres(url), url)
	})
}

const kills = 25

func killBootstraps(t *testing.T, env []string, url string) {
	bootstrapped(t, env, bootstrapArgs("First", "ci")...)
	began := time.Now()
	bootstrapped(t, env, bootstrapArgs("Whole", "ci")...)
	took := time.Since(began)
	r := serveReady(t, env)
	db := openDB(t, url)
	ended := map[string]int{}
	for i := range kills {
		name := fmt.Sprintf("Killed %d", i)
		args := bootstrapArgs(name, "ci")
		p := start(t, env, args...)
		if i%2 == 0 {
			death := time.AfterFunc(rand.N(took), func() { _ = p.cmd.Process.Kill() })
			p.wait()
			death.Stop()
		} else {
			killAtCommit(t, p, db, name)
		}
		wantWhole(t, db) // before another run may complete what is missing
		var a bootstrapAnswer
		if json.Unmarshal([]byte(p.out.String()), &a) == nil {
			ended["printed"]++
		} else {
			a = bootstrapped(t, env, args...)
			ended[fmt.Sprintf("made again: %t", a.Created)]++
		}
		if a.Created {
			wantToken(t, r.url, a.key())
			wantToken(t, r.url, a.ownerKey())
		}
	}
	wantWhole(t, db)
	wantChained(t, db)
	if n := query[int](t, db, "SELECT COUNT(*) FROM workspaces"); n != kills+2 {
		t.Errorf("there are %d workspaces after %d bootstraps", n, kills+2)
	}
	t.Logf("of %d kills: %v", kills, ended)
}

// killAtCommit kills a bootstrap as soon as its workspace can be seen.
func killAtCommit(t *testing.T, p *process, db *schema.DB, name string) {
	t.Helper()
	look := time.NewTicker(500 * time.Microsecond)
	defer look.Stop()
	for !p.hasExited() && query[int](t, db, "SELECT COUNT(*) FROM workspaces WHERE name = ?", name) == 0 {
		<-look.C
	}
	p.kill()
}

// wantWhole checks that the bootstraps have left whole things only.
func wantWhole(t *testing.T, db *schema.DB) {
	t.Helper()
	for what, statement := range map[string]string{
		"keys without exactly one secret": `SELECT COUNT(*) FROM keys k
			WHERE (SELECT COUNT(*) FROM key_secrets s WHERE s.key_id = k.id) <> 1`,
		"keys without exactly one audit event": `SELECT COUNT(*) FROM keys k
			WHERE (SELECT COUNT(*) FROM audit_events e WHERE e.subject_id = k.id AND e.action = 'key.create' AND e.chain = k.workspace_id) <> 1`,
		"audit events of keys that do not exist": `SELECT COUNT(*) FROM audit_events e
			WHERE e.action = 'key.create' AND NOT EXISTS (SELECT 1 FROM keys k WHERE k.id = e.subject_id)`,
		"service accounts without exactly one key": `SELECT COUNT(*) FROM service_accounts a
			WHERE (SELECT COUNT(*) FROM keys k WHERE k.service_account_id = a.id) <> 1`,
		"workspaces without exactly one owner": `SELECT COUNT(*) FROM workspaces w
			WHERE (SELECT COUNT(*) FROM members m WHERE m.workspace_id = w.id AND m.role = 'owner') <> 1`,
		"members without exactly one personal key": `SELECT COUNT(*) FROM members m
			WHERE (SELECT COUNT(*) FROM keys k WHERE k.workspace_id = m.workspace_id AND k.user_id = m.user_id) <> 1`,
		"keys that the caches were not told of": `SELECT COUNT(*) FROM keys k
			WHERE NOT EXISTS (SELECT 1 FROM changes c WHERE c.subject_id = k.id)`,
		"changes beyond the counter": `SELECT COUNT(*) FROM changes WHERE seq > (SELECT seq FROM change_counter)`,
	} {
		if n := query[int](t, db, statement); n != 0 {
			t.Errorf("there are %d %s", n, what)
		}
	}
}

// wantChained recomputes every audit chain, from what the documentation says of
// it alone.
func wantChained(t *testing.T, db *schema.DB) {
	t.Helper()
	var heads []struct {
		Chain string `db:"chain"`
		Seq   int64  `db:"seq"`
		Hash  []byte `db:"hash"`
	}
	if err := sqlx.SelectContext(t.Context(), db.Reader(), &heads, "SELECT chain, seq, hash FROM audit_heads"); err != nil {
		t.Fatal(err)
	}
	for _, head := range heads {
		events, err := audit.Events(t.Context(), db.Reader(), head.Chain)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(events)) < head.Seq {
			t.Errorf("the head of chain %s is at %d, and it has %d events", head.Chain, head.Seq, len(events))
			continue
		}
		events = events[:head.Seq] // a server may have added some since the head was read
		hash := make([]byte, sha256.Size)
		for i, e := range events {
			text, err := json.Marshal([]any{
				2, e.Chain, int64(i + 1), e.ID, e.At.UnixMicro(), e.Action, e.ActorKind, e.ActorID, e.SubjectID, e.Detail,
				e.KeyID, e.OwnerID, e.Address, e.Agent, e.RequestID,
			})
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(append(hash, text...))
			hash = sum[:]
			if e.Seq != int64(i+1) || !bytes.Equal(e.Hash, hash) {
				t.Fatalf("the chain %s is broken at event %d", head.Chain, e.Seq)
			}
		}
		if !bytes.Equal(head.Hash, hash) {
			t.Errorf("the head of chain %s is not the hash of its event %d", head.Chain, head.Seq)
		}
	}
}
