package main

import (
	"net/http"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// A server goes on when the next release brings its schema, is started again on it, and
// can come back to it: whatever a release may add is no hindrance.
func TestServeOnTheNextSchema(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		data := t.TempDir()
		serveOnTheNextSchema(t, embedded(data), onSQLite(data))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := schematest.PostgresURL(t)
		serveOnTheNextSchema(t, url, onPostgres(url))
	})
}

func serveOnTheNextSchema(t *testing.T, url string, env []string) {
	first := bootstrapped(t, env, bootstrapArgs("Payments", "first")...)
	r := serveReady(t, env)
	wantToken(t, r.url, first.key())
	grow(t, openDB(t, url))
	wantEnd(t, env, exitOK, "nothing to run", "", "migrate", "--plan")
	useAll(t, r, env, first, "second")
	r.stop()
	r = serveReady(t, env)
	useAll(t, r, env, first, "third")
	r.stop()
}

// grow does what the migration of a next release may: every table gets columns, and
// there is a new one.
func grow(t *testing.T, db *schema.DB) {
	t.Helper()
	list := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*' AND name <> 'goose_db_version'"
	if db.Dialect() == schema.PostgreSQL {
		list = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'goose_db_version'"
	}
	var tables []string
	if err := sqlx.SelectContext(t.Context(), db.Reader(), &tables, list); err != nil {
		t.Fatal(err)
	}
	if len(tables) < 20 {
		t.Errorf("only the tables %v have grown", tables)
	}
	for _, table := range tables {
		execute(t, db, "ALTER TABLE "+table+" ADD COLUMN next_release TEXT")
		execute(t, db, "ALTER TABLE "+table+" ADD COLUMN next_count BIGINT NOT NULL DEFAULT 0")
	}
	execute(t, db, "CREATE TABLE next_table (next_key TEXT NOT NULL PRIMARY KEY)")
	execute(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (?, ?)", schema.Latest()+1, db.Dialect() == schema.PostgreSQL)
}

// useAll does a little of everything.
func useAll(t *testing.T, r *replica, env []string, first bootstrapAnswer, name string) {
	t.Helper()
	wantToken(t, r.url, first.key())
	other := bootstrapped(t, env, bootstrapArgs("Payments", name)...)
	token := wantToken(t, r.url, other.key())
	api, err := admin.New(admin.Config{URL: r.url, Credential: first.ownerKey().secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.RevokeKey(t.Context(), "payments", other.ClientID, admin.Revocation{}); err != nil {
		t.Error(err)
	}
	wantRefusal(t, r.url, other.key(), "revoked")
	if a := get(t, r.url+"/api/v1/whoami", token); a.status != http.StatusUnauthorized {
		t.Errorf("a token of the revoked key is answered with %d", a.status)
	}
	wantEnd(t, env, exitOK, " is published since ", "", "signing-keys", "rotate")
	eventually(t, "a record that is whole", func() bool {
		p, code := runCommand(t, env, "audit", "verify")
		return code == exitOK && p.out.String() != ""
	})
}
