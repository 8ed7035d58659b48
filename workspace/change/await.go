package change

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// holder is one row of the lease table.
type holder struct {
	ID       string `db:"id"`
	Host     string `db:"host"`
	Renewals int64  `db:"renewals"`
	Acked    int64  `db:"acked_seq"`
	Holds    string `db:"holds"`
}

// seen is a holder and when, by our clock, its counter last moved.
type seen struct {
	renewals int64
	since    time.Time
}

// Await returns once every replica has acknowledged the change with that number
// or has lost its lease. Call it after the commit. It takes at most about one
// lease; ctx may bound it further, and then its error is returned: the change is
// committed, but some replica may still act on what was before.
//
// A row whose holder is gone is removed on the way, so that the dead are waited
// for once. A replica that registers meanwhile reads the log after it has, so it
// is not waited for.
func Await(ctx context.Context, db Database, seq int64, timing Timing) error {
	waiting, err := await(ctx, db, timing, func(h holder) bool { return h.Acked >= seq })
	if ctx.Err() != nil && len(waiting) > 0 {
		return fmt.Errorf("waiting for %d replicas to take in change %d: %w", len(waiting), seq, ctx.Err())
	}
	return err
}

// ErrNotHeld means that some replica lives and does not hold what was asked for.
var ErrNotHeld = errors.New("not every replica holds it")

// AwaitHeld returns once every replica reports to hold something (Follower.Holds)
// or has lost its lease. After two leases it gives up with ErrNotHeld, which
// names the replicas.
func AwaitHeld(ctx context.Context, db Database, word string, timing Timing) error {
	limited, cancel := context.WithTimeout(ctx, 2*timing.Lease)
	defer cancel()
	waiting, err := await(limited, db, timing, func(h holder) bool { return slices.Contains(strings.Fields(h.Holds), word) })
	if limited.Err() == nil || len(waiting) == 0 {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %s", ErrNotHeld, strings.Join(waiting, ", "))
}

// await returns once every replica is done or has lost its lease. When ctx ends
// it returns its error with the hosts that were waited for last.
func await(ctx context.Context, db Database, timing Timing, done func(holder) bool) (waiting []string, err error) {
	observed := map[string]seen{}
	for first := true; ; first = false {
		found, err := holders(ctx, db.Reader())
		if err != nil {
			return waiting, err
		}
		now := time.Now()
		waiting = nil
		for _, h := range found {
			if done(h) {
				continue
			}
			s, known := observed[h.ID]
			if !known && !first {
				continue
			}
			if !known || s.renewals != h.Renewals {
				observed[h.ID] = seen{h.Renewals, now}
				waiting = append(waiting, h.Host)
				continue
			}
			if now.Sub(s.since) <= timing.Lease {
				waiting = append(waiting, h.Host)
				continue
			}
			remove(ctx, db.Writer(), h)
		}
		if len(waiting) == 0 {
			return nil, nil
		}
		select {
		case <-time.After(timing.Renewal / 10):
		case <-ctx.Done():
			return waiting, ctx.Err()
		}
	}
}

func holders(ctx context.Context, q sqlx.ExtContext) ([]holder, error) {
	var found []holder
	if err := sqlx.SelectContext(ctx, q, &found, `SELECT id, host, renewals, acked_seq, holds FROM replicas`); err != nil {
		return nil, fmt.Errorf("read the lease-holders: %w", err)
	}
	return found, nil
}

// remove deletes a dead holder's row, unless it moved after all. Failing to is
// harmless: the next observer tries again.
func remove(ctx context.Context, w sqlx.ExtContext, h holder) {
	_, _ = w.ExecContext(ctx, `DELETE FROM replicas WHERE id = ? AND renewals = ?`, h.ID, h.Renewals)
}
