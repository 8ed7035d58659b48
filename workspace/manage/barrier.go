package manage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// What is denied is out of force when nobody acts by what was before any more. A
// use case that takes something away returns then, or says when that will be.

// Denial says what became of the tokens that a use case denied.
type Denial struct {
	Sequence int64     // of the newest revocation; 0: nothing was denied
	DeadBy   time.Time // after that none of those tokens is good anywhere
}

// Denying lets a use case tell what it denied: d is set once that is committed.
func (c Caller) Denying(d *Denial) Caller {
	c.denial = d
	return c
}

// denial is what the unit denied, once it is committed, or found denied already.
func (u *unit) denial() Denial {
	d := u.before
	for _, e := range u.denied {
		d.Sequence = max(d.Sequence, e.Seq)
		if e.ExpiresAt.After(d.DeadBy) {
			d.DeadBy = e.ExpiresAt.Time
		}
	}
	return d
}

// repeats notes what denied a subject earlier, so that whoever repeats a request gets
// the same answer. There is nothing when no token was good any more so long ago that
// the entry is pruned.
func (u *unit) repeats(ctx context.Context, kind oauth.Revocable, subject string) error {
	entries, err := revocation.Of(ctx, u.tx, kind, subject)
	if err == nil && len(entries) > 0 {
		newest := entries[len(entries)-1]
		u.before = Denial{Sequence: newest.Seq, DeadBy: newest.ExpiresAt.Time}
	}
	return err
}

// ErrPending is the kind of PendingError.
var ErrPending = errors.New("committed, but not yet in force everywhere")

// PendingError means that a change is committed and will not be lost, but that some
// replica may act by what was before until then.
type PendingError struct {
	Until time.Time
	Cause error
}

func (e *PendingError) Error() string {
	return fmt.Sprintf("%v: it is by %s at the latest: %v", ErrPending, e.Until.UTC().Format(time.RFC3339), e.Cause)
}

// Is implements errors.Is.
func (e *PendingError) Is(target error) bool { return target == ErrPending }

// Unwrap implements errors.Unwrap.
func (e *PendingError) Unwrap() error { return e.Cause }

// await returns when the change is in force on every replica, is known to whoever
// speaks for replicas without the database, and is in the journal. Otherwise the
// error is a *PendingError.
func (m *Manager) await(ctx context.Context, seq int64) error {
	ctx, cancel := context.WithTimeout(ctx, 3*m.timing().Lease) // a database may hang
	defer cancel()
	if m.Hurry != nil {
		m.Hurry()
	}
	var told string
	var errTell, errJournal error
	var telling sync.WaitGroup
	if m.Tell != nil {
		telling.Go(func() { told, errTell = m.Tell(ctx, seq) })
	}
	if m.Journal != nil {
		telling.Go(func() { errJournal = m.Journal.CatchUp(ctx, m.Database.Reader()) })
	}
	lapsed, err := change.Await(ctx, m.Database, seq, m.timing())
	telling.Wait()
	now, until := time.Now(), time.Time{}
	for _, l := range lapsed {
		if end := l.Until(told); end.After(until) && end.After(now) {
			until, err = end, errors.Join(err, fmt.Errorf("replica %s lost its lease and may go on for a while", l.Host), errTell)
		}
	}
	if err == nil {
		err = errJournal
	}
	if err == nil {
		return nil
	}
	if end := now.Add(2 * m.timing().Lease); end.After(until) {
		until = end
	}
	return &PendingError{Until: until, Cause: err}
}
