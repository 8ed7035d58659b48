package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// aclRule is the user that the page for operators recommends, as arguments of a server.
func aclRule(t *testing.T, password string) []string {
	t.Helper()
	page, err := os.ReadFile("../../deploy/docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^user tokenbooth .*$`).FindString(string(page))
	if !strings.Contains(line, ">PASSWORD") {
		t.Fatalf("the page has no rule for a user: %q", line)
	}
	return strings.Fields("--" + strings.ReplaceAll(line, "PASSWORD", password))
}

func TestRedisForms(t *testing.T) {
	t.Parallel()
	cluster := schematest.RedisCluster(t)
	socket := filepath.Join(socketDir(t), "s")
	local := schematest.PrivateRedis(t, "--unixsocket", socket)
	withUser := schematest.PrivateRedis(t, append(aclRule(t, "hunter2/@"), "--requirepass", "another")...)
	for name, url := range map[string]string{
		"one server":         "redis://" + local.Address(),
		"another database":   "redis://" + local.Address() + "/7",
		"a Unix socket":      "unix://" + socket,
		"a user as advised":  "redis://tokenbooth:hunter2%2F%40@" + withUser.Address(),
		"a password":         "redis://:another@" + withUser.Address(),
		"a cluster":          "redis://" + cluster[0] + "?addr=" + cluster[1] + "&addr=" + cluster[2],
		"a cluster's server": "redis://" + cluster[1] + "/0?cluster=true&pool_size=3",
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, url, "")
			if w.text() != "not asked yet" {
				t.Errorf("its state is %q", w.text())
			}
			w.wantReady("ok")
			for _, key := range []string{"tokenbooth:a", "tokenbooth:b", "tokenbooth:c", "tokenbooth:d"} { // of several masters
				if err := w.client.Set(t.Context(), key, 1, time.Minute).Err(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// socketDir is a directory with a short path, as addresses of sockets must have.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestRedisTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, port := newCA(t), freePort(t)
	caFile, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca.write(t, caFile)
	ca.issue(t, cert, key)
	schematest.PrivateRedis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", caFile, "--tls-auth-clients", "no")
	watch(t, "rediss://127.0.0.1:"+port, caFile).wantReady("ok")

	other := filepath.Join(dir, "other.pem")
	newCA(t).write(t, other)
	for _, file := range []string{"", other} {
		eventually(t, "a log that tells what is wrong with the certificate", func() bool {
			w := watch(t, "rediss://127.0.0.1:"+port, file)
			w.wantReady("does not answer") // and no refusal: the certificate may be renewed at any time
			return strings.Contains(w.log.String(), "x509: ")
		})
	}
}

func TestRedisMistakes(t *testing.T) {
	t.Parallel()
	locked := schematest.PrivateRedis(t, "--requirepass", "another", "--user", "poor", "on", ">hunter2", "~tokenbooth:*", "+ping")
	open := schematest.PrivateRedis(t)
	cluster := schematest.RedisCluster(t)
	sentinel := startSentinel(t, open.Address())
	eventually(t, "a Sentinel", func() bool { return watch(t, "redis://"+sentinel, "").client.Ping(t.Context()).Err() == nil })
	for name, test := range map[string]struct{ url, says string }{
		"no password":           {"redis://" + locked.Address(), "refuses the user or the password of redis.url (NOAUTH)"},
		"a wrong password":      {"redis://:hunter2@" + locked.Address(), "refuses the user or the password of redis.url (WRONGPASS)"},
		"a wrong user":          {"redis://u:hunter2@" + locked.Address(), "refuses the user or the password of redis.url (WRONGPASS)"},
		"a user without rights": {"redis://poor:hunter2@" + locked.Address(), "may not do what Tokenbooth needs: NOPERM"},
		"no such database":      {"redis://" + open.Address() + "/99", "ERR DB index is out of range"},
		"one of a cluster":      {"redis://" + cluster[0], "names one server of a cluster: add ?cluster=true"},
		"no cluster":            {"redis://" + open.Address() + "?cluster=true", "cluster support disabled"},
		"a Sentinel":            {"redis://" + sentinel, "names a Sentinel: add ?master_name="},
		"an unknown master":     {"redis://:hunter2@" + sentinel + "?master_name=hunter2", "no Sentinel knows the master"},
	} {
		t.Run(name, func(t *testing.T) { watch(t, test.url, "").wantRefused(test.says) })
	}
}

// Not parallel, so that only its own goroutines are new.
func TestRedisLeavesNothing(t *testing.T) {
	cluster := schematest.RedisCluster(t)
	before := goleak.IgnoreCurrent()
	for _, url := range []string{"redis://127.0.0.1:1", "redis://" + cluster[0], "redis://" + cluster[0] + "?cluster=true", "redis://127.0.0.1:1?master_name=m"} {
		w := watch(t, url, "")
		stop := w.start()
		eventually(t, "an answer", func() bool { return w.text() != "not asked yet" })
		_ = w.incr(t.Context())
		stop()
	}
	wantNoGoroutines(t, before)
}

func wantNoGoroutines(t *testing.T, before goleak.Option) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	client.CloseIdleConnections()
	eventually(t, "the end of every goroutine", func() bool { return goleak.Find(before) == nil })
}
