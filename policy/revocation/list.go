package revocation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// Item is an entry as the copies have it.
type Item struct {
	Seq int64
	oauth.FeedEntry
}

// List holds in memory everything that is denied and matters still, coherent with
// the database through the change sequence: Follow is called before a change is
// acknowledged. Without the lease it asks the database. It is safe for concurrent
// use.
type List struct {
	Issuer string
	Reader sqlx.ExtContext
	Held   func() bool      // whether this replica holds its lease; nil: always
	Now    func() time.Time // nil: time.Now

	mu       sync.RWMutex
	position oauth.Position
	items    []Item // in order; only ever appended to, so that those who read may share it
	denied   map[string]oauth.FeedEntry
	pruneAt  int           // how many items there have to be for the next pruning
	moved    chan struct{} // closed when something was added
}

// ErrBackwards means that the database knows less than this replica does: it was
// restored, or another one has taken its place. A revocation is never taken back.
var ErrBackwards = errors.New("the database has fewer revocations than this replica has seen")

// Follow takes in what was added.
func (l *List) Follow(ctx context.Context, _ change.Batch) error { return l.Load(ctx) }

// pageSize is how many entries are read at once.
const pageSize = 5000

// Load takes in what was added since it was called last.
func (l *List) Load(ctx context.Context) error {
	known := l.Position() // first: others may load meanwhile
	newest, err := Newest(ctx, l.Reader)
	if err != nil {
		return err
	}
	if newest.Epoch < known.Epoch || newest.Sequence < known.Sequence {
		return fmt.Errorf("%w: it is at %d of epoch %d, and %d of epoch %d was seen: run `tokenbooth restore-check`, then restart every replica",
			ErrBackwards, newest.Sequence, newest.Epoch, known.Sequence, known.Epoch)
	}
	for seq := known.Sequence; seq < newest.Sequence; {
		entries, err := live(ctx, l.Reader, seq, workspace.At(l.now()), pageSize)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			break // the rest has expired
		}
		seq = entries[len(entries)-1].Seq
		l.add(entries)
	}
	l.advance(newest)
	return nil
}

// add takes in entries that are newer than all before.
func (l *List) add(entries []Entry) {
	now := l.now().Unix()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(now)
	for _, e := range entries {
		if e.Seq <= l.position.Sequence {
			continue // somebody else was faster
		}
		l.position.Sequence = e.Seq
		// Rounded up: the copies keep whole seconds.
		item := Item{e.Seq, oauth.FeedEntry{Hash: oauth.RevocationHash(l.Issuer, e.Kind, e.SubjectID), Generation: e.Generation, Expiry: e.ExpiresAt.Unix() + 1}}
		if item.Expiry <= now {
			continue
		}
		l.items = append(l.items, item)
		l.deny(item.FeedEntry)
	}
}

// deny puts an entry beside those of the same subject: the strictest counts, and it
// stays for as long as any of them.
func (l *List) deny(e oauth.FeedEntry) {
	if l.denied == nil {
		l.denied = map[string]oauth.FeedEntry{}
	}
	l.denied[e.Hash] = e.Merge(l.denied[e.Hash])
}

// minPrune is how many items are not worth the work.
const minPrune = 1000

// prune forgets what has expired, once as many entries were added as were left by
// the last time. Call it with mu held.
func (l *List) prune(now int64) {
	if len(l.items) < max(l.pruneAt, minPrune) {
		return
	}
	var left []Item
	clear(l.denied)
	for _, item := range l.items {
		if item.Expiry > now {
			left = append(left, item)
			l.deny(item.FeedEntry)
		}
	}
	l.items, l.pruneAt = left, 2*len(left)
}

// advance notes how far everything is taken in, and wakes those who wait.
func (l *List) advance(to oauth.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Another Load may have added more meanwhile, and not noted its epoch yet.
	l.position = oauth.Position{Epoch: max(l.position.Epoch, to.Epoch), Sequence: max(l.position.Sequence, to.Sequence)}
	if l.moved != nil {
		close(l.moved)
		l.moved = nil
	}
}

// Position is how far the list is.
func (l *List) Position() oauth.Position {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.position
}

// Since returns the items after a sequence number that have not expired, and how
// far the list is with them.
func (l *List) Since(seq int64) (oauth.Position, []Item) {
	l.mu.RLock()
	items, position := l.items, l.position
	l.mu.RUnlock()
	first, _ := slices.BinarySearchFunc(items, seq+1, func(i Item, seq int64) int { return cmp.Compare(i.Seq, seq) })
	now, found := l.now().Unix(), []Item{}
	for _, item := range items[first:] {
		if item.Expiry > now {
			found = append(found, item)
		}
	}
	return position, found
}

// Moved is closed when the list is further than it is now.
func (l *List) Moved() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.moved == nil {
		l.moved = make(chan struct{})
	}
	return l.moved
}

// Len is how many entries are in memory.
func (l *List) Len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.items)
}

// Revoked implements bearer.Revocations. Without the lease the list is brought up
// to date first, and when that fails it cannot be known.
func (l *List) Revoked(ctx context.Context, kid string, claims *oauth.Claims) error {
	if err := l.Fresh(ctx); err != nil {
		return err
	}
	now := l.now().Unix()
	marks := oauth.Marks(kid, claims)
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, mark := range marks {
		if e, ok := l.denied[mark.Hash]; ok && e.Expiry > now && e.Denies(mark) {
			return bearer.ErrRevoked
		}
	}
	return nil
}

// Fresh implements bearer.Revocations.
func (l *List) Fresh(ctx context.Context) error {
	if l.Held == nil || l.Held() {
		return nil
	}
	return l.Load(ctx)
}

func (l *List) now() time.Time {
	if l.Now == nil {
		return time.Now()
	}
	return l.Now()
}
