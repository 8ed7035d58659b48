// Package packaging holds the tests of what an installation is made of: the release, the
// image, the Debian package, the unit of systemd and the files of Docker Compose.
package packaging

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the release under test calls itself.
const (
	version     = "v1.2.3"
	commit      = "0123456789abcdef0123456789abcdef01234567"
	sourceEpoch = "1764500000"
	sourceTime  = "2025-11-30T10:53:20Z"
)

// patience is how long a test waits for what must happen; it is long, since it
// only ends a test that has failed.
const patience = time.Minute

var scratch string

// TestMain makes a directory for what the tests share.
func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "packages"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch) // the system tidies up the rest
	os.Exit(code)
}

// need ends the test without a tool, or skips it outside of CI.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			lack(t, tool+" is missing: run `make deps`")
		}
	}
}

// needRoot is for what only root can do: to take another user's place.
func needRoot(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		lack(t, "this needs Linux and root")
	}
}

func lack(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// releaseEnv is the environment that release.sh builds in.
func releaseEnv() []string {
	return append(os.Environ(), "VERSION="+version, "COMMIT="+commit, "SOURCE_DATE_EPOCH="+sourceEpoch)
}

// makeRelease runs the release of a tree for this machine's kind.
func makeRelease(tree, out string) error {
	c := exec.Command(filepath.Join(tree, "deploy/release/release.sh"), out, "linux/"+runtime.GOARCH)
	c.Env = releaseEnv()
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("release.sh: %w\n%s", err, text)
	}
	return nil
}

var releaseOnce = sync.OnceValues(func() (string, error) {
	out := filepath.Join(scratch, "release")
	return out, makeRelease(sources, out)
})

// sources is the module's directory.
const sources = "../.."

// released is the directory of a release of this tree.
func released(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		lack(t, "releases are made on Linux")
	}
	need(t, "dpkg-deb", "tar", "gzip")
	dir, err := releaseOnce()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// tarball is the name of the release's archive, without an ending.
func tarball() string { return "tokenbooth_1.2.3_linux_" + runtime.GOARCH }

var binaryOnce = sync.OnceValues(func() (string, error) {
	dir, err := releaseOnce()
	if err != nil {
		return "", err
	}
	unpacked := filepath.Join(scratch, "unpacked")
	err = unpack(filepath.Join(dir, tarball()+".tar.gz"), unpacked)
	return filepath.Join(unpacked, tarball(), "tokenbooth"), err
})

// binary is the program as a user finds it in the archive.
func binary(t *testing.T) string {
	t.Helper()
	released(t)
	path, err := binaryOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// unpack writes the files of a .tar.gz below dir.
func unpack(archive, dir string) error {
	return eachEntry(archive, func(h *tar.Header, r io.Reader) error {
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			return os.MkdirAll(path, 0o755)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, h.FileInfo().Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	})
}

// eachEntry calls f for every entry of a .tar.gz.
func eachEntry(archive string, f func(*tar.Header, io.Reader) error) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	z, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(h, r)
		}
		if err != nil {
			return err
		}
	}
}

// output runs a command that must succeed, in an empty environment but for env.
func output(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	var stderr strings.Builder
	c := exec.Command(name, args...)
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C"}, env...)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, &stderr)
	}
	if stderr.Len() > 0 {
		t.Logf("%s %q says: %s", name, args, &stderr)
	}
	return string(out)
}

// read is the text of a file.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
