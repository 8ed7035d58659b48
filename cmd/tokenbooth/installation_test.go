package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
)

// served is the environment of a server whose addresses are free ports and whose
// catalogue has one resource.
func served(more ...string) []string {
	return append([]string{
		"TOKENBOOTH_ISSUER=https://login.example.com",
		"TOKENBOOTH_LISTEN=127.0.0.1:0",
		"TOKENBOOTH_OPERATIONS_LISTEN=127.0.0.1:0",
		"TOKENBOOTH_HTTP_SHUTDOWN_DELAY=0s",
		"TOKENBOOTH_CATALOGUE_RESOURCES={collectors: [read, create]}",
	}, more...)
}

// onSQLite is an installation with an embedded database in that directory.
func onSQLite(data string, more ...string) []string {
	return served(append([]string{"TOKENBOOTH_DATA=" + data}, more...)...)
}

// onPostgres is an installation on that PostgreSQL database, with secrets.
func onPostgres(url string, more ...string) []string {
	secrets := generateSecrets()
	return served(append([]string{
		"TOKENBOOTH_DATABASE_URL=" + url,
		"TOKENBOOTH_SECRETS_PEPPER=" + secrets.Pepper,
		"TOKENBOOTH_SECRETS_ID_KEY=" + secrets.IDKey,
		"TOKENBOOTH_SECRETS_KEY_ENCRYPTION_KEY=" + secrets.KeyEncryptionKey,
	}, more...)...)
}

// openDB opens the database of an installation beside its server.
func openDB(t *testing.T, url string) *schema.DB {
	t.Helper()
	db, err := schema.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the database: %v", err)
		}
	})
	return db
}

// embedded is the URL of the database that onSQLite makes.
func embedded(data string) string { return "sqlite:" + filepath.Join(data, "tokenbooth.db") }

// query reads one value.
func query[T any](t *testing.T, db *schema.DB, statement string, args ...any) (value T) {
	t.Helper()
	if err := sqlx.GetContext(t.Context(), db.Reader(), &value, statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

// execute runs one statement.
func execute(t *testing.T, db *schema.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.Writer().ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// participant opens an installation in this process, for the use cases.
func participant(t *testing.T, env []string) *backend {
	t.Helper()
	config, _, err := Load(&environment{environ: env}, loadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := openBackend(t.Context(), config, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.close() })
	return b
}

// bootstrapArgs names the first things of an installation.
func bootstrapArgs(workspace, serviceAccount string, more ...string) []string {
	return append([]string{"bootstrap", "--json", "--owner", "ada@example.com", "--workspace", workspace,
		"--service-account", serviceAccount}, more...)
}

// bootstrapped runs bootstrap to its end and reads its answer.
func bootstrapped(t *testing.T, env []string, args ...string) bootstrapAnswer {
	t.Helper()
	p, code := runCommand(t, env, args...)
	var a bootstrapAnswer
	if err := json.Unmarshal([]byte(p.out.String()), &a); err != nil || code != exitOK {
		t.Fatalf("bootstrap ended with %d and printed %q: %v\n%s", code, &p.out, err, &p.log)
	}
	return a
}

// key and ownerKey are the credentials that a first bootstrap printed.
func (a bootstrapAnswer) key() credential      { return credential{a.ClientID, *a.ClientSecret} }
func (a bootstrapAnswer) ownerKey() credential { return credential{a.OwnerClientID, *a.OwnerSecret} }
