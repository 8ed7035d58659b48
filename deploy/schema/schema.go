// Package schema owns the SQL database: the connections to it, the two dialects, and the tables'
// migrations and version.
//
// It does not own what the tables hold: each store writes its own queries, once for both dialects,
// with '?' placeholders, and takes the [sqlx.ExtContext] it runs on from its caller.
package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jmoiron/sqlx"
)

// Dialect names the kind of database.
type Dialect string

// The dialects.
const (
	PostgreSQL Dialect = "postgres"
	SQLite     Dialect = "sqlite"
)

// DB is an open database. It is safe for concurrent use.
type DB struct {
	dialect Dialect
	reader  *sqlx.DB
	writer  *sqlx.DB // the reader itself on PostgreSQL; one connection on SQLite, which has one writer
	lock    migrationLock
	sent    atomic.Uint64

	// Trace is told when a statement or, with the query "TRANSACTION", a transaction begins, and by
	// what it returns when that has ended, and how; nil: nobody watches. Set it before the first use.
	Trace func(ctx context.Context, query string) (context.Context, func(error))
}

// Open connects to the database at url and checks that it answers. The url is one of
//
//	sqlite:/path/to/file.db        or sqlite:relative/file.db; made, for its owner only, when missing
//	postgres://user:password@host:5432/database?sslmode=verify-full        or postgresql://…
//
// SQLite has one option, ?synchronous=off, which makes a database that a power cut may corrupt: for
// tests. A PostgreSQL connection is given up after 5 s unless the url's connect_timeout (in seconds)
// says otherwise.
//
// Open creates no tables: see [DB.Migrate]. Its errors never contain the url's password.
func Open(ctx context.Context, url string) (*DB, error) {
	switch scheme, rest, _ := strings.Cut(url, ":"); scheme {
	case "sqlite":
		return openSQLite(ctx, rest)
	case "postgres", "postgresql":
		return openPostgres(ctx, url)
	}
	return nil, errors.New("the database URL has an unknown scheme: " +
		"write sqlite:/path/to/file.db or postgres://user:password@host:5432/database")
}

// verify closes db again when it does not answer.
func (db *DB) verify(ctx context.Context) (*DB, error) {
	if err := db.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the database: %w", err), db.Close())
	}
	return db, nil
}

// Dialect says which kind of database this is, for the rare query that needs to know.
func (db *DB) Dialect() Dialect { return db.dialect }

// Reader runs single queries that change nothing. Placeholders are '?' in both dialects, so a query
// cannot contain a literal question mark.
func (db *DB) Reader() sqlx.ExtContext { return runner{db.reader, db} }

// Writer runs single statements, each committed on its own. Inside [DB.InTx] it must not be used:
// SQLite's only write connection is the transaction's.
func (db *DB) Writer() sqlx.ExtContext { return runner{db.writer, db} }

// Queries counts the statements sent through Reader, Writer and InTx since Open. BEGIN, COMMIT and
// migrations are not counted.
func (db *DB) Queries() uint64 { return db.sent.Load() }

// Ping checks that the database answers.
func (db *DB) Ping(ctx context.Context) error {
	// The writer first: it is the one that puts a new SQLite file into WAL mode.
	if err := db.writer.PingContext(ctx); err != nil {
		return err
	}
	return db.reader.PingContext(ctx)
}

// Close waits for the statements under way and closes every connection.
func (db *DB) Close() error {
	if db.reader == db.writer {
		return db.writer.Close()
	}
	return errors.Join(db.reader.Close(), db.writer.Close())
}
