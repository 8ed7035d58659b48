package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

const jwksURI = issuerName + "/.well-known/jwks.json"

var errDown = errors.New("no route to host")

// network stands between a Remote and its issuer.
type network struct {
	mu       sync.Mutex
	down     error
	delay    time.Duration
	metadata string
	status   int
	header   http.Header
	keys     string
	tag      string

	fetches   int // of keys
	confirmed int // of these, answered with 304
	discovery int
}

func newNetwork(t *testing.T, signers ...signer) *network {
	t.Helper()
	n := &network{status: http.StatusOK, header: http.Header{"Cache-Control": {"public, max-age=300"}}}
	n.metadata = fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, issuerName, jwksURI)
	n.publish(t, signers...)
	return n
}

func (n *network) publish(t *testing.T, signers ...signer) {
	t.Helper()
	n.set(func() { n.keys = documentOf(t, signers...); n.tag = `"` + encode(digest(n.keys)) + `"` })
}

func documentOf(t *testing.T, signers ...signer) string {
	t.Helper()
	var members []string
	for _, s := range signers {
		members = append(members, jsonText(t, s.public))
	}
	return `{"keys":[` + strings.Join(members, ",") + `]}`
}

func (n *network) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *network) counts() (fetches, discovery int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fetches, n.discovery
}

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	delay := n.delay
	if strings.HasSuffix(r.URL.Path, "openid-configuration") {
		n.discovery++
	} else {
		n.fetches++
	}
	n.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down != nil {
		return nil, n.down
	}
	a := &http.Response{StatusCode: n.status, Header: n.header.Clone(), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	text := n.keys
	switch {
	case strings.HasSuffix(r.URL.Path, "openid-configuration"):
		text, a.StatusCode = n.metadata, http.StatusOK
	case n.status == http.StatusOK && n.tag != "":
		a.Header.Set("ETag", n.tag)
		if r.Header.Get("If-None-Match") == n.tag {
			a.StatusCode, text = http.StatusNotModified, ""
			n.confirmed++
		}
	}
	a.Body = io.NopCloser(strings.NewReader(text))
	return a, nil
}

func newRemote(t *testing.T, n *network, change func(*bearer.RemoteConfig)) *bearer.Remote {
	t.Helper()
	c := bearer.RemoteConfig{Issuer: issuerName, Client: &http.Client{Transport: n}}
	if change != nil {
		change(&c)
	}
	r, err := bearer.NewRemote(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pass lets time go by in a test's bubble.
func pass(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // no real time passes

// has asks for a key and checks the answer. It lets fetches in the background
// end.
func has(t *testing.T, r *bearer.Remote, s signer, want error) {
	t.Helper()
	k, err := r.Key(t.Context(), s.public.ID)
	if !errors.Is(err, want) || (want == nil && (err != nil || k.ID != s.public.ID || k.Algorithm != s.public.Algorithm)) {
		t.Errorf("the key: %+v, %v; want error %v", k, err, want)
	}
	synctest.Wait()
}

func TestRemoteRefreshesAtHalfOfMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newES256(t)
		n := newNetwork(t, s)
		r := newRemote(t, n, nil)
		if fetches, _ := n.counts(); fetches != 0 {
			t.Error("it fetches before it is asked")
		}
		has(t, r, s, nil)
		pass(135*time.Second - time.Nanosecond)
		has(t, r, s, nil)
		if fetches, discovery := n.counts(); fetches != 1 || discovery != 1 {
			t.Errorf("%d fetches and %d discoveries before half of max-age is over", fetches, discovery)
		}
		// In the background: a slow answer keeps nobody.
		n.set(func() { n.delay = time.Second })
		pass(31 * time.Second)
		began := time.Now()
		if _, err := r.Key(t.Context(), s.public.ID); err != nil || time.Since(began) > 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		pass(2 * time.Second)
		synctest.Wait()
		if fetches, discovery := n.counts(); fetches != 2 || discovery != 1 || n.confirmed != 1 {
			t.Errorf("after half of max-age %d fetches, %d confirmed, %d discoveries", fetches, n.confirmed, discovery)
		}
		// After a long rest one call waits, and gets the newest.
		next := newES256(t)
		n.publish(t, next)
		pass(time.Hour)
		began = time.Now()
		has(t, r, next, nil)
		if time.Since(began) != time.Second {
			t.Errorf("the call took %s, want the fetch to be waited for", time.Since(began))
		}
		has(t, r, s, bearer.ErrUnknownKey)
	})
}

func TestRemoteFetchesOnceForUnknownKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, next := newES256(t), newES256(t)
		n := newNetwork(t, s)
		r := newRemote(t, n, nil)
		has(t, r, s, nil)
		has(t, r, next, bearer.ErrUnknownKey)
		n.publish(t, s, next)
		pass(bearer.Cooldown - 1)
		has(t, r, next, bearer.ErrUnknownKey) // it has looked for one within ten seconds
		pass(1)
		n.set(func() { n.delay, n.fetches = time.Second, 1 })

		// Many ask at once: one fetch, for which all of them wait; one that gives up
		// takes nobody along.
		ended, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var found, gone atomic.Int64
		for i := range 50 {
			ctx := t.Context()
			if i == 0 {
				ctx = ended
			}
			running.Go(func() {
				_, err := r.Key(ctx, next.public.ID)
				switch {
				case err == nil:
					found.Add(1)
				case errors.Is(err, bearer.ErrUnavailable) && errors.Is(err, context.Canceled):
					gone.Add(1)
				}
			})
		}
		synctest.Wait()
		cancel()
		running.Wait()
		if fetches, _ := n.counts(); fetches != 2 || found.Load() != 49 || gone.Load() != 1 {
			t.Errorf("%d fetches, %d found the key, %d gave up", fetches, found.Load(), gone.Load())
		}
	})
}

// Whoever sends invented kids causes one fetch in ten seconds and no growth.
func TestRemoteUnderAFloodOfKids(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newES256(t)
		n := newNetwork(t, s)
		r := newRemote(t, n, nil)
		has(t, r, s, nil)
		n.set(func() { n.fetches = 0 })
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range 10_000 {
			if _, err := r.Key(t.Context(), fmt.Sprint("kid", i)); !errors.Is(err, bearer.ErrUnknownKey) {
				t.Fatalf("an invented kid: %v", err)
			}
			pass(10 * time.Millisecond)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if fetches, _ := n.counts(); fetches > 10 || fetches < 9 {
			t.Errorf("%d fetches in 100 s", fetches)
		}
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
			t.Errorf("the heap has grown by %d bytes", grown)
		}
	})
}

func TestRemoteWhileTheIssuerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, next := newES256(t), newES256(t)
		n := newNetwork(t, s)
		r := newRemote(t, n, nil)
		has(t, r, s, nil)
		n.publish(t, s, next)
		n.set(func() { n.down, n.fetches = errDown, 0 })
		for range 24 * 60 {
			pass(time.Minute)
			has(t, r, s, nil)
			has(t, r, next, bearer.ErrUnavailable) // it cannot be known: no reason for 401
		}
		if fetches, _ := n.counts(); fetches < 24*60-5 || fetches > 2*24*60 {
			t.Errorf("%d attempts in 24 hours", fetches)
		}
		if status := r.Status(); status.Keys != 1 || !errors.Is(status.Failure, errDown) || time.Since(status.FetchedAt) != bearer.MaxStale {
			t.Errorf("status %+v", status)
		}
		pass(time.Second)
		has(t, r, s, bearer.ErrUnavailable)
		if _, err := r.Key(t.Context(), s.public.ID); !errors.Is(err, errDown) || !strings.Contains(err.Error(), "fetched for the last time at") {
			t.Errorf("the error does not say what is wrong: %v", err)
		}
		n.set(func() { n.down = nil })
		pass(bearer.Cooldown)
		has(t, r, s, nil)
		has(t, r, next, nil)
		if status := r.Status(); status.Failure != nil {
			t.Errorf("status %+v", status)
		}
	})
}

// An issuer that does not answer at all makes nobody wait, once that is known.
func TestRemoteWhileTheIssuerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newES256(t)
		n := newNetwork(t, s)
		r := newRemote(t, n, nil)
		has(t, r, s, nil)
		n.set(func() { n.delay = time.Hour })
		longest := time.Duration(0)
		for range 600 {
			pass(time.Second)
			began := time.Now()
			if _, err := r.Key(t.Context(), s.public.ID); err != nil {
				t.Fatal(err)
			}
			longest = max(longest, time.Since(began))
		}
		if longest > 0 {
			t.Errorf("a call took %s", longest)
		}
		pass(time.Minute) // for the last attempt to end
	})
}

// No answer takes the keys away that are there.
func TestRemoteKeepsItsKeys(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, n *network){
		"an empty set":  func(_ *testing.T, n *network) { n.keys, n.tag = `{"keys":[]}`, `"e"` },
		"no usable key": func(_ *testing.T, n *network) { n.keys, n.tag = `{"keys":[{"kty":"oct","kid":"a","k":"AQ"}]}`, `"e"` },
		"no JSON":       func(_ *testing.T, n *network) { n.keys, n.tag = "<html>", `"e"` },
		"half of it":    func(_ *testing.T, n *network) { n.keys, n.tag = n.keys[:len(n.keys)/2], `"e"` },
		"too much":      func(_ *testing.T, n *network) { n.keys, n.tag = n.keys+strings.Repeat(" ", 256<<10), `"e"` },
		"nothing":       func(_ *testing.T, n *network) { n.keys, n.tag = "", `"e"` },
		"an error":      func(_ *testing.T, n *network) { n.status = http.StatusInternalServerError },
		"a refusal":     func(_ *testing.T, n *network) { n.status = http.StatusForbidden },
		"a redirect": func(_ *testing.T, n *network) {
			n.status, n.header = http.StatusFound, http.Header{"Location": {jwksURI + "/elsewhere"}}
		},
		"gone":               func(_ *testing.T, n *network) { n.status = http.StatusNotFound },
		"an unasked-for 304": func(_ *testing.T, n *network) { n.status = http.StatusNotModified; n.tag = "" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newES256(t)
				n := newNetwork(t, s)
				n.tag = ""
				r := newRemote(t, n, nil)
				has(t, r, s, nil)
				n.set(func() { spoil(t, n); n.fetches = 0 })
				pass(time.Hour)
				has(t, r, s, nil)
				if status := r.Status(); status.Keys != 1 || status.Failure == nil || n.fetches == 0 {
					t.Errorf("status %+v after %d fetches", status, n.fetches)
				}
				fresh := newRemote(t, n, nil)
				has(t, fresh, s, bearer.ErrUnavailable)
			})
		})
	}
}

func TestRemoteDiscovery(t *testing.T) {
	for name, c := range map[string]struct{ metadata, says string }{
		"another issuer":    {fmt.Sprintf(`{"issuer":"https://evil.example.com","jwks_uri":%q}`, jwksURI), "have to be equal to the byte"},
		"a slash more":      {fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, issuerName+"/", jwksURI), "have to be equal to the byte"},
		"no issuer":         {fmt.Sprintf(`{"jwks_uri":%q}`, jwksURI), "have to be equal to the byte"},
		"keys in the clear": {fmt.Sprintf(`{"issuer":%q,"jwks_uri":"http://tokens.example.com/keys"}`, issuerName), "names no https address"},
		"no keys":           {fmt.Sprintf(`{"issuer":%q}`, issuerName), "names no https address"},
		"no object":         {`[]`, "not a JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newES256(t)
			n := newNetwork(t, s)
			n.metadata = c.metadata
			r := newRemote(t, n, nil)
			if err := r.Refresh(t.Context()); !errors.Is(err, bearer.ErrUnavailable) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Refresh: %v, want one that says %q", err, c.says)
			}
			if fetches, _ := n.counts(); fetches != 0 {
				t.Error("the keys were fetched all the same")
			}
			direct := newRemote(t, n, func(c *bearer.RemoteConfig) { c.JWKSURI = "http://tokenbooth.default.svc/keys" })
			if err := direct.Refresh(t.Context()); err != nil {
				t.Errorf("with JWKSURI: %v", err)
			}
		})
	}
}

// Keys that moved are found again.
func TestRemoteDiscoversAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newES256(t)
		n := newNetwork(t, s)
		r := newRemote(t, n, nil)
		has(t, r, s, nil)
		n.set(func() { n.status = http.StatusNotFound })
		pass(time.Hour)
		has(t, r, s, nil)
		n.set(func() {
			n.status, n.metadata = http.StatusOK, strings.Replace(n.metadata, "jwks.json", "elsewhere.json", 1)
		})
		n.set(func() { n.status = http.StatusOK })
		pass(time.Hour)
		has(t, r, s, nil)
		if _, discovery := n.counts(); discovery != 2 {
			t.Errorf("%d discoveries, want the first and one when the keys were gone", discovery)
		}
	})
}

// What the issuer says about the age of its keys counts, within bounds.
func TestRemoteMaxAge(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"as it says":        {http.Header{"Cache-Control": {"public, max-age=1000"}}, 1000 * time.Second},
		"less what it aged": {http.Header{"Cache-Control": {"public, max-age=1000"}, "Age": {"400"}}, 600 * time.Second},
		"nothing":           {http.Header{}, 300 * time.Second},
		"nonsense":          {http.Header{"Cache-Control": {"max-age=soon"}}, 10 * time.Second},
		"nothing to keep":   {http.Header{"Cache-Control": {"max-age=1000", "No-Store"}}, 10 * time.Second},
		"none":              {http.Header{"Cache-Control": {"max-age=0"}}, 10 * time.Second},
		"negative":          {http.Header{"Cache-Control": {"max-age=-5"}}, 10 * time.Second},
		"too old already":   {http.Header{"Cache-Control": {"max-age=300"}, "Age": {"301"}}, 10 * time.Second},
		"a year":            {http.Header{"Cache-Control": {"max-age=31536000, immutable"}}, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newES256(t)
				n := newNetwork(t, s)
				n.header = c.header
				r := newRemote(t, n, nil)
				has(t, r, s, nil)
				pass(c.want*9/20 - time.Millisecond)
				has(t, r, s, nil)
				if fetches, _ := n.counts(); fetches != 1 {
					t.Error("it was fetched again too early")
				}
				pass(c.want/10 + 2*time.Millisecond)
				has(t, r, s, nil)
				if fetches, _ := n.counts(); fetches != 2 {
					t.Errorf("%d fetches after half of %s", fetches, c.want)
				}
			})
		})
	}
}

func TestNewRemoteRefuses(t *testing.T) {
	for _, c := range []struct {
		config bearer.RemoteConfig
		says   string
	}{
		{bearer.RemoteConfig{}, "Issuer is empty"},
		{bearer.RemoteConfig{Issuer: "tokens.example.com"}, "not an https URL"},
		{bearer.RemoteConfig{Issuer: "http://tokens.example.com"}, "not an https URL"},
		{bearer.RemoteConfig{Issuer: "http://127.evil.example.com"}, "not an https URL"},
		{bearer.RemoteConfig{Issuer: "ftp://localhost"}, "not an https URL"},
		{bearer.RemoteConfig{Issuer: issuerName, JWKSURI: "/keys"}, "JWKSURI is not a URL"},
		{bearer.RemoteConfig{Issuer: issuerName, JWKSURI: "file:///etc/keys"}, "JWKSURI is not a URL"},
		{bearer.RemoteConfig{Issuer: issuerName, MaxStale: -1}, "MaxStale -1ns"},
		{bearer.RemoteConfig{Issuer: issuerName, MaxStale: bearer.MaxStale + 1}, "use up to 24h0m0s"},
	} {
		if r, err := bearer.NewRemote(c.config); err == nil || r != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want an error that says %q", c.config, err, c.says)
		}
	}
	for _, issuer := range []string{"http://localhost:8080", "http://127.0.0.1", "http://[::1]:1/a"} {
		if _, err := bearer.NewRemote(bearer.RemoteConfig{Issuer: issuer}); err != nil {
			t.Errorf("%s: %v", issuer, err)
		}
	}
}

// A clock that is set back makes keys neither fresh for ever nor stale.
func TestRemoteWithAClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newES256(t)
		n := newNetwork(t, s)
		clock := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
		r := newRemote(t, n, func(c *bearer.RemoteConfig) { c.Now = func() time.Time { return clock } })
		has(t, r, s, nil)
		clock = clock.Add(-time.Hour)
		has(t, r, s, nil)
		if fetches, _ := n.counts(); fetches != 2 {
			t.Errorf("%d fetches, want one more", fetches)
		}
	})
}

// Tokens are verified, keys rotate and vanish, all at once.
func TestRemoteAtOnce(t *testing.T) {
	signers := []signer{newES256(t), newEdDSA(t), newES256(t)}
	n := newNetwork(t, signers...)
	r := newRemote(t, n, nil)
	v, err := bearer.New(bearer.Config{Issuer: issuerName, Audience: audience, Keys: r, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	tokens := []string{signers[0].token(t, nil, nil), signers[1].token(t, nil, nil), signers[2].token(t, nil, nil)}
	var running sync.WaitGroup
	for i := range 50 {
		running.Go(func() {
			for j := range 20 {
				if i == 0 {
					_ = r.Refresh(t.Context())
					r.Status()
				}
				if _, err := v.Verify(t.Context(), tokens[(i+j)%3]); err != nil {
					t.Errorf("refused: %v", err)
				}
			}
		})
	}
	running.Wait()
}
