package bearertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

const (
	// entryLife is for how long something is denied, in seconds.
	entryLife = 3600
	// feedLife is how long after its iat a feed may be begun with, in seconds.
	feedLife = 60
	// longestWait is for how long a request is held at most.
	longestWait = 25 * time.Second
)

// feed is what an Issuer has revoked. The n-th entry has the sequence number n.
type feed struct {
	key     key
	epoch   int64
	entries []oauth.FeedEntry
	changed chan struct{} // closed when what is served changes

	stopped bool
	frozen  *oauth.Feed // what is served for ever; nil: what is true
}

func newFeed() feed { return feed{epoch: 1, changed: make(chan struct{})} }

// wake lets those answer who wait for something new.
func (f *feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// now is the whole feed.
func (f *feed) now(issuer string) oauth.Feed {
	if f.frozen != nil {
		return *f.frozen
	}
	now := time.Now().Unix()
	return oauth.Feed{
		Issuer: issuer, IssuedAt: now, Expiry: now + feedLife,
		Position: oauth.Position{Epoch: f.epoch, Sequence: int64(len(f.entries))}, Entries: append([]oauth.FeedEntry{}, f.entries...),
	}
}

// Feed makes a bearer.Feed of the issuer's revocations, after edit has changed
// what the test is about. It fetches when it is run, refreshed, or asked for the
// first time.
func (i *Issuer) Feed(edit ...func(*bearer.FeedConfig)) *bearer.Feed {
	i.t.Helper()
	config := bearer.FeedConfig{Issuer: i.URL()}
	for _, change := range edit {
		change(&config)
	}
	f, err := bearer.NewFeed(config)
	i.check(err)
	return f
}

// Revoke denies the tokens of something with a smaller generation than the one
// given; 0: all of them. Those of Token have the generation 1 of the key tbk_test,
// the service account sa_test and the workspace ws_test. It returns how far one has
// to follow the feed to know.
func (i *Issuer) Revoke(kind oauth.Revocable, id string, generation int64) oauth.Position {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.feed.entries = append(i.feed.entries, oauth.FeedEntry{
		Hash: oauth.RevocationHash(i.URL(), kind, id), Generation: generation, Expiry: time.Now().Unix() + entryLife,
	})
	i.feed.wake()
	return i.position()
}

// RevokeToken denies one token, by its jti.
func (i *Issuer) RevokeToken(id string) oauth.Position { return i.Revoke(oauth.RevocableToken, id, 0) }

// NewEpoch begins a new epoch: the feed has to be fetched as a whole.
func (i *Issuer) NewEpoch() oauth.Position {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.feed.epoch++
	i.feed.wake()
	return i.position()
}

// position is that of the last revocation. Call it with mu held.
func (i *Issuer) position() oauth.Position {
	return oauth.Position{Epoch: i.feed.epoch, Sequence: int64(len(i.feed.entries))}
}

// StaleFeed lets the feed be one that was signed that long ago, from now on:
// revocations do not get into it until StartFeed.
func (i *Issuer) StaleFeed(age time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	old := i.feed.now(i.URL())
	old.IssuedAt = time.Now().Add(-age).Unix()
	i.feed.frozen, i.feed.stopped = &old, false
	i.feed.wake()
}

// StopFeed lets the feed be unavailable (503), while all else goes on.
func (i *Issuer) StopFeed() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.feed.stopped = true
	i.feed.wake()
}

// StartFeed ends StaleFeed and StopFeed.
func (i *Issuer) StartFeed() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.feed.frozen, i.feed.stopped = nil, false
	i.feed.wake()
}

// FeedKeys are what is published of the key that signs the feed.
func (i *Issuer) FeedKeys() []byte {
	i.t.Helper()
	document, err := json.Marshal(jwk.Set{Keys: []jwk.Key{i.feed.key.public}})
	i.check(err)
	return document
}

// SignFeed signs any payload as a feed. Members of header replace those of a good
// header; nil takes one out.
func (i *Issuer) SignFeed(header map[string]any, payload []byte) string {
	i.t.Helper()
	return i.sign(i.feed.key, oauth.FeedType, header, payload)
}

// serveFeed answers with the feed, or with what was added since a position, and
// waits for something to be added if it is asked to.
func (i *Issuer) serveFeed(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	var asked oauth.Position
	var wait time.Duration
	for name, field := range map[string]*int64{"epoch": &asked.Epoch, "since": &asked.Sequence, "wait": (*int64)(&wait)} {
		if !query.Has(name) {
			continue
		}
		n, err := strconv.ParseUint(query.Get(name), 10, 31)
		if err != nil {
			http.Error(w, fmt.Sprintf("%s is not a whole number from 0 on", name), http.StatusBadRequest)
			return
		}
		*field = int64(n) //nolint:gosec // 31 bits
	}
	served, ok := i.newer(r, asked, min(wait*time.Second, longestWait))
	if !ok {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the feed is not available now", http.StatusServiceUnavailable)
		return
	}
	if asked.Epoch == served.Epoch && asked.Sequence <= served.Sequence {
		served.From, served.Entries = asked.Sequence, served.Entries[asked.Sequence:]
	}
	payload, err := json.Marshal(served)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	w.Header().Set("Cache-Control", "public, max-age=5")
	w.Header().Set("Content-Type", "application/jwt")
	_, _ = w.Write([]byte(i.SignFeed(nil, payload))) // the client is gone if this fails
}

// newer is the feed when it is not any more at a position, or is not served, or
// the time is over.
func (i *Issuer) newer(r *http.Request, than oauth.Position, wait time.Duration) (served oauth.Feed, ok bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for over := false; ; {
		i.mu.Lock()
		served, ok = i.feed.now(i.URL()), !i.feed.stopped
		changed, up := i.feed.changed, i.server != nil
		i.mu.Unlock()
		if over || !ok || !up || than != served.Position {
			return served, ok
		}
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-r.Context().Done():
			return served, false
		}
	}
}
