package quota

import "time"

// admit makes the decision for a unit that is spent already.
func (l *Limiter) admit(ln *lane, now time.Time, degraded bool) Decision {
	ln.pace.add(now.Sub(l.began))
	l.note(ln.terms.workspace, now)
	d := Decision{Allowed: true, Soft: ln.terms.soft, Degraded: degraded}
	l.show(ln, now, &d)
	if d.Soft {
		l.warn(ln, now, &d)
	}
	l.tell(&d)
	return d
}

// refuse makes the decision for a demand that exceeds a limit, as of an instant at
// which that is so.
func (l *Limiter) refuse(ln *lane, now time.Time, degraded bool) Decision {
	l.refused.Add(1)
	d := Decision{Degraded: degraded}
	l.show(ln, now, &d)
	for i := range ln.terms.rates {
		r := &ln.terms.rates[i]
		d.exceed(r.name, l.seen(r, degraded).Wait(r.meter.shown(now)))
	}
	for i := range ln.terms.counts {
		if c := &ln.terms.counts[i]; l.used(ln, c) >= c.limit {
			d.exceed(c.name, max(1, c.end.Sub(now)))
		}
	}
	if len(d.Violated) == 0 { // there is enough again since the source has refused
		d.exceed(d.windows[0].Name, 1)
	}
	d.Wait += jitter(d.Wait)
	l.tell(&d)
	return d
}

// exceed notes a limit that is exceeded for a time.
func (d *Decision) exceed(name string, wait time.Duration) {
	if wait > 0 {
		d.Violated = append(d.Violated, name)
		d.Wait = max(d.Wait, wait)
	}
}

// warn names what is exceeded by units that were admitted all the same.
func (l *Limiter) warn(ln *lane, now time.Time, d *Decision) {
	for i := range ln.terms.rates {
		r := &ln.terms.rates[i]
		if seen := l.seen(r, d.Degraded); ln.unleased(r, now) > seen.Capacity() {
			d.Violated = append(d.Violated, r.name)
		}
	}
	for i := range ln.terms.counts {
		if c := &ln.terms.counts[i]; l.used(ln, c) > c.limit {
			d.Violated = append(d.Violated, c.name)
		}
	}
	if len(d.Violated) > 0 {
		l.soft.Add(1)
	}
}

func (l *Limiter) tell(d *Decision) {
	if d.Degraded {
		l.degraded.Add(1)
	}
}

// show lists what is left of each limit.
func (l *Limiter) show(ln *lane, now time.Time, d *Decision) {
	d.policy = ln.terms.policy
	for i := range ln.terms.rates {
		r := &ln.terms.rates[i]
		seen, debt := l.seen(r, d.Degraded), ln.unleased(r, now)
		left := max(0, seen.Left(debt))
		w := Window{Name: r.name, Quota: r.quota, Length: time.Minute, Left: left}
		if debt > 0 {
			w.Reset = debt + time.Duration(left+1)*seen.Interval - seen.Capacity()
		}
		d.add(w)
	}
	for i := range ln.terms.counts {
		c := &ln.terms.counts[i]
		d.add(Window{Name: c.name, Quota: c.limit, Length: c.length, Left: max(0, c.limit-l.used(ln, c)), Reset: c.end.Sub(now)})
	}
}

// seen is the rate that decides: the whole, or the share.
func (l *Limiter) seen(r *rate, degraded bool) Rate {
	if degraded {
		return l.own(r)
	}
	return r.Rate
}

// unleased is the debt without the units of the lease, which are spent and not used.
func (ln *lane) unleased(r *rate, now time.Time) time.Duration {
	return max(0, r.meter.shown(now)-time.Duration(ln.units)*r.Interval)
}
