package bearertest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/bearer/bearertest"
)

// newService is the service under test: it makes its verifier of its settings.
func newService(issuer string) (http.Handler, error) {
	verifier, err := bearer.New(bearer.Config{Issuer: issuer, Audience: "https://api.example.com"})
	if err != nil {
		return nil, err
	}
	return verifier.Require("charts:read")(http.NotFoundHandler()), nil
}

func ExampleNewIssuer() {
	_ = func(t *testing.T) { // func TestCharts(t *testing.T) {
		issuer := bearertest.NewIssuer(t, "https://api.example.com")
		service, err := newService(issuer.URL())
		if err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequest(http.MethodGet, "/charts", nil)
		request.Header.Set("Authorization", "Bearer "+issuer.Token(func(c *oauth.Claims) {
			c.Scope = oauth.NewScope("charts:read")
		}))
		answer := httptest.NewRecorder()
		service.ServeHTTP(answer, request)
		if answer.Code != http.StatusNotFound {
			t.Errorf("the service answers %d", answer.Code)
		}
	}
	// Output:
}

func ExampleIssuer_Revoke() {
	_ = func(t *testing.T) { // func TestRevoked(t *testing.T) {
		issuer := bearertest.NewIssuer(t, "https://api.example.com")
		feed := issuer.Feed()
		verifier, err := bearer.New(bearer.Config{Issuer: issuer.URL(), Audience: "https://api.example.com", Revocations: feed})
		if err != nil {
			t.Fatal(err)
		}
		token := issuer.Token()
		issuer.Revoke(oauth.RevocableKey, "tbk_test", 0)
		if err := feed.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := verifier.Verify(t.Context(), token); err == nil {
			t.Error("a token of a revoked key is accepted")
		}
	}
	// Output:
}
