// Package bearertest gives tests of resource servers an issuer of their own: real
// keys, real tokens and a real JWKS on a loopback port, gone when the test ends.
//
//	issuer := bearertest.NewIssuer(t, "https://api.example.com")
//	protected := issuer.Verifier().Require("charts:read")(handler)
//	token := issuer.Token(func(c *oauth.Claims) { c.Scope = oauth.NewScope("charts:read") })
//
// A service that makes its verifier by itself is given issuer.URL() and the
// audience. Rotate and Forget play what happens to keys, Stop and Start what
// happens to the network, Sign makes what no issuer would.
//
// The issuer publishes a feed of revocations as well. Revoke adds one to it,
// StaleFeed and StopFeed play an issuer that cannot vouch for it.
//
//	feed := issuer.Feed()
//	verifier, err := bearer.New(bearer.Config{Issuer: issuer.URL(), Audience: audience, Revocations: feed})
//	…
//	issuer.Revoke(oauth.RevocableKey, "tbk_test", 2)
//	err = feed.Refresh(t.Context()) // or feed.Run in the background, and a moment
package bearertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// Issuer issues tokens that a bearer.Verifier takes. Whatever goes wrong in it
// fails the test. It is safe for concurrent use.
type Issuer struct {
	t        testing.TB
	audience string
	address  string

	mu        sync.Mutex
	server    *httptest.Server // nil: stopped
	active    key
	published []jwk.Key
	issued    int
	fetches   int
	feed      feed
}

type key struct {
	private crypto.Signer
	public  jwk.Key
}

// NewIssuer starts an issuer, with an ES256 key, of tokens for an audience.
func NewIssuer(t testing.TB, audience string) *Issuer {
	t.Helper()
	i := &Issuer{t: t, audience: audience, feed: newFeed()}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	i.check(err)
	i.address = listener.Addr().String()
	i.Rotate()
	i.feed.key = i.newKey(jwk.ES256)
	i.listen(listener)
	t.Cleanup(i.Stop)
	return i
}

// URL is the iss of the tokens, below which metadata and keys are published.
func (i *Issuer) URL() string { return "http://" + i.address }

// Verifier makes a verifier of the issuer's tokens.
func (i *Issuer) Verifier() *bearer.Verifier {
	i.t.Helper()
	v, err := bearer.New(bearer.Config{Issuer: i.URL(), Audience: i.audience})
	i.check(err)
	return v
}

// Token issues a token that is good for ten minutes, for a service account of a
// workspace, without scopes, after edit has changed what the test is about.
func (i *Issuer) Token(edit ...func(*oauth.Claims)) string {
	i.t.Helper()
	i.mu.Lock()
	i.issued++
	id := fmt.Sprintf("token-%d", i.issued)
	i.mu.Unlock()
	now := time.Now().Unix()
	claims := oauth.Claims{
		Issuer: i.URL(), Subject: "sa_test", Audience: oauth.Audience{i.audience}, ClientID: "tbk_test",
		IssuedAt: now, Expiry: now + 600, ID: id, WorkspaceID: "ws_test", Workspace: "test",
		KeyGeneration: 1, SubjectGeneration: 1, WorkspaceGeneration: 1,
	}
	for _, change := range edit {
		change(&claims)
	}
	payload, err := json.Marshal(claims)
	i.check(err)
	return i.Sign(nil, payload)
}

// Sign signs any payload. Members of header replace those of a good header; nil
// takes one out.
func (i *Issuer) Sign(header map[string]any, payload []byte) string {
	i.t.Helper()
	i.mu.Lock()
	active := i.active
	i.mu.Unlock()
	return i.sign(active, oauth.AccessTokenType, header, payload)
}

func (i *Issuer) sign(active key, typ string, header map[string]any, payload []byte) string {
	i.t.Helper()
	members := map[string]any{"alg": active.public.Algorithm, "kid": active.public.ID, "typ": typ}
	maps.Copy(members, header)
	maps.DeleteFunc(members, func(_ string, value any) bool { return value == nil })
	head, err := json.Marshal(members)
	i.check(err)
	input := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := jwt.GetSigningMethod(active.public.Algorithm).Sign(input, active.private)
	i.check(err)
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// Rotate lets a new ES256 key sign from now on; the ones before stay published.
func (i *Issuer) Rotate() {
	i.t.Helper()
	i.RotateTo(jwk.ES256)
}

// RotateTo is Rotate with a key of another algorithm: jwk.ES256, jwk.RS256 or
// jwk.EdDSA.
func (i *Issuer) RotateTo(algorithm string) {
	i.t.Helper()
	active := i.newKey(algorithm)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.active = active
	i.published = append(i.published, active.public)
}

func (i *Issuer) newKey(algorithm string) key {
	i.t.Helper()
	private, err := generate(algorithm)
	i.check(err)
	public, err := jwk.New(private.Public())
	i.check(err)
	return key{private, public}
}

func generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case jwk.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jwk.RS256:
		return rsa.GenerateKey(rand.Reader, jwk.MinRSABits)
	case jwk.EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("there are no tokens with the algorithm %q", algorithm)
}

// Forget publishes the key that signs alone: tokens of the ones before are not
// good any more, for whoever fetches the keys.
func (i *Issuer) Forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.published = []jwk.Key{i.active.public}
}

// Keys are what is published now, for bearer.ParseKeys and other verifiers.
func (i *Issuer) Keys() []byte {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	document, err := json.Marshal(jwk.Set{Keys: i.published})
	i.check(err)
	return document
}

// Stop makes the issuer unreachable. Tokens can still be issued.
func (i *Issuer) Stop() {
	i.mu.Lock()
	server := i.server
	i.server = nil
	i.feed.wake() // or it waits for those who wait
	i.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
		server.Close()
	}
}

// Start makes a stopped issuer reachable again, at the same address.
func (i *Issuer) Start() {
	i.t.Helper()
	listener, err := net.Listen("tcp", i.address)
	i.check(err)
	i.listen(listener)
}

func (i *Issuer) listen(listener net.Listener) {
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(i.serve), ReadHeaderTimeout: time.Minute}}
	server.Start()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.server = server
}

// Fetches is how often the keys were asked for.
func (i *Issuer) Fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

const keysPath = "/.well-known/jwks.json"

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case oauth.FeedPath:
		i.serveFeed(w, r)
	case oauth.FeedKeysPath:
		_, _ = w.Write(i.FeedKeys()) // the client is gone if this fails
	case keysPath:
		i.mu.Lock()
		i.fetches++
		i.mu.Unlock()
		_, _ = w.Write(i.Keys()) // the client is gone if this fails
	case "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server":
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": i.URL(), "jwks_uri": i.URL() + keysPath, "response_types_supported": []string{},
			"id_token_signing_alg_values_supported": []string{jwk.ES256, jwk.RS256, jwk.EdDSA},
		})
	default:
		http.NotFound(w, r)
	}
}

func (i *Issuer) check(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatalf("bearertest: %v", err)
	}
}
