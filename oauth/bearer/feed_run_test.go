package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// slowSource answers as an issuer does: when there is something new, or after the
// time for which it is asked to wait.
type slowSource struct {
	mu       sync.Mutex
	keys     []string // that are revoked, in order
	epoch    int64
	changed  chan struct{}
	down     error
	hasty    bool // it does not wait
	deaf     bool // it does not answer at all
	asked    []time.Duration
	askedAt  []time.Duration // since began
	began    time.Time
	position oauth.Position // of the one who asked last
}

func newSlowSource() *slowSource {
	return &slowSource{epoch: 1, changed: make(chan struct{}), began: time.Now()}
}

func (s *slowSource) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *slowSource) revoke(key string) { s.set(func() { s.keys = append(s.keys, key) }) }

func (s *slowSource) noted(since oauth.Position, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.askedAt, s.position = append(s.asked, wait), append(s.askedAt, time.Since(s.began)), since
}

// Fetch implements bearer.FeedSource.
func (s *slowSource) Fetch(ctx context.Context, since oauth.Position, wait time.Duration) (bearer.FeedUpdate, error) {
	s.noted(since, wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for over := false; ; {
		s.mu.Lock()
		u := updateOf(s.epoch, int64(len(s.keys)), 0, time.Now(), s.keys...)
		if since.Epoch == s.epoch {
			u = updateOf(s.epoch, int64(len(s.keys)), since.Sequence, time.Now(), s.keys[since.Sequence:]...)
		}
		changed, down, deaf, hasty := s.changed, s.down, s.deaf, s.hasty
		s.mu.Unlock()
		switch {
		case deaf:
			<-ctx.Done()
			return bearer.FeedUpdate{}, ctx.Err()
		case down != nil:
			return bearer.FeedUpdate{}, down
		case over || hasty || u.Position != since:
			return u, nil
		}
		select {
		case <-timer.C:
			over = true
		case <-changed:
		case <-ctx.Done():
			return bearer.FeedUpdate{}, ctx.Err()
		}
	}
}

// fetched is how often and when the source was asked since the last time.
func (s *slowSource) fetched() (waits, at []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waits, at = s.asked, s.askedAt
	s.asked, s.askedAt = nil, nil
	return waits, at
}

// running runs a feed of a source in a bubble until the test ends.
func running(t *testing.T, s bearer.FeedSource, change func(*bearer.FeedConfig)) *bearer.Feed {
	t.Helper()
	c := bearer.FeedConfig{Issuer: issuerName, Source: s}
	if change != nil {
		change(&c)
	}
	f := makeFeed(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return f
}

// A revocation is known as soon as the issuer tells, and many at once cost few
// fetches.
func TestFeedRunWaitsForNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowSource()
		f := running(t, s, nil)
		pass(50 * time.Second)
		fresh(t, f, nil)
		waits, at := s.fetched()
		if want := fmt.Sprint([]time.Duration{0, 20 * time.Second, 20 * time.Second, 20 * time.Second}); fmt.Sprint(waits) != want {
			t.Errorf("it asked with %v at %v, want %v", waits, at, want)
		}
		s.revoke("tbk_1")
		synctest.Wait()
		denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked)
		for i := range 1000 {
			s.revoke(fmt.Sprint("tbk_x", i))
			pass(time.Millisecond)
		}
		pass(100 * time.Millisecond)
		denies(t, f, claimsOf("tbk_x999", 1), bearer.ErrRevoked)
		if waits, _ := s.fetched(); len(waits) < 5 || len(waits) > 15 {
			t.Errorf("%d fetches in a second", len(waits))
		}
		s.set(func() { s.epoch = 2 })
		pass(100 * time.Millisecond)
		if p := f.Position(); p != (oauth.Position{Epoch: 2, Sequence: 1001}) {
			t.Errorf("it is at %+v", p)
		}
	})
}

// A source that does not wait, or is not to, is asked every five seconds.
func TestFeedRunPolls(t *testing.T) {
	for name, c := range map[string]struct {
		wait  time.Duration
		hasty bool
	}{"wanted": {-1, false}, "not wanted": {0, true}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSlowSource()
			s.hasty = c.hasty
			f := running(t, s, func(config *bearer.FeedConfig) { config.Wait = c.wait })
			pass(time.Minute)
			if waits, _ := s.fetched(); len(waits) < 11 || len(waits) > 15 {
				t.Errorf("%s: %d fetches in a minute", name, len(waits))
			}
			s.revoke("tbk_1")
			pass(5500 * time.Millisecond)
			denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked)
		})
	}
}

// On the wire, the first request is for everything, and the others wait for what
// is new, wherever the feed is.
func TestFeedRunOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newES256(t)
		n := newFeedNetwork(t, s)
		n.replies(func(url.Values) (int, string) {
			pass(time.Second)
			return 200, s.feed(t, nil, nil)
		})
		f := newFeed(t, n, func(c *bearer.FeedConfig) {
			c.Keys, c.URI = keysOf(s), "https://inside.example.com"+oauth.FeedPath+"?tenant=1"
			c.Client.Timeout = time.Millisecond // which is not for requests that are held
		})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		f.Run(ctx)
		if want := []string{"tenant=1", "epoch=2&since=5&tenant=1&wait=20"}; !slices.Equal(n.queries(), want) {
			t.Errorf("it asked %q, want %q", n.queries(), want)
		}
	})
}

// While the issuer is away the feed asks ever more rarely, and goes on at once
// when it is back. What it knows is denied all the while.
func TestFeedRunOutlastsAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowSource()
		s.keys = []string{"tbk_1"}
		f := running(t, s, nil)
		s.set(func() { s.down = errDown })
		synctest.Wait()
		s.fetched()
		pass(time.Minute)
		_, at := s.fetched()
		for i := 1; i < len(at); i++ {
			if gap := at[i] - at[i-1]; gap < 200*time.Millisecond || gap > 5*time.Second {
				t.Errorf("pause %d is of %s", i, gap)
			}
		}
		if len(at) < 12 || len(at) > 30 {
			t.Errorf("it asked %d times in a minute", len(at))
		}
		pass(time.Second)
		fresh(t, f, bearer.ErrStale)
		if status := f.Status(); !errors.Is(status.Failure, errDown) || status.Fresh {
			t.Errorf("status %+v", status)
		}
		denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked)
		s.set(func() { s.down = &bearer.FeedError{Kind: bearer.FeedUnreachable, RetryAfter: time.Hour, Err: errDown} })
		pass(10 * time.Second)
		s.fetched()
		pass(time.Minute)
		if _, at = s.fetched(); len(at) < 3 || len(at) > 5 { // every 15 s and a little
			t.Errorf("asked to be left alone, it asked %d times in a minute", len(at))
		}
		s.set(func() { s.down = nil })
		pass(17 * time.Second)
		fresh(t, f, nil)
		if status := f.Status(); status.Failure != nil {
			t.Errorf("status %+v", status)
		}
	})
}

// A source that never answers is given up.
func TestFeedRunGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowSource()
		f := running(t, s, nil)
		s.set(func() { s.deaf = true })
		pass(31 * time.Second)
		if err := f.Status().Failure; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("failure %v", err)
		}
		s.set(func() { s.deaf = false })
		pass(16 * time.Second)
		fresh(t, f, nil)
	})
}

// The strictest staleness is kept by asking more often.
func TestFeedRunKeepsShortStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, wait := range []time.Duration{0, -1} {
			f := running(t, newSlowSource(), func(c *bearer.FeedConfig) { c.MaxStaleness, c.Wait = bearer.MinMaxStaleness, wait })
			for range 120 {
				pass(500 * time.Millisecond)
				fresh(t, f, nil)
			}
		}
	})
}

// Before Run has anything, tokens wait for its fetch and cause none.
func TestFeedRunServesTheFirstToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowSource()
		s.keys = []string{"tbk_1"}
		slow := sourceFunc(func(ctx context.Context, since oauth.Position, wait time.Duration) (bearer.FeedUpdate, error) {
			pass(time.Second)
			return s.Fetch(ctx, since, wait)
		})
		f := running(t, slow, nil)
		denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked)
		if waits, _ := s.fetched(); len(waits) != 1 {
			t.Errorf("%d fetches", len(waits))
		}
	})
}

// Whoever asks while others fetch sees no entry vanish, and no race.
func TestFeedIsSafeForConcurrentUse(t *testing.T) {
	s := newSlowSource()
	ctx, cancel := context.WithCancel(t.Context())
	f := makeFeed(t, bearer.FeedConfig{Issuer: issuerName, Source: s, File: t.TempDir() + "/feed.json", Observe: func(bearer.FeedEvent) {}})
	var all sync.WaitGroup
	all.Go(func() { f.Run(ctx) })
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				moved := f.Moved()
				known := f.Position()
				if known.Sequence > 0 {
					key := fmt.Sprint("tbk_", known.Sequence-1)
					if err := f.Revoked(ctx, "kid_1", claimsOf(key, 1)); !errors.Is(err, bearer.ErrRevoked) {
						t.Errorf("at %+v, %s: %v", known, key, err)
					}
				}
				if status := f.Status(); status.Position.Before(known) {
					t.Errorf("it went from %+v to %+v", known, status.Position)
				}
				_ = f.Fresh(ctx)
				if f.Position() == known {
					select {
					case <-moved:
					case <-ctx.Done():
					}
				}
			}
		})
	}
	for i := range 200 {
		s.revoke(fmt.Sprint("tbk_", i))
		if i%3 == 0 {
			s.set(func() { s.epoch++ })
		}
		if err := f.Refresh(ctx); err != nil {
			t.Error(err)
		}
		denies(t, f, claimsOf(fmt.Sprint("tbk_", i), 1), bearer.ErrRevoked)
	}
	cancel()
	all.Wait()
	if status := f.Status(); status.Entries != 200 || status.File != nil {
		t.Errorf("status %+v", status)
	}
}
