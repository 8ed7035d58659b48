package schema

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
)

// The migrations, numbered from 1 without gaps; the dialects stay in step.
//
//go:embed postgres/*.sql sqlite/*.sql
var migrations embed.FS

// Why the schema does not fit this binary. The errors that wrap them say what to do.
var (
	ErrNewer = errors.New("the database schema is newer than this binary")
	ErrOlder = errors.New("the database schema is older than this binary")
)

const lockPoll = 10 * time.Millisecond

// A migrationLock keeps every other process from migrating the same database until release is
// called, or the process dies.
type migrationLock func(ctx context.Context) (release func(), err error)

// Latest is the schema version this binary is written for.
func Latest() int64 {
	names, _ := fs.Glob(migrations, "postgres/*.sql") // fails on a malformed pattern only
	return int64(len(names))
}

// Migrate brings the schema to [Latest]. Any number of processes may call it at once: one migrates,
// the others wait for it as long as ctx allows. It never goes back: a newer schema is left alone, and
// is [ErrNewer] unless its [DB.Window] reaches back to this binary.
func (db *DB) Migrate(ctx context.Context) error {
	release, err := db.lock(ctx)
	if err != nil {
		return fmt.Errorf("lock the database for migration: %w", err)
	}
	defer release()
	if err := db.Check(ctx); !errors.Is(err, ErrOlder) {
		return err
	}
	provider, err := db.provider()
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}

func (db *DB) provider() (*goose.Provider, error) {
	files, err := fs.Sub(migrations, string(db.dialect))
	if err != nil {
		return nil, err
	}
	dialect := goose.DialectPostgres
	if db.dialect == SQLite {
		dialect = goose.DialectSQLite3
	}
	return goose.NewProvider(dialect, db.writer.DB, files,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
}

// Check returns nil when this binary works with the schema: it is the one that it is written for, or
// a newer one whose [DB.Window] reaches back that far. Else it returns [ErrNewer] or [ErrOlder] in a
// sentence that says what to do, or why the database could not be asked.
func (db *DB) Check(ctx context.Context) error {
	version, err := db.Version(ctx)
	if err != nil {
		return err
	}
	oldest, err := db.Window(ctx)
	switch {
	case err != nil:
		return err
	case version > Latest() && oldest > Latest():
		return fmt.Errorf("%w: it has version %d, for binaries that know %d at least, and this one knows 1 to %d; "+
			"run a newer tokenbooth, or restore a backup taken before the upgrade", ErrNewer, version, oldest, Latest())
	case version < Latest():
		return fmt.Errorf("%w: it has version %d and this binary needs %d; run `tokenbooth migrate`",
			ErrOlder, version, Latest())
	}
	return nil
}

// windowSince is the first version of the schema that says how far back it reaches.
const windowSince = 8

// Window is how far back the schema reaches: binaries whose [Latest] is at least that work with it.
// Before there were windows it is the version itself.
func (db *DB) Window(ctx context.Context) (oldest int64, err error) {
	if oldest, err = db.Version(ctx); err != nil || oldest < windowSince {
		return oldest, err
	}
	if oldest, err = db.count(ctx, "SELECT oldest FROM schema_window"); err != nil {
		return 0, fmt.Errorf("read the schema's window: %w", err)
	}
	return oldest, nil
}

// Pending names the migrations that [DB.Migrate] would run, in order.
func (db *DB) Pending(ctx context.Context) ([]string, error) {
	version, err := db.Version(ctx)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(migrations, string(db.dialect)+"/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	pending := []string{}
	for _, name := range names[min(version, int64(len(names))):] {
		pending = append(pending, path.Base(name))
	}
	return pending, nil
}

// Version is the number of the newest migration applied, 0 before the first.
func (db *DB) Version(ctx context.Context) (int64, error) {
	const table = goose.DefaultTablename
	version, err := db.count(ctx, db.countTables()+" AND name = ?", table)
	if err == nil && version > 0 {
		version, err = db.count(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM "+table)
	}
	if err != nil {
		return 0, fmt.Errorf("read the schema version: %w", err)
	}
	return version, nil
}

// Empty reports whether the database (in PostgreSQL, its current schema) has no tables at all.
func (db *DB) Empty(ctx context.Context) (bool, error) {
	n, err := db.count(ctx, db.countTables())
	if err != nil {
		return false, fmt.Errorf("list the tables: %w", err)
	}
	return n == 0, nil
}

// countTables is a query to which a condition on the name may be added.
func (db *DB) countTables() string {
	if db.dialect == SQLite {
		return "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
	}
	return "SELECT COUNT(*) FROM (SELECT schemaname, tablename AS name FROM pg_tables) AS t WHERE schemaname = current_schema()"
}

func (db *DB) count(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = sqlx.GetContext(ctx, db.Reader(), &n, query, args...)
	return n, err
}

// poll calls try until it succeeds, fails, or ctx is done.
func poll(ctx context.Context, try func() (bool, error)) error {
	for {
		if ok, err := try(); ok || err != nil {
			return err
		}
		if err := wait(ctx, lockPoll); err != nil {
			return fmt.Errorf("another process is migrating it: %w", err)
		}
	}
}
