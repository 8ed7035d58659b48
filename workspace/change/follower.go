package change

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Timing bounds how stale a replica may be.
type Timing struct {
	Lease   time.Duration // how long after sending a renewal the caches may answer
	Renewal time.Duration // how often changes are read and the lease renewed
}

// DefaultTiming is what the service runs with.
var DefaultTiming = Timing{Lease: 2 * time.Second, Renewal: 500 * time.Millisecond}

// Database is what a Follower and Await need of the database.
type Database interface {
	Reader() sqlx.ExtContext
	Writer() sqlx.ExtContext
}

// Follower keeps one replica's caches coherent and holds its lease.
type Follower struct {
	Database Database         // required
	Host     string           // for people who look at the table
	Timing   Timing           // zero: DefaultTiming
	Log      *slog.Logger     // required
	Now      func() time.Time // wall clock for people; zero: time.Now

	// OnChange are called in turn before a change is acknowledged. An error keeps
	// it unacknowledged: the whole batch comes again with the next renewal.
	OnChange []func(context.Context, Batch) error

	// Holds is what this replica reports of itself with each renewal: words
	// separated by spaces (AwaitHeld). May be nil.
	Holds func() string

	// What the replica may do after it lost the lease: see Stand.
	Voucher Voucher       // nil: none
	Vouched time.Duration // for how long the voucher's word counts
	Alone   time.Duration // for how long it goes on by itself

	// OnVouched is called for what the voucher tells, also if nothing has changed, by
	// each exchange that asks it, at once and in any order. It must not ask the
	// database; its error means that no exchange can go on without.
	OnVouched func(Batch) error

	id      string
	lapsed  string        // an ID for which nobody waits any more
	hurry   chan struct{} // a renewal is wanted now
	applied atomic.Int64
	told    atomic.Int64           // the newest change that the voucher told of
	voucher atomic.Pointer[string] // its name, as the table has it
	barred  atomic.Bool            // a change could not be applied, so nothing extends the lease
	peers   map[string]seen        // of the renewals
	living  atomic.Int64
	behind  atomic.Int64              // nanoseconds: see Behind
	until   atomic.Pointer[time.Time] // the lease's end, with a monotonic reading
}

// Start registers the replica and takes the first lease. It must succeed before
// a cache is used.
func (f *Follower) Start(ctx context.Context) error {
	if f.Timing == (Timing{}) {
		f.Timing = DefaultTiming
	}
	if f.Now == nil {
		f.Now = time.Now
	}
	f.applied.Store(nothing)
	f.hurry = make(chan struct{}, 1)
	return f.renew(ctx)
}

// Hurry asks Run to take in what changed now instead of at the next tick, for
// somebody on this replica who waits for it. It does not wait.
func (f *Follower) Hurry() {
	select {
	case f.hurry <- struct{}{}:
	default: // it is asked for already
	}
}

// Run renews the lease until ctx ends, then gives it up so that nobody waits
// for this replica. A renewal that fails is tried again at the next tick; the
// caches stop answering when the lease runs out.
func (f *Follower) Run(ctx context.Context) {
	tick := time.NewTicker(f.Timing.Renewal)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.tick(ctx)
		case <-f.hurry:
			f.tick(ctx)
		case <-ctx.Done():
			f.release()
			return
		}
	}
}

func (f *Follower) tick(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, f.Timing.Lease)
	defer cancel()
	held := f.Held()
	err := f.renew(ctx)
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		f.Log.Warn("cannot renew the lease on the key cache", "error", err, "held", held)
	case err == nil && !held:
		f.Log.Info("the lease on the key cache is held again", "seq", f.Applied())
	}
}

// Held reports whether caches may answer now. Both of this machine's clocks have
// to agree: the monotonic one stands still while a virtual machine is suspended,
// and the other may be set back.
func (f *Follower) Held() bool {
	return f.within(0)
}

// within reports whether the lease has ended less than that ago, if at all.
func (f *Follower) within(tail time.Duration) bool {
	until, now := f.until.Load(), time.Now()
	if until == nil {
		return false
	}
	return now.Sub(*until) < tail && now.UnixNano()-until.UnixNano() < int64(tail)
}

// Until is when the lease ends or ended, by the wall clock; zero if none is held
// after Run has ended or before Start.
func (f *Follower) Until() time.Time {
	if until := f.until.Load(); until != nil {
		return until.Round(0)
	}
	return time.Time{}
}

// Applied is the newest change that the caches have taken in.
func (f *Follower) Applied() int64 { return f.applied.Load() }

// renew reads and applies what changed, then acknowledges it. The lease counts
// from before anything was sent: whoever sees this renewal knows that the lease
// ends no later than one lease after. Nobody waits for a replica without a row,
// so a lease is taken only for what was read when the row was there already.
func (f *Follower) renew(ctx context.Context) error {
	if f.id == "" {
		if err := f.register(ctx); err != nil {
			return err
		}
	}
	sent := time.Now()
	batch, err := since(ctx, f.Database.Reader(), f.applied.Load())
	if err != nil {
		return err
	}
	if err := f.apply(ctx, batch); err != nil {
		if !schema.IsUnavailable(err) { // the database was there, and knows better
			f.barred.Store(true)
		}
		return err
	}
	f.barred.Store(false)
	f.applied.Store(batch.Seq)
	known, err := f.acknowledge(ctx, batch.Seq)
	if err != nil {
		return err
	}
	if !known { // the row was taken for a dead replica's: nobody waits for it
		f.id, f.lapsed = "", f.id
		return f.renew(ctx)
	}
	until := sent.Add(f.Timing.Lease)
	f.until.Store(&until)
	f.count(ctx)
	return nil
}

// apply lets the caches take in a batch.
func (f *Follower) apply(ctx context.Context, batch Batch) error {
	if batch.Complete && len(batch.Subjects) == 0 {
		return nil
	}
	for _, apply := range f.OnChange {
		if err := apply(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// Behind is for how long some replica that lives has lacked a change which this one
// has taken in: the oldest that is not acknowledged.
func (f *Follower) Behind() time.Duration { return time.Duration(f.behind.Load()) }

// Replicas is how many replicas live, this one among them: those whose leases were
// seen to be renewed lately. What is shared among them is divided by it.
func (f *Follower) Replicas() int { return max(1, int(f.living.Load())) }

// count looks which replicas have renewed their leases. A dead one's row stays
// until somebody waits for it, so that rows alone do not count. When it cannot look,
// as many live as before.
func (f *Follower) count(ctx context.Context) {
	found, err := holders(ctx, f.Database.Reader())
	if err != nil {
		return
	}
	now, next, living, behind := time.Now(), map[string]seen{}, int64(0), time.Duration(0)
	for _, h := range found {
		s := f.peers[h.ID]
		if s.since.IsZero() || s.renewals != h.Renewals {
			s.renewals, s.since = h.Renewals, now
		}
		switch {
		case h.Acked >= f.applied.Load():
			s.behind = time.Time{}
		case s.behind.IsZero():
			s.behind = now
		}
		if now.Sub(s.since) <= 2*f.Timing.Lease {
			living++
			if !s.behind.IsZero() {
				behind = max(behind, now.Sub(s.behind))
			}
		}
		next[h.ID] = s
	}
	f.peers = next
	f.living.Store(living)
	f.behind.Store(int64(behind))
}

// register adds the replica to those that are waited for. A row of it for which nobody
// waits goes only then, with what it said of how long the replica goes on without the
// lease: that has to be in the table all the time.
func (f *Follower) register(ctx context.Context) error {
	id, voucher := workspace.Unique(), ""
	if named := f.voucher.Load(); named != nil {
		voucher = *named
	}
	_, err := f.Database.Writer().ExecContext(ctx,
		`INSERT INTO replicas (id, host, renewals, acked_seq, voucher, vouched, alone, renewed_at) VALUES (?, ?, 0, ?, ?, ?, ?, ?)`,
		id, f.Host, f.applied.Load(), voucher, f.Vouched.Microseconds(), f.Alone.Microseconds(), workspace.At(f.Now()))
	if err != nil {
		return fmt.Errorf("register the replica: %w", err)
	}
	f.id = id
	if f.lapsed != "" {
		// If this fails it goes when its time is over.
		_, _ = f.Database.Writer().ExecContext(ctx, `DELETE FROM replicas WHERE id = ?`, f.lapsed)
		f.lapsed = ""
	}
	return nil
}

// acknowledge renews the lease in the table. It reports false when the row is gone
// or was noted as one that lost its lease: whoever made a change since has not waited
// for it.
func (f *Follower) acknowledge(ctx context.Context, seq int64) (known bool, err error) {
	var holds, voucher string
	if f.Holds != nil {
		holds = f.Holds()
	}
	if f.Voucher != nil {
		voucher = f.Voucher.Name()
	}
	if named := f.voucher.Load(); named != nil && *named != voucher {
		f.voucher.Store(nil) // the table may get the new one without our learning of it
	}
	result, err := f.Database.Writer().ExecContext(ctx,
		`UPDATE replicas SET renewals = renewals + 1, acked_seq = ?, holds = ?, voucher = ?, vouched = ?, alone = ?, renewed_at = ?
		WHERE id = ? AND lapsed_renewals <> renewals`,
		seq, holds, voucher, f.Vouched.Microseconds(), f.Alone.Microseconds(), workspace.At(f.Now()), f.id)
	if err != nil {
		return false, fmt.Errorf("renew the lease: %w", err)
	}
	n, err := result.RowsAffected()
	if n == 1 {
		f.voucher.Store(&voucher)
	}
	return n == 1, err
}

// release removes the row. When that fails, observers wait one lease longer.
func (f *Follower) release() {
	f.until.Store(nil)
	ctx, cancel := context.WithTimeout(context.Background(), f.Timing.Lease)
	defer cancel()
	if _, err := f.Database.Writer().ExecContext(ctx, `DELETE FROM replicas WHERE id = ?`, f.id); err != nil {
		f.Log.Warn("cannot give up the lease on the key cache", "error", err)
	}
}
