package change

import (
	"context"
	"errors"
	"time"
)

// Voucher tells of changes when the database does not answer: every change is
// written there too before anybody is told that it is in force.
type Voucher interface {
	// Name is of the server whose word counts now; empty: there is none. Each renewal
	// writes it to the table, so that whoever makes a change knows whom to tell.
	Name() string
	// Vouch returns what has changed since a change, by the word of the server of that
	// name. An error means that it cannot be known.
	Vouch(ctx context.Context, name string, since int64) (Batch, error)
}

// The most that Follower.Alone and Follower.Vouched may be.
const (
	MaxAlone   = time.Minute
	MaxVouched = 15 * time.Minute
)

type standing struct{}

// Stand is asked at the beginning of each exchange, and returns the context under
// which May is true for it. With the lease that is any context. Without it, while
// the database does not answer, this exchange may go on by what is in memory if the
// voucher says that it is the newest, or if the lease ended so lately that the
// replica goes on alone. Whoever waits for a change knows of both (Lapsed).
func (f *Follower) Stand(ctx context.Context) context.Context {
	if f.Held() || f.barred.Load() {
		return ctx
	}
	if f.vouched(ctx) || (f.within(f.Alone) && !f.barred.Load()) {
		return context.WithValue(ctx, standing{}, f)
	}
	return ctx
}

// May reports whether a cache may answer: under the lease, or in the course of an
// exchange that Stand lets go on.
func (f *Follower) May(ctx context.Context) bool {
	return f.Held() || ctx.Value(standing{}) == f
}

// vouched asks the voucher, and lets the caches forget what it tells.
func (f *Follower) vouched(ctx context.Context) bool {
	name := f.voucher.Load()
	if f.Voucher == nil || name == nil || *name == "" || !f.within(f.Vouched) {
		return false
	}
	batch, err := f.Voucher.Vouch(ctx, *name, max(f.told.Load(), f.applied.Load()))
	if err == nil && !batch.Complete {
		err = errIncomplete
	}
	if err == nil && f.OnVouched != nil {
		if err = f.OnVouched(batch); err != nil {
			f.barred.Store(true) // what is in memory is known to be old
		}
	}
	if err != nil {
		f.Log.Debug("the lease is lost and nobody vouches", "error", err)
		return false
	}
	f.tell(batch.Seq)
	return true
}

// errIncomplete means that the voucher does not know what has changed since.
var errIncomplete = errors.New("the voucher does not know what has changed")

// tell notes how far the voucher has told.
func (f *Follower) tell(seq int64) {
	for {
		told := f.told.Load()
		if told >= seq || f.told.CompareAndSwap(told, seq) {
			return
		}
	}
}
