package schematest

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
)

// Backup copies the database at that URL, and returns what puts the copy in its place: the database
// is then what it was. Nobody may be connected to a PostgreSQL database meanwhile, nor to any while
// it is put back.
func Backup(tb testing.TB, at string) (restore func()) {
	tb.Helper()
	if rest, embedded := strings.CutPrefix(at, "sqlite:"); embedded {
		path, _, _ := strings.Cut(rest, "?")
		return backupSQLite(tb, at, path)
	}
	u, err := url.Parse(at)
	if err != nil {
		tb.Fatal(err)
	}
	return backupPostgres(tb, strings.TrimPrefix(u.Path, "/"))
}

func backupSQLite(tb testing.TB, at, path string) (restore func()) {
	tb.Helper()
	db, err := schema.Open(tb.Context(), at)
	if err != nil {
		tb.Fatal(err)
	}
	_, err = db.Writer().ExecContext(tb.Context(), `VACUUM INTO ?`, path+".backup")
	if err := errors.Join(err, db.Close()); err != nil {
		tb.Fatalf("back up %s: %v", path, err)
	}
	return func() {
		tb.Helper()
		content, err := os.ReadFile(path + ".backup")
		if err == nil {
			err = os.WriteFile(path, content, 0o600)
		}
		for _, left := range []string{"-wal", "-shm"} {
			if e := os.Remove(path + left); !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
		if err != nil {
			tb.Fatalf("restore %s: %v", path, err)
		}
	}
}

func backupPostgres(tb testing.TB, name string) (restore func()) {
	tb.Helper()
	c, err := postgres()
	if err != nil {
		tb.Fatal(err)
	}
	exec := func(query string) {
		tb.Helper()
		if err := c.exec(query); err != nil {
			tb.Fatalf("%s: %v", query, err)
		}
	}
	exec("CREATE DATABASE " + name + "_backup TEMPLATE " + name)
	tb.Cleanup(func() { exec("DROP DATABASE " + name + "_backup") })
	return func() {
		tb.Helper()
		exec("DROP DATABASE " + name + " WITH (FORCE)") // a server that was killed may have connections yet
		exec("CREATE DATABASE " + name + " TEMPLATE " + name + "_backup")
	}
}
