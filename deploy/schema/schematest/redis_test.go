package schematest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// said is the first line of what a Redis answers within a moment; empty: it is silent.
func said(t *testing.T, address, command string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return saidOn(t, conn, command)
}

func saidOn(t *testing.T, conn net.Conn, command string) string {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		t.Fatal(err)
	}
	return answered(t, conn, 100*time.Millisecond)
}

func answered(t *testing.T, conn net.Conn, within time.Duration) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(conn).ReadString('\n') // an error is silence
	return strings.TrimSuffix(line, "\r\n")
}

func TestRedisClusterServesAllSlots(t *testing.T) {
	addresses := schematest.RedisCluster(t)
	if len(addresses) != 3 {
		t.Fatalf("%d masters: %v", len(addresses), addresses)
	}
	served, moved := 0, 0
	for _, address := range addresses {
		for _, key := range []string{"a", "b", "c"} { // slots 15495, 3300 and 7365: one of each master
			switch answer := said(t, address, "INCR "+key); {
			case strings.HasPrefix(answer, ":"):
				served++
			case strings.HasPrefix(answer, "-MOVED "):
				moved++
			default:
				t.Errorf("%s answers %q", address, answer)
			}
		}
	}
	if served != 3 || moved != 6 {
		t.Errorf("three keys at three masters: %d were served and %d moved", served, moved)
	}
	if again := schematest.RedisCluster(t); strings.Join(again, " ") != strings.Join(addresses, " ") {
		t.Errorf("two clusters in one process: %v and %v", addresses, again)
	}
}

func TestPrivateRedisTakesArguments(t *testing.T) {
	redis := schematest.PrivateRedis(t, "--requirepass", "open sesame", "--maxmemory-policy", "allkeys-lru")
	if answer := said(t, redis.Address(), "GET a"); !strings.HasPrefix(answer, "-NOAUTH ") {
		t.Errorf("without the password: %q", answer)
	}
	conn, err := net.Dial("tcp", redis.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if answer := saidOn(t, conn, `AUTH "open sesame"`); answer != "+OK" {
		t.Errorf("with the password: %q", answer)
	}
	info, err := readAll(conn, "INFO memory", "maxmemory_policy:allkeys-lru")
	if err != nil {
		t.Errorf("%v in %q", err, info)
	}
}

// readAll asks and reads until the answer contains something.
func readAll(conn net.Conn, command, until string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		return "", err
	}
	var text strings.Builder
	part := make([]byte, 4096)
	for !strings.Contains(text.String(), until) {
		n, err := conn.Read(part)
		if err != nil {
			return text.String(), err
		}
		text.Write(part[:n])
	}
	return text.String(), nil
}

func TestPrivateRedisFreezesAndDies(t *testing.T) {
	redis := schematest.PrivateRedis(t)
	if answer := said(t, redis.Address(), "SET a 1"); answer != "+OK" {
		t.Fatalf("SET: %q", answer)
	}
	conn, err := net.Dial("tcp", redis.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	redis.Freeze()
	if answer := saidOn(t, conn, "STRLEN a"); answer != "" {
		t.Errorf("frozen, it answers %q", answer)
	}
	redis.Thaw()
	if answer := answered(t, conn, 10*time.Second); answer != ":1" {
		t.Errorf("thawed, it answers %q to what was asked before", answer)
	}

	redis.Freeze()
	redis.Kill()
	if conn, err := net.Dial("tcp", redis.Address()); err == nil {
		conn.Close()
		t.Error("a killed Redis accepts connections")
	}
	redis.Kill() // does nothing
	address := redis.Address()
	redis.Start()
	if redis.Address() != address {
		t.Errorf("the address was %s and is %s", address, redis.Address())
	}
	if answer := said(t, address, "EXISTS a"); answer != ":0" {
		t.Errorf("a new Redis answers %q: it knows of the old one", answer)
	}
}

func TestPrivateRedisIsPrivate(t *testing.T) {
	one, two := schematest.PrivateRedis(t), schematest.PrivateRedis(t)
	if one.Address() == two.Address() || "redis://"+one.Address() == schematest.Redis(t) {
		t.Error("one server for two")
	}
}

// asFrozen, when set, makes this test binary freeze a Redis, name it, and wait for its end.
const asFrozen = "TOKENBOOTH_SCHEMATEST_FROZEN"

func TestFrozenChild(t *testing.T) {
	if os.Getenv(asFrozen) == "" {
		return
	}
	redis := schematest.PrivateRedis(t)
	redis.Freeze()
	if _, err := fmt.Fprintf(os.Stdout, "\nservers %s %v\n", redis.Address(), schematest.RedisCluster(t)[0]); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // however it ends, it has ended
}

func TestKilledProcessLeavesNoFrozenServerAndNoCluster(t *testing.T) {
	kill, frozen, master := startChild(t, "TestFrozenChild", asFrozen)
	kill()
	for _, address := range []string{frozen, master} {
		eventually(t, address+" is closed", func() bool {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
	}
}
