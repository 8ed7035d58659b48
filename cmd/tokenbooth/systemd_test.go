package main

import (
	"crypto/rand"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// notifications is a service manager's end of NOTIFY_SOCKET.
type notifications struct {
	t    *testing.T
	conn *net.UnixConn
}

func listenNotifications(t *testing.T, address string) *notifications {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &notifications{t, conn}
}

// next is one datagram.
func (n *notifications) next() string {
	n.t.Helper()
	if err := n.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		n.t.Fatal(err)
	}
	text := make([]byte, 4096)
	size, err := n.conn.Read(text)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(text[:size])
}

// socketPath is short: the kernel takes about 100 bytes.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "socket")
}

func TestSystemdIsTold(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]string{
		"path":     socketPath(t),
		"abstract": "@tokenbooth-" + rand.Text(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := listenNotifications(t, address)
			r := serveReady(t, onSQLite(t.TempDir(), "NOTIFY_SOCKET="+address, "WATCHDOG_USEC=200000"))
			// The first sign of life may be earlier by a moment.
			seen := map[string]bool{}
			for !seen["READY=1"] || !seen["WATCHDOG=1"] {
				text := told.next()
				first, status, _ := strings.Cut(text, "\n")
				if seen[first] = true; first == "READY=1" && !strings.HasPrefix(status, "STATUS=Serving on 127.0.0.1:") {
					t.Errorf("it says %q", text)
				}
			}
			if status := r.ready(); status != http.StatusOK {
				t.Errorf("READY=1 came with /readyz answering %d", status)
			}
			for beats := 0; beats < 3; beats++ {
				if text := told.next(); text != "WATCHDOG=1" {
					t.Errorf("it says %q, want signs of life", text)
				}
			}
			r.signal(syscall.SIGTERM)
			text := told.next()
			for text == "WATCHDOG=1" {
				text = told.next()
			}
			if !strings.HasPrefix(text, "STOPPING=1\nSTATUS=") {
				t.Errorf("after SIGTERM it says %q", text)
			}
			if code := r.wait(); code != exitOK {
				t.Errorf("exit code %d\n%s", code, &r.log)
			}
		})
	}
}

// A service manager that is gone keeps nobody from serving.
func TestSystemdIsGone(t *testing.T) {
	t.Parallel()
	r := serveReady(t, onSQLite(t.TempDir(), "NOTIFY_SOCKET=/nonexistent/notify"))
	eventually(t, "a line in the log", func() bool { _, ok := r.event("the service manager cannot be told"); return ok })
	if status := r.ready(); status != http.StatusOK {
		t.Errorf("/readyz answers %d", status)
	}
	r.stop()
}

func TestWatchdogBeat(t *testing.T) {
	t.Parallel()
	us, other := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getpid()+1)
	for _, test := range []struct {
		environ []string
		want    time.Duration
	}{
		{nil, 0},
		{[]string{"WATCHDOG_USEC=30000000"}, 15 * time.Second},
		{[]string{"WATCHDOG_USEC=30000000", "WATCHDOG_PID=" + us}, 15 * time.Second},
		{[]string{"WATCHDOG_USEC=30000000", "WATCHDOG_PID=" + other}, 0},
		{[]string{"WATCHDOG_USEC=0"}, 0},
		{[]string{"WATCHDOG_USEC=-5"}, 0},
		{[]string{"WATCHDOG_USEC=soon"}, 0},
	} {
		if got := watchdogBeat(&environment{environ: test.environ}); got != test.want {
			t.Errorf("%v: a beat every %s, want %s", test.environ, got, test.want)
		}
	}
}
