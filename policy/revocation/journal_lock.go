//go:build unix

package revocation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// openLocked opens the file of a journal, or makes it, with a lock that ends with
// the process.
func openLocked(path string) (*os.File, error) {
	if err := checkPlace(path); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal of revocations: %w", err)
	}
	if err := lockJournal(file, path); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// checkPlace refuses places where anybody could put another file, and files that
// are none.
func checkPlace(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("the directory of the journal of revocations: %w: create it, on another disk than the database's", err)
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("everybody may write to the directory %s of the journal of revocations (mode %04o): run `chmod o-w %s`", dir, info.Mode().Perm(), dir)
	}
	info, err = os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("open the journal of revocations: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("the journal of revocations %s is not a regular file: configure the path of one, or of one that does not exist yet", path)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others may write to the journal of revocations %s (mode %04o): run `chmod 600 %s`", path, info.Mode().Perm(), path)
	}
	return nil
}

// lockJournal takes the lock of the file that is at path now.
func lockJournal(file *os.File, path string) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return inUse(path)
	}
	if err != nil {
		return fmt.Errorf("lock the journal of revocations %s: %w", path, err)
	}
	same, err := isAt(file, path)
	if err == nil && !same { // somebody who had it until now has replaced it
		err = inUse(path)
	}
	return err
}

func inUse(path string) error {
	return fmt.Errorf("%w: %s: each replica needs a file of its own", ErrInUse, path)
}

// InUse reports whether a process has the journal open.
func InUse(path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	defer func() { _ = file.Close() }() // with its lock
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock the journal of revocations %s: %w", path, err)
	}
	return false, nil
}

// isAt reports whether a path names an open file.
func isAt(file *os.File, path string) (bool, error) {
	there, err := os.Stat(path)
	if err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	here, err := file.Stat()
	if err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	return os.SameFile(here, there), nil
}

// replaceJournal puts a new file with that text in the place of another, all at once. It
// is locked.
func replaceJournal(path string, text []byte) (*os.File, error) {
	file, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = file.Write(text)
	if err == nil {
		err = errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), file.Sync())
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	return file, syncDirectory(path)
}

// syncDirectory makes the name of a file survive a power cut.
func syncDirectory(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
