package bearer_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// answering are revocations with two answers, which learn of a revocation when
// they are asked whether they are fresh.
type answering struct {
	revoked, fresh error
	learns         error
}

func (a *answering) Revoked(context.Context, string, *oauth.Claims) error { return a.revoked }

func (a *answering) Fresh(context.Context) error {
	if a.learns != nil {
		a.revoked = a.learns
	}
	return a.fresh
}

// Routes that need to know of recent revocations are closed while that cannot be
// had, and all others stay open.
func TestRequireFresh(t *testing.T) {
	s := newES256(t)
	answers := &answering{}
	v := newVerifier(t, func(c *bearer.Config) { c.Revocations = answers }, s)
	good := s.token(t, nil, nil)
	for _, c := range []struct {
		name            string
		answers         answering
		token           string
		scope           string
		ordinary, fresh int
	}{
		{"fresh", answering{}, good, "charts:read", 200, 200},
		{"stale", answering{fresh: bearer.ErrStale}, good, "charts:read", 200, 503},
		{"unknown", answering{revoked: bearer.ErrRevocationsUnknown, fresh: bearer.ErrStale}, good, "charts:read", 503, 503},
		{"revoked", answering{revoked: bearer.ErrRevoked}, good, "charts:read", 401, 401},
		{"revoked, and stale", answering{revoked: bearer.ErrRevoked, fresh: bearer.ErrStale}, good, "charts:read", 401, 401},
		{"revoked meanwhile", answering{learns: bearer.ErrRevoked}, good, "charts:read", 200, 401},
		{"too little scope", answering{}, good, "charts:delete", 403, 403},
		{"not a token", answering{fresh: bearer.ErrStale}, "x", "charts:read", 401, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, route := range []struct {
				status int
				answer func() *httptest.ResponseRecorder
			}{
				{c.ordinary, func() *httptest.ResponseRecorder { return ask(v, request("Bearer "+c.token), c.scope) }},
				{c.fresh, func() *httptest.ResponseRecorder {
					recorder := httptest.NewRecorder()
					v.RequireFresh(c.scope)(echo).ServeHTTP(recorder, request("Bearer "+c.token))
					return recorder
				}},
			} {
				*answers = c.answers
				a := route.answer()
				if a.Code != route.status {
					t.Errorf("%d %s, want %d", a.Code, a.Body, route.status)
				}
				if a.Code != 503 {
					continue
				}
				var problem oauth.Problem
				seconds, err := strconv.Atoi(a.Header().Get("Retry-After"))
				if err != nil || seconds < 1 || seconds > 5 || a.Header().Get("Content-Type") != oauth.ProblemType || a.Header().Get("WWW-Authenticate") != "" {
					t.Errorf("headers %v", a.Header())
				}
				if json.Unmarshal(a.Body.Bytes(), &problem) != nil || !strings.Contains(problem.Detail, "nothing is wrong with yours") || strings.Contains(problem.Detail, issuerName) {
					t.Errorf("body %s", a.Body)
				}
			}
		})
	}
}

// A program that asks for fresh revocations without any is mistaken, and does not
// start.
func TestRequireFreshPanics(t *testing.T) {
	with := newVerifier(t, func(c *bearer.Config) { c.Revocations = &answering{} }, newES256(t))
	for name, c := range map[string]struct {
		verifier *bearer.Verifier
		scopes   []string
	}{
		"without revocations": {newVerifier(t, nil, newES256(t)), []string{"charts:read"}},
		"two scopes in one":   {with, []string{"a b"}},
	} {
		func() {
			defer func() {
				if said, ok := recover().(string); !ok || !strings.Contains(said, "RequireFresh") {
					t.Errorf("%s: it panics with %q", name, said)
				}
			}()
			c.verifier.RequireFresh(c.scopes...)
		}()
	}
}

func TestVerifyFresh(t *testing.T) {
	s := newES256(t)
	good := s.token(t, nil, nil)
	v := newVerifier(t, func(c *bearer.Config) { c.Revocations = &answering{fresh: bearer.ErrStale} }, s)
	accepted(t, v, good)
	if c, err := v.VerifyFresh(t.Context(), good); c != nil || !errors.Is(err, bearer.ErrStale) || errors.Is(err, bearer.ErrInvalid) {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := newVerifier(t, nil, s).VerifyFresh(t.Context(), good); c != nil || err == nil || errors.Is(err, bearer.ErrInvalid) || !strings.Contains(err.Error(), "set Config.Revocations") {
		t.Errorf("without revocations: %+v, %v", c, err)
	}
}
