package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// rekeying is two servers whose secrets are replaced as the guide says.
type rekeying struct {
	t       *testing.T
	dir     string // of the secrets
	env     []string
	reader  *reader
	servers [2]*replica
}

func newRekeying(t *testing.T) *rekeying {
	t.Helper()
	k := &rekeying{t: t, dir: filepath.Join(t.TempDir(), "secrets"), reader: newReader(t)}
	k.env = served(append(secretsIn(t, k.dir), "TOKENBOOTH_DATABASE_URL="+schematest.PostgresURL(t))...)
	k.reader.env = append(k.reader.env, k.env...)
	k.reader.places["/etc/tokenbooth/secrets"] = k.dir
	k.reader.terminal = k.reader.open()
	return k
}

// do runs the commands below a heading of the guide.
func (k *rekeying) do(heading string) string {
	k.t.Helper()
	before := len(k.reader.terminal.out.String())
	for _, s := range commandsBelow(k.t, "guides/rotate-secrets.md", heading) {
		k.reader.run(s)
	}
	return k.reader.terminal.out.String()[before:]
}

// restart replaces servers by new ones with the secrets as they are now.
func (k *rekeying) restart(numbers ...int) {
	k.t.Helper()
	for _, i := range numbers {
		if k.servers[i] != nil {
			k.servers[i].stop()
		}
		k.servers[i] = serveReady(k.t, k.env)
	}
}

// keep returns what puts a secret back as it is now.
func (k *rekeying) keep(name string) (restore func()) {
	k.t.Helper()
	path := filepath.Join(k.dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		k.t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			k.t.Fatal(err)
		}
	}
}

// signedBy is the ID of the key that signed a token.
func signedBy(t *testing.T, token string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	var header struct {
		Kid string `json:"kid"`
	}
	if err := json.Unmarshal(text, &header); err != nil {
		t.Fatal(err)
	}
	return header.Kid
}

// The key-encryption key is replaced while servers run, and no key or token notices.
func TestKeyEncryptionKeyReplaced(t *testing.T) {
	t.Parallel()
	k := newRekeying(t)
	key := bootstrapped(t, k.env, bootstrapArgs("Payments", "ci")...).key()
	k.restart(0, 1)
	token := wantToken(t, k.servers[0].url, key)
	old := k.keep("key_encryption_key")

	k.do("Put the new one in front")
	k.restart(0)
	wantEnd(t, k.env, exitRetry, "", "not every replica holds it", "signing-keys", "rewrap")
	wantToken(t, k.servers[0].url, key)
	wantToken(t, k.servers[1].url, key)
	k.restart(1)
	if said := k.do("Seal everything anew"); strings.Count(said, "by 2 instead of 1") != 2 {
		t.Errorf("rewrap says %s", said)
	}
	wantEnd(t, k.env, exitOK, "Key-encryption key 2 opens every signing key", "", "signing-keys", "rewrap")
	wantToken(t, k.servers[0].url, key)
	k.do("Drop the old one")
	k.restart(0, 1)

	for _, r := range k.servers {
		if kid := signedBy(t, wantToken(t, r.url, key)); kid != signedBy(t, token) {
			t.Errorf("another key signs: %s", kid)
		}
		if a := get(t, r.url+"/api/v1/whoami", token); a.status != http.StatusOK {
			t.Errorf("a token from before is answered with %d", a.status)
		}
		r.stop()
	}
	old()
	wantEnd(t, k.env, exitFailure, "", `it was sealed by key-encryption key "2" and "1" is configured`, "serve")
}

// The pepper is replaced while servers run; it can be dropped when the keys that need
// it have other secrets.
func TestPepperReplaced(t *testing.T) {
	t.Parallel()
	k := newRekeying(t)
	key := bootstrapped(t, k.env, bootstrapArgs("Payments", "ci")...).key()
	k.restart(0)
	k.do("Put the new pepper in front")
	k.restart(0)
	wantToken(t, k.servers[0].url, key)
	both := k.keep("pepper")
	k.servers[0].stop()
	k.do("Drop the old pepper")
	wantEnd(t, k.env, exitFailure, "", "secrets.pepper lacks version 1", "serve")
	both()
	rotated := bootstrapped(t, k.env, append(bootstrapArgs("Payments", "ci"), "--rotate")...).key()
	k.do("Drop the old pepper")
	k.servers[0] = serveReady(t, k.env)
	wantToken(t, k.servers[0].url, rotated)
}
