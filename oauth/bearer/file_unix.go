//go:build unix

package bearer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// openPlain opens a file to read it. It does not wait for who writes, if the file is
// a pipe.
func openPlain(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// checkOwn refuses a file that others than this user and root can have written.
func checkOwn(path string, info fs.FileInfo) error {
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others than its owner (mode %04o), so it is not read", path, info.Mode().Perm())
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || (stat.Uid != 0 && int(stat.Uid) != os.Geteuid()) {
		return fmt.Errorf("%s belongs to another user than the one of this process and root, so it is not read", path)
	}
	return nil
}

// checkPlace refuses a directory where everybody can put another file in the place
// of one. A group may, as in the volumes of Kubernetes that have an fsGroup: what
// its members put there belongs to them, and is refused for that.
func checkPlace(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("everybody can write to the directory %s (mode %04o), so no file is read or written there: use one below it that is this user's alone", dir, info.Mode().Perm())
	}
	return nil
}

// syncPlace makes the name of a file survive a power cut. There are file systems
// that cannot be asked for that.
func syncPlace(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}
