package main

import (
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// buildConsumer builds a program of testdata/consumers that is a module of its own.
func buildConsumer(t *testing.T, module, program string) (built string) {
	t.Helper()
	built = filepath.Join(t.TempDir(), module)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", built, program)
	build.Dir = filepath.Join("testdata", "consumers", module)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s does not compile: %v\n%s", module, err, out)
	}
	return built
}

// tlsFront is a server for https in front of the one with that URL, as its issuer's
// address has to be. What it answers with may be kept for no time, since Kubernetes
// does not look for unknown keys before max-age is over. It returns the certificate of
// its CA.
func tlsFront(t *testing.T, address, behind string) (ca string) {
	t.Helper()
	target, err := url.Parse(behind)
	check(t, err)
	listener, err := net.Listen("tcp", address)
	check(t, err)
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Cache-Control", "max-age=0")
			return nil
		},
	})
	_ = front.Listener.Close() // it has one of its own
	front.Listener = listener
	front.StartTLS()
	t.Cleanup(front.Close)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}))
}

// Kubernetes's own code takes the page's file, and with it the tokens that it should
// take and no others.
func TestKubernetesPage(t *testing.T) {
	t.Parallel()
	page := readConsumerPage(t, "kubernetes")
	address := freeAddress(t)
	issuer := "https://" + address
	config := filepath.Join(t.TempDir(), "tokenbooth.yaml")
	check(t, os.WriteFile(config, []byte(page.audiences(t)), 0o600))
	env := onSQLite(t.TempDir(), "TOKENBOOTH_ISSUER="+issuer, "TOKENBOOTH_CONFIG="+config)
	made := bootstrapped(t, env, append(bootstrapArgs("Platform", "ci"), "--scope", "collectors:read", "--scope", "collectors:create")...)
	server := serveReady(t, env)
	ca := tlsFront(t, address, server.url)

	workspace := claims(t, wantToken(t, server.url, made.key()))["workspace_id"].(string)
	start := func(workspace string) judge {
		t.Helper()
		authority := "url: " + issuer + "\n      certificateAuthority: |\n        " + strings.ReplaceAll(strings.TrimSpace(ca), "\n", "\n        ")
		directory := page.write(t, strings.NewReplacer("url: "+pageIssuer, authority, "ws_06h0af3bbdt4f1r344y8dv2axm", workspace))
		ask, _ := converse(t, nil, buildConsumer(t, "kubernetes", "."), filepath.Join(directory, "authentication.yaml"))
		return func(token string) (string, error) {
			v := ask(token)
			if !v.OK {
				return "", errors.New(v.Error)
			}
			return v.Subject, nil
		}
	}
	decide := start(workspace)
	good := wantToken(t, server.url, made.key())
	if user, err := decide(good); err != nil || user != "tokenbooth:"+claims(t, good)["sub"].(string)+" tokenbooth:collectors:create tokenbooth:collectors:read" {
		t.Fatalf("Kubernetes takes a good token for %q: %v", user, err)
	}
	if user, err := decide(wantTokenFor(t, server.url, made.key(), "", "urn:other")); err == nil {
		t.Errorf("it takes a token for another audience, of %s", user)
	}
	for what, forged := range forgeries(t, good, publishedKey(t, server.url, good)) {
		if user, err := decide(forged); err == nil {
			t.Errorf("it takes a token with %s, of %s", what, user)
		}
	}
	if _, err := start("ws_another")(good); err == nil || !strings.Contains(err.Error(), "for the workspace Platform only") {
		t.Errorf("of another workspace: %v", err)
	}
	if p, code := runCommand(t, env, "signing-keys", "rotate", "--emergency", "--yes"); code != exitOK {
		t.Fatalf("the emergency rotation ended with %d: %s", code, &p.log)
	}
	if _, err := decide(wantToken(t, server.url, made.key())); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	if _, err := decide(good); err == nil {
		t.Error("it takes a token of a distrusted key")
	}
	if a := get(t, server.url+"/api/v1/whoami", good); a.status != http.StatusUnauthorized {
		t.Errorf("whoami takes a token of a distrusted key: %d", a.status)
	}
}
