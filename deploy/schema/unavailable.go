package schema

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// IsUnavailable reports whether err means that the database cannot be reached or cannot answer now,
// and may answer later, as opposed to a statement being wrong. A deadline that passed counts; a
// cancelled context does not, since then it is the caller who left.
func IsUnavailable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	var lite *sqlite.Error
	var network net.Error
	switch {
	case errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "28") || pg.Code == "3D000"):
		return false // the server answers: the user, the password or the database's name is wrong
	case errors.As(err, &connect): // before PgError, which it may hold: "database is shutting down"
		return true
	case errors.As(err, &pg):
		return unavailableState(pg.Code)
	case errors.As(err, &lite):
		return unavailableCode(lite.Code())
	}
	return errors.As(err, &network) ||
		errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}

// unavailableState judges an SQLSTATE: connection exceptions, insufficient resources, shutdown, a
// lock that was not to be had in time (55P03), a session that held one for too long (25P03).
func unavailableState(code string) bool {
	return code == "55P03" || code == "25P03" || strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "57P0")
}

// unavailableCode judges an SQLite result code, whose low byte is the primary one
// (https://sqlite.org/rescode.html).
func unavailableCode(code int) bool {
	switch code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN:
		return true
	}
	return false
}
