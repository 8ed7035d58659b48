package schema_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"
	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// eachURL runs f for an empty database of each dialect.
func eachURL(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db")) })
	t.Run("postgres", func(t *testing.T) { f(t, schematest.PostgresURL(t)) })
}

func TestMigrate(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		db := open(t, url)
		wantState(t, db, 0, true)
		err := db.Check(t.Context())
		if !errors.Is(err, schema.ErrOlder) || !strings.Contains(err.Error(), "run `tokenbooth migrate`") {
			t.Errorf("Check of an empty database says %v", err)
		}
		wantState(t, db, 0, true)
		for range 2 {
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := db.Check(t.Context()); err != nil {
				t.Error(err)
			}
			wantState(t, db, schema.Latest(), false)
		}
	})
}

func wantState(t *testing.T, db *schema.DB, version int64, empty bool) {
	t.Helper()
	if got, err := db.Version(t.Context()); err != nil || got != version {
		t.Errorf("Version() = %d, %v; want %d", got, err, version)
	}
	if got, err := db.Empty(t.Context()); err != nil || got != empty {
		t.Errorf("Empty() = %t, %v; want %t", got, err, empty)
	}
}

// The table of records is made anew with what is in it, its order and its indexes.
func TestRecordsSurviveTheirMigration(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		db := open(t, url)
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		all := func() (rows []string) {
			t.Helper()
			check(sqlx.SelectContext(t.Context(), db.Reader(), &rows, `SELECT CONCAT_WS('|', batch, position, id, at, workspace_id, key_id, owner_id,
				secret_id, action, outcome, address, agent, request_id, detail, count) FROM exchange_events ORDER BY batch, position`))
			return rows
		}
		check(db.MigrateTo(t.Context(), 6))
		for i := range 3 {
			_, err := db.Writer().ExecContext(t.Context(), `INSERT INTO exchange_events (batch, position, id, at, workspace_id, key_id, owner_id,
				secret_id, action, outcome, address, agent, request_id, detail, count)
				VALUES (?, ?, ?, 5, 'ws', 'key', 'owner', 'secret', 'token.issue', 'issued', '192.0.2.1', 'curl', 'req', '{}', 7)`, 1+i/2, i%2, fmt.Sprint("exc_", i))
			check(err)
		}
		before := all()
		check(db.MigrateTo(t.Context(), 7))
		if diff := cmp.Diff(before, all()); diff != "" || len(before) != 3 {
			t.Errorf("%d records before (-before +after):\n%s", len(before), diff)
		}
		_, err := db.Writer().ExecContext(t.Context(), `INSERT INTO exchange_events SELECT * FROM exchange_events WHERE position = 1`)
		if err == nil {
			t.Error("two records have the same place in a batch")
		}
	})
}

// Records become bundles: whoever reads them in SQL sees what was there, and a binary of
// the release before goes on writing and removing.
func TestRecordsBecomeBundles(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		db := open(t, url)
		const columns = `batch, position, id, at, workspace_id, key_id, owner_id, secret_id, action, outcome, address, agent, request_id, detail, count`
		all := func() (rows []string) {
			t.Helper()
			err := sqlx.SelectContext(t.Context(), db.Reader(), &rows, `SELECT CONCAT_WS('|', `+columns+`) FROM exchange_events ORDER BY batch, position`)
			if err != nil {
				t.Fatal(err)
			}
			return rows
		}
		insert := func(batch, position int, key string, at int64, agent string) {
			t.Helper()
			marks := `?, ?, ?, ?, 'ws', ?, 'owner', 'secret', 'token.issue', 'issued', '192.0.2.1', ?, 'req', '{"jti":"x"}', 7`
			query := `INSERT OR FAIL INTO exchange_events (` + columns + `) VALUES (` + marks + `)`
			if db.Dialect() == schema.PostgreSQL {
				query = `INSERT INTO exchange_events (` + columns + `) VALUES (` + marks + `)`
			}
			if _, err := db.Writer().ExecContext(t.Context(), query, batch, position, fmt.Sprint("exc_", batch, position), at, key, agent); err != nil {
				t.Fatal(err)
			}
		}
		const minute = 60_000_000
		if err := db.MigrateTo(t.Context(), 8); err != nil {
			t.Fatal(err)
		}
		insert(1, 0, "a", 5, `"quoted\\"`)
		insert(1, 1, "b", 6, "\u00fc\u2028<&>")
		insert(1, 2, "a", minute-1, "")
		insert(1, 3, "a", minute, "in the next minute")
		insert(2, 0, "a", minute+7, "")
		before := all()
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, all()); diff != "" || len(before) != 5 {
			t.Errorf("%d records before (-before +after):\n%s", len(before), diff)
		}
		var bundles []string
		err := sqlx.SelectContext(t.Context(), db.Reader(), &bundles, `SELECT CONCAT_WS(' ', batch, bundle, key_id, since_at, until_at, count) FROM exchange_bundles ORDER BY batch, bundle`)
		want := []string{"1 0 a 5 59999999 14", "1 1 b 6 6 7", "1 3 a 60000000 60000000 7", "2 0 a 60000007 60000007 7"}
		if diff := cmp.Diff(want, bundles); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		insert(3, 0, "c", minute+8, "an older binary")
		insert(3, 1, "c", minute+9, `"`)
		if got := all(); len(got) != 7 || !strings.Contains(got[5], "an older binary") {
			t.Errorf("an older binary has written %q", got)
		}
		remove := func(condition string, left int) {
			t.Helper()
			if _, err := db.Writer().ExecContext(t.Context(), `DELETE FROM exchange_events WHERE `+condition); err != nil {
				t.Fatal(err)
			}
			if got := all(); len(got) != left {
				t.Errorf("where %s: there is left %q", condition, got)
			}
		}
		remove(`key_id = 'b'`, 6)
		remove(`batch BETWEEN 1 AND 2`, 2)
		if oldest, err := db.Window(t.Context()); err != nil || oldest != 8 {
			t.Errorf("the window reaches back to %d, %v; want 8", oldest, err)
		}
	})
}

// What a server of the release before records while PostgreSQL migrates is not lost.
func TestRecordsOfAMigrationsTime(t *testing.T) {
	db := open(t, schematest.PostgresURL(t))
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const insert = `INSERT INTO exchange_events (batch, position, id, at, workspace_id, key_id, owner_id, secret_id, action, outcome, address, agent, request_id, detail, count)
		VALUES (?, 0, 'exc', 5, 'ws', 'key', 'owner', 'secret', 'token.issue', 'issued', '', '', '', '{}', 1)`
	check(db.MigrateTo(ctx, 8))
	for batch := range 3 {
		_, err := db.Writer().ExecContext(ctx, insert, batch)
		check(err)
	}
	migrated := make(chan error, 1)
	check(db.InTx(ctx, func(ctx context.Context, tx sqlx.ExtContext) error {
		_, errDelete := tx.ExecContext(ctx, `DELETE FROM exchange_events WHERE batch = ?`, 1)
		_, errInsert := tx.ExecContext(ctx, insert, 7)
		check(errors.Join(errDelete, errInsert))
		go func() { migrated <- db.Migrate(t.Context()) }()
		for waits := 0; waits == 0; { // for this transaction
			check(sqlx.GetContext(ctx, tx, &waits, `SELECT COUNT(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
				WHERE c.relname = 'exchange_events' AND NOT l.granted`))
		}
		return nil
	}))
	check(<-migrated)
	var batches []int
	check(sqlx.SelectContext(ctx, db.Reader(), &batches, `SELECT batch FROM exchange_events ORDER BY batch`))
	if diff := cmp.Diff([]int{0, 2, 7}, batches); diff != "" {
		t.Error(diff)
	}
}

func TestMigrateByManyAtOnce(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		var group sync.WaitGroup
		for range 4 {
			db := open(t, url)
			group.Go(func() {
				if err := db.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		db := open(t, url)
		if n := get[int64](t, db.Reader(), "SELECT COUNT(*) FROM goose_db_version WHERE version_id > 0"); n != schema.Latest() {
			t.Errorf("%d migrations ran, want %d", n, schema.Latest())
		}
	})
}

func TestMigrateWaitsForTheLock(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		db := open(t, url)
		release := holdLock(t, url)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := db.Migrate(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Migrate beside another returns %v", err)
		}
		wantState(t, db, 0, true)
		release()
		if err := db.Migrate(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// holdLock does what another process that migrates does first: it locks the file's directory, or
// the advisory lock that bears the product's name.
func holdLock(t *testing.T, url string) (release func()) {
	t.Helper()
	path, lite := strings.CutPrefix(url, "sqlite:")
	if !lite {
		other := open(t, url)
		exec(t, other.Writer(), "SELECT pg_advisory_lock(?)", int64(0x746f6b656e627468))
		return func() { other.Close() }
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() { dir.Close() }
}

func TestNewerSchemaIsLeftAlone(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		exec(t, db.Writer(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (?, ?)", 1000, db.Dialect() == schema.PostgreSQL)
		exec(t, db.Writer(), "UPDATE schema_window SET oldest = 1000")
		before := tablesOf(t, db)
		for name, err := range map[string]error{"Check": db.Check(t.Context()), "Migrate": db.Migrate(t.Context())} {
			if !errors.Is(err, schema.ErrNewer) || !strings.Contains(err.Error(), "version 1000") || !strings.Contains(err.Error(), "run a newer tokenbooth") {
				t.Errorf("%s of a newer schema says %v", name, err)
			}
		}
		if diff := cmp.Diff(before, tablesOf(t, db)); diff != "" {
			t.Errorf("the tables changed:\n%s", diff)
		}
		wantState(t, db, 1000, false)
	})
}

func TestDialectsAreInStep(t *testing.T) {
	lite, pg := tablesOf(t, schematest.SQLite(t)), tablesOf(t, schematest.Postgres(t))
	if diff := cmp.Diff(lite, pg); diff != "" {
		t.Errorf("columns, their nullability or indexes differ (-sqlite +postgres):\n%s", diff)
	}
	if len(lite) < 50 {
		t.Errorf("only %d columns were compared", len(lite))
	}
	for _, dialect := range []string{"postgres", "sqlite"} {
		files, err := filepath.Glob(dialect + "/*.sql")
		if err != nil || int64(len(files)) != schema.Latest() {
			t.Errorf("%d migrations for %s, Latest() is %d", len(files), dialect, schema.Latest())
		}
	}
}

// tablesOf lists each "table.column", of views too, with "NOT NULL" where that is so, and each named index.
// The version table is goose's own.
func tablesOf(t *testing.T, db *schema.DB) (names []string) {
	t.Helper()
	query := `
		SELECT table_name || '.' || column_name || CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END AS name
		FROM information_schema.columns WHERE table_schema = current_schema()
		UNION SELECT relname FROM pg_class WHERE relkind = 'i' AND relnamespace = current_schema()::regnamespace
		AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = pg_class.oid)`
	if db.Dialect() == schema.SQLite {
		// SQLite alone allows NULL in a primary key.
		query = `
			SELECT t.name || '.' || c.name || CASE WHEN c."notnull" = 1 OR c.pk > 0 THEN ' NOT NULL' ELSE '' END AS name
			FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type IN ('table', 'view') AND t.name NOT GLOB 'sqlite_*'
			UNION SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL`
	}
	query = "SELECT name FROM (" + query + ") AS names WHERE name NOT LIKE 'goose%' ORDER BY name"
	if err := sqlx.SelectContext(t.Context(), db.Reader(), &names, query); err != nil {
		t.Fatal(err)
	}
	return names
}
