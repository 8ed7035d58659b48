package bearer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// echo answers with what it learns of the caller and with the body.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	claims, ok := bearer.FromContext(r.Context())
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%v %s %s %v", ok, claims.Subject, body, err)
})

func ask(v *bearer.Verifier, r *http.Request, scopes ...string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	v.Require(scopes...)(echo).ServeHTTP(recorder, r)
	return recorder
}

func request(authorization ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/charts", nil)
	for _, value := range authorization {
		r.Header.Add("Authorization", value)
	}
	return r
}

// The answers of RFC 6750 §3, to the byte of the challenge.
func TestRequireAnswers(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, nil, s)
	good := s.token(t, nil, nil)
	none := s.token(t, nil, object{"scope": nil})
	const bare = "Bearer"
	invalidToken := func(description string) string {
		return `Bearer error="invalid_token", error_description="The token is not valid: ` + description + `."`
	}
	query := request()
	query.URL.RawQuery = "access_token=" + good
	form := httptest.NewRequest(http.MethodPost, "/charts", strings.NewReader("access_token="+good))
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	cookie := request()
	cookie.AddCookie(&http.Cookie{Name: "access_token", Value: good})
	cookie.AddCookie(&http.Cookie{Name: "__Host-session", Value: good})
	for _, c := range []struct {
		name      string
		request   *http.Request
		scopes    []string
		status    int
		challenge string
	}{
		{"G100 no Authorization", request(), nil, 401, bare},
		{"G100 an empty one", request(""), nil, 401, bare},
		{"G100 another scheme", request("Basic dGJrOnRicw=="), nil, 401, bare},
		{"G100 no scheme", request(good), nil, 401, bare},
		{"G101 any case of the scheme", request("bEaReR " + good), nil, 200, ""},
		{"G101 a good token", request("Bearer " + good), []string{"charts:read"}, 200, ""},
		{"G101 more spaces", request("Bearer   " + good), nil, 200, ""},
		{"G102 no token", request("Bearer"), nil, 401, invalidToken("it does not have the three parts of a JWT")},
		{"G102 expired", request("Bearer " + s.token(t, nil, object{"exp": now.Unix()})), nil, 401, invalidToken("it has expired")},
		{"G102 bad signature", request("Bearer " + newES256(t).token(t, object{"kid": s.public.ID}, nil)), nil, 401, invalidToken("its signature does not match")},
		{"G102 another issuer", request("Bearer " + s.token(t, nil, object{"iss": "https://evil.example.com"})), nil, 401, invalidToken("it was issued by another issuer")},
		{"G102 another audience", request("Bearer " + s.token(t, nil, object{"aud": "https://charts.example.com"})), nil, 401, invalidToken("it is meant for another audience")},
		{"G102 typ JWT", request("Bearer " + s.token(t, object{"typ": "JWT"}, nil)), nil, 401, invalidToken("its typ is not at+jwt")},
		{"G102 alg none", request("Bearer " + s.token(t, object{"alg": "none"}, nil)), nil, 401, invalidToken("its alg is not the one of its key")},
		{"G103 exp 0", request("Bearer " + s.token(t, nil, object{"exp": 0})), nil, 401, invalidToken("it has no exp")},
		{"G104 too little scope", request("Bearer " + good), []string{"charts:delete", "charts:read"}, 403,
			`Bearer error="insufficient_scope", error_description="The token lacks charts:delete: ask for a token with that scope, or for a key that holds it.", scope="charts:delete charts:read"`},
		{"G104 no scope", request("Bearer " + none), []string{"charts:read"}, 403,
			`Bearer error="insufficient_scope", error_description="The token lacks charts:read: ask for a token with that scope, or for a key that holds it.", scope="charts:read"`},
		{"G106 two headers", request("Bearer "+good, "Bearer "+good), nil, 400,
			`Bearer error="invalid_request", error_description="There is more than one Authorization header: send one."`},
		{"G107 in the query", query, nil, 401, bare},
		{"G107 in a form", form, nil, 401, bare},
		{"G108 among several audiences", request("Bearer " + s.token(t, nil, object{"aud": []string{"https://charts.example.com", audience}})), nil, 200, ""},
		{"G108 only wrong audiences", request("Bearer " + s.token(t, nil, object{"aud": []string{"https://charts.example.com", "x"}})), nil, 401, invalidToken("it is meant for another audience")},
		{"G108 audiences that are no strings", request("Bearer " + s.token(t, nil, object{"aud": []any{audience, 1}})), nil, 401, invalidToken("claim aud has an unexpected form")},
		{"G109 in a cookie", cookie, nil, 401, bare},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := ask(v, c.request, c.scopes...)
			body := a.Body.String()
			if challenges := a.Header().Values("WWW-Authenticate"); a.Code != c.status || strings.Join(challenges, "|") != c.challenge {
				t.Errorf("%d %q; want %d %q", a.Code, challenges, c.status, c.challenge)
			}
			if c.status == 200 {
				if body != "true sa_1  <nil>" {
					t.Errorf("the handler says %q", body)
				}
				return
			}
			var problem oauth.Problem
			if err := json.Unmarshal([]byte(body), &problem); err != nil || problem.Status != c.status || problem.Detail == "" || problem.Error != problem.Detail || problem.Success {
				t.Errorf("the body is %s", body)
			}
			if a.Header().Get("Content-Type") != "application/problem+json" || strings.Contains(body, "hunter2") {
				t.Errorf("%s: %s", a.Header().Get("Content-Type"), body)
			}
		})
	}
}

// G106: a form that repeats the token is refused; any other body reaches the
// handler whole, however long.
func TestRequireLooksAtForms(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, nil, s)
	good := s.token(t, nil, nil)
	long := "name=" + strings.Repeat("x", 200<<10)
	for _, c := range []struct {
		contentType, body string
		status            int
	}{
		{"application/x-www-form-urlencoded", "access_token=" + good, 400},
		{"application/x-www-form-urlencoded; charset=UTF-8", "a=1&access%5Ftoken=x", 400},
		{"Application/X-WWW-Form-Urlencoded", "a=1&access_token", 400},
		{"application/x-www-form-urlencoded", "a=access_token&my_access_token=1", 200},
		{"application/x-www-form-urlencoded", "", 200},
		{"application/x-www-form-urlencoded", "%zz&=&&", 200},
		{"application/x-www-form-urlencoded", long, 200},
		{"application/json", `{"access_token":"x"}`, 200},
		{"text/plain", "access_token=x", 200},
		{"", "access_token=x", 200},
	} {
		r := httptest.NewRequest(http.MethodPost, "/charts", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.contentType)
		r.Header.Set("Authorization", "Bearer "+good)
		a := ask(v, r)
		body := a.Body.String()
		if a.Code != c.status {
			t.Errorf("%s %.40s: %d, want %d", c.contentType, c.body, a.Code, c.status)
		}
		if c.status == 200 && body != "true sa_1 "+c.body+" <nil>" {
			t.Errorf("%s %.40s: the handler reads something else: %.80s", c.contentType, c.body, body)
		}
		if c.status == 400 && !strings.Contains(a.Header().Get("WWW-Authenticate"), `error="invalid_request"`) {
			t.Errorf("%s: challenge %s", c.contentType, a.Header().Get("WWW-Authenticate"))
		}
	}
	// What goes wrong while it is read is the handler's to see.
	broken := httptest.NewRequest(http.MethodPost, "/charts", io.MultiReader(strings.NewReader("a=1"), failing{}))
	broken.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	broken.Header.Set("Authorization", "Bearer "+good)
	if body := ask(v, broken).Body.String(); body != "true sa_1 a=1 cut off" {
		t.Errorf("the handler says %q", body)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("cut off") }

// That something cannot be known is not the client's fault.
func TestRequireWithoutKeys(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, func(c *bearer.Config) {
		c.Keys = bearer.KeySetFunc(func(context.Context, string) (bearer.Key, error) { return bearer.Key{}, bearer.ErrUnavailable })
	})
	a := ask(v, request("Bearer "+s.token(t, nil, nil)))
	seconds, err := strconv.Atoi(a.Header().Get("Retry-After"))
	if a.Code != 503 || err != nil || seconds < 1 || seconds > 5 || a.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("%d, Retry-After %q, challenge %q", a.Code, a.Header().Get("Retry-After"), a.Header().Get("WWW-Authenticate"))
	}
	if body := a.Body.String(); !strings.Contains(body, "nothing is wrong with yours") || strings.Contains(body, issuerName) {
		t.Errorf("the body is %s", body)
	}
}

func TestRequireRealmAndRefuse(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, func(c *bearer.Config) {
		c.Realm = "charts"
		c.Refuse = func(w http.ResponseWriter, r *http.Request, e *oauth.Error) {
			http.Error(w, r.URL.Path+" "+string(e.Code), e.Status)
		}
	}, s)
	a := ask(v, request())
	if a.Header().Get("WWW-Authenticate") != `Bearer realm="charts"` || a.Body.String() != "/charts \n" || a.Code != 401 {
		t.Errorf("%d %s", a.Code, a.Header().Get("WWW-Authenticate"))
	}
	a = ask(v, request("Bearer x"))
	if want := regexp.MustCompile(`^Bearer realm="charts", error="invalid_token", error_description="[^"]+"$`); !want.MatchString(a.Header().Get("WWW-Authenticate")) {
		t.Errorf("challenge %s", a.Header().Get("WWW-Authenticate"))
	}
}

// A mistake in the program shows when it starts.
func TestRequirePanics(t *testing.T) {
	v := newVerifier(t, nil, newES256(t))
	for _, scopes := range [][]string{{""}, {"a b"}, {"a\"b"}, {"a", "a"}, {"charts:read\n"}} {
		t.Run(fmt.Sprintf("%q", scopes), func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it does not panic")
				}
			}()
			v.Require(scopes...)
		})
	}
	v.Require("not-in-any-catalogue", "https://example.com/scope")
}

func TestFromContextWithoutToken(t *testing.T) {
	if claims, ok := bearer.FromContext(t.Context()); ok || claims != nil {
		t.Errorf("claims %+v out of nothing", claims)
	}
}
