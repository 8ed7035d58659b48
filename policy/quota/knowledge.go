package quota

import "time"

// margin is how much less of a debt is passed to the source than is known. A debt
// is measured from before its request was sent, and is a little less than true; on
// the way to the source the next request takes time too, by which the debt would
// be too much. No request takes longer than takeTimeout, so with this margin what
// is passed never adds a debt that is not there.
const margin = takeTimeout

// meter is what is known of one rate: how much time had been spent ahead at some
// instant. It falls by itself.
type meter struct {
	spent    time.Duration // the theoretical arrival time less the instant
	sent     time.Time     // an instant before the source measured it
	received time.Time     // an instant after
}

// debt is at least so much: who counts from before the request was sent may ask
// again too early, never too late.
func (m *meter) debt(now time.Time) time.Duration { return max(0, m.spent-now.Sub(m.sent)) }

// shown is at most so much, by what is known: who waits for it to fall is never
// too early.
func (m *meter) shown(now time.Time) time.Duration { return max(0, m.spent-now.Sub(m.received)) }

// passed is what is passed to the source as known to be spent, so that one that
// has forgotten does not give a second burst.
func (m *meter) passed(now time.Time) time.Duration { return max(0, m.debt(now)-margin) }

// learn takes in an answer. One that was asked for before what is already known
// counts only if it says more.
func (m *meter) learn(spent time.Duration, sent, received time.Time) {
	if !sent.Before(m.sent) || sent.Add(spent).After(m.sent.Add(m.spent)) {
		*m = meter{spent, sent, received}
	}
}

// spend adds one unit that was decided here.
func (m *meter) spend(interval time.Duration, now time.Time) {
	*m = meter{m.shown(now) + interval, now, now}
}

func (m *meter) cap(r Rate) { m.spent = min(m.spent, r.Capacity()) }

// tally is what is known of one count.
type tally struct {
	period string
	n      int64
}

// turn begins another period.
func (t *tally) turn(period string) {
	if t.period != period {
		*t = tally{period: period}
	}
}

// learn takes in an answer: a count never falls, though its source may forget.
func (t *tally) learn(period string, n int64) {
	if t.period == period {
		t.n = max(t.n, n)
	}
}

// known is how many were counted in a period, by the source and by SQL.
func (l *Limiter) known(ln *lane, c *count) int64 { return max(c.tally.n, l.total(ln, c)) }

// used is how many of those were admitted: not those that are leased or prepaid.
func (l *Limiter) used(ln *lane, c *count) int64 {
	return max(c.tally.n-ln.account.prepaid-ln.units, l.total(ln, c))
}

func (l *Limiter) total(ln *lane, c *count) int64 {
	if l.options.Counters == nil {
		return 0
	}
	return l.options.Counters.Total(ln.terms.workspace, c.period)
}

// spent reports whether the source would refuse for certain.
func (l *Limiter) spent(ln *lane, now time.Time) bool {
	for i := range ln.terms.rates {
		if r := &ln.terms.rates[i]; r.Wait(r.meter.debt(now)) > 0 {
			return true
		}
	}
	for i := range ln.terms.counts {
		if c := &ln.terms.counts[i]; l.used(ln, c) >= c.limit {
			return true
		}
	}
	return false
}

// left is the least that any limit leaves, as far as is known; 0: nothing is known.
func (l *Limiter) left(ln *lane, now time.Time) int64 {
	least := int64(-1)
	less := func(n int64) {
		if least < 0 || n < least {
			least = max(0, n)
		}
	}
	for i := range ln.terms.rates {
		r := &ln.terms.rates[i]
		if r.meter.sent.IsZero() {
			return 0
		}
		less(r.Left(r.meter.debt(now)))
	}
	for i := range ln.terms.counts {
		c := &ln.terms.counts[i]
		less(c.limit - l.used(ln, c))
	}
	return max(0, least)
}
