package endpoint_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jmoiron/sqlx"
	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// kiosk is what gives out the feed, without the rest of a booth. Its clock stands.
type kiosk struct {
	testing.TB
	*echo.Echo
	db      *schema.DB
	manager *manage.Manager
	list    *revocation.List
	ring    *signing.Ring
	handler *endpoint.Handler
	now     time.Time
	held    bool
}

func newKiosk(tb testing.TB) *kiosk {
	tb.Helper()
	k := &kiosk{TB: tb, Echo: echo.New(), db: schematest.SQLite(tb), held: true, now: time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return k.now }
	sealer := must(signing.ParseSealer(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 32))))
	k.manager = &manage.Manager{
		Database: k.db, Sealer: sealer, Signing: signing.DefaultTiming, Now: clock,
		Policy: &policy.Policy{Audiences: must(policy.NewAudiences(issuer, "", nil))},
	}
	k.ring = &signing.Ring{Purpose: signing.Feed, Reader: k.db.Reader(), Sealer: sealer, Timing: signing.DefaultTiming}
	k.list = &revocation.List{Issuer: issuer, Reader: k.db.Reader(), Held: func() bool { return k.held }, Now: clock}
	k.handler = &endpoint.Handler{
		Issuer: issuer, Feed: &revocation.Publisher{List: k.list, Keys: k.ring, Now: clock}, FeedRing: k.ring,
		Log: slog.New(slog.DiscardHandler), Note: func(echo.Context, ...slog.Attr) {},
	}
	k.check(errors.Join(k.manager.EnsureSigningKeys(tb.Context(), operator), k.ring.Load(tb.Context()), k.handler.Mount(k.Echo)))
	k.revoke("a", "b")
	return k
}

func (k *kiosk) check(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

// revoke denies keys, and the list takes it in.
func (k *kiosk) revoke(ids ...string) {
	k.Helper()
	k.check(k.db.InTx(k.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		for _, id := range ids {
			_, err := revocation.Append(ctx, tx, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: id, Generation: 2, At: workspace.At(k.now)})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	k.check(k.list.Load(k.Context()))
}

func (k *kiosk) do(method, target string, edits ...func(*http.Request)) answer {
	k.Helper()
	r := httptest.NewRequest(method, target, nil)
	for _, edit := range edits {
		edit(r)
	}
	recorder := httptest.NewRecorder()
	k.ServeHTTP(recorder, r)
	return answer{status: recorder.Code, header: recorder.Header(), body: recorder.Body.String()}
}

func (k *kiosk) get(query string) answer {
	k.Helper()
	return k.do(http.MethodGet, oauth.FeedPath+query)
}

// after is a query for what was added after a number in the present epoch.
func (k *kiosk) after(seq int64, rest string) string {
	return fmt.Sprintf("?epoch=%d&since=%d%s", k.list.Position().Epoch, seq, rest)
}

// feedOf reads a feed without verifying it.
func feedOf(tb testing.TB, a answer) (feed oauth.Feed) {
	tb.Helper()
	parts := strings.Split(a.body, ".")
	if a.status != http.StatusOK || len(parts) != 3 {
		tb.Fatalf("status %d with the body %q", a.status, a.body)
	}
	if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(parts[1])), &feed); err != nil {
		tb.Fatal(err)
	}
	return feed
}

// RFC 9110 §8.8.3, §9.3.2, §15.5.6; RFC 9111 §5.2: the feed is a public document
// that caches keep for as long as it is the newest.
func TestFeedDocument(t *testing.T) {
	k := newKiosk(t)
	full := k.get("")
	if feed := feedOf(t, full); feed.From != 0 || feed.Sequence != 2 || len(feed.Entries) != 2 || feed.Issuer != issuer {
		t.Errorf("the feed is %+v", feed)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/jwt", "Cache-Control": "public, max-age=5", "Access-Control-Allow-Origin": "*",
	} {
		if got := full.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	tag := full.header.Get("ETag")
	if a := k.do(http.MethodGet, oauth.FeedPath, setHeader("If-None-Match", tag)); a.status != http.StatusNotModified || a.body != "" || a.header.Get("ETag") != tag {
		t.Errorf("the same again: %d %v", a.status, a.header)
	}
	if a := k.do(http.MethodHead, oauth.FeedPath); a.status != http.StatusOK || a.body != "" || a.header.Get("ETag") != tag {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	for _, path := range []string{oauth.FeedPath, oauth.FeedKeysPath} {
		if a := k.do(http.MethodPost, path); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %d %v", path, a.status, a.header)
		}
	}
	k.now = k.now.Add(3 * time.Second)
	if a := k.get(""); a.body != full.body || a.header.Get("Cache-Control") != "public, max-age=2" {
		t.Errorf("after 3 s: %v", a.header)
	}
	k.now = k.now.Add(2 * time.Second)
	a := k.do(http.MethodGet, oauth.FeedPath, setHeader("If-None-Match", tag))
	if feed := feedOf(t, a); a.header.Get("ETag") == tag || feed.IssuedAt != k.now.Unix() {
		t.Errorf("after 5 s: %v", a.header)
	}
	if feed := feedOf(t, k.get(k.after(1, ""))); feed.From != 1 || len(feed.Entries) != 1 {
		t.Errorf("the delta is %+v", feed)
	}
}

// What is asked wrongly is refused with a sentence that quotes nothing; what nobody
// can know is answered with the full feed.
func TestFeedParameters(t *testing.T) {
	k := newKiosk(t)
	epoch := k.list.Position().Epoch
	for query, from := range map[string]int64{
		"": 0, "?": 0, "?epoch=1": 0, "?wait=25": 0,
		k.after(1, ""): 1, k.after(2, ""): 2, k.after(1, "&wait=0"): 1, k.after(1, "&wait=25"): 1, k.after(1, "&wait=123456789012345678"): 1,
		k.after(0, ""): 0, k.after(3, ""): 0, k.after(3, "&wait=25"): 0, k.after(123456789012345678, ""): 0,
		fmt.Sprintf("?since=1&epoch=%d&wait=25", epoch+1): 0, fmt.Sprintf("?since=1&epoch=%d", epoch-1): 0,
	} {
		if feed := feedOf(t, k.get(query)); feed.From != from || feed.Sequence != 2 || len(feed.Entries) != 2-int(from) {
			t.Errorf("%q: %+v, want it from %d", query, feed, from)
		}
	}
	for query, says := range map[string]string{
		"?since=1":                      "since needs epoch beside it",
		"?since=1&wait=25":              "since needs epoch beside it",
		"?epoch=1&since=-1":             "since is not a whole number",
		"?epoch=1&since=1.5":            "since is not a whole number",
		"?epoch=1&since=":               "since is not a whole number",
		"?epoch=1&since=+1":             "since is not a whole number",
		"?epoch=x&since=1":              "epoch is not a whole number",
		"?epoch=1&since=1&wait=1s":      "wait is not a whole number",
		"?epoch=1234567890123456789":    "of 1 to 18 digits",
		"?epoch=1&epoch=1":              "epoch is there more than once",
		"?epoch=1&since=1&since=2":      "since is there more than once",
		"?token=tbs_hidden":             "epoch, since and wait, and no others",
		"?epoch=1&since=1&Wait=5":       "epoch, since and wait, and no others",
		"?epoch=1;since=1":              "The query is malformed",
		"?epoch=%zz":                    "The query is malformed",
		"?epoch=1&since=1&wait=%31%30x": "wait is not a whole number",
	} {
		a := k.get(query)
		if a.status != http.StatusBadRequest || a.code() != "invalid_request" || !strings.Contains(a.body, says) || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d %s, want 400 that says %q", query, a.status, a.body, says)
		}
		if strings.Contains(a.body, "hidden") {
			t.Errorf("%q: the answer quotes it", query)
		}
	}
}

// Whoever waits is answered as soon as something is denied.
func TestFeedWakesWhoeverWaits(t *testing.T) {
	k := newKiosk(t)
	began := time.Now()
	answers := make(chan answer)
	for range 10 {
		go func() { answers <- k.get(k.after(2, "&wait=25")) }()
	}
	k.revoke("c")
	for range 10 {
		a := <-answers
		if feed := feedOf(t, a); feed.From != 2 || feed.Sequence != 3 || len(feed.Entries) != 1 || a.header.Get("Cache-Control") != "public, max-age=5" {
			t.Errorf("the feed is %+v with %v", feed, a.header)
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Nobody waits for longer than they asked for, or than 25 seconds, and caches do
// not keep an answer without news.
func TestFeedWaitEnds(t *testing.T) {
	k := newKiosk(t)
	synctest.Test(t, func(t *testing.T) {
		for wait, want := range map[string]time.Duration{"1": time.Second, "25": 25 * time.Second, "26": 25 * time.Second, "86400": 25 * time.Second, "0": 0} {
			began := time.Now()
			a := k.get(k.after(2, "&wait="+wait))
			if took := time.Since(began); took != want {
				t.Errorf("wait=%s takes %s, want %s", wait, took, want)
			}
			if feed := feedOf(t, a); feed.From != 2 || len(feed.Entries) > 0 || (a.header.Get("Cache-Control") == "no-store") != (want > 0) {
				t.Errorf("wait=%s: %+v with %v", wait, feed, a.header)
			}
		}
	})
}

// The end of the server, a client that leaves, and too many who wait already: each
// ends the wait at once.
func TestFeedWaitIsCutShort(t *testing.T) {
	k := newKiosk(t)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		closing := make(chan struct{})
		k.handler.Closing, k.handler.MaxWaiting = closing, 3
		ctx, leave := context.WithCancel(t.Context())
		var running sync.WaitGroup
		waits := func(wanted int, edits ...func(*http.Request)) {
			running.Go(func() {
				if a := k.do(http.MethodGet, oauth.FeedPath+k.after(2, "&wait=25"), edits...); a.status != wanted {
					t.Errorf("status %d, want %d", a.status, wanted)
				}
			})
		}
		for range 2 {
			waits(http.StatusOK)
		}
		waits(http.StatusServiceUnavailable, func(r *http.Request) { *r = *r.WithContext(ctx) })
		synctest.Wait()
		feedOf(t, k.get(k.after(2, "&wait=25"))) // one too many
		leave()
		synctest.Wait()
		waits(http.StatusOK) // in the place of the one that left
		synctest.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("somebody waited for %s", took)
		}
		time.Sleep(time.Second) //nolint:forbidigo // in a bubble
		close(closing)
		running.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("after the end they waited on, for %s", took)
		}
	})
}

// The bounds of the server are for requests that do not wait.
func TestFeedWaitOutlastsTheServersBounds(t *testing.T) {
	k := newKiosk(t)
	server := &http.Server{Handler: k.Echo, ReadTimeout: 100 * time.Millisecond, WriteTimeout: 200 * time.Millisecond, ReadHeaderTimeout: 100 * time.Millisecond}
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	defer running.Wait()
	defer func() { _ = server.Close() }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	request := must(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+oauth.FeedPath+k.after(2, "&wait=1"), nil))
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(response.Body)
	k.check(errors.Join(err, response.Body.Close()))
	feedOf(t, answer{status: response.StatusCode, body: body.String()})
	if took := time.Since(began); took < time.Second {
		t.Errorf("it was answered after %s", took)
	}
}

// A replica that may lack a revocation gives out what it signed before, whose age
// tells, and nothing when that has expired. It never says that nothing is denied.
func TestFeedOfAReplicaWithoutTheLease(t *testing.T) {
	k := newKiosk(t)
	before := k.get("")
	k.held = false
	must(k.db.Writer().ExecContext(t.Context(), `UPDATE revocation_counter SET epoch = epoch - 1`)) // which the list does not take
	k.now = k.now.Add(59 * time.Second)
	for _, query := range []string{"", k.after(1, ""), k.after(2, "&wait=0")} {
		if a := k.get(query); a.body != before.body || a.header.Get("Cache-Control") != "public, max-age=0" {
			t.Errorf("%q: %d %v", query, a.status, a.header)
		}
	}
	k.now = k.now.Add(time.Second)
	for _, query := range []string{"", k.after(1, "")} {
		a := k.get(query)
		if a.status != http.StatusServiceUnavailable || a.code() != "temporarily_unavailable" || a.header.Get("Retry-After") == "" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d %v %s", query, a.status, a.header, a.body)
		}
	}
}

func (k *kiosk) keys() (kids []string) {
	k.Helper()
	var set jwk.Set
	k.check(json.Unmarshal([]byte(k.do(http.MethodGet, oauth.FeedKeysPath).body), &set))
	for _, key := range set.Keys {
		kids = append(kids, key.ID)
	}
	return kids
}

// The keys of the feed are published as those of tokens are, and neither set has a
// key of the other.
func TestFeedKeys(t *testing.T) {
	lease := &ended{at: time.Now()}
	b := newBooth(t, options{lease: lease})
	a := b.get(oauth.FeedKeysPath).want(b, http.StatusOK, "")
	if a.header.Get("Content-Type") != "application/jwk-set+json" || a.header.Get("Cache-Control") != "public, max-age=300" || a.header.Get("ETag") == "" {
		t.Errorf("the header is %v", a.header)
	}
	var set jwk.Set
	b.check(json.Unmarshal([]byte(a.body), &set))
	if len(set.Keys) != 1 || slices.Contains(b.kids(), set.Keys[0].ID) {
		t.Errorf("the keys of the feed are %+v, those of tokens %v", set.Keys, b.kids())
	}
	if feed := feedOf(t, b.get(oauth.FeedPath)); feed.Issuer != issuer {
		t.Errorf("the feed is %+v", feed)
	}
	lease.at = time.Now().Add(-signing.DefaultTiming.PublishLead)
	a = b.get(oauth.FeedKeysPath).want(b, http.StatusServiceUnavailable, "temporarily_unavailable")
	if a.header.Get("Retry-After") == "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("when they may not be all: %v", a.header)
	}
}

// follower verifies feeds. It fetches the keys when it is told to, and at an unknown
// kid.
type follower struct {
	*kiosk
	keys    *bearer.StaticKeys
	fetched int
}

func (f *follower) fetch() {
	f.Helper()
	f.keys = must(bearer.ParseKeys([]byte(f.do(http.MethodGet, oauth.FeedKeysPath).body)))
	f.fetched++
}

// verify returns the kid of a feed that is good.
func (f *follower) verify(text string) (kid string, err error) {
	f.Helper()
	_, err = jwt.NewParser(jwt.WithValidMethods([]string{jwk.ES256}), jwt.WithoutClaimsValidation()).Parse(text, func(token *jwt.Token) (any, error) {
		kid, _ = token.Header["kid"].(string)
		key, err := f.keys.Key(f.Context(), kid)
		if errors.Is(err, bearer.ErrUnknownKey) {
			f.fetch()
			key, err = f.keys.Key(f.Context(), kid)
		}
		return key.Public, err
	})
	return kid, err
}

// A verifier that keeps to max-age has each key of the feed before it signs, and
// one that was distrusted no longer than until it meets the next.
func TestRotationOfFeedKeys(t *testing.T) {
	k := newKiosk(t)
	v := &follower{kiosk: k}
	v.fetch()
	good := func(text string) string {
		t.Helper()
		kid, err := v.verify(text)
		if err != nil {
			t.Errorf("the verifier refuses a feed: %v", err)
		}
		return kid
	}
	old := k.get("").body
	first := good(old)
	next, _, err := k.manager.RotateSigningKey(t.Context(), operator, signing.FeedSlot())
	k.check(errors.Join(err, k.ring.Load(t.Context())))
	k.now = k.now.Add(k.manager.Signing.MaxAge)
	v.fetch()
	if kid := good(k.get("").body); kid != first || len(k.keys()) != 2 {
		t.Errorf("before its time %s signs", kid)
	}
	k.now = k.now.Add(k.manager.Signing.PublishLead)
	k.check(errors.Join(k.manager.TendSigningKeys(t.Context(), operator), k.ring.Load(t.Context())))
	if kid := good(k.get("").body); kid != next.ID || v.fetched != 2 || good(old) != first {
		t.Errorf("after the change %s signs, and the verifier fetched %d times", kid, v.fetched)
	}
	_, fresh, err := k.manager.ReplaceSigningKeys(t.Context(), operator, []signing.Slot{signing.FeedSlot()})
	k.check(errors.Join(err, k.ring.Load(t.Context())))
	if kids := k.keys(); len(kids) != 1 || kids[0] != fresh[0].ID {
		t.Errorf("after an emergency %v are published, want %s", kids, fresh[0].ID)
	}
	k.now = k.now.Add(revocation.FeedInterval)
	if kid := good(k.get("").body); kid != fresh[0].ID || v.fetched != 3 {
		t.Errorf("after an emergency %s signs, and the verifier fetched %d times", kid, v.fetched)
	}
	if _, err := v.verify(old); err == nil {
		t.Error("a feed of a distrusted key is good")
	}
}
