package bearer_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// feedNetwork stands between a Feed and its issuer.
type feedNetwork struct {
	mu     sync.Mutex
	keys   string                           // the document
	answer func(q url.Values) (int, string) // to who asks for the feed
	header http.Header                      // of the answer
	asked  []url.Values                     // for the feed
}

func newFeedNetwork(t *testing.T, signers ...signer) *feedNetwork {
	t.Helper()
	return &feedNetwork{keys: documentOf(t, signers...)}
}

// says lets the network answer with a text from now on.
func (n *feedNetwork) says(text string) {
	n.replies(func(url.Values) (int, string) { return http.StatusOK, text })
}

func (n *feedNetwork) replies(answer func(q url.Values) (int, string)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = answer
}

// queries are how the feed was asked for.
func (n *feedNetwork) queries() (all []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, q := range n.asked {
		all = append(all, q.Encode())
	}
	return all
}

// RoundTrip implements http.RoundTripper.
func (n *feedNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	text := n.keys
	switch r.URL.Path {
	case oauth.FeedKeysPath:
	case oauth.FeedPath:
		n.asked = append(n.asked, r.URL.Query())
		a.StatusCode, text = n.answer(r.URL.Query())
		a.Header = n.header.Clone()
	default:
		return nil, errors.New("nothing is there: " + r.URL.Path)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err // it took too long
	}
	if a.StatusCode == 0 {
		return nil, errDown
	}
	a.Body = io.NopCloser(strings.NewReader(text))
	return a, nil
}

// newFeed makes a Feed of what is behind the network, with the clock of the tests.
func newFeed(t *testing.T, n *feedNetwork, change func(*bearer.FeedConfig)) *bearer.Feed {
	t.Helper()
	c := bearer.FeedConfig{Issuer: issuerName, Client: &http.Client{Transport: n}, Now: func() time.Time { return now }}
	if change != nil {
		change(&c)
	}
	return makeFeed(t, c)
}

func makeFeed(t *testing.T, c bearer.FeedConfig) *bearer.Feed {
	t.Helper()
	f, err := bearer.NewFeed(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (s signer) feedHeader() object {
	return object{"alg": s.public.Algorithm, "kid": s.public.ID, "typ": oauth.FeedType}
}

// feedClaims are those of a good feed, which denies the tokens of key tbk_1 with a
// generation below 4.
func feedClaims() object {
	return object{
		"iss": issuerName, "iat": now.Unix() - 3, "exp": now.Unix() + 3600, "epoch": 2, "seq": 5, "from": 0,
		"entries": []any{entryOf(oauth.RevocableKey, "tbk_1", 4, 600)},
	}
}

// entryOf denies something for a number of seconds.
func entryOf(kind oauth.Revocable, id string, generation, life int64) object {
	return object{"h": oauth.RevocationHash(issuerName, kind, id), "g": generation, "exp": now.Unix() + life}
}

// feed signs a good feed, with changes to it and to its header.
func (s signer) feed(t *testing.T, header, claims object) string {
	t.Helper()
	return s.sign(t, encodeJSON(t, with(s.feedHeader(), header)), encodeJSON(t, with(feedClaims(), claims)))
}

// claimsOf are those of a token of a key with a generation.
func claimsOf(key string, generation int64) *oauth.Claims {
	return &oauth.Claims{
		Issuer: issuerName, ID: "jti_" + key, ClientID: key, Subject: "sa_1", WorkspaceID: "ws_1",
		KeyGeneration: generation, SubjectGeneration: 1, WorkspaceGeneration: 1,
	}
}

// denies checks whether a feed denies a token; want nil: it does not.
func denies(t *testing.T, f *bearer.Feed, c *oauth.Claims, want error) {
	t.Helper()
	if err := f.Revoked(t.Context(), "kid_1", c); !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Errorf("%s of generation %d: %v, want %v", c.ClientID, c.KeyGeneration, err, want)
	}
}

// fresh checks whether a feed is; want nil: it is.
func fresh(t *testing.T, f *bearer.Feed, want error) {
	t.Helper()
	if err := f.Fresh(t.Context()); !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Errorf("fresh: %v, want %v", err, want)
	}
}

func refresh(t *testing.T, f *bearer.Feed) {
	t.Helper()
	if err := f.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// sourceFunc is a source that is trusted.
type sourceFunc func(ctx context.Context, since oauth.Position, wait time.Duration) (bearer.FeedUpdate, error)

func (s sourceFunc) Fetch(ctx context.Context, since oauth.Position, wait time.Duration) (bearer.FeedUpdate, error) {
	return s(ctx, since, wait)
}

// updateOf denies keys altogether.
func updateOf(epoch, seq, from int64, at time.Time, keys ...string) bearer.FeedUpdate {
	u := bearer.FeedUpdate{Position: oauth.Position{Epoch: epoch, Sequence: seq}, From: from, At: at}
	for _, key := range keys {
		u.Entries = append(u.Entries, oauth.FeedEntry{Hash: oauth.RevocationHash(issuerName, oauth.RevocableKey, key), Expiry: at.Unix() + 600})
	}
	return u
}
