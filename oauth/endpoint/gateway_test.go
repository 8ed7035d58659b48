package endpoint_test

import (
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const (
	gatewayPeer = "10.0.0.1"    // of the gateway
	theClient   = "203.0.113.9" // behind it
)

// gateway is what guards apiURL; requests come through the networks in o.gateways.
func (b *booth) gateway(o options, keys bearer.KeySet, denied bearer.Revocations) *endpoint.Gateway {
	g := &endpoint.Gateway{Audience: apiURL}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, network := range o.gateways {
		g.Trusted = append(g.Trusted, netip.MustParsePrefix(network))
		_, parsed, err := net.ParseCIDR(network)
		b.check(err)
		trust = append(trust, echo.TrustIPRange(parsed))
	}
	b.IPExtractor = echo.ExtractIPFromXFFHeader(trust...)
	g.Verifier = must(bearer.New(bearer.Config{Issuer: b.issuer, Audience: apiURL, Keys: keys, Revocations: denied, Leeway: bearer.MaxLeeway, Now: o.now}))
	return g
}

func gatedBooth(t *testing.T, o options) *booth {
	o.gateways = []string{gatewayPeer + "/32"}
	return newBooth(t, o)
}

// kind is how one kind of gateway asks, in the form in which it sends that.
type kind struct {
	name string
	path string
	ask  func(*http.Request) // about POST /orders?a=b, for theClient
}

var kinds = []kind{
	{"forward-auth", endpoint.ForwardAuthPath, func(r *http.Request) {
		setHeader("X-Forwarded-Method", http.MethodPost)(r)
		setHeader("X-Forwarded-Proto", "https")(r)
		setHeader("X-Forwarded-Host", "api.example.com")(r)
		setHeader("X-Forwarded-Uri", "/orders?a=b")(r)
		setHeader("X-Forwarded-For", theClient)(r)
	}},
	{"auth-request", endpoint.AuthRequestPath, func(r *http.Request) {
		setHeader("X-Original-Method", http.MethodPost)(r)
		setHeader("X-Original-Url", "https://api.example.com/orders?a=b")(r)
		setHeader("X-Forwarded-For", theClient)(r)
	}},
	// Envoy keeps the method and appends path and query.
	{"ext-authz", endpoint.ExtAuthzPath + "/orders?a=b", func(r *http.Request) {
		r.Method = http.MethodPost
		setHeader("X-Forwarded-For", theClient)(r)
	}},
}

// ask sends a question of that kind; edits come last.
func (b *booth) ask(k kind, edits ...func(*http.Request)) answer {
	b.Helper()
	r := httptest.NewRequest(http.MethodGet, k.path, nil)
	r.RemoteAddr = gatewayPeer + ":40000"
	k.ask(r)
	for _, edit := range edits {
		edit(r)
	}
	a := b.send(r)
	if a.header.Get("Cache-Control") != "no-store" {
		b.Errorf("%s: Cache-Control is %q", k.name, a.header.Get("Cache-Control"))
	}
	if a.status == http.StatusOK {
		b.mu.Lock()
		b.tokens = append(b.tokens, strings.TrimPrefix(a.header.Get("Authorization"), "Bearer "))
		b.mu.Unlock()
	} else {
		for _, name := range identity {
			if a.header.Get(name) != "" {
				b.Errorf("%s: a refusal has %s", k.name, name)
			}
		}
	}
	return a
}

var identity = []string{"Authorization", "X-Auth-Workspace", "X-Auth-Workspace-Id", "X-Auth-Subject", "X-Auth-Key-Id", "X-Auth-Scope", "X-Auth-Expires"}

// needing adds demands as gateways of that kind send them.
func needing(k kind, scopes []string, workspaces ...string) func(*http.Request) {
	return func(r *http.Request) {
		if k.name == "ext-authz" {
			r.Header["X-Auth-Need-Scope"], r.Header["X-Auth-Need-Workspace"] = scopes, workspaces
			return
		}
		values := r.URL.Query()
		values["scope"], values["workspace"] = scopes, workspaces
		r.URL.RawQuery = values.Encode()
	}
}

// passed checks the answer that lets a request pass, and returns the token.
func (b *booth) passed(k kind, a answer, key manage.Issued) string {
	b.Helper()
	token := strings.TrimPrefix(a.header.Get("Authorization"), "Bearer ")
	if a.status != http.StatusOK || a.body != "" || strings.Count(token, ".") != 2 {
		b.Fatalf("%s: %d %v %s", k.name, a.status, a.header, a.body)
	}
	claims := carries(token)
	for name, want := range map[string]string{
		"X-Auth-Workspace": "acme", "X-Auth-Workspace-Id": string(b.workspace.ID), "X-Auth-Subject": key.OwnerID(), "X-Auth-Key-Id": string(key.ID),
		"X-Auth-Scope": claims.Scope.String(), "X-Auth-Expires": strconv.FormatInt(claims.Expiry, 10), "X-Envoy-Auth-Headers-To-Remove": "x-api-key",
	} {
		if values := a.header.Values(name); len(values) != 1 || values[0] != want {
			b.Errorf("%s: %s is %q, want %q", k.name, name, values, want)
		}
	}
	if len(claims.Audience) != 1 || claims.Audience[0] != apiURL || claims.ClientID != string(key.ID) {
		b.Errorf("%s: the token is %+v", k.name, claims)
	}
	return token
}

// carries reads the claims of a token without any check.
func carries(token string) *oauth.Claims {
	return must(oauth.ParseClaims(must(base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1]))))
}

func TestGatewayPasses(t *testing.T) {
	b := gatedBooth(t, options{})
	token, secret := b.token(b.active), b.active.Secret.Reveal()
	for _, k := range kinds {
		if got := b.passed(k, b.ask(k, bearing(token)), b.active); got != token {
			t.Errorf("%s: the token was replaced", k.name)
		}
		b.passed(k, b.ask(k, setHeader("X-Api-Key", token)), b.active)
		b.passed(k, b.ask(k, bearing(secret)), b.active)
		b.passed(k, b.ask(k, setHeader("X-Api-Key", secret)), b.active)
		demands := []func(*http.Request){
			needing(k, []string{"collectors:read", "pipelines:read"}, "acme"),
			needing(k, []string{"collectors:read pipelines:read"}, string(b.workspace.ID)),
		}
		for _, demand := range demands {
			b.passed(k, b.ask(k, bearing(token), demand), b.active)
			b.passed(k, b.ask(k, bearing(secret), demand), b.active)
		}
	}
}

// Any method, and any path that a client may think of: Envoy appends them.
func TestGatewayTakesEveryRequest(t *testing.T) {
	b := gatedBooth(t, options{})
	token := b.token(b.active)
	envoy := kinds[2]
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"} {
		for _, k := range kinds {
			b.passed(k, b.ask(k, bearing(token), func(r *http.Request) { r.Method = method }), b.active)
		}
	}
	for _, path := range []string{"/", "//", "/a/../b", "/a%2F..%2fb", "/a;b=c", "/a?scope=no:thing&workspace=other", "/%", "/../../api/v1/whoami", "/a%00b"} {
		k := kind{envoy.name, endpoint.ExtAuthzPath + "/", func(r *http.Request) {
			envoy.ask(r)
			r.URL.Path, r.RequestURI = endpoint.ExtAuthzPath+path, endpoint.ExtAuthzPath+path
			r.URL.Path, r.URL.RawQuery, _ = strings.Cut(r.URL.Path, "?")
		}}
		b.passed(k, b.ask(k, bearing(token)), b.active)
		if a := b.ask(k); a.status != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", path, a.status)
		}
	}
	// Without the slash nothing of a request was appended.
	if a := b.send(httptest.NewRequest(http.MethodGet, endpoint.ExtAuthzPath, nil)); a.status != http.StatusNotFound {
		t.Errorf("without a path: %d", a.status)
	}
}

// refusal is what nginx can take, and what the others are told.
func (b *booth) refused(k kind, a answer, status int, challenge string) {
	b.Helper()
	want := status
	if k.name == "auth-request" {
		if got := a.header.Get("X-Auth-Status"); got != strconv.Itoa(status) {
			b.Errorf("%s: X-Auth-Status is %q, want %d", k.name, got, status)
		}
		if status != http.StatusUnauthorized {
			want = http.StatusForbidden
		}
	}
	if a.status != want || !strings.Contains(a.header.Get("WWW-Authenticate"), challenge) {
		b.Errorf("%s: %d %q, want %d %q: %s", k.name, a.status, a.header.Get("WWW-Authenticate"), want, challenge, a.body)
	}
}

func TestGatewayRefuses(t *testing.T) {
	b := gatedBooth(t, options{})
	token, secret := b.token(b.active), b.active.Secret.Reveal()
	elsewhere := b.token(b.active, "resource", reports)
	_, foreign := invented()
	for _, k := range kinds {
		for name, c := range map[string]struct {
			edit      func(*http.Request)
			status    int
			challenge string
		}{
			"nothing":             {func(*http.Request) {}, 401, `Bearer realm="tokenbooth"`},
			"Basic":               {basic(string(b.active.ID), secret), 401, `Bearer realm="tokenbooth"`},
			"wrong secret":        {bearing(b.wrong(b.active.ID)), 401, `error="invalid_token"`},
			"invented secret":     {setHeader("X-Api-Key", foreign), 401, `error="invalid_token"`},
			"malformed secret":    {bearing(secret[:20]), 401, `error="invalid_token"`},
			"no token":            {bearing("a.b.c"), 401, `error="invalid_token"`},
			"token of another":    {bearing(elsewhere), 401, `error="invalid_token"`},
			"token for us":        {bearing(b.token(b.active, "audience", issuer)), 401, `error="invalid_token"`},
			"two tokens":          {setHeader("Authorization", "Bearer "+token, "Bearer "+token), 400, `error="invalid_request"`},
			"joined tokens":       {bearing(token + ", Bearer " + token), 401, `error="invalid_token"`},
			"token and key":       {both(bearing(token), setHeader("X-Api-Key", secret)), 400, `error="invalid_request"`},
			"two keys":            {setHeader("X-Api-Key", secret, secret), 400, `error="invalid_request"`},
			"scope":               {both(bearing(token), needing(k, []string{"collectors:read", "collectors:delete"})), 403, `error="insufficient_scope"`},
			"scope of a key":      {both(bearing(secret), needing(k, []string{"collectors:delete"})), 403, `scope="collectors:delete"`},
			"workspace":           {both(bearing(token), needing(k, nil, "other")), 403, `error="insufficient_scope"`},
			"workspace of a key":  {both(bearing(secret), needing(k, nil, "ws_0000000000000000000000000")), 403, `error="insufficient_scope"`},
			"identity, smuggled":  {both(bearing(token), setHeader("X_Auth_Workspace", "other")), 400, ""},
			"identity, half":      {both(bearing(token), setHeader("X-Auth_Key-id", "other")), 400, ""},
			"identity, dots":      {both(bearing(token), setHeader("X.Auth.Workspace", "other")), 400, ""},
			"identity, marks":     {both(bearing(token), setHeader("X~Auth-Key!ID", "other")), 400, ""},
			"key, dots":           {both(bearing(token), setHeader("x.api.key", secret)), 400, ""},
			"key, smuggled":       {both(bearing(token), setHeader("x_api_key", secret)), 400, ""},
			"address with a zone": {both(bearing(token), setHeader("X-Forwarded-For", "fe80::1%eth0")), 403, ""},
			"hop without address": {both(bearing(token), setHeader("X-Forwarded-For", "unknown, "+theClient)), 403, ""},
			"more than one claim": {both(bearing(token), setHeader("X-Forwarded-For", theClient, "unknown")), 403, ""},
		} {
			t.Run(k.name+"/"+name, func(t *testing.T) {
				b.TB = t
				a := b.ask(k, c.edit)
				b.refused(k, a, c.status, c.challenge)
			})
		}
	}
	b.TB = t
}

func both(edits ...func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) {
		for _, edit := range edits {
			edit(r)
		}
	}
}

// A copy of an identity header that a client sends changes nothing, and neither does
// what it says of where its request goes.
func TestGatewayIgnoresClaims(t *testing.T) {
	b := gatedBooth(t, options{})
	token := b.token(b.active)
	lies := func(r *http.Request) {
		for _, name := range identity[1:] {
			r.Header[name] = []string{"admin", "root"}
		}
		r.Header["X_other_header"] = []string{"x"}
		r.Header["X-Forwarded-Prefix"] = []string{"/public"}
		r.Header["Connection"] = []string{"X-Auth-Workspace, X-Forwarded-For"}
	}
	for _, k := range kinds {
		b.passed(k, b.ask(k, bearing(token), lies), b.active)
		b.refused(k, b.ask(k, lies), http.StatusUnauthorized, "Bearer")
	}
}

// Who is no gateway may not ask, however the request looks; nothing is checked.
func TestGatewayPeers(t *testing.T) {
	b := gatedBooth(t, options{})
	token := b.token(b.active)
	for _, k := range kinds {
		for _, peer := range []string{"10.0.0.2:1", theClient + ":1", "127.0.0.1:1", "[::1]:1", "[fe80::1%eth0]:1", "@", ""} {
			a := b.ask(k, bearing(token), func(r *http.Request) { r.RemoteAddr = peer })
			if a.status != http.StatusForbidden || !strings.Contains(a.body, "http.trusted_proxies") || !strings.Contains(a.body, `"code":"gateway_not_understood"`) {
				t.Errorf("%s from %q: %d %s", k.name, peer, a.status, a.body)
			}
		}
		b.passed(k, b.ask(k, bearing(token), func(r *http.Request) { r.RemoteAddr = "[::ffff:" + gatewayPeer + "]:1" }), b.active)
	}
}

// Without configuration there is nothing.
func TestNoGateway(t *testing.T) {
	b := newBooth(t, options{})
	for _, path := range []string{endpoint.ForwardAuthPath, endpoint.AuthRequestPath, endpoint.ExtAuthzPath + "/"} {
		if a := b.get(path, bearing(b.token(b.active))); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

// A gateway that does not say what it should, or demands what cannot be read, lets
// nobody pass.
func TestGatewayNotUnderstood(t *testing.T) {
	b := gatedBooth(t, options{})
	token := b.token(b.active)
	without := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Del(name) }
	}
	query := func(q string) func(*http.Request) { return func(r *http.Request) { r.URL.RawQuery = q } }
	forward, nginx, ext := kinds[0], kinds[1], kinds[2]
	for _, c := range []struct {
		kind kind
		edit func(*http.Request)
		says string
	}{
		{forward, without("X-Forwarded-Method"), "X-Forwarded-Method once"},
		{forward, without("X-Forwarded-Uri"), "X-Forwarded-Uri once"},
		{forward, setHeader("X-Forwarded-Uri", "/public", "/orders"), "X-Forwarded-Uri once"},
		{forward, without("X-Forwarded-For"), "X-Forwarded-For"},
		{nginx, without("X-Original-Method"), "X-Original-Method once"},
		{nginx, setHeader("X-Original-Url", ""), "X-Original-Url once"},
		{nginx, setHeader("X-Forwarded-For", theClient+":443"), "X-Forwarded-For"},
		{ext, without("X-Forwarded-For"), "X-Forwarded-For"},
		{forward, query("scopes=collectors:read"), "neither scope nor workspace"},
		{forward, query("scope="), "empty or malformed"},
		{nginx, query("scope=collectors:read++pipelines:read"), "empty or malformed"},
		{nginx, query("scope=%zz"), "not well-formed"},
		{nginx, query("scope=a:b;workspace=acme"), "not well-formed"},
		{forward, query("workspace="), "one workspace"},
		{forward, query("workspace=acme&workspace=other"), "one workspace"},
		{ext, setHeader("X-Auth-Need-Scope", ""), "empty or malformed"},
		{ext, setHeader("X-Auth-Need-Workspace", "acme", "other"), "one workspace"},
	} {
		a := b.ask(c.kind, bearing(token), c.edit)
		if a.status != http.StatusForbidden || !strings.Contains(a.body, c.says) || !strings.Contains(a.body, `"code":"gateway_not_understood"`) {
			t.Errorf("%s, %q: %d %s", c.kind.name, c.says, a.status, a.body)
		}
	}
}

// A secret in the URL would reach the service; what only looks like one may pass.
func TestGatewaySecretInURL(t *testing.T) {
	b := gatedBooth(t, options{})
	token, secret := b.token(b.active), b.active.Secret.Reveal()
	urls := func(target string) []answer {
		return []answer{
			b.ask(kinds[0], bearing(token), setHeader("X-Forwarded-Uri", target)),
			b.ask(kinds[1], bearing(token), setHeader("X-Original-Url", "https://api.example.com"+target)),
			b.ask(kinds[2], bearing(token), func(r *http.Request) { r.RequestURI = endpoint.ExtAuthzPath + target }),
		}
	}
	for _, target := range []string{"/orders?key=" + secret, "/x/" + secret + "/y", "/a?b=%22" + secret + "#c",
		"/a?b=%74" + secret[1:], "/a?b=%2574" + secret[1:], "/%zz?b=%74" + secret[1:]} {
		for i, a := range urls(target) {
			b.refused(kinds[i], a, http.StatusBadRequest, "rotate the key")
		}
	}
	for i, a := range urls("/files/tbs_report.pdf?q=" + secret[:30]) {
		b.passed(kinds[i], a, b.active)
	}
}
