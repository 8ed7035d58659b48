package main

import (
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// Any number of them share a database: each honours the keys of the others, also
// when all of them found it empty.
func TestDevSharesADatabase(t *testing.T) {
	t.Parallel()
	database, redis := schematest.PostgresURL(t), "redis://"+schematest.PrivateRedis(t).Address()
	var all []*devServer
	for range 3 {
		all = append(all, devStart(t, nil, "--json", "--database-url", database, "--redis-url", redis))
	}
	for _, d := range all {
		d.read()
	}
	late := devReady(t, "--database-url", database)
	for _, at := range append(all, late) {
		for _, of := range append(all, late) {
			wantToken(t, at.Issuer, of.key())
			f := of.Fixtures["revoked"]
			wantRefusal(t, at.Issuer, credential{f.ClientID, f.ClientSecret}, "revoked at")
		}
	}
	late.stop()
	again := devReady(t, "--database-url", database)
	wantToken(t, again.Issuer, late.key())
}

func TestDevSharesAnSQLiteFile(t *testing.T) {
	t.Parallel()
	database := embedded(t.TempDir())
	first := devStart(t, nil, "--json", "--database-url", database)
	second := devStart(t, nil, "--json", "--database-url", database)
	first.read()
	second.read()
	wantToken(t, first.Issuer, second.key())
	wantToken(t, second.Issuer, first.key())
}

func TestDevLeavesForeignDatabasesAlone(t *testing.T) {
	t.Parallel()
	url := schematest.PostgresURL(t)
	db := openDB(t, url)
	execute(t, db, "CREATE TABLE theirs (id INTEGER)")
	wantLeftAlone(t, url)
	if tables := query[string](t, db, "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'"); tables != "theirs" {
		t.Errorf("dev made tables in a foreign database: %s", tables)
	}
}

func TestDevLeavesInstallationsAlone(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := schematest.PostgresURL(t)
		bootstrapped(t, onPostgres(url), bootstrapArgs("Payments", "ci")...)
		before := query[int64](t, openDB(t, url), "SELECT seq FROM change_counter")
		wantLeftAlone(t, url)
		if after := query[int64](t, openDB(t, url), "SELECT seq FROM change_counter"); after != before {
			t.Errorf("dev changed an installation: change %d, before %d", after, before)
		}
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		data := t.TempDir()
		serveReady(t, onSQLite(data))
		wantLeftAlone(t, embedded(data))
	})
}

// wantLeftAlone runs dev on a database that it must refuse.
func wantLeftAlone(t *testing.T, url string) {
	t.Helper()
	p, code := runCommand(t, nil, "dev", "--listen", "127.0.0.1:0", "--json", "--database-url", url)
	if code != exitRefused || !strings.Contains(p.log.String(), "not empty and was not made by dev: it is left alone") {
		t.Errorf("exit code %d, want 4 and a sentence:\n%s", code, &p.log)
	}
	if p.out.String() != "" {
		t.Errorf("it printed %s", &p.out)
	}
}

func TestDevDependencyAway(t *testing.T) {
	t.Parallel()
	database := schematest.PostgresURL(t)
	for _, test := range []struct {
		name, flag, url string
		code            int
		says            string
	}{
		{"database", "--database-url", "postgres://u:hunter2@127.0.0.1:1/x", exitRetry, "connection refused"},
		{"redis", "--redis-url", "redis://u:hunter2@127.0.0.1:1", exitRetry, "the Redis at --redis-url does not answer"},
		{"not a database", "--database-url", "mysql://u:hunter2@127.0.0.1:1/x", exitFailure, "unknown scheme"},
		{"not a Redis", "--redis-url", "u:hunter2@127.0.0.1:6379", exitUsage, "--redis-url"},
		{"not a Redis database", "--redis-url", "redis://u:hunter2@127.0.0.1:6379/x", exitUsage, "--redis-url: it has a path"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, code := runCommand(t, nil, "dev", "--listen", "127.0.0.1:0", "--database-url", database, test.flag, test.url)
			if code != test.code || !strings.Contains(p.log.String(), test.says) {
				t.Errorf("exit code %d, want %d and a sentence with %q:\n%s", code, test.code, test.says, &p.log)
			}
		})
	}
	if empty, err := openDB(t, database).Empty(t.Context()); err != nil || !empty {
		t.Errorf("a dev that did not start has made tables, error %v", err)
	}
}
