package revocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
)

// FeedInterval is how old a signed feed becomes while nothing is added. FeedLife is
// for how long somebody may begin to use it (its exp).
const (
	FeedInterval = 5 * time.Second
	FeedLife     = time.Minute
)

// What is kept of feeds that continue from some number, for each position of the
// list: so many, and so many entries in them together. Whoever asks for more gets
// the full feed.
const (
	maxDeltas       = 256
	maxDeltaEntries = 1 << 18
	newestDeltas    = 100 // from so many of the newest numbers there is always room
)

// signPatience bounds one signature, with what may have to be read for it.
const signPatience = 5 * time.Second

// ErrUnavailable means that this replica cannot know whether its list is complete,
// and that the feed which it signed last has expired.
var ErrUnavailable = errors.New("the feed of revocations cannot be signed now")

// Signer has the key that signs the feed: a signing.Ring of that purpose.
type Signer interface {
	Active(ctx context.Context, algorithm string) (*signing.Key, error)
}

// Publisher makes the signed feed of a list. What it has signed serves everybody
// for a while, and of those who ask at once one waits for a signature and the others
// for that one. It is safe for concurrent use.
type Publisher struct {
	List *List
	Keys Signer
	Now  func() time.Time // nil: time.Now

	signing singleflight.Group

	mu      sync.Mutex
	full    *Document
	to      oauth.Position      // where the deltas lead
	deltas  map[int64]*Document // by the number from which they continue; nil while the first is made
	entries int64               // in the deltas, at most
}

// Document is a signed feed: its bytes, and what they say.
type Document struct {
	Body []byte // JWS compact serialization (RFC 7515 §3.1)
	oauth.Position
	From     int64     // 0: it is a full feed
	IssuedAt time.Time // everything that was acknowledged until then is in it
	Expiry   time.Time

	signed time.Time // what IssuedAt is rounded down from
}

// Since returns the feed of what was added after a position, or the full one if the
// position is zero, of another epoch, ahead of the list, or too far behind.
//
// The feed is up to date while this replica holds its lease or reaches the database.
// Otherwise nothing is signed, since it may not be complete: it is what was signed
// last, whose age tells, or ErrUnavailable once that has expired.
func (p *Publisher) Since(ctx context.Context, at oauth.Position) (*Document, error) {
	to := p.List.Position()
	if at.Sequence == 0 || at.Epoch != to.Epoch || at.Sequence > to.Sequence || !p.room(to, at.Sequence) {
		at = oauth.Position{}
	}
	return p.get(ctx, at)
}

// room reports whether a delta may be kept, and takes its place.
func (p *Publisher) room(to oauth.Position, from int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.place(to, from)
}

// place takes the place of a delta, if there is one. Those that lead to an older
// position than it does have to go. Call it with mu held.
func (p *Publisher) place(to oauth.Position, from int64) bool {
	if p.to.Before(to) {
		p.to, p.deltas, p.entries = to, map[int64]*Document{}, 0
	}
	if _, ok := p.deltas[from]; ok {
		return true
	}
	entries, free := p.to.Sequence-from, maxDeltas
	if entries > newestDeltas {
		free -= newestDeltas // whoever asks for all numbers leaves room for those who follow
	}
	if len(p.deltas) >= free || entries > maxDeltaEntries-p.entries {
		return false
	}
	p.deltas[from] = nil
	p.entries += entries
	return true
}

// get returns the feed from a position, the full one from the zero position, or
// that of a newer epoch if one begins meanwhile.
func (p *Publisher) get(ctx context.Context, at oauth.Position) (*Document, error) {
	to := p.List.Position()
	if d := p.kept(at.Sequence); d.current(to, p.now()) {
		return d, nil
	}
	// Those who have seen the list move do not wait for a feed of before.
	flight := fmt.Sprint(at, to)
	made := p.signing.DoChan(flight, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), signPatience)
		defer cancel()
		return p.make(ctx, at)
	})
	select {
	case result := <-made:
		d, _ := result.Val.(*Document) // nil with an error
		return d, result.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// make signs a feed, unless somebody just has. The time is taken first: everything
// that was acknowledged before is in the list by the time when it is known to be
// complete.
func (p *Publisher) make(ctx context.Context, at oauth.Position) (*Document, error) {
	now := p.now()
	if d := p.kept(at.Sequence); d.current(p.List.Position(), now) {
		return d, nil
	}
	if err := p.List.Fresh(ctx); err != nil {
		return p.last(at, now, err)
	}
	to, items := p.List.Since(at.Sequence)
	if at.Sequence > 0 && at.Epoch != to.Epoch {
		at = oauth.Position{}
		to, items = p.List.Since(0)
	}
	d := &Document{Position: to, From: at.Sequence, IssuedAt: now.Truncate(time.Second), signed: now}
	d.Expiry = d.IssuedAt.Add(FeedLife)
	if err := p.sign(ctx, d, merge(items)); err != nil {
		return p.last(at, now, err)
	}
	p.keep(d)
	return d, nil
}

func (p *Publisher) sign(ctx context.Context, d *Document, entries []oauth.FeedEntry) error {
	payload, err := json.Marshal(oauth.Feed{
		Issuer: p.List.Issuer, IssuedAt: d.IssuedAt.Unix(), Expiry: d.Expiry.Unix(),
		Position: d.Position, From: d.From, Entries: entries,
	})
	if err != nil {
		return fmt.Errorf("write the feed of revocations: %w", err)
	}
	key, err := p.Keys.Active(ctx, signing.FeedAlgorithm)
	if err != nil {
		return err
	}
	text, err := key.Sign(oauth.FeedType, payload)
	if err != nil {
		return err
	}
	d.Body = []byte(text)
	return nil
}

// merge puts entries of one hash together, in the order of their first.
func merge(items []Item) []oauth.FeedEntry {
	merged := make([]oauth.FeedEntry, 0, len(items))
	place := make(map[string]int, len(items))
	for _, item := range items {
		i, ok := place[item.Hash]
		if !ok {
			place[item.Hash] = len(merged)
			merged = append(merged, item.FeedEntry)
			continue
		}
		merged[i] = merged[i].Merge(item.FeedEntry)
	}
	return merged
}

// last is what was signed last, if somebody may use it still.
func (p *Publisher) last(at oauth.Position, now time.Time, cause error) (*Document, error) {
	if d := p.kept(at.Sequence); d != nil && d.Epoch == at.Epoch && now.Before(d.Expiry) {
		return d, nil
	}
	if d := p.kept(0); d != nil && now.Before(d.Expiry) {
		return d, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, cause)
}

// kept returns what was signed last from a number; nil: nothing that is kept.
func (p *Publisher) kept(from int64) *Document {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from == 0 {
		return p.full
	}
	return p.deltas[from]
}

// keep keeps what was signed, unless there is something newer.
func (p *Publisher) keep(d *Document) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case d.From == 0 && (p.full == nil || !d.Before(p.full.Position)):
		p.full = d
	case d.From > 0 && !d.Before(p.to) && p.place(d.Position, d.From):
		p.deltas[d.From] = d
	}
}

// current reports whether there is no need for a newer one. If the clock was set
// back there is.
func (d *Document) current(to oauth.Position, now time.Time) bool {
	if d == nil {
		return false
	}
	age := now.Sub(d.signed)
	return d.Position == to && age >= 0 && age < FeedInterval
}

// MaxAge is for how long a cache may keep a document: until the next is signed.
func (p *Publisher) MaxAge(d *Document) time.Duration {
	left := min(FeedInterval-p.now().Sub(d.IssuedAt), FeedInterval)
	return max(left, 0)
}

func (p *Publisher) now() time.Time {
	if p.Now == nil {
		return time.Now()
	}
	return p.Now()
}
