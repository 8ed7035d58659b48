package quota

import (
	"context"
	"errors"
	"time"
)

const (
	// takeTimeout is how long a request to the source may take.
	takeTimeout = 250 * time.Millisecond
	// pause is how long a source that has failed is left alone. Meanwhile nobody
	// waits for it, and after that only one exchange at a time tries.
	pause = time.Second
	// keepCount is for how long after its end the source shall keep a count, for
	// replicas whose clocks are behind.
	keepCount = time.Hour
)

var errAnswer = errors.New("the quota source gives an answer that makes no sense")

// flight is one request to the source. All demands of a lane that come meanwhile
// wait for it.
type flight struct {
	terms   *terms
	order   Order
	prepaid int64         // units of the order that calendar counts have counted already
	landed  chan struct{} // closed when the fields below are set, under the account's mutex; nil: only who started it waits, and is there when it lands

	// What the order lists, in the same piece of memory.
	rates  [maxRates]RateOrder
	counts [maxCounts]CountOrder

	sent, received time.Time // received is set before
	err            error
	granted        int64
	units          int64 // of those granted, for who waits
}

// board joins the flight under way, or makes one, which the caller must start. nil:
// the source has failed and shall not be waited for.
func (l *Limiter) board(ln *lane, now time.Time) (f *flight, start bool) {
	retry := l.retry.Load()
	if retry == 0 && ln.flight != nil {
		ln.flight.expect()
		return ln.flight, false
	}
	if retry != 0 {
		elapsed := int64(now.Sub(l.began))
		if ln.flight != nil || elapsed < retry || !l.retry.CompareAndSwap(retry, elapsed+int64(pause)) {
			return nil, false
		}
	}
	ln.flight = l.prepare(ln, now)
	if l.options.Shared {
		ln.flight.expect()
	}
	return ln.flight, true
}

// expect is for who will wait until the flight lands. The caller holds the account's
// mutex.
func (f *flight) expect() {
	if f.landed == nil {
		f.landed = make(chan struct{})
	}
}

// start is for who holds no mutex. Only a source that others share can take long;
// another answers at once, and then the flight has landed.
func (l *Limiter) start(ln *lane, f *flight) (landed bool) {
	if l.options.Shared {
		go l.fly(ln, f)
		return false
	}
	l.fly(ln, f)
	return true
}

// prepare writes an order. While there are prepaid units, it leaves out the counts
// that they have been counted in.
func (l *Limiter) prepare(ln *lane, now time.Time) *flight {
	f := &flight{terms: ln.terms, sent: now}
	f.order = Order{Workspace: ln.terms.workspace, Units: l.want(ln, now), Force: ln.terms.soft, Rates: f.rates[:0]}
	for _, r := range ln.terms.rates {
		if ln.terms.soft { // a source remembers no more than a burst, and what exceeds it shall be seen
			r.Burst += int(f.order.Units)
		}
		f.order.Rates = append(f.order.Rates, RateOrder{Subject: string(r.subject), Rate: r.Rate, Debt: r.meter.passed(now)})
	}
	if a := ln.account; a.prepaid > 0 && len(ln.terms.counts) > 0 {
		f.order.Units = min(f.order.Units, a.prepaid)
		f.prepaid = f.order.Units
		a.prepaid -= f.prepaid
		return f
	}
	f.order.Counts = f.counts[:0]
	for i := range ln.terms.counts {
		c := &ln.terms.counts[i]
		f.order.Counts = append(f.order.Counts, CountOrder{Period: c.period, Limit: c.limit, Floor: l.known(ln, c), Keep: c.end.Sub(now) + keepCount})
	}
	return f
}

// fly asks the source, whoever still waits: who leaves must not spoil it for the
// others.
func (l *Limiter) fly(ln *lane, f *flight) {
	ctx := context.Background()
	if l.options.Shared { // another source answers at once, and a timer costs more than that
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, takeTimeout)
		defer cancel()
	}
	l.trips.Add(1)
	answer, err := l.options.Source.Take(ctx, f.order)
	if err == nil {
		err = f.check(answer)
	}
	l.heed(err)
	received := l.options.Now()

	ln.account.mu.Lock()
	defer ln.account.mu.Unlock()
	ln.flight = nil
	f.err, f.received = err, received
	if err == nil {
		ln.land(f, answer)
	}
	if f.terms.version == ln.account.version && f.terms.date == ln.account.date {
		ln.account.prepaid += f.prepaid
	}
	if f.landed != nil {
		close(f.landed)
	}
}

// check refuses an answer that would make the limiter ask without end.
func (f *flight) check(a Answer) error {
	if len(a.Debts) != len(f.order.Rates) || len(a.Counts) != len(f.order.Counts) || a.Granted < 0 || a.Granted > f.order.Units {
		return errAnswer
	}
	if f.order.Force && a.Granted < f.order.Units {
		return errAnswer
	}
	spent := a.Granted > 0
	for i, o := range f.order.Rates {
		spent = spent || o.Rate.Wait(a.Debts[i]) > 0
	}
	for i, o := range f.order.Counts {
		spent = spent || a.Counts[i] >= o.Limit
	}
	if !spent {
		return errAnswer
	}
	return nil
}

// heed takes notice of whether the source is well.
func (l *Limiter) heed(err error) {
	if err == nil {
		if l.retry.Load() != 0 && l.retry.Swap(0) != 0 {
			l.options.Log.Info("the quota source answers again")
		}
		return
	}
	l.failures.Add(1)
	if errors.Is(err, ErrSpoiled) { // one workspace's trouble; the others go on
		if now := int64(l.options.Now().Sub(l.began)); now-l.spoiled.Load() > int64(time.Minute) {
			l.spoiled.Store(now)
			l.options.Log.Error("a workspace's quota cannot be counted; it goes by this replica's share until the key is deleted", "error", err)
		}
		return
	}
	if l.retry.Swap(int64(l.options.Now().Sub(l.began)+pause)) == 0 {
		l.options.Log.Warn("the quota source fails; until it answers, this replica decides by its own share", "error", err)
	}
}

// land shares out what an answer has brought: first to who waits, the rest becomes
// the lease. The caller holds the account's mutex.
func (ln *lane) land(f *flight, a Answer) {
	f.granted = a.Granted
	f.prepaid = max(0, f.prepaid-a.Granted)
	for i := range f.order.Counts {
		c := &f.terms.counts[i]
		c.tally.learn(c.period, a.Counts[i])
	}
	if f.terms != ln.terms {
		return
	}
	for i, r := range f.terms.rates {
		r.meter.learn(a.Debts[i], f.sent, f.received)
	}
	ln.asked = true
	f.units = min(a.Granted, ln.waiting)
	ln.units = a.Granted - f.units
	ln.until = f.sent.Add(f.outlast(a, ln.units))
}

// leave is for who does not wait any longer. A unit that nobody else waits for
// goes with it; calendar counts can use it later.
func (ln *lane) leave(f *flight) {
	ln.account.mu.Lock()
	defer ln.account.mu.Unlock()
	ln.waiting--
	if f.terms == ln.terms && f.units > ln.waiting {
		f.units--
		ln.prepay(1)
	}
}
