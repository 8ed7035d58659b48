package endpoint_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

func narrowed() oauth.Scope { return oauth.NewScope("collectors:read") }

const (
	serverMetadata = "/.well-known/oauth-authorization-server"
	openIDMetadata = "/.well-known/openid-configuration"
)

// RFC 8414 §2: what a client needs, and nothing that is not offered.
func TestMetadata(t *testing.T) {
	b := newBooth(t, options{})
	document := b.get(serverMetadata).want(b, http.StatusOK, "")
	if openID := b.get(openIDMetadata); openID.body != document.body {
		t.Error("the two documents differ")
	}
	members := document.object(b)
	for name, want := range map[string]any{
		"issuer": issuer, "token_endpoint": issuer + "/api/login", "jwks_uri": issuer + "/.well-known/jwks.json",
		"grant_types_supported":                 []string{"client_credentials"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
		"response_types_supported":              []string{},
		"id_token_signing_alg_values_supported": []string{"ES256"},

		"revocation_endpoint":                           issuer + "/api/revoke",
		"revocation_endpoint_auth_methods_supported":    []string{"client_secret_post", "client_secret_basic"},
		"introspection_endpoint":                        issuer + "/api/introspect",
		"introspection_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
		"tokenbooth_revocation_feed":                    issuer + "/.well-known/revocations",
		"tokenbooth_revocation_feed_keys":               issuer + "/.well-known/revocations/keys",
	} {
		if !equalJSON(members[name], want) {
			t.Errorf("%s is %v, want %v", name, members[name], want)
		}
	}
	for name := range members {
		for _, absent := range []string{"authorization_endpoint", "registration", "dpop", "tls", "token_endpoint_auth_signing"} {
			if strings.Contains(name, absent) {
				t.Errorf("the metadata offers %s", name)
			}
		}
	}
	if regexp.MustCompile(`"(none|HS\d+)"`).MatchString(document.body) {
		t.Error("the metadata lists an algorithm without a public key")
	}
}

// RFC 8414 §3.1: with a path in the issuer, the well-known part comes before it;
// OpenID discovery appends.
func TestMetadataOfIssuerWithPath(t *testing.T) {
	const pathIssuer = "https://login.example.com/tenants/a"
	b := newBooth(t, options{issuer: pathIssuer})
	for _, path := range []string{serverMetadata + "/tenants/a", "/tenants/a" + openIDMetadata} {
		if got := b.get(path).want(b, http.StatusOK, "").object(b)["issuer"]; got != pathIssuer {
			t.Errorf("%s: issuer is %v", path, got)
		}
	}
	for _, path := range []string{serverMetadata, openIDMetadata, endpoint.JWKSPath, endpoint.LoginPath} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		recorder := httptest.NewRecorder()
		if b.ServeHTTP(recorder, r); recorder.Code != http.StatusNotFound {
			t.Errorf("%s: status %d", path, recorder.Code)
		}
	}
	b.get("/tenants/a"+endpoint.JWKSPath).want(b, http.StatusOK, "")
	r := httptest.NewRequest(http.MethodPost, "/tenants/a"+endpoint.LoginPath, strings.NewReader(formOf(b.active).Encode()))
	r.Header.Set("Content-Type", formType)
	a := b.send(r).want(b, http.StatusOK, "")
	if claims := claimsOf(t, a.object(b)["access_token"].(string)); claims["iss"] != pathIssuer {
		t.Errorf("iss is %v", claims["iss"])
	}
}

// RFC 7517 §4, §5; RFC 7638.
func TestJWKS(t *testing.T) {
	b := newBooth(t, options{})
	a := b.get(endpoint.JWKSPath).want(b, http.StatusOK, "")
	if got := a.header.Get("Content-Type"); got != "application/jwk-set+json" {
		t.Errorf("Content-Type is %q", got)
	}
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	b.check(json.Unmarshal([]byte(a.body), &set))
	seen := map[string]bool{}
	for i, k := range set.Keys {
		if k["kty"] != "EC" || k["alg"] != "ES256" || k["crv"] != "P-256" || k["use"] != "sig" || seen[k["kid"]] {
			t.Errorf("key %d is %v", i, k)
		}
		seen[k["kid"]] = true
		if published := must(b.ring.Published()).Keys[i]; k["kid"] != published.Thumbprint() {
			t.Errorf("kid %s is not the thumbprint", k["kid"])
		}
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
			if _, present := k[private]; present {
				t.Errorf("key %d has the private member %s", i, private)
			}
		}
	}
	if len(set.Keys) == 0 {
		t.Error("there is no key")
	}
}

// RFC 9111 §5.2, RFC 9110 §8.8, §13.1.2: anyone may keep the documents for five
// minutes, and is told cheaply that they are the same.
func TestDocumentsAreCacheable(t *testing.T) {
	b := newBooth(t, options{})
	for _, path := range []string{serverMetadata, openIDMetadata, endpoint.JWKSPath} {
		full := b.get(path, setHeader("Cookie", "a=b"), setHeader("Origin", "https://app.example")).want(b, http.StatusOK, "")
		tag := full.header.Get("ETag")
		if full.header.Get("Cache-Control") != "public, max-age=300" || !regexp.MustCompile(`^"[A-Za-z0-9_-]+"$`).MatchString(tag) {
			t.Errorf("%s: the header is %v", path, full.header)
		}
		if full.header.Get("Access-Control-Allow-Origin") != "*" || full.header.Get("Access-Control-Allow-Credentials") != "" || full.header.Get("Vary") != "" {
			t.Errorf("%s: the header is %v", path, full.header)
		}
		for _, match := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
			a := b.get(path, setHeader("If-None-Match", match))
			if a.status != http.StatusNotModified || a.body != "" || a.header.Get("ETag") != tag || a.header.Get("Cache-Control") == "" {
				t.Errorf("%s, If-None-Match %s: %d %v %q", path, match, a.status, a.header, a.body)
			}
		}
		b.get(path, setHeader("If-None-Match", `"other"`)).want(b, http.StatusOK, "")
		r := httptest.NewRequest(http.MethodHead, path, nil)
		if head := b.send(r); head.status != http.StatusOK || head.body != "" || head.header.Get("ETag") != tag {
			t.Errorf("HEAD %s: %d %v", path, head.status, head.header)
		}
	}
}

// Fetch §3.2: other origins may read what is public and nothing else.
func TestOtherOrigins(t *testing.T) {
	b := newBooth(t, options{})
	origin := setHeader("Origin", "https://app.example")
	for _, a := range []answer{b.login(formOf(b.active), origin), b.login(formOf(b.revoked()), origin), b.get(endpoint.WhoamiPath, origin)} {
		if slices.ContainsFunc(headerNames(a), func(name string) bool { return strings.HasPrefix(name, "Access-Control-") }) {
			t.Errorf("the header is %v", a.header)
		}
	}
}

func headerNames(a answer) []string {
	var names []string
	for name := range a.header {
		names = append(names, name)
	}
	return names
}
