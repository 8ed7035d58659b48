package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// cutter cuts what is held, after some time, and passes the rest.
type cutter struct {
	*slowSource
	after time.Duration // 0: at once, even if there is news; never: it is swallowed
	cuts  bool
}

const never = time.Duration(-1)

// Fetch implements bearer.FeedSource.
func (c *cutter) Fetch(ctx context.Context, since oauth.Position, wait time.Duration) (bearer.FeedUpdate, error) {
	c.mu.Lock()
	cuts := c.cuts && wait > 0
	c.mu.Unlock()
	if !cuts {
		return c.slowSource.Fetch(ctx, since, wait)
	}
	if c.after <= 0 {
		c.noted(since, wait)
		if c.after == never {
			<-ctx.Done()
		}
		return bearer.FeedUpdate{}, errDown
	}
	short, cancel := context.WithTimeoutCause(ctx, c.after, errDown)
	defer cancel()
	u, err := c.slowSource.Fetch(short, since, wait)
	if err != nil {
		err = context.Cause(short)
	}
	return u, err
}

// Where what is held does not get through, the issuer is polled, not hammered, and
// each minute waiting is tried again.
func TestFeedRunPollsWhereWaitingIsCut(t *testing.T) {
	for name, c := range map[string]struct {
		after         time.Duration
		fewest, most  int           // fetches in ten minutes
		waits         int           // that wait, at most
		known, healed time.Duration // until a revocation is, and until one is at once when all gets through
	}{
		"refused":         {0, 100, 150, 15, 5500 * time.Millisecond, 70 * time.Second},
		"after a second":  {time.Second, 100, 150, 15, 5500 * time.Millisecond, 70 * time.Second},
		"after nine":      {9 * time.Second, 90, 150, 15, 15 * time.Second, 80 * time.Second},
		"late, with news": {15 * time.Second, 60, 100, 45, time.Second, 20 * time.Second},
		"never answered":  {never, 80, 150, 15, 35 * time.Second, 105 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &cutter{slowSource: newSlowSource(), after: c.after}
				f := running(t, s, nil)
				s.set(func() { s.cuts = true })
				pass(time.Minute)
				s.fetched()
				pass(10 * time.Minute)
				all, _ := s.fetched()
				waits := 0
				for _, wait := range all {
					if wait > 0 {
						waits++
					}
				}
				if len(all) < c.fewest || len(all) > c.most || waits > c.waits || waits < 5 {
					t.Errorf("%d fetches in ten minutes, of which %d wait", len(all), waits)
				}
				fresh(t, f, nil)
				s.revoke("tbk_1")
				pass(c.known)
				denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked)
				s.set(func() { s.cuts = false })
				pass(c.healed)
				s.revoke("tbk_2")
				pass(200 * time.Millisecond)
				denies(t, f, claimsOf("tbk_2", 1), bearer.ErrRevoked)
			})
		})
	}
}

// slowLink is a network that sends a text in pieces.
type slowLink struct {
	text   string
	begins time.Duration // after which the answer begins
	piece  int           // bytes
	every  time.Duration
	stalls int // after so many bytes; 0: never
}

// RoundTrip implements http.RoundTripper.
func (l slowLink) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := l.pause(r.Context(), l.begins); err != nil {
		return nil, err
	}
	body := &slowBody{slowLink: l, ctx: r.Context(), left: l.text}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: body}, nil
}

func (slowLink) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type slowBody struct {
	slowLink
	ctx  context.Context
	left string
}

// Read implements io.Reader.
func (b *slowBody) Read(into []byte) (int, error) {
	switch {
	case b.left == "":
		return 0, io.EOF
	case b.stalls > 0 && len(b.text)-len(b.left) >= b.stalls:
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	if err := b.pause(b.ctx, b.every); err != nil {
		return 0, err
	}
	n := copy(into, b.left[:min(b.piece, len(b.left))])
	b.left = b.left[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *slowBody) Close() error { return nil }

// A full feed that comes slowly is waited for while it comes, and no longer.
func TestFeedOverASlowLink(t *testing.T) {
	s := newES256(t)
	entries := make([]any, 0, 6000)
	for i := range cap(entries) {
		entries = append(entries, entryOf(oauth.RevocableToken, fmt.Sprint("jti_", i), 0, 600))
	}
	text := s.feed(t, nil, object{"entries": entries})
	for name, c := range map[string]struct {
		link slowLink
		took time.Duration // at most, and two seconds less at least
		says string        // empty: it is read
	}{
		"slow":     {slowLink{text: text, begins: 9 * time.Second, piece: 1 << 10, every: 62 * time.Millisecond}, 37 * time.Second, ""},
		"silent":   {slowLink{text: text, begins: time.Hour, piece: 1}, 10 * time.Second, "begin to answer within 10s"},
		"stalled":  {slowLink{text: text, piece: 1 << 10, stalls: 200 << 10}, 11 * time.Second, "come with 16 KiB/s"},
		"trickled": {slowLink{text: text, piece: 100, every: 10 * time.Millisecond}, 11 * time.Second, "come with 16 KiB/s"},
		"endless":  {slowLink{text: strings.Repeat("x", 10<<20), piece: 1 << 10, every: 60 * time.Millisecond}, 5 * time.Minute, "longer than 5m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := makeFeed(t, bearer.FeedConfig{
					Issuer: issuerName, Keys: keysOf(s), Client: &http.Client{Transport: c.link}, Now: func() time.Time { return now },
				})
				began := time.Now()
				err := f.Refresh(t.Context())
				if took := time.Since(began); took > c.took || took < c.took-2*time.Second {
					t.Errorf("it took %s, want %s", took, c.took)
				}
				if c.says == "" {
					if err != nil || f.Status().Entries != len(entries) {
						t.Errorf("%v, %d entries", err, f.Status().Entries)
					}
					return
				}
				failure := (*bearer.FeedError)(nil)
				if !errors.As(err, &failure) || failure.Kind != bearer.FeedUnreachable || !strings.Contains(err.Error(), c.says) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v, want that it is unreachable and says %q", err, c.says)
				}
			})
		})
	}
}
