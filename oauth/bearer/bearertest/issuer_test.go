package bearertest_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/bearer/bearertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const audience = "https://api.example.com"

func charts(c *oauth.Claims) { c.Scope = oauth.NewScope("charts:read") }

// What a test of a service looks like.
func TestService(t *testing.T) {
	issuer := bearertest.NewIssuer(t, audience)
	service := issuer.Verifier().Require("charts:read")(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
	for name, test := range map[string]struct {
		token  string
		status int
	}{
		"with the scope":  {issuer.Token(charts), http.StatusNoContent},
		"without it":      {issuer.Token(), http.StatusForbidden},
		"for another":     {issuer.Token(charts, func(c *oauth.Claims) { c.Audience = oauth.Audience{"other"} }), http.StatusUnauthorized},
		"expired":         {issuer.Token(charts, func(c *oauth.Claims) { c.Expiry = 1 }), http.StatusUnauthorized},
		"of another type": {issuer.Sign(map[string]any{"typ": "JWT"}, []byte(`{}`)), http.StatusUnauthorized},
		"without a kid":   {issuer.Sign(map[string]any{"kid": nil}, []byte(`{}`)), http.StatusUnauthorized},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+test.token)
		recorder := httptest.NewRecorder()
		service.ServeHTTP(recorder, r)
		if recorder.Code != test.status {
			t.Errorf("%s: %d, want %d: %s", name, recorder.Code, test.status, recorder.Body)
		}
	}
	if n := issuer.Fetches(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

func TestKeysAndNetwork(t *testing.T) {
	issuer := bearertest.NewIssuer(t, audience)
	before := issuer.Token()
	verify := func(v *bearer.Verifier, token string, want error) {
		t.Helper()
		if _, err := v.Verify(t.Context(), token); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	for _, algorithm := range []string{jwk.RS256, jwk.EdDSA, jwk.ES256} {
		issuer.RotateTo(algorithm)
		verify(issuer.Verifier(), issuer.Token(), nil)
		verify(issuer.Verifier(), before, nil)
	}
	old := issuer.Verifier()
	verify(old, before, nil)
	issuer.Forget()
	verify(old, before, nil)
	verify(issuer.Verifier(), before, bearer.ErrInvalid)
	verify(issuer.Verifier(), issuer.Token(), nil)

	issuer.Stop()
	issuer.Stop()
	verify(old, issuer.Token(), nil)
	verify(issuer.Verifier(), issuer.Token(), bearer.ErrUnavailable)
	issuer.Start()
	verify(issuer.Verifier(), issuer.Token(), nil)

	keys, err := bearer.ParseKeys(issuer.Keys())
	if err != nil || keys.Len() != 1 {
		t.Errorf("the published keys: %v, %v", keys, err)
	}
}
