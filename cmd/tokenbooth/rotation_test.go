package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// A server that cannot open the next signing key leaves readiness and says why,
// and goes on with the key before; when that key is taken back it is ready again.
func TestServerThatCannotOpenTheNextKey(t *testing.T) {
	t.Parallel()
	url := schematest.PostgresURL(t)
	env := onPostgres(url)
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	r := serveReady(t, env)
	before := wantToken(t, r.url, key)

	other := "other:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 32))
	p, code := runCommand(t, append(env, "TOKENBOOTH_SECRETS_KEY_ENCRYPTION_KEY="+other), "signing-keys", "rotate")
	if code != exitFailure || !strings.Contains(p.log.String(), "the servers have another key-encryption key") {
		t.Errorf("rotate with another key-encryption key ended with %d: %s", code, &p.log)
	}
	if status := r.ready(); status != http.StatusOK {
		t.Errorf("after that the server answers %d for readiness", status)
	}
	next := insertSigningKey(t, url, other)
	eventually(t, "the end of readiness", func() bool { return r.ready() == http.StatusServiceUnavailable })
	if a := get(t, r.ops+"/readyz", ""); !strings.Contains(a.body["checks"].(map[string]any)["signing_key"].(string), `sealed by key-encryption key "other" and "1" is configured`) {
		t.Errorf("readyz says %v", a.body)
	}
	if metrics := page(t, r.ops+"/metrics"); !strings.Contains(metrics, "\ntokenbooth_signing_key_fault 1\n") {
		t.Error("the metric does not show the fault")
	}
	if after := wantToken(t, r.url, key); strings.Split(after, ".")[0] != strings.Split(before, ".")[0] {
		t.Error("it signs with another key")
	}
	if p, code := runCommand(t, env, "signing-keys", "retire", "--", next); code != exitOK {
		t.Fatalf("retire ended with %d: %s", code, &p.log)
	}
	eventually(t, "readiness", func() bool { return r.ready() == http.StatusOK })
}

// insertSigningKey puts a pending key into the database that somebody else sealed.
func insertSigningKey(t *testing.T, url, sealer string) (kid string) {
	t.Helper()
	foreign, err := signing.ParseSealer(sealer)
	if err != nil {
		t.Fatal(err)
	}
	now := workspace.At(time.Now())
	key, err := signing.Generate(foreign, signing.TokenSlot(jwk.ES256), signing.Pending, now)
	if err != nil {
		t.Fatal(err)
	}
	err = openDB(t, url).InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		seq, err := change.Lock(ctx, tx)
		if err != nil {
			return err
		}
		if _, err := signing.Insert(ctx, tx, key); err != nil {
			return err
		}
		return change.Record(ctx, tx, seq, now, signing.Subject(key.ID))
	})
	if err != nil {
		t.Fatal(err)
	}
	return key.ID
}

// When an emergency rotation has ended, no server signs with an old key, and none
// takes its tokens.
func TestEmergencyRotationOnEveryReplica(t *testing.T) {
	t.Parallel()
	env := onPostgres(schematest.PostgresURL(t))
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	one, two := serveReady(t, env), serveReady(t, env)
	old := wantToken(t, one.url, key)
	p, code := runCommand(t, env, "signing-keys", "rotate", "--emergency", "--yes")
	if code != exitOK || !strings.Contains(p.out.String(), "distrusted  ") || !strings.Contains(p.log.String(), "at most 5m for those that keep to max-age") {
		t.Fatalf("it ended with %d: %s\n%s", code, &p.out, &p.log)
	}
	for _, r := range []*replica{one, two} {
		if a := get(t, r.url+"/api/v1/whoami", old); a.status != http.StatusUnauthorized {
			t.Errorf("a token of the old key: %d", a.status)
		}
		for _, other := range []*replica{one, two} {
			if a := get(t, other.url+"/api/v1/whoami", wantToken(t, r.url, key)); a.status != http.StatusOK {
				t.Errorf("a token of the new key: %d", a.status)
			}
		}
		if kids := len(get(t, r.url+"/.well-known/jwks.json", "").body["keys"].([]any)); kids != 1 {
			t.Errorf("%d keys are published, want the new one", kids)
		}
	}
}
