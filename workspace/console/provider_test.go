package console_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/console"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// idp is an OpenID provider at which everybody is who the test says. Real ones are
// asked in cmd/tokenbooth.
type idp struct {
	*httptest.Server
	t      *testing.T
	key    *ecdsa.PrivateKey
	claims jwt.MapClaims
	down   bool
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	p := &idp{t: t, key: key, claims: jwt.MapClaims{"sub": "grace", "email": "grace@idp.example", "name": "Grace", "groups": []string{"managers"}}}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *idp) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	point, _ := p.key.PublicKey.Bytes()
	body := map[string]any{}
	switch {
	case p.down:
		w.WriteHeader(http.StatusBadGateway)
	case r.URL.Path == "/.well-known/openid-configuration":
		body = map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/jwks",
			"id_token_signing_alg_values_supported": []string{"ES256"},
		}
	case r.URL.Path == "/jwks":
		body["keys"] = []any{map[string]string{"kty": "EC", "crv": "P-256", "kid": "1", "alg": "ES256", "x": encode(point[1:33]), "y": encode(point[33:])}}
	case r.URL.Path == "/token":
		token := jwt.NewWithClaims(jwt.SigningMethodES256, p.claims)
		token.Header["kid"] = "1"
		signed, err := token.SignedString(p.key)
		if err != nil {
			p.t.Error(err)
		}
		body = map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": signed}
	}
	_ = json.NewEncoder(w).Encode(body)
}

// withProvider is a site that people sign in to with a provider.
func withProvider(t *testing.T) (*site, *idp) {
	t.Helper()
	s, p := newSiteOn(t, schematest.SQLite(t)), newIDP(t)
	s.renew(func(h *console.Handler) {
		h.Provider = identity.NewProvider(identity.ProviderOptions{
			Issuer: p.URL, ClientID: "booth", Name: "Example & Co", Scopes: []string{"openid"}, Claim: "groups", RedirectURL: s.url + "/sign-in/oidc/callback", Now: s.now,
		})
		h.Mapping = identity.Mapping{Workspaces: []identity.MappedWorkspace{{Value: "managers", Workspace: s.ws.Slug, Role: workspace.Manager}}}
	})
	return s, p
}

// leave goes to the provider, which proves the person to be who p.claims say, and
// returns what it sends back.
func (p *idp) leave(v *visitor, begin string) url.Values {
	p.t.Helper()
	u, err := url.Parse(v.get(begin).location(p.t))
	fatal(p.t, err)
	if !strings.HasPrefix(u.String(), p.URL+"/auth?") {
		p.t.Fatalf("sent to %s", u)
	}
	p.claims["iss"], p.claims["aud"], p.claims["nonce"] = p.URL, "booth", u.Query().Get("nonce")
	p.claims["exp"] = time.Now().Add(24 * time.Hour).Unix()
	return url.Values{"state": {u.Query().Get("state")}, "code": {"c"}}
}

// come goes to the provider and comes back.
func (p *idp) come(v *visitor, begin string) answer {
	p.t.Helper()
	return v.get("/sign-in/oidc/callback?" + p.leave(v, begin).Encode())
}

// nobody checks that a page signed nobody in.
func (v *visitor) nobody(a answer, status int, parts ...string) {
	v.s.t.Helper()
	a.want(v.s.t, status, parts...)
	if to := v.get("/account/providers/link").location(v.s.t); !strings.HasPrefix(to, "/sign-in?") {
		v.s.t.Errorf("somebody is signed in: sent to %s", to)
	}
}

func TestProviderSignsIn(t *testing.T) {
	t.Parallel()
	s, p := withProvider(t)
	v := s.visitor()
	here := "/w/" + s.ws.Slug
	if to := p.come(v, "/sign-in/oidc?next="+url.QueryEscape(here)).location(t); to != here {
		t.Errorf("sent to %s", to)
	}
	v.get(here).want(t, http.StatusOK, "Grace")
	if log := strings.Join(s.actions(), "\n"); strings.Count(log, `user.sign_in {"method":"provider"}`) != 1 {
		t.Errorf("the audit log:\n%s", log)
	}
	for _, next := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "javascript:alert(1)", strings.Repeat("/x", 2000)} {
		if to := p.come(s.visitor(), "/sign-in/oidc?next="+url.QueryEscape(next)).location(t); to != "/" {
			t.Errorf("%.40s: sent to %s", next, to)
		}
	}
}

// The groups are asked for anew each time; what they do not give any more is gone,
// also for whoever is signed in elsewhere.
func TestProviderTakesAway(t *testing.T) {
	t.Parallel()
	s, p := withProvider(t)
	v := s.visitor()
	p.come(v, "/sign-in/oidc").location(t)
	v.get("/w/"+s.ws.Slug).want(t, http.StatusOK)
	p.claims["groups"] = []string{}
	p.come(s.visitor(), "/sign-in/oidc").location(t)
	if a := v.get("/w/" + s.ws.Slug); a.status == http.StatusOK {
		t.Errorf("the workspace is still there: %s", a.body)
	}
}

func TestProviderSignsNobodyIn(t *testing.T) {
	t.Parallel()
	s, p := withProvider(t)
	v := s.visitor()
	over := "This sign-in is over"
	v.nobody(v.get("/sign-in/oidc/callback"), http.StatusBadRequest, over)
	v.nobody(v.get("/sign-in/oidc/callback?state=x&code=y"), http.StatusBadRequest, over)
	q := p.leave(v, "/sign-in/oidc")
	v.nobody(v.get("/sign-in/oidc/callback?code=c&state=x"), http.StatusBadRequest, over)
	other := s.visitor()
	other.nobody(other.get("/sign-in/oidc/callback?"+q.Encode()), http.StatusBadRequest, over)
	kept := v.jar.cookies
	v.get("/sign-in/oidc/callback?" + q.Encode()).location(t)
	v = s.visitor()
	v.jar.cookies = kept // the same browser, set back
	v.nobody(v.get("/sign-in/oidc/callback?"+q.Encode()), http.StatusBadRequest, over)
	late := s.visitor()
	q = p.leave(late, "/sign-in/oidc")
	s.later(11 * time.Minute)
	late.nobody(late.get("/sign-in/oidc/callback?"+q.Encode()), http.StatusBadRequest, over)

	v = s.visitor()
	q = p.leave(v, "/sign-in/oidc")
	q.Set("iss", "https://evil.example")
	v.nobody(v.get("/sign-in/oidc/callback?"+q.Encode()), http.StatusBadRequest, "The answer was refused")
	q = p.leave(v, "/sign-in/oidc")
	p.claims["nonce"] = "another"
	v.nobody(v.get("/sign-in/oidc/callback?"+q.Encode()), http.StatusBadRequest, "The answer was refused")
	q = p.leave(v, "/sign-in/oidc")
	q.Set("error", "access_denied")
	q.Set("error_description", `<script>alert(1)</script>"'&`+strings.Repeat("x", 1000))
	v.nobody(v.get("/sign-in/oidc/callback?"+q.Encode()).without(t, "<script>alert", strings.Repeat("x", 201)),
		http.StatusForbidden, "access_denied: &lt;script&gt;alert(1)&lt;/script&gt;", "Example &amp; Co")
}

func TestProviderDoesNotLetIn(t *testing.T) {
	t.Parallel()
	s, p := withProvider(t)
	v := s.visitor()
	p.claims["groups"], p.claims["name"] = []string{"sales"}, `<script>alert(1)</script>"'&`
	v.nobody(p.come(v, "/sign-in/oidc").without(t, "<script>alert"), http.StatusForbidden, "Nobody has given you access here yet", "&lt;script&gt;", "grace@idp.example")
	p.claims["groups"], p.claims["email"] = []string{"managers"}, "ada@example.com"
	v.nobody(p.come(v, "/sign-in/oidc"), http.StatusConflict, "link Example &amp; Co under Account")
	v.nobody(p.come(v, "/sign-in/oidc?invitation=made-up"), http.StatusConflict)
	p.claims["email"] = "grace@idp.example"
	v.nobody(p.come(v, "/sign-in/oidc?invitation=made-up"), http.StatusNotFound, "The invitation is over")
	p.come(v, "/sign-in/oidc").location(t)
	user, err := workspace.UserByEmail(t.Context(), s.db.Reader(), "grace@idp.example")
	fatal(t, err)
	disabled := false
	_, err = s.manager.UpdateUser(t.Context(), s.operator, user.ID, manage.UserChange{Enabled: &disabled})
	fatal(t, err)
	v = s.visitor()
	v.nobody(p.come(v, "/sign-in/oidc"), http.StatusForbidden, "Your account here is disabled")
}

// Somebody known accepts an invitation by themselves: a link to sign in with it must
// not make them a member of anything.
func TestProviderAcceptsForNobody(t *testing.T) {
	t.Parallel()
	s, p := withProvider(t)
	p.come(s.visitor(), "/sign-in/oidc").location(t)
	user, err := workspace.UserByEmail(t.Context(), s.db.Reader(), "grace@idp.example")
	fatal(t, err)
	other := s.workspace("Other", s.owner, workspace.Owner)
	link, err := s.manager.CreateInvitation(t.Context(), manage.User(s.owner.ID), other.ID, "grace@idp.example", workspace.Manager)
	fatal(t, err)
	v := s.visitor()
	to := p.come(v, "/sign-in/oidc?invitation="+link.Token).location(t)
	if to != "/invitation?token="+link.Token {
		t.Errorf("sent to %s", to)
	}
	if _, err := workspace.FindMember(t.Context(), s.db.Reader(), other.ID, user.ID); !errors.Is(err, workspace.ErrNotFound) {
		t.Errorf("they are a member: %v", err)
	}
	v.get(to).want(t, http.StatusOK, "Join Other")
}

func TestProviderIsDown(t *testing.T) {
	t.Parallel()
	s, p := withProvider(t)
	p.down = true
	v := s.visitor()
	a := v.get("/sign-in/oidc")
	v.nobody(a, http.StatusServiceUnavailable, "does not work at the moment", "Use another way to sign in")
	if a.header.Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
	p.down = false
	s.later(time.Minute)
	q := p.leave(v, "/sign-in/oidc")
	p.down = true
	v.nobody(v.get("/sign-in/oidc/callback?"+q.Encode()), http.StatusServiceUnavailable, "does not work at the moment")
}

func TestProviderIsLinked(t *testing.T) {
	t.Parallel()
	s, p := withProvider(t)
	v := s.as(s.owner)
	if to := s.visitor().get("/sign-in/oidc?link=1").location(t); !strings.HasPrefix(to, "/sign-in?next=") {
		t.Errorf("somebody unknown is sent to %s", to)
	}
	v.get("/account/providers/link").want(t, http.StatusBadRequest)
	v.post("/account/providers/link", nil).want(t, http.StatusBadRequest)
	p.claims["email"], p.claims["groups"] = `"<script>alert(1)</script>'&"@idp.example`, []string{}
	confirm := p.come(v, "/sign-in/oidc?link=1").location(t)
	linked := func() int {
		found, err := s.manager.Subjects(t.Context(), manage.User(s.owner.ID))
		fatal(t, err)
		return len(found)
	}
	v.get(confirm).want(t, http.StatusOK, "&lt;script&gt;", "ada@example.com").without(t, "<script>alert")
	if linked() != 0 {
		t.Error("GET linked it")
	}
	bob := s.as(s.user("bob@example.com", false))
	for _, c := range v.jar.cookies {
		if strings.HasSuffix(c.Name, "-link") {
			bob.jar.SetCookies(nil, []*http.Cookie{c})
		}
	}
	bob.post(confirm, nil).want(t, http.StatusBadRequest)
	v.send(http.MethodPost, confirm, url.Values{}, http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}).want(t, http.StatusForbidden)
	if to := v.post(confirm, nil).location(t); to != "/account?notice=provider-linked" || linked() != 1 {
		t.Errorf("sent to %s, %d linked", to, linked())
	}
	if to := p.come(s.visitor(), "/sign-in/oidc").location(t); to != "/" {
		t.Errorf("sent to %s", to)
	}
	bob.post(p.come(bob, "/sign-in/oidc?link=1").location(t), nil).want(t, http.StatusConflict, "has an account here")
	q := p.leave(v, "/sign-in/oidc?link=1")
	v.post("/sign-out", nil)
	v.nobody(v.get("/sign-in/oidc/callback?"+q.Encode()), http.StatusBadRequest, "This sign-in is over")

	// Begun by one person, finished by another in the same browser.
	v = s.as(s.owner)
	q = p.leave(v, "/sign-in/oidc?link=1")
	v.jar.SetCookies(nil, s.as(s.owner).jar.cookies)
	v.get("/sign-in/oidc/callback?"+q.Encode()).want(t, http.StatusBadRequest, "This sign-in is over")

	v = s.as(s.owner)
	unlink := url.Values{"issuer": {p.URL}, "subject": {"grace"}}
	if to := v.post("/account/providers/unlink", unlink).location(t); to != "/account?notice=last-way" || linked() != 1 {
		t.Errorf("sent to %s, %d linked", to, linked())
	}
	bob.post("/account/providers/unlink", unlink).want(t, http.StatusNotFound)
	fatal(t, s.manager.LinkSubject(t.Context(), manage.User(s.owner.ID).Proven(s.now()), identity.Person{Issuer: p.URL, Subject: "ada"}))
	if to := v.post("/account/providers/unlink", unlink).location(t); to != "/account?notice=provider-unlinked" || linked() != 1 {
		t.Errorf("sent to %s, %d linked", to, linked())
	}
}
