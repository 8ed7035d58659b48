package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/httprc/v3"
	xjwk "github.com/lestrrat-go/jwx/v3/jwk"
	xjwt "github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/bearer/bearertest"
)

// The verifiers of other projects judge our tokens, as their users would use
// them.

// judge returns the subject of a good token, or why another one is refused.
type judge func(token string) (subject string, err error)

// resourceServer is what a judge knows of the service and of itself.
type resourceServer struct{ issuer, audience, algorithm string }

func (s resourceServer) jwks() string { return s.issuer + "/.well-known/jwks.json" }

// consumers make judges. Those that know an algorithm only are named for it.
var consumers = []struct {
	name       string
	algorithms string
	make       func(t *testing.T, s resourceServer) judge
}{
	{"oauth/bearer", "ES256 RS256 EdDSA", ours},
	{"go-oidc", "ES256 RS256 EdDSA", goOIDC},
	{"jwx", "ES256 RS256 EdDSA", jwx},
	{"keyfunc", "ES256 RS256 EdDSA", keyFunc},
	{"jose", "ES256 RS256 EdDSA", func(t *testing.T, s resourceServer) judge { return asked(t, s, "node", "node/jose.js") }},
	{"express-oauth2-jwt-bearer", "ES256 RS256", express},
	{"pyjwt", "ES256 RS256 EdDSA", func(t *testing.T, s resourceServer) judge { return asked(t, s, python, "python/judge.py", "pyjwt") }},
	{"authlib", "ES256 RS256 EdDSA", func(t *testing.T, s resourceServer) judge {
		return asked(t, s, python, "python/judge.py", "authlib")
	}},
}

// python is Debian's, for which make deps installs the libraries.
const python = "/usr/bin/python3"

func ours(t *testing.T, s resourceServer) judge {
	t.Helper()
	v, err := bearer.New(bearer.Config{Issuer: s.issuer, Audience: s.audience})
	if err != nil {
		t.Fatal(err)
	}
	return func(token string) (string, error) {
		claims, err := v.Verify(context.Background(), token)
		if err != nil {
			return "", err
		}
		return claims.Subject, nil
	}
}

func goOIDC(t *testing.T, s resourceServer) judge {
	t.Helper()
	provider, err := oidc.NewProvider(context.Background(), s.issuer)
	if err != nil {
		t.Fatal(err)
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: s.audience})
	return func(token string) (string, error) {
		verified, err := verifier.Verify(context.Background(), token)
		if err != nil {
			return "", err
		}
		return verified.Subject, nil
	}
}

func jwx(t *testing.T, s resourceServer) judge {
	t.Helper()
	cache, err := xjwk.NewCache(context.Background(), httprc.NewClient())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cache.Shutdown(context.Background()) })
	if err := cache.Register(context.Background(), s.jwks()); err != nil {
		t.Fatal(err)
	}
	keys, err := cache.CachedSet(s.jwks())
	if err != nil {
		t.Fatal(err)
	}
	parse := func(token string) (string, error) {
		parsed, err := xjwt.Parse([]byte(token), xjwt.WithKeySet(keys), xjwt.WithIssuer(s.issuer), xjwt.WithAudience(s.audience), xjwt.WithRequiredClaim("exp"))
		if err != nil {
			return "", err
		}
		subject, _ := parsed.Subject()
		return subject, nil
	}
	return func(token string) (string, error) {
		subject, err := parse(token)
		if err != nil { // its cache does not look for unknown keys by itself
			if _, err := cache.Refresh(context.Background(), s.jwks()); err != nil {
				return "", err
			}
			return parse(token)
		}
		return subject, nil
	}
}

func keyFunc(t *testing.T, s resourceServer) judge {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	keys, err := keyfunc.NewDefaultCtx(ctx, []string{s.jwks()})
	if err != nil {
		t.Fatal(err)
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{s.algorithm}), jwt.WithIssuer(s.issuer), jwt.WithAudience(s.audience), jwt.WithExpirationRequired())
	return func(token string) (string, error) {
		parsed, err := parser.Parse(token, keys.Keyfunc)
		if err != nil {
			return "", err
		}
		return parsed.Claims.GetSubject()
	}
}

// verdict is what a consumer in another language says.
type verdict struct {
	OK      bool
	Subject string
	Error   string
	URL     string
}

// script runs a consumer in another language until the test ends.
func script(t *testing.T, s resourceServer, command ...string) (ask func(string) verdict, first func() verdict) {
	t.Helper()
	command[1] = filepath.Join("testdata", "consumers", command[1])
	return converse(t, []string{"ISSUER=" + s.issuer, "AUDIENCE=" + s.audience, "ALGORITHM=" + s.algorithm}, command...)
}

// converse runs a command that reads tokens and writes verdicts until the test ends.
func converse(t *testing.T, env []string, command ...string) (ask func(string) verdict, first func() verdict) {
	t.Helper()
	path, err := exec.LookPath(command[0])
	if err != nil {
		t.Fatalf("%v: `make deps` installs it", err)
	}
	child := exec.Command(path, command[1:]...)
	child.Env = append(os.Environ(), env...)
	var problems output
	child.Stderr = &problems
	in, errIn := child.StdinPipe()
	out, errOut := child.StdoutPipe()
	if err := errors.Join(errIn, errOut, child.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := child.Wait(); err != nil {
			t.Errorf("%v: %v\n%s", command, err, &problems)
		}
	})
	lines := bufio.NewScanner(out)
	first = func() (v verdict) {
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &v) != nil {
			t.Fatalf("%v says %q and\n%s\n(`make deps` installs what it needs)", command, lines.Text(), &problems)
		}
		return v
	}
	ask = func(token string) verdict {
		if err := json.NewEncoder(in).Encode(map[string]string{"token": token}); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, &problems)
		}
		return first()
	}
	return ask, first
}

// asked is a consumer that reads tokens and writes verdicts.
func asked(t *testing.T, s resourceServer, command ...string) judge {
	t.Helper()
	ask, _ := script(t, s, command...)
	return func(token string) (string, error) {
		v := ask(token)
		if !v.OK {
			return "", errors.New(v.Error)
		}
		return v.Subject, nil
	}
}

// express is a consumer that is a service itself.
func express(t *testing.T, s resourceServer) judge {
	t.Helper()
	_, first := script(t, s, "node", "node/express.js")
	url := first().URL
	ask := func(path, token string) (int, verdict) {
		request, err := http.NewRequest(http.MethodGet, url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		var v verdict
		if err := errors.Join(err, json.Unmarshal(text, &v)); err != nil {
			t.Fatalf("%s: %d %s", path, response.StatusCode, text)
		}
		return response.StatusCode, v
	}
	return func(token string) (string, error) {
		status, v := ask("/", token)
		if status != http.StatusOK {
			if status != http.StatusUnauthorized {
				t.Errorf("it refuses a token with %d", status)
			}
			return "", errors.New(v.Error)
		}
		if read, _ := ask("/read", token); read != http.StatusOK {
			t.Errorf("a route whose scope the token has: %d", read)
		}
		if del, _ := ask("/delete", token); del != http.StatusForbidden {
			t.Errorf("a route whose scope the token lacks: %d", del)
		}
		return v.Subject, nil
	}
}

// forgeries are tokens that nobody may take: changes to a good one.
func forgeries(t *testing.T, good string, key jwk.Key) map[string]string {
	t.Helper()
	parts := strings.Split(good, ".")
	header, payload, signature := parts[0], parts[1], parts[2]
	member := func(part, old, replacement string) string {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || !strings.Contains(string(text), old) {
			t.Fatalf("there is no %s in %s", old, text)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(text), old, replacement, 1)))
	}
	public, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	hmac := func(secret []byte) string {
		input := member(header, `"alg":"`+key.Algorithm+`"`, `"alg":"HS256"`) + "." + payload
		signed, err := jwt.SigningMethodHS256.Sign(input, secret)
		if err != nil {
			t.Fatal(err)
		}
		return input + "." + base64.RawURLEncoding.EncodeToString(signed)
	}
	thief := bearertest.NewIssuer(t, "x")
	thief.RotateTo(key.Algorithm)
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	swapped := signature[:len(signature)/2] + strings.Repeat("A", len(signature)-len(signature)/2)
	return map[string]string{
		"a changed payload":           header + "." + member(payload, `"sub":"sa_`, `"sub":"sb_`) + "." + signature,
		"a changed signature":         header + "." + payload + "." + swapped,
		"no signature":                header + "." + payload + ".",
		"alg none":                    member(header, `"alg":"`+key.Algorithm+`"`, `"alg":"none"`) + "." + payload + ".",
		"HS256 with the public key":   hmac(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"HS256 with its DER":          hmac(der),
		"another key under our kid":   thief.Sign(map[string]any{"kid": key.ID}, text),
		"another key that it brings":  thief.Sign(map[string]any{"kid": key.ID, "jwk": map[string]string{"kty": "EC"}}, text),
		"no token at all":             "hello",
		"a token with a part too few": header + "." + payload,
	}
}

// Each consumer takes our tokens and no forged ones, for each algorithm that it
// knows, and goes on when the keys are replaced under it.
func TestConsumers(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	issuer := "http://" + address
	env := onSQLite(t.TempDir(), "TOKENBOOTH_ISSUER="+issuer, "TOKENBOOTH_LISTEN="+address, `TOKENBOOTH_CATALOGUE_RESOURCES={collectors: [read, delete]}`,
		`TOKENBOOTH_AUDIENCES_SERVERS=[{audience: "urn:ES256"}, {audience: "urn:RS256", algorithm: RS256}, {audience: "urn:EdDSA", algorithm: EdDSA}, {audience: "urn:other"}]`)
	key := bootstrapped(t, env, append(bootstrapArgs("Payments", "ci"), "--scope", "collectors:read")...).key()
	serveReady(t, env)
	token := func(audience string) string {
		t.Helper()
		form := key.form()
		form.Set("audience", audience)
		request, err := http.NewRequest(http.MethodPost, issuer+"/api/login", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		a := send(t, request)
		if a.status != http.StatusOK {
			t.Fatalf("no token for %s: %+v", audience, a)
		}
		return a.text("access_token")
	}

	type longRunning struct {
		judge
		audience string
	}
	judges := map[string]longRunning{}
	for _, c := range consumers {
		for _, algorithm := range strings.Fields(c.algorithms) {
			s := resourceServer{issuer, "urn:" + algorithm, algorithm}
			t.Run(c.name+"/"+algorithm, func(t *testing.T) {
				decide := c.make(t, s)
				wantTaken(t, decide, token(s.audience))
				if _, err := decide(token("urn:other")); err == nil {
					t.Error("it takes a token for another audience")
				}
				for what, forged := range forgeries(t, token(s.audience), publishedKey(t, issuer, token(s.audience))) {
					if subject, err := decide(forged); err == nil {
						t.Errorf("it takes a token with %s, of %s", what, subject)
					}
				}
			})
			running := c.make(t, s)
			wantTaken(t, running, token(s.audience))
			judges[c.name+"/"+algorithm] = longRunning{running, s.audience}
		}
	}

	old := token("urn:ES256")
	p, code := runCommand(t, env, "signing-keys", "rotate", "--emergency", "--yes")
	if code != exitOK {
		t.Fatalf("the emergency rotation ended with %d: %s", code, &p.log)
	}
	for name, j := range judges {
		t.Run(name+" after a rotation", func(t *testing.T) { wantTaken(t, j.judge, token(j.audience)) })
	}
	if a := get(t, issuer+"/api/v1/whoami", old); a.status != http.StatusUnauthorized {
		t.Errorf("whoami takes a token of a distrusted key: %d", a.status)
	}
}

func wantTaken(t *testing.T, decide judge, token string) {
	t.Helper()
	if subject, err := decide(token); err != nil || subject != claims(t, token)["sub"] {
		t.Errorf("it refuses a good token: %q, %v", subject, err)
	}
}

// freeAddress is one that nobody listens on: the issuer has to be known before the
// server is.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// publishedKey is the key that a token was signed with.
func publishedKey(t *testing.T, base, token string) jwk.Key {
	t.Helper()
	response, err := client.Get(base + "/.well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	document, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	set, err := jwk.ParseSet(document)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	var header struct{ Kid string }
	_ = json.Unmarshal(text, &header) // else no key is found
	for _, k := range set.Keys {
		if k.ID == header.Kid {
			return k
		}
	}
	t.Fatal(fmt.Errorf("the key %s is not published", header.Kid))
	return jwk.Key{}
}
