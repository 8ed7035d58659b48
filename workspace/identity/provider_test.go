package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// idp is an OpenID provider that says what a test wants it to. Real ones are asked in
// cmd/tokenbooth.
type idp struct {
	*httptest.Server
	t    *testing.T
	down atomic.Bool

	key, published *ecdsa.PrivateKey // published: instead of key; nil: key

	asked     url.Values     // the token request
	basic     [2]string      // its credentials
	document  map[string]any // over the discovery document
	claims    map[string]any // over those of the ID token
	info      map[string]any // the user info; nil: there is none
	refuse    string         // what the token endpoint says instead
	nonce     string
	challenge string
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	p := &idp{t: t, key: key, document: map[string]any{}, claims: map[string]any{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("/jwks", p.jwks)
	mux.HandleFunc("/token", p.token)
	mux.HandleFunc("/me", func(w http.ResponseWriter, _ *http.Request) { write(w, p.info) })
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func (p *idp) discovery(w http.ResponseWriter, _ *http.Request) {
	document := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/jwks",
		"id_token_signing_alg_values_supported": []string{"ES256"},
	}
	if p.info != nil {
		document["userinfo_endpoint"] = p.URL + "/me"
	}
	for name, value := range p.document {
		document[name] = value
	}
	write(w, document)
}

func (p *idp) jwks(w http.ResponseWriter, _ *http.Request) {
	key := p.key
	if p.published != nil {
		key = p.published
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		p.t.Error(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	write(w, map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "kid": "1", "alg": "ES256", "use": "sig", "x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
}

func (p *idp) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	p.asked = r.PostForm
	p.basic[0], p.basic[1], _ = r.BasicAuth()
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	if p.refuse == "" && base64.RawURLEncoding.EncodeToString(sum[:]) != p.challenge {
		p.refuse = "invalid_grant"
	}
	if p.refuse != "" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		write(w, map[string]string{"error": p.refuse, "error_description": "secret-of-the-provider"})
		return
	}
	claims := jwt.MapClaims{
		"iss": p.URL, "sub": "ada", "aud": "booth", "nonce": p.nonce, "email": "ada@example.com", "name": "Ada", "groups": []string{"a", "b"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	}
	for name, value := range p.claims {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"] = "1"
	signed, err := token.SignedString(p.key)
	if err != nil {
		p.t.Error(err)
	}
	write(w, map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": signed})
}

func (p *idp) options() identity.ProviderOptions {
	return identity.ProviderOptions{
		Issuer: p.URL, ClientID: "booth", ClientSecret: "s3cret", Name: "Example", Scopes: []string{"openid", "email"}, Claim: "groups",
		RedirectURL: "https://booth.example.com/sign-in/oidc/callback",
	}
}

// begin begins an attempt, and lets the provider know what it came with.
func (p *idp) begin(provider *identity.Provider) (identity.Attempt, url.Values) {
	p.t.Helper()
	address, attempt, err := provider.NewAttempt(p.t.Context())
	fatal(p.t, err)
	u, err := url.Parse(address)
	fatal(p.t, err)
	if !strings.HasPrefix(address, p.URL+"/auth?") {
		p.t.Errorf("sent to %s", address)
	}
	q := u.Query()
	p.nonce, p.challenge = q.Get("nonce"), q.Get("code_challenge")
	return attempt, q
}

// come begins an attempt and comes back at once.
func (p *idp) come(provider *identity.Provider, change func(*identity.Attempt, url.Values)) (identity.Person, error) {
	p.t.Helper()
	attempt, _ := p.begin(provider)
	answer := url.Values{"state": {attempt.State}, "code": {"c0de"}}
	if change != nil {
		change(&attempt, answer)
	}
	return provider.Finish(p.t.Context(), attempt, answer)
}

func TestProviderIsAsked(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	provider := identity.NewProvider(p.options())
	attempt, q := p.begin(provider)
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "booth", "redirect_uri": "https://booth.example.com/sign-in/oidc/callback", "scope": "openid email",
		"code_challenge_method": "S256", "state": attempt.State, "nonce": attempt.Nonce,
	} {
		if q.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, q.Get(name), want)
		}
	}
	for _, secret := range []string{attempt.State, attempt.Nonce, attempt.Verifier} {
		if len(secret) < 43 || strings.Count(attempt.State+attempt.Nonce+attempt.Verifier, secret) != 1 {
			t.Errorf("%q is short, or is used twice", secret)
		}
	}
	if q.Has("code_verifier") || strings.Contains(q.Encode(), attempt.Verifier) {
		t.Error("the verifier is in the address")
	}
	if another, _ := p.begin(provider); another == attempt {
		t.Error("two attempts are one")
	}
	person, err := p.come(provider, nil)
	fatal(t, err)
	if person.Issuer != p.URL || person.Subject != "ada" || person.Email != "ada@example.com" || person.Name != "Ada" || !slices.Equal(person.Groups, []string{"a", "b"}) {
		t.Errorf("the person is %+v", person)
	}
	if p.asked.Get("code") != "c0de" || p.asked.Get("grant_type") != "authorization_code" || p.basic != [2]string{"booth", "s3cret"} {
		t.Errorf("the token was asked for with %v by %q", p.asked, p.basic)
	}
}

// How the service authenticates follows what the provider says.
func TestProviderClientAuthentication(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		methods []string
		secret  string
		inForm  bool
	}{
		"nothing said": {nil, "s3cret", false}, "both": {[]string{"client_secret_post", "client_secret_basic"}, "s3cret", false},
		"post": {[]string{"client_secret_post"}, "s3cret", true}, "public client": {nil, "", true},
	} {
		p := newIDP(t)
		if c.methods != nil {
			p.document["token_endpoint_auth_methods_supported"] = c.methods
		}
		o := p.options()
		o.ClientSecret = c.secret
		_, err := p.come(identity.NewProvider(o), nil)
		fatal(t, err)
		if inForm := p.asked.Has("client_id"); inForm != c.inForm || p.asked.Get("client_secret") != map[bool]string{true: c.secret}[inForm] {
			t.Errorf("%s: asked with %v by %q", name, p.asked, p.basic)
		}
	}
}

// Whatever is not the answer to the attempt signs nobody in.
func TestProviderAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(*identity.Attempt, url.Values)
		claims map[string]any
		names  bool
		refuse string
		info   map[string]any
	}{
		"another state":           {answer: func(_ *identity.Attempt, q url.Values) { q.Set("state", "x") }},
		"no state":                {answer: func(_ *identity.Attempt, q url.Values) { q.Del("state") }},
		"no state on both sides":  {answer: func(a *identity.Attempt, q url.Values) { a.State = ""; q.Del("state") }},
		"another issuer":          {answer: func(_ *identity.Attempt, q url.Values) { q.Set("iss", "https://evil.example") }},
		"no issuer where it must": {names: true},
		"another verifier":        {answer: func(a *identity.Attempt, _ url.Values) { a.Verifier = "x" }},
		"another nonce":           {answer: func(a *identity.Attempt, _ url.Values) { a.Nonce = "x" }},
		"no nonce":                {claims: map[string]any{"nonce": nil}},
		"no nonce on both sides":  {answer: func(a *identity.Attempt, _ url.Values) { a.Nonce = "" }, claims: map[string]any{"nonce": nil}},
		"token of another issuer": {claims: map[string]any{"iss": "https://evil.example"}},
		"for another client":      {claims: map[string]any{"aud": "other"}},
		"given to another client": {claims: map[string]any{"aud": []string{"booth", "other"}, "azp": "other"}},
		"expired":                 {claims: map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}},
		"another access token":    {claims: map[string]any{"at_hash": "xxxxxxxxxxxxxxxxxxxxxx"}},
		"no subject":              {claims: map[string]any{"sub": ""}},
		"long subject":            {claims: map[string]any{"sub": strings.Repeat("s", 256)}},
		"code refused":            {refuse: "invalid_grant"},
		"somebody else's info":    {claims: map[string]any{"email": nil}, info: map[string]any{"sub": "eve", "email": "eve@example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newIDP(t)
			p.claims, p.refuse, p.info = c.claims, c.refuse, c.info
			p.document["authorization_response_iss_parameter_supported"] = c.names
			person, err := p.come(identity.NewProvider(p.options()), c.answer)
			if !errors.Is(err, identity.ErrProviderAnswer) || person.Subject != "" {
				t.Errorf("%+v, %v; want ErrProviderAnswer", person, err)
			}
			if err != nil && strings.Contains(err.Error(), "secret-of-the-provider") {
				t.Errorf("the error repeats the provider's answer: %v", err)
			}
		})
	}
}

func TestProviderTokenOfAnotherKey(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	provider := identity.NewProvider(p.options())
	_, err := p.come(provider, nil)
	fatal(t, err)
	p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	_, err = p.come(provider, nil)
	fatal(t, err) // a new key is looked for
	p.published = p.key
	p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	if _, err := p.come(identity.NewProvider(p.options()), nil); !errors.Is(err, identity.ErrProviderAnswer) {
		t.Errorf("a token that the provider did not sign: %v", err)
	}
}

func TestProviderRefuses(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	_, err := p.come(identity.NewProvider(p.options()), func(_ *identity.Attempt, q url.Values) {
		q.Set("error", "access_denied")
		q.Set("error_description", "<b>no</b>")
	})
	var refused *identity.ProviderRefusal
	if !errors.As(err, &refused) || refused.Code != "access_denied" || refused.Description != "<b>no</b>" {
		t.Errorf("%v", err)
	}
	if p.asked != nil {
		t.Error("the code was used all the same")
	}
}

// What is missing in the ID token is asked for; what must not be taken for nothing is
// not.
func TestProviderClaims(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		claims, info map[string]any
		groups       []string
		email        string
		err          error
	}{
		"one group as a text":  {claims: map[string]any{"groups": "a"}, groups: []string{"a"}, email: "ada@example.com"},
		"no groups":            {claims: map[string]any{"groups": nil}, email: "ada@example.com"},
		"groups of no use":     {claims: map[string]any{"groups": map[string]int{"a": 1}}, email: "ada@example.com"},
		"in the user info":     {claims: map[string]any{"groups": nil, "email": nil}, info: map[string]any{"sub": "ada", "groups": []string{"c"}, "email": "a@b.example"}, groups: []string{"c"}, email: "a@b.example"},
		"in both":              {claims: map[string]any{"email": nil}, info: map[string]any{"sub": "ada", "groups": []string{"c"}, "email": "a@b.example"}, groups: []string{"a", "b"}, email: "a@b.example"},
		"address not proven":   {claims: map[string]any{"email_verified": false}, groups: []string{"a", "b"}},
		"address not proven 2": {claims: map[string]any{"email_verified": "false"}, groups: []string{"a", "b"}},
		"address proven":       {claims: map[string]any{"email_verified": true}, groups: []string{"a", "b"}, email: "ada@example.com"},
		"groups elsewhere":     {claims: map[string]any{"groups": nil, "_claim_names": map[string]string{"groups": "far"}, "_claim_sources": map[string]any{"far": map[string]string{"endpoint": "https://far.example/"}}}, err: identity.ErrProviderDown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newIDP(t)
			p.claims, p.info = c.claims, c.info
			person, err := p.come(identity.NewProvider(p.options()), nil)
			if !errors.Is(err, c.err) || (c.err == nil && err != nil) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if !slices.Equal(person.Groups, c.groups) || person.Email != c.email {
				t.Errorf("%+v", person)
			}
		})
	}
}

// A provider that does not help is not the person's fault, and is asked again.
func TestProviderDown(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	p.down.Store(true)
	o, now := p.options(), time.Now()
	o.Now = func() time.Time { return now }
	provider := identity.NewProvider(o)
	for range 2 {
		if _, _, err := provider.NewAttempt(t.Context()); !errors.Is(err, identity.ErrProviderDown) {
			t.Errorf("%v", err)
		}
	}
	p.down.Store(false)
	if _, _, err := provider.NewAttempt(t.Context()); !errors.Is(err, identity.ErrProviderDown) {
		t.Errorf("it gets no rest: %v", err)
	}
	now = now.Add(3 * time.Second)
	attempt, _ := p.begin(provider)
	p.down.Store(true)
	if _, err := provider.Finish(t.Context(), attempt, url.Values{"state": {attempt.State}, "code": {"c"}}); !errors.Is(err, identity.ErrProviderDown) {
		t.Errorf("%v", err)
	}
	p.down.Store(false)
	p.refuse = "invalid_client"
	if _, err := p.come(provider, nil); !errors.Is(err, identity.ErrProviderDown) || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("a wrong client secret: %v", err)
	}
	p.document["issuer"] = "https://other.example"
	if _, _, err := identity.NewProvider(p.options()).NewAttempt(t.Context()); !errors.Is(err, identity.ErrProviderDown) {
		t.Errorf("a provider of another name: %v", err)
	}
}

func TestMapping(t *testing.T) {
	t.Parallel()
	m := identity.Mapping{Admins: []string{"ops"}, Workspaces: []identity.MappedWorkspace{
		{"a", "payments", "viewer"}, {"b", "payments", "owner"}, {"c", "payments", "manager"}, {"c", "search", "viewer"},
	}}
	for _, c := range []struct {
		groups   []string
		admin    bool
		payments string
		search   string
	}{
		{nil, false, "", ""}, {[]string{"ops"}, true, "", ""}, {[]string{"a", "c"}, false, "manager", "viewer"},
		{[]string{"c", "b", "a"}, false, "owner", "viewer"}, {[]string{"A", ""}, false, "", ""},
	} {
		roles := m.Roles(c.groups)
		if m.Admin(c.groups) != c.admin || string(roles["payments"]) != c.payments || string(roles["search"]) != c.search || len(roles) != 2 {
			t.Errorf("%q: %v, %v", c.groups, m.Admin(c.groups), roles)
		}
	}
}
