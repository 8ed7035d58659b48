package endpoint_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const editorScope = "collectors:create collectors:read collectors:update pipelines:read pipelines:update"

// RFC 6749 §5.1.
func TestSuccessfulResponse(t *testing.T) {
	b := newBooth(t, options{})
	a := b.login(formOf(b.active)).want(b, http.StatusOK, "")
	var members map[string]json.RawMessage
	b.check(json.Unmarshal([]byte(a.body), &members))
	for name, want := range map[string]string{"token_type": `"Bearer"`, "expires_in": "600", "scope": `"` + editorScope + `"`} {
		if got := string(members[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if _, present := members["refresh_token"]; present { // §4.4.3
		t.Error("there is a refresh token")
	}
	if a.header.Get("Pragma") != "no-cache" {
		t.Error("Pragma: no-cache is missing")
	}
}

// The ways in which clients write the same request.
func TestAcceptedSpellings(t *testing.T) {
	b := newBooth(t, options{})
	id, secret := string(b.active.ID), b.active.Secret.Reveal()
	raw := "grant_type=client_credentials&client_id=" + id + "&client_secret=" + secret
	escaped := "grant_type=client_credentials&client_id=" + percent(id) + "&client_secret=" + percent(secret)
	grantOnly := "grant_type=client_credentials"
	for name, a := range map[string]answer{
		"unencoded":                   b.post(formType, raw),
		"percent-encoded throughout":  b.post(formType, escaped),
		"charset":                     b.post(formType+"; charset=UTF-8", raw),
		"media type in upper case":    b.post(strings.ToUpper(formType), raw),
		"line end after the secret":   b.post(formType, raw+"%0A"),
		"unknown parameter":           b.post(formType, raw+"&foo=bar"),
		"unknown parameter, empty":    b.post(formType, raw+"&foo"),
		"empty scope":                 b.post(formType, raw+"&scope="),
		"empty parameters":            b.post(formType, raw+"&resource=&audience=&client_assertion="),
		"basic":                       b.post(formType, grantOnly, basic(id, secret)),
		"basic, encoded":              b.post(formType, grantOnly, setHeader("Authorization", "Basic "+encode(percent(id)+":"+percent(secret)))),
		"basic and the same client":   b.post(formType, grantOnly+"&client_id="+id, basic(id, secret)),
		"basic with an empty secret":  b.post(formType, grantOnly+"&client_secret=", basic(id, secret)),
		"identity content coding":     b.post(formType, raw, setHeader("Content-Encoding", "identity")),
		"Accept of something else":    b.post(formType, raw, setHeader("Accept", "text/html")),
		"JSON":                        b.post("application/json", `{"client_id":"`+id+`","client_secret":"`+secret+`","grant_type":"client_credentials"}`),
		"JSON with null":              b.post("application/json", `{"clientId":"`+id+`","clientSecret":"`+secret+`","scope":null}`),
		"JSON with an unknown object": b.post("application/json; charset=utf-8", `{"clientId":"`+id+`","clientSecret":"`+secret+`","x":{"y":[1]}}`),
	} {
		if a.status != http.StatusOK {
			t.Errorf("%s: status %d: %s", name, a.status, a.body)
		}
	}
}

// percent encodes every byte.
func percent(s string) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		out.WriteString(strings.ToUpper("%" + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15])))
	}
	return out.String()
}

// RFC 6749 §3.3: the response says what was issued, and it is never more than
// what was asked for.
func TestScope(t *testing.T) {
	b := newBooth(t, options{})
	for asked, want := range map[string]string{
		"":                                   editorScope,
		"collectors:read":                    "collectors:read",
		"pipelines:read collectors:read":     "collectors:read pipelines:read",
		"collectors:read collectors:read":    "collectors:read",
		editorScope:                          editorScope,
		"collectors:create pipelines:update": "collectors:create pipelines:update",
	} {
		a := b.login(formOf(b.active, "scope", asked)).want(b, http.StatusOK, "")
		claims := claimsOf(t, a.object(b)["access_token"].(string))
		if got := a.object(b)["scope"]; got != want || claims["scope"] != want {
			t.Errorf("asked for %q: the response says %q, the token %q, want %q", asked, got, claims["scope"], want)
		}
	}
	narrow := oauth.NewScope("collectors:read", "collectors:update")
	k := b.key(func(n *manage.NewKey) { n.Scopes = &narrow })
	b.login(formOf(k, "scope", "collectors:create")).want(b, http.StatusBadRequest, "invalid_scope")
}

// RFC 8707 §2: resources choose the audiences, and a token carries only their
// scopes.
func TestResource(t *testing.T) {
	b := newBooth(t, options{})
	reportsScope := "collectors:create collectors:read collectors:update"
	for _, test := range []struct {
		parameter string
		values    []string
		audience  any
		scope     string
	}{
		{"resource", nil, apiURL, editorScope},
		{"resource", []string{reports}, reports, reportsScope},
		{"audience", []string{reports}, reports, reportsScope},
		{"resource", []string{apiURL, reports}, []any{apiURL, reports}, editorScope},
		{"resource", []string{reports, reports}, reports, reportsScope},
		{"resource", []string{issuer}, issuer, editorScope},
	} {
		values := formOf(b.active)
		values[test.parameter] = test.values
		claims := claimsOf(t, b.login(values).want(b, http.StatusOK, "").object(b)["access_token"].(string))
		if !equalJSON(claims["aud"], test.audience) || claims["scope"] != test.scope {
			t.Errorf("%s %v: aud %v with scope %v, want %v with %q", test.parameter, test.values, claims["aud"], claims["scope"], test.audience, test.scope)
		}
	}
	k := b.key(func(n *manage.NewKey) { n.Audiences = []string{reports} })
	if claims := claimsOf(t, b.token(k)); claims["aud"] != reports {
		t.Errorf("the default of a key is its first audience: got %v", claims["aud"])
	}
	b.login(formOf(k, "resource", apiURL)).want(b, http.StatusBadRequest, "invalid_target")
}

func equalJSON(a, b any) bool {
	return string(must(json.Marshal(a))) == string(must(json.Marshal(b)))
}

// Every token is another one, also when they are asked for at once.
func TestParallelRequests(t *testing.T) {
	b := newBooth(t, options{})
	const n = 50
	tokens := make([]string, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { tokens[i] = b.token(b.active) })
	}
	group.Wait()
	ids := map[any]bool{}
	for _, token := range tokens {
		ids[claimsOf(t, token)["jti"]] = true
	}
	if len(ids) != n {
		t.Errorf("%d tokens have %d distinct jti", n, len(ids))
	}
}

// A token lives as long as its key says, never past the key's own end.
func TestLifetime(t *testing.T) {
	b := newBooth(t, options{now: clock(noon)})
	ends := func(in time.Duration) func(*manage.NewKey) {
		return func(n *manage.NewKey) { n.ExpiresAt = noon.Add(in) }
	}
	for want, change := range map[int64]func(*manage.NewKey){
		600: nil,
		90:  func(n *manage.NewKey) { n.TokenTTL = 90 * time.Second },
		20:  ends(20 * time.Second),
		61:  ends(61*time.Second + 900*time.Millisecond),
	} {
		a := b.login(formOf(b.key(change))).want(b, http.StatusOK, "")
		claims := claimsOf(t, a.object(b)["access_token"].(string))
		issued, expiry := int64(claims["iat"].(float64)), int64(claims["exp"].(float64))
		if issued != noon.Unix() || expiry-issued != want || int64(a.object(b)["expires_in"].(float64)) != want {
			t.Errorf("iat %d, exp %d and expires_in %v; want a life of %d s from %d", issued, expiry, a.object(b)["expires_in"], want, noon.Unix())
		}
	}
	b.login(formOf(b.key(ends(900*time.Millisecond)))).want(b, http.StatusUnauthorized, "invalid_client")
}

// The same exchanges over PostgreSQL.
func TestPostgres(t *testing.T) {
	b := newBooth(t, options{database: schematest.Postgres(t), now: clock(noon)})
	names := b.fixtures()
	for name, status := range map[string]int{
		"active": 200, "ending": 200, "revoked": 401, "expired": 401, "disabled": 401, "suspended": 401, "rotated": 401, "invented": 401,
	} {
		if a := b.login(form(names[name+"_id"], names[name+"_secret"])); a.status != status {
			t.Errorf("%s: status %d, want %d: %s", name, a.status, status, a.body)
		}
	}
	b.get(endpoint.WhoamiPath, setHeader("Authorization", "Bearer "+names["token"])).want(b, http.StatusOK, "")
	if a := b.get(endpoint.WhoamiPath, setHeader("Authorization", "Bearer "+names["revoked_token"])); a.status != http.StatusUnauthorized {
		t.Errorf("the token of a revoked key: status %d", a.status)
	}
}

// What a client sends cannot set a claim (RFC 9700 §4.15).
func TestParametersSetNoClaims(t *testing.T) {
	b := newBooth(t, options{})
	values := formOf(b.active)
	for _, claim := range []string{"sub", "iss", "exp", "iat", "jti", "workspace", "workspace_id", "key_gen", "ws_gen", "username", "expires_in"} {
		values.Set(claim, "evil")
	}
	claims := claimsOf(t, b.login(values).want(b, http.StatusOK, "").object(b)["access_token"].(string))
	for name, value := range claims {
		if text, ok := value.(string); ok && strings.Contains(text, "evil") {
			t.Errorf("the client has set %s", name)
		}
	}
	if claims["workspace_id"] != string(b.workspace.ID) || claims["workspace"] != "acme" || claims["sub"] != b.active.OwnerID() {
		t.Errorf("the claims are %v", claims)
	}
}

// Nothing that names a host or an address changes an answer: the issuer is
// configuration.
func TestHostsAndForwardedHeadersChangeNothing(t *testing.T) {
	b := newBooth(t, options{now: clock(noon)})
	evil := []func(*http.Request){
		func(r *http.Request) { r.Host = "evil.example" },
		setHeader("X-Forwarded-Host", "evil.example"), setHeader("X-Forwarded-Proto", "http"),
		setHeader("X-Forwarded-Prefix", "/evil"), setHeader("Forwarded", "host=evil.example;proto=http"),
		setHeader("X-Original-Url", "/evil"), setHeader("X-Rewrite-Url", "/evil"), setHeader("X-Http-Method-Override", "DELETE"),
	}
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", endpoint.JWKSPath} {
		plain, edited := b.get(path), b.get(path, evil...)
		if plain.body != edited.body || dump(plain) != dump(edited) {
			t.Errorf("%s: the answer differs", path)
		}
	}
	claims := claimsOf(t, b.login(formOf(b.active), evil...).want(b, http.StatusOK, "").object(b)["access_token"].(string))
	if claims["iss"] != issuer {
		t.Errorf("iss is %v", claims["iss"])
	}
}

// Outcomes are counted in a few words.
func TestOutcomesAreCounted(t *testing.T) {
	b := newBooth(t, options{})
	b.login(formOf(b.active))
	b.login(form(string(b.active.ID), b.wrong(b.active.ID)))
	b.login(formOf(b.revoked()))
	b.login(url.Values{})
	if want := []string{"issued", "wrong_credentials", "revoked", "malformed_request"}; !slices.Equal(b.outcomes, want) {
		t.Errorf("counted %v, want %v", b.outcomes, want)
	}
}
