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
