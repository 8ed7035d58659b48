package quota

import "time"

// Rate is a limit: Burst events at once, and one more each Interval.
type Rate struct {
	Burst    int
	Interval time.Duration
}

// PerMinute is a rate of n events a minute with a burst.
func PerMinute(n, burst int) Rate {
	return Rate{Burst: burst, Interval: time.Minute / time.Duration(n)}
}

// Spend is the generic cell rate algorithm: it takes the theoretical arrival
// time that was stored for a subject (zero for a new one) and decides one event
// at now. It returns what to store, and, when the event is refused, how long
// until one would be allowed; a refused event costs nothing.
func (r Rate) Spend(stored, now time.Time) (next time.Time, wait time.Duration) {
	arrival := stored
	if arrival.Before(now) {
		arrival = now
	}
	next = arrival.Add(r.Interval)
	allowedAt := next.Add(-time.Duration(r.Burst) * r.Interval)
	if allowedAt.After(now) {
		return stored, allowedAt.Sub(now)
	}
	return next, 0
}
