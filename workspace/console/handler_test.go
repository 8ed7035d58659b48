package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestNobodyIsSentToSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	to := s.visitor().get("/w/" + s.ws.Slug + "?x=1").location(t)
	if to != "/sign-in?next="+url.QueryEscape("/w/"+s.ws.Slug+"?x=1") {
		t.Errorf("sent to %s", to)
	}
}

// Every answer of the console has the same strict headers, errors included.
func TestEveryAnswerIsGuarded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for path, status := range map[string]int{"/": http.StatusOK, "/nowhere": http.StatusNotFound, "/w/none": http.StatusNotFound, "/account/look": http.StatusMethodNotAllowed} {
		a := s.as(s.owner).get(path).want(t, status)
		for name, part := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
			"Cross-Origin-Opener-Policy": "same-origin", "Permissions-Policy": "clipboard-write=(self)", "Strict-Transport-Security": "max-age=", "Cache-Control": "no-store",
		} {
			if !strings.Contains(a.header.Get(name), part) {
				t.Errorf("%s: %s is %q", path, name, a.header.Get(name))
			}
		}
		if policy := a.header.Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %s", path, policy)
		}
	}
}

func TestOtherMethods(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, method := range []string{http.MethodTrace, http.MethodPut, http.MethodDelete, http.MethodOptions, "BREW"} {
		for path, allow := range map[string]string{"/": "GET, HEAD", "/w/payments/keys/new": "GET, HEAD, POST", "/account/look": "POST"} {
			a := s.as(s.owner).send(method, path, nil, http.Header{"Origin": {s.url}}).want(t, http.StatusMethodNotAllowed)
			if a.header.Get("Allow") != allow || !strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
				t.Errorf("%s %s: %v", method, path, a.header)
			}
		}
	}
}

// HEAD answers like GET, without the page.
func TestHead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for path, status := range map[string]int{"/": http.StatusOK, "/nowhere": http.StatusNotFound, "/w/payments": http.StatusOK} {
		a := s.as(s.owner).send(http.MethodHead, path, nil, nil).want(t, status)
		if a.body != "" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %q, %v", path, a.body, a.header)
		}
	}
}

// Assets are kept for good under the hash of what they are, and under nothing else.
func TestAssets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	page := s.visitor().get("/sign-in").want(t, http.StatusOK).body
	_, rest, _ := strings.Cut(page, `rel="stylesheet" href="`)
	path, _, _ := strings.Cut(rest, `"`)
	a := s.visitor().get(path).want(t, http.StatusOK, ":root")
	if got := a.header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
		t.Errorf("Cache-Control %q", got)
	}
	for _, wrong := range []string{strings.Replace(path, "/assets/", "/assets/0", 1), "/assets/x/console.css", path + "x", "/assets/../helpers.go"} {
		a := s.visitor().get(wrong).want(t, http.StatusNotFound)
		if got := a.header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control %q", wrong, got)
		}
	}
}

// A page is parsed when it is first asked for, so that each can be is known here.
func TestEveryPageCanBeParsed(t *testing.T) {
	t.Parallel()
	if n, err := newSite(t).handler.ParsePages(); err != nil || n < 20 {
		t.Errorf("%d pages, %v", n, err)
	}
}

// A few exports run at once; another one is told to come again, as a page.
func TestExportsTakeTurns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	release := s.handler.HoldExports()
	for _, path := range []string{"/w/payments/keys.csv", "/w/payments/audit.jsonl"} {
		a := v.get(path).want(t, http.StatusServiceUnavailable, "Other exports are running")
		if a.header.Get("Retry-After") == "" || a.header.Get("Content-Disposition") != "" {
			t.Errorf("%s: %v", path, a.header)
		}
	}
	release()
	for range 3 { // each gives its place back
		v.get("/w/payments/keys.csv").want(t, http.StatusOK, "client_id")
	}
}
