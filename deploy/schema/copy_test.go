package schema_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// A copy is whole, its owner's alone, and replaces nothing. Others write meanwhile.
func TestCopy(t *testing.T) {
	db := open(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, db.Writer(), "CREATE TABLE pairs (a BIGINT NOT NULL)")
	done := make(chan struct{})
	var writers sync.WaitGroup
	writers.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
				exec(t, db.Writer(), "INSERT INTO pairs (a) VALUES (?), (?)", n, n) // both or none
			}
		}
	})
	path := filepath.Join(t.TempDir(), "copy.db")
	err := db.Copy(t.Context(), path)
	close(done)
	writers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v; want mode 0600", info, err)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("beside the copy lies %v, %v", names, err)
	}
	copied := open(t, "sqlite:"+path)
	if err := copied.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if n := get[int](t, copied.Reader(), "SELECT COUNT(*) FROM (SELECT a FROM pairs GROUP BY a HAVING COUNT(*) <> 2) AS halves"); n != 0 {
		t.Errorf("the copy has %d halves of transactions", n)
	}
	if whole := get[string](t, copied.Reader(), "PRAGMA integrity_check"); whole != "ok" {
		t.Errorf("the copy is damaged: %s", whole)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Copy(t.Context(), path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a file that is there: %v, want ErrExist", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file that was there was changed: %v", err)
	}
}

func TestCopyOfPostgres(t *testing.T) {
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := schematest.Postgres(t).Copy(t.Context(), path); !errors.Is(err, schema.ErrCopy) {
		t.Errorf("a copy of PostgreSQL: %v, want ErrCopy", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it left a file: %v", err)
	}
}
