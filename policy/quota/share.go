package quota

import (
	"math/rand/v2"
	"time"
)

// leaseTime is how long the units of a lease may be used at least, from before they
// were asked for, and longestLease at most: see outlast.
const (
	leaseTime    = 100 * time.Millisecond
	longestLease = time.Second
)

// cautious is into how many parts what is left is divided before a replica takes one
// ahead. Units that it cannot use in time, on a machine that stalls, are lost: so few
// at once that a limit is used up to a hundredth all the same.
const cautious = 16

// want is how many units to ask for: those that wait, and those that will come within
// the next 100 ms if things go on as in the last: even a source in the same process
// costs more than a unit at hand. Of these only three quarters, since units that are not
// used are lost, and a small part of what is left: near the limit nothing is taken ahead.
func (l *Limiter) want(ln *lane, now time.Time) int64 {
	waiting := max(1, ln.waiting)
	ahead := ln.pace.recent(now.Sub(l.began)) * 3 / 4
	left := l.left(ln, now)
	if ln.terms.soft && left == 0 { // nothing will be refused
		return waiting + ahead
	}
	return max(waiting, min(waiting+ahead, left/int64(cautious*l.replicas())))
}

func (l *Limiter) replicas() int { return max(1, l.options.Replicas()) }

// takeLeased uses a unit that is at hand. A prepaid one is, where there is no rate
// that would have to admit it too.
func (ln *lane) takeLeased() bool {
	switch {
	case ln.units > 0:
		ln.units--
	case len(ln.terms.rates) == 0 && ln.account.prepaid > 0:
		ln.account.prepaid--
	default:
		return false
	}
	return true
}

// outlast is how long after a request units of its answer may be used. Used late they
// come on top of what has grown back since they were spent. But while so much is
// spent that the burst would not be full even without them, nothing is lost to a full
// burst meanwhile, and it is as if they were spent when they are used. So near the
// limit, where each unit counts, a machine that stalls loses none.
func (f *flight) outlast(a Answer, units int64) time.Duration {
	longest := longestLease
	for i, r := range f.order.Rates {
		longest = min(longest, a.Debts[i]-time.Duration(units)*r.Rate.Interval)
	}
	return max(leaseTime, longest)
}

// expire ends a lease: what it has spent of the rates is lost.
func (ln *lane) expire(now time.Time) {
	if ln.units > 0 && !now.Before(ln.until) {
		ln.prepay(ln.units)
		ln.units = 0
	}
}

// prepay keeps units for calendar counts.
func (ln *lane) prepay(units int64) {
	if len(ln.terms.counts) > 0 {
		ln.account.prepaid += units
	}
}

// share is what a replica may admit by itself of a rate: its part of the burst, at
// least one, and of what grows back.
//
// A debt is time, and the time in which a whole burst grows back is the same for
// the share: Burst/n * Interval*n. So a debt to the one is as full a debt to the
// other, and what was spent before the source went away goes on to count.
func share(r Rate, replicas int) Rate {
	return Rate{Burst: max(1, r.Burst/replicas), Interval: r.Interval * time.Duration(replicas)}
}

// own is what this replica may admit by itself of a rate of a lane. Where each has a
// source of its own, that is a share already.
func (l *Limiter) own(r *rate) Rate {
	if l.options.Shared {
		return share(r.Rate, l.replicas())
	}
	return r.Rate
}

// alone decides by this replica's share while the source does not answer. The n
// shares add up to one limit (or to n units at once, if the burst is less than
// that), beside which the source may have admitted one until it failed and after
// it has come back: so in any time t all replicas admit at most
// 2 * (Burst + t/Interval), and what grows within the 100 ms of a lease and the
// 250 ms of margin.
//
// What is admitted here is passed to the source when it is back, as debt: n times
// what this replica has admitted, since it stands for n. The source takes the
// largest that any replica passes, so that no second burst follows when the traffic
// is about the same everywhere, even if the source comes back empty. If it does so
// and the traffic is as uneven as can be, one more Burst is what is admitted.
func (l *Limiter) alone(ln *lane, now time.Time) Decision {
	if !ln.terms.soft && l.shareSpent(ln, now) {
		return l.refuse(ln, now, true)
	}
	for i := range ln.terms.rates {
		r := &ln.terms.rates[i]
		own := l.own(r)
		r.meter.spend(own.Interval, now)
		if ln.terms.soft { // enough to see that it is exceeded; more would outlast the mode
			r.meter.spent = min(r.meter.spent, own.Capacity()+own.Interval)
		}
	}
	if ln.account.prepaid > 0 && len(ln.terms.counts) > 0 {
		ln.account.prepaid--
	} else {
		for i := range ln.terms.counts {
			c := &ln.terms.counts[i]
			c.tally.n = l.known(ln, c) + 1
		}
	}
	return l.admit(ln, now, true)
}

func (l *Limiter) shareSpent(ln *lane, now time.Time) bool {
	for i := range ln.terms.rates {
		if r := &ln.terms.rates[i]; l.own(r).Wait(r.meter.shown(now)) > 0 {
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

// pace is how many units were admitted lately, in slots of leaseTime.
type pace struct{ slot, now, before int64 }

func (p *pace) turn(at time.Duration) {
	slot := int64(at / leaseTime)
	switch slot {
	case p.slot:
		return
	case p.slot + 1:
		p.before = p.now
	default:
		p.before = 0
	}
	p.slot, p.now = slot, 0
}

func (p *pace) add(at time.Duration) {
	p.turn(at)
	p.now++
}

// recent is about how many there were in the last leaseTime: the older slot counts
// for the part of it that still is within that.
func (p *pace) recent(at time.Duration) int64 {
	p.turn(at)
	return p.now + p.before*int64(leaseTime-at%leaseTime)/int64(leaseTime)
}

// jitter is added to a wait, so that the clients of a workspace do not come back
// all at the same instant: at least two seconds, as Retry-After tells whole ones.
func jitter(wait time.Duration) time.Duration {
	return rand.N(min(max(2*time.Second, wait/10), time.Minute))
}
