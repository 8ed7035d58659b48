// Package schematest gives tests real databases: a fresh SQLite file, a fresh database on a private
// PostgreSQL, a private Redis or Redis Cluster. Only tests import it.
//
// It owns the processes of those servers and their directories. A server starts when a test process
// first asks for it, listens on the loopback address alone, and goes with the process, however that
// ends. A missing server is a failed test, never a skipped one.
package schematest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
)

// The options of every SQLite database here: a power cut may take it.
const throwAway = "?synchronous=off"

// migrated is the content of a migrated SQLite file: copying it is quicker than migrating each time.
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "tokenbooth-sqlite-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "template.db")
	if err := migrate("sqlite:" + path + throwAway); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// SQLite returns a migrated database in a file of its own, closed when the test ends.
func SQLite(tb testing.TB) *schema.DB {
	tb.Helper()
	content, err := migrated()
	if err != nil {
		tb.Fatalf("make the SQLite template: %v", err)
	}
	path := filepath.Join(tb.TempDir(), "tokenbooth.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	return open(tb, "sqlite:"+path+throwAway)
}

// Postgres returns a migrated database of its own on the private PostgreSQL, closed and dropped when
// the test ends.
func Postgres(tb testing.TB) *schema.DB {
	tb.Helper()
	return open(tb, create(tb, " TEMPLATE "+template))
}

// PostgresURL returns the URL of an empty database on the same server, dropped when the test ends.
// Its user is a superuser without a password.
func PostgresURL(tb testing.TB) string {
	tb.Helper()
	return create(tb, "")
}

// Each runs f as the subtests "sqlite" and "postgres", each with a migrated database of its own.
func Each(t *testing.T, f func(t *testing.T, db *schema.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { f(t, Postgres(t)) })
}

func open(tb testing.TB, url string) *schema.DB {
	tb.Helper()
	db, err := schema.Open(context.Background(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("close the database: %v", err)
		}
	})
	return db
}

func migrate(url string) error {
	ctx := context.Background()
	db, err := schema.Open(ctx, url)
	if err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate the template: %w", err)
	}
	return db.Close()
}
