package schema_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"
	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

func TestIsUnavailable(t *testing.T) {
	state := func(code string) error { return fmt.Errorf("query: %w", &pgconn.PgError{Code: code}) }
	for err, want := range map[error]bool{
		nil:                      false,
		errors.New("other"):      false,
		sql.ErrNoRows:            false,
		context.Canceled:         false,
		context.DeadlineExceeded: true,
		state("08006"):           true,
		state("53300"):           true,
		state("57P03"):           true,
		state("57014"):           false,
		state("23505"):           false,
		state("28P01"):           false,
		state("42P01"):           false,
	} {
		if got := schema.IsUnavailable(err); got != want {
			t.Errorf("IsUnavailable(%v) = %t", err, got)
		}
	}
}

func TestWrongStatementsAreNoOutage(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		for _, query := range []string{"SELECT nonsense", "INSERT INTO change_counter (id, seq) VALUES (1, 0)"} {
			if _, err := db.Writer().ExecContext(t.Context(), query); err == nil || schema.IsUnavailable(err) {
				t.Errorf("%s: IsUnavailable(%v)", query, err)
			}
		}
	})
}

// The server answers: waiting does not help.
func TestWrongDatabaseNameIsNoOutage(t *testing.T) {
	url := schematest.PostgresURL(t)
	if _, err := schema.Open(t.Context(), strings.Replace(url, "?", "_not?", 1)); err == nil || schema.IsUnavailable(err) || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("IsUnavailable(%v)", err)
	}
}

func TestRefusedConnectionIsAnOutage(t *testing.T) {
	if _, err := schema.Open(t.Context(), "postgres://u@"+nobody+"/x"); !schema.IsUnavailable(err) {
		t.Errorf("IsUnavailable(%v) = false", err)
	}
}

// An operator ends the connections, as a fast shutdown does, while a transaction is open.
func TestLostConnectionIsAnOutage(t *testing.T) {
	db := schematest.Postgres(t)
	other := open(t, schematest.PostgresURL(t))
	err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		backend := get[int](t, tx, "SELECT pg_backend_pid()")
		exec(t, other.Writer(), "SELECT pg_terminate_backend(?)", backend)
		_, err := tx.ExecContext(ctx, addSeq, 1)
		return err
	})
	if !schema.IsUnavailable(err) {
		t.Errorf("IsUnavailable(%v) = false", err)
	}
	if got := seq(t, db); got != 0 {
		t.Errorf("seq = %d, want 0", got)
	}
}

// Another process holds the write lock for longer than anyone waits.
func TestLockedFileIsAnOutage(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	db, other := open(t, url), open(t, url)
	exec(t, db.Writer(), "PRAGMA busy_timeout = 1")
	err := other.InTx(t.Context(), func(context.Context, sqlx.ExtContext) error {
		_, err := db.Writer().ExecContext(t.Context(), "CREATE TABLE t (id INTEGER)")
		return err
	})
	if !schema.IsUnavailable(err) {
		t.Errorf("IsUnavailable(%v) = false", err)
	}
}
