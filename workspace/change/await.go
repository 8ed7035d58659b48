package change

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// holder is one row of the lease table.
type holder struct {
	ID       string `db:"id"`
	Renewals int64  `db:"renewals"`
	Acked    int64  `db:"acked_seq"`
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
	observed := map[string]seen{}
	for first := true; ; first = false {
		pending, err := behind(ctx, db.Reader(), seq)
		if err != nil {
			return err
		}
		now := time.Now()
		waiting := 0
		for _, h := range pending {
			s, known := observed[h.ID]
			if !known && !first {
				continue
			}
			if !known || s.renewals != h.Renewals {
				observed[h.ID] = seen{h.Renewals, now}
				waiting++
				continue
			}
			if now.Sub(s.since) <= timing.Lease {
				waiting++
				continue
			}
			remove(ctx, db.Writer(), h)
		}
		if waiting == 0 {
			return nil
		}
		select {
		case <-time.After(timing.Renewal / 10):
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d replicas to take in change %d: %w", waiting, seq, ctx.Err())
		}
	}
}

func behind(ctx context.Context, q sqlx.ExtContext, seq int64) ([]holder, error) {
	var pending []holder
	err := sqlx.SelectContext(ctx, q, &pending, `SELECT id, renewals, acked_seq FROM replicas WHERE acked_seq < ?`, seq)
	if err != nil {
		return nil, fmt.Errorf("read the lease-holders: %w", err)
	}
	return pending, nil
}

// remove deletes a dead holder's row, unless it moved after all. Failing to is
// harmless: the next observer tries again.
func remove(ctx context.Context, w sqlx.ExtContext, h holder) {
	_, _ = w.ExecContext(ctx, `DELETE FROM replicas WHERE id = ? AND renewals = ?`, h.ID, h.Renewals)
}
