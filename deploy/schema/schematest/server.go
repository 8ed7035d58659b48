package schematest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	startAttempts = 3 // another process may take the free port before the server does
	startTimeout  = time.Minute
	startPoll     = 20 * time.Millisecond
	logLimit      = 64 << 10 // how much of the log an error quotes, in bytes
)

// A service is how to run a server.
type service struct {
	name    string
	owner   *syscall.Credential // nil: the current user
	command func(port string) ([]string, error)
	ready   func(address string) error
}

// A server is a running service. It lives until the life pipe breaks, when the test process ends.
type server struct {
	address string
	dir     string // its own, gone after its end
	life    *os.File
}

// supervise runs its arguments as a server in the current directory, waits for the end of standard
// input, stops the server and removes the directory. Unlike a parent-death signal this does not
// depend on the thread that started it, and unlike a cleanup in the test process it also happens
// when that is killed. The signal is repeated since a server that is only starting ignores it, and
// followed by another since a frozen one does not see it. The kernel hangs up on a group with a frozen
// process whose parent dies; that must not end the supervisor before the server.
const supervise = `
trap '' HUP
exec 3<&0
"$@" & server=$!
{ read -r _; while kill -INT $server; do kill -CONT $server; sleep 0.1; done; } <&3 & watcher=$!
wait $server
kill $watcher
cd /
rm -rf "$0"
`

// start runs a service on a free port.
func start(s service) (server, error) {
	var failures error
	for range startAttempts {
		address, err := freeAddress()
		if err != nil {
			return server{}, err
		}
		started, err := s.start(address)
		if err == nil {
			return started, nil
		}
		failures = errors.Join(failures, err)
	}
	return server{}, failures
}

func (s service) start(address string) (server, error) {
	dir, err := s.directory()
	if err != nil {
		return server{}, err
	}
	// Opened here, the log stays readable after the directory is gone.
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return server{}, err
	}
	defer log.Close()
	life, err := s.supervise(dir, log, address)
	if err != nil {
		return server{}, err
	}
	if err := s.await(address, dir); err != nil {
		life.Close()
		said, _ := io.ReadAll(io.NewSectionReader(log, 0, logLimit))
		return server{}, fmt.Errorf("%s does not start: %w\n%s", s.name, err, said)
	}
	return server{address, dir, life}, nil
}

func (s service) directory() (string, error) {
	dir, err := os.MkdirTemp("", "tokenbooth-server-")
	if err == nil && s.owner != nil {
		err = os.Chown(dir, int(s.owner.Uid), int(s.owner.Gid))
	}
	return dir, err
}

// supervise starts the server and returns the end of the pipe that keeps it alive. It is the only
// one: Go opens files so that no other child inherits them.
func (s service) supervise(dir string, log *os.File, address string) (life *os.File, err error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	command, err := s.command(port)
	if err != nil {
		return nil, err
	}
	stdin, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", supervise, dir}, command...)...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, stdin, log, log
	// A group of its own keeps an interrupt at the terminal from stopping the shell before the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, life.Close(), os.RemoveAll(dir))
	}
	return life, nil
}

// await returns when the server answers, or when it has ended: then its directory is gone.
func (s service) await(address, dir string) error {
	ticker := time.NewTicker(startPoll)
	defer ticker.Stop()
	deadline := time.Now().Add(startTimeout)
	for {
		err := s.ready(address)
		if err == nil {
			return nil
		}
		if _, gone := os.Stat(dir); gone != nil {
			return errors.New("it ended at once")
		}
		if time.Now().After(deadline) {
			return err
		}
		<-ticker.C
	}
}

// freeAddress is a loopback address that nothing listened on a moment ago.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
