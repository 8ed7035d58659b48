package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// secretFiles are what the first start on SQLite makes.
func secretFiles(data string) []string {
	var paths []string
	for _, name := range []string{"pepper", "id_key", "key_encryption_key"} {
		paths = append(paths, filepath.Join(data, "secrets", name))
	}
	return paths
}

func TestServeFirstStart(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	env := onSQLite(data)
	first := serveReady(t, env)
	if _, told := first.event("secrets were created: back these up"); !told {
		t.Errorf("the first start does not say what to back up:\n%s", &first.log)
	}
	for path, want := range map[string]os.FileMode{data: 0o700, filepath.Join(data, "secrets"): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, error %v; want mode %o", path, info, err, want)
		}
	}
	for _, path := range secretFiles(data) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, error %v; want mode 0600", path, info, err)
		}
		if !strings.Contains(first.log.String(), path) {
			t.Errorf("the log does not name %s", path)
		}
	}

	second, code := runCommand(t, env, "serve")
	if code != exitFailure || !strings.Contains(second.log.String(), "another tokenbooth serves this embedded database") {
		t.Errorf("a second server: exit code %d, want 1 and a sentence:\n%s", code, &second.log)
	}
	if first.ready() != http.StatusOK {
		t.Error("the second server disturbs the first")
	}

	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	wantToken(t, first.url, key)
	first.stop()
	again := serveReady(t, env)
	if _, told := again.event("secrets were created"); told {
		t.Error("the second start makes secrets")
	}
	wantToken(t, again.url, key)
	again.kill()
	wantToken(t, serveReady(t, env).url, key)
}

// Every start with secrets that do not belong to the data ends with a sentence.
func TestServeRefusesSecrets(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	env := onSQLite(data)
	serveReady(t, env).stop()
	bootstrapped(t, env, bootstrapArgs("Acme", "ci")...)
	files, other := secretFiles(data), generateSecrets()
	for _, test := range []struct {
		name   string
		damage func(path string) error
		path   string
		says   string
	}{
		{"missing", os.Remove, files[0], "the database holds data, but its secret " + files[0] + " is missing: restore it from the backup"},
		{"readable by all", mode(0o604), files[1], "can be read by others (mode 0604): run `chmod 600 " + files[1] + "`"},
		{"readable by the group", mode(0o640), files[2], "can be read by others (mode 0640)"},
		{"wrong pepper", content(other.Pepper), files[0], "secrets.pepper version 1 is not the one that belongs to this database"},
		{"wrong ID key", content(other.IDKey), files[1], "secrets.id_key is not the one that belongs to this database"},
		{"wrong key-encryption key", content(other.KeyEncryptionKey), files[2], "the signing key cannot be opened"},
		{"old pepper gone", content("2:" + strings.TrimPrefix(other.Pepper, "1:")), files[0], "secrets.pepper lacks version 1"},
		{"not base64", content("1:not base64"), files[0], "secrets.pepper"},
	} {
		t.Run(test.name, func(t *testing.T) {
			kept, err := os.ReadFile(test.path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = os.Remove(test.path)
				if err := os.WriteFile(test.path, kept, 0o600); err != nil {
					t.Error(err)
				}
			}()
			if err := test.damage(test.path); err != nil {
				t.Fatal(err)
			}
			p, code := runCommand(t, env, "serve")
			if code != exitFailure || !strings.Contains(p.log.String(), test.says) {
				t.Errorf("exit code %d, want 1 and a sentence with %q:\n%s", code, test.says, &p.log)
			}
		})
	}
	serveReady(t, env).stop()

	newerPepper(t, env, files[0])
}

// A variable that is missing in a new shell must not change what is in every token
// without a word.
func TestServeTellsOfAnotherIssuer(t *testing.T) {
	t.Parallel()
	const told = "the issuer is another one than before: services refuse new tokens until they are configured for it; set issuer if that was not meant"
	env := onSQLite(t.TempDir())
	for _, start := range []struct {
		issuer string
		warns  bool
	}{{"http://localhost:8080", false}, {"http://localhost:8080", false}, {"https://login.example.com", true}, {"https://login.example.com", false}} {
		r := serveReady(t, slices.Concat(env, []string{"TOKENBOOTH_ISSUER=" + start.issuer}))
		if _, warned := r.event(told); warned != start.warns {
			t.Errorf("%s: warned %t, want %t", start.issuer, warned, start.warns)
		}
		r.stop()
	}
}

// newerPepper puts a newer pepper in front of the old one. As long as no secret
// is stored under it, a slip in it can be mended; then it is the only right one.
func newerPepper(t *testing.T, env []string, path string) {
	t.Helper()
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func() {
		second := "2:" + strings.TrimPrefix(generateSecrets().Pepper, "1:")
		if err := content(second + "," + strings.TrimSpace(string(kept)))(path); err != nil {
			t.Fatal(err)
		}
	}
	write()
	serveReady(t, env).stop()
	write()
	key := bootstrapped(t, env, bootstrapArgs("Acme", "cd")...).key()
	running := serveReady(t, env)
	wantToken(t, running.url, key)
	running.stop()
	write()
	p, code := runCommand(t, env, "serve")
	if says := "secrets.pepper version 2 is not the one that belongs to this database"; code != exitFailure || !strings.Contains(p.log.String(), says) {
		t.Errorf("exit code %d, want 1 and a sentence with %q:\n%s", code, says, &p.log)
	}
}

func mode(m os.FileMode) func(path string) error {
	return func(path string) error { return os.Chmod(path, m) }
}

func content(text string) func(path string) error {
	return func(path string) error { return os.WriteFile(path, []byte(text+"\n"), 0o600) }
}

func TestServeRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	env := onSQLite(data)
	serveReady(t, env).stop()
	db := openDB(t, embedded(data))
	execute(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
	execute(t, db, "UPDATE schema_window SET oldest = 999")
	for _, args := range [][]string{{"serve"}, {"migrate"}, bootstrapArgs("Payments", "ci")} {
		p, code := runCommand(t, env, args...)
		if code != exitFailure || !strings.Contains(p.log.String(), "newer than this binary: it has version 999") {
			t.Errorf("%s: exit code %d, want 1 and a sentence:\n%s", args[0], code, &p.log)
		}
	}
}

func TestServePostgresSecrets(t *testing.T) {
	t.Parallel()
	env := served("TOKENBOOTH_DATABASE_URL=" + schematest.PostgresURL(t))
	files := map[string]string{}
	secrets := generateSecrets()
	for _, n := range secrets.named() {
		variable := "TOKENBOOTH_SECRETS_" + strings.ToUpper(n.name) + "_FILE"
		files[variable] = filepath.Join(t.TempDir(), n.name)
		if err := os.WriteFile(files[variable], []byte(*n.value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, code := runCommand(t, env, "serve")
	if code != exitFailure {
		t.Errorf("without secrets: exit code %d, want 1", code)
	}
	for variable, path := range files {
		if !strings.Contains(p.log.String(), variable) {
			t.Errorf("without secrets: %s is not named:\n%s", variable, &p.log)
		}
		env = append(env, variable+"="+path)
	}
	r := serveReady(t, env)
	wantToken(t, r.url, bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key())
}

// A request that runs when SIGTERM comes is answered, after the server has told
// load balancers and gone on serving for a while.
func TestServeDrains(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	env := onSQLite(data, "TOKENBOOTH_HTTP_SHUTDOWN_DELAY=3s")
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	r := serveReady(t, env)
	running := beginLogin(t, r.url, key)
	r.signal(syscall.SIGTERM)
	eventually(t, "readyz 503", func() bool { return r.ready() == http.StatusServiceUnavailable })
	wantToken(t, r.url, key)
	eventually(t, "no new connections", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	running.finish()
	if code := r.wait(); code != exitOK {
		t.Errorf("exit code %d, want 0:\n%s", code, &r.log)
	}
	if _, ok := r.event("stopped"); !ok {
		t.Errorf("the log does not end with stopped:\n%s", &r.log)
	}
	db := openDB(t, embedded(data))
	if n := query[int](t, db, "SELECT COUNT(*) FROM replicas"); n != 0 {
		t.Errorf("the server kept its lease: %d rows", n)
	}
}

// halfLogin is a request whose last byte is not sent yet.
type halfLogin struct {
	t    *testing.T
	conn net.Conn
	rest string
}

func beginLogin(t *testing.T, base string, c credential) halfLogin {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	body := c.form().Encode()
	_, err = fmt.Fprintf(conn, "POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		len(body), body[:len(body)-1])
	if err != nil {
		t.Fatal(err)
	}
	return halfLogin{t, conn, body[len(body)-1:]}
}

// finish sends the rest and wants a token.
func (h halfLogin) finish() {
	h.t.Helper()
	if _, err := h.conn.Write([]byte(h.rest)); err != nil {
		h.t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(h.conn), nil)
	if err != nil {
		h.t.Fatalf("the running request was cut off: %v", err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		h.t.Errorf("the running request was answered %d, want 200", response.StatusCode)
	}
}

// Another signal ends a server that drains. The handler is gone a moment after
// the first one, so that more than one may be needed.
func TestServeAnotherSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := serveReady(t, onSQLite(t.TempDir(), "TOKENBOOTH_HTTP_SHUTDOWN_DELAY=5m"))
	r.signal(syscall.SIGTERM)
	eventually(t, "a server that drains", func() bool { _, ok := r.event("shutting down"); return ok })
	eventually(t, "its end", func() bool {
		r.signal(syscall.SIGTERM)
		return r.hasExited()
	})
	if code := r.wait(); code != -1 {
		t.Errorf("exit code %d, want an end by the signal", code)
	}
}

// The last use is in memory when the server is asked to end.
func TestServeWritesLastUseAtShutdown(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	env := onSQLite(data)
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	r := serveReady(t, env)
	wantToken(t, r.url, key)
	r.stop()
	db := openDB(t, embedded(data))
	const used = "SELECT COUNT(*) FROM key_secrets WHERE key_id = ? AND last_used_at IS NOT NULL AND last_used_address = '127.0.0.1' AND last_used_agent <> ''"
	if n := query[int](t, db, used, key.id); n != 1 {
		t.Error("the last use was not written")
	}
}
