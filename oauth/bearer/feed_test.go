package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// Each kind of entry denies the tokens that it names, by generation, and no
// others.
func TestFeedDenies(t *testing.T) {
	s := newES256(t)
	for _, c := range []struct {
		kind       oauth.Revocable
		id         string
		generation int64
		denied     bool
	}{
		{oauth.RevocableKey, "tbk_1", 0, true},
		{oauth.RevocableKey, "tbk_1", 4, true},
		{oauth.RevocableKey, "tbk_1", 3, false},
		{oauth.RevocableKey, "tbk_2", 0, false},
		{oauth.RevocableSubject, "sa_1", 2, true},
		{oauth.RevocableSubject, "sa_1", 1, false},
		{oauth.RevocableSubject, "tbk_1", 0, false},
		{oauth.RevocableWorkspace, "ws_1", 2, true},
		{oauth.RevocableWorkspace, "ws_1", 1, false},
		{oauth.RevocableToken, "jti_tbk_1", 0, true},
		{oauth.RevocableToken, "jti_tbk_2", 0, false},
		{oauth.RevocableSigningKey, "kid_1", 0, true},
		{oauth.RevocableSigningKey, "kid_2", 0, false},
	} {
		n := newFeedNetwork(t, s)
		n.says(s.feed(t, nil, object{"entries": []any{entryOf(c.kind, c.id, c.generation, 600)}}))
		err := newFeed(t, n, nil).Revoked(t.Context(), "kid_1", claimsOf("tbk_1", 3))
		if errors.Is(err, bearer.ErrRevoked) != c.denied || (err != nil) != c.denied {
			t.Errorf("%s %s below %d: %v, want denied: %v", c.kind, c.id, c.generation, err, c.denied)
		}
	}
	n := newFeedNetwork(t, s)
	n.says(s.feed(t, nil, nil))
	stranger := claimsOf("tbk_9", 1)
	stranger.Issuer = "https://other.example.com"
	denies(t, newFeed(t, n, nil), stranger, bearer.ErrRevocationsUnknown) // its hashes are others
}

// Deltas add up, may come again, and a gap between them is closed at once.
func TestFeedFollowsDeltas(t *testing.T) {
	s := newES256(t)
	n := newFeedNetwork(t, s)
	key := func(i int) object { return entryOf(oauth.RevocableKey, fmt.Sprint("tbk_", i), 0, 600) }
	var events []bearer.FeedEvent
	f := newFeed(t, n, func(c *bearer.FeedConfig) { c.Observe = func(e bearer.FeedEvent) { events = append(events, e) } })
	step := func(text string, seq int64, entries int) {
		t.Helper()
		n.says(text)
		refresh(t, f)
		if status := f.Status(); status.Position != (oauth.Position{Epoch: 2, Sequence: seq}) || status.Entries != entries {
			t.Errorf("it is at %+v, want seq %d with %d entries", status, seq, entries)
		}
	}
	moved := f.Moved()
	step(s.feed(t, nil, nil), 5, 1)
	select {
	case <-moved:
	default:
		t.Error("nobody was told")
	}
	step(s.feed(t, nil, object{"seq": 6, "from": 5, "entries": []any{key(6)}}), 6, 2)
	step(s.feed(t, nil, object{"seq": 6, "from": 5, "entries": []any{key(6)}}), 6, 2) // again
	step(s.feed(t, nil, object{"seq": 7, "from": 4, "entries": []any{key(5), key(6), key(7)}}), 7, 4)
	step(s.feed(t, nil, object{"seq": 7, "from": 7, "entries": []any{}}), 7, 4)
	step(s.feed(t, nil, object{"seq": 8, "from": 0, "entries": []any{key(8)}}), 8, 5) // what is not there any more stays denied
	n.replies(func(q url.Values) (int, string) {
		if q.Has("since") {
			return 200, s.feed(t, nil, object{"seq": 20, "from": 19, "entries": []any{key(20)}})
		}
		return 200, s.feed(t, nil, object{"seq": 20, "from": 0, "entries": []any{key(19), key(20)}})
	})
	refresh(t, f)
	denies(t, f, claimsOf("tbk_19", 9), bearer.ErrRevoked)
	if want := []string{"", "epoch=2&since=5", "epoch=2&since=6", "epoch=2&since=6", "epoch=2&since=7", "epoch=2&since=7", "epoch=2&since=8", ""}; !slices.Equal(n.queries(), want) {
		t.Errorf("it asked %q, want %q", n.queries(), want)
	}
	for i, want := range []bearer.FeedEvent{
		{Full: true, Moved: true}, {Moved: true}, {}, {Moved: true}, {}, {Full: true, Moved: true}, {Failure: bearer.FeedGap}, {Full: true, Moved: true},
	} {
		if got := events[i]; got.Full != want.Full || got.Moved != want.Moved || got.Failure != want.Failure || got.NewEpoch || got.Age < 3*time.Second {
			t.Errorf("event %d: %+v, want %+v", i, got, want)
		}
	}
}

// A new epoch begins with a full feed, and takes nothing back.
func TestFeedBeginsAnEpoch(t *testing.T) {
	s := newES256(t)
	n := newFeedNetwork(t, s)
	n.says(s.feed(t, nil, nil))
	var last bearer.FeedEvent
	f := newFeed(t, n, func(c *bearer.FeedConfig) { c.Observe = func(e bearer.FeedEvent) { last = e } })
	refresh(t, f)
	n.replies(func(q url.Values) (int, string) {
		if q.Has("since") {
			return 200, s.feed(t, nil, object{"epoch": 3, "seq": 2, "from": 1, "entries": []any{}})
		}
		return 200, s.feed(t, nil, object{"epoch": 3, "seq": 2, "entries": []any{}})
	})
	refresh(t, f)
	if !last.NewEpoch || !last.Full || last.Position != (oauth.Position{Epoch: 3, Sequence: 2}) {
		t.Errorf("event %+v", last)
	}
	denies(t, f, claimsOf("tbk_1", 3), bearer.ErrRevoked)
	denies(t, f, claimsOf("tbk_1", 4), nil)
}

// Of entries about the same thing the strictest counts, for as long as any.
func TestFeedMergesEntries(t *testing.T) {
	s := newES256(t)
	entry := func(generation, life int64) object {
		return entryOf(oauth.RevocableKey, "tbk_1", generation, life)
	}
	for name, entries := range map[string][]any{
		"rising":       {entry(2, 900), entry(5, 10)},
		"falling":      {entry(5, 10), entry(2, 900)},
		"all, then":    {entry(0, 10), entry(2, 900)},
		"then all":     {entry(2, 900), entry(0, 10)},
		"all, and all": {entry(0, 10), entry(0, 900)},
	} {
		n := newFeedNetwork(t, s)
		clock := now
		f := newFeed(t, n, func(c *bearer.FeedConfig) { c.Keys, c.Now = keysOf(s), func() time.Time { return clock } })
		n.says(s.feed(t, nil, object{"seq": 5, "entries": entries[:1]}))
		refresh(t, f)
		n.says(s.feed(t, nil, object{"seq": 6, "from": 5, "entries": entries[1:]}))
		refresh(t, f)
		clock = clock.Add(800 * time.Second)
		n.says(s.feed(t, nil, object{"seq": 7, "iat": clock.Unix(), "entries": []any{}}))
		refresh(t, f)
		if status := f.Status(); status.Entries != 1 {
			t.Errorf("%s: %d entries", name, status.Entries)
		}
		denies(t, f, claimsOf("tbk_1", 4), bearer.ErrRevoked)
	}
}

// An entry is forgotten a minute after its exp, by the slower of the clocks.
func TestFeedForgetsWhatHasExpired(t *testing.T) {
	s := newES256(t)
	n := newFeedNetwork(t, s)
	clock := now
	f := newFeed(t, n, func(c *bearer.FeedConfig) { c.Keys, c.Now = keysOf(s), func() time.Time { return clock } })
	step := func(seq int64, local, issued time.Duration, left int) {
		t.Helper()
		clock = now.Add(local)
		n.says(s.feed(t, nil, object{"seq": seq, "iat": now.Add(issued).Unix(), "exp": now.Unix() + 9000, "entries": []any{entryOf(oauth.RevocableKey, "tbk_2", 0, -60)}}))
		refresh(t, f)
		if status := f.Status(); status.Entries != left {
			t.Errorf("at %s, of %s: %d entries, want %d", local, issued, status.Entries, left)
		}
	}
	n.says(s.feed(t, nil, nil)) // tbk_1, for 600 s
	refresh(t, f)
	step(6, 600*time.Second, 600*time.Second, 1)
	step(7, 659*time.Second, 659*time.Second, 1)
	step(8, time.Hour, 650*time.Second, 1)
	step(9, 655*time.Second, 700*time.Second, 1)
	step(10, time.Hour, 720*time.Second, 0)
	denies(t, f, claimsOf("tbk_1", 3), nil)
}

// However far its exp, an entry is forgotten when no token can be good any more that
// was issued before.
func TestFeedForgetsWhatCannotMatter(t *testing.T) {
	s := newES256(t)
	n := newFeedNetwork(t, s)
	clock, path := now, filepath.Join(t.TempDir(), "feed.json")
	config := func(c *bearer.FeedConfig) {
		c.Keys, c.File, c.Now = keysOf(s), path, func() time.Time { return clock }
	}
	n.says(s.feed(t, nil, object{"iat": now.Unix(), "entries": []any{entryOf(oauth.RevocableKey, "tbk_1", 0, 1<<62)}}))
	refresh(t, newFeed(t, n, config))
	for after, left := range []int{0: 1, 1: 1, 2: 1, 3: 0} { // in hours
		clock = now.Add(time.Duration(after) * time.Hour)
		f := newFeed(t, n, config) // from the file
		n.says(s.feed(t, nil, object{"seq": 6 + after, "from": 5 + after, "iat": clock.Unix(), "exp": clock.Unix() + 60, "entries": []any{}}))
		refresh(t, f)
		if status := f.Status(); status.Entries != left {
			t.Errorf("after %d hours: %d entries, want %d", after, status.Entries, left)
		}
	}
}

// Freshness counts from when the issuer signed, whatever is done to the clock.
func TestFeedGetsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step, late := time.Duration(0), time.Duration(0)
		f := makeFeed(t, bearer.FeedConfig{
			Issuer: issuerName, Now: func() time.Time { return time.Now().Round(0).Add(step) },
			Source: sourceFunc(func(context.Context, oauth.Position, time.Duration) (bearer.FeedUpdate, error) {
				return updateOf(1, 1, 0, time.Now().Add(-late), "tbk_1"), nil
			}),
		})
		refresh(t, f)
		pass(time.Minute)
		fresh(t, f, nil)
		pass(time.Nanosecond)
		fresh(t, f, bearer.ErrStale)
		denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked) // it is known all the same
		denies(t, f, claimsOf("tbk_2", 1), nil)

		late = 50 * time.Second
		refresh(t, f)
		pass(10 * time.Second)
		fresh(t, f, nil)
		step = -time.Hour // set back, the clock makes nothing younger
		fresh(t, f, nil)
		pass(time.Nanosecond)
		fresh(t, f, bearer.ErrStale)
		step = 0

		late = 5 * time.Second
		refresh(t, f)
		late = 30 * time.Second
		refresh(t, f) // an older one again makes nothing older
		pass(55 * time.Second)
		fresh(t, f, nil)
		step = time.Second // as after a machine slept, which stops the other clock
		fresh(t, f, bearer.ErrStale)
		step, late = 0, -time.Minute // an issuer whose clock is ahead
		refresh(t, f)
		pass(time.Minute)
		fresh(t, f, nil)
		pass(time.Second)
		fresh(t, f, bearer.ErrStale)
		denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked)
	})
}

// The same feed again, which whoever stands between can send for ever, makes nothing
// younger, also when the clock is set back.
func TestFeedIsNotConfirmedByAReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step, signed := time.Duration(0), time.Now()
		f := makeFeed(t, bearer.FeedConfig{
			Issuer: issuerName, Now: func() time.Time { return time.Now().Round(0).Add(step) },
			Source: sourceFunc(func(context.Context, oauth.Position, time.Duration) (bearer.FeedUpdate, error) {
				return updateOf(1, 1, 0, signed, "tbk_1"), nil
			}),
		})
		refresh(t, f)
		fresh(t, f, nil)
		pass(61 * time.Second)
		step = -50 * time.Second
		refresh(t, f)
		fresh(t, f, bearer.ErrStale)
	})
}

// An update of which nobody knows of when it is denies, and is never fresh.
func TestFeedOfUnknownAge(t *testing.T) {
	f := makeFeed(t, bearer.FeedConfig{Issuer: issuerName, Source: sourceFunc(func(context.Context, oauth.Position, time.Duration) (bearer.FeedUpdate, error) {
		u := updateOf(1, 1, 0, time.Now(), "tbk_1")
		u.At = time.Time{}
		return u, nil
	})})
	denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked)
	fresh(t, f, bearer.ErrStale)
}

// The first tokens wait for one fetch together, and for 2 seconds at most.
func TestFeedFetchesForTheFirstToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetches atomic.Int64
		var takes, fails atomic.Int64 // time it takes; whether it fails
		f := makeFeed(t, bearer.FeedConfig{Issuer: issuerName, Source: sourceFunc(func(ctx context.Context, since oauth.Position, wait time.Duration) (bearer.FeedUpdate, error) {
			fetches.Add(1)
			if since != (oauth.Position{}) || wait != 0 {
				t.Errorf("it asks for what is after %+v, within %s", since, wait)
			}
			select {
			case <-time.After(time.Duration(takes.Load())):
			case <-ctx.Done():
				return bearer.FeedUpdate{}, ctx.Err()
			}
			if fails.Load() > 0 {
				return bearer.FeedUpdate{}, fmt.Errorf("it is down: %w", bearer.ErrInvalid)
			}
			return updateOf(1, 1, 0, time.Now(), "tbk_1"), nil
		})})
		ask := func(ctx context.Context, want error, after time.Duration, fetched int64) {
			t.Helper()
			began, before, answers := time.Now(), fetches.Load(), make(chan error)
			for range 10 {
				go func() { answers <- f.Revoked(ctx, "kid_1", claimsOf("tbk_1", 1)) }()
			}
			for range 10 {
				if err := <-answers; !errors.Is(err, want) || errors.Is(err, bearer.ErrInvalid) {
					t.Errorf("%v, want %v", err, want)
				}
			}
			if took := time.Since(began); took != after || fetches.Load()-before != fetched {
				t.Errorf("after %s and %d fetches, want %s and %d", took, fetches.Load()-before, after, fetched)
			}
		}
		fails.Store(1)
		ask(t.Context(), bearer.ErrRevocationsUnknown, 0, 1)
		ask(t.Context(), bearer.ErrRevocationsUnknown, 0, 0) // it rests
		pass(time.Second)
		fails.Store(0)
		takes.Store(int64(time.Minute))
		ask(t.Context(), bearer.ErrRevocationsUnknown, 2*time.Second, 1)
		pass(time.Second)
		takes.Store(int64(time.Second))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.Revoked(gone, "kid_1", claimsOf("tbk_1", 1)); !errors.Is(err, bearer.ErrRevocationsUnknown) {
			t.Errorf("for a client that is gone: %v", err)
		}
		ask(t.Context(), bearer.ErrRevoked, time.Second, 1) // which does not count as a failure
		ask(t.Context(), bearer.ErrRevoked, 0, 0)
	})
}
