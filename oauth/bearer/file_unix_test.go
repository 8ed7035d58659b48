//go:build unix

package bearer_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// What others can have written, or can put in the place of a file, is not read, be it
// revocations or keys.
func TestFilesOfOthersAreNotRead(t *testing.T) {
	s := newES256(t)
	n := newFeedNetwork(t, s)
	n.says(s.feed(t, nil, nil))
	good := filepath.Join(t.TempDir(), "feed.json")
	refresh(t, newFeed(t, n, func(c *bearer.FeedConfig) { c.File = good }))
	for name, c := range map[string]struct {
		spoil func(path string) error
		says  string // of both files; empty: they are read
		mends bool   // writing makes it good
	}{
		"good":                       {func(string) error { return nil }, "", true},
		"a directory of a group":     {func(path string) error { return os.Chmod(filepath.Dir(path), 0o770) }, "", true},
		"a directory for all":        {func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) }, "everybody can write to the directory", false},
		"a directory such as tmp":    {func(path string) error { return os.Chmod(filepath.Dir(path), 0o777|os.ModeSticky) }, "", true},
		"a file of root in tmp":      {func(path string) error { return give(path, 0) }, "", true},
		"a file of somebody else":    {func(path string) error { return give(path, 65534) }, "belongs to another user", true},
		"a pipe that nobody writes":  {pipe, "not a regular file", true},
		"a link to somebody's files": {func(path string) error { return linked(t, path) }, "belongs to another user", true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "feed.json")
			for _, end := range []string{"", ".keys"} {
				text, err := os.ReadFile(good + end)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path+end, text, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := c.spoil(path + end); os.IsPermission(err) {
					t.Skip("only root can give files away")
				} else if err != nil {
					t.Fatal(err)
				}
			}
			f := newFeed(t, n, func(c *bearer.FeedConfig) { c.File = path })
			keys, err := bearer.NewRemote(bearer.RemoteConfig{Issuer: issuerName, JWKSURI: issuerName + "/.well-known/revocations/keys", File: path + ".keys", Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			feedStatus, keyStatus := f.Status(), keys.Status()
			if feedStatus.Loaded != (c.says == "") || (keyStatus.Keys > 0) != (c.says == "") {
				t.Errorf("the files: %+v, %+v", feedStatus, keyStatus)
			}
			for _, err := range []error{feedStatus.File, keyStatus.File} {
				if (err == nil) != (c.says == "") || (err != nil && !strings.Contains(err.Error(), c.says)) {
					t.Errorf("%v, want that it says %q", err, c.says)
				}
			}
			refresh(t, f)
			if status := f.Status(); (status.File == nil) != c.mends {
				t.Errorf("after it was to be written: %v", status.File)
			}
		})
	}
}

func give(path string, user int) error {
	if os.Geteuid() == user {
		return nil
	}
	return os.Chown(path, user, -1)
}

func pipe(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return syscall.Mkfifo(path, 0o600)
}

// linked puts a link to a file of somebody else in the place of a file.
func linked(t *testing.T, path string) error {
	there := filepath.Join(t.TempDir(), "theirs.json")
	if err := os.Rename(path, there); err != nil {
		return err
	}
	if err := os.Symlink(there, path); err != nil {
		return err
	}
	return give(there, 65534)
}
