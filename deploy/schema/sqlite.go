package schema

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// writerPragmas are for transactions of hundreds of rows with indexes all over the file: in the usual
// 2 MB of pages they are written and read again before they are committed.
var writerPragmas = []string{"cache_size(-16384)"}

func openSQLite(ctx context.Context, rest string) (*DB, error) {
	path, synchronous, err := parseSQLite(rest)
	if err != nil {
		return nil, err
	}
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("cannot create the SQLite database: %w", err)
	}
	pragmas := []string{"busy_timeout(5000)", "journal_mode(WAL)", "foreign_keys(1)", "synchronous(" + synchronous + ")"}
	writer, err := openFile(path, 1, append(slices.Clone(pragmas), writerPragmas...))
	if err != nil {
		return nil, err
	}
	reader, err := openFile(path, max(4, runtime.NumCPU()), append(slices.Clone(pragmas), "query_only(1)"))
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	db := &DB{dialect: SQLite, reader: reader, writer: writer, lock: directoryLock(filepath.Dir(path))}
	// SQLite does not wait for a file that another process is just putting into WAL mode.
	release, err := db.lock(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the database: %w", err), db.Close())
	}
	defer release()
	return db.verify(ctx)
}

// parseSQLite splits what follows "sqlite:" into an absolute path and the synchronous mode.
func parseSQLite(rest string) (path, synchronous string, err error) {
	file, query, _ := strings.Cut(rest, "?")
	switch {
	case file == "" || file == ":memory:":
		return "", "", errors.New("the SQLite URL names no file: write sqlite:/path/to/file.db")
	case strings.HasPrefix(file, "//") && !strings.HasPrefix(file, "///"):
		return "", "", errors.New("the SQLite URL has a host: write sqlite:/path/to/file.db, or sqlite:file.db for a relative path")
	case query == "":
		synchronous = "FULL"
	case query == "synchronous=off":
		synchronous = "OFF"
	default:
		return "", "", errors.New("the SQLite URL has an unknown option: only ?synchronous=off is known")
	}
	path, err = filepath.Abs(file)
	return path, synchronous, err
}

// createPrivate makes a missing database file, and its directory, for their owner only. SQLite gives
// the -wal and -shm files the same mode.
//
// A file that exists is not even opened: closing it again would drop the locks that SQLite holds on
// it elsewhere in this process (https://sqlite.org/howtocorrupt.html, section 2.2).
func createPrivate(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // made by another process since
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// openFile makes a pool of at most size connections. A transaction takes the write lock when it
// begins: one that first reads and then writes would fail when another writes in between.
func openFile(path string, size int, pragmas []string) (*sqlx.DB, error) {
	options := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}
	file := url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}
	db, err := sqlx.Open(string(SQLite), file.String())
	if err != nil {
		return nil, fmt.Errorf("cannot open the SQLite database: %w", err)
	}
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

// directoryLock locks the database's directory: SQLite's own locks are needed by the migrations, and
// a lock file would be left behind.
func directoryLock(dir string) migrationLock {
	return func(ctx context.Context) (func(), error) {
		file, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		release := func() { file.Close() }
		err = poll(ctx, func() (bool, error) {
			err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			release()
			return nil, err
		}
		return release, nil
	}
}
