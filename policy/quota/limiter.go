package quota

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Options are what a Limiter works with.
type Options struct {
	Limits   func(context.Context, workspace.ID) (Limits, int64, error) // of a workspace, and their version; an error means that they cannot be known
	Source   Source
	Shared   bool             // other replicas draw from the same source; else each has a part of the limits
	Replicas func() int       // how many live, at least 1; nil: 1
	Counters *Counters        // what was counted in SQL; nil: none
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: slog.Default
}

// Limiter admits exchanges within the quota of their workspace and key.
//
// While the source answers, it decides: in any time t, all replicas together
// admit no more than Burst + (t + 100 ms) / Interval. The 100 ms are the life of a
// lease: units are spent at the source before they are used, though never longer
// before than that (a waiting exchange's: than one request takes, 250 ms at most).
//
// While it does not answer, each replica decides by its share: see alone.
//
// Where each replica has a source of its own, it admits its part of a rate, limit
// divided by the replicas that live, all the time.
//
// Calendar counts are exact while the source answers. Otherwise each replica knows
// of the others what they have written to SQL: together they admit at most what
// one interval of the Counters lets through.
type Limiter struct {
	options   Options
	calendars calendars
	shelf     shelf
	began     time.Time

	// retry is when a source that has failed may be asked again, in nanoseconds
	// after began; 0: the source is well.
	retry atomic.Int64

	spoiled atomic.Int64 // when ErrSpoiled was logged last, as above

	admitted, refused, soft, degraded, failures, trips atomic.Uint64
}

// NewLimiter makes a limiter.
func NewLimiter(o Options) *Limiter {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Replicas == nil {
		o.Replicas = func() int { return 1 }
	}
	l := &Limiter{options: o, began: o.Now()}
	l.spoiled.Store(-int64(time.Hour))
	l.shelf.init(l.began)
	return l
}

// Admitted counts the exchanges that were admitted.
func (l *Limiter) Admitted() uint64 { return l.admitted.Load() }

// Refused counts the exchanges that exceeded a limit.
func (l *Limiter) Refused() uint64 { return l.refused.Load() }

// SoftExceeded counts the exchanges that were admitted over a limit, in Soft mode.
func (l *Limiter) SoftExceeded() uint64 { return l.soft.Load() }

// DegradedDecisions counts what was decided by this replica's own share.
func (l *Limiter) DegradedDecisions() uint64 { return l.degraded.Load() }

// SourceErrors counts the requests to the source that failed.
func (l *Limiter) SourceErrors() uint64 { return l.failures.Load() }

// RoundTrips counts the requests to the source.
func (l *Limiter) RoundTrips() uint64 { return l.trips.Load() }

// Degraded reports whether the last request to the source failed.
func (l *Limiter) Degraded() bool { return l.retry.Load() != 0 }

// Len is how many workspaces, and keys with a limit of their own, are remembered.
func (l *Limiter) Len() int { return l.shelf.len() }

// Spend decides one exchange, and counts it if it is admitted. The error wraps
// what Limits returned, or says that ctx ended while the decision was waited for.
func (l *Limiter) Spend(ctx context.Context, d Demand) (Decision, error) {
	limits, version, err := l.options.Limits(ctx, d.Workspace)
	if err != nil {
		return Decision{}, fmt.Errorf("limits of %s: %w", d.Workspace, err)
	}
	if d.Key == "" {
		d.PerMinute = 0 // it would be nobody's
	}
	counted := limits.PerDay != nil || limits.PerMonth != nil
	if !counted && limits.PerMinute == nil && d.PerMinute == 0 {
		l.note(d.Workspace, l.options.Now())
		return Decision{Allowed: true}, nil
	}
	if counted && l.options.Counters != nil {
		// Without them the limiter goes on with what is known: SQL that is away must
		// not stop exchanges. The next one tries again.
		_ = l.options.Counters.Load(ctx, d.Workspace)
		if l.Degraded() || l.parts() > 1 {
			l.options.Counters.Refresh(d.Workspace)
		}
	}
	return l.decide(ctx, d, limits, version)
}

// parts is among how many a limit is divided while the source answers.
func (l *Limiter) parts() int {
	if l.options.Shared {
		return 1
	}
	return l.replicas()
}

// note counts an exchange that is admitted.
func (l *Limiter) note(in workspace.ID, now time.Time) {
	l.admitted.Add(1)
	if l.options.Counters != nil {
		l.options.Counters.Add(in, now)
	}
}

// decide answers from memory, or waits for a flight that shares its result.
func (l *Limiter) decide(ctx context.Context, d Demand, limits Limits, version int64) (Decision, error) {
	ln := l.shelf.open(d, l.options.Now)
	now := ln.used
	ln.agree(d, limits, version, l.parts(), l.calendars.at(now))
	if decision, decided := l.fromMemory(ln, now); decided {
		ln.account.mu.Unlock()
		return decision, nil
	}
	ln.waiting++
	f, start := l.board(ln, now)
	if f == nil {
		ln.waiting--
		decision := l.alone(ln, now)
		ln.account.mu.Unlock()
		return decision, nil
	}
	ln.account.mu.Unlock()
	return l.await(ctx, ln, f, start)
}

// await waits for a flight, which may have to be started, and for the next one if that
// brought too little for all. Each brings at least one unit, or ends the wait of
// everybody.
func (l *Limiter) await(ctx context.Context, ln *lane, f *flight, start bool) (d Decision, err error) {
	for f != nil {
		if landed := start && l.start(ln, f); !landed {
			select {
			case <-f.landed:
			case <-ctx.Done():
				ln.leave(f)
				return Decision{}, fmt.Errorf("wait for the quota: %w", ctx.Err())
			}
		}
		d, f, start = l.settle(ln, f)
	}
	return d, nil
}

// settle decides for one who waited for a flight, or names the next to wait for.
func (l *Limiter) settle(ln *lane, f *flight) (d Decision, next *flight, start bool) {
	ln.account.mu.Lock()
	defer ln.account.mu.Unlock()
	now := l.options.Now()
	d, decided := l.fromFlight(ln, f, now)
	if !decided {
		d, decided = l.fromMemory(ln, now)
	}
	if !decided {
		if next, start = l.board(ln, now); next != nil {
			return d, next, start
		}
		d = l.alone(ln, now)
	}
	ln.waiting--
	return d, nil, false
}

// fromFlight decides by what a flight has brought. A failed one ends the wait of
// all: nobody pays for a second time-out.
func (l *Limiter) fromFlight(ln *lane, f *flight, now time.Time) (d Decision, decided bool) {
	switch {
	case f.err != nil:
		return l.alone(ln, now), true
	case f.terms != ln.terms: // the limits have changed meanwhile
		return d, false
	case f.units > 0:
		f.units--
		return l.admit(ln, now, false), true
	case f.granted == 0:
		return l.refuse(ln, f.received, false), true
	}
	return d, false
}

// fromMemory decides without the source if that is possible: a unit of a lease is
// at hand, or it is known that the source would refuse.
func (l *Limiter) fromMemory(ln *lane, now time.Time) (d Decision, decided bool) {
	ln.expire(now)
	if ln.takeLeased() {
		return l.admit(ln, now, false), true
	}
	if ln.terms.soft || !ln.asked || l.Degraded() {
		return d, false
	}
	if l.spent(ln, now) {
		return l.refuse(ln, now, false), true
	}
	return d, false
}
