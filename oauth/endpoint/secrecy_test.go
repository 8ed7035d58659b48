package endpoint_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// A secret in the wrong place comes back nowhere: send looks at every answer,
// and the end of the test at the whole log.
func TestMisplacedSecretsAreNotRepeated(t *testing.T) {
	b := newBooth(t, options{})
	secret := b.active.Secret.Reveal()
	other := b.key(nil).Secret.Reveal()
	for _, s := range []string{secret, other, "x" + secret, other + "x", apiURL + "/" + other, secret + ":read"} {
		for _, parameter := range []string{"client_id", "scope", "resource", "audience", "grant_type", "client_assertion", "foo", s} {
			b.login(formOf(b.active, parameter, s))
		}
		b.post("application/json", `{"clientId":"`+s+`","clientSecret":"`+s+`","scope":"`+s+`"}`)
		b.post("application/json", `{"`+s+`":"`+s+`"`)
		b.post(s+"/"+s, s)
		b.post(formType, s)
		b.post(formType, "%"+s)
		for _, name := range []string{"X-Request-Id", "User-Agent", "Cookie", "Origin", "Referer", "Content-Encoding", "If-None-Match", "X-Api-Key", "X-Forwarded-For"} {
			b.login(formOf(b.active), setHeader(name, s))
			b.get(endpoint.WhoamiPath, setHeader(name, s))
		}
		for _, scheme := range []string{"Bearer ", "Basic ", "Token ", "", s + " "} {
			b.login(url.Values{"grant_type": {"client_credentials"}}, setHeader("Authorization", scheme+s))
			b.whoami(scheme + s)
		}
		b.login(formOf(b.active), query("client_secret="+s))
		b.whoami("Bearer eyJ."+s+".x", query("access_token="+s))
		r := httptest.NewRequest(http.MethodGet, "/"+url.PathEscape(s), nil)
		b.send(r)
		r = httptest.NewRequest(http.MethodPost, endpoint.LoginPath, nil)
		r.Method = s
		b.ServeHTTP(httptest.NewRecorder(), r)
	}
}

// A secret in a query is worth a word in the log, so that someone rotates it.
func TestSecretInURLIsNoted(t *testing.T) {
	b := newBooth(t, options{})
	b.login(formOf(b.active), query("x=1"))
	if strings.Contains(b.log.String(), "secret_in_url") {
		t.Error("any query is noted")
	}
	b.login(url.Values{}, query("client_secret="+b.active.Secret.Reveal())).want(b, http.StatusBadRequest, "invalid_request")
	if !strings.Contains(b.log.String(), `"secret_in_url":true`) {
		t.Error("the log does not note the secret in the URL")
	}
}
