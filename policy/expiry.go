package policy

import "time"

// DefaultKeyLifetime is how long a key lives whose creator does not say.
const DefaultKeyLifetime = 90 * 24 * time.Hour

// KeyExpiry is when a key ends that is made now and whose creator does not say.
// It is on a whole second, like the expiry of tokens.
func (p *Policy) KeyExpiry(now time.Time) time.Time {
	return now.Add(DefaultKeyLifetime).Truncate(time.Second)
}
