package quota

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Source counts exchanges: exactly, for all who ask it. Redis is the one that
// replicas share, Memory the one of a single process. Both answer alike.
type Source interface {
	// Take spends up to Order.Units of every limit in the order, of each the same
	// number or of none anything. An error means that nothing is known, not even
	// whether units were spent.
	Take(ctx context.Context, o Order) (Answer, error)
}

// ErrSpoiled means that the source answers, and holds something under the names of an
// order that is not its own. Other orders are not concerned.
var ErrSpoiled = errors.New("the quota's place holds something else")

// Order asks for units of a workspace's quota. Without limits it is granted.
type Order struct {
	Workspace workspace.ID
	Units     int64 // as many as are wanted; fewer are granted if fewer are there. 0 only asks what is spent
	Force     bool  // spend all units, though limits are exceeded
	Rates     []RateOrder
	Counts    []CountOrder
}

// RateOrder is one rate of an order.
type RateOrder struct {
	Subject string // what within the workspace is counted by itself: a key's ID, or empty for all of it; in an order once
	Rate    Rate   // its interval is a whole number of microseconds
	// Debt is what the asker knows to be spent at least: the theoretical arrival
	// time less now. What the source has forgotten is spent all the same. An asker
	// that reckons it from the source's last answer takes off more than a round trip
	// lasts: else the time that this one takes longer than that one is spent too, at
	// every order.
	Debt time.Duration
}

// CountOrder is one calendar window of an order.
type CountOrder struct {
	Period string // such as 2026-11-24 or 2026-11; in an order once
	Limit  int64
	Floor  int64         // at least so many were spent, by the asker's own knowledge
	Keep   time.Duration // how long the count is of use, from its first unit
}

// Answer is what a source has granted, and what is spent after that.
type Answer struct {
	Granted int64           // 0 to Units
	Debts   []time.Duration // of each rate: the theoretical arrival time less now; 0: nothing is spent
	Counts  []int64         // of each window
}

// Bounds within which every source calculates exactly: Redis does so in floating
// point, where whole numbers end at 2^53. Times are microseconds since 1970, of
// which a full bucket may take the last seventy years.
const (
	maxCount    = 1<<53 - 1
	maxCapacity = 1 << 51
)

// check refuses an order that no source can carry out.
func (o *Order) check() error {
	if o.Units < 0 || o.Units > maxCount {
		return fmt.Errorf("quota: an order of %d units", o.Units)
	}
	for i := range o.Rates {
		r := o.Rates[i].Rate
		if r.Interval < time.Microsecond || r.Interval%time.Microsecond != 0 || r.Burst < 1 || int64(r.Burst) > maxCapacity/r.Interval.Microseconds() {
			return fmt.Errorf("quota: a rate of %d at once and one each %s", r.Burst, r.Interval)
		}
	}
	for i := range o.Counts {
		c := &o.Counts[i]
		switch {
		case c.Limit > maxCount || c.Floor > maxCount:
			return fmt.Errorf("quota: a count of %d with a limit of %d", c.Floor, c.Limit)
		case c.Keep <= 0:
			return errors.New("quota: a count that is not kept")
		}
	}
	return nil
}

// micros is a duration in microseconds; a part of one counts as one.
func micros(d time.Duration) int64 { return ceil(int64(d), int64(time.Microsecond)) }

func ceil(n, unit int64) int64 {
	whole := n / unit
	if n%unit > 0 {
		whole++
	}
	return whole
}
