package schematest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// redisPID is the file in a Redis's directory with the ID of its process.
const redisPID = "pid"

// A RedisServer is a Redis of one test, which may do to it what happens to servers. It keeps its
// port for its whole life, and nothing else: after Kill and Start it is empty. Its methods are for
// one goroutine, and fail the test when the server cannot be had as they promise.
type RedisServer struct {
	tb      testing.TB
	service service
	server
	process *os.Process // nil: it is not running
}

// PrivateRedis starts a Redis with more arguments, such as "--requirepass" and a password, and ends
// it with the test.
func PrivateRedis(tb testing.TB, args ...string) *RedisServer {
	tb.Helper()
	s, err := redisService(args...)
	if err != nil {
		tb.Fatal(err)
	}
	started, err := start(s)
	if err != nil {
		tb.Fatal(err)
	}
	r := &RedisServer{tb: tb, service: s, server: started}
	tb.Cleanup(r.Kill)
	r.find()
	return r
}

// Address is 127.0.0.1:port.
func (r *RedisServer) Address() string { return r.address }

// Freeze stops the server without ending it: connections are accepted, and nothing is answered.
func (r *RedisServer) Freeze() {
	r.tb.Helper()
	r.signal(syscall.SIGSTOP)
}

// Thaw undoes Freeze. What was asked meanwhile is answered now.
func (r *RedisServer) Thaw() {
	r.tb.Helper()
	r.signal(syscall.SIGCONT)
}

// Kill ends the server at once, frozen or not, with all that it knew. When it returns, connections
// are refused. It does nothing to a killed one.
func (r *RedisServer) Kill() {
	r.tb.Helper()
	if r.process != nil {
		r.signal(syscall.SIGKILL)
		r.process = nil
	}
	// Also what ends it when its process was never found.
	if err := r.life.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		r.tb.Fatal(err)
	}
	if err := r.awaitEnd(); err != nil {
		r.tb.Fatal(err)
	}
}

// Start starts a killed server again, empty and on the same port.
func (r *RedisServer) Start() {
	r.tb.Helper()
	if r.process != nil {
		r.tb.Fatal("the Redis to start is running")
	}
	started, err := r.service.start(r.address)
	if err != nil {
		r.tb.Fatal(err)
	}
	r.server = started
	r.find()
}

// find learns which process the server is. Redis writes the file before it answers anything.
func (r *RedisServer) find() {
	r.tb.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, redisPID))
	if err != nil {
		r.tb.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		r.tb.Fatal(err)
	}
	if r.process, err = os.FindProcess(pid); err != nil {
		r.tb.Fatal(err)
	}
}

func (r *RedisServer) signal(s syscall.Signal) {
	r.tb.Helper()
	if r.process == nil {
		r.tb.Fatalf("no Redis is running to send %q to", s)
	}
	err := r.process.Signal(s)
	if s == syscall.SIGKILL && errors.Is(err, os.ErrProcessDone) {
		return // it ended by itself
	}
	if err != nil {
		r.tb.Fatalf("send %q to Redis: %v", s, err)
	}
}

// awaitEnd returns when the supervisor has removed the directory, which it does after the end.
func (r *RedisServer) awaitEnd() error {
	ticker := time.NewTicker(startPoll)
	defer ticker.Stop()
	deadline := time.Now().Add(startTimeout)
	for {
		_, err := os.Stat(r.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the killed Redis does not end: %s is still there", r.dir)
		}
		<-ticker.C
	}
}
