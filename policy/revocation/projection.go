package revocation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// ProjectionOptions is what a Projection needs.
type ProjectionOptions struct {
	Client redis.UniversalClient // bounded by timeouts of its own; it may fail at once
	List   *List                 // what Redis shall have

	// Renew begins a new epoch in the database, unless the present one is another than
	// old. It returns the epoch that it began, which this replica alone may build then;
	// 0: somebody else was faster. The List learns of it through the change sequence, and
	// Redis only after Renew has returned: it should not wait for more than the commit.
	Renew func(ctx context.Context, old int64) (epoch int64, err error)

	Evicts   func() bool      // whether Redis is known to evict keys; nil: it tells itself
	Hint     func()           // called when another replica has pushed changes that this one lacks; nil: nothing is done
	Interval time.Duration    // of the watchdog; zero: 2 s
	Log      *slog.Logger     // required
	Now      func() time.Time // zero: time.Now
}

// Projection keeps the copy of the revocations in Redis, which can be lost at any
// moment: whole, by an empty restart; in its newest part, by a failover; in any part,
// by eviction. What it lacks means "not revoked" only while it is known to be whole:
// its epoch is the database's, its sequence the List's, and it has as many members as
// were put into it.
//
// Beside the revocations it has the subjects of the newest changes, and so it tells
// replicas without the database what to forget (change.Voucher).
//
// Every replica runs one, and any may push: pushes are in order and may be repeated.
// An epoch is built by the replica that began it, and once, so that the state of an
// epoch never comes back with less than somebody was told it has. It is safe for
// concurrent use; Run is for one goroutine.
type Projection struct {
	o    ProjectionOptions
	wake chan struct{} // there is something to push

	mu       sync.Mutex
	owed     change.Batch   // what Redis may lack; Since == Seq: changes whose subjects are not known
	followed oauth.Position // the List's, when the newest batch came
	newest   int64          // the newest change that was followed
	known    report         // the newest that Redis said when it was whole
	doubts   string         // why it cannot be relied on now; empty: it can
	seen     oauth.Position // the furthest that Redis was seen at
	failures uint64         // of calls
	moved    chan struct{}  // closed when any of that is another
	stats    ProjectionState

	// Run's own.
	watch  watch
	beside sync.WaitGroup // what goes on beside it
	begun  chan renewal
}

// ProjectionState is for metrics.
type ProjectionState struct {
	Unknown      bool          // Redis cannot be relied on
	Why          string        // a sentence, if it is unknown
	Lag          int64         // how many sequence numbers are not in Redis
	Rebuilds     uint64        // how often it was built anew by this replica
	RebuildTook  time.Duration // the last time
	EpochChanges uint64        // how many epochs this replica began
	Evicted      uint64        // keys that Redis evicted, as far as this replica saw
	Diverged     uint64        // how often Redis had something else than the database: it must stay 0
}

// The pauses of a Projection.
const (
	defaultInterval = 2 * time.Second
	callTimeout     = time.Second // of one call, where the client waits longer
	tellTimeout     = time.Second // of Tell
)

// NewProjection makes a projection that is unknown until Run has looked at Redis.
func NewProjection(o ProjectionOptions) *Projection {
	o.Interval = cmp.Or(o.Interval, defaultInterval)
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Projection{o: o, wake: make(chan struct{}, 1), begun: make(chan renewal, 1), newest: -1, doubts: "it was not looked at yet"}
	p.owed.Seq = -1
	return p
}

// Run pushes what is new, watches that nothing gets lost, and rebuilds what was. It
// ends with ctx.
func (p *Projection) Run(ctx context.Context) {
	p.beside.Go(func() { p.listen(ctx) })
	defer p.beside.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			p.round(ctx)
			timer.Reset(p.o.Interval)
		case <-p.wake:
			p.flush(ctx)
		case r := <-p.begun:
			p.began(ctx, r)
		case <-ctx.Done():
			return
		}
	}
}

// Follow queues what changed. It has to be called after the List's Follow, so that
// the List has what the changes denied. It never fails.
func (p *Projection) Follow(_ context.Context, b change.Batch) error {
	at := p.o.List.Position()
	p.mu.Lock()
	p.followed, p.newest = at, b.Seq
	p.owed = join(p.owed, b)
	p.stir()
	p.mu.Unlock()
	p.rouse()
	return nil
}

// maxOwed is how many subjects are worth to be remembered while Redis is away.
const maxOwed = 5000

// join is one batch after another. A follower leaves out changes that touched nothing,
// so a number between them means nothing. Without the subjects of some change there
// are none.
func join(owed, b change.Batch) change.Batch {
	if !b.Complete || len(owed.Subjects)+len(b.Subjects) > maxOwed {
		return change.Batch{Since: b.Seq, Seq: b.Seq}
	}
	subjects := make(map[string]bool, len(owed.Subjects)+len(b.Subjects))
	maps.Copy(subjects, owed.Subjects)
	maps.Copy(subjects, b.Subjects)
	return change.Batch{Since: min(owed.Since, b.Since), Seq: b.Seq, Subjects: subjects}
}

// rouse makes Run push.
func (p *Projection) rouse() {
	select {
	case p.wake <- struct{}{}:
	default: // it is about to
	}
}

// stir wakes those who wait for something to be another. Call it with mu held.
func (p *Projection) stir() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// ErrNotTold means that Redis does not have a change, as far as this replica knows.
var ErrNotTold = errors.New("the change is not known to be in Redis")

// Tell returns when Redis has all revocations and changes up to a change, with the
// name under which it vouches for them. It takes a second at most, and fails at once
// with ErrNotTold when Redis cannot be reached. The follower of this replica has to
// take the change in meanwhile.
func (p *Projection) Tell(ctx context.Context, seq int64) (voucher string, err error) {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	p.mu.Lock()
	failures := p.failures
	p.mu.Unlock()
	p.rouse() // for what failed before
	for {
		p.mu.Lock()
		known, doubts, failed := p.known, p.doubts, p.newest >= seq && p.failures != failures
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		switch {
		case known.Change >= seq && known.name() != "":
			return known.name(), nil
		case failed:
			return "", fmt.Errorf("%w: %s", ErrNotTold, doubts)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return "", fmt.Errorf("%w: %s: %w", ErrNotTold, cmp.Or(doubts, "the change has not come to it"), ctx.Err())
		}
	}
}

// Name implements change.Voucher. It is of the server in the role that it has: when
// it becomes a replica and a master again, it is named otherwise.
func (p *Projection) Name() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doubts != "" {
		return ""
	}
	return p.known.name()
}

// State says how Redis is, for metrics.
func (p *Projection) State() ProjectionState {
	at := p.o.List.Position()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Unknown, s.Why, s.Lag = p.doubts != "", p.doubts, at.Sequence
	if !s.Unknown && p.known.Epoch == at.Epoch {
		s.Lag = max(0, at.Sequence-p.known.Sequence)
	}
	return s
}

// trust notes that Redis is whole.
func (p *Projection) trust(r report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doubts != "" {
		p.o.Log.Info("the copy of the revocations in Redis is whole", "epoch", r.Epoch, "seq", r.Sequence)
	}
	p.known, p.doubts = r, ""
	p.notice(r)
	if r.Change >= p.owed.Seq {
		p.owed = change.Batch{Since: p.owed.Seq, Seq: p.owed.Seq}
	}
	p.stir()
}

// notice notes how far Redis is. Call it with mu held.
func (p *Projection) notice(r report) {
	if p.seen.Before(r.Position) {
		p.seen = r.Position
	}
}

// doubt notes that Redis cannot be relied on, and why.
func (p *Projection) doubt(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doubts != why {
		p.o.Log.Warn("the copy of the revocations in Redis cannot be relied on", "reason", why)
	}
	p.doubts = why
	p.known = report{}
	p.stir()
}

// failed notes a call that came to nothing.
func (p *Projection) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // Run ends
	}
	p.mu.Lock()
	p.failures++
	p.mu.Unlock()
	p.doubt(redisReason(err))
}

// now is the time in seconds.
func (p *Projection) now() int64 { return p.o.Now().Unix() }
