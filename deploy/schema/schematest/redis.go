package schematest

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// Redis returns the URL, redis://127.0.0.1:port, of the private Redis. The tests of one process
// share it, so each should use keys of its own.
func Redis(tb testing.TB) string {
	tb.Helper()
	s, err := redis()
	if err != nil {
		tb.Fatal(err)
	}
	return "redis://" + s.address
}

// StartRedis returns the URL of the private Redis, for programs that are no tests. It goes with the
// process.
func StartRedis() (string, error) {
	s, err := redis()
	return "redis://" + s.address, err
}

var redis = sync.OnceValues(func() (server, error) {
	s, err := redisService()
	if err != nil {
		return server{}, err
	}
	return start(s)
})

// redisService is a Redis in memory alone. More arguments may contradict the usual ones.
func redisService(args ...string) (service, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return service{}, errors.New("Redis is not installed: run `make deps`")
	}
	return service{
		name: "Redis",
		command: func(port string) ([]string, error) {
			usual := []string{path, "--bind", "127.0.0.1", "--port", port, "--pidfile", redisPID,
				"--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"}
			return append(usual, args...), nil
		},
		ready: pingRedis,
	}, nil
}

// pingRedis also takes a demand for a password as a sign of life.
func pingRedis(address string) error {
	answer, err := askRedis(address, "PING")
	if answer == "PONG" || err != nil && strings.HasPrefix(err.Error(), "NOAUTH ") {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("port %s answers %q to PING", address, answer)
	}
	return err
}
