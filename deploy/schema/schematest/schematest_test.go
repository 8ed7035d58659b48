package schematest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

func TestEachDatabaseIsMigratedAndItsOwn(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		again := schematest.SQLite
		if db.Dialect() == schema.PostgreSQL {
			again = schematest.Postgres
		}
		for _, db := range []*schema.DB{db, again(t)} {
			if err := db.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := db.Writer().ExecContext(t.Context(), "INSERT INTO audit_heads (chain, seq, hash) VALUES (?, ?, ?)", "c", 1, []byte{1})
			if err != nil {
				t.Fatalf("the row of one database is in the other: %v", err)
			}
		}
	})
}

func TestPostgresURLIsEmpty(t *testing.T) {
	db := openURL(t, schematest.PostgresURL(t))
	if empty, err := db.Empty(t.Context()); err != nil || !empty {
		t.Fatalf("Empty() = %t, %v; want true", empty, err)
	}
}

func TestRedisAnswersAndIsShared(t *testing.T) {
	url := schematest.Redis(t)
	if again := schematest.Redis(t); again != url {
		t.Errorf("two servers in one process: %s and %s", url, again)
	}
	if answer := askRedis(t, url, "CONFIG GET maxmemory-policy"); !strings.Contains(answer, "noeviction") {
		t.Errorf("maxmemory-policy is %q", answer)
	}
}

// asChild, when set, makes this test binary start both servers, name them, and wait for its end.
const asChild = "TOKENBOOTH_SCHEMATEST_CHILD"

func TestChild(t *testing.T) {
	if os.Getenv(asChild) == "" {
		return
	}
	_, err := fmt.Fprintf(os.Stdout, "\nservers %s %s\n", schematest.PostgresURL(t), schematest.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // however it ends, it has ended
}

func TestKilledProcessLeavesNothing(t *testing.T) {
	kill, postgresURL, redisURL := startChild(t, "TestChild", asChild)
	db := openURL(t, postgresURL)
	var data string
	if err := sqlx.GetContext(t.Context(), db.Reader(), &data, "SHOW data_directory"); err != nil {
		t.Fatal(err)
	}
	directories := []string{filepath.Dir(data), redisDirectory(t, redisURL)}
	for _, dir := range directories {
		if _, err := os.Stat(filepath.Join(dir, "log")); err != nil {
			t.Fatalf("not a server's directory: %v", err)
		}
	}

	kill()
	for _, dir := range directories {
		eventually(t, dir+" is removed", func() bool {
			_, err := os.Stat(dir)
			return errors.Is(err, fs.ErrNotExist)
		})
	}
	err := db.InTx(t.Context(), func(context.Context, sqlx.ExtContext) error { return nil })
	if !schema.IsUnavailable(err) {
		t.Errorf("IsUnavailable(%v) = false after the server died", err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(redisURL, "redis://")); err == nil {
		conn.Close()
		t.Error("Redis still accepts connections")
	}
}

// startChild runs one test of this binary, told by a variable of the environment, as a child that
// starts servers of its own. kill ends it as no cleanup function could notice.
func startChild(t *testing.T, test, variable string) (kill func(), first, second string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	child.Env = append(os.Environ(), variable+"=1")
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = child.Process.Kill() // unless it has ended already
		_ = child.Wait()         // which says that it was killed
		stdin.Close()
	}
	t.Cleanup(kill)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if n, _ := fmt.Sscanf(lines.Text(), "servers %s %s", &first, &second); n == 2 {
			return kill, first, second
		}
		t.Log("child: ", lines.Text())
	}
	t.Fatal("the child named no servers")
	return nil, "", ""
}

func redisDirectory(t *testing.T, url string) string {
	t.Helper()
	answer := askRedis(t, url, "CONFIG GET dir")
	for line := range strings.Lines(answer) {
		if strings.HasPrefix(line, "/") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("Redis names no directory: %q", answer)
	return ""
}

// askRedis sends a CONFIG GET, whose answer has five lines, and returns them.
func askRedis(t *testing.T, url, command string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "redis://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		t.Fatal(err)
	}
	var answer strings.Builder
	lines := bufio.NewScanner(conn)
	for range 5 {
		if !lines.Scan() {
			t.Fatalf("Redis answers %q only: %v", answer.String(), lines.Err())
		}
		fmt.Fprintln(&answer, lines.Text())
	}
	return answer.String()
}

func openURL(t *testing.T, url string) *schema.DB {
	t.Helper()
	db, err := schema.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
		<-ticker.C
	}
}
