package schematest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"time"
)

var redis = sync.OnceValues(func() (server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return server{}, errors.New("Redis is not installed: run `make deps`")
	}
	return start(service{
		name: "Redis",
		command: func(port string) []string {
			return []string{path, "--bind", "127.0.0.1", "--port", port,
				"--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"}
		},
		ready: pingRedis,
	})
})

func pingRedis(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return err
	}
	answer := make([]byte, len("+PONG"))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != "+PONG" {
		return fmt.Errorf("port %s answers %q to PING", address, answer)
	}
	return nil
}
