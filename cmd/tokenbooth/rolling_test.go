package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// Two servers behind Caddy, with the configuration that the guide shows, are replaced
// one after the other by the next build while clients go on. No request fails, and what
// was answered is recorded.
func TestRollingReplacement(t *testing.T) {
	t.Parallel()
	url := schematest.PostgresURL(t)
	env := onPostgres(url, "TOKENBOOTH_HTTP_TRUSTED_PROXIES=127.0.0.1/32", "TOKENBOOTH_HTTP_SHUTDOWN_DELAY=4s")
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	next := nextBuild(t)

	public, ops := portOn(t, "127.0.0.2", "127.0.0.3"), portOn(t, "127.0.0.2", "127.0.0.3")
	at := func(host string) []string {
		return append([]string{"TOKENBOOTH_LISTEN=" + host + ":" + public, "TOKENBOOTH_OPERATIONS_LISTEN=" + host + ":" + ops}, leaveOut(env, "LISTEN")...)
	}
	hosts := []string{"127.0.0.2", "127.0.0.3"}
	var running []*replica
	for _, host := range hosts {
		running = append(running, serveReady(t, at(host)))
	}
	front := caddy(t, strings.NewReplacer(
		"login.example.com", "http://127.0.0.1:PORT", "10.0.0.11:8080", hosts[0]+":"+public, "10.0.0.12:8080", hosts[1]+":"+public, "9090", ops,
	).Replace(fencedIn(t, "guides/upgrades.md", "caddyfile")))

	l := beginTraffic(t, front, key)
	for i, host := range hosts {
		l.more(50)
		running[i].stop()
		l.more(50) // by the other alone
		fresh := awaitReady(t, startProgram(t, next, at(host), "serve"))
		if line, _ := fresh.event("serving"); line.Version != nextVersion {
			t.Errorf("the next build calls itself %q", line.Version)
		}
		eventually(t, "exchanges by the next build", func() bool { return strings.Contains(fresh.log.String(), `"route":"/api/login"`) })
		running[i] = fresh
	}
	l.more(50)
	l.stop()
	for _, r := range running {
		r.stop()
	}
	t.Logf("%d tokens", len(l.issued))
	for id, what := range l.failed {
		t.Errorf("%s: %s", id, what)
	}
	l.wantRecorded(openDB(t, url))
}

const nextVersion = "v99.0.0-next"

// nextBuild builds this program again, as another release.
func nextBuild(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "tokenbooth")
	build := exec.Command("go", "build", "-pgo=off", "-ldflags", "-X main.version="+nextVersion, "-o", program, ".")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the next release: %v\n%s", err, text)
	}
	return program
}

// portOn is a port that nobody listens on at any of the hosts.
func portOn(t *testing.T, hosts ...string) string {
	t.Helper()
	var port string
	eventually(t, "a free port", func() bool {
		_, port, _ = net.SplitHostPort(freeAddress(t))
		for _, host := range hosts {
			listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
			if err != nil {
				return false
			}
			_ = listener.Close()
		}
		return true
	})
	return port
}

// leaveOut leaves out variables whose names end so.
func leaveOut(env []string, suffix string) (left []string) {
	for _, variable := range env {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasSuffix(name, suffix) {
			left = append(left, variable)
		}
	}
	return left
}

// caddy runs Caddy with a Caddyfile in which PORT stands for a free port, and returns
// its address once it answers.
func caddy(t *testing.T, sites string) string {
	t.Helper()
	home, address := t.TempDir(), freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	file := filepath.Join(home, "Caddyfile")
	if err := os.WriteFile(file, []byte("{\n\tadmin off\n}\n"+strings.ReplaceAll(sites, "PORT", port)), 0o600); err != nil {
		t.Fatal(err)
	}
	var log output
	process := exec.Command("caddy", "run", "--adapter", "caddyfile", "--config", file)
	process.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_DATA_HOME=" + home, "XDG_CONFIG_HOME=" + home}
	process.Stdout, process.Stderr = &log, &log
	if err := process.Start(); err != nil {
		t.Fatalf("Caddy, which .ci/deps installs: %v", err)
	}
	t.Cleanup(func() {
		_ = process.Process.Signal(syscall.SIGTERM)
		_ = process.Wait()
		if t.Failed() {
			t.Logf("Caddy says:\n%s", &log)
		}
	})
	eventually(t, "Caddy", func() bool {
		response, err := client.Get("http://" + address + "/.well-known/jwks.json")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return "http://" + address
}

// fencedIn is the one block of that language in a page.
func fencedIn(t *testing.T, page, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docs, page))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	fenced, _ := blocks(string(text))
	for _, b := range fenced {
		if len(b.info) > 0 && b.info[0] == language {
			found = append(found, b.text)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d blocks of %s, want one", page, len(found), language)
	}
	return found[0]
}
