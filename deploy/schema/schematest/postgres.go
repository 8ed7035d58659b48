package schematest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
)

var errNoPostgres = errors.New("PostgreSQL is not installed: run `make deps`")

// template is the database that migrated ones are copied from.
const template = "tokenbooth_template"

// A cluster is a running PostgreSQL.
type cluster struct {
	server
	databases atomic.Int64
}

func (c *cluster) url(database string) string {
	return "postgres://postgres@" + c.address + "/" + database + "?sslmode=disable"
}

func (c *cluster) exec(query string) error {
	ctx := context.Background()
	db, err := schema.Open(ctx, c.url("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Writer().ExecContext(ctx, query)
	return err
}

// create makes a database and drops it again when the test ends.
func create(tb testing.TB, options string) string {
	tb.Helper()
	c, err := postgres()
	if err != nil {
		tb.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", c.databases.Add(1))
	if err := c.exec("CREATE DATABASE " + name + options); err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	tb.Cleanup(func() {
		if err := c.exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			tb.Errorf("drop the database: %v", err)
		}
	})
	return c.url(name)
}

// StartPostgres returns the URL of an empty database on the private PostgreSQL, for programs that
// are no tests, such as benchmarks. It goes with the process.
func StartPostgres() (string, error) {
	c, err := postgres()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("bench_%d", c.databases.Add(1))
	return c.url(name), c.exec("CREATE DATABASE " + name)
}

var postgres = sync.OnceValues(func() (*cluster, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	owner, err := postgresOwner()
	if err != nil {
		return nil, err
	}
	c := &cluster{}
	c.server, err = start(service{
		name:    "PostgreSQL",
		owner:   owner,
		command: func(port string) ([]string, error) { return postgresCommand(bin, port), nil },
		ready: func(address string) error {
			probe := cluster{server: server{address: address}}
			return probe.exec("SELECT 1")
		},
	})
	if err != nil {
		return nil, err
	}
	if err := c.exec("CREATE DATABASE " + template); err != nil {
		return nil, err
	}
	return c, migrate(c.url(template))
})

// postgresCommand makes the cluster and then becomes its server. Nothing is kept for a crash, since
// nothing outlives the tests; a deadlock is looked for sooner than after the usual second.
func postgresCommand(bin, port string) []string {
	initdb := filepath.Join(bin, "initdb") + " -D data -U postgres --auth=trust --no-sync --encoding=UTF8 --no-locale"
	settings := []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "port=" + port, "max_connections=200",
		"fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off",
		"deadlock_timeout=100ms", "log_min_messages=fatal",
	}
	postgres := filepath.Join(bin, "postgres") + " -D data"
	for _, setting := range settings {
		postgres += " -c " + setting
	}
	return []string{"/bin/sh", "-c", initdb + " && exec " + postgres}
}

// postgresBin finds the directory of the newest PostgreSQL that Debian's packages installed, else of
// the one in PATH.
func postgresBin() (string, error) {
	var newest string
	var version int
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // fails on a malformed pattern only
	for _, path := range installed {
		bin := filepath.Dir(path)
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(bin))); err == nil && v > version {
			newest, version = bin, v
		}
	}
	if newest != "" {
		return newest, nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errNoPostgres
	}
	return filepath.Dir(path), nil
}

// postgresOwner is who runs the server: PostgreSQL refuses root. Nil means the current user.
func postgresOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	owner, err := user.Lookup("postgres")
	if err != nil {
		return nil, errNoPostgres
	}
	uid, err := strconv.ParseUint(owner.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres: %w", err)
	}
	gid, err := strconv.ParseUint(owner.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
