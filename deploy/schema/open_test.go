package schema_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

// nobody is a port where no database listens.
const nobody = "127.0.0.1:1"

func open(t *testing.T, url string) *schema.DB {
	t.Helper()
	db, err := schema.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func exec(t *testing.T, on sqlx.ExecerContext, query string, args ...any) {
	t.Helper()
	if _, err := on.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func get[T any](t *testing.T, on sqlx.QueryerContext, query string, args ...any) (value T) {
	t.Helper()
	if err := sqlx.GetContext(t.Context(), on, &value, query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func TestOpenMakesSQLitePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	path := filepath.Join(dir, "100% ours#1.db")
	db := open(t, "sqlite:"+path)
	exec(t, db.Writer(), "CREATE TABLE t (id INTEGER)")
	for path, want := range map[string]os.FileMode{
		dir: 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

func TestOpenSQLiteRelative(t *testing.T) {
	t.Chdir(t.TempDir())
	open(t, "sqlite:data/x.db")
	if _, err := os.Stat("data/x.db"); err != nil {
		t.Error(err)
	}
}

func TestOpenSQLiteByManyAtOnce(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			db, err := schema.Open(t.Context(), url)
			if err != nil {
				t.Error(err)
				return
			}
			db.Close()
		})
	}
	group.Wait()
}

func TestSQLiteConnections(t *testing.T) {
	tests := []struct{ url, synchronous string }{
		{"sqlite:" + filepath.Join(t.TempDir(), "x.db"), "2"},
		{"sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off", "0"},
	}
	for _, test := range tests {
		db := open(t, test.url)
		for _, on := range []sqlx.ExtContext{db.Reader(), db.Writer()} {
			for pragma, want := range map[string]string{
				"journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "5000", "synchronous": test.synchronous,
			} {
				if got := get[string](t, on, "PRAGMA "+pragma); got != want {
					t.Errorf("%s: %s is %s, want %s", test.url, pragma, got, want)
				}
			}
		}
		if _, err := db.Reader().ExecContext(t.Context(), "CREATE TABLE t (id INTEGER)"); err == nil {
			t.Error("the reader writes")
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.db")
	for url, says := range map[string]string{
		"":                                     "write sqlite:/path",
		"mysql://root:hunter2@" + nobody:       "write sqlite:/path",
		"hunter2":                              "write sqlite:/path",
		"sqlite:":                              "names no file",
		"sqlite::memory:":                      "names no file",
		"sqlite://data/x.db":                   "sqlite:file.db",
		"sqlite:" + file + "?mode=ro":          "only ?synchronous=off",
		"sqlite:" + file + "?synchronous=FULL": "only ?synchronous=off",
		"sqlite:" + filepath.Dir(file):         "cannot open",
		"postgres://u:hun%zzter2@" + nobody:    "percent-encoded",
		"postgres://u:p@hunter2@" + nobody:     "percent-encoded",
		"postgres://u:1/hunter2@" + nobody:     "percent-encoded",
		"postgres://u:1?hunter2@" + nobody:     "percent-encoded",
		"postgres://u:1#hunter2@" + nobody:     "percent-encoded",
		"postgres://u:hunter2@" + nobody + "/x?sslmode=verify-full&sslrootcert=/no/such/ca.pem": "/no/such/ca.pem",
		"postgres://u:hunter2@" + nobody + "/x":                                                 "connection refused",
		"postgresql://u@" + nobody + "/x?password=hunter2":                                      "connection refused",
	} {
		db, err := schema.Open(t.Context(), url)
		if err == nil {
			db.Close()
			t.Errorf("Open(%q) succeeded", url)
			continue
		}
		if !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q) says %q, want it to say %q and no password", url, err, says)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("Open(%q) made a file", url)
		}
	}
}

// A password pasted into the URL as it is may move every boundary in it.
func TestOpenNeverSaysThePassword(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		around := rapid.StringMatching(`[a1:/?#@%&=,\[\] ]{0,6}`)
		password := around.Draw(t, "before") + "hunter2" + around.Draw(t, "after")
		db, err := schema.Open(context.Background(), "postgres://u:"+password+"@"+nobody+"/x?connect_timeout=1")
		if err == nil {
			db.Close()
			t.Fatal("opened a database that does not exist")
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Fatalf("the error contains the password: %v", err)
		}
	})
}

func TestCloseLeavesNothing(t *testing.T) {
	urls := []string{"sqlite:" + filepath.Join(t.TempDir(), "x.db"), schematest.PostgresURL(t)}
	before := goleak.IgnoreCurrent()
	for _, url := range urls {
		db, err := schema.Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Migrate(t.Context()), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	goleak.VerifyNone(t, before)
}

func TestPlaceholdersAndCount(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		before := db.Queries()
		exec(t, db.Writer(), "INSERT INTO changes (seq, subject_id, at) VALUES (?, ?, ?), (?, ?, ?)", 1, "a", 10, 2, "b", 20)
		if got := get[string](t, db.Reader(), "SELECT subject_id FROM changes WHERE at = ? AND seq = ?", 20, 2); got != "b" {
			t.Errorf("QueryRowxContext: subject %q, want b", got)
		}
		var subjects []string
		if err := sqlx.SelectContext(t.Context(), db.Reader(), &subjects, "SELECT subject_id FROM changes WHERE seq < ? ORDER BY seq", 3); err != nil {
			t.Fatal(err)
		}
		if strings.Join(subjects, " ") != "a b" {
			t.Errorf("QueryxContext: subjects %q, want a b", subjects)
		}
		rows, err := db.Reader().QueryContext(t.Context(), "SELECT at FROM changes WHERE seq = ?", 1)
		if err != nil {
			t.Fatal(err)
		}
		if !rows.Next() {
			t.Error("QueryContext: no row")
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil { //nolint:sqlclosecheck // before the writer is asked
			t.Error(err)
		}
		err = db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
			_, err := sqlx.NamedExecContext(ctx, tx, "UPDATE changes SET at = :at WHERE seq = :seq", map[string]any{"seq": 1, "at": 11})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := db.Queries() - before; got != 5 {
			t.Errorf("Queries() counted %d statements of 5", got)
		}
		if got := get[int](t, db.Reader(), "SELECT at FROM changes WHERE seq = ?", 1); got != 11 {
			t.Errorf("NamedExecContext: at = %d, want 11", got)
		}
	})
}

// Whoever opens a new file at the same moment waits for the one who sets it up.
func TestOpenANewFileAtOnce(t *testing.T) {
	for range 40 {
		url := "sqlite:" + filepath.Join(t.TempDir(), "new.db")
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				db, err := schema.Open(t.Context(), url)
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				if err := db.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
		running.Wait()
	}
}
