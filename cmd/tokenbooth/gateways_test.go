package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const guarded = "https://api.example.com" // the audience of what is behind gateways

// site is a service behind a gateway that asks a server of ours. Of the loopback
// addresses only 127.0.0.1 is a gateway's; clients have the others.
type site struct {
	*backend
	t       *testing.T
	booth   *replica
	ws      workspace.ID
	service *recorder
	url     string // of the gateway
	secrets []string
}

func newSite(t *testing.T, start func(t *testing.T, booth, service string) string) *site {
	t.Helper()
	env := onSQLite(t.TempDir(),
		"TOKENBOOTH_AUDIENCES_SERVERS=[{audience: "+guarded+"}, {audience: https://other.example.com}]",
		"TOKENBOOTH_AUDIENCES_DEFAULT="+guarded,
		"TOKENBOOTH_GATEWAY_AUDIENCE="+guarded,
		"TOKENBOOTH_HTTP_TRUSTED_PROXIES=127.0.0.1/32",
		"TOKENBOOTH_EXCHANGE_FAILURES_KEY_BURST=3",
		"TOKENBOOTH_EXCHANGE_FAILURES_KEY_PER_MINUTE=1",
	)
	s := &site{t: t, booth: serveReady(t, env), service: newRecorder(t), backend: participant(t, env)}
	ws, err := s.manager.CreateWorkspace(t.Context(), tester, "Payments", "")
	if err != nil {
		t.Fatal(err)
	}
	s.ws = ws.ID
	s.url = start(t, strings.TrimPrefix(s.booth.url, "http://"), strings.TrimPrefix(s.service.URL, "http://"))
	return s
}

// newKey makes a service account with that role, and a key.
func (s *site) newKey(name, role string, change func(*manage.NewKey)) (manage.Issued, credential) {
	s.t.Helper()
	sa, err := s.manager.CreateServiceAccount(s.t.Context(), tester, s.ws, manage.NewServiceAccount{Name: name, Role: role})
	if err != nil {
		s.t.Fatal(err)
	}
	n := manage.NewKey{ServiceAccountID: sa.ID, Name: name}
	if change != nil {
		change(&n)
	}
	issued, err := s.manager.CreateKey(s.t.Context(), tester, s.ws, n)
	if err != nil {
		s.t.Fatal(err)
	}
	s.secrets = append(s.secrets, issued.Secret.Reveal())
	return issued, credential{string(issued.ID), issued.Secret.Reveal()}
}

// recorder is a service that keeps what it sees, to the byte.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seenRequest
}

type seenRequest struct {
	header http.Header
	line   string // method and target
	raw    string // all of it
}

func newRecorder(t *testing.T) *recorder {
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		line := request.Method + " " + request.RequestURI
		var raw strings.Builder
		raw.WriteString(line + "\n")
		_ = request.Header.Write(&raw) // a Builder takes everything
		_, _ = io.Copy(&raw, request.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, seenRequest{request.Header.Clone(), line, raw.String()})
		_, _ = io.WriteString(w, "served")
	}))
	t.Cleanup(r.Close)
	return r
}

// take returns what the service has seen, and forgets it.
func (r *recorder) take() []seenRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// clientAt connects from that loopback address.
func clientAt(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, TLSClientConfig: trustEverybody()},
		Timeout:   patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// call sends POST /orders?a=b from an address, with a header to the letter.
func (s *site) call(from string, header http.Header) (status int, answer http.Header) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/orders?a=b", strings.NewReader("the body"))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header = header
	response, err := clientAt(from).Do(request)
	if err != nil {
		s.t.Errorf("no answer: %v", err)
		return 0, nil
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body) // what it says is for people
	return response.StatusCode, response.Header
}

const (
	somebody = "127.0.0.2" // a client
	another  = "127.0.0.3"
)

func asBearer(credential string) http.Header {
	return http.Header{"Authorization": {"Bearer " + credential}}
}

// passes wants a request of somebody to reach the service, once, with the identity
// of a key and without any secret. It returns what the service has seen.
func (s *site) passes(key manage.Issued, header http.Header) seenRequest {
	s.t.Helper()
	status, answer := s.call(somebody, header)
	seen := s.service.take()
	if status != http.StatusOK || len(seen) != 1 {
		s.t.Fatalf("the answer is %d %v and the service has seen %d requests, want 200 and one", status, answer, len(seen))
	}
	got := seen[0]
	if got.line != "POST /orders?a=b" || !strings.HasSuffix(got.raw, "the body") {
		s.t.Errorf("the service has seen %q", got.raw)
	}
	claims := payloadOf(s.t, strings.TrimPrefix(got.header.Get("Authorization"), "Bearer "))
	for name, want := range map[string]any{
		"X-Auth-Workspace": "payments", "X-Auth-Workspace-Id": s.ws, "X-Auth-Subject": key.OwnerID(), "X-Auth-Key-Id": key.ID,
		"X-Auth-Scope": claims["scope"], "X-Auth-Expires": strconv.FormatFloat(claims["exp"].(float64), 'f', -1, 64),
	} {
		if values := got.header.Values(name); len(values) != 1 || values[0] != fmt.Sprint(want) {
			s.t.Errorf("%s is %q, want %v", name, values, want)
		}
	}
	if claims["aud"] != guarded || claims["client_id"] != string(key.ID) || len(got.header.Values("Authorization")) != 1 {
		s.t.Errorf("the token is %v", claims)
	}
	s.clean(got)
	return got
}

// clean wants nothing in a request that the gateway has to take out of it.
func (s *site) clean(got seenRequest) {
	s.t.Helper()
	for _, secret := range s.secrets {
		if strings.Contains(got.raw, secret) {
			s.t.Errorf("the service has seen a secret: %s", got.raw)
		}
	}
	for name := range got.header {
		if strings.Contains(name, "_") || http.CanonicalHeaderKey(name) == "X-Api-Key" {
			s.t.Errorf("the service has seen the header %s", name)
		}
	}
}

// stopped wants a request to end at the gateway.
func (s *site) stopped(from string, header http.Header, statuses ...int) http.Header {
	s.t.Helper()
	status, answer := s.call(from, header)
	if seen := s.service.take(); len(seen) != 0 || !slices.Contains(statuses, status) {
		s.t.Errorf("the answer is %d %v and the service has seen %d requests, want %v and none", status, answer, len(seen), statuses)
	}
	if got := answer.Get("Authorization") + answer.Get("X-Auth-Key-Id"); got != "" {
		s.t.Error("the client is told an identity")
	}
	return answer
}

// shipped start the gateways of deploy/gateways, with our addresses in them.
var shipped = []struct {
	name   string
	start  func(t *testing.T, booth, service string) (url string)
	strips bool // names with underscores, whose requests are refused else
	away   int  // what clients are told while Tokenbooth is away
}{
	{"nginx", startNginx, true, http.StatusInternalServerError},
	{"Caddy", startCaddy, true, http.StatusBadGateway},
	{"as Traefik", startTraefik, false, http.StatusInternalServerError},
	{"as Envoy", startEnvoy, false, http.StatusServiceUnavailable},
}

func TestGateways(t *testing.T) {
	t.Parallel()
	for _, gateway := range shipped {
		t.Run(gateway.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, gateway.start)
			key, client := s.newKey("ci", "viewer", nil)
			token := wantToken(t, s.booth.url, client)
			s.let(key, client, token)
			s.claims(key, token, gateway.strips)
			s.refusals(token, client)
			s.networks()
			s.together(token, client)
			s.revocation(key, client)
			s.booth.kill()
			s.stopped(somebody, asBearer(token), gateway.away)
			s.stopped(somebody, asBearer(client.secret), gateway.away)
			s.stopped(somebody, http.Header{"X-Api-Key": {client.secret}}, gateway.away)
			s.stopped(somebody, http.Header{}, gateway.away)
		})
	}
}

// let: a token passes as it is, a key as a token, from both places.
func (s *site) let(key manage.Issued, client credential, token string) {
	s.t.Helper()
	if got := s.passes(key, asBearer(token)).header.Get("Authorization"); got != "Bearer "+token {
		s.t.Errorf("the service has seen another token: %s", got)
	}
	s.passes(key, asBearer(client.secret))
	s.passes(key, http.Header{"X-Api-Key": {client.secret}})
	s.passes(key, http.Header{"x-api-key": {client.secret}})
	s.passes(key, http.Header{"x-api-key": {token}})
}

// claims: what the client says of itself does not reach the service, in any spelling.
func (s *site) claims(key manage.Issued, token string, strips bool) {
	s.t.Helper()
	lies := asBearer(token)
	for _, name := range []string{"X-Auth-Workspace", "x-auth-workspace-id", "X-AUTH-SUBJECT", "x-Auth-Key-Id", "X-Auth-Scope", "X-Auth-Expires"} {
		lies[name] = []string{"admin", "root"}
	}
	for _, name := range []string{"X-Forwarded-", "X-Original-"} {
		lies[name+"Method"], lies[name+"Uri"], lies[name+"Url"] = []string{"OPTIONS"}, []string{"/public"}, []string{"/public"}
	}
	if got := s.passes(key, lies); strings.Contains(got.raw, "root") {
		s.t.Errorf("the service has seen a claim of the client: %s", got.raw)
	}
	for _, name := range []string{"X.Auth.Workspace", "X~Auth-Key-Id"} { // some services take these for it as well
		smuggled := asBearer(token)
		smuggled[name] = []string{"root"}
		s.call(somebody, smuggled)
		for _, got := range s.service.take() {
			if strings.Contains(got.raw, "root") {
				s.t.Errorf("the service has seen a claim of the client: %s", got.raw)
			}
		}
	}
	for _, name := range []string{"x_auth_workspace", "X_Auth_Key_Id", "x-auth_Subject", "X_AUTH-SCOPE", "X_Api_Key"} {
		smuggled := asBearer(token)
		smuggled[name] = []string{"root"}
		if !strips {
			s.stopped(somebody, smuggled, http.StatusBadRequest)
		} else if got := s.passes(key, smuggled); strings.Contains(got.raw, "root") {
			s.t.Errorf("the service has seen a claim of the client: %s", got.raw)
		}
	}
	lies.Del("Authorization")
	s.stopped(somebody, lies, http.StatusUnauthorized)

	// No service is asked to change to a protocol in which further requests come: after
	// that nobody would be asked about them.
	for _, protocols := range [][]string{{"h2c"}, {"H2C"}, {"websocket, h2c"}, {"websocket", "h2c"}, {"h2c", "websocket"}, {"TLS/1.0"}} {
		changing := asBearer(token)
		changing["Connection"], changing["Upgrade"] = []string{"Upgrade, HTTP2-Settings"}, protocols
		changing["Http2-Settings"] = []string{"AAMAAABkAARAAAAAAAIAAAAA"}
		status, _ := s.call(somebody, changing)
		for _, got := range s.service.take() {
			if got.header.Get("Upgrade") != "" {
				s.t.Errorf("the service is asked to change its protocol: %s", got.raw)
			}
		}
		if !slices.Contains([]int{http.StatusOK, http.StatusBadRequest, http.StatusNotFound}, status) {
			s.t.Errorf("Upgrade to %q: %d", protocols, status)
		}
	}

	// What Connection names, a proxy takes out of the request.
	for _, names := range []string{"X-Auth-Workspace, x-auth-subject", "close, AUTHORIZATION"} {
		hops := asBearer(token)
		hops["Connection"] = []string{names}
		status, _ := s.call(somebody, hops)
		for _, got := range s.service.take() {
			if got.header.Get("X-Auth-Workspace") != "payments" || got.header.Get("X-Auth-Subject") != key.OwnerID() || got.header.Get("Authorization") == "" {
				s.t.Errorf("the service lacks an identity: %s", got.raw)
			}
		}
		if !slices.Contains([]int{http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound}, status) {
			s.t.Errorf("Connection with names of headers: %d", status)
		}
	}
}

// refusals: why a request ends at the gateway, and that the client learns it.
func (s *site) refusals(token string, client credential) {
	s.t.Helper()
	_, other := s.newKey("elsewhere", "viewer", func(n *manage.NewKey) { n.Audiences = []string{"https://other.example.com"} })
	reader := s.tokenWithout("collectors:read")
	malformed := client.secret[:len(client.secret)-1] + "_"
	for _, c := range []struct {
		name      string
		header    http.Header
		status    int
		challenge string
	}{
		{"nothing", http.Header{}, http.StatusUnauthorized, `Bearer realm="tokenbooth"`},
		{"a malformed key", asBearer(malformed), http.StatusUnauthorized, `error="invalid_token"`},
		{"a changed token", asBearer(token[:len(token)-4] + "AAAA"), http.StatusUnauthorized, `error="invalid_token"`},
		{"a token for another", asBearer(wantToken(s.t, s.booth.url, other)), http.StatusUnauthorized, "another audience"},
		{"a key for another", asBearer(other.secret), http.StatusForbidden, ""},
		{"a token that lacks the scope", asBearer(reader), http.StatusForbidden, `error="insufficient_scope"`},
		{"a token and a key", http.Header{"Authorization": {"Bearer " + token}, "X-Api-Key": {client.secret}}, http.StatusBadRequest, `error="invalid_request"`},
	} {
		answer := s.stopped(somebody, c.header, c.status)
		if got := answer.Get("WWW-Authenticate"); !strings.Contains(got, c.challenge) {
			s.t.Errorf("%s: the challenge is %q, want %q", c.name, got, c.challenge)
		}
	}
	for range 3 {
		s.stopped(another, asBearer(s.wrongSecret(client)), http.StatusUnauthorized)
	}
	if answer := s.stopped(another, asBearer(s.wrongSecret(client)), http.StatusTooManyRequests); answer.Get("Retry-After") == "" {
		s.t.Errorf("429 without Retry-After: %v", answer)
	}
}

// tokenWithout is a good token that holds everything but a scope.
func (s *site) tokenWithout(scope string) string {
	s.t.Helper()
	_, client := s.newKey("without", "editor", nil)
	values := client.form()
	values.Set("scope", "collectors:create")
	if scope == values.Get("scope") {
		s.t.Fatal("the token would hold it")
	}
	response, err := http.PostForm(s.booth.url+"/api/login", values)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	return memberOf(s.t, response.Body, "access_token")
}

// wrongSecret is well-formed, names the key and is not its own.
func (s *site) wrongSecret(c credential) string {
	id, err := s.format.ParseID(c.id)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.format.NewSecret(id, 's').Reveal()
}

// networks: a key that is bound to a network is judged by the address that the
// gateway sees, whatever the client says.
func (s *site) networks() {
	s.t.Helper()
	key, client := s.newKey("bound", "viewer", func(n *manage.NewKey) {
		n.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix(somebody + "/32")}
	})
	s.passes(key, asBearer(client.secret))
	lie := asBearer(client.secret)
	lie["X-Forwarded-For"], lie["X-Real-Ip"] = []string{somebody}, []string{somebody}
	lie["Forwarded"] = []string{"for=" + somebody}
	s.stopped(another, lie, http.StatusUnauthorized)
	s.passes(key, lie)

	// Whoever is no gateway cannot ask for another either.
	for path, lie := range map[string]http.Header{
		"/api/authz/forward-auth": {"X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {"/"}},
		"/api/authz/auth-request": {"X-Original-Method": {"GET"}, "X-Original-Url": {"/"}},
		"/api/authz/ext-authz/":   {},
	} {
		lie["X-Forwarded-For"], lie["Authorization"] = []string{somebody}, []string{"Bearer " + client.secret}
		for from, want := range map[string]int{"127.0.0.9": http.StatusForbidden, "127.0.0.1": http.StatusOK} {
			request := &http.Request{Method: http.MethodGet, URL: mustParse(s.t, s.booth.url+path), Header: lie}
			response, err := clientAt(from).Do(request)
			if err != nil {
				s.t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != want || (want != http.StatusOK) != (response.Header.Get("Authorization") == "") {
				s.t.Errorf("%s from %s: %d, want %d", path, from, response.StatusCode, want)
			}
		}
	}
}

// together: many clients at once, with tokens and keys, and some with nothing.
func (s *site) together(token string, client credential) {
	s.t.Helper()
	const clients, each = 16, 12
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			for j := range each {
				header, want := []http.Header{asBearer(token), asBearer(client.secret), {"X-Api-Key": {client.secret}}, {}}[(i+j)%4], http.StatusOK
				if len(header) == 0 {
					want = http.StatusUnauthorized
				}
				if status, _ := s.call(somebody, header); status != want {
					s.t.Errorf("one of many: %d, want %d", status, want)
				}
			}
		})
	}
	group.Wait()
	seen := s.service.take()
	if len(seen) != clients*each*3/4 {
		s.t.Errorf("the service has seen %d of %d requests", len(seen), clients*each*3/4)
	}
	for _, got := range seen {
		s.clean(got)
	}
}

// revocation: one token, then the key with all of its tokens.
func (s *site) revocation(key manage.Issued, client credential) {
	s.t.Helper()
	one, rest := wantToken(s.t, s.booth.url, client), wantToken(s.t, s.booth.url, client)
	s.passes(key, asBearer(one))
	response, err := http.PostForm(s.booth.url+"/api/revoke", url.Values{"client_id": {client.id}, "client_secret": {client.secret}, "token": {one}})
	if err != nil {
		s.t.Fatal(err)
	}
	if _ = response.Body.Close(); response.StatusCode != http.StatusOK {
		s.t.Fatalf("the revocation answers %d", response.StatusCode)
	}
	s.stopped(somebody, asBearer(one), http.StatusUnauthorized)
	s.passes(key, asBearer(rest))
	s.passes(key, asBearer(client.secret))
	if err := s.manager.RevokeKey(s.t.Context(), tester, s.ws, key.ID, "leaked"); err != nil {
		s.t.Fatal(err)
	}
	s.stopped(somebody, asBearer(rest), http.StatusUnauthorized)
	s.stopped(somebody, asBearer(client.secret), http.StatusUnauthorized)
}
