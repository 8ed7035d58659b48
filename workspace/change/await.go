package change

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// holder is one row of the lease table.
type holder struct {
	ID             string         `db:"id"`
	Host           string         `db:"host"`
	Renewals       int64          `db:"renewals"`
	Acked          int64          `db:"acked_seq"`
	Holds          string         `db:"holds"`
	Alone          int64          `db:"alone"`   // microseconds
	Vouched        int64          `db:"vouched"` // microseconds
	Voucher        string         `db:"voucher"`
	LapsedRenewals int64          `db:"lapsed_renewals"`
	LapsedAt       workspace.Time `db:"lapsed_at"`
}

// lapsed reports whether it was seen to have lost its lease and has not been back.
func (h holder) lapsed() bool { return h.LapsedRenewals == h.Renewals }

// tail is for how long it may go on without its lease.
func (h holder) tail() time.Duration {
	tail := h.Alone
	if h.Voucher != "" {
		tail = max(tail, h.Vouched)
	}
	return time.Duration(tail) * time.Microsecond
}

// seen is a holder and when, by our clock, its counter last moved.
type seen struct {
	renewals int64
	since    time.Time
	behind   time.Time // since when it lacks changes that we have; zero: it lacks none
}

// clocks is how far the clocks of replicas may differ, where times of one are
// compared with another's.
const clocks = 5 * time.Second

// Lapsed is a replica that lost its lease without a word and lacks the change that
// was waited for. It may go on for a while by what it has in memory (Follower).
type Lapsed struct {
	Host    string
	At      time.Time     // when it was seen to have lost its lease
	Alone   time.Duration // for how long it goes on by itself
	Vouched time.Duration // for how long it goes on by the word of its voucher
	Voucher string        // empty: it has none
}

// Until is when it does not act by what was before any more, if the voucher of that
// name knows of the change; empty: none does.
func (l Lapsed) Until(knows string) time.Time {
	tail := l.Alone
	if l.Voucher != "" && l.Voucher != knows {
		tail = max(tail, l.Vouched)
	}
	if tail == 0 {
		return time.Time{}
	}
	return l.At.Add(tail + clocks)
}

// Await returns once every replica has acknowledged the change with that number
// or has lost its lease. Call it after the commit. It takes at most about one
// lease; ctx may bound it further. Then, and when the database does not answer, there
// is an error: the change is committed, but some replica may still act on what was
// before. So may those that it returns, which cannot be waited for; with an error
// those are among them that were, as if they lost their leases from then on, and one
// without a name if nobody is known.
//
// A replica that is gone is noted on the way, so that the dead are waited for
// once. A replica that registers meanwhile reads the log after it has, so it is
// not waited for.
func Await(ctx context.Context, db Database, seq int64, timing Timing) ([]Lapsed, error) {
	lapsed, waiting, err := await(ctx, db, timing, func(h holder) bool { return h.Acked >= seq })
	if err == nil {
		return lapsed, nil
	}
	end := workspace.At(time.Now().Add(timing.Lease))
	for _, h := range waiting {
		h.LapsedAt = end
		lapsed = append(lapsed, h.lost())
	}
	if len(lapsed) == 0 {
		lapsed = []Lapsed{{Host: "unknown", At: end.Time, Alone: MaxAlone, Vouched: MaxVouched, Voucher: "unknown"}}
	}
	return lapsed, fmt.Errorf("waiting for replicas to take in change %d: %w", seq, err)
}

// ErrNotHeld means that some replica lives and does not hold what was asked for.
var ErrNotHeld = errors.New("not every replica holds it")

// AwaitHeld returns once every replica reports to hold something (Follower.Holds)
// or has lost its lease. After two leases it gives up with ErrNotHeld, which
// names the replicas.
func AwaitHeld(ctx context.Context, db Database, word string, timing Timing) error {
	limited, cancel := context.WithTimeout(ctx, 2*timing.Lease)
	defer cancel()
	_, waiting, err := await(limited, db, timing, func(h holder) bool { return slices.Contains(strings.Fields(h.Holds), word) })
	if limited.Err() == nil || len(waiting) == 0 {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var hosts []string
	for _, h := range waiting {
		hosts = append(hosts, h.Host)
	}
	return fmt.Errorf("%w: %s", ErrNotHeld, strings.Join(hosts, ", "))
}

// await returns once every replica is done or has lost its lease. When ctx ends or
// the database fails it returns that error with those that were waited for last.
func await(ctx context.Context, db Database, timing Timing, done func(holder) bool) (lapsed []Lapsed, waiting []holder, err error) {
	observed := map[string]seen{}
	for first := true; ; first = false {
		found, err := holders(ctx, db.Reader())
		if err != nil {
			return lapsed, waiting, err
		}
		now := time.Now()
		lapsed, waiting = nil, nil
		for _, h := range found {
			s, known := observed[h.ID]
			switch {
			case done(h), !known && !first:
			case h.lapsed():
				observed[h.ID] = seen{renewals: h.Renewals, since: now}
				lapsed = append(lapsed, h.lost())
			case known && s.renewals == h.Renewals && now.Sub(s.since) > timing.Lease:
				if note(ctx, db.Writer(), &h, now) {
					lapsed = append(lapsed, h.lost())
				} else {
					waiting = append(waiting, h) // it moved after all
				}
			default:
				if !known || s.renewals != h.Renewals {
					observed[h.ID] = seen{renewals: h.Renewals, since: now}
				}
				waiting = append(waiting, h)
			}
			forget(ctx, db.Writer(), h, now)
		}
		if len(waiting) == 0 {
			return lapsed, nil, nil
		}
		select {
		case <-time.After(timing.Renewal / 10):
		case <-ctx.Done():
			return lapsed, waiting, ctx.Err()
		}
	}
}

func (h holder) lost() Lapsed {
	return Lapsed{
		Host: h.Host, At: h.LapsedAt.Time, Voucher: h.Voucher,
		Alone: time.Duration(h.Alone) * time.Microsecond, Vouched: time.Duration(h.Vouched) * time.Microsecond,
	}
}

func holders(ctx context.Context, q sqlx.ExtContext) ([]holder, error) {
	var found []holder
	err := sqlx.SelectContext(ctx, q, &found, `SELECT id, host, renewals, acked_seq, holds, alone, vouched, voucher, lapsed_renewals, lapsed_at FROM replicas`)
	if err != nil {
		return nil, fmt.Errorf("read the lease-holders: %w", err)
	}
	return found, nil
}

// note writes down that a holder has lost its lease. It reports false if it has
// been back meanwhile. When it cannot be written it is true all the same.
func note(ctx context.Context, w sqlx.ExtContext, h *holder, now time.Time) bool {
	at := workspace.At(now)
	result, err := w.ExecContext(ctx, `UPDATE replicas SET lapsed_renewals = renewals, lapsed_at = ? WHERE id = ? AND renewals = ?`, at, h.ID, h.Renewals)
	if err == nil {
		if n, err := result.RowsAffected(); err == nil && n == 0 {
			return false
		}
	}
	h.LapsedRenewals, h.LapsedAt = h.Renewals, at
	return true
}

// forget deletes the row of a holder that lost its lease so long ago that it acts
// by nothing any more. Failing to is harmless: the next observer tries again.
func forget(ctx context.Context, w sqlx.ExtContext, h holder, now time.Time) {
	if !h.lapsed() || (h.tail() > 0 && now.Before(h.LapsedAt.Add(h.tail()+clocks))) {
		return
	}
	_, _ = w.ExecContext(ctx, `DELETE FROM replicas WHERE id = ? AND renewals = ?`, h.ID, h.Renewals)
}
