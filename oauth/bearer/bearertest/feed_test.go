package bearertest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/bearer/bearertest"
)

// follow runs a feed until the test ends.
func follow(t *testing.T, f *bearer.Feed) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// reach waits until a feed is at a position.
func reach(t *testing.T, f *bearer.Feed, p oauth.Position) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		moved := f.Moved()
		if !f.Position().Before(p) {
			return
		}
		select {
		case <-moved:
		case <-limit:
			t.Fatalf("it is at %+v, want %+v: %+v", f.Position(), p, f.Status())
		}
	}
}

func verifierOf(t *testing.T, issuer *bearertest.Issuer, feed *bearer.Feed) *bearer.Verifier {
	t.Helper()
	v, err := bearer.New(bearer.Config{Issuer: issuer.URL(), Audience: audience, Revocations: feed})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What is revoked is denied everywhere as soon as the feed has it, also what is
// signed later with the old generation.
func TestRevoke(t *testing.T) {
	for name, c := range map[string]struct {
		revoke func(*bearertest.Issuer) oauth.Position
		after  func(*oauth.Claims) // what tokens have afterwards that are good
	}{
		"a key": {
			func(i *bearertest.Issuer) oauth.Position { return i.Revoke(oauth.RevocableKey, "tbk_test", 0) },
			func(c *oauth.Claims) { c.ClientID = "tbk_other" },
		},
		"a key's generation": {
			func(i *bearertest.Issuer) oauth.Position { return i.Revoke(oauth.RevocableKey, "tbk_test", 2) },
			func(c *oauth.Claims) { c.KeyGeneration = 2 },
		},
		"a subject": {
			func(i *bearertest.Issuer) oauth.Position { return i.Revoke(oauth.RevocableSubject, "sa_test", 2) },
			func(c *oauth.Claims) { c.SubjectGeneration = 2 },
		},
		"a workspace": {
			func(i *bearertest.Issuer) oauth.Position { return i.Revoke(oauth.RevocableWorkspace, "ws_test", 2) },
			func(c *oauth.Claims) { c.WorkspaceGeneration = 2 },
		},
		"a token": {
			func(i *bearertest.Issuer) oauth.Position { return i.RevokeToken("token-1") },
			func(c *oauth.Claims) { c.ID = "token-2" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := bearertest.NewIssuer(t, audience)
			feed := issuer.Feed()
			follow(t, feed)
			v := verifierOf(t, issuer, feed)
			first := func(c *oauth.Claims) { c.ID = "token-1" }
			before := issuer.Token(first)
			if _, err := v.VerifyFresh(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			reach(t, feed, c.revoke(issuer))
			for _, token := range []string{before, issuer.Token(first)} {
				if _, err := v.Verify(t.Context(), token); !errors.Is(err, bearer.ErrInvalid) || !strings.Contains(err.Error(), "revoked") {
					t.Errorf("%v, want that it was revoked", err)
				}
			}
			if _, err := v.VerifyFresh(t.Context(), issuer.Token(first, c.after)); err != nil {
				t.Error(err)
			}
			reach(t, feed, issuer.NewEpoch())
			if _, err := v.Verify(t.Context(), before); !errors.Is(err, bearer.ErrInvalid) {
				t.Errorf("in another epoch: %v", err)
			}
		})
	}
}

// What a service answers while its issuer cannot vouch for the feed, and after.
func TestStaleAndStoppedFeed(t *testing.T) {
	issuer := bearertest.NewIssuer(t, audience)
	feed := issuer.Feed()
	v := verifierOf(t, issuer, feed)
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	check := func(when string, ordinary, fresh int) {
		t.Helper()
		for status, route := range map[*int]http.Handler{&ordinary: v.Require()(handler), &fresh: v.RequireFresh()(handler)} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Authorization", "Bearer "+issuer.Token())
			recorder := httptest.NewRecorder()
			route.ServeHTTP(recorder, r)
			if recorder.Code != *status {
				t.Errorf("%s: %d, want %d: %s", when, recorder.Code, *status, recorder.Body)
			}
		}
	}
	issuer.StopFeed()
	check("nothing was ever known", 503, 503)
	issuer.StaleFeed(2 * time.Minute)
	if err := feed.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("it is of two minutes ago", 204, 503)
	issuer.Revoke(oauth.RevocableKey, "tbk_test", 0) // which does not get out
	issuer.StopFeed()
	if err := feed.Refresh(t.Context()); err == nil {
		t.Error("a stopped feed answers")
	}
	check("it is away", 204, 503)
	issuer.StartFeed()
	if err := feed.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("it is back", 401, 401)
	issuer.Stop()
	if err := feed.Refresh(t.Context()); err == nil {
		t.Error("a stopped issuer answers")
	}
	check("the issuer is away", 401, 401)
}

// The feed on the wire: a request that waits is answered by a revocation, and all
// that wait when the issuer stops.
func TestFeedOnTheWire(t *testing.T) {
	issuer := bearertest.NewIssuer(t, audience)
	get := func(query string) (int, http.Header, string) {
		response, err := http.Get(issuer.URL() + oauth.FeedPath + query)
		if err != nil {
			t.Error(err)
			return 0, nil, ""
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Error(err)
		}
		return response.StatusCode, response.Header, string(body)
	}
	for query, want := range map[string]int{"": 200, "?epoch=1&since=0&wait=0": 200, "?epoch=9&since=9&wait=25": 200, "?epoch=-1": 400, "?since=x": 400} {
		status, header, body := get(query)
		if status != want {
			t.Errorf("%s: %d, want %d", query, status, want)
		}
		if status == 200 && (header.Get("Content-Type") != "application/jwt" || header.Get("Cache-Control") != "public, max-age=5" || strings.Count(body, ".") != 2) {
			t.Errorf("%s: %v %s", query, header, body)
		}
	}
	feed := issuer.Feed()
	follow(t, feed)
	first := issuer.RevokeToken("x")
	reach(t, feed, first)
	answered := make(chan int)
	go func() {
		status, _, _ := get("?epoch=1&since=1&wait=25")
		answered <- status
	}()
	issuer.RevokeToken("y")
	if status := <-answered; status != 200 {
		t.Errorf("the one who waits is told %d", status)
	}
	forged := issuer.SignFeed(nil, []byte(`{}`))
	if keys, err := bearer.ParseKeys(issuer.FeedKeys()); err != nil || keys.Len() != 1 || strings.Count(forged, ".") != 2 {
		t.Errorf("the keys of the feed: %v, %v", keys, err)
	}
	if strings.Contains(string(issuer.Keys()), strings.Split(string(issuer.FeedKeys()), `"kid":"`)[1][:43]) {
		t.Error("the key of the feed is among those of the tokens")
	}
}
