package schema

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrCopy means that [DB.Copy] does not copy this kind of database.
var ErrCopy = errors.New("only an embedded database can be copied")

// Copy writes a whole copy of an embedded database, as it is at one moment, to a new file that its
// owner alone may read. Others may go on reading and writing meanwhile. The copy is on the disk when
// Copy returns; the file appears only then. ErrCopy: this is PostgreSQL. fs.ErrExist: there is a file
// of that name, which is left alone.
func (db *DB) Copy(ctx context.Context, path string) error {
	if db.dialect != SQLite {
		return ErrCopy
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".copy-*") // mode 0700
	if err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	made := filepath.Join(dir, "db")
	if err := createPrivate(made); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	if _, err := db.Writer().ExecContext(ctx, `VACUUM INTO ?`, made); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	if err := syncFile(made); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	if err := os.Link(made, path); err != nil { // unlike a rename, it replaces nothing
		return fmt.Errorf("copy the database: %w", err)
	}
	if err := syncFile(filepath.Dir(path)); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	return nil
}

// syncFile puts a file, or the names in a directory, on the disk.
func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
