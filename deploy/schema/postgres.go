package schema

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
)

const (
	poolSize       = 16
	connectionLife = 30 * time.Minute // so that replicas spread again after a failover
	connectionIdle = 5 * time.Minute
	connectTimeout = 5 * time.Second
	closeTimeout   = 5 * time.Second

	// lockID is ours alone among the advisory locks of the database: "tokenbth" in ASCII.
	lockID = 0x746f6b656e627468
)

func openPostgres(ctx context.Context, url string) (*DB, error) {
	config, err := parsePostgres(url)
	if err != nil {
		return nil, err
	}
	pool := sqlx.NewDb(stdlib.OpenDB(*config), "pgx")
	pool.SetMaxOpenConns(poolSize)
	pool.SetMaxIdleConns(poolSize)
	pool.SetConnMaxLifetime(connectionLife)
	pool.SetConnMaxIdleTime(connectionIdle)
	db := &DB{dialect: PostgreSQL, reader: pool, writer: pool, lock: advisoryLock(config)}
	return db.verify(ctx)
}

// parsePostgres reports what is wrong with the url without quoting any of it: where a url is
// malformed, any part may be a piece of the password.
func parsePostgres(url string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url)
	var file *fs.PathError
	if errors.As(err, &file) {
		return nil, fmt.Errorf("the PostgreSQL URL names a file that cannot be read: %w", file)
	}
	if err != nil || strayAt(url) {
		return nil, errors.New("the PostgreSQL URL is malformed: write postgres://user:password@host:5432/database, " +
			"with the special characters of the password percent-encoded ('@' is %40, '/' is %2F)")
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.ValidateConnect == nil {
		// Of several hosts the one that takes writes: a standby may be behind, and
		// what is read must not be older than what was acknowledged.
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return config, nil
}

// strayAt reports an '@' that ends no user name, the trace of a password that was not
// percent-encoded. The driver would take the rest of such a password for a host or a database and
// name it in its errors.
func strayAt(url string) bool {
	_, rest, _ := strings.Cut(url, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	return strings.Count(rest[:end], "@") > 1 || strings.Contains(rest[end:], "@")
}

// advisoryLock locks on a connection outside the pool, in a transaction, so that it also holds
// behind a pooler that shares connections between transactions. It asks again and again instead of
// waiting in the server: a statement that waits there would block CREATE INDEX CONCURRENTLY.
func advisoryLock(config *pgx.ConnConfig) migrationLock {
	return func(ctx context.Context) (func(), error) {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return nil, err
		}
		release := func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			conn.Close(ctx) // ends the transaction, whatever it returns
		}
		if err := lockIn(ctx, conn); err != nil {
			release()
			return nil, err
		}
		return release, nil
	}
}

func lockIn(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
		return err
	}
	return poll(ctx, func() (locked bool, err error) {
		err = conn.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", int64(lockID)).Scan(&locked)
		return locked, err
	})
}
