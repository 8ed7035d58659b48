package endpoint_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// whoami sends a credential in the Authorization header.
func (b *booth) whoami(authorization string, edits ...func(*http.Request)) answer {
	b.Helper()
	return b.get(endpoint.WhoamiPath, append(edits, setHeader("Authorization", authorization))...)
}

// RFC 6750 §2.1, RFC 9110 §11.1.
func TestWhoamiAccepts(t *testing.T) {
	b := newBooth(t, options{})
	token, secret := b.token(b.active), b.active.Secret.Reveal()
	toReports, toBoth := b.token(b.active, "resource", reports), b.token(b.active, "audience", issuer)
	for name, a := range map[string]answer{
		"token":                    b.whoami("Bearer " + token),
		"scheme in another case":   b.whoami("bEaReR " + token),
		"more spaces":              b.whoami("Bearer  " + token),
		"token of another service": b.whoami("Bearer " + toReports),
		"token of the issuer":      b.whoami("Bearer " + toBoth),
		"key":                      b.whoami("Bearer " + secret),
		"key in x-api-key":         b.get(endpoint.WhoamiPath, setHeader("X-Api-Key", secret)),
		"token in x-api-key":       b.get(endpoint.WhoamiPath, setHeader("X-Api-Key", token)),
		"token, and a query":       b.whoami("Bearer "+token, query("access_token=evil")),
	} {
		if a.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.status, a.body)
			continue
		}
		members := a.object(b)
		if members["client_id"] != string(b.active.ID) || members["workspace_id"] != string(b.workspace.ID) || members["workspace"] != "acme" ||
			members["subject"] != b.active.OwnerID() || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	r := httptest.NewRequest(http.MethodHead, endpoint.WhoamiPath, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	if a := b.send(r); a.status != http.StatusOK || a.body != "" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
}

// RFC 6750 §3.1: a request without credentials gets a challenge without an error
// code; credentials in other places are none.
func TestWhoamiWithoutCredentials(t *testing.T) {
	b := newBooth(t, options{})
	token := b.token(b.active)
	for name, a := range map[string]answer{
		"nothing":            b.get(endpoint.WhoamiPath),
		"token in the query": b.get(endpoint.WhoamiPath, query("access_token="+token)),
		"token in a cookie":  b.get(endpoint.WhoamiPath, setHeader("Cookie", "access_token="+token)),
		"Basic":              b.get(endpoint.WhoamiPath, basic(string(b.active.ID), b.active.Secret.Reveal())),
	} {
		if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != `Bearer realm="tokenbooth"` {
			t.Errorf("%s: %d %q", name, a.status, a.header.Get("WWW-Authenticate"))
		}
	}
}

// RFC 6750 §2: one credential per request.
func TestWhoamiWithTwoCredentials(t *testing.T) {
	b := newBooth(t, options{})
	token, secret := "Bearer "+b.token(b.active), b.active.Secret.Reveal()
	for name, a := range map[string]answer{
		"both headers":      b.whoami(token, setHeader("X-Api-Key", secret)),
		"two Authorization": b.get(endpoint.WhoamiPath, setHeader("Authorization", token, token)),
		"two x-api-key":     b.get(endpoint.WhoamiPath, setHeader("X-Api-Key", secret, secret)),
	} {
		if a.status != http.StatusBadRequest || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_request"`) {
			t.Errorf("%s: %d %q", name, a.status, a.header.Get("WWW-Authenticate"))
		}
	}
}

// forger signs tokens with a key that the verifier trusts, so that each differs
// from a good one in one thing alone.
type forger struct {
	private *ecdsa.PrivateKey
	public  jwk.Key
}

func newForger() forger {
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return forger{private, must(jwk.New(&private.PublicKey))}
}

// sign makes a token of the claims with some changed, and a header with some
// changed; nil removes.
func (f forger) sign(good, header, claims map[string]any) string {
	h := map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": f.public.ID}
	payload := maps.Clone(good)
	for members, changes := range map[*map[string]any]map[string]any{&h: header, &payload: claims} {
		for name, value := range changes {
			if (*members)[name] = value; value == nil {
				delete(*members, name)
			}
		}
	}
	text := encodeJSON(h) + "." + encodeJSON(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(must(jwt.SigningMethodES256.Sign(text, f.private)))
}

func encodeJSON(v any) string { return base64.RawURLEncoding.EncodeToString(must(json.Marshal(v))) }

// RFC 6750 §3.1, RFC 9068 §4, RFC 8725 §3: what is no good token.
func TestWhoamiRefusesTokens(t *testing.T) {
	f := newForger()
	b := newBooth(t, options{now: clock(noon), trusted: []jwk.Key{f.public}})
	token := b.token(b.active)
	good := claimsOf(t, token)
	b.whoami("Bearer "+f.sign(good, nil, nil)).want(b, http.StatusOK, "")

	none := encodeJSON(map[string]any{"alg": "none", "typ": "at+jwt"}) + "." + strings.Split(token, ".")[1] + "."
	confused := encodeJSON(map[string]any{"alg": "HS256", "typ": "at+jwt", "kid": f.public.ID}) + "." + strings.Split(token, ".")[1]
	confused += "." + base64.RawURLEncoding.EncodeToString(must(jwt.SigningMethodHS256.Sign(confused, must(f.private.PublicKey.Bytes()))))
	header := func(name string, value any) string { return f.sign(good, map[string]any{name: value}, nil) }
	claim := func(name string, value any) string { return f.sign(good, nil, map[string]any{name: value}) }
	for name, bad := range map[string]string{
		"expired":                 claim("exp", noon.Add(-2*time.Minute).Unix()),
		"no exp":                  claim("exp", nil),
		"exp as text":             claim("exp", "2099"),
		"issued in the future":    claim("iat", noon.Add(time.Hour).Unix()),
		"other issuer":            claim("iss", "https://evil.example"),
		"issuer with a slash":     claim("iss", issuer+"/"),
		"other audience":          claim("aud", "https://evil.example"),
		"audience not of strings": claim("aud", []any{apiURL, 1}),
		"no audience":             claim("aud", nil),
		"no client_id":            claim("client_id", nil),
		"no such key":             claim("client_id", string(b.format.NewID())),
		"older generation":        claim("key_gen", 0),
		"no generation":           claim("ws_gen", nil),
		"typ JWT":                 header("typ", "JWT"),
		"no typ":                  header("typ", nil),
		"unknown kid":             header("kid", "other"),
		"alg noNE":                header("alg", "noNE"),
		"alg ES384":               header("alg", "ES384"),
		"crit":                    header("crit", []string{"x"}),
		"alg none":                none,
		"alg HS256 by public key": confused,
		"signature cut":           token[:len(token)-2],
		"signature of another":    token[:strings.LastIndexByte(token, '.')] + f.sign(good, nil, nil)[strings.LastIndexByte(f.sign(good, nil, nil), '.'):],
		"dots":                    strings.Repeat(".", 5000),
		"not a token":             "abc",
		"malformed key":           b.active.Secret.Reveal()[:60],
		"wrong key":               b.wrong(b.active.ID),
		"nothing":                 "",
	} {
		a := b.whoami("Bearer " + bad)
		if a.status != http.StatusUnauthorized || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), `Bearer realm="tokenbooth", error="invalid_token"`) {
			t.Errorf("%s: %d %q", name, a.status, a.header.Get("WWW-Authenticate"))
		}
		if a.header.Get("Content-Type") != "application/problem+json" || a.object(b)["status"] != 401.0 {
			t.Errorf("%s: %s", name, a.body)
		}
	}
}

// A token is denied as soon as what it stands for is: its key, its owner, its
// workspace.
func TestWhoamiDeniesRevokedTokens(t *testing.T) {
	b := newBooth(t, options{})
	ws := must(b.manager.CreateWorkspace(b.Context(), operator, "Other", ""))
	revoked, disabled, suspended := b.key(nil), b.key(nil), b.keyOf(b.manager, ws.ID, nil)
	tokens := map[string]string{"key": b.token(revoked), "owner": b.token(disabled), "workspace": b.token(suspended), "none": b.token(b.active)}
	for of, token := range tokens {
		if a := b.whoami("Bearer " + token); a.status != http.StatusOK {
			t.Fatalf("%s, before: %d %s", of, a.status, a.body)
		}
	}
	b.check(b.manager.RevokeKey(b.Context(), operator, b.workspace.ID, revoked.ID, "a test"))
	b.check(b.manager.DisableServiceAccount(b.Context(), operator, b.workspace.ID, disabled.ServiceAccountID))
	b.check(b.manager.SuspendWorkspace(b.Context(), operator, ws.ID))
	for of, token := range tokens {
		a := b.whoami("Bearer " + token)
		if want := map[bool]int{true: 200, false: 401}[of == "none"]; a.status != want {
			t.Errorf("%s, after: %d %s", of, a.status, a.body)
		}
	}
}
