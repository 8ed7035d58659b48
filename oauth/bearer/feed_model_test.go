package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// revoked is what an issuer of the model has revoked.
type revoked struct {
	kind       oauth.Revocable
	id         string
	generation int64
	last       int64 // the latest exp of a token that it concerns
}

// entryLeeway is for how long an entry outlasts the last token, in seconds: the
// leeway of verifiers and one more.
const entryLeeway = 61

// covers reports whether a token with these claims is denied.
func (r revoked) covers(c *oauth.Claims) bool {
	has := map[oauth.Revocable]struct {
		id         string
		generation int64
	}{
		oauth.RevocableToken: {c.ID, 0}, oauth.RevocableKey: {c.ClientID, c.KeyGeneration}, oauth.RevocableSubject: {c.Subject, c.SubjectGeneration},
		oauth.RevocableWorkspace: {c.WorkspaceID, c.WorkspaceGeneration}, oauth.RevocableSigningKey: {"kid_1", 0},
	}[r.kind]
	return has.id == r.id && (r.generation == 0 || has.generation < r.generation) && c.Expiry <= r.last
}

// feedModel is an issuer, and a Feed that is told of it in any order.
type feedModel struct {
	clock  time.Time
	path   string
	all    []revoked                // in order, of all epochs
	epoch  int64                    // the present one
	begins map[int64]int64          // by epoch: how many revocations there were before its first sequence number
	said   []bearer.FeedUpdate      // whatever was ever said
	next   bearer.FeedUpdate        // what is said next
	whole  func() bearer.FeedUpdate // what is said to who asks for everything
	feed   *bearer.Feed
	seen   oauth.Position // the furthest that the feed was at
}

// sequence is the number of the last revocation, which a new epoch may count anew.
func (m *feedModel) sequence() int64 { return int64(len(m.all)) - m.begins[m.epoch] }

// update is what the issuer says, from a sequence number on.
func (m *feedModel) update(from int64) bearer.FeedUpdate {
	u := bearer.FeedUpdate{Position: oauth.Position{Epoch: m.epoch, Sequence: m.sequence()}, From: from, At: m.clock}
	first := int64(0)
	if from > 0 {
		first = m.begins[m.epoch] + from
	}
	for _, r := range m.all[first:] {
		if expiry := r.last + entryLeeway; expiry > m.clock.Unix() {
			u.Entries = append(u.Entries, oauth.FeedEntry{Hash: oauth.RevocationHash(issuerName, r.kind, r.id), Generation: r.generation, Expiry: expiry})
		}
	}
	return u
}

// Fetch implements bearer.FeedSource.
func (m *feedModel) Fetch(_ context.Context, since oauth.Position, _ time.Duration) (bearer.FeedUpdate, error) {
	if since == (oauth.Position{}) {
		return m.whole(), nil
	}
	return m.next, nil
}

func (m *feedModel) start(t *rapid.T) {
	f, err := bearer.NewFeed(bearer.FeedConfig{Issuer: issuerName, Source: m, File: m.path, Now: func() time.Time { return m.clock }})
	if err != nil {
		t.Fatal(err)
	}
	m.feed = f
}

// deliver lets the feed fetch what is next, and checks how far it is then.
func (m *feedModel) deliver(t *rapid.T) {
	before := m.feed.Position()
	err := m.feed.Refresh(t.Context())
	after := m.feed.Position()
	if failure := (*bearer.FeedError)(nil); err != nil && !errors.As(err, &failure) {
		t.Fatalf("an error of no kind: %v", err)
	}
	if after.Before(before) || (err != nil && after != before) {
		t.Fatalf("with %v it went from %+v to %+v", err, before, after)
	}
	m.seen = after
}

// known are the revocations that one knows who is at a position.
func (m *feedModel) known(p oauth.Position) []revoked {
	if p == (oauth.Position{}) {
		return nil
	}
	return m.all[:m.begins[p.Epoch]+p.Sequence]
}

func drawClaims(t *rapid.T, clock time.Time) *oauth.Claims {
	id := func(kind string) string { return kind + fmt.Sprint(rapid.IntRange(1, 3).Draw(t, kind)) }
	generation := rapid.Int64Range(1, 4)
	return &oauth.Claims{
		Issuer: issuerName, ID: id("jti"), ClientID: id("key"), Subject: id("sub"), WorkspaceID: id("ws"),
		KeyGeneration: generation.Draw(t, "key_gen"), SubjectGeneration: generation.Draw(t, "sub_gen"), WorkspaceGeneration: generation.Draw(t, "ws_gen"),
		Expiry: clock.Unix() + rapid.Int64Range(-60, 600).Draw(t, "left"), // with the leeway of verifiers
	}
}

// actions are what may happen.
func (m *feedModel) actions() map[string]func(*rapid.T) {
	kinds := []oauth.Revocable{oauth.RevocableToken, oauth.RevocableKey, oauth.RevocableSubject, oauth.RevocableWorkspace}
	return map[string]func(*rapid.T){
		"revoke": func(t *rapid.T) {
			kind := rapid.SampledFrom(kinds).Draw(t, "kind")
			r := revoked{kind: kind, id: string(kind) + fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "id"))}
			if kind != oauth.RevocableToken {
				r.generation = rapid.Int64Range(0, 4).Draw(t, "generation")
			}
			r.last = m.clock.Unix() + rapid.Int64Range(1, 700).Draw(t, "life")
			m.all = append(m.all, r)
		},
		"a new epoch": func(*rapid.T) {
			m.epoch++
			m.begins[m.epoch] = int64(len(m.all))
		},
		"time passes": func(t *rapid.T) {
			m.clock = m.clock.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "seconds")) * time.Second)
		},
		"a full feed": func(t *rapid.T) {
			m.next = m.update(0)
			m.said = append(m.said, m.next)
			m.deliver(t)
		},
		"a delta": func(t *rapid.T) { // from anywhere: before, at or after what is known
			m.next = m.update(rapid.Int64Range(0, m.sequence()).Draw(t, "from"))
			m.said = append(m.said, m.next)
			m.deliver(t)
		},
		"the right delta": func(t *rapid.T) {
			if p := m.feed.Position(); p.Epoch == m.epoch {
				m.next = m.update(p.Sequence)
				m.said = append(m.said, m.next)
				m.deliver(t)
				if m.feed.Position().Sequence != m.sequence() {
					t.Fatalf("it is at %+v, and everything was said", m.feed.Position())
				}
			}
		},
		"something old": func(t *rapid.T) {
			if len(m.said) > 0 {
				m.next = rapid.SampledFrom(m.said).Draw(t, "again")
				old := m.next
				m.whole = func() bearer.FeedUpdate { return old }
				m.deliver(t)
				m.whole = func() bearer.FeedUpdate { return m.update(0) }
			}
		},
		"a restart": func(t *rapid.T) {
			m.start(t)
			if p := m.feed.Position(); p != m.seen {
				t.Fatalf("after a restart it is at %+v, and was at %+v", p, m.seen)
			}
		},
		"": m.check,
	}
}

// check asks about some tokens. Who is as far as a revocation denies what it
// covers; what no revocation covers is accepted.
func (m *feedModel) check(t *rapid.T) {
	if m.feed.Position() == (oauth.Position{}) {
		return
	}
	known := m.known(m.feed.Position())
	for range 5 {
		c := drawClaims(t, m.clock)
		err := m.feed.Revoked(t.Context(), "kid_1", c)
		covered := slices.ContainsFunc(known, func(r revoked) bool { return r.covers(c) })
		ever := slices.ContainsFunc(m.all, func(r revoked) bool { r.last = c.Expiry; return r.covers(c) })
		switch {
		case covered && !errors.Is(err, bearer.ErrRevoked):
			t.Fatalf("at %+v it accepts %+v: %v", m.feed.Position(), c, err)
		case !ever && err != nil:
			t.Fatalf("at %+v it denies %+v: %v", m.feed.Position(), c, err)
		}
	}
}

// Whatever a feed is told, in whatever order and however often: once it is as far
// as a revocation, no token that this covers is accepted, not even one that is
// signed later with the old generation, until it expires.
func TestFeedNeverTakesBack(t *testing.T) {
	directory, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		m := &feedModel{clock: now, path: filepath.Join(directory, fmt.Sprint(runs)), epoch: 1, begins: map[int64]int64{1: 0}}
		m.whole = func() bearer.FeedUpdate { return m.update(0) }
		m.start(t)
		t.Repeat(m.actions())
	})
}
