package quota

import "time"

// Rate is a limit: Burst events at once, and one more each Interval. In any time t
// no more than Burst + t/Interval events are within it.
type Rate struct {
	Burst    int
	Interval time.Duration
}

// PerMinute is a rate of n events a minute with a burst. The interval is a whole
// number of microseconds, rounded up: never more than n. Numbers out of their bounds,
// which somebody may have written to the database, count as the nearest within.
func PerMinute(n, burst int) Rate {
	n, burst = max(1, min(n, MaxPerMinute)), max(1, min(burst, MaxPerMinute))
	interval := (time.Minute + time.Duration(n) - 1) / time.Duration(n)
	return Rate{Burst: burst, Interval: (interval + time.Microsecond - 1).Truncate(time.Microsecond)}
}

// Capacity is the debt at which nothing is left.
func (r Rate) Capacity() time.Duration { return time.Duration(r.Burst) * r.Interval }

// Left is how many events a debt leaves: how far the theoretical arrival time is
// ahead of now.
func (r Rate) Left(debt time.Duration) int64 { return int64((r.Capacity() - debt) / r.Interval) }

// Wait is how long after now one event is within the rate again; 0: now.
func (r Rate) Wait(debt time.Duration) time.Duration { return max(0, debt+r.Interval-r.Capacity()) }

// Spend is the generic cell rate algorithm: it takes the theoretical arrival
// time that was stored for a subject (zero for a new one) and decides one event
// at now. It returns what to store, and, when the event is refused, how long
// until one would be allowed; a refused event costs nothing.
func (r Rate) Spend(stored, now time.Time) (next time.Time, wait time.Duration) {
	arrival := stored
	if arrival.Before(now) {
		arrival = now
	}
	if wait = r.Wait(arrival.Sub(now)); wait > 0 {
		return stored, wait
	}
	return arrival.Add(r.Interval), 0
}
